"""Prepares training faces from a data set of images: detected, levelled, cut out and written in the training layout.

Images are divided among threads, or the machines of a cluster. Decoding, detection and encoding happen in OpenCV,
which releases the interpreter: with 300 images of 640x500 pixels, on two cores, two threads were 2.1 times as fast as
one, and two processes 1.9 times; each process would also need a copy of the data set.

Work is done in a hidden folder beside the output, `.NAME.partial`: `faces/` and a journal. At the end `faces/` (or the
shards made of it) is renamed to the output atomically. Until then the same call continues after whatever ended the
process; the result depends neither on that nor on the number of threads or machines.
"""

from __future__ import annotations

import os
import queue
import shutil
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, Generic

import cv2
import numpy as np
from numpy.typing import NDArray

from edgefel.data.dataset import Box, ImageDataset
from edgefel.data.images import UnreadableImageError, decode_rgb, max_pixels
from edgefel.data.preparing.faces import Face, FaceTools, crop_face
from edgefel.data.preparing.journal import MISSING, UNREADABLE, Done, Journal
from edgefel.data.preparing.output import write_as_shards, write_files
from edgefel.data.preparing.plan import PrepareOptions, PreparePlan
from edgefel.errors import EdgefelError
from edgefel.files.resumable import (
    JOURNAL,
    check_outside,
    discard,
    kept_when_full,
    partial_folder,
    put_in_place,
    sweep_finished,
)
from edgefel.files.write import check_free
from edgefel.tasks.runner import Runner
from edgefel.tasks.threads import Threads
from edgefel.text import counted
from edgefel.workers import one_opencv_thread

# images of a task: on threads one, so that an error or Ctrl-C loses none; on a cluster each task costs milliseconds
_PIECE, _CLUSTER_PIECE = 1, 64
_FACES, _SHARDS = "faces", "shards"
Indices = NDArray[np.int64]
# state of an image (FOUND, MISSING, UNREADABLE), and its encoded face or why it is unreadable
Cut = tuple[str, bytes | str]


def prepare(
    dataset: ImageDataset,
    output: str | os.PathLike[str],
    tools: Callable[[], FaceTools[Face]],
    options: PrepareOptions | None = None,
    *,
    runner: Runner | None = None,
    restart: bool = False,
    begin: Callable[[int, int], None] = lambda done, total: None,
    progress: Callable[[int], None] = lambda done: None,
) -> dict[str, Any]:
    """Writes the face of every image into the folder `output`, which the reader `folder` opens, or into shards.

    Labels, groups, splits and soft labels are the data set's. tools: makes the runtime's detector and aligner, once
    for each thread that works; with a cluster it is pickled. runner: this thread by default. restart: discards the
    work of an unfinished run. begin: called with the number of images that are done already, and of all. progress:
    called with the number of newly done ones. Returns the contents of prepare.json. Unreadable images, and those
    without a face unless `options.missing` is "center", are left out and named.

    Raises EdgefelError for an output that is not empty or is in the data set, unfinished work of other options or
    data, a full disk (finished work is kept), and if no image can be read or no face is found.
    """
    options, runner = options or PrepareOptions(), runner or Threads(1)
    output = Path(output)
    work = partial_folder(output)
    sweep_finished(work, (_FACES, _SHARDS))
    check_free(output)
    check_outside(output, dataset.root)
    tools()  # at once, so that its errors appear early
    plan = PreparePlan.of(dataset, options)
    if restart:
        discard(work)
    with kept_when_full(work):
        (work / _FACES).mkdir(parents=True, exist_ok=True)
        with Journal.open(work / JOURNAL, plan.key(), len(plan)) as journal, one_opencv_thread():
            for folder in plan.folders():
                (work / _FACES / folder).mkdir(parents=True, exist_ok=True)
            _reopen(journal, plan, work / _FACES)
            begin(len(plan) - len(journal.done.todo), len(plan))
            _cut_faces(plan, journal, work / _FACES, tools, runner, progress)
            report = _finish(plan, journal.done, work, output)
            shutil.rmtree(work, ignore_errors=True)
    return report


def _cut_faces(
    plan: PreparePlan,
    journal: Journal,
    faces: Path,
    tools: Callable[[], FaceTools[Face]],
    runner: Runner,
    progress: Callable[[int], None],
) -> None:
    """Writes the face of every image that is not done."""
    todo = journal.done.todo
    size = _PIECE if isinstance(runner, Threads) else _CLUSTER_PIECE
    pieces = [todo[start : start + size] for start in range(0, len(todo), size)]

    def keep(indices: Indices, cut: list[Cut]) -> None:
        for index, (state, content) in zip(indices.tolist(), cut, strict=False):  # fewer, if told to stop
            if isinstance(content, bytes) and content:
                (faces / plan.name(index)).write_bytes(content)
            journal.add(index, state, content if isinstance(content, str) else len(content))

    make = partial(FaceCutter, plan.dataset, plan.options, tools)
    # on Ctrl-C and errors, images under way are finished and recorded, and no more are begun
    with closing(runner.run(make, pieces, keep)) as results:
        for cut in results:
            progress(len(cut))


