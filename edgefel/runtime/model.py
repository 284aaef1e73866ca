"""The Python API, which `edgefel predict` and `edgefel run` are built on: images, videos and cameras in, faces out."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing
from functools import partial
from typing import Literal, get_args, overload

from edgefel.errors import EdgefelError
from edgefel.runtime.backends.choice import AUTO
from edgefel.runtime.batching import label_in_batches
from edgefel.runtime.faces import FaceDetector, make_detector
from edgefel.runtime.inputs import (
    ONE_IMAGE,
    Channels,
    ImageInput,
    TakenImage,
    check_several,
    read_image,
    take_image,
)
from edgefel.runtime.labelling import Thresholds, check_labelling
from edgefel.runtime.quality import DEFAULT_LEAST
from edgefel.runtime.results import Faces
from edgefel.runtime.session import Session
from edgefel.runtime.shipped import shipped_bundle
from edgefel.runtime.stream.capture import Decoder, SourceOptions, plan_source
from edgefel.runtime.stream.frames import FrameSource
from edgefel.runtime.stream.pipeline import Policy, Stream, StreamOptions
from edgefel.runtime.stream.sources import AHEAD, FolderSource, SourceImage
from edgefel.runtime.telemetry.telemetry import Telemetry
from edgefel.workers import in_threads

Errors = Literal["raise", "keep"]
# faces per frame for which a network is made ready before the first frame
STREAM_BATCHES = (1, 2, 3, 4)


def load(
    bundle: str | os.PathLike[str] | None = None,
    *,
    precision: str | None = None,
    backend: str = AUTO,
    threads: int | None = None,
    force: bool = False,
    mirror: bool = False,
    detector: str | None = None,
    detector_model: str | os.PathLike[str] | None = None,
    min_face: float | None = None,
    min_quality: float = DEFAULT_LEAST,
    min_confidence: float = 0.0,
) -> Model:
    """Opens a bundle of `edgefel export`, or without one the network that comes with edgefel. See docs/python.md.

    precision, backend, threads, force, mirror: as of `Session.open`. detector: "haar", "yunet", or "none" for images
    that are face crops; without one YuNet where `edgefel detector get` has put its file, else Haar. detector_model:
    another file of YuNet's network. min_face: minimum face size, as a share of the image's shorter side. min_quality,
    min_confidence: below them a face is "unsure", 0 to 1.

    Raises EdgefelError for what `make_detector` and `Session.open` refuse, for thresholds out of range, and where this
    installation holds no network.
    """
    thresholds = Thresholds(min_quality, min_confidence)
    make = partial(make_detector, detector, detector_model, min_share=min_face, threads=threads)
    first = make()
    folder = shipped_bundle() if bundle is None else bundle
    session = Session.open(folder, precision, backend, threads, force, mirror=mirror)
    try:
        model = Model(session, make, thresholds, first)
        model.warm_up()
    except BaseException:
        session.close()
        raise
    return model


class Model(AbstractContextManager["Model"]):
    """A network and a face detector, ready to label. Use `edgefel.load`.

    session: the open network, which takes face crops. detector: what finds faces, in words. Calls of all methods may
    come from several threads at the same time; each running call has a detector of its own.
    """

    def __init__(
        self,
        session: Session,
        make: Callable[[], FaceDetector],
        thresholds: Thresholds = Thresholds(),  # noqa: B008 - frozen
        first: FaceDetector | None = None,
    ) -> None:
        """make: a new detector, for one thread. first: one that was made already.

        Raises EdgefelError for a bundle without the output `primary`.
        """
        check_labelling(session)
        self.session = session
        self._make, self._thresholds = make, thresholds
        self._idle: list[FaceDetector] = [make() if first is None else first]
        self.detector = str(getattr(self._idle[0], "description", type(self._idle[0]).__name__))
        self._warm: set[int] = set()

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names in the network's order."""
        return self.session.labels

    @overload
    def __call__(  # type: ignore[overload-overlap] # a string is an iterable of strings too
        self, images: ImageInput, *, channels: Channels | None = None, errors: Errors = "raise"
    ) -> Faces: ...

    # any iterable will do; but an array is one too, and would make the result Any
    @overload
    def __call__(
        self,
        images: Sequence[ImageInput] | Iterator[ImageInput],
        *,
        channels: Channels | None = None,
        errors: Errors = "raise",
    ) -> list[Faces]: ...

    def __call__(
        self,
        images: ImageInput | Iterable[ImageInput],
        *,
        channels: Channels | None = None,
        errors: Errors = "raise",
    ) -> Faces | list[Faces]:
        """The faces of one image; of a list or another iterable of images, a list.

        images: paths, encoded images as bytes, or arrays: grey [H, W] or [H, W, 1], colour [H, W, 3], with alpha, which
        is ignored, [H, W, 4]; uint8, or uint16 and real numbers as image files hold. channels: the order of colour in
        arrays, "rgb" or "bgr" (OpenCV), which has no default. errors: "keep" gives an image that cannot be read an
        empty result with the `error`.

        Raises EdgefelError for an array without its order, for what is no image, and on a closed model; its subclass
        UnreadableImageError for an image that cannot be read, unless errors is "keep".
        """
        if isinstance(images, ONE_IMAGE):
            (faces,) = self._results([images], channels, errors, workers=0)
            return faces
        return list(self.map(images, channels=channels, errors=errors))

    def map(
        self,
        images: Iterable[ImageInput],
        *,
        channels: Channels | None = None,
        errors: Errors = "raise",
    ) -> Iterator[Faces]:
        """As the call with several images, but one result by one, in order; one thread iterates.

        A few images are read ahead, and their faces labelled together. Raises what the call raises, when it comes to
        the image.
        """
        check_several(images)
        return self._results(images, channels, errors, workers=1)

    def stream(
        self,
        source: str | int | os.PathLike[str] | FrameSource,
        *,
        size: tuple[int, int] | None = None,
        fps: float | None = None,
        loop: bool = False,
        decoder: Decoder = "auto",
        patience: float = 10.0,
        policy: Policy | Literal["auto"] = "auto",
        detect_every: int = 1,
        smoothing: float = 0.2,
        frames: int | None = None,
        seconds: float | None = None,
        telemetry: Telemetry | None = None,
    ) -> Stream:
        """Opens a source and labels its frames, person by person, while the stream is iterated.

        source: as of `plan_source`: a camera's number, "csi", an address, a video, an image or a folder of images; or a
        source that is open. size, fps, loop, decoder, patience: of a source that is not, see `SourceOptions`. policy,
        detect_every, smoothing, frames, seconds: see `StreamOptions`. telemetry: see `Stream`.

        Raises EdgefelError for a source that cannot be opened, options out of range, and a closed model.
        """
        self._check_open()
        open_source = _opener(source, SourceOptions(size, fps, loop, decoder, patience))
        self.warm_up(STREAM_BATCHES)
        detector = self.take_detector()
        opened = open_source()
        try:
            options = StreamOptions(
                policy=policy,
                detect_every=detect_every,
                smoothing=smoothing,
                min_confidence=self._thresholds.min_confidence,
                min_quality=self._thresholds.min_quality,
                frames=frames,
                seconds=seconds,
                images=isinstance(opened, FolderSource) and opened.unrelated,
            )
            return Stream(opened, detector, self.session, options, telemetry)
        except BaseException:
            opened.close()
            raise

    def label_images(
        self, images: Iterable[SourceImage], *, keep: bool = False
    ) -> Generator[tuple[SourceImage, Faces], None, None]:
        """Each image with its faces, in order, as `label_in_batches` gives them."""
        detector = self.take_detector()
        try:
            yield from label_in_batches(images, detector, self.session, self._thresholds, keep=keep)
        finally:
            self._idle.append(detector)

    def take_detector(self) -> FaceDetector:
        """A face detector that no other call uses, for one thread. Raises EdgefelError on a closed model."""
        self._check_open()
        try:
            return self._idle.pop()
        except IndexError:
            return self._make()

    def warm_up(self, batches: Sequence[int] = (1,)) -> None:
        """As `Session.warm_up`, for numbers of faces for which it was not done yet."""
        new = [size for size in batches if size not in self._warm]
        if new:
            self.session.warm_up(batches=new)
            self._warm.update(new)

    def close(self) -> None:
        """Frees the network, at once or when what it computes has ended; a second call does nothing.

        Calls and streams that are running raise EdgefelError when they come to the network again.
        """
        self.session.close()
        self._idle.clear()

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        session = self.session
        state = ", closed" if session.closed else ""
        return f"<Model {session.manifest.folder.name}: {session.file.name} by {session.backend}{state}>"

    def _results(
        self, images: Iterable[ImageInput], channels: Channels | None, errors: str, workers: int
    ) -> Iterator[Faces]:
        """The work of a call. workers: threads that decode files; 0 is this one."""
        if errors not in get_args(Errors):
            raise EdgefelError(f"errors is {errors!r}; give 'raise' or 'keep'")
        self._check_open()

        def taken() -> Iterator[tuple[TakenImage, str]]:
            for number, image in enumerate(images):
                name = f"image {number}" if workers else "image"
                yield take_image(image, channels, name, copy=workers > 0), name

        def results() -> Iterator[Faces]:
            read = in_threads(lambda item: read_image(*item), taken(), workers, ahead=AHEAD)
            with closing(read), closing(self.label_images(read)) as labelled:
                for _, faces in labelled:
                    if faces.error is not None and errors == "raise":
                        raise faces.error
                    yield faces

        return results()

    def _check_open(self) -> None:
        if self.session.closed:
            raise EdgefelError(f"{self.session.manifest.folder}: the model is closed; load it again")


def _opener(
    source: str | int | os.PathLike[str] | FrameSource, options: SourceOptions
) -> Callable[[], FrameSource]:
    """What opens a source that is checked, or gives the open one."""
    if isinstance(source, str | int | os.PathLike):
        return plan_source(source, options).open
    if not hasattr(source, "read"):
        kind = type(source).__name__
        raise EdgefelError(
            f"a value of type {kind} is no source; give a camera's number, a URL, a video or images"
        )
    if options != SourceOptions():
        raise EdgefelError(f"{source.name}: is open already; give its options where it is opened")
    return lambda: source
