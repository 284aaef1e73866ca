"""GStreamer pipelines as argument lists of gst-launch-1.0, and checks of what is installed.

Every pipeline ends in raw RGB or RGBx in system memory. `gst_device` appends the elements that send it to this process,
and the element `both` if coded frames are sent too.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from edgefel.errors import EdgefelError

Pipeline = tuple[str, ...]

LAUNCH = "gst-launch-1.0"
DEFAULT_CSI_SIZE, DEFAULT_CSI_FPS = (1280, 720), 30.0
# milliseconds of the jitter buffer
RTSP_LATENCY = 100
# element of pipelines that send coded frames too
CODED = "name=coded"
PACKAGES = "gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad"

# nvvidconv reads the decoder's memory but writes no 3-byte pixels; videoflip applies the orientation of the video
_TURNED = ("!", "videoflip", "method=automatic", "!")
_FROM_NVMM = ("!", "nvvidconv", "!", "video/x-raw,format=RGBA", *_TURNED, "video/x-raw,format=RGBA")
_CONVERTED = ("!", "videoconvert", *_TURNED, "video/x-raw,format=RGB")
_IN_SOFTWARE = ("!", "decodebin", *_CONVERTED)


def csi_pipeline(sensor: int, size: tuple[int, int], fps: float) -> Pipeline:
    """A CSI camera of a Jetson through its image signal processor (Argus)."""
    return (
        *("nvarguscamerasrc", f"sensor-id={sensor}", "!"),
        *(f"video/x-raw(memory:NVMM),width={size[0]},height={size[1]},framerate={_fraction(fps)}", "!"),
        *("nvvidconv", "!", "video/x-raw,format=RGBA"),
    )


def camera_pipeline(device: Path, size: tuple[int, int] | None, fps: float | None) -> Pipeline:
    """A V4L2 camera. A size or rate is requested as JPEG or raw, whichever the camera offers."""
    source: Pipeline = ("v4l2src", f"device={quoted(device)}")
    caps = f",width={size[0]},height={size[1]}" if size is not None else ""
    caps += f",framerate={_fraction(fps)}" if fps is not None else ""
    if caps:
        source = (*source, "!", f"image/jpeg{caps};video/x-raw{caps}")
    return (*source, *_IN_SOFTWARE)


def rtsp_pipeline(url: str, *, hardware: bool) -> Pipeline:
    """An RTSP stream over TCP: with hardware decoding the codecs of nvv4l2decoder, such as H.264 and H.265, else any.

    Coded frames go to `both` along with the decoded ones, so that `gst_device` knows the key frames.
    """
    decoded = ("!", "nvv4l2decoder", *_FROM_NVMM) if hardware else _IN_SOFTWARE
    return (
        *("rtspsrc", f"location={quoted(url)}", "protocols=tcp", f"latency={RTSP_LATENCY}"),
        *("drop-on-latency=true", "!", "application/x-rtp,media=video", "!", "parsebin", "!", "tee", CODED),
        # first and without a queue, so that each coded frame is sent before its decoded one
        *("coded.", "!", "gdppay", "crc-header=false", "!", "both.", "coded.", "!", "queue", *decoded),
    )


def url_pipeline(url: str) -> Pipeline:
    """A stream or file at any URL that GStreamer supports, with the decoder that it selects."""
    return ("uridecodebin", f"uri={quoted(url)}", *_CONVERTED)


def file_pipeline(path: Path, *, hardware: bool) -> Pipeline:
    """A video file, as fast as its frames are read."""
    decoded = ("!", "parsebin", "!", "nvv4l2decoder", *_FROM_NVMM) if hardware else _IN_SOFTWARE
    return ("filesrc", f"location={quoted(path.absolute())}", *decoded)


def quoted(value: object) -> str:
    """Quotes a value for gst-launch, which joins its arguments and parses the result.

    Raises EdgefelError for control characters.
    """
    text = str(value)
    if any(ord(character) < 32 or ord(character) == 127 for character in text):
        raise EdgefelError(f"{text!r}: has control characters in it; GStreamer cannot open that, rename it")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


@lru_cache(maxsize=64)
def has_element(name: str) -> bool:
    """Whether an element is installed; False if GStreamer's tools are not."""
    inspect = shutil.which("gst-inspect-1.0")
    if inspect is None or shutil.which(LAUNCH) is None:
        return False
    try:
        command = [inspect, "--exists", name]
        return subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def has_hardware_decoder() -> bool:
    """Whether NVIDIA's decoder for Jetsons and the other elements of its pipelines are installed."""
    return all(has_element(name) for name in ("nvv4l2decoder", "nvvidconv", "gdppay"))


def check_installed(elements: Sequence[str] = ()) -> None:
    """Raises EdgefelError with the packages to install if GStreamer or an element is missing."""
    if shutil.which(LAUNCH) is None:
        raise EdgefelError(f"{LAUNCH}: not installed; sudo apt-get install {PACKAGES}")
    for name in elements:
        if has_element(name):
            continue
        if name.startswith("nv"):
            raise EdgefelError(
                f"GStreamer has no element {name}: this is no Jetson, or its multimedia packages are missing "
                f"(sudo apt-get install nvidia-l4t-gstreamer nvidia-l4t-multimedia); a USB camera is opened by number"
            )
        raise EdgefelError(f"GStreamer has no element {name}; sudo apt-get install {PACKAGES}")


def _fraction(fps: float) -> str:
    """Frame rate as a fraction; 29.97 is 30000/1001."""
    if abs(fps - round(fps)) < 1e-3:
        return f"{round(fps)}/1"
    film = fps * 1.001
    return f"{round(film) * 1000}/1001" if abs(film - round(film)) < 0.01 else f"{round(fps * 1000)}/1000"
