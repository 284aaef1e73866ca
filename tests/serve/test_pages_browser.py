"""The page in a real browser, with a camera that shows a film."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from chromium import PATIENCE, camera_flags, launching, until
from serve_process import running
from streams import BLUE, GREEN, RED, scene
from tiny_bundle import write_bundle

from edgefel.data.labels import EXPRESSIONS_7

pytestmark = pytest.mark.slow

TOKEN = "a-token-of-some-length"


def film(count: int = 60) -> Iterator[np.ndarray]:
    """Two squares, of which one changes its colour, as BGR."""
    for number in range(count):
        colour = RED if number < count // 2 else BLUE
        yield scene([(20 + number % 20, 20, 80, colour), (200, 120, 60, GREEN)])[..., ::-1]


@pytest.fixture(scope="module")
def camera(tmp_path_factory) -> Path:
    """What the browser's camera shows: JPEGs one after another."""
    path = tmp_path_factory.mktemp("film") / "film.mjpeg"
    path.write_bytes(
        b"".join(cv2.imencode(".jpg", np.ascontiguousarray(image))[1].tobytes() for image in film())
    )
    return path


@pytest.fixture(scope="module")
def launch() -> Iterator[Any]:
    """Starts browsers, whose camera shows the given film."""
    with launching() as start:
        yield lambda film: start(*camera_flags(film))


@pytest.fixture(scope="module")
def browser(launch: Any, camera: Path) -> Any:
    return launch(camera)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("page") / "bundle")


@pytest.fixture(scope="module")
def address(bundle: Path) -> Iterator[str]:
    with running(bundle, live=10) as (port, _):
        yield f"http://127.0.0.1:{port}/"


@pytest.fixture
def make_page(browser: Any) -> Iterator[Any]:
    """Opens pages; afterwards no message on the console, no error, and no request to another server."""
    complaints: list[str] = []
    contexts, requests = [], []

    def make(address: str, width: int = 1280, scheme: str = "light", **more: Any) -> Any:
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, **more)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(address)
        until(
            page,
            "() => document.querySelector('#model').textContent || document.querySelector('dialog').open",
        )
        return page

    yield make
    for context in contexts:
        context.close()
    assert [text for text in complaints if "401" not in text] == []
    assert [url for url in requests if not re.match(r"(http://127\.0\.0\.1:|blob:http://127)", url)] == []


def labels_of(page: Any) -> list[str]:
    """What the cards say, without the percentage."""
    return [text.rsplit(" ", 2)[0] for text in page.locator(".person .label").all_inner_texts()]


def picture_of(page: Any, selector: str) -> str:
    return page.eval_on_selector(selector, "canvas => canvas.toDataURL()")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1600])
def test_the_camera_is_labelled_and_the_timeline_moves(make_page, address, width, scheme):
    page = make_page(address, width, scheme)
    page.click("#start")
    page.wait_for_selector(".person:nth-child(2)")
    assert set(labels_of(page)) <= {*EXPRESSIONS_7, "unsure"}
    assert page.inner_text("#start") == "Stop"
    before = picture_of(page, ".timeline")
    until(page, "before => document.querySelector('.timeline').toDataURL() !== before", before)
    until(page, r"() => /\d/.test(document.querySelector('#rate').textContent)")
    assert "inference" in page.inner_text("#stage-list")
    until(page, "() => document.querySelector('#announcer').textContent.includes('Person')")
    assert page.get_attribute(".timeline", "aria-label").startswith("Last 30 seconds of Person")
    # nothing is wider than the screen
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", paper))) < 200) == (scheme == "dark")
    page.click("#start")
    assert page.inner_text("#start") == "Start camera"
    # the camera is given back
    assert page.evaluate("document.querySelector('video').srcObject") is None


def test_everything_is_done_by_keyboard(make_page, address):
    page = make_page(address)

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
    # a ring shows where the focus is
    ring = "getComputedStyle(document.activeElement.nextElementSibling).outlineStyle"
    assert page.evaluate(ring) == "solid"
    page.keyboard.press("ArrowRight")
    assert focused() == "device"
    page.keyboard.press("Tab")
    assert focused() == "start"
    page.keyboard.press("Enter")
    page.wait_for_selector(".person:nth-child(2)")
    page.keyboard.press("Space")
    assert page.inner_text("#start") == "Watch"
    page.reload()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"


def test_every_control_has_a_name(make_page, address):
    page = make_page(address)
    nameless = page.evaluate(
        """[...document.querySelectorAll("button, input, select, canvas[role=img], img")].filter(element =>
            !(element.getAttribute("aria-label") || element.labels?.[0]?.textContent.trim() ||
              element.textContent.trim() || element.hasAttribute("alt") || element.name === "username")
        ).map(element => element.outerHTML)"""
    )
    assert nameless == []
    assert page.evaluate("document.documentElement.lang") == "en"


