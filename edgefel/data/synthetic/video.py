"""A video of synthetic faces that move and change expression at known times."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edgefel import __version__
from edgefel.data.recording import VideoWriter
from edgefel.data.synthetic.canvas import Canvas, Image
from edgefel.data.synthetic.options import LEAST_HOLD, FaceOptions, VideoOptions
from edgefel.data.synthetic.scene import draw_background
from edgefel.data.synthetic.video_people import Placed, Portrait, Sitter, choose_people, draw_motions, lay_on
from edgefel.errors import EdgefelError
from edgefel.files.documents import check_shape, read_json
from edgefel.files.write import atomic_file

_log = logging.getLogger("edgefel.data")
FORMAT, VERSION = "edgefel-synthetic-video", 1
# Changes are evenly spaced but for this share of the distance between two.
_JITTER = 0.2
_NOTE = (
    "time is the middle of a change: the face is drawn between the two expressions from half a transition before "
    "it to half a transition after it, and label is the new one from the middle on. centre, side: the square of a "
    "training crop around the face; eyes: pupils, the one on the image's left first; all in pixels"
)


@dataclass(frozen=True)
class ExpressionChange:
    """Person `person` (from 1) changes from one expression to another around `time` seconds."""

    person: int
    time: float
    first: str
    second: str


class SyntheticVideo:
    """A video by frame; `frame(index)` does not depend on the frames drawn before."""

    def __init__(self, options: VideoOptions | None = None) -> None:
        self.options = options = options or VideoOptions()
        faces = FaceOptions(
            classes=8, seed=options.seed, intensity=(0.9, 1.0), dropout=0.0, blend=0.0, pose=0.0, nuisance=0.3
        )
        rng = np.random.default_rng(np.random.SeedSequence([options.seed], spawn_key=(10,)))
        self.subjects = choose_people(options.seed, options.faces)
        side = math.ceil(options.sides[1])
        self._sitters = [Sitter(options.seed, subject, faces, side) for subject in self.subjects]
        self._motions = draw_motions(options, rng)
        self._starts, self.changes = _draw_changes(options, rng)
        self._background = _draw_backdrop(options.size, faces, rng)

    def __len__(self) -> int:
        return self.options.frames

    def frame(self, index: int) -> Image:
        """uint8 RGB [H, W, 3]; raises IndexError outside 0..len-1."""
        image = self._background.copy()
        for _, placed, portrait, _ in self._people(index):
            lay_on(image, portrait, placed)
        return image

    def faces(self, index: int) -> list[dict[str, Any]]:
        """Truth of frame `index` as plain JSON values: person, centre, side, eyes, label, changing."""
        return [
            {
                "person": person,
                "centre": _rounded(placed.centre),
                "side": round(placed.side, 2),
                "eyes": [_rounded(placed.project(*pupil)) for pupil in portrait.pupils()],
                "label": label,
                "changing": changing,
            }
            for person, placed, portrait, (label, changing) in self._people(index)
        ]

    def _people(self, index: int) -> Iterator[tuple[int, Placed, Portrait, tuple[str, bool]]]:
        if not 0 <= index < len(self):
            raise IndexError(f"frame {index} of {len(self)}")
        time = index / self.options.fps
        for number, (sitter, motion) in enumerate(zip(self._sitters, self._motions, strict=True), 1):
            first, second, weight = self._expression(number, time)
            label = first if weight < 0.5 else second
            portrait = sitter.portrait(first, second, weight)
            yield number, motion.at(time), portrait, (label, 0.0 < weight < 1.0)

    def _expression(self, person: int, time: float) -> tuple[str, str, float]:
        """The two expressions that a person is between, and the weight (0..1) of the second."""
        now = self._starts[person - 1]
        half = round(self.options.transition / 2, 9)
        for change in self.changes:
            # changes lie on frames: rounding errors must not move a label to another frame
            late = round(time - change.time, 9)
            if change.person != person or late < -half:
                continue
            if late < half:
                share = (late + half) / (2 * half)
                return change.first, change.second, share * share * (3 - 2 * share)
            now = change.second
        return now, now, 0.0


def write_video(
    path: str | os.PathLike[str],
    options: VideoOptions,
    progress: Callable[[int], None] | None = None,
    *,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Writes the video (MP4) and, beside it with the suffix .json, the truth of every frame, which is returned.

    Both files appear when they are complete. `progress` is called with the number of frames newly written. Frames
    are drawn by this process: encoding takes about as long as drawing.

    Raises EdgefelError if `path` does not end in .mp4, if one of the files exists and may not be replaced, or if the
    video cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() != ".mp4":
        raise EdgefelError(f"{path}: give a name that ends in .mp4")
    listing = path.with_suffix(".json")
    if listing.exists() and not overwrite:
        raise EdgefelError(f"{listing}: exists; choose another name, or allow it with --overwrite")
    writer = VideoWriter(path, options.fps, overwrite=overwrite)
    if writer.kept is not None:
        _log.warning("%s: a video that was not completed is now %s", path, writer.kept)
    try:
        video = SyntheticVideo(options)
        truth = _describe(path.name, video)
        for index in range(len(video)):
            writer.write(video.frame(index), index / options.fps)
            if progress is not None:
                progress(1)
        with atomic_file(listing) as temporary:
            temporary.write_text(_to_json(truth), encoding="utf-8")
            writer.close()
    except BaseException:
        writer.discard()
        raise
    return truth


def read_truth(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The truth that `write_video` wrote, by the name of the JSON file or of the video beside it.

    Raises EdgefelError if the file is missing, broken, or of another kind or version.
    """
    path = Path(path).with_suffix(".json")
    truth = read_json(path)
    found = (truth.get("format"), truth.get("version")) if isinstance(truth, dict) else (None, None)
    if found != (FORMAT, VERSION):
        raise EdgefelError(
            f"{path}: not the truth of a synthetic video (format {found[0]!r}, version {found[1]!r}); "
            f"make one with: edgefel data video -o clip.mp4"
        )
    return dict(check_shape(truth, {"frames": [dict], "changes": [dict]}, str(path)))


