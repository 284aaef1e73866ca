"""Opens the sources that `edgefel run --source` accepts."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from edgefel.data.images import IMAGE_SUFFIXES
from edgefel.errors import EdgefelError
from edgefel.files.read import native_path
from edgefel.runtime.stream import gstreamer
from edgefel.runtime.stream.devices import (
    CaptureDevice,
    camera_file,
    open_camera,
    open_url,
    open_video,
)
from edgefel.runtime.stream.frames import FrameSource
from edgefel.runtime.stream.gst_device import GstDevice
from edgefel.runtime.stream.live import LiveSource
from edgefel.runtime.stream.sources import VIDEO_SUFFIXES, FolderSource
from edgefel.runtime.stream.sources import open_source as open_images
from edgefel.runtime.stream.video import VideoFile
from edgefel.text import without_password

Decoder = Literal["auto", "opencv", "gstreamer"]


@dataclass(frozen=True)
class SourceOptions:
    """Options of a source.

    size, fps: requested from a camera; for a folder, fps is images per second. loop: files start again at their end.
    decoder: "auto" is GStreamer where it decodes in hardware (Jetson: RTSP, video files) or is the only way (CSI), else
    OpenCV; the source's description says which. patience: seconds for which a failed live source is reopened.

    Raises EdgefelError for values out of range.
    """

    size: tuple[int, int] | None = None
    fps: float | None = None
    loop: bool = False
    decoder: Decoder = "auto"
    patience: float = 10.0

    def __post_init__(self) -> None:
        if self.size is not None and min(self.size) < 1:
            width, height = self.size
            raise EdgefelError(f"size is {width}x{height}; give a width and a height greater than 0")
        if self.fps is not None and not 0 < self.fps <= 1000:
            raise EdgefelError(f"fps is {self.fps}; give a number greater than 0, at most 1000")
        if self.patience < 0:
            raise EdgefelError(f"patience is {self.patience}; give seconds, 0 for no second try")


@dataclass(frozen=True)
class SourcePlan:
    """A checked source that is not open yet. live: open it late, since its frames arrive from then on."""

    open: Callable[[], FrameSource]
    live: bool = False


def open_source(source: str | int | os.PathLike[str], **options: Any) -> FrameSource:
    """Opens a source; see `plan_source`. options: fields of `SourceOptions`.

    Raises EdgefelError also if it cannot be opened.
    """
    return plan_source(source, SourceOptions(**options)).open()


def plan_source(source: str | int | os.PathLike[str], options: SourceOptions) -> SourcePlan:
    """Finds out what a source is, without opening it.

    source: 0, "0", "1" or a device file is a camera; "csi" or "csi:1" a CSI camera of a Jetson; rtsp:// and http:// a
    stream, or with a video's suffix a video that is read to its end; anything else a video, an image or a folder of
    images.

    Raises EdgefelError if there is no such source, or an option does not apply to it.
    """
    source = str(source) if isinstance(source, int) else os.fspath(source)
    if not source:  # as a path it would be the current folder
        raise EdgefelError("--source is empty; give a camera (0, csi), a URL, a video or images")
    if "://" in source:
        return _plan_address(source, options)
    path = Path(source)
    csi = re.fullmatch(r"csi(?::(\d+))?", source)
    if csi or re.fullmatch(r"\d+|/dev/video\d+", source) or path.is_char_device():
        _refuse(source, "a camera", loop=options.loop)
        if csi:
            opener, name = partial(_csi, int(csi[1] or 0), options), source
        else:
            opener, name = partial(_camera, source, options), f"camera {source}"
            camera_file(source)  # raises its errors early
        return SourcePlan(partial(LiveSource, opener, name, options.patience), live=True)
    if path.is_dir() or path.suffix.lower() in IMAGE_SUFFIXES:
        _refuse(source, "images", size=options.size)
        return SourcePlan(partial(FolderSource, open_images(path), options.fps, loop=options.loop))
    if not path.exists():
        raise EdgefelError(
            f"{source}: no such file or folder; give a camera (0, /dev/video0, csi), a URL, a video or images"
        )
    native_path(path)
    _refuse(source, "a video", size=options.size, fps=options.fps)
    return SourcePlan(partial(VideoFile, partial(_video, path, options.decoder), source, loop=options.loop))


def _plan_address(url: str, options: SourceOptions) -> SourcePlan:
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise EdgefelError(
            f"{without_password(url)}: not a URL ({error}); give it as rtsp://host/path"
        ) from None
    native_path(url)
    name = without_password(url)
    if parts.scheme not in ("rtsp", "rtsps", "http", "https", "rtmp", "udp", "tcp", "srt"):
        raise EdgefelError(
            f"{name}: unknown kind of address; give rtsp://..., http://... or a path without ://"
        )
    _refuse(name, "a stream", size=options.size, fps=options.fps)
    opener = partial(_stream, url, options.decoder)
    if Path(parts.path).suffix.lower() in VIDEO_SUFFIXES and parts.scheme in ("http", "https"):
        return SourcePlan(partial(VideoFile, opener, name, loop=options.loop))
    _refuse(name, "a stream", loop=options.loop)
    return SourcePlan(partial(LiveSource, opener, name, options.patience), live=True)


def _refuse(source: str, kind: str, **options: object) -> None:
    """Raises EdgefelError for an option that is set but does not apply."""
    for name, value in options.items():
        if value is not None and value is not False:
            raise EdgefelError(f"{source}: is {kind}, for which {name} has no meaning; leave it out")


def _csi(sensor: int, options: SourceOptions) -> CaptureDevice:
    if options.decoder == "opencv":
        raise EdgefelError("csi: CSI cameras are read by GStreamer alone; leave out the decoder opencv")
    size, fps = options.size or gstreamer.DEFAULT_CSI_SIZE, options.fps or gstreamer.DEFAULT_CSI_FPS
    return GstDevice(gstreamer.csi_pipeline(sensor, size, fps), f"csi:{sensor}")


def _camera(source: str, options: SourceOptions) -> CaptureDevice:
    path = camera_file(source)
    if options.decoder != "gstreamer":
        return open_camera(path, options.size, options.fps)
    return GstDevice(gstreamer.camera_pipeline(path, options.size, options.fps), str(path))


def _stream(url: str, decoder: Decoder) -> CaptureDevice:
    rtsp = urlsplit(url).scheme in ("rtsp", "rtsps")
    hardware = rtsp and decoder != "opencv" and gstreamer.has_hardware_decoder()
    if not hardware and decoder != "gstreamer":
        return open_url(url)
    pipeline = gstreamer.rtsp_pipeline(url, hardware=hardware) if rtsp else gstreamer.url_pipeline(url)
    return GstDevice(pipeline, without_password(url))


def _video(path: Path, decoder: Decoder) -> CaptureDevice:
    hardware = decoder != "opencv" and gstreamer.has_hardware_decoder()
    if not hardware and decoder != "gstreamer":
        return open_video(path)
    pipeline = gstreamer.file_pipeline(path, hardware=hardware)
    return GstDevice(pipeline, str(path), stall=60.0, frames=_announced(path))


def _announced(path: Path) -> int:
    """The number of frames that the file announces; 0 if OpenCV cannot open it, which GStreamer may still do."""
    with suppress(EdgefelError), closing(open_video(path)) as device:
        return device.frames
    return 0
