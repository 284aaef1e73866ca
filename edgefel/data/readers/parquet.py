"""Reads a manifest in Parquet, columns as NumPy arrays, and images that lie in such a file.

pyarrow is imported here alone, when a Parquet file is opened.
"""

from __future__ import annotations

import importlib
import os
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

from edgefel.data.dataset import FileStore
from edgefel.data.readers.manifest import Coded, Columns, check_columns
from edgefel.data.readers.names import PackedNames
from edgefel.errors import EdgefelError, MissingDependencyError
from edgefel.files.documents import parse_json
from edgefel.text import counted

IMAGE = "image"
# of one process: shuffled reading goes back and forth, and a group of Hugging Face's files is some 10 to 100 MB
_KEPT_GROUPS = 4


class ParquetStore:
    """Encoded images in the column `image` of a Parquet file.

    An image cannot be read without the whole row group that it lies in. The last few groups are kept, so that reading
    in order is quick; for shuffled reading of a large file, write it as shards first
    (`edgefel.data.readers.shard_writer.write_shards`).
    """

    def __init__(self, path: Path, names: PackedNames) -> None:
        self._path, self._names = path, names
        file = _pyarrow("pyarrow.parquet").ParquetFile(path)
        sizes = [file.metadata.row_group(n).num_rows for n in range(file.metadata.num_row_groups)]
        self._starts = np.cumsum([0, *sizes])
        self._open()

    def path(self, index: int) -> Path:
        """Of the file, with the image's own path or the number of its row behind it."""
        return self._path / self._names[index].lstrip("/")

    def read(self, index: int) -> bytes:
        """The encoded image. Raises OSError."""
        if self._process != os.getpid():
            self._open()  # a forked process must not share the lock, nor the place in the file
        number = int(np.searchsorted(self._starts, index, side="right")) - 1
        with self._lock:
            group = self._groups.get(number)
            if group is None:
                group = self._groups[number] = self._read_group(number)
                if len(self._groups) > _KEPT_GROUPS:
                    self._groups.popitem(last=False)
            self._groups.move_to_end(number)
        data = group[index - int(self._starts[number])].as_py()
        if data is None:
            raise OSError("the file holds no bytes for it")
        return bytes(data)

    def _read_group(self, number: int) -> Any:
        parquet, arrow = _pyarrow("pyarrow.parquet"), _pyarrow("pyarrow")
        try:
            with parquet.ParquetFile(self._path) as file:
                column = file.read_row_group(number, columns=[IMAGE], use_threads=False).column(0)
        except arrow.ArrowException as error:
            raise OSError(f"row group {number}: {error}") from None
        flat = column.combine_chunks()
        return flat.field("bytes") if arrow.types.is_struct(column.type) else flat

    def _open(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._groups: OrderedDict[int, Any] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return {"_path": self._path, "_names": self._names, "_starts": self._starts}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()


def read_parquet(path: Path) -> Columns:
    """The columns of a manifest; images are not read.

    Raises MissingDependencyError without pyarrow, EdgefelError for a broken file and for columns that do not fit.
    """
    arrow, parquet = _pyarrow("pyarrow"), _pyarrow("pyarrow.parquet")
    try:
        with parquet.ParquetFile(path) as file:
            schema = file.schema_arrow
            has_paths = "path" in schema.names
            required = ("path", "label") if has_paths or IMAGE not in schema.names else (IMAGE, "label")
            number_names, group_name = check_columns(path, schema.names, required)
            wanted = [
                "label",
                *(["split"] if "split" in schema.names else []),
                *([group_name] if group_name else []),
            ]
            paths_in = "path" if has_paths else _path_in_image(arrow, schema, path)
            table = file.read(columns=[*wanted, *number_names, *([paths_in] if paths_in else [])])
    except (OSError, arrow.ArrowException) as error:
        raise EdgefelError(
            f"{path}: cannot be read as a Parquet file ({' '.join(str(error).split())})"
        ) from None

    paths = _paths(arrow, table, paths_in)
    if not has_paths and not np.diff(paths.ends).all():
        paths = PackedNames.pack(name or f"row-{row}" for row, name in enumerate(paths))
    return Columns(
        paths,
        _labels(arrow, table.column("label"), schema, path),
        _coded(arrow, table.column("split")) if "split" in wanted else None,
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
    raise EdgefelError(
        f"{path}: the column {IMAGE} is {kind}; it must hold bytes, or a struct of bytes and path"
    )


def _is_binary(arrow: Any, kind: Any) -> bool:
    return bool(arrow.types.is_binary(kind) or arrow.types.is_large_binary(kind))


def _paths(arrow: Any, table: Any, name: str | None) -> PackedNames:
    if name is None:
        return PackedNames(np.empty(0, np.uint8), np.zeros(table.num_rows + 1, np.int64))
    column = table.column(name.partition(".")[0])
    if "." in name:
        column = arrow.compute.struct_field(column, "path")
    column = arrow.compute.fill_null(column.cast(arrow.large_string()), "")
    flat = column.combine_chunks()
    flat = flat if isinstance(flat, arrow.Array) else arrow.concat_arrays(flat.chunks)
    _, ends, data = flat.buffers()
    if ends is None or not len(flat):
        return PackedNames(np.empty(0, np.uint8), np.zeros(1, np.int64))
    # copies, so that neither Arrow's memory nor its types travel to the processes that read images
    bounds = np.frombuffer(ends, np.int64)[flat.offset : flat.offset + len(flat) + 1].copy()
    packed = np.frombuffer(data, np.uint8)[: bounds[-1]].copy() if data is not None else np.empty(0, np.uint8)
    return PackedNames(packed, bounds)


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
    """Of the `ClassLabel` feature that Hugging Face's datasets leave in the schema; None where there is none."""
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
    # an empty cell becomes NaN, which no check lets through
    return column.cast(arrow.float64(), safe=False).to_numpy()


def _pyarrow(module: str) -> Any:
    try:
        importlib.import_module("pyarrow.compute")
        return importlib.import_module(module)
    except ImportError:
        raise MissingDependencyError("pyarrow", "data", "reading a Parquet file") from None
