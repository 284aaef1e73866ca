"""Networks with random weights, and plain sessions of ONNX Runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgefel.runtime.backends.onnxruntime_backend import session_options

if TYPE_CHECKING:
    import onnx
    import onnxruntime as ort

    from edgefel.models.network import FacialExpressionModel


def random_network(
    name: str, *, passes: int = 2, noise: float = 0.0, **settings: Any
) -> FacialExpressionModel:
    """A registered model with fixed random weights, in eval mode.

    Its batch norms have seen `passes` batches of noise. noise: added to every parameter, so that none is 0 or
    1. settings: as for `build_model`. PyTorch's random state is left unchanged.
    """
    import torch

    from edgefel.models import build_model

    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        network = build_model(name, **settings).train()
        size = network.config.input_size
        if noise:
            for parameter in network.parameters():
                parameter.add_(noise * torch.randn_like(parameter))
        for _ in range(passes):
            network(torch.randn(4, 3, size, size))
    return network.eval()


def onnxruntime_session(model: bytes | onnx.ModelProto, threads: int = 1) -> ort.InferenceSession:
    """The model in ONNX Runtime on the CPU, on that many threads."""
    import onnxruntime as ort

    data = model if isinstance(model, bytes) else model.SerializeToString()
    return ort.InferenceSession(data, session_options(threads), providers=["CPUExecutionProvider"])
