"""`edgefel detector`."""

from __future__ import annotations

from pathlib import Path

import click

from edgefel.cli.console import working
from edgefel.cli.param_types import PATH


@click.group("detector")
def command() -> None:
    """Get the face detector YuNet, which replaces OpenCV's Haar cascade as the default.

    \b
    Examples:
      edgefel detector get
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
    from edgefel.runtime.detector_file import (
        NAME,
        detector_path,
        download_detector,
        install_detector,
        is_published,
    )

    if source is None and is_published(detector_path()):
        click.echo(f"{detector_path()} is there already")
        return
    with working(f"getting {NAME}"):
        path = download_detector() if source is None else install_detector(source)
    click.echo(str(path))
