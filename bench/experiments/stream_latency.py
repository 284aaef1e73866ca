"""How old the frames of an RTSP stream are when they have been decoded, by decoder, on this machine.

    python -m edgefel.bench.experiments.stream_latency [--rounds 6] > docs/results/stream-latency.json

GStreamer's RTSP server (--server) encodes frames that show their number, which tells when each was due. The age of a
frame is the time from then until `read` of the source returns it: drawing, encoding, network, waiting and decoding.
The decoders take turns, each for --seconds per round and codec, and join between two key frames. Every frame is
compared with what the server drew.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edgefel.bench.command import run_bench, versions
from edgefel.bench.statistics import ratio
from edgefel.data.preprocessing import Image
from edgefel.errors import EdgefelError
from edgefel.runtime.stream.capture import open_source
from edgefel.runtime.stream.devices import OpenCVDevice
from edgefel.runtime.stream.frames import FrameSource
from edgefel.runtime.stream.gstreamer import LAUNCH
from edgefel.runtime.stream.live import LiveSource
from edgefel.runtime.telemetry.sysfs import cpu_name

CODECS = ("h264", "h265")
SIZE, FPS, KEYS = (320, 240), 15, 30
# the server's frames have their number in rows of this height, as blocks of this width
_BLOCK, _BITS = 16, 16
# a mean difference of pixels that no codec makes here; grey frames differ by dozens
MOST_DIFFERENCE = 25.0
# a decoder first hands out what it received while it looked at the stream
_SETTLE_SECONDS = 1.5
_BASE = "opencv, a thread per core"


def _every_core(url: str) -> FrameSource:
    """As OpenCV opens a stream by default."""
    return LiveSource(lambda: OpenCVDevice(cv2.VideoCapture(url, cv2.CAP_FFMPEG)), url, 10.0)


DECODERS: Mapping[str, Callable[[str], FrameSource]] = {
    _BASE: _every_core,
    "opencv": partial(open_source, decoder="opencv"),
    "gstreamer": partial(open_source, decoder="gstreamer"),
}


class RtspServer:
    """`tests/rtsp_server.py` as a process, by the system's Python, which has GStreamer's bindings.

    url; began: when its frame 0 was due, by `time.monotonic()`. `start` and `stop` keep the address. Raises
    EdgefelError if it does not start.
    """

    def __init__(self, script: Path, *options: object) -> None:
        self._command = [
            shutil.which("python3", path="/usr/bin") or "python3",
            str(script),
            *map(str, options),
        ]
        self.port, self.began = "0", 0.0
        self.process: subprocess.Popen[str] | None = None
        self.start()
        self.url = f"rtsp://127.0.0.1:{self.port}/live"

    def start(self) -> None:
        self.process = subprocess.Popen(
            [*self._command, "--port", self.port],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            # the bindings are not those of this Python's version
            env={name: value for name, value in os.environ.items() if not name.startswith("PYTHON")},
        )
        assert self.process.stdout is not None
        said = self.process.stdout.readline().split()
        if said[:1] != ["serving"]:
            self.stop()
            raise EdgefelError(
                f"{self._command[1]}: the RTSP server does not start; it needs gir1.2-gst-rtsp-server-1.0, "
                "python3-gi and gstreamer1.0-plugins-{good,bad,ugly}"
            )
        self.port, self.began = said[1], float(said[2])

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            for stream in (self.process.stdin, self.process.stdout):
                if stream is not None:
                    stream.close()
        self.process = None


@contextmanager
def watched(url: str) -> Iterator[None]:
    """Another client, which decodes nothing, from its first frames on: the camera goes on when others leave it.

    Raises EdgefelError if it cannot watch.
    """
    command = [LAUNCH, "rtspsrc", f"location={url}", "protocols=tcp", "!", "fakesink"]
    client = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert client.stdout is not None
        # two clients that come at the same time can leave GStreamer's server without a stream
        if not any("Sent PLAY request" in line for line in client.stdout):
            raise EdgefelError(f"{url}: cannot be watched by {LAUNCH}")
        yield
    finally:
        client.kill()
        client.communicate()


def number_of(image: Image) -> int:
    """The number that a frame [H, W, 3] of the server shows."""
    blocks = image[4:12, : _BITS * _BLOCK].reshape(8, _BITS, _BLOCK, 3)[:, :, 4:12].mean(axis=(0, 2, 3))
    return sum(int(value > 128) << bit for bit, value in enumerate(blocks))


def drawn(number: int, shape: tuple[int, ...]) -> Image:
    """What the server draws for a number, as RGB of the shape [H, W, 3]."""
    image, width = np.zeros(shape, np.uint8), shape[1]
    image[_BLOCK:, : width // 2], image[_BLOCK:, width // 2 :] = (0xF0, 0x10, 0x10), (0x10, 0x20, 0xF0)
    left = number * 8 % (width - 16)
    image[_BLOCK:, left : left + 16] = (0xF0, 0xF0, 0x10)
    for bit in range(_BITS):
        image[:_BLOCK, _BLOCK * bit : _BLOCK * (bit + 1)] = 255 * (number >> bit & 1)
    return image


def difference(image: Image) -> float:
    """Mean difference of a frame, RGB [H, W, 3], from what the server drew with the number that it shows."""
    return float(cv2.absdiff(image, drawn(number_of(image), image.shape)).mean())


@dataclass
class _Watched:
    """What one decoder gave, over all rounds. joined: seconds until the first frame. first, ages: in seconds."""

    joined: list[float] = field(default_factory=list)
    first: list[float] = field(default_factory=list)
    ages: list[float] = field(default_factory=list)
    worst: float = 0.0


def _watch(server: RtspServer, open_url: Callable[[str], FrameSource], seconds: float, to: _Watched) -> None:
    began = time.monotonic()
    with closing(open_url(server.url)) as source:
        joined = 0.0
        while not joined or time.monotonic() < joined + _SETTLE_SECONDS + seconds:
            frame = source.read()
            now = time.monotonic()
            assert frame is not None
            age = now - (server.began + number_of(frame.image) / FPS)
            if not joined:
                joined = now
                to.joined.append(now - began)
                to.first.append(age)
            elif now > joined + _SETTLE_SECONDS:
                to.ages.append(age)
            to.worst = max(to.worst, difference(frame.image))


def latency_row(server: Path, rounds: int, seconds: float, codecs: Sequence[str] = CODECS) -> dict[str, Any]:
    """Ages by codec and decoder. Raises EdgefelError if the server does not start or a frame is not as drawn."""
    rows = []
    for codec in codecs:
        found = {name: _Watched() for name in DECODERS}
        options = ("--codec", codec, "--fps", FPS, "--keys", KEYS, "--size", *SIZE, "--seconds", 3600)
        running = RtspServer(server, *options)
        try:
            with watched(running.url):
                for number in range(rounds):
                    for name in list(DECODERS)[:: -1 if number % 2 else 1]:
                        _watch(running, DECODERS[name], seconds, found[name])
        finally:
            running.stop()
        rows += [_row(codec, name, one, found[_BASE]) for name, one in found.items()]
    return {
        "bench": "stream-latency",
        "command": f"python -m edgefel.bench.experiments.stream_latency --rounds {rounds} --seconds {seconds:g}",
        "stream": {"size": SIZE, "fps": FPS, "frames_between_keys": KEYS},
        "rows": rows,
        "machine": cpu_name(),
        "cores": os.cpu_count(),
        "versions": versions(opencv=cv2) | {"gstreamer": _gstreamer_version()},
    }


def _row(codec: str, name: str, one: _Watched, base: _Watched) -> dict[str, Any]:
    if one.worst > MOST_DIFFERENCE:
        raise EdgefelError(f"{codec}, {name}: a frame differs by {one.worst:.0f} from what the server drew")
    pairs = min(len(one.ages), len(base.ages))
    p50, p95 = np.percentile(one.ages, (50, 95))
    return {
        "codec": codec,
        "decoder": name,
        "frames": len(one.ages),
        "age_ms": {"p50": 1e3 * p50, "p95": 1e3 * p95, "max": 1e3 * max(one.ages)},
        "ratio": ratio(base.ages[:pairs], one.ages[:pairs]).to_dict(),
        "join_s": float(np.median(one.joined)),
        "first_age_ms": 1e3 * float(np.median(one.first)),
        "worst_difference": one.worst,
    }


def _gstreamer_version() -> str:
    said = subprocess.run([LAUNCH, "--version"], capture_output=True, text=True, check=True).stdout
    return said.splitlines()[0].rpartition(" ")[2]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", type=Path, default=Path("tests/rtsp_server.py"), metavar="FILE")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument(
        "--seconds", type=float, default=5.0, help="measured of each decoder, codec and round"
    )
    return run_bench(parser, latency_row, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
