"""How many synthetic faces one core renders: `python -m edgefel.bench.rendering`."""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Sequence
from typing import Any

import cv2

from edgefel.bench.command import run_bench, versions
from edgefel.bench.timer import TimingPlan, opencv_threads, time_callable
from edgefel.data.synthetic import FaceOptions, SyntheticFaces

FACES = 200


def rendering_speed(size: int = 224, rounds: int = 5) -> dict[str, Any]:
    """Renders the same images in `rounds` rounds on one thread, after one that computes each person's outlines."""
    faces = SyntheticFaces(FaceOptions(count=FACES, size=size))
    plan = TimingPlan(warmup=1, settle_seconds=0, min_runs=rounds, max_runs=rounds, seconds=0)
    with opencv_threads(1):
        timing = time_callable(lambda: [faces.sample(index) for index in range(FACES)], plan)
    return {
        "bench": "rendering",
        "command": "python -m edgefel.bench.rendering",
        "size": size,
        "faces_per_round": FACES,
        "rounds": timing.runs,
        "faces_per_second_median": round(1000 * FACES / timing.p50, 1),
        "faces_per_second_best": round(1000 * FACES / timing.min, 1),
        "machine": f"one of {cv2.getNumberOfCPUs()} cores ({platform.machine()})",
        "versions": versions(opencv=cv2),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints one row as JSON."""
    parser = argparse.ArgumentParser(prog="python -m edgefel.bench.rendering", description=__doc__)
    return run_bench(parser, rendering_speed, arguments)


if __name__ == "__main__":
    sys.exit(main())
