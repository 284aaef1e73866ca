"""Manifests in Parquet, and images within such a file.

It alone reads such files, for labelling too (`edgefel.runtime.bulk`), and imports pyarrow when one is opened.
"""

from __future__ import annotations

import importlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np

from edgefel.data.dataset import FileStore
from edgefel.data.readers.base import Coded, Columns, PackedNames, check_columns
from edgefel.errors import EdgefelError, MissingDependencyError
from edgefel.files.documents import parse_json
from edgefel.files.read import open_binary
from edgefel.text import counted, one_line

IMAGE = "image"
# by each process, for shuffled reading; a row group of Hugging Face's files has some 10 to 100 MB
_KEPT_GROUPS = 4


def pyarrow(module: str = "pyarrow") -> Any:
    """A module of pyarrow. Raises MissingDependencyError without it."""
    try:
        importlib.import_module("pyarrow.compute")
        return importlib.import_module(module)
    except ImportError:
        raise MissingDependencyError("pyarrow", "data", "Parquet files") from None


@contextmanager
def open_parquet(path: str | os.PathLike[str]) -> Iterator[Any]:
    """A `pyarrow.parquet.ParquetFile`, of which only the columns and row groups that are read are fetched.

    Raises EdgefelError, also within the block, for what pyarrow raises of a file.
    """
    arrow, parquet = pyarrow(), pyarrow("pyarrow.parquet")
    try:
        # pyarrow asks for whole chunks of columns
        with open_binary(path, ahead=False) as stream, parquet.ParquetFile(stream) as file:
            yield file
    except (OSError, arrow.ArrowException) as error:
        raise EdgefelError(f"{path}: cannot be read as a Parquet file ({one_line(error)})") from None


class ParquetStore:
    """Encoded images in the column `image` of a Parquet file.

    Reading an image reads its whole row group. The last few groups are kept, so that reading in order is quick; for
    shuffled reading of a large file, write it as shards first (`edgefel.data.readers.shard_writer.write_shards`).
    """

    def __init__(self, path: Path, names: PackedNames) -> None:
        self._path, self._names = path, names
        with open_parquet(path) as file:
            sizes = [file.metadata.row_group(n).num_rows for n in range(file.metadata.num_row_groups)]
        self._starts = np.cumsum([0, *sizes])
        self._open()

    def path(self, index: int) -> Path:
        """Path of the file, followed by the image's own path or the number of its row."""
        return self._path / self._names[index].lstrip("/")

    def read(self, index: int) -> bytes:
        """The encoded image. Raises OSError."""
        if self._process != os.getpid():
            self._open()  # a forked process must not share the lock
        number = int(np.searchsorted(self._starts, index, side="right")) - 1
        with self._lock:  # threads that need the same group wait for one that reads it
            group = self._group(number)
        data = group[index - int(self._starts[number])].as_py()
        if data is None:
            raise OSError("the file holds no bytes for it")
        return bytes(data)

    def _read_group(self, number: int) -> Any:
        parquet, arrow = pyarrow("pyarrow.parquet"), pyarrow()
        try:
            with open_binary(self._path, ahead=False) as stream, parquet.ParquetFile(stream) as file:
                column = file.read_row_group(number, columns=[IMAGE], use_threads=False).column(0)
        except arrow.ArrowException as error:
            raise OSError(f"row group {number}: {error}") from None
        flat = column.combine_chunks()
        return flat.field("bytes") if arrow.types.is_struct(column.type) else flat

    def _open(self) -> None:
        self._process, self._lock = os.getpid(), threading.Lock()
        self._group = lru_cache(_KEPT_GROUPS)(self._read_group)

    def __reduce__(self) -> Any:
        return ParquetStore, (self._path, self._names)


