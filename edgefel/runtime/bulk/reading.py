"""Reads the images of a part, and says how far it came."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from edgefel.data.images import MOST_BYTES, UnreadableImageError, decode_rgb
from edgefel.data.readers.tar_members import UNREADABLE, encoded_images
from edgefel.errors import EdgefelError
from edgefel.files.read import open_binary, read_regular, reason
from edgefel.files.remote import joined
from edgefel.runtime.bulk.parquet_files import parquet_images
from edgefel.runtime.bulk.plan import Part
from edgefel.runtime.stream.sources import NO_PIXELS, SourceImage, open_source
from edgefel.text import one_line


class PartReader:
    """The images of one part. broken: why the rest of a shard or video could not be read, None if all was. lost_frames:
    of a video, missing or impossible to decode."""

    def __init__(self, part: Part, every: int = 1) -> None:
        """every: each n-th frame of a video."""
        self.part, self._every = part, every
        self.broken: str | None = None
        self.lost_frames = 0

    def images(self) -> Iterator[SourceImage]:
        """Each image in order, its name within the source; one that cannot be read has the error. One is in memory."""
        if self.part.kind == "video":
            yield from self._frames()
            return
        for name, data in self._encoded():
            if isinstance(data, UnreadableImageError):
                yield SourceImage(name, NO_PIXELS, error=data)
                continue
            try:
                yield SourceImage(name, decode_rgb(data, Path(name)))
            except UnreadableImageError as error:
                yield SourceImage(name, NO_PIXELS, error=error)

    def _encoded(self) -> Iterator[tuple[str, bytes | UnreadableImageError]]:
        part = self.part
        if part.kind == "images":
            for name in part.names:
                yield name, _read(joined(part.place, name), name)
            return
        try:
            if part.kind == "tar":
                with open_binary(part.place) as stream:
                    for name, data in encoded_images(stream):
                        yield f"{part.name}/{name}", data
            else:
                for name, held in parquet_images(part.place, part.groups):
                    shown = f"{part.name}/{name}"
                    yield shown, held if held is not None else UnreadableImageError(Path(shown), "no bytes")
        except (*UNREADABLE, EdgefelError) as error:
            self._break_off(error)

    def _break_off(self, error: Exception) -> None:
        said = reason(error) if isinstance(error, OSError) else one_line(error)
        self.broken = said.removeprefix(f"{self.part.place}: ")

    def _frames(self) -> Iterator[SourceImage]:
        def lost(frames: int) -> None:
            self.lost_frames = frames

        try:
            source = open_source(self.part.place)
            with closing(source.images(every=self._every, lost=lost)) as images:
                for image in images:
                    yield SourceImage(self.part.name, image.image, image.frame, image.time)
        except EdgefelError as error:
            self._break_off(error)


def _read(place: str, name: str) -> bytes | UnreadableImageError:
    try:
        return read_regular(place, MOST_BYTES)
    except OSError as error:
        return UnreadableImageError(Path(name), f"cannot be read ({reason(error)})")
    except ValueError:  # a NUL in a listed name
        return UnreadableImageError(Path(name), "is not a file name")
