"""Writes the folder of `edgefel export --web`."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import cv2

from edgefel.data.preprocessing import Image
from edgefel.errors import EdgefelError
from edgefel.files.write import atomic_folder, check_free, json_text, sha256
from edgefel.runtime.detector_file import is_published
from edgefel.runtime.faces import choose_detector
from edgefel.runtime.manifest import CARD_NAME, Manifest, read_manifest
from edgefel.runtime.session import Session
from edgefel.serve.page import SHARED
from edgefel.serve.page import STATIC as SERVED
from edgefel.web.contract import (
    CONTRACT_NAME,
    DETECTOR_NAME,
    IMAGE_NAME,
    NETWORK_NAME,
    TOLERANCES,
    make_contract,
    uses_webgpu,
)
from edgefel.web.licences import licences
from edgefel.web.onnxruntime_web import WASM_PARTS, WEBGPU_PARTS, open_package

STATIC = Path(__file__).parent / "static"
PRECISIONS = tuple(TOLERANCES)
VENDORED = "onnxruntime-web"
LICENCES_NAME = "LICENSES.txt"
# of the service worker's own installation, and for people
_NOT_KEPT = ("service-worker.js", "files.js", LICENCES_NAME, CARD_NAME)


@dataclass(frozen=True)
class WebOptions:
    """precision: of PRECISIONS. detector_model: YuNet's file, where it is not that of `edgefel detector get`.
    onnxruntime_web: a folder of that package, where it is not to be downloaded. replace: a folder that exists.

    Raises EdgefelError for another precision.
    """

    precision: str = "fp32"
    detector_model: Path | None = None
    onnxruntime_web: Path | None = None
    replace: bool = False

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise EdgefelError(f"precision {self.precision!r}: a browser runs {' and '.join(PRECISIONS)}")


def check_web(output: Path, options: WebOptions) -> Path:
    """YuNet's file. Refuses at once what can be refused without the network.

    Raises EdgefelError for an output that exists, and where there is no YuNet file.
    """
    check_free(output, replace=options.replace)
    _, detector = choose_detector("yunet", options.detector_model)
    assert detector is not None
    return detector


def write_web_folder(
    bundle: str | os.PathLike[str],
    output: Path,
    options: WebOptions,
    tell: Callable[[str], None] = lambda line: None,
) -> list[Path]:
    """Writes the page for a bundle to the new folder `output`; the same input gives the same bytes.

    tell: is told of a download. Returns the files, sorted. Raises EdgefelError, with nothing written, for what
    `check_web`, `Session.open`, `make_contract` and `open_package` refuse.
    """
    detector = check_web(output, options)
    _check_verdict(read_manifest(bundle), options.precision)
    with Session.open(bundle, options.precision, "onnxruntime", advise=False) as session:
        contract, image = make_contract(session, detector)
        manifest, network = session.manifest, session.file
    parts = WASM_PARTS + (WEBGPU_PARTS if uses_webgpu(options.precision) else ())
    with ExitStack() as stack:
        part_of = stack.enter_context(open_package(options.onnxruntime_web, tell))
        folder = stack.enter_context(atomic_folder(output, replace=options.replace))
        for part in parts:
            _write(folder / VENDORED / part.name, part_of(part))
        for name, data in _page_files():
            _write(folder / name, data)
        _write(folder / NETWORK_NAME, (manifest.folder / network.name).read_bytes())
        _write(folder / DETECTOR_NAME, detector.read_bytes())
        _write(folder / IMAGE_NAME, _png(image))
        _write(folder / CONTRACT_NAME, (json_text(contract, indent=1) + "\n").encode())
        _write(folder / LICENCES_NAME, licences(published_detector=is_published(detector)).encode())
        card = manifest.folder / CARD_NAME
        if card.is_file():
            _write(folder / CARD_NAME, card.read_bytes())
        _write(folder / "files.js", _file_list(folder).encode())
        names = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    return [output / name for name in sorted(names)]


def _check_verdict(manifest: Manifest, precision: str) -> None:
    """Raises EdgefelError for a file that failed its comparison with PyTorch."""
    file = manifest.find(precision)
    if file.verdict == "fail":
        reasons = "; ".join(str(reason) for reason in (file.parity or {}).get("reasons") or ())
        raise EdgefelError(
            f"{manifest.folder.name}: its {file.name} failed its comparison with PyTorch "
            f"({reasons or 'no reason given'}); choose another precision, or export it with other options"
        )


def page_policy() -> str:
    """The content security policy, as the page has it."""
    found = re.search(r'"Content-Security-Policy" content="([^"]+)"', (STATIC / "index.html").read_text())
    assert found is not None
    return found[1]


def _page_files() -> Iterator[tuple[str, bytes]]:
    """The scripts and styles by name, those that are the server's too among them."""
    for path in STATIC.rglob("*"):
        if path.is_file():
            yield path.relative_to(STATIC).as_posix(), path.read_bytes()
    for name in SHARED:
        yield f"page/{name}", (SERVED / name).read_bytes()


def _file_list(folder: Path) -> str:
    """files.js: what the service worker keeps, and the headers that it gives."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    names = [path.relative_to(folder).as_posix() for path in paths]
    listing = "".join(f"{sha256(path)} {name}\n" for path, name in zip(paths, names, strict=True))
    kept = [name for name in names if name not in _NOT_KEPT]
    parts = [name for name in kept if name.startswith(f"{VENDORED}/")]
    headers = {
        "Content-Security-Policy": page_policy(),
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Embedder-Policy": "require-corp",
    }
    exported = {
        "version": hashlib.sha256(listing.encode()).hexdigest()[:16],
        "files": [name for name in kept if name not in parts],
        "parts": parts,
        "headers": headers,
    }
    return f"self.EXPORTED = {json_text(exported, indent=1)};\n"


def _png(image: Image) -> bytes:
    done, data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    assert done
    return data.tobytes()


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
