"""What the tests of all kernels share: a device, poisoned memory, and one table of tolerances."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton")

# relative root-mean-square error against float64
TOLERANCE = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}


@pytest.fixture
def device() -> torch.device:
    """The GPU, or the CPU with Triton's interpreter."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture(autouse=True)
def poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fresh memory holds NaN, so that a result that is not written cannot pass."""
    for owner, name in ((torch, "empty"), (torch, "empty_like"), (Tensor, "new_empty")):
        monkeypatch.setattr(owner, name, _poisoned(getattr(owner, name)))


def _poisoned(allocate: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def wrapped(*args: Any, **kwargs: Any) -> Tensor:
        out = allocate(*args, **kwargs)
        return out.fill_(float("nan")) if out.is_floating_point() and not out.is_meta else out

    return wrapped


def relative_rms(out: Tensor, expected: Tensor) -> float:
    """Root-mean-square error over root-mean-square of what was expected."""
    error = (out.double() - expected.double()).square().mean().sqrt()
    return float(error / expected.double().square().mean().sqrt().clamp_min(1e-30))


@pytest.fixture
def assert_close() -> Callable[..., None]:
    """Compares with a float64 reference by relative RMS, and names the worst place."""

    def check(out: Tensor, expected: Tensor, name: str, dtype: torch.dtype = torch.float32) -> None:
        assert out.shape == expected.shape, f"{name}: shape {tuple(out.shape)}, not {tuple(expected.shape)}"
        out, expected = out.detach().cpu(), expected.detach().cpu()
        assert torch.isfinite(out).all(), f"{name}: {(~torch.isfinite(out)).sum()} values are not finite"
        error = relative_rms(out, expected)
        if not error < TOLERANCE[dtype]:
            worst = int((out.double() - expected).abs().argmax())
            place = tuple(int(i) for i in torch.unravel_index(torch.tensor(worst), out.shape))
            raise AssertionError(
                f"{name}: relative RMS {error:.2e}, allowed {TOLERANCE[dtype]:.0e}; worst at {place}: "
                f"{out[place]:.6g} for {expected[place]:.6g}"
            )

    return check


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[str] | None:
    """Names of the kernels that are launched, as they come; None on a GPU, where nothing tells."""
    from edgefel.kernels.backend import interpreting

    if not interpreting():
        return None
    from triton.runtime.interpreter import GridExecutor

    names: list[str] = []
    call = GridExecutor.__call__

    def recorded(self: Any, *args: Any, **kwargs: Any) -> Any:
        names.append(self.fn.__name__)
        return call(self, *args, **kwargs)

    monkeypatch.setattr(GridExecutor, "__call__", recorded)
    return names
