"""Builds a wheel from the installed files of edgefel, without build tools or network.

The format: https://packaging.python.org/specifications/binary-distribution-format/
"""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import io
import json
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import edgefel
from edgefel.deploy.archive import OLDEST_TIME, build_time
from edgefel.deploy.on_device import installed
from edgefel.errors import EdgefelError

# sub-packages that lie in folders of their own in the repository, and so in an editable installation
MAPPED_PACKAGES = ("kernels", "export", "calib", "bench")
_DATA_FOLDERS = ("deploy/device/", "report/templates/", "serve/static/", "web/static/")
_REINSTALL = "install edgefel with pip"


@dataclass(frozen=True)
class Wheel:
    """name: the file's. data: its bytes. notes: one line for what the user should know."""

    name: str
    data: bytes
    notes: tuple[str, ...]


def build_wheel() -> Wheel:
    """The wheel; the same installation gives the same bytes.

    Raises EdgefelError where edgefel is not installed (but found on PYTHONPATH), or in another version.
    """
    distribution = _distribution()
    version = edgefel.__version__
    name = f"edgefel-{version}"
    # the specification recommends the metadata at the end of the archive
    files = dict(sorted(package_files()))
    files |= {f"{name}.dist-info/{path}": data for path, data in sorted(_dist_info(distribution).items())}
    record = f"{name}.dist-info/RECORD"
    rows = [f"{path},sha256={_digest(data)},{len(data)}" for path, data in sorted(files.items())]
    files[record] = "".join(f"{row}\n" for row in [*rows, f"{record},,"]).encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        moment = time.gmtime(max(build_time(), OLDEST_TIME))[:6]
        for path, data in files.items():
            info = zipfile.ZipInfo(path, moment)
            info.create_system = 3  # Unix, wherever this runs
            info.external_attr = (0o100644) << 16
            archive.writestr(info, data, zipfile.ZIP_DEFLATED)
    return Wheel(f"{name}-py3-none-any.whl", buffer.getvalue(), _stale(distribution))


def package_files() -> Iterator[tuple[str, bytes]]:
    """Path in the wheel and bytes of every file of the package: modules, py.typed, the files for devices.

    Without the network that comes with edgefel: beside this wheel lies the model that was packed.
    """
    for prefix, folder in _package_folders():
        for file in sorted(folder.rglob("*")):
            inside = file.relative_to(folder).as_posix()
            if file.is_file() and _belongs(prefix, inside):
                yield f"{prefix}/{inside}", file.read_bytes()


def _package_folders() -> Iterator[tuple[str, Path]]:
    root = Path(next(iter(edgefel.__path__)))
    yield "edgefel", root
    for name in MAPPED_PACKAGES:
        spec = importlib.util.find_spec(f"edgefel.{name}")
        if spec is None or not spec.submodule_search_locations:
            raise EdgefelError(f"edgefel.{name}: this package is missing; {_REINSTALL} again")
        folder = Path(next(iter(spec.submodule_search_locations)))
        if folder.resolve() != (root / name).resolve():
            yield f"edgefel/{name}", folder


def _belongs(prefix: str, inside: str) -> bool:
    parts = inside.split("/")
    if "__pycache__" in parts or any(part.startswith(".") for part in parts):
        return False
    return inside.endswith((".py", "py.typed")) or (prefix == "edgefel" and inside.startswith(_DATA_FOLDERS))


def _distribution() -> metadata.Distribution:
    try:
        found = installed("edgefel")
    except metadata.PackageNotFoundError:
        raise EdgefelError(f"edgefel is not installed here, only found on the path; {_REINSTALL}") from None
    if found.version != edgefel.__version__:
        raise EdgefelError(
            f"edgefel {edgefel.__version__} runs, and {found.version} is installed; {_REINSTALL} again"
        )
    return found


def _dist_info(distribution: metadata.Distribution) -> dict[str, bytes]:
    texts = {name: distribution.read_text(name) for name in ("METADATA", "entry_points.txt")}
    texts["licenses/LICENSE"] = license_text()
    texts["WHEEL"] = (
        f"Wheel-Version: 1.0\nGenerator: edgefel ({edgefel.__version__})\n"
        "Root-Is-Purelib: true\nTag: py3-none-any\n"
    )
    if missing := [name for name, text in texts.items() if not text]:
        raise EdgefelError(f"edgefel's installation lacks {', '.join(missing)}; {_REINSTALL} again")
    return {name: text.encode() for name, text in texts.items() if text}


def license_text() -> str:
    """edgefel's own licence, as it was installed; raises EdgefelError where that is missing."""
    distribution = _distribution()
    text = distribution.read_text("licenses/LICENSE") or distribution.read_text("LICENSE")
    if not text:
        raise EdgefelError(f"edgefel's installation lacks its LICENSE; {_REINSTALL} again")
    return text


def _stale(distribution: metadata.Distribution) -> tuple[str, ...]:
    """Of an editable installation older than its pyproject.toml: its list of dependencies may be an old one."""
    origin = json.loads(distribution.read_text("direct_url.json") or "{}")
    if not origin.get("dir_info", {}).get("editable"):
        return ()
    project = Path(next(iter(edgefel.__path__))).parent / "pyproject.toml"
    installed = Path(str(distribution.locate_file(f"edgefel-{edgefel.__version__}.dist-info/METADATA")))
    if project.is_file() and installed.is_file() and project.stat().st_mtime > installed.stat().st_mtime:
        return (f"the wheel's dependencies may be out of date: {project} is newer than the installation",)
    return ()


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
