"""Labels every image of a source: `edgefel predict` without the printing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field
from pathlib import Path

from edgefel.data.images import IMAGE_SUFFIXES, UnreadableImageError, write_image
from edgefel.data.preprocessing import Image
from edgefel.data.recording import VideoWriter, check_video_target
from edgefel.errors import EdgefelError
from edgefel.files.write import atomic_file
from edgefel.runtime.annotate import annotate, annotate_crop
from edgefel.runtime.model import Model
from edgefel.runtime.results import Faces
from edgefel.runtime.stream.sources import VIDEO_SUFFIXES, Source, SourceImage
from edgefel.text import counted


@dataclass
class PredictSummary:
    """Totals of a run over a source.

    lost_frames: of a video, missing at its end or impossible to decode. kept: recordings of earlier runs that were cut
    off, under the names that they have now. misframed: faces that could not be framed as in training, by reason.
    unsure: faces whose quality is too low, by its least part. left_out: what else looks like images or videos, by
    suffix.
    """

    images: int = 0
    faces: int = 0
    without_face: int = 0
    lost_frames: int = 0
    misframed: Counter[str] = field(default_factory=Counter)
    unsure: Counter[str] = field(default_factory=Counter)
    unreadable: list[UnreadableImageError] = field(default_factory=list)
    saved: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    left_out: Mapping[str, int] = field(default_factory=dict)

    def add(self, faces: Faces) -> None:
        """Counts an image with its faces."""
        self.images += 1
        self.faces += len(faces)
        self.without_face += not faces
        self.misframed.update(face.misframed for face in faces if face.misframed)
        self.unsure.update(face.quality_parts.worst for face in faces if face.quality_parts and not face.sure)


def predict_source(
    source: Source,
    model: Model,
    *,
    save: Path | None = None,
    overwrite: bool = False,
    every: int = 1,
    each: Callable[[Faces], None] = lambda faces: None,
    advance: Callable[[], None] = lambda: None,
) -> PredictSummary:
    """Labels every image of a source, handing its faces to `each` in order: see `Model.label_images`.

    save: folder for annotated images (same relative names), or for the one annotated video, whose frames keep the
    times of the source. overwrite: whether files there may be replaced. every: each n-th frame of a video. advance:
    called after each image, also after an unreadable one.
    Raises EdgefelError if nothing of the source could be read, and what `check_save` raises.
    """
    summary = PredictSummary(left_out=source.left_out)
    if save is not None:
        check_save(source, save, overwrite=overwrite)

    def count_lost(frames: int) -> None:
        summary.lost_frames += frames

    def skip(file: Path, reason: str) -> None:
        summary.unreadable.append(UnreadableImageError(file, reason))
        advance()

    with (
        _Saver(source, save, every, overwrite, summary) as saver,
        closing(source.images(skip, every, count_lost)) as images,
        closing(model.label_images(images, keep=save is not None)) as labelled,
    ):
        for image, faces in labelled:
            summary.add(faces)
            if save is not None:
                saver.write(image, _annotated(image.image, faces))
            each(faces)
            advance()
    if not summary.images:
        raise _nothing_read(source.path, summary.unreadable)
    return summary


def _nothing_read(path: Path, unreadable: Sequence[UnreadableImageError]) -> EdgefelError:
    if not unreadable:
        return EdgefelError(f"{path}: nothing in it can be read; is it truncated, or another format?")
    first = unreadable[0]
    if first.path == path:
        return first
    return EdgefelError(
        f"{path}: none of its {counted(len(unreadable), 'image')} can be read; first: {first}"
    )


def _annotated(image: Image, faces: Faces) -> Image:
    whole = bool(faces) and faces[0].size is not None
    # a panel inside an image that is one face would hide it
    return annotate_crop(image, faces[0]) if whole else annotate(image, faces)


def check_save(source: Source, folder: Path, *, overwrite: bool) -> None:
    """Raises EdgefelError where annotated images of the source cannot be saved in a folder, or would replace files.

    A file that appears later is not replaced either, unless `overwrite` is set.
    """
    if folder.exists() and not folder.is_dir():
        raise EdgefelError(f"{folder}: exists and is not a folder; choose another one with --save")
    if folder.suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES:
        raise EdgefelError(f"{folder}: --save takes a folder; names are those of the images")
    if source.kind == "folder" and folder.resolve().is_relative_to(source.path.resolve()):
        raise EdgefelError(
            f"{folder}: lies in the source {source.path}, and would be labelled with it the next time; "
            f"choose a folder outside with --save"
        )
    for file in source.files:
        target = _target(source, folder, file)
        if target.resolve() == file.resolve():
            raise EdgefelError(
                f"{target}: would overwrite the {'video' if source.kind == 'video' else 'image'} itself; "
                f"choose another folder with --save"
            )
        if source.kind == "video":
            check_video_target(target, overwrite=overwrite)
        elif target.exists() and not overwrite:
            raise EdgefelError(
                f"{target}: exists; choose another folder with --save, or allow it with --overwrite"
            )


def _target(source: Source, folder: Path, file: Path) -> Path:
    if source.kind == "video":
        return folder / f"{file.stem}.mp4"
    return folder / file.relative_to(source.path if source.kind == "folder" else file.parent)


class _Saver(AbstractContextManager["_Saver"]):
    """Writes annotated images as they come, and a video under its name only when it is complete.

    The names of what was written, and of earlier recordings that were never completed, go into the summary.
    """

    def __init__(
        self, source: Source, folder: Path | None, every: int, overwrite: bool, summary: PredictSummary
    ) -> None:
        self._source, self._folder, self._overwrite, self._summary = source, folder, overwrite, summary
        self._fps = source.fps / every
        self._video: VideoWriter | None = None

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if self._video is not None:
            (self._video.close if kind is None else self._video.discard)()

    def write(self, one: SourceImage, image: Image) -> None:
        assert self._folder is not None
        assert one.name is not None
        target = _target(self._source, self._folder, Path(one.name))
        if one.time is None:
            if target.exists() and not self._overwrite:
                raise EdgefelError(f"{target}: appeared meanwhile; allow it with --overwrite")
            with atomic_file(target) as temporary:
                write_image(temporary, image)
            self._summary.saved.append(str(target))
            return
        if self._video is None:
            self._video = VideoWriter(target, self._fps, overwrite=self._overwrite)
            self._summary.kept += [str(self._video.kept)] if self._video.kept else []
            self._summary.saved.append(str(target))
        self._video.write(image, one.time)
