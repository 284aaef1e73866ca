"""Reading `.pth` files that others made, without ever running code from them."""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edgefel.errors import EdgefelError

_WRAPPERS = ("state_dict", "model_state_dict", "model")


class _Inert:
    """Takes the place of harmless objects beside the weights; keeps nothing and does nothing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


# The POSTER++ training script stores its accuracy recorders (and their NumPy arrays) with the weights. The
# names below become inert objects; any other name makes the weights-only unpickler refuse the file.
_IGNORED_GLOBALS = [
    "__main__.RecorderMeter",
    "__main__.RecorderMeter1",
    "numpy.core.multiarray._reconstruct",
    "numpy._core.multiarray._reconstruct",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "numpy.ndarray",
    "numpy.dtype",
    "_codecs.encode",
    "argparse.Namespace",
]


def load_tensors(file: str | Path) -> dict[str, Tensor]:
    """The named tensors of a `.pth` file.

    A `state_dict` wrapper and `module.` prefixes are removed. A bare tensor is called "anchors": that is
    how the ARBEx release stores them.

    Raises:
        EdgefelError: missing, truncated, not a checkpoint, or with pickled code in it.
    """
    file = Path(file)
    if not file.exists():
        raise EdgefelError(f"{file}: no such file")
    if not file.is_file():
        raise EdgefelError(f"{file}: is not a file; give the .pth file itself")
    content = _load(file)
    if isinstance(content, Tensor):
        return {"anchors": content.detach()}
    if not isinstance(content, Mapping):
        raise EdgefelError(f"{file}: holds a {type(content).__name__}, not named weights")
    for wrapper in _WRAPPERS:
        if isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
            break
    tensors = {
        _strip(key): value.detach()
        for key, value in content.items()
        if isinstance(key, str) and isinstance(value, Tensor)
    }
    if not tensors:
        raise EdgefelError(f"{file}: holds no weights")
    return tensors


def _load(file: Path) -> Any:
    ignored: list[Any] = [(_Inert, name) for name in _IGNORED_GLOBALS]
    try:
        with torch.serialization.safe_globals(ignored):
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch has one exception for both; only its text tells a forbidden name from broken bytes
        if re.search(r"GLOBAL|Can only (create new object|build)", str(error)):
            raise EdgefelError(
                f"{file}: holds pickled code besides weights, which is never run; "
                "ask its author for a plain state_dict"
            ) from None
        raise EdgefelError(f"{file}: cannot be read, truncated or not a PyTorch checkpoint") from None
    except (RuntimeError, EOFError, ValueError, OSError, KeyError, AttributeError, TypeError, IndexError):
        raise EdgefelError(f"{file}: cannot be read, truncated or not a PyTorch checkpoint") from None


def _strip(key: str) -> str:
    while key.startswith("module."):
        key = key.removeprefix("module.")
    return key
