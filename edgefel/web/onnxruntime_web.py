"""ONNX Runtime for browsers: its npm package, of one known version, fetched by the npm client or from a folder.

Nothing of the package is run here, no script of it either: four or six files are copied out of it as they are.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edgefel.errors import EdgefelError
from edgefel.files.read import read_regular, reading
from edgefel.text import one_line, printable

PACKAGE = "onnxruntime-web"
VERSION = "1.30.0"
# of the package as npm gives it
INTEGRITY = "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
MEGABYTES = 33
_MOST_SECONDS = 1800
_BY_HAND = f"or unpack {PACKAGE} {VERSION} elsewhere and give it with --onnxruntime-web FOLDER"


@dataclass(frozen=True)
class Part:
    """A file of the package's folder `dist`. name: in the page: not every server gives .mjs the type of JavaScript."""

    source: str
    sha256: str

    @property
    def name(self) -> str:
        return self.source.removesuffix(".mjs") + ".js" if self.source.endswith(".mjs") else self.source


WASM_PARTS = (
    Part("ort.wasm.min.mjs", "219e6a1fc8a9938268d18efca3c91d310bd2f4a59bbd13744df5b2b7fc6cee3b"),
    Part("ort-wasm-simd-threaded.mjs", "e13f7f94fc51b4ca72b12faeb1ee95f4ace6dfbc8939bc718aabdc0a27c4299b"),
    Part("ort-wasm-simd-threaded.wasm", "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2"),
)
WEBGPU_PARTS = (
    Part("ort.webgpu.min.mjs", "3dffff71811bc13a3a3d9591c57ca5ee5735b8f5f3eaf789510b02bb040ae3a0"),
    Part(
        "ort-wasm-simd-threaded.asyncify.mjs",
        "3d1c85995364bb643302fc6fd877a0c3ba5ae72401815e0f24828a53d9191e28",
    ),
    Part(
        "ort-wasm-simd-threaded.asyncify.wasm",
        "39f9f0894d478800487ed9f7dbe92618498db320cf55c8e3d89adff8dce658da",
    ),
)


@contextmanager
def open_package(
    folder: Path | None, tell: Callable[[str], None] = lambda line: None
) -> Iterator[Callable[[Part], bytes]]:
    """A function that gives the bytes of a part, whose hash is checked.

    folder: an unpacked package, such as node_modules/onnxruntime-web, or its folder `dist`. Without one the package is
    downloaded by npm, which takes its registry and proxy from the user's configuration. tell: is told of the download.
    Raises EdgefelError for a folder without the known files, where there is no npm, and if it cannot download them.
    """
    if folder is not None:
        yield lambda part: _checked(part, _read_part(folder, part))
        return
    with tempfile.TemporaryDirectory(prefix="edgefel-web-") as place:
        tell(f"downloading {PACKAGE} {VERSION} by npm ({MEGABYTES} MB, MIT licence)")
        with tarfile.open(_download(Path(place))) as archive:
            yield lambda part: _checked(part, _member(archive, part))


def _read_part(folder: Path, part: Part) -> bytes:
    if not folder.is_dir():
        raise EdgefelError(f"{folder}: no such folder; give one with {PACKAGE} {VERSION} in it")
    places = [folder / inner / part.source for inner in ("dist", "package/dist", ".")]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise EdgefelError(f"{folder}: has no dist/{part.source}; give the folder of {PACKAGE} {VERSION}")
    with reading(path):
        return read_regular(path)


def _member(archive: tarfile.TarFile, part: Part) -> bytes:
    stream = archive.extractfile(f"package/dist/{part.source}")
    assert stream is not None  # the archive is the known one
    return stream.read()


def _checked(part: Part, data: bytes) -> bytes:
    if hashlib.sha256(data).hexdigest() != part.sha256:
        raise EdgefelError(
            f"{part.source}: is not that of {PACKAGE} {VERSION} (its SHA-256 differs); give a folder with that version"
        )
    return data


def _download(place: Path) -> Path:
    """The package as an archive in `place`, by npm, with the known hash."""
    npm = shutil.which("npm")
    if npm is None:
        raise EdgefelError(
            f"{PACKAGE} {VERSION} cannot be downloaded: there is no npm; install Node.js with npm, {_BY_HAND}"
        )
    command = [npm, "pack", f"{PACKAGE}@{VERSION}", "--pack-destination", str(place)]
    # no script of any package is run; what npm has in its cache is taken from there; one try more where it is offline
    command += ["--ignore-scripts", "--prefer-offline", "--fetch-retries=1", "--fetch-retry-mintimeout=1000"]
    command += ["--loglevel=error", "--no-update-notifier"]
    # in the temporary folder: a package.json of the current one has no say
    try:
        done = subprocess.run(
            command,
            cwd=place,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_MOST_SECONDS,
            check=False,
            env=os.environ | {"NO_COLOR": "1"},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _failed(f"npm: {one_line(error)}") from None
    found = sorted(place.glob("*.tgz"))
    if done.returncode or len(found) != 1:
        raise _failed(_why(done.stderr))
    digest = base64.b64encode(hashlib.sha512(found[0].read_bytes()).digest()).decode()
    if f"sha512-{digest}" != INTEGRITY:
        raise EdgefelError(
            f"{PACKAGE} {VERSION}: npm gives another package than the known one (its SHA-512 differs); "
            f"ask who runs your npm registry, {_BY_HAND}"
        )
    return found[0]


def _failed(why: str) -> EdgefelError:
    return EdgefelError(
        f"{PACKAGE} {VERSION} cannot be downloaded ({why}); try again with a network (and npm's setting https-proxy "
        f"where there is a proxy), {_BY_HAND}"
    )


def _why(text: str) -> str:
    """What npm says, in a few words: "npm error code E404", then sentences."""
    lines = [re.sub(r"^npm (error|ERR!) ?", "", line).strip() for line in text.splitlines()]
    said = [
        line for line in lines if line and not line.startswith(("syscall ", "errno ", "address ", "port "))
    ]
    return printable(": ".join(said[:2])[:300], lines=False) or "npm says nothing"
