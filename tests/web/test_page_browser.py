"""The exported page in a real browser, with a camera that shows synthetic people."""

from __future__ import annotations

import base64
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from chromium import PATIENCE, camera_flags, probing, serving, until
from tiny_bundle import rewritten

from edgefel.data.labels import expression_labels
from edgefel.data.synthetic.options import VideoOptions
from edgefel.data.synthetic.video import SyntheticVideo, write_video
from edgefel.runtime.alignment import FaceBox
from edgefel.runtime.faces import crops
from edgefel.runtime.model import Model, load
from edgefel.runtime.results import LabelledFace
from edgefel.runtime.shipped import FOLDER
from edgefel.web.folder import WebOptions, write_web_folder

pytestmark = pytest.mark.slow

# what a service worker answers is loaded from the page's own folder too
OWN = re.compile(r"(http://127\.0\.0\.1:\d+/|blob:http://127\.0\.0\.1:)")


@pytest.fixture(scope="module")
def folder(_once: Any, package: Path, yunet: Path) -> Path:
    """The page of the network that comes with edgefel."""
    options = WebOptions(detector_model=yunet, onnxruntime_web=package)
    return _once("web", lambda place: write_web_folder(FOLDER, place, options))


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    with serving(folder) as url:
        yield url


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`edgefel data video` as JPEGs one after another: two people, one of whom changes expression."""
    folder = tmp_path_factory.mktemp("film")
    options = VideoOptions(seconds=4, fps=5, size=(480, 270), faces=2, changes=1)
    write_video(folder / "film.mp4", options)
    video = cv2.VideoCapture(str(folder / "film.mp4"))
    jpegs = []
    while (image := video.read()[1]) is not None:
        jpegs.append(cv2.imencode(".jpg", image)[1].tobytes())
    assert len(jpegs) == 20
    (folder / "film.mjpeg").write_bytes(b"".join(jpegs))
    return folder / "film.mjpeg"


@pytest.fixture(scope="module")
def browser(launch: Any, film: Path) -> Any:
    return launch(*camera_flags(film))


class Pages:
    """Opens pages, each in a context of its own, and keeps what they complain of and ask for."""

    def __init__(self, browser: Any) -> None:
        self.browser = browser
        self.contexts: list[Any] = []
        self.complaints: list[str] = []
        self.requests: list[str] = []

    def open(self, address: str, *, ready: bool = True, **more: Any) -> Any:
        context = self.browser.new_context(viewport={"width": 1280, "height": 900}, **more)
        self.contexts.append(context)
        context.on("request", lambda request: self.requests.append(request.url))
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.goto(address)
        if ready:
            await_networks(page)
        return page

    def close(self) -> None:
        """No message on the console, no error, and no request to anywhere but the page's folder."""
        for context in self.contexts:
            context.close()
        # where the test lets Playwright block it
        assert [text for text in self.complaints if "blocked by Playwright" not in text] == []
        assert [url for url in self.requests if not OWN.match(url)] == []
        assert len(self.requests) > 10


@pytest.fixture
def make_page(browser: Any) -> Iterator[Callable[..., Any]]:
    pages = Pages(browser)
    yield pages.open
    pages.close()


@pytest.fixture(scope="module")
def page(browser: Any, address: str) -> Iterator[Any]:
    """One page for all tests that leave it as it was."""
    pages = Pages(browser)
    yield pages.open(address)
    pages.close()


def await_networks(page: Any) -> None:
    """Waits until the page can label; it is loaded again the first time."""
    for _ in range(3):
        try:
            return until(page, "() => document.querySelector('#facts')?.childElementCount")
        except Exception as error:
            if "navigation" not in str(error) and "context" not in str(error):
                raise
    raise AssertionError("the page is loaded again and again")


def facts_of(page: Any) -> dict[str, str]:
    rows = page.eval_on_selector_all(
        "#facts div", "rows => rows.map(row => [row.children[0].textContent, row.children[1].textContent])"
    )
    return dict(rows)


def png(image: np.ndarray) -> bytes:
    return cv2.imencode(".png", np.ascontiguousarray(image[..., ::-1]))[1].tobytes()


def people(size: tuple[int, int] = (640, 360), faces: int = 2, seed: int = 5) -> np.ndarray:
    options = VideoOptions(seconds=1, fps=1, size=size, faces=faces, changes=0, seed=seed)
    return SyntheticVideo(options).frame(0)


