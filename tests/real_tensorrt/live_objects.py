"""Calls edgefel's logger and progress monitor as TensorRT does, through its C++ base classes, and prints what came."""

from __future__ import annotations

import json
import threading

import tensorrt as trt

from edgefel.errors import EdgefelError
from edgefel.export.tensorrt.engine import _monitor
from edgefel.export.tensorrt.network import create_builder
from edgefel.progress import Progress
from edgefel.runtime.backends.tensorrt_binding import check_version
from edgefel.runtime.engines import listen, load_package, runtime_problem


class Counted(Progress):
    steps = 0

    def advance(self, units: int = 1) -> None:
        self.steps += units


def log() -> dict[str, list[str]]:
    """The messages of every severity, one of each from a thread of TensorRT's."""
    with listen(trt) as (logger, messages):
        for severity in trt.ILogger.Severity.__members__.values():
            call = (logger, severity, f"{severity.name}\nof the builder")
            thread = threading.Thread(target=trt.ILogger.log, args=call)
            thread.start()
            thread.join()
    return {"errors": sorted(messages.errors), "warnings": messages.warnings}


def monitor() -> dict[str, object]:
    """What a build with one phase in another tells the monitor, and what it answers before and after Ctrl-C."""
    progress, cancelled = Counted(), threading.Event()
    one, base = _monitor(trt, progress, cancelled), trt.IProgressMonitor
    base.phase_start(one, phase_name="build", parent_phase=None, num_steps=2)
    base.phase_start(one, phase_name="tactics", parent_phase="build", num_steps=9)
    answers = [base.step_complete(one, phase_name=name, step=0) for name in ("tactics", "build")]
    base.phase_finish(one, phase_name="tactics")
    cancelled.set()
    answers.append(base.step_complete(one, phase_name="build", step=1))
    base.phase_finish(one, phase_name="build")
    return {"steps": progress.steps, "answers": answers, "outer": one.outer}


def builder() -> str:
    """What is said of a builder that does not start."""
    with listen(trt) as (logger, messages):
        try:
            create_builder(trt, logger, messages)
        except EdgefelError as error:
            return str(error)
    return ""


check_version(trt)
found = {"loaded": load_package("tensorrt") is trt, "log": log(), "monitor": monitor()}
print(json.dumps(found | {"builder": builder(), "runtime": runtime_problem(trt)}))
