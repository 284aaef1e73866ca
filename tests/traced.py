"""Traces for ONNX that are made once per run of the tests: tracing takes most of an export's time.

What the exporter does before it folds constants depends on a network's structure alone. So its graph is kept without
weights; a network of the same structure puts its own in, and the exporter's own folding follows.
"""

from __future__ import annotations

import fcntl
import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx
import pytest

Trace = Callable[[Any, int, int], onnx.ModelProto]


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Processes that need the same file wait for the one that makes it."""
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def write(path: Path, graph: onnx.ModelProto) -> None:
    temporary = path.with_suffix(".part")
    temporary.write_bytes(graph.SerializeToString())
    temporary.rename(path)


def traced(trace: Trace, model: Any, size: int, opset: int, folder: Path) -> onnx.ModelProto:
    """What `trace` makes of these arguments, but for numbers in generated names. folder: of what was traced."""
    state = tensors(model)
    key = hashlib.sha256(f"{model} {size} {opset}".encode())
    for name, tensor in sorted(state.items()):
        key.update(name.encode() + tensor.tobytes())
    path = folder / f"{key.hexdigest()}.onnx"
    with locked(path):
        if not path.is_file():
            write(path, _of_structure(trace, model, size, opset, folder, state))
        return onnx.load(path)


def _of_structure(
    trace: Trace, model: Any, size: int, opset: int, folder: Path, state: dict[str, Any]
) -> onnx.ModelProto:
    text = structure(model)
    if " at 0x" in text:  # something that cannot be compared
        return trace(model, size, opset)
    path = folder / f"{hashlib.sha256(f'{text} {size} {opset}'.encode()).hexdigest()}.structure"
    with locked(path):
        if path.is_file():
            graph = onnx.load_from_string(path.read_bytes())
            for weight in graph.graph.initializer:
                weight.raw_data = state[weight.name].tobytes()
            return folded(graph)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("torch.onnx.ONNXProgram.optimize", lambda program: None)
            graph = trace(model, size, opset)
        complete = folded(graph)
        if all(
            weight.name in state and weight.raw_data == state[weight.name].tobytes()
            for weight in graph.graph.initializer
        ):
            for weight in graph.graph.initializer:
                weight.ClearField("raw_data")
            write(path, graph)
        return complete


def tensors(model: Any) -> dict[str, Any]:
    """Parameters and buffers by name, as arrays."""
    found = {**dict(model.named_parameters()), **dict(model.named_buffers()), **model.state_dict()}
    return {name: tensor.detach().contiguous().numpy() for name, tensor in found.items()}


def structure(model: Any) -> str:
    """All that tracing reads but the values of weights: each module's class, settings, shapes and constant buffers."""
    import torch

    usual = vars(torch.nn.Module()).keys() - {"training"}
    lines = []
    for name, module in model.named_modules():
        own = {key: value for key, value in vars(module).items() if key not in usual}
        hooks = [key for key in usual if "hooks" in key and vars(module)[key]]
        lines.append(f"{name}: {type(module).__module__}.{type(module).__qualname__} {own} {hooks}")
    weights = model.state_dict()
    lines += [f"{name}: {list(tensor.shape)} {tensor.dtype}" for name, tensor in weights.items()]
    for name, buffer in model.named_buffers():
        if name not in weights:
            lines.append(f"{name}: {hashlib.sha256(buffer.numpy().tobytes()).hexdigest()}")
    return "\n".join(lines)


def folded(graph: onnx.ModelProto) -> onnx.ModelProto:
    """The exporter's last step."""
    import onnx_ir
    import torch

    program = torch.onnx.ONNXProgram(onnx_ir.serde.deserialize_model(graph), None)
    program.optimize()
    return program.model_proto