def turned(image: np.ndarray, degrees: float) -> np.ndarray:
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0)
    return cv2.warpAffine(image, matrix, (width, height), borderValue=(90, 90, 90))


UPRIGHT: dict[str, Callable[[], np.ndarray]] = {
    "two": people,
    "large": lambda: cv2.resize(people((480, 480), 1, seed=8), (1201, 1201), interpolation=cv2.INTER_CUBIC),
    "at the border": lambda: people((480, 480), 1, seed=9)[130:, 120:],
    "small and grey": lambda: (
        cv2.resize(people(seed=10)[:, :, :1], (213, 120)).repeat(3).reshape(120, 213, 3)
    ),
    "dark": lambda: (people(seed=11) * 0.15).astype(np.uint8),
    "nobody": lambda: np.full((100, 151, 3), 127, np.uint8),
}
TURNED: dict[str, Callable[[], np.ndarray]] = {
    "turned by 12": lambda: turned(people(faces=1, seed=6), 12),
    # YuNet sees this one in turned copies of the image alone
    "turned by 55": lambda: turned(people(faces=1, seed=7), 55),
}

LABEL = """async (files) => {
    const { Local } = await import("./page/local.js");
    const local = new Local();
    await local.open({ compute: "wasm", threads: null }, () => null);
    const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const results = [];
    for (const [name, text] of files) results.push(await local.label(new File([bytes(text)], name)));
    return results;
}"""


def test_faces_get_the_runtimes_probabilities(page, yunet):
    """The whole way: decoding, detection, framing, preprocessing, network, quality."""
    images = {name: make() for name, make in (UPRIGHT | TURNED).items()}
    sent = [[name, base64.b64encode(png(image)).decode()] for name, image in images.items()]
    results = page.evaluate(LABEL, sent)
    counts = {}
    with load(FOLDER, precision="fp32", backend="onnxruntime", threads=1, detector_model=yunet) as model:
        for (name, image), result in zip(images.items(), results, strict=True):
            expected = model(image, channels="rgb")
            assert result["source"] == name
            assert (result["width"], result["height"]) == (image.shape[1], image.shape[0])
            assert len(result["faces"]) == len(expected), name
            counts[name] = len(expected)
            for found, face in zip(result["faces"], expected, strict=True):
                check_face(name, found, face, in_place(model, image, found))
    assert counts["two"] == 2
    assert counts["nobody"] == 0
    assert all(count for name, count in counts.items() if name != "nobody")


def check_face(
    name: str, found: dict[str, Any], face: LabelledFace, again: dict[str, dict[str, float]]
) -> None:
    """A face of the page beside the runtime's, and beside what the runtime says of the place that the page found."""
    wanted = face.to_dict()
    for shares in ("probabilities", "primary"):
        assert found[shares] == pytest.approx(again[shares], abs=1e-5), (name, shares)
    if name in UPRIGHT:
        assert found["box"] == wanted["box"], name
        for shares in ("probabilities", "primary"):
            assert found[shares] == pytest.approx(wanted[shares], abs=1e-3), (name, shares)
    else:
        # the last bits of landmarks decide how the copies of a turned face are cut out that are looked at next
        for side, value in wanted["box"].items():
            assert abs(found["box"][side] - value) <= 2, name
        assert found["probabilities"] == pytest.approx(wanted["probabilities"], abs=0.1)
    np.testing.assert_allclose(found["eyes"], face.eyes, atol=1e-3 if name in UPRIGHT else 1)
    assert found["quality"] == pytest.approx(face.quality, abs=2e-3 if name in UPRIGHT else 0.05)
    assert found["misframed"] == face.misframed
    for key in ("top_label", "primary_label", "label"):
        assert found[key] == wanted[key], name


