"""Builds the wheel and checks its contents against the source tree, and that the networks in it run.

A sub-package missing from pyproject.toml works in an editable install and is absent from the wheel; this
finds it. Run from the repository root.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# folder in the repository -> package once installed
PACKAGE_ROOTS = {"edgefel": "edgefel"} | {
    name: f"edgefel/{name}" for name in ("kernels", "export", "calib", "bench")
}
# files of the package that are no Python
DATA = (
    *("py.typed", "deploy/device/*", "report/templates/*", "networks/*/*"),
    *("serve/static/*", "web/static/*", "web/static/*/*"),
)
NETWORKS = "edgefel/networks/"
# of the compressed files
MOST_NETWORK_BYTES = 4_000_000


def expected_files() -> set[str]:
    """Python files of the source tree and DATA, under the names that the wheel must give them."""
    python = {
        f"{package}/{file.relative_to(ROOT / folder).as_posix()}"
        for folder, package in PACKAGE_ROOTS.items()
        for file in (ROOT / folder).rglob("*.py")
    }
    data = (file for pattern in DATA for file in (ROOT / "edgefel").glob(pattern) if file.is_file())
    return python | {file.relative_to(ROOT).as_posix() for file in data}


def problems(names: set[str]) -> list[str]:
    """What is wrong with a wheel that holds these files."""
    found = [f"missing from the wheel: {name}" for name in sorted(expected_files() - names)]
    top_level = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    found += [f"unexpected top-level name: {name}" for name in sorted(top_level - {"edgefel"})]
    return found


def network_problems(wheel: Path) -> list[str]:
    """What is wrong with the networks in a wheel: together too large, or one that is not whole or does not run."""
    with zipfile.ZipFile(wheel) as archive, tempfile.TemporaryDirectory() as place:
        members = [info for info in archive.infolist() if info.filename.startswith(NETWORKS)]
        size = sum(info.compress_size for info in members)
        found = []
        if size > MOST_NETWORK_BYTES:
            found.append(
                f"networks take {size / 1e6:.1f} MB of the wheel, more than {MOST_NETWORK_BYTES / 1e6:.0f}"
            )
        archive.extractall(place, members)
        for folder in sorted(Path(place, NETWORKS).glob("*")):
            found += [f"{folder.name}: {problem}" for problem in bundle_problems(folder)]
    return found


def bundle_problems(folder: Path) -> list[str]:
    """What keeps a bundle from being shipped: files missing, changed, not judged, of one machine, or not of it."""
    from edgefel.errors import EdgefelError
    from edgefel.export.record import CALIBRATION_NAME
    from edgefel.runtime.manifest import CARD_NAME, MANIFEST_NAME, read_manifest
    from edgefel.runtime.session import Session

    try:
        manifest = read_manifest(folder)
    except EdgefelError as error:
        return [str(error)]
    found = [] if (folder / CARD_NAME).is_file() else [f"{CARD_NAME} is missing"]
    for file in manifest.files:
        if file.kind == "engine":
            found.append(f"{file.name} is an engine, which runs on one kind of machine")
        elif file.verdict not in ("pass", "warn"):
            found.append(f"{file.name}: did not pass a comparison with PyTorch")
        else:
            try:
                with Session.open(folder, file.precision, "onnxruntime", threads=1) as session:
                    session.warm_up()
            except EdgefelError as error:
                found.append(str(error))
    if str(manifest.source.get("path", "")).startswith("../../../../"):
        found.append("was exported from a checkpoint outside the checkout, whose place the manifest names")
    known = {CARD_NAME, CALIBRATION_NAME, MANIFEST_NAME, *(file.name for file in manifest.files)}
    for path in sorted(folder.iterdir()):
        if path.name not in known:
            found.append(f"{path.name} is not of the bundle")
        elif path.suffix == ".json" and '"/' in path.read_text(encoding="utf-8"):
            found.append(f"{path.name} names a path of the machine that made it; give --data a relative one")
    return found


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", folder, str(ROOT)]
        subprocess.run([*command, "--disable-pip-version-check"], check=True)
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            names = set(archive.namelist())
        print(f"{wheel.name}: {len(names)} files, {wheel.stat().st_size / 1024:.0f} KiB")
        found = problems(names) + network_problems(wheel)
    networks = sorted({name.split("/")[2] for name in names if name.startswith(NETWORKS)})
    sound = "every package is in the wheel, and nothing but edgefel at the top level"
    print("\n".join(found) or f"{sound}; networks, which run: {', '.join(networks) or 'none'}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
