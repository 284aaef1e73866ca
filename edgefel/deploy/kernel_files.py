"""kernels/: the fused kernels, compiled ahead of time for the devices' GPUs."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edgefel.deploy.archive import Entry
from edgefel.errors import EdgefelError
from edgefel.files.unfinished import claimed_folder
from edgefel.progress import SILENT, Progress
from edgefel.runtime.kernels import INDEX, KernelFolder
from edgefel.runtime.manifest import Manifest, ModelInfo
from edgefel.runtime.onnx_functions import FusedNode, fused_nodes, has_functions
from edgefel.workers import usable_cores

_HOW = "make them with 'edgefel kernels compile' and pass the folder with --kernels"


@dataclass(frozen=True)
class Kernels:
    """Files, targets such as "sm_87", and a one-line reason if there are none."""

    entries: tuple[Entry, ...] = ()
    archs: tuple[str, ...] = ()
    note: str | None = None


def bundle_nodes(manifest: Manifest) -> list[FusedNode]:
    """The fused operators in a bundle's ONNX files (`export --attention plugin`)."""
    paths = [manifest.folder / file.name for file in manifest.files if file.kind == "onnx"]
    return [node for path in paths if has_functions(path) for node in fused_nodes(path.read_bytes())]


def kernels_from(folder: Path, model: ModelInfo, nodes: Iterable[FusedNode] = ()) -> Kernels:
    """Those of a folder that `edgefel kernels compile` wrote.

    nodes: fused operators of the bundle; a note says which have no kernel there.

    Raises EdgefelError for a folder that is not one, is damaged, or was compiled for another model.
    """
    kernels = KernelFolder.open(folder)
    if kernels.model != model.name:
        raise EdgefelError(
            f"{folder}: kernels of '{kernels.model}', and the bundle's model is '{model.name}'; "
            "compile the ones of this model"
        )
    paths = [folder / INDEX]
    for arch in kernels.archs:
        for name in kernels.names:
            cubin = kernels.file(name, arch).cubin
            paths += [path for path in (cubin, *map(cubin.with_suffix, (".json", ".ptx"))) if path.is_file()]
    entries = [Entry(f"kernels/{path.relative_to(folder).as_posix()}", path) for path in paths]
    lacking = sorted({node.operator for node in nodes} - set(kernels.names))
    note = (
        f"{folder}: no kernels for {', '.join(lacking)}, which engines compute as a decomposed graph; compile them "
        "with 'edgefel kernels compile --bundle BUNDLE'"
        if lacking
        else None
    )
    return Kernels(tuple(entries), tuple(kernels.archs), note)


def why_not_compiled(model: ModelInfo) -> str | None:
    """Why the model's kernels cannot be compiled here, in one line with what to do; None if they can."""
    for package in ("torch", "triton"):
        if importlib.util.find_spec(package) is None:
            return f"no compiled kernels: {package} is not installed here; {_HOW}"
    if os.environ.get("TRITON_INTERPRET", "0").lower() in ("1", "true", "yes", "on"):
        return (
            f"no compiled kernels: TRITON_INTERPRET is set, so Triton compiles nothing; unset it, or {_HOW}"
        )
    from edgefel.models.registry import MODELS

    if model.name not in MODELS:
        return f"no compiled kernels: '{model.name}' is no registered model; {_HOW}"
    return None


@contextmanager
def compiled(
    model: ModelInfo,
    archs: Sequence[str],
    beside: Path,
    progress: Progress = SILENT,
    nodes: Sequence[FusedNode] = (),
) -> Iterator[Kernels]:
    """Compiles the model's kernels into a folder that is removed when the block ends.

    nodes: fused operators of the bundle, whose kernels are among them. beside: the temporary folder is made here.
    Where it cannot be done, yields none, with the reason.
    Raises EdgefelError for an unknown target or a kernel that Triton refuses.
    """
    if (note := why_not_compiled(model)) is not None:
        yield Kernels(note=note)
        return
    from edgefel.kernels.ahead_of_time.compiler import compile_all, parse_arch, write_kernels
    from edgefel.models.inference_kernels import bundle_kernels
    from edgefel.models.registry import model_config

    specs = bundle_kernels(model_config(model.name, num_classes=model.num_classes), nodes)
    targets = [parse_arch(arch) for arch in dict.fromkeys(archs)]
    progress.start("compile kernels", total=len(specs) * len(targets))
    kernels = compile_all(
        specs, targets, workers=usable_cores(), advance=lambda done, total: progress.advance()
    )
    beside.mkdir(parents=True, exist_ok=True)
    with claimed_folder(beside / "kernels", sole=False) as folder:
        place = write_kernels(kernels, folder / "kernels", model.name)
        yield kernels_from(place, model, nodes)
