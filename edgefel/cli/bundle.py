"""`edgefel bundle`."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgefel.cli import params
from edgefel.cli.console import table_console
from edgefel.cli.optional import require
from edgefel.errors import EdgefelError
from edgefel.text import counted

if TYPE_CHECKING:
    from edgefel.deploy.package import Deployed, DeployOptions

PRECISIONS = ("fp32", "fp16", "int8", "int8+fp16")


@click.command("bundle")
@click.argument("source", metavar="DIR", type=click.Path(path_type=Path))
@params.output("Archive (.tar, .tar.gz, .tgz) or folder for a device.", required=False)
@click.option(
    "--precision",
    "precisions",
    type=click.Choice(PRECISIONS),
    multiple=True,
    help="Take this ONNX file; may be given several times. Without it, all that did not fail their comparison.",
)
@click.option("--force", is_flag=True, help="Take files that failed their comparison with PyTorch.")
@click.option("--overwrite", is_flag=True, help="Replace an archive or folder that is there already.")
@click.option(
    "--kernels",
    type=click.Path(path_type=Path),
    help="Folder of `edgefel kernels compile`.  [default: compile them, where Triton is installed]",
)
@click.option("--no-kernels", is_flag=True, help="Leave compiled kernels out.")
@params.arch
@click.option(
    "--triton-repository",
    type=click.Path(path_type=Path),
    help="New folder for a model repository of NVIDIA Triton Inference Server.",
)
@click.option("--triton-engine", is_flag=True, help="Serve the bundle's TensorRT engine, not an ONNX file.")
@click.option(
    "--triton-device",
    type=click.Choice(["auto", "gpu", "cpu"]),
    default="auto",
    show_default=True,
    help="Where the server runs the network.",
)
@click.option(
    "--triton-instances",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Copies of the network for each device of the server.",
)
@click.option("--deepstream", type=click.Path(path_type=Path), help="New folder for nvinfer configuration.")
@click.option(
    "--max-batch",
    type=click.IntRange(min=1),
    help="Largest batch in Triton Inference Server and DeepStream.  [default: 16, or the engine's]",
)
@click.option(
    "--verify", "verifying", is_flag=True, help="Write nothing: check an archive or folder written by this."
)
@params.json_output
def command(
    source: Path,
    output: Path | None,
    precisions: tuple[str, ...],
    force: bool,
    overwrite: bool,
    kernels: Path | None,
    no_kernels: bool,
    archs: tuple[str, ...],
    triton_repository: Path | None,
    triton_engine: bool,
    triton_device: str,
    triton_instances: int,
    deepstream: Path | None,
    max_batch: int | None,
    verifying: bool,
    as_json: bool,
) -> None:
    """Pack a bundle for a device, or for a server.

    DIR is a bundle of `edgefel export`. With -o, packs its ONNX files with edgefel itself, an installation script
    for JetPack 6 and 7, a systemd unit and compiled kernels; the same input gives the same bytes. Engines stay
    behind: the device builds its own.

    \b
    Examples:
      edgefel bundle bundle -o edge.tar
      edgefel bundle bundle -o edge.tar.gz --precision fp16 --precision int8 --no-kernels
      edgefel bundle edge.tar --verify
      edgefel bundle bundle --triton-repository models --deepstream nvinfer
    """
    from edgefel.deploy.package import DeployOptions

    if verifying:
        if (output or triton_repository or deepstream) is not None:
            raise EdgefelError("--verify writes nothing; leave -o, --triton-repository and --deepstream out")
        _verify(source, as_json)
        return
    if (output or triton_repository or deepstream) is None:
        raise EdgefelError("nothing to write: give -o edge.tar, --triton-repository DIR or --deepstream DIR")
    serving = _Serving(
        triton_repository, triton_engine, triton_device, triton_instances, deepstream, max_batch, force
    )
    for option in ("triton_engine", "triton_device", "triton_instances"):
        params.refuse_alone(option, "triton_repository")
    serving.check(precisions, output)
    results: dict[str, Any] = {}
    if output is not None:
        options = DeployOptions(precisions, force, kernels, no_kernels, archs, overwrite)
        results["deploy"] = _deploy(source, output, options, as_json)
    results |= serving.write(source, precisions, as_json)
    if as_json:
        click.echo(json.dumps(results, indent=2, allow_nan=False))


@dataclass(frozen=True)
class _Serving:
    """What the command line says of servers."""

    triton: Path | None
    engine: bool
    device: str
    instances: int
    deepstream: Path | None
    max_batch: int | None
    force: bool

    def check(self, precisions: tuple[str, ...], output: Path | None) -> None:
        """All that can be refused before the first of several outputs is written.

        A server takes one file, where a device may have several.
        """
        from edgefel.files.write import check_free

        if self.max_batch is not None and (self.triton or self.deepstream) is None:
            raise EdgefelError("--max-batch belongs to --triton-repository and --deepstream; leave it out")
        folders = [folder for folder in (self.triton, self.deepstream) if folder is not None]
        places = [path.resolve() for path in (*folders, *([output] if output else []))]
        if len(set(places)) < len(places):
            raise EdgefelError("two outputs have the same name; give each a place of its own")
        for folder in folders:
            check_free(folder)
        if (self.triton or self.deepstream) is not None and len(set(precisions)) > 1:
            raise EdgefelError("--triton-repository and --deepstream take one file; give --precision once")
        if self.deepstream is not None:
            require("onnx", "export", "--deepstream")  # before the other folders are written

    def write(self, bundle: Path, precisions: tuple[str, ...], as_json: bool) -> dict[str, Any]:
        precision = precisions[0] if precisions else None
        written: dict[str, tuple[Path, list[Path]]] = {}
        if self.triton is not None:
            from edgefel.deploy.triton import TritonOptions, write_triton_repository

            options = TritonOptions(
                precision=precision,
                engine=self.engine,
                max_batch=self.max_batch,
                device=self.device,
                instances=self.instances,
                force=self.force,
            )
            written["triton"] = self.triton, write_triton_repository(bundle, self.triton, options)
        if self.deepstream is not None:
            from edgefel.deploy.deepstream import DeepStreamOptions, write_deepstream

            nvinfer = DeepStreamOptions(precision=precision, max_batch=self.max_batch or 16, force=self.force)
            written["deepstream"] = self.deepstream, write_deepstream(bundle, self.deepstream, nvinfer)
        results = {}
        for name, (folder, files) in written.items():
            names = [file.relative_to(folder).as_posix() for file in files]
            results[name] = {"output": str(folder), "files": names}
            if not as_json:
                click.echo(f"wrote {folder}: {', '.join(names)}; see docs/serving.md", err=True)
        return results


def _deploy(source: Path, output: Path, options: DeployOptions, as_json: bool) -> dict[str, Any]:
    from edgefel.cli.export_progress import RichProgress
    from edgefel.deploy.package import write_deploy_folder

    with RichProgress() as progress:
        deployed = write_deploy_folder(source, output, options, progress)
    for note in deployed.notes:
        click.echo(f"note: {note}", err=True)
    commands = _commands(deployed)
    if not as_json:
        _show(deployed, commands)
    files = [{"path": file.path, "bytes": file.size, "sha256": file.sha256} for file in deployed.files]
    return {
        "output": str(output),
        **deployed.header,
        "index_sha256": deployed.index_sha256,
        "files": files,
        "notes": list(deployed.notes),
        "commands": commands,
    }


def _commands(deployed: Deployed) -> list[str]:
    """How it comes to the device and starts there."""
    output, name = shlex.quote(str(deployed.output)), deployed.name
    script = f"./{shlex.quote(name)}/install.sh --index-sha256 {deployed.index_sha256}"
    install = f"ssh -t USER@DEVICE {shlex.quote(script)}"
    if deployed.output.is_dir():
        return [f"scp -r {output} USER@DEVICE:", install]
    unpack = shlex.quote(f"tar xf {shlex.quote(deployed.output.name)}")
    return [f"scp {output} USER@DEVICE:", f"ssh USER@DEVICE {unpack}", install]


def _show(deployed: Deployed, commands: list[str]) -> None:
    from rich.table import Table

    from edgefel.files.write import sha256

    table = Table("part", "files", title=f"{deployed.output} ({deployed.header['model']})")
    table.add_column("KB", justify="right")
    parts: dict[str, list[int]] = {}
    for file in deployed.files:
        inner, _, rest = file.path.partition("/")
        alone = not rest or inner == "model"
        parts.setdefault(file.path if alone else f"{inner}/", []).append(file.size)
    for name, sizes in parts.items():
        table.add_row(name, str(len(sizes)), f"{sum(sizes) / 1000:,.1f}")
    table_console().print(table)
    if deployed.output.is_file():
        click.echo(f"{deployed.output.stat().st_size / 1e6:.1f} MB, SHA-256 {sha256(deployed.output)}")
    click.echo("On the device:")
    for line in commands:
        click.echo(f"  {line}")


def _verify(path: Path, as_json: bool) -> None:
    from edgefel.deploy.verify import verify

    found = verify(path)
    if as_json:
        document = {"path": str(path), "files": found.files, "bytes": found.bytes, "extra": found.extra}
        document |= {"engines": found.engines, "index_sha256": found.index_sha256}
        click.echo(json.dumps(document | found.header, indent=2))
        return
    click.echo(f"{path}: {counted(found.files, 'file')}, {found.bytes / 1e6:.1f} MB, each as it was packed")
    click.echo(f"SHA-256 of index.json: {found.index_sha256}")
    if found.engines:
        click.echo("engines were built since, and are in the manifest")
    if found.extra:
        click.echo(f"{counted(found.extra, 'file is', 'files are')} there besides, and not checked")
