"""Draws one frame of a labelled stream: the image of docs/images/stream.jpg.

edgefel data video -o clip.mp4
python tools/stream_picture.py clip.mp4 tests/bundles/nano-synthetic --frame 150 -o docs/images/stream.jpg
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import cv2

from edgefel.errors import EdgefelError
from edgefel.files.write import atomic_file
from edgefel.runtime.faces import HaarDetector
from edgefel.runtime.session import Session
from edgefel.runtime.stream.capture import open_source
from edgefel.runtime.stream.overlay import Hud, draw
from edgefel.runtime.stream.pipeline import Stream, StreamOptions


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clip")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--frame", type=int, default=150, help="its number in the clip [%(default)s]")
    parser.add_argument("-o", "--output", type=Path, required=True)
    chosen = parser.parse_args()
    with Session.open(chosen.bundle) as session:
        options = StreamOptions(frames=chosen.frame + 1, detect_every=3)
        stream = Stream(open_source(chosen.clip), HaarDetector(0.15), session, options)
        for result in stream:
            last = result
        hud = Hud(last.fps, 1e3 * last.latency, None, stream.dropped, session.backend)
    image = draw(last.frame.image, last, hud)
    with atomic_file(chosen.output) as temporary:
        if not cv2.imwrite(
            str(temporary), cv2.cvtColor(image, cv2.COLOR_RGB2BGR), (cv2.IMWRITE_JPEG_QUALITY, 90)
        ):
            raise EdgefelError(f"{chosen.output}: cannot be written; check the free space")
    return 0


if __name__ == "__main__":
    sys.exit(main())
