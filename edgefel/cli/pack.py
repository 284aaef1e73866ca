"""`edgefel pack`."""

from __future__ import annotations

import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import click

from edgefel.cli import params
from edgefel.cli.console import Bars, print_json, print_table
from edgefel.cli.lazy import require
from edgefel.cli.param_types import PATH, POSITIVE
from edgefel.errors import EdgefelError
from edgefel.text import counted

if TYPE_CHECKING:
    from edgefel.deploy.package import Deployed


@click.command("pack")
@params.bundle_or_none
@params.output("Archive (.tar, .tar.gz, .tgz) or folder for a device.", required=False)
@params.precisions(
    help="ONNX files to pack, such as fp16,int8.  [default: all that did not fail their comparison]"
)
@params.force("Pack files that failed their comparison with PyTorch.")
@params.overwrite("Replace an archive or folder that exists.")
@click.option(
    "--kernels",
    type=PATH,
    help="Folder written by `edgefel kernels compile`.  [default: compile them, where Triton is installed]",
)
@click.option("--no-kernels", is_flag=True, help="Leave compiled kernels out.")
@params.arch
@click.option(
    "--triton-repository",
    type=PATH,
    help="New folder for a model repository of NVIDIA Triton Inference Server.",
)
@click.option("--triton-engine", is_flag=True, help="Serve the bundle's TensorRT engine, not an ONNX file.")
@click.option(
    "--triton-device",
    type=click.Choice(["auto", "gpu", "cpu"]),
    default="auto",
    help="Where the server runs the network.",
)
@click.option(
    "--triton-instances", type=POSITIVE, default=1, help="Instances of the network per device of the server."
)
@click.option("--deepstream", type=PATH, help="New folder for nvinfer configuration.")
@params.max_batch("Largest batch in Triton Inference Server and DeepStream.  [default: 16, or the engine's]")
@click.option(
    "--verify", "verifying", is_flag=True, help="Check an archive or folder that was packed; write nothing."
)
@params.json_output
def command(**values: Any) -> None:
    """Pack a bundle for a device, or for a server.

    BUNDLE is a bundle of `edgefel export`; without one, the network that comes with edgefel is packed. With --verify,
    BUNDLE is an archive or folder of `edgefel pack`. With -o, packs the ONNX files together with edgefel itself, an
    installation script for JetPack 6 and 7, a systemd unit and compiled kernels; the same input gives the same bytes.
    Engines are left out: the device builds its own.

    \b
    Examples:
      edgefel pack bundle -o edge.tar
      edgefel pack bundle -o edge.tar.gz --precision fp16,int8 --no-kernels
      edgefel pack edge.tar --verify
      edgefel pack bundle --triton-repository models --deepstream nvinfer
    """
    from edgefel.runtime.shipped import shipped_bundle

    options = SimpleNamespace(**values)
    servers = [folder for folder in (options.triton_repository, options.deepstream) if folder is not None]
    if options.verifying:
        if options.output is not None or servers:
            raise EdgefelError("--verify writes nothing; leave -o, --triton-repository and --deepstream out")
        if options.bundle is None:
            raise EdgefelError("--verify needs an archive or folder of 'edgefel pack' in the place of BUNDLE")
        _verify(options.bundle, options.as_json)
        return
    if options.output is None and not servers:
        raise EdgefelError("nothing to write: give -o edge.tar, --triton-repository DIR or --deepstream DIR")
    for option in ("triton_engine", "triton_device", "triton_instances"):
        params.refuse_alone(option, "triton_repository")
    _check_servers(options, servers)
    options.bundle = options.bundle or shipped_bundle()
    results = _deploy(options) if options.output is not None else {}
    results |= _write_servers(options)
    if options.as_json:
        print_json(results)


def _check_servers(options: SimpleNamespace, servers: list[Path]) -> None:
    """Refuses bad options before the first of several outputs is written.

    A server takes one file, where a device may have several.
    """
    from edgefel.files.write import check_free

    if options.max_batch is not None and not servers:
        raise EdgefelError("--max-batch belongs to --triton-repository and --deepstream; leave it out")
    places = [path.resolve() for path in (*servers, options.output) if path is not None]
    if len(set(places)) < len(places):
        raise EdgefelError("two outputs have the same name; give each a place of its own")
    for folder in servers:
        check_free(folder)
    if servers and len(options.precisions) > 1:
        raise EdgefelError("--triton-repository and --deepstream take one file; give --precision once")
    if options.deepstream is not None:
        require("export", "--deepstream", "onnx")  # before the other folders are written


