"""An engine for the stand-in of TensorRT, what it should give, and what it must not leave."""

from __future__ import annotations

import numpy as np
from cuda_driver.machine import Machine
from tiny_bundle import expected_outputs, tiny_model

from edgefel.runtime.engines import Gpu
from edgefel.runtime.manifest import describe_file, read_manifest, write_manifest

ORIN = Gpu("Orin", (8, 7))


def add_engine(folder, data=None, precision="fp32", version="10.3.0", **options):
    """An engine that is really an ONNX file, built for the Orin."""
    path = folder / f"model.{precision}.engine"
    path.write_bytes(tiny_model().SerializeToString() if data is None else data)
    builder = {"package": "tensorrt", "version": version, "gpu": ORIN.name, "compute_capability": "8.7"}
    builder |= {"options": options, "source": f"model.{precision}.onnx"}
    file = describe_file(path, kind="engine", precision=precision, builder=builder)
    write_manifest(folder, read_manifest(folder).with_file(file))
    return folder


def random_batch(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, 3, 14, 14)).astype(np.float32)


def assert_right(predictions, batch) -> None:
    for name, expected in expected_outputs(batch).items():
        np.testing.assert_allclose(getattr(predictions, name), expected, atol=1e-5, err_msg=name)


def assert_nothing_is_left(machine: Machine) -> None:
    kinds = ("device", "pinned", "streams", "events", "graphs", "execs", "retained")
    assert {kind: machine.live(kind) for kind in kinds} == dict.fromkeys(kinds, 0)
