"""Reads of sysfs and procfs that never block and never raise; missing values are None."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

_MOST = 1 << 20
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)


def read_text(path: Path) -> str | None:
    """The file's text without surrounding white space and NULs; None if it cannot be read or has no value now.

    A sensor that is switched off returns EAGAIN (on an Orin Nano the thermal zones cv0 to cv2,
    https://github.com/prometheus/node_exporter/issues/3071), for which Python's text files raise TypeError and other
    readers wait forever. This uses the system call instead.
    """
    try:
        handle = os.open(path, _FLAGS)
    except (OSError, ValueError):
        return None
    try:
        content = b""
        while (part := os.read(handle, 65536)) and len(content) < _MOST:
            content += part
    except OSError:
        return None
    finally:
        os.close(handle)
    return content.decode("utf-8", "replace").strip("\0 \t\r\n")


def read_int(path: Path) -> int | None:
    """The first word of the file as an integer, or None; old drivers append a unit ("32760 ma")."""
    words = (read_text(path) or "").split()
    try:
        return int(words[0]) if words else None
    except ValueError:
        return None


def below(root: Path, absolute: str) -> Path:
    """The path under another root: below("/fake", "/sys/class") is /fake/sys/class."""
    return root / absolute.lstrip("/")


def entries(root: Path, pattern: str) -> list[Path]:
    """Paths under `root` that match an absolute glob pattern, sorted; none where a folder is missing."""
    try:
        return sorted(root.glob(pattern.lstrip("/")))
    except OSError:
        return []


def lacks_vnni(root: Path = Path("/"), architecture: str = platform.machine()) -> bool | None:
    """Whether this is an x86 processor without VNNI, its instructions for INT8; None if it does not say."""
    if architecture.lower() not in ("x86_64", "amd64", "i686"):
        return False
    flags = re.search(r"^flags\s*:\s*(.+)$", read_text(below(root, "/proc/cpuinfo")) or "", re.M)
    return None if flags is None else not {"avx512_vnni", "avx_vnni"} & set(flags[1].split())


def cpu_name(root: Path = Path("/")) -> str:
    """What the processor calls itself."""
    name = re.search(r"^model name\s*:\s*(.+)$", read_text(below(root, "/proc/cpuinfo")) or "", re.M)
    return name[1].strip() if name else platform.processor() or platform.machine()