def _write_servers(options: SimpleNamespace) -> dict[str, Any]:
    precision = next(iter(options.precisions), None)
    written: dict[str, tuple[Path, list[Path]]] = {}
    if (folder := options.triton_repository) is not None:
        from edgefel.deploy.triton_server import TritonOptions, write_triton_repository

        triton = TritonOptions(
            precision=precision,
            engine=options.triton_engine,
            max_batch=options.max_batch,
            device=options.triton_device,
            instances=options.triton_instances,
            force=options.force,
        )
        written["triton"] = folder, write_triton_repository(options.bundle, folder, triton)
    if (folder := options.deepstream) is not None:
        from edgefel.deploy.deepstream import DeepStreamOptions, write_deepstream

        nvinfer = DeepStreamOptions(
            precision=precision, max_batch=options.max_batch or 16, force=options.force
        )
        written["deepstream"] = folder, write_deepstream(options.bundle, folder, nvinfer)
    results = {}
    for name, (folder, files) in written.items():
        names = [file.relative_to(folder).as_posix() for file in files]
        results[name] = {"output": str(folder), "files": names}
        if not options.as_json:
            click.echo(f"wrote {folder}: {', '.join(names)}; see docs/serving.md", err=True)
    return results


def _deploy(options: SimpleNamespace) -> dict[str, Any]:
    from edgefel.deploy.package import DeployOptions, write_deploy_folder

    chosen = (options.precisions, options.force, options.kernels, options.no_kernels, options.archs)
    with Bars() as progress:
        deployed = write_deploy_folder(
            options.bundle, options.output, DeployOptions(*chosen, options.overwrite), progress
        )
    for note in deployed.notes:
        click.echo(f"note: {note}", err=True)
    commands = _commands(deployed)
    if not options.as_json:
        _show(deployed, commands)
    files = [{"path": file.path, "bytes": file.size, "sha256": file.sha256} for file in deployed.files]
    document = {
        "output": str(options.output),
        **deployed.header,
        "index_sha256": deployed.index_sha256,
        "files": files,
        "notes": list(deployed.notes),
        "commands": commands,
    }
    return {"deploy": document}


def _commands(deployed: Deployed) -> list[str]:
    """Shell commands that copy the output to the device and install it there."""
    output, name = shlex.quote(str(deployed.output)), deployed.name
    script = f"./{shlex.quote(name)}/install.sh --index-sha256 {deployed.index_sha256}"
    install = f"ssh -t USER@DEVICE {shlex.quote(script)}"
    if deployed.output.is_dir():
        return [f"scp -r {output} USER@DEVICE:", install]
    unpack = shlex.quote(f"tar xf {shlex.quote(deployed.output.name)}")
    return [f"scp {output} USER@DEVICE:", f"ssh USER@DEVICE {unpack}", install]


def _show(deployed: Deployed, commands: list[str]) -> None:
    from edgefel.files.write import sha256

    parts: dict[str, list[int]] = {}
    for file in deployed.files:
        inner, _, rest = file.path.partition("/")
        alone = not rest or inner == "model"
        parts.setdefault(file.path if alone else f"{inner}/", []).append(file.size)
    rows = [(name, str(len(sizes)), f"{sum(sizes) / 1000:,.1f}") for name, sizes in parts.items()]
    print_table(("part", "files", ">KB"), rows, f"{deployed.output} ({deployed.header['model']})")
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
        print_json(document | found.header)
        return
    click.echo(f"{path}: {counted(found.files, 'file')}, {found.bytes / 1e6:.1f} MB, each as it was packed")
    click.echo(f"SHA-256 of index.json: {found.index_sha256}")
    if found.engines:
        click.echo("engines were built since, and are in the manifest")
    if found.extra:
        click.echo(f"{counted(found.extra, 'more file is', 'more files are')} present, and not checked")
