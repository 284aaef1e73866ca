"""Labels a whole source: what `edgefel predict` does, without the printing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2

from edgefel.data.pictures import write_picture
from edgefel.errors import EdgefelError
from edgefel.files import atomic_file
from edgefel.inputs import native_path
from edgefel.runtime.annotate import annotate, annotate_crop
from edgefel.runtime.faces import FaceDetector, WholePicture
from edgefel.runtime.labelling import LabelledFace, label_faces
from edgefel.runtime.preprocessing import Image
from edgefel.runtime.session import Session
from edgefel.runtime.sources import IMAGE_SUFFIXES, VIDEO_SUFFIXES, Picture, Source


@dataclass(frozen=True)
class PictureResult:
    """The labelled faces of one picture; an empty list if it shows none."""

    picture: str
    faces: tuple[LabelledFace, ...]
    frame: int | None = None
    time: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; a video's frames also have `frame` and `time` (seconds)."""
        result: dict[str, Any] = {"source": self.picture}
        if self.frame is not None:
            result |= {"frame": self.frame, "time": self.time}
        return result | {"faces": [face.to_dict() for face in self.faces]}


@dataclass
class Summary:
    """What a run over a source came to.

    lost_frames: how many less a video held than it announced. unreadable: each with the reason in brackets. left_out:
    what else looks like pictures or videos, by suffix.
    """

    pictures: int = 0
    faces: int = 0
    without_face: int = 0
    lost_frames: int = 0
    unreadable: list[str] = field(default_factory=list)
    saved: list[str] = field(default_factory=list)
    left_out: Mapping[str, int] = field(default_factory=dict)


def predict_source(
    source: Source,
    detector: FaceDetector,
    session: Session,
    *,
    save: Path | None = None,
    every: int = 1,
    each: Callable[[PictureResult], None] = lambda result: None,
    advance: Callable[[], None] = lambda: None,
) -> Summary:
    """Labels every picture of a source, handing each result to `each` as it comes.

    save: folder for annotated pictures (same relative names), or for the one annotated video. every: each
    n-th frame of a video. advance: called after each picture, also after an unreadable one.
    Raises EdgefelError if nothing of the source could be read.
    """
    summary = Summary(left_out=source.left_out)

    def skip(file: Path, reason: str) -> None:
        summary.unreadable.append(f"{file} ({reason})")
        advance()

    with _Saver(source, save, every) as saver:
        for picture in source.pictures(skip, every):
            faces = tuple(label_faces(picture.image, detector, session))
            summary.pictures += 1
            summary.faces += len(faces)
            summary.without_face += not faces
            if save is not None:
                saver.write(picture, _annotated(picture.image, faces, detector))
            each(PictureResult(picture.name, faces, picture.frame, picture.time))
            advance()
        if not summary.pictures:
            first = f" ({summary.unreadable[0]})" if summary.unreadable else ""
            raise EdgefelError(
                f"{source.path}: nothing in it can be read{first}; is it truncated, or another format?"
            )
    if source.kind == "video":
        summary.lost_frames = max(0, -(-source.frames // every) - summary.pictures)
    summary.saved = saver.saved
    return summary


def _annotated(picture: Image, faces: Sequence[LabelledFace], detector: FaceDetector) -> Image:
    """Where the picture is the face, a panel inside would hide it."""
    return (
        annotate_crop(picture, faces[0]) if isinstance(detector, WholePicture) else annotate(picture, faces)
    )


class _Saver:
    """Writes annotated pictures as they come, and a video under its name only when it is complete."""

    def __init__(self, source: Source, folder: Path | None, every: int) -> None:
        if folder is not None and folder.exists() and not folder.is_dir():
            raise EdgefelError(f"{folder}: exists and is not a folder; choose another one with --save")
        if folder is not None and folder.suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES:
            raise EdgefelError(f"{folder}: --save takes a folder; names are those of the pictures")
        if folder is not None and source.kind == "folder" and _is_within(folder, source.path):
            raise EdgefelError(
                f"{folder}: lies in the source {source.path}, and would be labelled with it the next time; "
                f"choose a folder outside with --save"
            )
        if folder is not None and source.kind == "video":
            native_path(folder)
        self._source, self._folder = source, folder
        self._fps = source.fps / every
        self._stack = ExitStack()
        self._video: cv2.VideoWriter | None = None
        self._size = (0, 0)
        self.saved: list[str] = []

    def __enter__(self) -> _Saver:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._video is not None:
            self._video.release()
        self._stack.__exit__(kind, error, trace)

    def write(self, picture: Picture, image: Image) -> None:
        assert self._folder is not None
        if self._source.kind == "video":
            self._write_frame(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))  # type: ignore[arg-type]
            return
        file = Path(picture.name)
        root = self._source.path if self._source.kind == "folder" else file.parent
        target = self._folder / file.relative_to(root)
        if target.resolve() == file.resolve():
            raise EdgefelError(
                f"{target}: would overwrite the picture itself; choose another folder with --save"
            )
        with atomic_file(target) as temporary:
            write_picture(temporary, image)
        self.saved.append(str(target))

    def _write_frame(self, frame: Image) -> None:
        assert self._folder is not None
        if self._video is None:
            target = self._folder / f"{self._source.path.stem}.mp4"
            if target.resolve() == self._source.path.resolve():
                raise EdgefelError(
                    f"{target}: would overwrite the video itself; choose another folder with --save"
                )
            temporary = self._stack.enter_context(atomic_file(target))
            self._size = (frame.shape[1], frame.shape[0])
            codec = cv2.VideoWriter.fourcc(*"mp4v")
            self._video = cv2.VideoWriter(str(temporary), codec, self._fps, self._size)
            if not self._video.isOpened():
                raise EdgefelError(
                    f"{target}: OpenCV cannot write MP4 here; save pictures of single frames instead"
                )
            self.saved.append(str(target))
        if (frame.shape[1], frame.shape[0]) != self._size:  # a stream may change its resolution
            frame = cv2.resize(frame, self._size)  # type: ignore[assignment]
        self._video.write(frame)


def _is_within(path: Path, folder: Path) -> bool:
    return folder.resolve() in (path.resolve(), *path.resolve().parents)
