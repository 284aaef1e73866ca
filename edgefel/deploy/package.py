"""The deploy folder: a bundle with everything a device needs to run it."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from edgefel import __version__
from edgefel.deploy.archive import INDEX, Entry, Written, check_output, top_folder, write
from edgefel.deploy.kernel_files import Kernels, bundle_nodes, compiled, kernels_from
from edgefel.deploy.licences import licence_entries
from edgefel.deploy.model_files import ChosenFiles, choose_files, model_entries
from edgefel.deploy.wheel import Wheel, build_wheel
from edgefel.errors import EdgefelError
from edgefel.progress import SILENT, Progress
from edgefel.runtime.manifest import Manifest, read_manifest

ARCHS = ("sm_87", "sm_110")
# written from edgefel/deploy/device; the scripts may be run
DEVICE_FILES = ("README.md", "edgefel.service", "install.sh", "run.sh")
SETTINGS = "precision.env"


@dataclass(frozen=True)
class DeployOptions:
    """What goes into the folder.

    precisions: of the ONNX files; all that did not fail their comparison with PyTorch, without any.
    force: take files that failed it. kernels: a folder of `edgefel kernels compile`; without one the kernels are
    compiled for `archs` (sm_87: Jetson Orin, sm_110: Thor) where Triton is installed, unless `without_kernels`.
    overwrite: replace what an earlier call wrote.
    """

    precisions: tuple[str, ...] = ()
    force: bool = False
    kernels: Path | None = None
    without_kernels: bool = False
    archs: tuple[str, ...] = ARCHS
    overwrite: bool = False

    def __post_init__(self) -> None:
        if self.kernels is not None and self.without_kernels:
            raise EdgefelError("--kernels and --no-kernels exclude each other; leave one out")


@dataclass(frozen=True)
class Deployed:
    """What was written: the archive or folder, the folder's name inside, its files in order, the index's header,
    and one line for everything that was left out or should be known."""

    output: Path
    name: str
    files: tuple[Written, ...]
    header: dict[str, Any]
    notes: tuple[str, ...]

    @property
    def index_sha256(self) -> str:
        """Of index.json, which has the hashes of all other files: `install.sh --index-sha256` compares with it."""
        return next(file.sha256 for file in self.files if file.path == INDEX)


def write_deploy_folder(
    bundle: Path, output: Path, options: DeployOptions | None = None, progress: Progress = SILENT
) -> Deployed:
    """Writes `output`, an archive if it ends with .tar, .tar.gz or .tgz, else a folder; see docs/deploy.md.

    The same bundle, installation and options give the same bytes. Nothing is left behind by a failure.
    Raises EdgefelError for a broken bundle, files or kernels that may not be taken, and an output that is taken.
    """
    options = options or DeployOptions()
    name = top_folder(output)
    manifest = read_manifest(bundle)
    chosen = choose_files(manifest, options.precisions, force=options.force)
    model = model_entries(chosen)
    check_output(output, overwrite=options.overwrite)  # before minutes of compiling
    wheel = build_wheel()
    with _kernels(chosen.manifest, output, options, progress) as kernels:
        header = _header(name, chosen, kernels)
        entries = [*model, *kernels.entries, *licence_entries(), *_device_entries(chosen, wheel)]
        files = write(entries, output, header, overwrite=options.overwrite, progress=progress)
    notes = (*chosen.notes, *wheel.notes, *([kernels.note] if kernels.note else []))
    return Deployed(output, name, files, header, notes)


def _kernels(
    manifest: Manifest, output: Path, options: DeployOptions, progress: Progress
) -> AbstractContextManager[Kernels]:
    if options.kernels is not None:
        return nullcontext(kernels_from(options.kernels, manifest.model, bundle_nodes(manifest)))
    if options.without_kernels:
        return nullcontext(Kernels())
    return compiled(manifest.model, options.archs, output.parent, progress, bundle_nodes(manifest))


def _device_entries(chosen: ChosenFiles, wheel: Wheel) -> list[Entry]:
    source = resources.files("edgefel.deploy") / "device"
    entries = [
        Entry(name, (source / name).read_bytes(), executable=name.endswith(".sh")) for name in DEVICE_FILES
    ]
    settings = (
        "# What run.sh runs: the first where TensorRT and a GPU are found, else the second.\n"
        "# ./install.sh --precision P overrides both.\n"
        f"GPU_PRECISION={chosen.gpu_precision}\nCPU_PRECISION={chosen.cpu_precision}\n"
    )
    return [*entries, Entry(SETTINGS, settings.encode()), Entry(f"wheels/{wheel.name}", wheel.data)]


def _header(name: str, chosen: ChosenFiles, kernels: Kernels) -> dict[str, Any]:
    return {
        "name": name,
        "edgefel": __version__,
        "model": chosen.manifest.model.name,
        "precisions": list(chosen.precisions),
        "gpu_precision": chosen.gpu_precision,
        "cpu_precision": chosen.cpu_precision,
        "kernels": list(kernels.archs),
    }
