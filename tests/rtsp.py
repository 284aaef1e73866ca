"""Real RTSP streams of `rtsp_server.py` for tests, and whether the frames that come are the ones it drew."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from edgefel.bench.experiments.stream_latency import RtspServer, difference, number_of
from edgefel.runtime.stream.frames import Frame
from edgefel.runtime.stream.gstreamer import has_element

SCRIPT = Path(__file__).with_name("rtsp_server.py")
FPS, KEYS = 15, 45
ENCODERS = {"h264": "x264enc", "h265": "x265enc", "jpeg": "jpegenc"}
# a few for the codec, dozens for grey
MOST_DIFFERENCE = 25

Serve = Callable[..., RtspServer]


def has_server() -> bool:
    python = shutil.which("python3", path="/usr/bin")
    code = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer"
    return (
        python is not None
        and not subprocess.run([python, "-c", code], capture_output=True, check=False).returncode
    )


needs_server = pytest.mark.skipif(
    not (has_element("gdppay") and has_element("x264enc") and has_element("avdec_h264") and has_server()),
    reason="GStreamer's plugins (base, good, bad, ugly, libav) and gir1.2-gst-rtsp-server-1.0 are not installed",
)


def start(codec: str, *options: object) -> RtspServer:
    if not has_element(ENCODERS[codec]):
        pytest.skip(f"{ENCODERS[codec]} is not installed")
    return RtspServer(SCRIPT, "--codec", codec, "--fps", FPS, "--keys", KEYS, *options)


def check_whole(frames: Sequence[Frame]) -> None:
    """Every frame is as drawn, and they come in order."""
    assert max(difference(frame.image) for frame in frames) < MOST_DIFFERENCE
    for order in ([number_of(frame.image) for frame in frames], [frame.index for frame in frames]):
        assert all(later > earlier for earlier, later in pairwise(order))
