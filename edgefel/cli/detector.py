"""`edgefel detector`."""

from __future__ import annotations

from pathlib import Path

import click

from edgefel.cli import params
from edgefel.cli.console import Bars, console_on_stderr, print_json, say, warn, working
from edgefel.cli.lazy import require
from edgefel.cli.param_types import PATH, POSITIVE, SIZE
from edgefel.text import counted

_PRECISIONS = ("fp16", "int8+fp16")


@click.group("detector")
def command() -> None:
    """Get the face detector YuNet, which replaces OpenCV's Haar cascade as the default.

    \b
    Examples:
      edgefel detector get
      edgefel detector engine --size 640x480       on a device with TensorRT
      edgefel detector quantize --data photos      for an engine in INT8
    """


@command.command("get")
@click.option("--from", "source", type=PATH, help="Take this file instead of downloading it.")
def get(source: Path | None) -> None:
    """Download YuNet's ONNX file (230 kB, MIT licence) from OpenCV's model zoo.

    `predict`, `run` and `data prepare` then use it unless --detector says otherwise. Its SHA-256 is checked. A
    download that broke off goes on where it ended; proxies are those of the environment (https_proxy).

    \b
    Examples:
      edgefel detector get
      edgefel detector get --from face_detection_yunet_2026may.onnx
    """
    from edgefel.runtime.detector_download import download_detector
    from edgefel.runtime.detector_file import NAME, detector_path, install_detector, is_published

    if source is None and is_published(detector_path()):
        click.echo(f"{detector_path()} is there already")
        return
    with working(f"getting {NAME}"):
        path = download_detector() if source is None else install_detector(source)
    click.echo(str(path))


@command.command("quantize")
@params.data("Folder of photographs with faces, at any depth.", required=True)
@click.option("--precision", type=click.Choice(_PRECISIONS), default="int8+fp16", help="Of the file.")
@click.option(
    "--images", type=POSITIVE, help="Most photographs to calibrate on, and to compare on.  [default: 128]"
)
@params.detector_model
@params.force("Write a file that falls short of the FP32 file.")
@params.json_output
def quantize(
    data: Path, precision: str, images: int | None, detector_model: Path | None, force: bool, as_json: bool
) -> None:
    """Write YuNet's file in FP16, or in INT8 over FP16, for a TensorRT engine.

    Every second photograph calibrates INT8; on the others the file must find at least 99 % of the faces that the FP32
    file finds, in boxes with a mean IoU of at least 0.95, and at most 2 % more faces, else it is not written. Only
    `edgefel detector engine --precision` uses it: on a CPU it is slower than FP32.

    \b
    Examples:
      edgefel detector quantize --data photos
      edgefel detector quantize --data photos --precision fp16
    """
    require("export", "edgefel detector quantize", "onnx")
    from edgefel.export.detector import IMAGES, quantize_detector
    from edgefel.runtime.faces import choose_detector
    from edgefel.runtime.yunet_backend import variant_path

    _, model = choose_detector("yunet", detector_model)
    assert model is not None
    errors = console_on_stderr()
    with Bars(console=errors, transient=True, disable=not errors.is_terminal) as progress:
        record = quantize_detector(
            model, data, precision, images=images or IMAGES, force=force, progress=progress
        )
    parity, path = record["parity"], variant_path(model, precision)
    if as_json:
        print_json({"file": str(path)} | record)
        return
    click.echo(str(path))
    warn(*parity["reasons"])
    if record["skipped"]:
        warn(f"skipped {len(record['skipped'])} unreadable: {', '.join(record['skipped'][:3])}")
    faces = f"{parity['found']} of the {counted(parity['faces'], 'face')} that FP32 finds"
    where = f"in {counted(parity['images'], 'image')}, and {parity['extra']} others"
    say(errors, f"{faces} {where}; mean IoU {parity['mean_iou']:.3f}")


@command.command("engine")
@click.option("--size", type=SIZE, default="640x480", help="Size that images are shrunk to.")
@click.option(
    "--precision",
    type=click.Choice(("fp32", *_PRECISIONS)),
    default="fp32",
    help="File to build from: YuNet's own, or one of `edgefel detector quantize`.",
)
@params.detector_model
@params.no_cache
def engine(size: tuple[int, int], precision: str, detector_model: Path | None, no_cache: bool) -> None:
    """Build a TensorRT engine of YuNet's ONNX file, on the device that runs it.

    `predict` and `run` then detect on the GPU. The engine takes images of one size; larger ones are shrunk to it. It is
    written beside the ONNX file, and needs TensorRT and pycuda.

    \b
    Examples:
      edgefel detector engine
      edgefel detector engine --size 960x544
      edgefel detector engine --precision int8+fp16
    """
    from edgefel.export.tensorrt.cache import EngineCache
    from edgefel.export.tensorrt.detector import build_detector_engine
    from edgefel.runtime.faces import choose_detector
    from edgefel.runtime.yunet_backend import engine_path

    _, model = choose_detector("yunet", detector_model)
    assert model is not None
    with Bars() as progress:
        file = build_detector_engine(
            model, size, None if no_cache else EngineCache.default(), progress, precision
        )
    warn(*(file.builder or {}).get("warnings", ()))
    click.echo(str(engine_path(model)))
