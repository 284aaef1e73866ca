"""Cuts files that are too large for one transfer into pieces, and joins them on the other machine.

\b
    python tools/gpu_carry.py pack FER-PLUS.zip WHEEL ... [--into .gpu-carry] [--most 48]     here
    python tools/gpu_carry.py join [--into .gpu-carry]                                        there

The working tree may carry 64 MiB a call, and files that git ignores stay on the machine between calls. Each folder
.gpu-carry/0, .gpu-carry/1, ... holds at most --most MiB and travels in a call of its own, the last one with the
session's. `join` writes the files to .gpu-carry/whole, and refuses pieces that are missing or damaged; NAME.zip is
unpacked as the folder NAME.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

FOLDER = Path(".gpu-carry")
WHOLE = "whole"
INDEX = "index.json"
MIB = 1 << 20


def pack(files: Sequence[Path], folder: Path, most: int) -> int:
    """Writes `folder`/0, 1, ... of at most `most` bytes, and returns their number; what was there is removed.

    Each has an index of all files, so that any of them tells what is missing. Raises ValueError if nothing fits, or two
    files have one name.
    """
    if len({file.name for file in files}) < len(files):
        raise ValueError("two files have the same name")
    wholes = {file.name: file.read_bytes() for file in files}
    sizes = {name: (len(content), hashlib.sha256(content).hexdigest()) for name, content in wholes.items()}
    stream = memoryview(b"".join(wholes.values()))
    index = json.dumps({"files": sizes, "most": most}).encode()
    if most < 1:
        raise ValueError("--most: expected 1 or more")
    for old in sorted(folder.glob("[0-9]*/*")):
        old.unlink()
    number = -(-len(stream) // most)
    for piece in range(number):
        place = folder / str(piece)
        place.mkdir(parents=True, exist_ok=True)
        (place / "piece").write_bytes(stream[piece * most : (piece + 1) * most])
        (place / INDEX).write_bytes(index)
    return number


def packed(folder: Path) -> list[str]:
    """Names of the files whose pieces are in `folder`, all or some of them."""
    indices = sorted(folder.glob(f"[0-9]*/{INDEX}"))
    return list(json.loads(indices[0].read_bytes())["files"]) if indices else []


def join(folder: Path) -> list[Path]:
    """Writes the files to `folder`/whole and unpacks archives. Raises ValueError for a missing or damaged piece."""
    names = packed(folder)
    if not names:
        raise ValueError(f"{folder}: holds no pieces; carry {folder}/0 and so on, each in a call")
    index = json.loads(sorted(folder.glob(f"[0-9]*/{INDEX}"))[0].read_bytes())
    total = sum(size for size, _ in index["files"].values())
    content = bytearray()
    for number in range(-(-total // index["most"])):
        piece = folder / str(number) / "piece"
        if not piece.is_file():
            raise ValueError(f"{piece}: missing; carry {piece.parent} in a call before this one")
        content += piece.read_bytes()
    place, start, made = folder / WHOLE, 0, []
    place.mkdir(exist_ok=True)
    for name, (size, digest) in index["files"].items():
        part = content[start : start + size]
        if hashlib.sha256(part).hexdigest() != digest:
            raise ValueError(
                f"{name}: its pieces are damaged or of another packing; pack and carry them again"
            )
        (place / name).write_bytes(part)
        made.append(unpacked(place / name) if name.endswith(".zip") else place / name)
        start += size
    return made


def unpacked(archive: Path) -> Path:
    """The folder of a .zip file's name, with what the archive, or its folder of that name, holds."""
    folder = archive.with_suffix("")
    with zipfile.ZipFile(archive) as file:
        inside = all(name.startswith(f"{folder.name}/") for name in file.namelist())
        file.extractall(folder.parent if inside else folder)
    return folder


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 2, with one line, where files cannot be packed or joined."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("action", choices=["pack", "join"])
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--into", type=Path, default=FOLDER, metavar="FOLDER")
    parser.add_argument("--most", type=int, default=48, help="MiB of a piece")
    options = parser.parse_args(arguments)
    try:
        if options.action == "join":
            print(*join(options.into), sep="\n")
        elif not options.files:
            parser.error("pack: name files")
        else:
            number = pack(options.files, options.into, options.most * MIB)
            print(*(f"{options.into}/{piece}" for piece in range(number)), sep="\n")
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
