"""Showing a build's progress, and ending it on Ctrl-C."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any, TypeVar

from edgefel.progress import Progress

T = TypeVar("T")


def run_cancellable(work: Callable[[threading.Event], T]) -> T:
    """`work(cancelled)` in a thread of its own; on Ctrl-C `cancelled` is set and the interrupt goes on.

    Python handles signals in its main thread, and only between its own instructions: a main thread inside
    TensorRT's build would notice Ctrl-C when the build is over.
    """
    cancelled, done = threading.Event(), threading.Event()
    results: list[T] = []
    errors: list[BaseException] = []

    def body() -> None:
        try:
            results.append(work(cancelled))
        except BaseException as error:  # it goes on in the caller's thread
            errors.append(error)
        finally:
            done.set()

    threading.Thread(target=body, name="edgefel-engine-build", daemon=True).start()
    try:
        done.wait()
    except BaseException:
        cancelled.set()
        done.wait()
        raise
    if errors:
        raise errors[0]
    return results[0]


def make_monitor(trt: ModuleType, progress: Progress, cancelled: threading.Event) -> Any:
    """An IProgressMonitor that advances `progress` and cancels the build, or None where there is no such API."""
    if not hasattr(trt, "IProgressMonitor"):
        return None

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc,name-defined]
        """Passes the outermost phase on: TensorRT nests phases, and calls from its own threads."""

        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.outer: str | None = None

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            if parent_phase is None:
                self.outer = phase_name

        def step_complete(self, phase_name: str, step: int) -> bool:
            if phase_name == self.outer:
                progress.advance()
            return not cancelled.is_set()

        def phase_finish(self, phase_name: str) -> None:
            if phase_name == self.outer:
                self.outer = None

    return Monitor()
