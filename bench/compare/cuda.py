"""A checkpoint on a CUDA device: plain PyTorch, torch.compile, and the fused kernels, each eager and compiled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgefel.errors import EdgefelError
from edgefel.text import one_line

# name -> attention, and whether torch.compile compiles the network
CUDA: dict[str, tuple[str, bool]] = {
    "pytorch-cuda": ("reference", False),
    "torch.compile-cuda": ("reference", True),
    "edgefel-cuda": ("triton", False),
    "edgefel-compile-cuda": ("triton", True),
}
DTYPES = {"fp32": torch.float32, "fp16": torch.float16}


@dataclass(frozen=True)
class OnDevice:
    """One network on a device. precision: of weights and arithmetic."""

    backend: str
    network: Callable[[torch.Tensor], Any]
    device: torch.device
    precision: str
    file_bytes: int

    def ready(self, batch: Any) -> Callable[[], Any]:
        """A call of the network on these images, which are on the device already; it returns when the work is done.

        Raises EdgefelError where the network does not compile or run.
        """
        images = torch.from_numpy(batch).to(self.device, DTYPES[self.precision])

        def call() -> Any:
            with torch.inference_mode():
                found = self.network(images)
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            return found

        try:
            call()  # compiles for this batch
        except Exception as error:  # whatever a compiler raises
            raise EdgefelError(f"{self.backend}: {type(error).__name__}: {one_line(error)[:200]}") from None
        return call

    def output(self, name: str, batch: Any) -> Any:
        """One field of the prediction as FP32 in host memory."""
        found: np.ndarray[Any, Any] = getattr(self.ready(batch)(), name).float().cpu().numpy()
        return found

    def peak_memory_mb(self, batch: int, size: int) -> float:
        """10^6 bytes that torch allocates on the device at most during one call, weights included."""
        call = self.ready(np.zeros((batch, 3, size, size), np.float32))
        torch.cuda.reset_peak_memory_stats(self.device)
        call()
        return torch.cuda.max_memory_allocated(self.device) / 1e6


def open_on_device(
    checkpoint: Path, backend: str, precisions: Sequence[str], device: str = "cuda"
) -> list[OnDevice]:
    """The checkpoint on the device, for each of `precisions` that there is in DTYPES. Raises EdgefelError without a
    device, for no such precision, and where an eager network does not run."""
    from edgefel.models.checkpoint import load_checkpoint

    if device == "cuda" and not torch.cuda.is_available():
        raise EdgefelError(f"{backend}: no CUDA device here")
    wanted = [name for name in precisions if name in DTYPES]
    if not wanted:
        raise EdgefelError(f"{backend}: runs {' and '.join(DTYPES)}, not {', '.join(precisions)}")
    attention, compiled = CUDA[backend]
    found = []
    for precision in wanted:
        loaded = load_checkpoint(checkpoint)
        model = loaded.model.use_attention(attention).to(device, DTYPES[precision]).eval()  # type: ignore[arg-type]
        network: Any = torch.compile(model, dynamic=False) if compiled else model
        size = (loaded.path / "model.safetensors").stat().st_size
        one = OnDevice(backend, network, torch.device(device), precision, size)
        if not compiled:  # that takes a minute for each batch
            one.ready(np.zeros((1, 3, loaded.config.input_size, loaded.config.input_size), np.float32))
        found.append(one)
    return found
