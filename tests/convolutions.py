"""Which convolutions PyTorch computes."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class Convolutions(TorchDispatchMode):
    """While active, collects (channels of the input, side of the kernel, stride) of each forward convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, int, int]] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is torch.ops.aten.convolution.default:
            self.seen.append((args[0].shape[1], args[1].shape[-1], args[3][0]))
        return function(*args, **(kwargs or {}))

    @property
    def strided_pointwise(self) -> list[tuple[int, int, int]]:
        """Those whose gradients oneDNN computes wrongly for few channels (`ShortcutConv2d` says when)."""
        return [one for one in self.seen if one[1] == 1 and one[2] > 1]
