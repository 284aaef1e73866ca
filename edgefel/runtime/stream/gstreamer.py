"""GStreamer pipelines as argument lists of gst-launch-1.0: pure functions, and what is installed.

Every pipeline ends in raw RGB or RGBx in system memory; `gst_device` appends what carries it to this process, and the
element `both` where coded frames go there too.
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
# milliseconds of jitter that an RTSP receiver evens out
RTSP_LATENCY = 100
# of a pipeline that sends coded frames too
CODED = "name=coded"
PACKAGES = "gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad"

# nvvidconv reads the decoder's memory and scales, but writes no 3-byte pixels; the flip is by the video's own tag
_FROM_NVMM: Pipeline = (
    *("!", "nvvidconv", "!", "video/x-raw,format=RGBA", "!"),
    *("videoflip", "method=automatic", "!", "video/x-raw,format=RGBA"),
)
_IN_SOFTWARE: Pipeline = (
    *("!", "decodebin", "!", "videoconvert", "!"),
    *("videoflip", "method=automatic", "!", "video/x-raw,format=RGB"),
)


def csi_pipeline(sensor: int, size: tuple[int, int], fps: float) -> Pipeline:
    """A CSI camera of a Jetson through its image signal processor (Argus)."""
    return (
        *("nvarguscamerasrc", f"sensor-id={sensor}", "!"),
        *(f"video/x-raw(memory:NVMM),width={size[0]},height={size[1]},framerate={_fraction(fps)}", "!"),
        *("nvvidconv", "!", "video/x-raw,format=RGBA"),
    )


def camera_pipeline(device: Path, size: tuple[int, int] | None, fps: float | None) -> Pipeline:
    """A V4L2 camera; with a size or rate, in whichever of JPEG and raw it offers them."""
    source: Pipeline = ("v4l2src", f"device={quoted(device)}")
    wish = f",width={size[0]},height={size[1]}" if size is not None else ""
    wish += f",framerate={_fraction(fps)}" if fps is not None else ""
    if wish:
        source = (*source, "!", f"image/jpeg{wish};video/x-raw{wish}")
    return (*source, *_IN_SOFTWARE)


def rtsp_pipeline(url: str, *, hardware: bool) -> Pipeline:
    """An RTSP stream over TCP; H.264, H.265 and what else nvv4l2decoder takes, or in software anything.

    The coded frames go to `both` beside the decoded ones, which tells `gst_device` where key frames are.
    """
    decoded = ("!", "nvv4l2decoder", *_FROM_NVMM) if hardware else _IN_SOFTWARE
    return (
        *("rtspsrc", f"location={quoted(url)}", "protocols=tcp", f"latency={RTSP_LATENCY}"),
        *("drop-on-latency=true", "!", "application/x-rtp,media=video", "!", "parsebin", "!", "tee", CODED),
        # first, and in the thread that brings them: each coded frame is sent before its decoded one can be
        *("coded.", "!", "gdppay", "crc-header=false", "!", "both.", "coded.", "!", "queue", *decoded),
    )


def url_pipeline(url: str) -> Pipeline:
    """A stream or file at any URL that GStreamer knows, decoded by whatever it picks."""
    source = ("uridecodebin", f"uri={quoted(url)}", "!", "videoconvert", "!")
    return (*source, "videoflip", "method=automatic", "!", "video/x-raw,format=RGB")


def file_pipeline(path: Path, *, hardware: bool) -> Pipeline:
    """A video file, as fast as its frames are taken."""
    return ("filesrc", f"location={quoted(path.absolute())}", *_decoded(hardware))


def quoted(value: object) -> str:
    """A value that gst-launch takes as one string whatever is in it: it joins its arguments and parses the whole.

    Raises EdgefelError for control characters, which no address and no sane file name has.
    """
    text = str(value)
    if any(ord(character) < 32 or ord(character) == 127 for character in text):
        raise EdgefelError(f"{text!r}: has control characters in it; GStreamer cannot open that, rename it")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


@lru_cache(maxsize=64)
def has_element(name: str) -> bool:
    """Whether an element is installed; False where GStreamer's tools are not."""
    inspect = shutil.which("gst-inspect-1.0")
    if inspect is None or shutil.which(LAUNCH) is None:
        return False
    try:
        command = [inspect, "--exists", name]
        return subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def has_hardware_decoder() -> bool:
    """Whether this is a Jetson with NVIDIA's decoder, and everything else that a pipeline needs."""
    return all(has_element(name) for name in ("nvv4l2decoder", "nvvidconv", "gdppay"))


def check_installed(elements: Sequence[str] = ()) -> None:
    """Raises EdgefelError naming what to install."""
    if shutil.which(LAUNCH) is None:
        raise EdgefelError(f"{LAUNCH}: not installed; sudo apt-get install {PACKAGES}")
    for name in elements:
        if not has_element(name) and name.startswith("nv"):
            raise EdgefelError(
                f"GStreamer has no element {name}: this is no Jetson, or its multimedia packages are missing "
                f"(sudo apt-get install nvidia-l4t-gstreamer nvidia-l4t-multimedia); a USB camera is opened by number"
            )
        if not has_element(name):
            raise EdgefelError(f"GStreamer has no element {name}; sudo apt-get install {PACKAGES}")


def _decoded(hardware: bool) -> Pipeline:
    return ("!", "parsebin", "!", "nvv4l2decoder", *_FROM_NVMM) if hardware else _IN_SOFTWARE


def _fraction(fps: float) -> str:
    """29.97 is 30000/1001 in video, whole numbers are themselves."""
    if abs(fps - round(fps)) < 1e-3:
        return f"{round(fps)}/1"
    return (
        f"{round(fps * 1.001) * 1000}/1001"
        if abs(fps * 1.001 - round(fps * 1.001)) < 0.01
        else f"{round(fps * 1000)}/1000"
    )
