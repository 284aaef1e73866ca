"""What the page of `edgefel export --web` gives in Chromium, beside the runtime, for synthetic people.

    python -m edgefel.bench.experiments.web_agreement --detector-model yunet.onnx > docs/results/web.json

Each image shows two people; every second image is turned by up to 50 degrees. Both label the same PNG. Deviations are
those of a probability, after or before the correction:

- same place: where the runtime labels the face in the place that the page has found, so that decoding, cutting out,
  resizing and the network are compared.
- whole way: where each finds the face itself. Landmarks differ in their last bits, and the repeated looks at a turned
  face make more of that (edgefel/runtime/levelling.py).

Both are compared with the file as it is written, without ONNX Runtime's fusions, which round INT8 in another way on
each kind of processor.
"""

from __future__ import annotations

import argparse
import base64
import functools
import http.server
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime

from edgefel.bench.command import run_bench, versions
from edgefel.data.preprocessing import Image, Tensor
from edgefel.data.synthetic.options import VideoOptions
from edgefel.data.synthetic.video import SyntheticVideo
from edgefel.errors import MissingDependencyError
from edgefel.runtime.alignment import FaceBox
from edgefel.runtime.faces import crops, make_detector
from edgefel.runtime.labelling import find_faces
from edgefel.runtime.searching import nearest
from edgefel.runtime.session import Session
from edgefel.runtime.shipped import shipped_bundle
from edgefel.runtime.telemetry.sysfs import cpu_name
from edgefel.web.contract import reference
from edgefel.web.folder import PRECISIONS, VENDORED, WebOptions, write_web_folder

# labels images in a worker of its own, as the page does
_LABEL = """async (texts) => {
    const { Local } = await import("./page/local.js");
    const local = new Local();
    await local.open({ compute: "wasm", threads: null }, () => null);
    const results = [];
    for (const text of texts) {
        const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
        results.push((await local.label(new File([bytes], "image.png"))).faces);
    }
    return results;
}"""


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """The address of a folder's files."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Handler, directory=str(folder))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


def labelled_by_page(page: Any, folder: Path, images: Sequence[bytes]) -> list[list[dict[str, Any]]]:
    """The faces of encoded images, by the page in a folder. page: of Playwright."""
    with serving(folder) as address:
        page.goto(address)
        results: list[list[dict[str, Any]]] = page.evaluate(
            _LABEL, [base64.b64encode(image).decode() for image in images]
        )
        return results


def people(seed: int) -> Image:
    """An image of two people, uint8 RGB [360, 640, 3]."""
    options = VideoOptions(seconds=1.0, fps=1.0, size=(640, 360), faces=2, changes=0, seed=seed)
    return SyntheticVideo(options).frame(0)


def turned(image: Image, degrees: float) -> Image:
    """The image turned about its middle, with grey corners."""
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0)
    return np.asarray(cv2.warpAffine(image, matrix, (width, height), borderValue=(90, 90, 90)), np.uint8)


def compare(
    precision: str,
    found: Sequence[list[dict[str, Any]]],
    images: Sequence[Image],
    detector_model: Path | None,
) -> dict[str, Any]:
    """The page's faces beside the runtime's, in one precision. found: the page's faces of each image."""
    detector = make_detector("yunet", detector_model)
    pages: list[Tensor] = []
    same: list[Tensor] = []
    whole: list[Tensor] = []
    missed = 0
    with Session.open(shipped_bundle(), precision, "onnxruntime", advise=False) as session:
        for image, faces in zip(images, found, strict=True):
            expected = find_faces(image, detector, session)
            places = [face_box(face) for face in faces]
            pairs = [nearest(expected.boxes, place) for place in places]
            missed += (
                pairs.count(None) + len(expected.boxes) - len({pair for pair in pairs if pair is not None})
            )
            known = [
                (face, place, pair) for face, place, pair in zip(faces, places, pairs, strict=True) if pair
            ]
            if not known:
                continue
            pages.append(_shares([face for face, *_ in known]))
            manifest = session.manifest
            size, framing = manifest.preprocessing.resize, manifest.framing
            for boxes, rows in (
                ([place for _, place, _ in known], same),
                ([pair for *_, pair in known], whole),
            ):
                rows.append(np.stack(reference(session, crops(image, boxes, size, framing)), axis=1))
    page = np.concatenate(pages)
    return {
        "faces": len(page),
        "missed_by_one": missed,
        "same_place": _deviation(page, np.concatenate(same)),
        "whole_way": _deviation(page, np.concatenate(whole)),
    }


def face_box(face: dict[str, Any]) -> FaceBox:
    """The place of a face that the page has found."""
    box = face["box"]
    eyes = face["eyes"] and (tuple(face["eyes"][0]), tuple(face["eyes"][1]))
    return FaceBox(box["x"], box["y"], box["width"], eyes=eyes)


def _shares(faces: list[dict[str, Any]]) -> Tensor:
    """[N, 2, C]: after and before the correction."""
    rows = [[list(face[name].values()) for name in ("probabilities", "primary")] for face in faces]
    return np.array(rows, np.float32)


def _deviation(page: Tensor, other: Tensor) -> dict[str, float]:
    apart = np.abs(page - other)
    same = float((page[:, 0].argmax(-1) == other[:, 0].argmax(-1)).mean())
    return {"largest": float(apart.max()), "mean": float(apart.mean()), "same_label": same}


def measure(
    images: int, detector_model: Path | None, onnxruntime_web: Path | None, chromium: str
) -> dict[str, Any]:
    """The document that the module describes."""
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        raise MissingDependencyError("playwright", "dev", "this measurement") from None
    rng = np.random.default_rng(0)
    shown = [people(seed) for seed in range(images)]
    make_detector("yunet", detector_model)  # before anything is started
    shown[1::2] = [turned(image, rng.uniform(-50, 50)) for image in shown[1::2]]
    encoded = [cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes() for image in shown]
    rows = {}
    with tempfile.TemporaryDirectory() as place, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        version = browser.version
        for precision in PRECISIONS:
            folder = Path(place, precision)
            options = WebOptions(precision, detector_model, onnxruntime_web)
            files = write_web_folder(shipped_bundle(), folder, options)
            sizes = {file.relative_to(folder).as_posix(): file.stat().st_size for file in files}
            context = browser.new_context(service_workers="block")
            found = labelled_by_page(context.new_page(), folder, encoded)
            context.close()
            # WebGPU's parts are loaded by browsers with a GPU, in the place of the others
            wasm = sum(
                size for name, size in sizes.items() if "asyncify" not in name and "webgpu" not in name
            )
            rows[precision] = {
                "megabytes": {
                    "folder": round(sum(sizes.values()) / 1e6, 1),
                    "loaded_by_wasm": round(wasm / 1e6, 1),
                    "onnxruntime_web": round(
                        sum(size for name, size in sizes.items() if name.startswith(VENDORED)) / 1e6, 1
                    ),
                },
                "upright": compare(precision, found[::2], shown[::2], detector_model),
                "turned": compare(precision, found[1::2], shown[1::2], detector_model),
            }
        browser.close()
    return {
        "bench": "web-agreement",
        "command": f"python -m edgefel.bench.experiments.web_agreement --images {images} --detector-model yunet.onnx",
        "cpu": cpu_name(),
        "chromium": version,
        "images": images,
        "versions": versions(onnxruntime=onnxruntime, opencv=cv2, numpy=np),
        "precisions": rows,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--detector-model", type=Path, help="YuNet's file, where it is not installed")
    parser.add_argument("--onnxruntime-web", type=Path, help="that package, unpacked; npm fetches it without")
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    return run_bench(parser, measure, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