class FaceCutter(Generic[Face]):
    """Cuts out the faces of a piece of the data set: the work of a task. Threads may share it."""

    def __init__(
        self, dataset: ImageDataset, options: PrepareOptions, tools: Callable[[], FaceTools[Face]]
    ) -> None:
        self._dataset, self._options, self._make = dataset, options, tools
        self._free: queue.SimpleQueue[FaceTools[Face]] = queue.SimpleQueue()
        cv2.setNumThreads(1)  # in a process of a cluster; see `one_opencv_thread`

    def __call__(self, indices: Indices, stop: Callable[[], bool]) -> list[Cut]:
        """What became of each image, in order; of the first ones alone where it is told to stop."""
        try:
            tools = self._free.get_nowait()
        except queue.Empty:
            tools = self._make()
        done = []
        try:
            for index in indices.tolist():
                if stop():
                    break
                done.append(self._cut(index, tools))
        finally:
            self._free.put(tools)
        return done

    def _cut(self, index: int, tools: FaceTools[Face]) -> Cut:
        sample, options = self._dataset.samples[index], self._options
        try:
            image = decode_rgb(sample.read(), sample.path)
            height, width = image.shape[:2]
            if sample.box is not None and not _is_within_reach(sample.box, width, height):
                raise UnreadableImageError(
                    sample.path, f"its box {sample.box} is no part of its {width}x{height} pixels"
                )
            center = options.missing == "center"
            crop = crop_face(image, sample.box, tools, center=center, margin=options.margin)
        except UnreadableImageError as error:
            return UNREADABLE, error.reason
        if crop is None:
            return MISSING, b""
        # OpenCV writes BGR
        face = cv2.imencode(f".{options.image_format}", crop.image[..., ::-1], options.encoding)[1]
        return crop.found, face.tobytes()


def _is_within_reach(box: Box, width: int, height: int) -> bool:
    """Whether a box overlaps the image and is not absurdly large, which would not fit in memory."""
    x, y, across, down = box
    overlaps = x < width and y < height and x + across > 0 and y + down > 0
    side = max(across, down)
    return overlaps and side <= 2 * max(width, height) and side * side <= max_pixels()


def _reopen(journal: Journal, plan: PreparePlan, faces: Path) -> None:
    """Reopens faces that are missing or changed (a power cut, a person), and unreadable images, which may have been
    repaired since."""
    for index in journal.done.indices(UNREADABLE).tolist():
        journal.forget(index)
    for index in journal.done.written.tolist():
        try:
            whole = (faces / plan.name(index)).stat().st_size == journal.done.size[index]
        except OSError:
            whole = False
        if not whole:
            journal.forget(index)


def _finish(plan: PreparePlan, done: Done, work: Path, output: Path) -> dict[str, Any]:
    if not len(done.written):
        unreadable, root = done.indices(UNREADABLE), plan.dataset.root
        shutil.rmtree(work, ignore_errors=True)  # nothing in it is worth keeping
        if len(unreadable) == len(plan):
            first = plan.sources[int(unreadable[0])]
            raise EdgefelError(
                f"{root}: none of its {counted(len(plan), 'image')} can be read ({first}: "
                f"{done.reasons[int(unreadable[0])]}); "
                "is it the right folder, and unpacked whole?"
            )
        raise EdgefelError(
            f"{root}: no face was found in any of its {counted(len(plan) - len(unreadable), 'readable image')}; give "
            "--no-detect if they are faces already, --missing center, or another --detector"
        )
    if plan.options.per_shard is None:
        ready, report = work / _FACES, write_files(work / _FACES, plan, done)
        _remove_strays(ready, plan, done)
    else:
        ready = work / _SHARDS
        report = write_as_shards(ready, work / _FACES, plan, done)
    put_in_place(work, ready.name, output)
    return report


def _remove_strays(faces: Path, plan: PreparePlan, done: Done) -> None:
    """Removes faces that are not among the results, and folders of classes that have none.

    Such a face is from a run that was killed before it was recorded, and its image can no longer be read.
    """
    for index in np.flatnonzero(~np.isin(np.arange(len(plan)), done.written)).tolist():
        (faces / plan.name(index)).unlink(missing_ok=True)
    folders = plan.folders()
    splits = {name.rpartition("/")[0] for name in folders} - {""}
    for folder in (faces / name for name in (*folders, *sorted(splits))):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
