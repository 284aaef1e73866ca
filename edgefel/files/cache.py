"""The folders outside a project: of expensive results, kept between runs, and of files that the user asked for."""

from __future__ import annotations

import os
from pathlib import Path

from edgefel.errors import EdgefelError

VARIABLE = "EDGEFEL_CACHE"


def cache_folder(kind: str, *, make: bool = True) -> Path:
    """The folder for one kind of result, such as "engines"; created if missing, unless `make` is False.

    It is in `$EDGEFEL_CACHE`, else in `$XDG_CACHE_HOME/edgefel`, else in `~/.cache/edgefel`. A relative
    XDG_CACHE_HOME is ignored, as its specification asks:
    https://specifications.freedesktop.org/basedir-spec/latest/

    Raises EdgefelError if the folder cannot be made.
    """
    folder = _root() / kind
    if not make:
        return folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EdgefelError(
            f"{folder}: cannot make the cache folder ({error.strerror or error}); "
            f"set {VARIABLE} to a folder that can be written"
        ) from None
    return folder


def _root() -> Path:
    own = os.environ.get(VARIABLE, "")
    if own:
        return Path(own).expanduser()
    return _user_folder("XDG_CACHE_HOME", ".cache", VARIABLE)


def data_folder() -> Path:
    """The folder of files that edgefel was asked to keep; it may be missing.

    `$XDG_DATA_HOME/edgefel`, else `~/.local/share/edgefel`. Raises EdgefelError where there is no home folder.
    """
    return _user_folder("XDG_DATA_HOME", ".local/share", "XDG_DATA_HOME")


def _user_folder(variable: str, usual: str, remedy: str) -> Path:
    """`edgefel` in the folder that `variable` names, else in `usual` of the home folder. remedy: what to set."""
    shared = Path(os.environ.get(variable, ""))
    if shared.is_absolute():
        return shared / "edgefel"
    try:
        return Path.home() / usual / "edgefel"
    except RuntimeError as error:
        raise EdgefelError(f"no home folder ({error}); set {remedy} to a folder") from None
