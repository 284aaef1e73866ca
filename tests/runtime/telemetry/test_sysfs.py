"""What a processor says of itself."""

from __future__ import annotations

import pytest

from edgefel.runtime.telemetry.sysfs import lacks_vnni


@pytest.mark.parametrize(
    ("architecture", "text", "lacks"),
    [
        ("x86_64", "flags\t\t: fpu avx2 avx512f avx512_vnni\n", False),
        ("AMD64", "model name\t: x\nflags\t\t: avx2 avx_vnni sse\n", False),
        ("x86_64", "flags\t\t: fpu avx2 avx512f avx512bw\nbugs\t\t: avx512_vnni\n", True),
        ("x86_64", None, None),
        ("aarch64", None, False),
    ],
)
def test_vnni(tmp_path, architecture, text, lacks):
    if text is not None:
        (tmp_path / "proc").mkdir()
        (tmp_path / "proc" / "cpuinfo").write_text(text)
    assert lacks_vnni(tmp_path, architecture) is lacks
