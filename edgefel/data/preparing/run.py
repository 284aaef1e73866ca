"""Prepares training faces from a data set of images: detected, levelled, cut out and written in the training layout.

Images are divided among threads. Decoding, detection and encoding happen in OpenCV, which releases the interpreter:
with 300 images of 640x500 pixels, on two cores, two threads were 2.1 times as fast as one, and two processes 1.9
times; each process would also need a copy of the data set.

Work is done in a hidden folder beside the output, `.NAME.partial`: `faces/` and a journal. At the end `faces/` (or the
shards made of it) is renamed to the output atomically. Until then the same call continues after whatever ended the
process; the result depends neither on that nor on the number of threads.
"""

from __future__ import annotations

import os
import queue
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgefel.data.dataset import Box, ImageDataset
from edgefel.data.images import UnreadableImageError, decode_rgb, max_pixels
from edgefel.data.preparing.faces import Face, FaceTools, crop_face
from edgefel.data.preparing.journal import MISSING, UNREADABLE, Done, Journal, held
from edgefel.data.preparing.output import write_as_shards, write_files
from edgefel.data.preparing.plan import PrepareOptions, PreparePlan
from edgefel.errors import EdgefelError
from edgefel.files.write import DISK_FULL, check_free, put_new_folder
from edgefel.text import counted
from edgefel.workers import in_threads

_PIECE = 8  # images that a thread takes at once
_AHEAD = 4
_JOURNAL, _FACES, _SHARDS = "journal", "faces", "shards"
_READY = "ready"  # file that names the folder being put in place


def partial_folder(output: str | os.PathLike[str]) -> Path:
    """The folder of unfinished work for this output."""
    path = Path(output).resolve()
    return path.with_name(f".{path.name}.partial")


def prepare(
    dataset: ImageDataset,
    output: str | os.PathLike[str],
    tools: Callable[[], FaceTools[Face]],
    options: PrepareOptions | None = None,
    *,
    workers: int = 1,
    restart: bool = False,
    begin: Callable[[int, int], None] = lambda done, total: None,
    progress: Callable[[int], None] = lambda done: None,
) -> dict[str, Any]:
    """Writes the face of every image into the folder `output`, which the reader `folder` opens, or into shards.

    Labels, groups, splits and soft labels are the data set's. tools: makes the runtime's detector and aligner, once
    for each of the `workers` threads. restart: discards the work of an unfinished run. begin: called with the number
    of images that are done already, and of all. progress: called with the number of newly done ones. Returns the
    contents of prepare.json. Unreadable images, and those without a face unless `options.missing` is "center", are
    left out and named.

    Raises EdgefelError for an output that is not empty or is in the data set, unfinished work of other options or
    data, a full disk (finished work is kept), and if no image can be read or no face is found.
    """
    options = options or PrepareOptions()
    output = Path(output)
    if workers < 1:
        raise EdgefelError(f"{workers} workers: give at least 1")
    work = partial_folder(output)
    _sweep(work)
    check_free(output)
    _check_outside(output, dataset.root)
    free: queue.SimpleQueue[FaceTools[Face]] = queue.SimpleQueue()
    free.put(tools())  # at once, so that its errors appear early
    plan = PreparePlan.of(dataset, options)
    if restart:
        _discard(work)
    try:
        (work / _FACES).mkdir(parents=True, exist_ok=True)
        with Journal.open(work / _JOURNAL, plan.key(), len(plan)) as journal, _one_thread_each():
            for folder in plan.folders():
                (work / _FACES / folder).mkdir(parents=True, exist_ok=True)
            _reopen(journal, plan, work / _FACES)
            begin(len(plan) - len(journal.done.todo), len(plan))
            _cut_faces(plan, journal, work / _FACES, free, tools, workers, progress)
            report = _finish(plan, journal.done, work, output)
            shutil.rmtree(work, ignore_errors=True)
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        raise EdgefelError(
            f"{work}: cannot be written ({error.strerror}); free disk space and give the same command again: what is "
            "done is kept there"
        ) from None
    return report


def _cut_faces(
    plan: PreparePlan,
    journal: Journal,
    faces: Path,
    free: queue.SimpleQueue[FaceTools[Face]],
    make: Callable[[], FaceTools[Face]],
    workers: int,
    progress: Callable[[int], None],
) -> None:
    """Writes the face of every image that is not done, in threads. free: tools that no thread uses."""
    stop = threading.Event()

    def cut_piece(indices: NDArray[np.int64]) -> int:
        try:
            tools = free.get_nowait()
        except queue.Empty:
            tools = make()
        try:
            for done, index in enumerate(indices.tolist()):
                if stop.is_set():
                    return done
                _cut_face(plan, index, tools, faces, journal)
        except BaseException:
            stop.set()
            raise
        finally:
            free.put(tools)
        return len(indices)

    todo = journal.done.todo
    pieces = [todo[start : start + _PIECE] for start in range(0, len(todo), _PIECE)]
    # on Ctrl-C and errors, images under way are finished and recorded, and no more are begun
    with closing(in_threads(cut_piece, pieces, workers, ahead=_AHEAD, stop=stop.set)) as counts:
        for count in counts:
            progress(count)


def _cut_face(plan: PreparePlan, index: int, tools: FaceTools[Face], faces: Path, journal: Journal) -> None:
    sample, options = plan.dataset.samples[index], plan.options
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
        journal.add(index, UNREADABLE, error.reason)
        return
    if crop is None:
        journal.add(index, MISSING)
        return
    # OpenCV writes BGR
    data = cv2.imencode(f".{options.image_format}", crop.image[..., ::-1], options.encoding)[1].tobytes()
    (faces / plan.name(index)).write_bytes(data)
    journal.add(index, crop.found, len(data))


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
    if hasattr(os, "sync"):  # once for all files: one by one would take as long as the faces did
        os.sync()
    output.parent.mkdir(parents=True, exist_ok=True)
    (work / _READY).write_text(ready.name, encoding="utf-8")
    put_new_folder(ready, output.resolve())
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


def _check_outside(output: Path, root: Path) -> None:
    inside, around = (Path(os.path.realpath(path)) for path in (output, root))
    if around.is_dir() and around in (inside, *inside.parents):
        raise EdgefelError(
            f"{output}: lies in the data set {root}, and would be a part of it the next time; choose a folder outside"
        )


def _discard(work: Path) -> None:
    """Removes the work of an unfinished run, unless it is still running."""
    if (work / _JOURNAL).is_file():
        with held(work / _JOURNAL):
            shutil.rmtree(work, ignore_errors=True)
    elif work.is_dir() and any(work.iterdir()):
        raise EdgefelError(f"{work}: has no journal, so it is not this command's; move it away")


def _sweep(work: Path) -> None:
    """Removes what is left of a run that was killed after its output was in place."""
    try:
        ready = (work / _READY).read_text(encoding="utf-8")
    except OSError:
        return
    if ready in (_FACES, _SHARDS) and not (work / ready).exists() and (work / _JOURNAL).is_file():
        with suppress(EdgefelError), held(work / _JOURNAL):
            shutil.rmtree(work, ignore_errors=True)


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Limits OpenCV to one thread in each of ours."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)
