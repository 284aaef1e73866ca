"""Kernels compiled ahead of time: launched on torch's context by the driver's C interface, wherever torch sees CUDA,
and by a program that has pycuda but neither torch nor Triton."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from driver_launch import launch, load_driver

from edgefel.runtime.kernels import KernelFolder

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

LAUNCH = """
import sys
import numpy as np
import pycuda.autoprimaryctx
import pycuda.driver as cuda
from edgefel.runtime.kernels import KernelFolder

folder, data = sys.argv[1:]
inputs = np.load(data)
kernels = KernelFolder.open(folder)


def device(array):
    pointer = cuda.mem_alloc(array.nbytes)
    cuda.memcpy_htod(pointer, np.ascontiguousarray(array))
    return pointer


batch = len(inputs["logits"])
outputs = [np.full(shape, np.nan, np.float32) for shape in (inputs["logits"].shape, (batch,), inputs["logits"].shape)]
pointers = [device(inputs[name]) for name in ("logits", "e", "anchors", "attentive")]
results = [device(array) for array in outputs]
kernels.load("reliability_balance")(batch, *pointers, *results)
for array, pointer in zip(outputs, results):
    cuda.memcpy_dtoh(array, pointer)

q, kv, table = (device(inputs[name]) for name in ("q", "kv", "table"))
channels = inputs["q"].shape[2] * inputs["q"].shape[3]
attended = np.full((batch, inputs["q"].shape[1], channels), np.nan, np.float16)
out = device(attended)
kernels.load("window_cross_attention_level3")(batch, q, kv, int(kv) + channels * 2, table, out)
cuda.memcpy_dtoh(attended, out)
assert not {"torch", "triton"} & set(sys.modules)
np.savez(data, probabilities=outputs[0], confidence=outputs[1], primary=outputs[2], attended=attended)
"""


def draw_inputs() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)

    def draw(*shape: int, dtype: type = np.float32) -> np.ndarray:
        return generator.standard_normal(shape).astype(dtype)

    return {
        "logits": draw(3, 7),
        "e": draw(3, 128),
        "anchors": draw(7, 10, 128),
        "attentive": draw(3, 7),
        "q": draw(3, 49, 8, 32, dtype=np.float16),
        "kv": draw(3, 49, 2, 8, 32, dtype=np.float16),
        "table": draw(169, 8, dtype=np.float16),
    }


def run(*command: object) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    subprocess.run([sys.executable, *map(str, command)], check=True, env=environment)


def arch() -> str:
    return "sm_{}{}".format(*torch.cuda.get_device_capability())


@pytest.fixture(scope="module")
def compiled(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("kernels") / "compiled"
    run("-m", "edgefel.cli.main", "kernels", "compile", "-o", folder, "--arch", arch())
    return folder


def check(inputs: dict[str, np.ndarray], found: dict[str, np.ndarray]) -> None:
    """Compares with the references in float64."""
    from edgefel.kernels.reliability_balance.reference import reliability_balance
    from edgefel.kernels.window_cross_attention.reference import window_cross_attention

    wide = {name: torch.from_numpy(array).double() for name, array in inputs.items()}
    expected = reliability_balance(wide["logits"], wide["e"], wide["anchors"], wide["attentive"], 1.0)
    for name in expected._fields:
        np.testing.assert_allclose(found[name], getattr(expected, name).numpy(), atol=1e-5)
    k, v = (x.transpose(1, 2) for x in wide["kv"].unbind(2))
    attended = window_cross_attention(wide["q"].transpose(1, 2), k, v, wide["table"], 7, 32**-0.5)
    np.testing.assert_allclose(found["attended"], attended.numpy(), atol=5e-3)


def test_the_driver_launches_them_on_tensors_of_torch(compiled):
    inputs, folder, driver = draw_inputs(), KernelFolder.open(compiled), load_driver()
    tensors = {name: torch.from_numpy(array).cuda() for name, array in inputs.items()}
    shapes = {"probabilities": (3, 7), "confidence": (3,), "primary": (3, 7)}
    found = {name: torch.full(shape, float("nan"), device="cuda") for name, shape in shapes.items()}
    found["attended"] = torch.full((3, 49, 256), float("nan"), device="cuda", dtype=torch.float16)
    stream = torch.cuda.current_stream().cuda_stream
    names = ("logits", "e", "anchors", "attentive")
    pointers = [tensors[name].data_ptr() for name in names] + [found[name].data_ptr() for name in shapes]
    launch(folder.file("reliability_balance", arch()), 3, pointers, stream, driver)
    q, kv, table = (tensors[name].data_ptr() for name in ("q", "kv", "table"))
    pointers = [q, kv, kv + 256 * 2, table, found["attended"].data_ptr()]
    launch(folder.file("window_cross_attention_level3", arch()), 3, pointers, stream, driver)
    check(inputs, {name: tensor.cpu().numpy() for name, tensor in found.items()})


def test_a_program_without_torch_launches_them(compiled, tmp_path):
    pytest.importorskip("pycuda", reason="needs pycuda")
    inputs = draw_inputs()
    np.savez(tmp_path / "data.npz", **inputs)
    (tmp_path / "launch.py").write_text(LAUNCH)
    run(tmp_path / "launch.py", compiled, tmp_path / "data.npz")
    check(inputs, dict(np.load(tmp_path / "data.npz")))
