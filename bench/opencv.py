"""OpenCV's threads, which are the process's and not a call's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import cv2


@contextmanager
def opencv_threads(threads: int) -> Iterator[None]:
    """While it lasts, OpenCV works on so many."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(threads)
    try:
        yield
    finally:
        cv2.setNumThreads(before)