def in_place(model: Model, image: np.ndarray, found: dict[str, Any]) -> dict[str, dict[str, float]]:
    """The runtime's distributions of a face where the page has found it."""
    box, eyes = found["box"], found["eyes"]
    place = FaceBox(box["x"], box["y"], box["width"], eyes=eyes and (tuple(eyes[0]), tuple(eyes[1])))
    manifest = model.session.manifest
    predictions = model.session(crops(image, [place], manifest.preprocessing.resize, manifest.framing))
    return {
        name: dict(zip(model.labels, getattr(predictions, name)[0].tolist(), strict=True))
        for name in ("probabilities", "primary")
    }


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1600])
def test_the_camera_is_labelled_and_the_timeline_moves(page, width, scheme):
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme=scheme)
    assert page.evaluate("crossOriginIsolated")
    page.click("#start")
    page.wait_for_selector(".person:nth-child(2)")
    labels = [text.rsplit(" ", 2)[0] for text in page.locator(".person .label").all_inner_texts()]
    assert set(labels) <= {*expression_labels(8), "unsure"}
    assert page.locator(".person:nth-child(1) .shares tr").count() == 8
    look = "document.querySelector('.timeline')?.toDataURL()"
    before = page.evaluate(look)
    until(page, f"before => ![before, undefined].includes({look})", before)
    until(page, r"() => /\d/.test(document.querySelector('#rate').textContent)")
    assert "inference" in page.inner_text("#stage-list")
    until(page, "() => document.querySelector('#announcer').textContent.includes('Person')")
    assert page.get_attribute(".timeline", "aria-label").startswith("Last 30 seconds of Person")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", paper))) < 200) == (scheme == "dark")
    page.click("#start")
    assert page.inner_text("#start") == "Start camera"
    assert page.evaluate("document.querySelector('video').srcObject") is None


def test_everything_is_done_by_keyboard(make_page, address):
    page = make_page(address)
    # Playwright has a test choose the files only from the first listener on, and does not await that the browser knows:
    # a key pressed at once may come before
    page.on("filechooser", lambda chooser: None)

    def focused() -> str:
        return page.evaluate("document.activeElement.value || document.activeElement.id")

    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Tab")
    assert focused() == "auto"
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.keyboard.press("Tab")
    assert focused() == "camera"
    page.keyboard.press("Tab")
    assert focused() == "start"
    page.keyboard.press("Enter")
    page.wait_for_selector(".person:nth-child(2)")
    page.keyboard.press("Space")
    assert page.inner_text("#start") == "Start camera"
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("ArrowRight")
    assert focused() == "images"
    page.keyboard.press("Tab")
    assert focused() == "open"
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    assert chooser.value.is_multiple()


def test_every_control_has_a_name(page):
    nameless = page.evaluate(
        """[...document.querySelectorAll("button, input, select, canvas[role=img], img")].filter(element =>
            !(element.getAttribute("aria-label") || element.labels?.[0]?.textContent.trim() ||
              element.textContent.trim() || element.hasAttribute("alt"))).map(element => element.outerHTML)"""
    )
    assert nameless == []
    assert page.evaluate("document.documentElement.lang") == "en"


def test_images_are_opened_and_a_broken_one_is_named(page, tmp_path):
    page.check("input[value=images]")
    (tmp_path / "two.png").write_bytes(png(people()))
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    page.set_input_files("#files", [tmp_path / "broken.jpg", tmp_path / "two.png"])
    page.wait_for_selector(".person:nth-child(2)")
    assert page.inner_text("#message") == "broken.jpg: this browser cannot read it as an image"
    assert page.locator(".person .timeline").count() == 0
    assert page.get_attribute("#strip img", "alt") == "two.png, 2 faces"
    page.check("input[value=camera]")


def test_a_page_that_was_loaded_works_without_a_network(make_page, folder, tmp_path):
    (tmp_path / "two.png").write_bytes(png(people()))
    with serving(folder) as url:
        page = make_page(f"{url}?threads=2")
        facts = facts_of(page)
        assert facts["offline"].startswith("yes")
        assert re.match(r"2 of \d+ cores", facts["threads"])
    # its server is gone
    page.reload()
    await_networks(page)
    page.check("input[value=images]")
    page.set_input_files("#files", tmp_path / "two.png")
    page.wait_for_selector(".person:nth-child(2)")


