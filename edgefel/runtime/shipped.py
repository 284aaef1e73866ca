"""The network that comes with edgefel, for commands that are given no bundle.

Its bundle is package data, perhaps where nothing can be written. Engines are therefore built in a copy in the cache
folder, which is used from then on.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from edgefel.errors import EdgefelError
from edgefel.files.cache import cache_folder
from edgefel.files.write import atomic_folder, sha256
from edgefel.runtime.manifest import MANIFEST_NAME

NAME = "fer-plus-nano"
FOLDER = Path(__file__).parents[1] / "networks" / NAME


def find_shipped() -> Path | None:
    """The bundle of this installation: the copy that `edgefel engine` made, if there is one; None without a network."""
    if not (FOLDER / MANIFEST_NAME).is_file():
        return None
    try:
        copy = _copy(make=False)
    except EdgefelError:  # no home folder: there can be no copy
        return FOLDER
    # unlike Path.is_file, without an error in a cache folder of another user
    return copy if os.path.isfile(copy / MANIFEST_NAME) else FOLDER  # noqa: PTH113


def shipped_bundle() -> Path:
    """As `find_shipped`; raises EdgefelError where this installation holds no network."""
    found = find_shipped()
    if found is None:
        raise EdgefelError(
            "this installation holds no network; give BUNDLE, a folder of 'edgefel export' "
            "(in a folder of 'edgefel pack': model)"
        )
    return found


def bundle_for_engines() -> Path:
    """A copy of the bundle that can be written, made in the cache folder where it is missing.

    Raises EdgefelError where this installation holds no network, or the copy cannot be made.
    """
    found = shipped_bundle()
    if found != FOLDER:
        return found
    copy = _copy(make=True)
    with atomic_folder(copy) as folder:
        for file in FOLDER.iterdir():
            if file.is_file():
                shutil.copyfile(file, folder / file.name)  # not its permissions
    return copy


def engine_command(folder: Path) -> str:
    """The command that builds engines for the bundle in `folder`."""
    return bundle_command("engine", folder)


def bundle_command(name: str, folder: Path) -> str:
    """`edgefel NAME` for the bundle in `folder`, which is left out where it is the one that comes with edgefel."""
    return f"edgefel {name}" if folder in (FOLDER, find_shipped()) else f"edgefel {name} {folder}"


def _copy(*, make: bool) -> Path:
    """Place of the copy. It goes by the manifest, which has the files' hashes: another network gets another one."""
    digest = sha256(FOLDER / MANIFEST_NAME)
    return cache_folder("networks", make=make) / f"{NAME}-{digest[:16]}"
