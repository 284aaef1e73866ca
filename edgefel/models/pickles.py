"""Reading foreign weight files (`.pth`, `.safetensors`) without running code from them."""

from __future__ import annotations

import pickle
import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from edgefel.errors import EdgefelError

# Entries that hold sets of weights, likeliest first: of two sets that fit equally, the first named here is taken.
WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network", "module", "_orig_mod", "weights")
# Parts of names that mark weights as averages over training (exponential moving averages, SWA).
_AVERAGED = re.compile(r"(^|[_.])(ema|swa|averaged)([_.]|$)", re.IGNORECASE)
# Entries that hold the names of the classes; mmcv writes `meta.CLASSES`.
_CLASS_NAMES = ("classes", "class_names", "labels", "label_names")
_CLASS_NUMBERS = ("class_to_idx", "idx_to_class", "label2id", "id2label")
_DEPTH = 4  # of mappings in mappings that are searched


@dataclass(frozen=True)
class WeightSet:
    """One set of named weights of a file.

    path: the entries that lead to it, e.g. ("checkpoint", "state_dict"); empty for the whole file.
    unusable: entries that are no plain tensors -> what they are, such as "a quantized tensor".
    """

    path: tuple[str, ...]
    tensors: Mapping[str, Tensor]
    unusable: Mapping[str, str]


@dataclass(frozen=True)
class Contents:
    """What a weight file holds.

    sets: every mapping of names to tensors in it. classes: names of its classes in output order, if it has them.
    """

    sets: tuple[WeightSet, ...]
    classes: tuple[str, ...]


def averaged(name: str) -> bool:
    """Whether an entry's name marks the weights under it as averages over training."""
    return _AVERAGED.search(name) is not None


def read_contents(file: str | Path) -> Contents:
    """Every set of named tensors in a `.pth` or `.safetensors` file, and its class names.

    NumPy arrays of numbers become tensors. A bare tensor is named "anchors": the ARBEx release stores them so. Raises
    EdgefelError for a file that is missing, truncated, no checkpoint, with pickled code, or without weights.
    """
    file = Path(file)
    if not file.exists():
        raise EdgefelError(f"{file}: no such file")
    if not file.is_file():
        raise EdgefelError(f"{file}: is not a file; give the .pth file itself")
    content = _load(file)
    if isinstance(content, Tensor | _Array):
        content = {"anchors": content}
    if not isinstance(content, Mapping):
        raise EdgefelError(f"{file}: holds a {type(content).__name__}, not named weights")
    sets = tuple(_weight_sets(content))
    if not any(found.tensors for found in sets):
        unusable = [f"{key} is {problem}" for found in sets for key, problem in found.unusable.items()]
        entries = listed(unusable, 3) or listed([str(key) for key in content], 12) or "none"
        raise EdgefelError(f"{file}: holds no weights; its entries: {entries}")
    return Contents(sets, next(filter(None, _class_names(content)), ()))


def listed(entries: list[str], limit: int = 20) -> str:
    """The first `limit` entries, and the number of the others."""
    more = f" and {len(entries) - limit} more" if len(entries) > limit else ""
    return ", ".join(entries[:limit]) + more


def _weight_sets(content: Mapping[Any, Any], path: tuple[str, ...] = ()) -> Iterator[WeightSet]:
    tensors: dict[str, Tensor] = {}
    unusable: dict[str, str] = {}
    for key, value in content.items():
        if isinstance(key, str) and isinstance(value, Tensor | _Array):
            if problem := _problem(value):
                unusable[key] = problem
            else:
                tensors[key] = _tensor(value)
    if tensors or unusable:
        yield WeightSet(path, tensors, unusable)
    for key, value in content.items():
        # numbered entries are an optimizer's
        if isinstance(key, str) and isinstance(value, Mapping) and len(path) < _DEPTH:
            yield from _weight_sets(value, (*path, key))


def _problem(value: Tensor | _Array) -> str:
    if isinstance(value, _Array):
        return "" if value.values is not None else f"a NumPy array of {value.kind}"
    if value.is_quantized:
        return "a quantized tensor"
    if value.is_meta:
        return "a tensor without values"
    return "" if value.layout == torch.strided else "a sparse tensor"


def _tensor(value: Tensor | _Array) -> Tensor:
    if isinstance(value, Tensor):
        return value.detach()
    assert value.values is not None
    return torch.from_numpy(value.values.astype(value.values.dtype.newbyteorder("="), copy=True))


def _class_names(content: Mapping[Any, Any], depth: int = 0) -> Iterator[tuple[str, ...]]:
    """Class names under the usual entries, outermost first: lists, or mappings to or from numbers."""
    for key, value in content.items():
        if isinstance(key, str) and key.lower() in _CLASS_NAMES + _CLASS_NUMBERS:
            yield _in_order(value)
    for value in content.values():
        if isinstance(value, Mapping) and depth < 2:
            yield from _class_names(value, depth + 1)