def test_without_a_service_worker_threads_come_by_headers_or_not_at_all(make_page, address, folder):
    alone = facts_of(make_page(f"{address}?threads=2", service_workers="block"))
    assert alone["threads"] == "1: the page is not cross-origin isolated, which threads need"
    assert alone["offline"].startswith("no")
    exported = json.loads((folder / "files.js").read_text().removeprefix("self.EXPORTED = ").rstrip(";\n"))
    with serving(folder, exported["headers"]) as url:
        served = facts_of(make_page(f"{url}?threads=2", service_workers="block"))
    assert served["threads"].startswith("2 of")
    for facts in (alone, served):
        assert re.match(r"probabilities within \de-[5-9] of the runtime's", facts["agreement"])


# instead of the page: what its service worker gives it, told to the test's server, which says when to load again
PROBE = """
import { becomeIsolated } from "./isolation.js";
const offline = await becomeIsolated(() => null);
const { name } = await (await fetch("contract.json")).json();
const waiting = () => navigator.serviceWorker.getRegistration().then((one) => one?.waiting != null);
setInterval(async () => {
    const kept = (await caches.keys()).length;
    const answer = await fetch(`told?${JSON.stringify([name, kept, await waiting(), crossOriginIsolated, offline])}`);
    if ((await answer.text()) === "again") location.reload();
}, 400);
"""


def test_a_newer_export_replaces_the_one_that_was_kept(folder, tmp_path):
    """Without Playwright: a service worker that a debugger watches never ends, and none replaces it."""
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    (copy / "page" / "main.js").write_text(PROBE)
    with probing(copy) as (told, again):
        assert told(lambda name, kept, *_: name == "fer-plus-nano")[1:] == [
            1,
            False,
            True,
            "yes, once it is loaded",
        ]
        contract = json.loads((copy / "contract.json").read_text())
        (copy / "contract.json").write_text(json.dumps(contract | {"name": "newer"}))
        listing = (copy / "files.js").read_text()
        (copy / "files.js").write_text(re.sub(r'"version": "\w+"', '"version": "0"', listing))
        again.set()  # which finds the newer files, and goes on with the old ones
        assert told(lambda name, kept, waits, *_: waits)[0] == "fer-plus-nano"

        def newer(name: str, kept: int, waits: bool, *_: Any) -> bool:
            if name != "newer":
                again.set()  # the old one may have been too busy to be replaced: the next load tries again
            return name == "newer" and kept == 1 and not waits

        told(newer)


def test_a_browser_that_computes_something_else_shows_nothing(make_page, folder, tmp_path):
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    contract = json.loads((copy / "contract.json").read_text())
    contract["check"]["faces"][0]["probabilities"][2] += 0.002
    (copy / "contract.json").write_text(json.dumps(contract))
    with serving(copy) as url:
        page = make_page(url, ready=False)
        page.wait_for_selector("#message:not([hidden])")
        assert "its probabilities deviate from the runtime's by 0.0020" in page.inner_text("#message")
        assert facts_of(page) == {}


def test_int8_agrees_as_far_as_it_can(make_page, package, yunet, tmp_path):
    options = WebOptions("int8", yunet, package)
    write_web_folder(FOLDER, tmp_path / "page", options)
    with serving(tmp_path / "page") as url:
        page = make_page(url)
        assert "int8" in page.inner_text("#model")
        off = re.search(r"within (\S+) of", facts_of(page)["agreement"])
        assert off is not None
        assert float(off[1]) <= 0.05


def test_a_network_that_takes_bytes_and_knows_no_framing(make_page, package, yunet, tmp_path):
    bundle = rewritten(tmp_path / "tiny", uint8=True, outputs=("primary", "probabilities", "confidence"))
    write_web_folder(bundle, tmp_path / "page", WebOptions(detector_model=yunet, onnxruntime_web=package))
    image = people()
    with serving(tmp_path / "page") as url:
        page = make_page(url, ready=False, service_workers="block")
        (result,) = page.evaluate(LABEL, [["two.png", base64.b64encode(png(image)).decode()]])
    with load(bundle, backend="onnxruntime", threads=1, detector_model=yunet) as model:
        expected = model(image, channels="rgb")
    assert len(result["faces"]) == len(expected) == 2
    for found, face in zip(result["faces"], expected, strict=True):
        assert found["probabilities"] == pytest.approx(dict(face.probabilities), abs=1e-3)


def test_opened_from_a_disk_the_page_says_what_to_do(browser, folder):
    page = browser.new_page()
    page.goto((folder / "index.html").as_uri())
    assert "python3 -m http.server" in page.inner_text("#message")
    page.close()
