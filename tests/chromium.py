"""The system's Chromium for tests of pages, and a server of static files."""

from __future__ import annotations

import functools
import http.server
import json
import os
import queue
import shutil
import subprocess
import tempfile
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = os.environ.get("EDGEFEL_CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
# a container's root has no user namespaces for the sandbox; the pages are the tests' own
FLAGS = ["--no-sandbox", "--disable-dev-shm-usage"]
PATIENCE = 60_000  # milliseconds; browser and server may share one busy core


def camera_flags(film: Path) -> list[str]:
    """A camera that shows a film: JPEGs one after another in a file .mjpeg."""
    flags = ["--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]
    return [*flags, f"--use-file-for-fake-video-capture={film}"]


@contextmanager
def launching() -> Iterator[Any]:
    """A function that starts a browser with more flags. Skips the test where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("there is no Chromium; on Debian: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        opened = []

        def launch(*flags: str) -> Any:
            opened.append(driver.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS, *flags]))
            return opened[-1]

        yield launch
        for browser in opened:
            browser.close()


def until(page: Any, expression: str, argument: Any = None) -> None:
    """Waits for a function of the page to be true. Playwright's own waiting needs eval, which policies forbid."""
    deadline = time.monotonic() + PATIENCE / 1e3
    while not page.evaluate(expression, argument):
        assert time.monotonic() < deadline, expression
        page.wait_for_timeout(50)


@contextmanager
def serving(folder: Path, headers: Mapping[str, str] | None = None) -> Iterator[str]:
    """The address of a server of a folder's files. headers: that it gives with each."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def end_headers(self) -> None:
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            super().end_headers()

        def log_message(self, *arguments: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Handler, directory=str(folder))
    )
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def probing(folder: Path) -> Iterator[tuple[Callable[..., list[Any]], threading.Event]]:
    """A browser without a debugger on a folder whose page tells its state by requests of `told?[...]`.

    Gives a function that waits for a state of which a condition is true, and an event: when it is set, the next request
    is answered by "again".
    """
    states: queue.Queue[list[Any]] = queue.Queue()
    again = threading.Event()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            _, told, text = self.path.partition("told?")
            if not told:
                return super().do_GET()
            states.put(json.loads(urllib.parse.unquote(text)))
            answer = b"again" if again.is_set() else b""
            again.clear()
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)
            return None

        def log_message(self, *arguments: Any) -> None:
            pass

    def told(condition: Callable[..., bool]) -> list[Any]:
        deadline = time.monotonic() + PATIENCE / 1e3
        while not condition(*(state := states.get(timeout=PATIENCE / 1e3))):
            assert time.monotonic() < deadline, state
        return state

    if CHROMIUM is None:
        pytest.skip("there is no Chromium; on Debian: apt-get install chromium")
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Handler, directory=str(folder))
    )
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        address = f"http://127.0.0.1:{server.server_port}/"
        command = [CHROMIUM, "--headless", *FLAGS, f"--user-data-dir={profile}", address]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            yield told, again
        finally:
            process.terminate()
            process.wait()
            server.shutdown()
            server.server_close()