def test_images_are_opened_and_a_broken_one_is_named(make_page, address, tmp_path, photo):
    page = make_page(address)
    page.check("input[value=images]")
    (tmp_path / "two.jpg").write_bytes(photo)
    (tmp_path / "one.jpg").write_bytes(
        cv2.imencode(".jpg", scene([(50, 50, 90, BLUE)])[..., ::-1])[1].tobytes()
    )
    page.set_input_files("#files", [tmp_path / "two.jpg", tmp_path / "one.jpg"])
    page.wait_for_selector("#strip li:nth-child(2)")
    assert page.locator(".person").count() == 2
    assert page.locator(".person .timeline").count() == 0
    page.click("#strip li:nth-child(2) button")
    assert page.locator(".person").count() == 1
    assert page.get_attribute("#strip li:nth-child(1) img", "alt") == "two.jpg, 2 faces"


def test_a_video_is_read_frame_by_frame(make_page, address, tmp_path):
    path = tmp_path / "film.webm"
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"VP80"), 10, (320, 240))
    if not writer.isOpened():
        pytest.skip("this OpenCV writes no VP8")
    for image in film(100):
        writer.write(np.ascontiguousarray(image))
    writer.release()
    page = make_page(address)
    page.check("input[value=video]")
    page.set_input_files("#files", path)
    page.wait_for_selector(".person:nth-child(2)")
    # at its end the page is ready for the next one
    page.wait_for_selector("#start", state="hidden")
    assert page.is_visible("#open")


def test_a_board_without_a_screen_is_watched_in_an_img(make_page, address):
    page = make_page(address)
    page.evaluate(
        """() => {
            const image = document.createElement("img");
            image.id = "live";
            image.src = "/v1/live.mjpg";
            document.body.append(image);
        }"""
    )
    until(page, "() => document.querySelector('#live').naturalWidth === 640")


def test_a_link_with_the_token_logs_in_and_hides_it(make_page, bundle):
    with running(bundle, token=TOKEN) as (port, _):
        page = make_page(f"http://127.0.0.1:{port}/#token={TOKEN}")
        assert page.evaluate("location.href") == f"http://127.0.0.1:{port}/"
        assert not page.is_visible("dialog")
        assert page.evaluate("document.cookie") == ""  # no script can read it
        page.click("#start")
        page.wait_for_selector(".person")


def test_without_the_token_the_page_asks_for_it(make_page, bundle):
    with running(bundle, token=TOKEN) as (port, _):
        page = make_page(f"http://127.0.0.1:{port}/")
        assert page.evaluate("document.activeElement.id") == "token"
        page.keyboard.type("wrong")
        page.keyboard.press("Enter")
        page.wait_for_selector("#login-message:not([hidden])")
        assert page.inner_text("#login-message") == "The token is wrong."
        page.keyboard.type(TOKEN)
        page.keyboard.press("Enter")
        until(page, "() => document.querySelector('#model').textContent")
        assert not page.is_visible("dialog")
        page.reload()
        page.click("#logout")
        page.wait_for_selector("dialog[open]")


def test_the_shipped_network_labels_synthetic_people(launch, tmp_path):
    """The whole way: a film of `edgefel data video` in front of the camera, the network that comes with edgefel."""
    command = [sys.executable, "-m", "edgefel.cli.main"]
    film = [
        *command,
        "data",
        "video",
        "-o",
        str(tmp_path / "film.mp4"),
        "--seconds",
        "2",
        "--fps",
        "5",
        "--faces",
        "1",
    ]
    subprocess.run([*film, "--changes", "0", "--size", "320x240"], check=True, capture_output=True)
    capture = cv2.VideoCapture(str(tmp_path / "film.mp4"))
    jpegs = [
        cv2.imencode(".jpg", image)[1].tobytes()
        for _ in range(10)
        if (image := capture.read()[1]) is not None
    ]
    (tmp_path / "film.mjpeg").write_bytes(b"".join(jpegs))
    truth = json.loads((tmp_path / "film.json").read_text())
    assert truth
    serving = subprocess.Popen(
        [*command, "serve", "--port", "0", "--detector", "haar", "--backend", "onnxruntime"],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert serving.stderr is not None
        address = next(filter(None, (re.search(r"http://\S+/", line) for line in serving.stderr)))[0]
        page = launch(tmp_path / "film.mjpeg").new_page()
        page.set_default_timeout(PATIENCE)
        page.goto(address)
        page.click("#start")
        page.wait_for_selector(".person")
        assert page.locator(".person .shares tr").count() == 8
    finally:
        serving.terminate()
        serving.communicate(timeout=60)
    assert serving.returncode == 0
