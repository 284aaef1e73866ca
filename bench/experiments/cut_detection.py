"""Which cuts `edgefel run` finds, which it misses, and what else it takes for one; and the time that a frame takes.

    python -m edgefel.bench.experiments.cut_detection [--seeds 40] > docs/results/cuts.json

Shots are synthetic videos. Each seed joins some, by the rules of KINDS; a cut counts as found in its frame or up to
FLASH frames later, a dissolve anywhere within it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import cv2
import numpy as np

from edgefel.bench.command import run_bench, versions
from edgefel.bench.timer import TimingPlan, measure
from edgefel.data.preprocessing import Image
from edgefel.data.synthetic.options import VideoOptions
from edgefel.data.synthetic.video import SyntheticVideo
from edgefel.runtime.stream.cuts import FLASH, CutFinder

WIDTH, HEIGHT = SIZE = (256, 144)
LENGTH, SHOTS = 14, 4
TIMED = {"640x480": (640, 480), "1920x1080": (1920, 1080)}

Shot = Sequence[Image]
# frames, and where each cut is to be found
Clip = tuple[list[Image], list[range]]
Random = np.random.Generator


def shots(seed: int, count: int = SHOTS, length: int = LENGTH) -> list[Shot]:
    """Other people before another background each, one or two in a shot; 25 frames per second."""
    made: list[Shot] = []
    for number in range(count):
        own = seed * 100 + number
        options = VideoOptions(seconds=4, fps=25, size=SIZE, faces=1 + own % 2, changes=1, seed=own)
        video = SyntheticVideo(options)
        made.append([video.frame(index) for index in range(length)])
    return made


def _joined(change: Callable[[Image, Random], Image], shots: Sequence[Shot], rng: Random) -> Clip:
    frames = [change(frame, rng) for shot in shots for frame in shot]
    return frames, [_at(len(shots[0]) * number) for number in range(1, len(shots))]


def _at(index: int) -> range:
    """A cut at this frame, which may be found a little later."""
    return range(index, index + FLASH + 1)


def _grey(image: Image, rng: Random) -> Image:
    return np.repeat(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)


def _noisy(image: Image, rng: Random) -> Image:
    return _rounded(0.5 * image + rng.normal(0, 25, image.shape))


def _bars(image: Image, rng: Random) -> Image:
    """An upright video in a wide frame: two thirds are black."""
    framed = np.zeros_like(image)
    framed[:, WIDTH // 3 : -WIDTH // 3] = image[:, WIDTH // 3 : -WIDTH // 3]
    return framed


def _single(shots: Sequence[Shot], rng: Random) -> Clip:
    frames = [*shots[0], *(shot[0] for _ in range(2) for shot in shots[1:])]
    return frames, list(map(_at, range(LENGTH, len(frames))))


def _blended(shots: Sequence[Shot], rng: Random) -> Clip:
    """A frame between two shots is a mixture, as after a conversion of the frame rate."""
    frames, cuts = _joined(lambda image, rng: image, shots, rng)
    for cut in cuts:
        frames[cut[0]] = _mixed(frames[cut[0] - 1], frames[cut[0]], rng.uniform(0.2, 0.8))
    return frames, cuts


def _fade_through_black(shots: Sequence[Shot], rng: Random) -> Clip:
    down = [_rounded(frame * (1 - step / 6.0)) for step, frame in enumerate(shots[0][-7:])]
    up = [_rounded(frame * (step / 6.0)) for step, frame in enumerate(shots[1][:7])]
    frames = [*shots[0][:-7], *down, *up, *shots[1][7:]]
    return frames, [_at(LENGTH + 1)]


def _dissolve(shots: Sequence[Shot], rng: Random) -> Clip:
    steps = np.linspace(0, 1, LENGTH)
    mixed = [_mixed(*step) for step in zip(shots[0], shots[1], steps.tolist(), strict=True)]
    return [*shots[0], *mixed, *shots[1]], [range(LENGTH, 2 * LENGTH)]


def _moved(paths: Callable[[Random], np.ndarray], shots: Sequence[Shot], rng: Random) -> Clip:
    """A camera that moves: the middle of the image (x, y) and the enlargement, for each frame."""
    frames = []
    for image, (x, y, zoom) in zip(shots[0], paths(rng), strict=True):
        matrix = np.array([[zoom, 0, WIDTH * (0.5 - zoom * x)], [0, zoom, HEIGHT * (0.5 - zoom * y)]])
        mode = cv2.BORDER_REFLECT_101
        frames.append(np.asarray(cv2.warpAffine(image, matrix, SIZE, borderMode=mode), np.uint8))
    return frames, []


def _pan(rng: Random) -> np.ndarray:
    """By 3 to 8 % of the width per frame."""
    speed = rng.uniform(0.03, 0.08) * rng.choice([-1, 1])
    x = 0.5 + speed * (np.arange(LENGTH) - LENGTH / 2)
    return np.stack([x, np.full(LENGTH, 0.5), np.full(LENGTH, 1.3)], 1)


def _zoom(rng: Random) -> np.ndarray:
    """By 4 % per frame."""
    return np.stack([np.full(LENGTH, 0.5), np.full(LENGTH, 0.5), 1.04 ** np.arange(LENGTH)], 1)


def _shake(rng: Random) -> np.ndarray:
    """By 3 % of the sides from frame to frame."""
    return np.column_stack([0.5 + rng.uniform(-0.03, 0.03, (LENGTH, 2)), np.full(LENGTH, 1.15)])


def _flash(shots: Sequence[Shot], rng: Random) -> Clip:
    """Two flashes of one or two frames, over the whole image or from one side."""
    frames = list(shots[0])
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    for start in (4, 9):
        reach = WIDTH * rng.uniform(0.3, 1.5)
        spot = np.exp(
            -((x - rng.uniform(0, WIDTH)) ** 2 + (y - rng.uniform(0, HEIGHT)) ** 2) / (2 * reach**2)
        )
        gain = 1 + rng.uniform(0.5, 3) * spot[..., None]
        for index in range(start, start + int(rng.integers(1, 3))):
            frames[index] = _rounded(frames[index] * gain)
    return frames, []


def _gains(gains: Callable[[Random], np.ndarray], shots: Sequence[Shot], rng: Random) -> Clip:
    return [_rounded(frame * gain) for frame, gain in zip(shots[0], gains(rng), strict=True)], []


def _exposure(rng: Random) -> np.ndarray:
    """A ramp from a third to twice, or back, or a step."""
    ramp = np.geomspace(0.35, 2.0, LENGTH)[:: rng.choice([-1, 1])]
    return ramp if rng.random() < 0.5 else np.where(np.arange(LENGTH) < 6, 1.0, rng.uniform(0.5, 1.8))


def _switched_on(rng: Random) -> np.ndarray:
    return np.clip((np.arange(LENGTH) - 3.0) / 6, 0, 1)


def _lost(shots: Sequence[Shot], rng: Random) -> Clip:
    """Eight frames missing: a third of a second."""
    return [*shots[0][:3], *shots[0][-3:]], []


KINDS: dict[str, Callable[[Sequence[Shot], Random], Clip]] = {
    "cuts": partial(_joined, lambda image, rng: image),
    "cuts, grey video": partial(_joined, _grey),
    "cuts, dark and noisy": partial(_joined, _noisy),
    "cuts, black bars at both sides": partial(_joined, _bars),
    "cuts, shots of one frame": _single,
    "cuts, a blended frame between": _blended,
    "fades through black": _fade_through_black,
    "dissolves of 14 frames": _dissolve,
    "pans": partial(_moved, _pan),
    "zooms": partial(_moved, _zoom),
    "shaken camera": partial(_moved, _shake),
    "flashes": _flash,
    "changes of exposure": partial(_gains, _exposure),
    "camera switched on": partial(_gains, _switched_on),
    "frames lost": _lost,
}


def find_cuts(frames: Sequence[Image]) -> list[int]:
    """Indices of the frames that begin a new shot."""
    finder = CutFinder()
    return [index for index, frame in enumerate(frames) if finder(frame)]


def score(found: Sequence[int], cuts: Sequence[range]) -> tuple[int, int]:
    """How many of `cuts` were found, and how many of `found` are none."""
    rest, hits = list(found), 0
    for cut in cuts:
        near = [index for index in rest if index in cut]
        hits += bool(near)
        rest = [index for index in rest if index not in near[:1]]
    return hits, len(rest)


def judge(seeds: Sequence[int]) -> dict[str, dict[str, int]]:
    """By kind: clips, frames, cuts, those found, and false ones."""
    total = {kind: dict.fromkeys(("clips", "frames", "cuts", "found", "false"), 0) for kind in KINDS}
    for seed in seeds:
        material = shots(seed)
        for number, (kind, make) in enumerate(KINDS.items()):
            frames, cuts = make(material, np.random.default_rng([seed, number]))
            hits, wrong = score(find_cuts(frames), cuts)
            counts = {"clips": 1, "frames": len(frames), "cuts": len(cuts), "found": hits, "false": wrong}
            for name, value in counts.items():
                total[kind][name] += value
        print(f"\rseed {seed}", end="", file=sys.stderr)
    print(file=sys.stderr)
    return total


def time_frames(runs: int) -> dict[str, dict[str, float]]:
    """Microseconds per frame by size of the image, beside those of a thumbnail of 64x36 alone."""
    shot = shots(0, count=1, length=2)[0]
    calls: dict[str, Callable[[], Any]] = {}
    for name, size in TIMED.items():
        frames = [np.asarray(cv2.resize(frame, size), np.uint8) for frame in shot]
        calls[name] = partial(_each, CutFinder(), frames)
        calls[f"{name}, thumbnail"] = partial(
            _each, partial(cv2.resize, dsize=(64, 36), interpolation=cv2.INTER_AREA), frames
        )
    timings = measure(calls, TimingPlan.exactly(runs))
    return {
        name: {"us_p50": 500 * timings[name].p50, "thumbnail_us_p50": 500 * timings[f"{name}, thumbnail"].p50}
        for name in TIMED
    }


def _each(call: Callable[[Image], Any], frames: Sequence[Image]) -> None:
    for frame in frames:
        call(frame)


def _mixed(first: Image, second: Image, share: float) -> Image:
    return np.asarray(cv2.addWeighted(first, 1 - share, second, share, 0), np.uint8)


def _rounded(image: Any) -> Image:
    return np.rint(image).clip(0, 255).astype(np.uint8)


def document(seeds: int, runs: int) -> dict[str, Any]:
    """Everything that the result file says."""
    return {
        "bench": "cuts",
        "command": f"python -m edgefel.bench.experiments.cut_detection --seeds {seeds} --runs {runs}",
        "versions": versions(cv2=cv2, numpy=np),
        "kinds": judge(range(seeds)),
        "frame": time_frames(runs),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--seeds", type=int, default=40, help="each makes one clip of every kind [%(default)s]"
    )
    parser.add_argument("--runs", type=int, default=200, help="timed runs [%(default)s]")
    sys.exit(run_bench(parser, document))
