"""Opens whatever `edgefel run --source` names."""

from __future__ import annotations

import re
import stat
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from edgefel.errors import EdgefelError
from edgefel.files.read import native_path
from edgefel.runtime.stream import gstreamer
from edgefel.runtime.stream.devices import (
    Device,
    check_camera_file,
    open_camera,
    open_url,
    open_video,
    without_password,
)
from edgefel.runtime.stream.folder import ImageFolder
from edgefel.runtime.stream.frames import FrameSource
from edgefel.runtime.stream.gst_device import GstDevice
from edgefel.runtime.stream.live import LiveSource
from edgefel.runtime.stream.sources import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from edgefel.runtime.stream.sources import open_source as open_images
from edgefel.runtime.stream.video import VideoFile

Decoder = Literal["auto", "opencv", "gstreamer"]


@dataclass(frozen=True)
class SourcePlan:
    """A source whose name and options are right. live: opened late, since its frames come from then on."""

    open: Callable[[], FrameSource]
    live: bool = False


def open_source(
    source: str,
    *,
    size: tuple[int, int] | None = None,
    fps: float | None = None,
    loop: bool = False,
    decoder: Decoder = "auto",
    patience: float = 10.0,
) -> FrameSource:
    """Opens a source of frames.

    source: "0", "1" or a device file is a camera; "csi" or "csi:1" a CSI camera of a Jetson; rtsp:// and http:// a
    stream, or with a video's suffix a video that is read to its end; anything else a video, an image or a folder of
    images. size, fps: asked of a camera; fps of a folder is how many images make a second. loop: files start
    again at their end. decoder: "auto" is GStreamer where it decodes in hardware (Jetson: RTSP, video files) or
    is the only way (CSI), else OpenCV; the source's description says which. patience: seconds that a live source that
    failed is tried again.

    Raises EdgefelError if it cannot be opened, or an option does not go with it.
    """
    return plan_source(source, size=size, fps=fps, loop=loop, decoder=decoder, patience=patience).open()


def plan_source(
    source: str,
    *,
    size: tuple[int, int] | None = None,
    fps: float | None = None,
    loop: bool = False,
    decoder: Decoder = "auto",
    patience: float = 10.0,
) -> SourcePlan:
    """Checks what `open_source` is given, and opens nothing. Raises EdgefelError for what can be told without that."""
    if size is not None and min(size) < 1:
        raise EdgefelError(f"size is {size[0]}x{size[1]}; give a width and a height greater than 0")
    if fps is not None and not 0 < fps <= 1000:
        raise EdgefelError(f"fps is {fps}; give a number greater than 0, at most 1000")
    if patience < 0:
        raise EdgefelError(f"patience is {patience}; give seconds, 0 for no second try")
    camera = re.fullmatch(r"csi(?::(\d+))?", source)
    if camera or _is_camera(source):
        _refuse(source, "a camera", loop=loop)
        wanted = (
            partial(_csi, int(camera[1] or 0), size, fps, decoder)
            if camera
            else partial(_camera, source, size, fps, decoder)
        )
        name = source if camera else f"camera {source}"
        if not camera:
            check_camera_file(Path(f"/dev/video{source}") if source.isdigit() else Path(source))
        return SourcePlan(partial(LiveSource, wanted, name, patience), live=True)
    if "://" in source:
        return _plan_address(source, size, fps, loop, decoder, patience)
    path = Path(source)
    if path.is_dir() or path.suffix.lower() in IMAGE_SUFFIXES:
        _refuse(source, "images", size=size)
        return SourcePlan(partial(ImageFolder, open_images(path), fps or 1.0, loop=loop))
    if not path.exists():
        raise EdgefelError(
            f"{source}: no such file or folder; give a camera (0, /dev/video0, csi), a URL, a video or images"
        )
    native_path(path)
    _refuse(source, "a video", size=size, fps=fps)
    return SourcePlan(partial(VideoFile, partial(_video, path, decoder), source, loop=loop))


def _plan_address(
    url: str, size: tuple[int, int] | None, fps: float | None, loop: bool, decoder: Decoder, patience: float
) -> SourcePlan:
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
    _refuse(name, "a stream", size=size, fps=fps)
    if Path(parts.path).suffix.lower() in VIDEO_SUFFIXES and parts.scheme in ("http", "https"):
        return SourcePlan(partial(VideoFile, partial(_stream, url, decoder), name, loop=loop))
    _refuse(name, "a stream", loop=loop)
    return SourcePlan(partial(LiveSource, partial(_stream, url, decoder), name, patience), live=True)


def _is_camera(source: str) -> bool:
    if source.isdigit() or re.fullmatch(r"/dev/video\d+", source):
        return True
    try:
        return stat.S_ISCHR(Path(source).stat().st_mode)
    except (OSError, ValueError):
        return False


def _refuse(source: str, kind: str, **options: object) -> None:
    """An option that would be ignored in silence is an error."""
    for name, value in options.items():
        if value is not None and value is not False:
            raise EdgefelError(f"{source}: is {kind}, for which {name} has no meaning; leave it out")


def _csi(sensor: int, size: tuple[int, int] | None, fps: float | None, decoder: Decoder) -> Device:
    if decoder == "opencv":
        raise EdgefelError("csi: CSI cameras are read by GStreamer alone; leave out the decoder opencv")
    pipeline = gstreamer.csi_pipeline(
        sensor, size or gstreamer.DEFAULT_CSI_SIZE, fps or gstreamer.DEFAULT_CSI_FPS
    )
    return GstDevice(pipeline, f"csi:{sensor}")


def _camera(source: str, size: tuple[int, int] | None, fps: float | None, decoder: Decoder) -> Device:
    if decoder != "gstreamer":
        return open_camera(source, size, fps)
    path = Path(f"/dev/video{source}") if source.isdigit() else Path(source)
    check_camera_file(path)
    return GstDevice(gstreamer.camera_pipeline(path, size, fps), str(path))


def _stream(url: str, decoder: Decoder) -> Device:
    rtsp = urlsplit(url).scheme in ("rtsp", "rtsps")
    hardware = rtsp and decoder != "opencv" and gstreamer.has_hardware_decoder()
    if not hardware and decoder != "gstreamer":
        return open_url(url)
    pipeline = gstreamer.rtsp_pipeline(url, hardware=hardware) if rtsp else gstreamer.url_pipeline(url)
    return GstDevice(pipeline, without_password(url))


def _video(path: Path, decoder: Decoder) -> Device:
    hardware = decoder != "opencv" and gstreamer.has_hardware_decoder()
    if not hardware and decoder != "gstreamer":
        return open_video(path)
    return GstDevice(
        gstreamer.file_pipeline(path, hardware=hardware), str(path), stall=60.0, frames=_announced(path)
    )


def _announced(path: Path) -> int:
    """Frames that the file announces; 0 where OpenCV cannot open it, and GStreamer perhaps can."""
    opener: Callable[[Path], Device] = open_video
    try:
        device = opener(path)
    except EdgefelError:
        return 0
    frames = device.frames
    device.close()
    return frames
