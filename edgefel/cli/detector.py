"""`edgefel detector`."""

from __future__ import annotations

from pathlib import Path

import click

from edgefel.cli import params
from edgefel.cli.console import Bars, warn, working
from edgefel.cli.param_types import PATH, SIZE


@click.group("detector")
def command() -> None:
    """Get the face detector YuNet, which replaces OpenCV's Haar cascade as the default.

    \b
    Examples:
      edgefel detector get
      edgefel detector engine --size 640x480       on a device with TensorRT
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


@command.command("engine")
@click.option("--size", type=SIZE, default="640x480", help="Size that images are shrunk to.")
@params.detector_model
@params.no_cache
def engine(size: tuple[int, int], detector_model: Path | None, no_cache: bool) -> None:
    """Build a TensorRT engine of YuNet's ONNX file, on the device that runs it.

    `predict` and `run` then detect on the GPU. The engine takes images of one size; larger ones are shrunk to it. It is
    written beside the ONNX file, and needs TensorRT and pycuda.

    \b
    Examples:
      edgefel detector engine
      edgefel detector engine --size 960x544
    """
    from edgefel.export.tensorrt.cache import EngineCache
    from edgefel.export.tensorrt.detector import build_detector_engine
    from edgefel.runtime.faces import choose_detector
    from edgefel.runtime.yunet_backend import engine_path

    _, model = choose_detector("yunet", detector_model)
    assert model is not None
    with Bars() as progress:
        file = build_detector_engine(model, size, None if no_cache else EngineCache.default(), progress)
    warn(*(file.builder or {}).get("warnings", ()))
    click.echo(str(engine_path(model)))