def _describe(name: str, video: SyntheticVideo) -> dict[str, Any]:
    options = video.options
    settings = dataclasses.asdict(options) | {"size": list(options.size), "labels": list(options.expressions)}
    return {
        "format": FORMAT,
        "version": VERSION,
        "edgefel": __version__,
        "video": name,
        "note": _NOTE,
        "options": settings,
        "subjects": list(video.subjects),
        "changes": [
            {"person": change.person, "time": change.time, "from": change.first, "to": change.second}
            for change in video.changes
        ],
        "frames": [
            {"frame": index, "time": round(index / options.fps, 4), "faces": video.faces(index)}
            for index in range(len(video))
        ],
    }


def _to_json(truth: dict[str, Any]) -> str:
    """Indented JSON with one line for each frame."""
    head = json.dumps({**truth, "frames": []}, indent=2, allow_nan=False)
    frames = ",\n    ".join(json.dumps(frame, allow_nan=False) for frame in truth["frames"])
    return head.removesuffix("[]\n}") + f"[\n    {frames}\n  ]\n}}\n"


def _draw_changes(
    options: VideoOptions, rng: np.random.Generator
) -> tuple[tuple[str, ...], tuple[ExpressionChange, ...]]:
    """Each person's first expression, and all changes in order of time; each differs from the one before.

    Times lie on frames, so that the first frame with the new label is unambiguous.
    """
    gap = options.seconds / (options.changes + 1)
    jitter = min(_JITTER * gap, max(0.0, gap - LEAST_HOLD - options.transition))
    starts, changes = [], []
    for person in range(1, options.faces + 1):
        now = _draw_label(options.expressions, None, rng)
        starts.append(now)
        for number in range(1, options.changes + 1):
            time = number * gap + jitter * rng.uniform(-0.5, 0.5)
            following = _draw_label(options.expressions, now, rng)
            changes.append(ExpressionChange(person, round(time * options.fps) / options.fps, now, following))
            now = following
    return tuple(starts), tuple(sorted(changes, key=lambda change: (change.time, change.person)))


def _rounded(point: Sequence[float]) -> list[float]:
    return [round(value, 2) for value in point]


def _draw_label(labels: Sequence[str], without: str | None, rng: np.random.Generator) -> str:
    choice = [label for label in dict.fromkeys(labels) if label != without]
    return choice[int(rng.integers(len(choice)))]


def _draw_backdrop(size: tuple[int, int], faces: FaceOptions, rng: np.random.Generator) -> Image:
    canvas = Canvas(256)
    draw_background(canvas, faces, rng)
    longer = max(size)
    whole = cv2.resize(canvas.pixels, (longer, longer), interpolation=cv2.INTER_CUBIC)
    return np.ascontiguousarray(whole[: size[1], : size[0]])
