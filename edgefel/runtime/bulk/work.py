"""Labels one part: the work of a task, by the batches of `edgefel predict`."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import cv2

from edgefel import __version__
from edgefel.data.readers.parquet import pyarrow
from edgefel.errors import EdgefelError
from edgefel.files.write import sha256
from edgefel.runtime.bulk.plan import Part
from edgefel.runtime.bulk.reading import PartReader
from edgefel.runtime.bulk.table import Counts, as_parquet, rows_of, schema
from edgefel.runtime.faces import choose_detector
from edgefel.runtime.model import Model, load
from edgefel.runtime.quality import DEFAULT_LEAST
from edgefel.runtime.stream.sources import SourceImage
from edgefel.tasks.runner import Stopped


@dataclass(frozen=True)
class Network:
    """The network and the face detector, as of `edgefel.load`, in plain values that go to other processes.

    every: each n-th frame of a video. sha256: of the network's file, once it is chosen.
    """

    bundle: Path
    precision: str | None = None
    backend: str = "auto"
    force: bool = False
    detector: str | None = None
    detector_model: Path | None = None
    min_face: float | None = None
    min_quality: float = DEFAULT_LEAST
    min_confidence: float = 0.0
    every: int = 1
    sha256: str | None = None

    def open(self) -> Model:
        """Loads it for calls from several threads, each with one core.

        Raises what `edgefel.load` raises, and EdgefelError where that takes another file than was chosen.
        """
        options = {name: value for name, value in vars(self).items() if name not in ("every", "sha256")}
        model = load(**options, threads=1)
        file = model.session.file
        if self.sha256 not in (None, file.sha256):
            model.close()
            raise EdgefelError(
                f"{self.bundle}: {file.name} is another file on this machine than where the command was given; copy "
                "the bundle to the same path on all machines"
            )
        return model

    def chosen(self, model: Model) -> Network:
        """The same with what `auto` has taken here, so that all machines take it."""
        detector, file = choose_detector(self.detector, self.detector_model)
        session = model.session
        return replace(
            self,
            bundle=self.bundle.absolute(),
            precision=session.precision,
            backend=session.backend,
            detector=detector,
            detector_model=None if file is None else file.absolute(),
            sha256=session.file.sha256,
        )

    def described(self) -> dict[str, Any]:
        """What decides the labels, as plain JSON values: files by their hashes, and versions."""
        values = asdict(self) | {"bundle": self.bundle.name}
        values["detector_model"] = None if self.detector_model is None else sha256(self.detector_model)
        versions = {"edgefel": __version__, "opencv": cv2.__version__, "pyarrow": pyarrow().__version__}
        return values | versions


@dataclass(frozen=True)
class LabelledPart:
    """A part's Parquet file, and what it came to. broken: why the rest of it could not be read."""

    data: bytes
    counts: Counts
    broken: str | None


class Labeller:
    """Labels parts. Threads may share it."""

    def __init__(self, network: Network) -> None:
        """Raises what `Network.open` raises."""
        # in a process of a cluster: more threads could bring a detector's windows in another order
        cv2.setNumThreads(1)
        self._network = network
        self._model = network.open()
        self._columns = schema(self._model.labels)

    def __call__(self, part: Part, stop: Callable[[], bool]) -> LabelledPart:
        """Memory: one image, the faces of a batch, and the rows of the part. Raises Stopped if told to stop."""
        reader, counts = PartReader(part, self._network.every), Counts()
        rows: list[dict[str, Any]] = []

        def images() -> Generator[SourceImage, None, None]:
            for image in reader.images():
                if stop():
                    raise Stopped
                yield image

        with closing(images()) as read, closing(self._model.label_images(read)) as labelled:
            for _, faces in labelled:
                counts.add(faces)
                rows += rows_of(faces)
        counts.lost_frames = reader.lost_frames
        return LabelledPart(as_parquet(rows, self._columns), counts, reader.broken)