def _in_order(value: Any) -> tuple[str, ...]:
    if isinstance(value, Mapping):
        pairs = [(key, name) if isinstance(name, str) else (name, key) for key, name in value.items()]
        numbers = {str(number): name for number, name in pairs}
        value = [numbers.get(str(number)) for number in range(len(pairs))]
    if not isinstance(value, list | tuple) or not all(isinstance(name, str) for name in value):
        return ()
    # numbers are folder names, not class names
    return () if all(name.strip().isdecimal() for name in value) else tuple(value)


class _Inert:
    """Stand-in for harmless objects beside the weights; keeps nothing and does nothing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


class _DType:
    """Stand-in for numpy.dtype, whose own state could make memory be read as objects."""

    def __init__(self, code: Any = "", *_: Any) -> None:
        self.code, self.order = str(code), "="

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">", "=", "|"):
            self.order = state[1]


class _Array:
    """Stand-in for numpy.ndarray: copies plain numbers out of the file's bytes, and nothing else.

    values: the array; None for other contents. kind: the type of other contents, for messages.
    """

    values: NDArray[Any] | None = None
    kind = "nothing"

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise pickle.UnpicklingError("NumPy array without its five parts")
        _, shape, dtype, fortran, data = state
        self.fill(shape, dtype, data, fortran=bool(fortran))

    def fill(self, shape: Any, dtype: Any, data: Any, *, fortran: bool = False) -> None:
        code = dtype.code if isinstance(dtype, _DType) else ""
        if not re.fullmatch(r"f[248]|[iu][1248]|b1", code):
            self.kind = "Python objects" if code.startswith("O") else f"the type {code!r}"
            return
        if not isinstance(data, bytes) or not all(isinstance(side, int) and side >= 0 for side in shape):
            raise pickle.UnpicklingError("NumPy array without its bytes")
        flat = np.frombuffer(data, np.dtype(dtype.order + code))
        if flat.size != int(np.prod(shape, dtype=object)):
            raise pickle.UnpicklingError("NumPy array of another size than its bytes")
        self.values = flat.reshape(shape, order="F" if fortran else "C")


def _array(kind: Any, *_: Any) -> _Array | _Inert:
    return _Array() if kind is _Array else _Inert()


def _scalar(dtype: Any, data: Any = None) -> _Array | _Inert:
    if not isinstance(data, bytes):
        return _Inert()
    number = _Array()
    number.fill((), dtype, data)
    return number


def _encode(text: Any, encoding: Any = "utf-8") -> bytes:
    """How protocol 2 writes bytes."""
    if not isinstance(text, str) or encoding != "latin1":
        raise pickle.UnpicklingError("bytes in another encoding than latin1")
    return text.encode("latin1")


# Stand-ins for the names that may occur in a file, besides torch's own; the weights-only unpickler refuses files with
# any other name. The POSTER++ training script stores its accuracy recorders with the weights.
_STAND_INS: dict[str, Any] = {
    **{f"__main__.RecorderMeter{number}": _Inert for number in ("", "1")},
    **{f"numpy.{core}.multiarray._reconstruct": _array for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray.scalar": _scalar for core in ("core", "_core")},
    "numpy.ndarray": _Array,
    "numpy.dtype": _DType,
    "_codecs.encode": _encode,
    # how protocol 2 writes b""
    **{f"{builtins}.bytes": lambda: b"" for builtins in ("builtins", "__builtin__")},
    "collections.defaultdict": lambda *_: OrderedDict(),
    **{f"{builtins}.{name}": _Inert for builtins in ("builtins", "__builtin__") for name in ("int", "list")},
    "argparse.Namespace": _Inert,
    **{f"pathlib.{name}Path": _Inert for name in ("Posix", "Windows", "PurePosix")},
    **{f"pathlib._local.{name}Path": _Inert for name in ("Posix", "Windows", "PurePosix")},
    **{
        f"{package}.AttributeDict": OrderedDict
        for package in ("pytorch_lightning.utilities.parsing", "lightning.fabric.utilities.data")
    },
}


def _load(file: Path) -> Any:
    if file.suffix == ".safetensors":
        try:
            return load_file(file)
        except (SafetensorError, OSError) as error:
            raise EdgefelError(f"{file}: cannot be read, truncated or not safetensors ({error})") from None
    stand_ins: list[Any] = [(stand_in, name) for name, stand_in in _STAND_INS.items()]
    try:
        with torch.serialization.safe_globals(stand_ins):
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch raises the same exception for both; only its text tells a forbidden name from broken bytes
        if re.search(r"GLOBAL|Can only (create new object|build)", str(error)):
            name = re.search(r"GLOBAL ([\w.]+)", str(error))
            what = f" ({name.group(1)})" if name else ""
            raise EdgefelError(
                f"{file}: holds pickled code{what} besides weights, which is never run; "
                "ask its author for a plain state_dict"
            ) from None
        raise EdgefelError(f"{file}: cannot be read, truncated or not a PyTorch checkpoint") from None
    except (RuntimeError, EOFError, ValueError, OSError, KeyError, AttributeError, TypeError, IndexError):
        raise EdgefelError(f"{file}: cannot be read, truncated or not a PyTorch checkpoint") from None
