"""Parquet files of images, and manifests in Parquet, for labelling: no labels are needed."""

from __future__ import annotations

from collections.abc import Iterator

from edgefel.data.readers.parquet import IMAGE, open_parquet
from edgefel.errors import EdgefelError, MissingDependencyError

_PATH = "path"
# rows of images in memory at once
_ROWS = 16


def has_images(place: str) -> bool:
    """Whether a Parquet file holds encoded images. Raises EdgefelError for what is no such file."""
    with open_parquet(place) as file:
        return IMAGE in file.schema_arrow.names


def image_paths(place: str) -> list[str]:
    """The column `path`. Raises EdgefelError for a file without it, or that cannot be read."""
    with open_parquet(place) as file:
        if _PATH not in file.schema_arrow.names:
            raise EdgefelError(
                f"{place}: missing column path or image; name the column of the images one of them"
            )
        return [path for path in file.read(columns=[_PATH]).column(0).to_pylist() if path]


def row_groups(place: str, rows: int) -> list[tuple[int, int] | None]:
    """The row groups of a Parquet file in runs of at least so many rows: the first of each run, and the one after it.

    [None] for a file that is damaged: it is the part that is read then, and says so.
    """
    try:
        with open_parquet(place) as file:
            about = file.metadata
            sizes = [about.row_group(number).num_rows for number in range(about.num_row_groups)]
    except MissingDependencyError:
        raise
    except EdgefelError:
        return [None]
    runs: list[tuple[int, int] | None] = []
    start = held = 0
    for number, size in enumerate(sizes):
        held += size
        if held >= rows or number == len(sizes) - 1:
            runs.append((start, number + 1))
            start, held = number + 1, 0
    return runs


def parquet_images(place: str, groups: tuple[int, int] | None) -> Iterator[tuple[str, bytes | None]]:
    """The name of each image of these row groups, by its path or number, and its bytes, None where there are none.

    Raises EdgefelError, when it comes to the place, for a file that is damaged or holds no images.
    """
    with open_parquet(place) as file:
        names, about = file.schema_arrow.names, file.metadata
        if IMAGE not in names:
            raise EdgefelError(f"{place}: has no column image, which is to hold the encoded images")
        columns = [name for name in (IMAGE, _PATH) if name in names]
        first, after = groups or (0, about.num_row_groups)
        row = sum(about.row_group(number).num_rows for number in range(first))
        batches = file.iter_batches(
            _ROWS, row_groups=list(range(first, after)), columns=columns, use_threads=False
        )
        for batch in batches:
            paths = batch.column(_PATH).to_pylist() if _PATH in columns else [None] * batch.num_rows
            for value, path in zip(batch.column(IMAGE), paths, strict=True):
                held = value.as_py()
                inner = held if isinstance(held, dict) else {"bytes": held}
                data = inner.get("bytes")
                name = str(path or inner.get("path") or f"row-{row}").lstrip("/")
                yield name, data if isinstance(data, bytes) else None
                row += 1
