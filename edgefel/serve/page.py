"""The files of the page. `edgefel export --web` takes what its page shares with that of the server; this module needs
neither Starlette nor uvicorn."""

from __future__ import annotations

from pathlib import Path

STATIC = Path(__file__).parent / "static"
# all but the page itself and what speaks with the server
SHARED = (
    *(
        "capture.js",
        "icon.svg",
        "images.js",
        "numbers.js",
        "overlay.js",
        "page.js",
        "palette.js",
        "people.js",
    ),
    *("style.css", "theme.js", "timeline.js"),
)
