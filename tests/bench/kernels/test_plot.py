"""The plot of the kernel bench."""

from __future__ import annotations

import pytest

from edgefel.bench.kernels.plot import save_plot
from edgefel.bench.kernels.suite import KernelRow


def test_a_plot_is_a_png_and_needs_something_that_was_timed(rows, tmp_path):
    save_plot(rows, tmp_path / "plot.png", "a GPU")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="at least one timed row"):
        save_plot([KernelRow("op", "p", 1, "fp16", "forward", "eager")], tmp_path / "none.png", "")
    assert not (tmp_path / "none.png").exists()
