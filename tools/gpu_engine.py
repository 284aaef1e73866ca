"""Builds arbex-nano's engine in FP16 by TensorRT for RTX, runs it, and compares it with ONNX Runtime in FP32.

\b
    python tools/gpu_engine.py -o FILE                 on a machine with a GPU
    python tools/gpu_engine.py -o FILE --build-only    without one

FILE gets one JSON object, also where the engine does not load or run: then "error" says why, and the exit code is 1. A
GPU's memory is PyTorch's, since pycuda needs a compiler.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgefel.errors import EdgefelError

Arrays = Mapping[str, npt.NDArray[Any]]
BUNDLE = Path(__file__).parents[1] / "tests" / "bundles" / "nano-synthetic"
BATCH = 8
# of probabilities; a network that computes something else is off by tenths
MOST_DIFFERENCE = 0.02


def half_model(folder: Path) -> Path:
    """The bundle's network in FP16, its head's distances in FP32, as `edgefel export` writes it."""
    import onnx
    from onnx import numpy_helper

    from edgefel.export.precision.half import float32_nodes, to_half

    model = onnx.load(BUNDLE / "model.fp32.onnx")
    (anchors,) = (
        one for one in model.graph.initializer if one.name.startswith("head/Sub") and len(one.dims) == 4
    )
    path = folder / "model.fp16.onnx"
    onnx.save(to_half(model, float32_nodes(model, numpy_helper.to_array(anchors)))[0], path)
    return path


def build(folder: Path) -> tuple[Any, Path, dict[str, Any]]:
    """TensorRT for RTX, the engine's file, and what the build says of it. Raises EdgefelError if there is none."""
    from edgefel.export.tensorrt.engine import EngineOptions, build_engine, load_tensorrt

    options = EngineOptions(1, BATCH, BATCH)
    path = folder / "model.fp16.engine"
    return load_tensorrt(options), path, build_engine(half_model(folder), path, options)


def run_engine(trt: Any, path: Path, images: npt.NDArray[np.float32]) -> Arrays:
    """Outputs of the engine for images [N, 3, 112, 112]. Raises EdgefelError where it does not load or run."""
    import torch

    from edgefel.runtime.engines import listen, start_runtime

    with listen(trt) as (logger, messages):
        runtime = start_runtime(trt, logger, messages)
        engine = runtime.deserialize_cuda_engine(path.read_bytes())
        context = engine.create_execution_context() if engine is not None else None
        if context is None:
            raise EdgefelError(f"the engine does not load on this GPU: {'; '.join(messages.errors)}")
        types = {"FLOAT": torch.float32, "HALF": torch.float16}
        tensors = {"image": torch.from_numpy(images).cuda()}
        context.set_input_shape("image", tuple(images.shape))
        for name in map(engine.get_tensor_name, range(engine.num_io_tensors)):
            if name not in tensors:
                kind = types[engine.get_tensor_dtype(name).name]
                tensors[name] = torch.empty(tuple(context.get_tensor_shape(name)), dtype=kind, device="cuda")
            context.set_tensor_address(name, tensors[name].data_ptr())
        stream = torch.cuda.Stream()
        torch.cuda.synchronize()
        if not context.execute_async_v3(stream.cuda_stream):
            raise EdgefelError(f"the engine does not run: {'; '.join(messages.errors)}")
        stream.synchronize()
    return {name: tensor.float().cpu().numpy() for name, tensor in tensors.items() if name != "image"}


def run_reference(images: npt.NDArray[np.float32]) -> Arrays:
    """Outputs of the network in FP32 by ONNX Runtime on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(BUNDLE / "model.fp32.onnx", providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"image": images}), strict=True))


def compare(found: Arrays, expected: Arrays) -> dict[str, Any]:
    """Largest difference of each output, images with the same expression, and whether that is close enough."""
    differences = {name: float(np.abs(found[name] - expected[name]).max()) for name in expected}
    same = int((found["probabilities"].argmax(1) == expected["probabilities"].argmax(1)).sum())
    # a NaN is no number below the limit
    close = differences["probabilities"] <= MOST_DIFFERENCE
    return {"largest difference": differences, "same expression": same, "close": bool(close)}


def check(build_only: bool) -> dict[str, Any]:
    """What the JSON file says. Raises EdgefelError as `build` and `run_engine` do."""
    with tempfile.TemporaryDirectory() as name:
        trt, path, builder = build(Path(name))
        kept = ("package", "version", "gpu", "compute_capability", "loaded", "warnings")
        found: dict[str, Any] = {key: builder.get(key) for key in kept} | {"bytes": path.stat().st_size}
        if not build_only:
            images = np.random.default_rng(0).standard_normal((BATCH, 3, 112, 112)).astype(np.float32)
            found |= {"images": BATCH} | compare(run_engine(trt, path, images), run_reference(images))
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 if the engine was built, and its outputs are close to the reference's."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE")
    parser.add_argument("--build-only", action="store_true")
    options = parser.parse_args(arguments)
    try:
        found = check(options.build_only)
    except EdgefelError as error:
        found = {"error": str(error)}
    text = json.dumps(found)
    options.output.write_text(text + "\n")
    print(text)
    return int("error" in found or not found.get("close", True))


if __name__ == "__main__":
    sys.exit(main())