def read_parquet(path: Path) -> Columns:
    """The columns of a manifest; images are not read.

    Raises MissingDependencyError without pyarrow, EdgefelError for a broken file and for columns that do not fit.
    """
    arrow = pyarrow()
    with open_parquet(path) as file:
        schema = file.schema_arrow
        has_paths = "path" in schema.names
        required = ("path", "label") if has_paths or IMAGE not in schema.names else (IMAGE, "label")
        number_names, group_name = check_columns(path, schema.names, required)
        split_name = "split" if "split" in schema.names else None
        paths_in = "path" if has_paths else _path_in_image(arrow, schema, path)
        wanted = [name for name in ("label", split_name, group_name, paths_in) if name is not None]
        table = file.read(columns=[*wanted, *number_names])

    names = _texts(arrow, table.column(paths_in.partition(".")[0]), paths_in) if paths_in else repeat("")
    unnamed = "" if has_paths else "row-{}"
    rows = zip(range(table.num_rows), names, strict=False)
    paths = PackedNames.pack(name or unnamed.format(row) for row, name in rows)
    return Columns(
        path,
        paths,
        _labels(arrow, table.column("label"), schema, path),
        _coded(arrow, table.column(split_name)) if split_name else None,
        _coded(arrow, table.column(group_name)) if group_name else None,
        {name: _numbers(arrow, table.column(name), f"{path}: column {name}") for name in number_names},
        FileStore(path.parent, paths) if has_paths else ParquetStore(path, paths),
        lambda row: f"{path} row {row}",
    )


def _path_in_image(arrow: Any, schema: Any, path: Path) -> str | None:
    kind = schema.field(IMAGE).type
    if arrow.types.is_struct(kind):
        inner = {field.name: field.type for field in kind}
        if "bytes" in inner and _is_binary(arrow, inner["bytes"]):
            return f"{IMAGE}.path" if "path" in inner else None
    elif _is_binary(arrow, kind):
        return None
    raise EdgefelError(f"{path}: column {IMAGE} is {kind}; it must hold bytes, or a struct of bytes and path")


def _is_binary(arrow: Any, kind: Any) -> bool:
    return bool(arrow.types.is_binary(kind) or arrow.types.is_large_binary(kind))


def _texts(arrow: Any, column: Any, name: str) -> Iterator[str]:
    """The values of the column, or of the field within it that `name` ends in; "" for null."""
    if "." in name:
        column = arrow.compute.struct_field(column, name.partition(".")[2])
    column = arrow.compute.fill_null(column.cast(arrow.large_string()), "")
    return (text for chunk in column.chunks for text in chunk.to_pylist())  # of one row group at a time


def _labels(arrow: Any, column: Any, schema: Any, path: Path) -> Coded:
    if not arrow.types.is_integer(column.type):
        return _coded(arrow, column)
    names = _class_names(schema)
    if names is None:
        raise EdgefelError(
            f"{path}: the column label holds numbers, and nothing in the file says what they mean; write names"
        )
    if column.null_count:
        raise EdgefelError(
            f"{path}: {counted(column.null_count, 'row has', 'rows have')} no label; fill or remove them"
        )
    codes = column.to_numpy()
    outside = np.flatnonzero((codes < 0) | (codes >= len(names)))
    if outside.size:
        row = int(outside[0])
        raise EdgefelError(
            f"{path} row {row}: class {codes[row]} is unknown; its classes are 0 to {len(names) - 1}: "
            f"{', '.join(names)}"
        )
    return Coded(codes.astype(np.int32), names)


def _class_names(schema: Any) -> tuple[str, ...] | None:
    """Class names of the `ClassLabel` feature that Hugging Face's datasets write into the schema, or None."""
    try:
        said = parse_json((schema.metadata or {})[b"huggingface"], "its metadata")
        names = said["info"]["features"]["label"]["names"]
    except (EdgefelError, KeyError, TypeError):
        return None
    return tuple(map(str, names)) if isinstance(names, list) else None


def _coded(arrow: Any, column: Any) -> Coded:
    if arrow.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    column = arrow.compute.fill_null(column.cast(arrow.string()), "")
    coded = column.dictionary_encode().unify_dictionaries()
    codes = [chunk.indices.to_numpy() for chunk in coded.chunks]
    names = coded.chunk(0).dictionary.to_pylist() if coded.num_chunks else []
    return Coded(np.concatenate(codes or [np.empty(0)]).astype(np.int32), tuple(names))


def _numbers(arrow: Any, column: Any, where: str) -> Any:
    if not (arrow.types.is_integer(column.type) or arrow.types.is_floating(column.type)):
        raise EdgefelError(f"{where} is {column.type}; it must hold numbers")
    # an empty cell becomes NaN, which every check refuses
    return column.cast(arrow.float64(), safe=False).to_numpy()
