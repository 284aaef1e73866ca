"""Latency and memory of `edgefel serve` while many clients stream frames to it, on this machine.

    python -m edgefel.bench.experiments.serve_load [--clients 32] [--seconds 300] > docs/results/serve-load.json

Each client sends JPEGs of one synthetic person through a WebSocket of its own, --fps a second, and waits for each
answer. One more client sends frames and never reads an answer. The latency is that of a client: from sending a frame
to having its answer. Answers to frames that are close together have to show the one person. Resident memory is read
every --every seconds, from the end of a warm-up on.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edgefel.bench.command import run_bench, versions
from edgefel.data.synthetic.options import VideoOptions
from edgefel.data.synthetic.video import SyntheticVideo
from edgefel.errors import EdgefelError, MissingDependencyError
from edgefel.runtime.telemetry.sysfs import cpu_name

SIZE = (640, 480)
FRAMES = 20
# seconds before anything is counted: connections, first allocations
WARM_UP = 10.0
# seconds after which an answer counts as missing
PATIENCE = 30.0
# seconds between two frames up to which the tracker surely takes the person for the same
GAP = 0.9


@contextmanager
def serving(clients: int, bundle: str | None, options: Sequence[str]) -> Iterator[tuple[str, int]]:
    """The host and port of a server, and its process. Raises EdgefelError if it does not start."""
    command = [sys.executable, "-m", "edgefel.cli.main", "serve", *([bundle] if bundle else [])]
    command += ["--port", "0", "--rate", "0", "--clients", str(clients), *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        found = (re.search(r"http://(\S+)/", line) for line in process.stderr)
        address = next((match[1] for match in found if match), None)
        if address is None:
            raise EdgefelError("edgefel serve does not start; run it to see why")
        yield address, process.pid
    finally:
        process.terminate()
        process.communicate()


@dataclass
class Counts:
    """What all clients saw. latencies: seconds."""

    latencies: list[float] = field(default_factory=list)
    wrong: int = 0
    compared: int = 0
    problems: int = 0


async def client(
    address: str,
    frames: Sequence[bytes],
    period: float,
    late: float,
    span: tuple[float, float],
    counts: Counts,
) -> None:
    """Sends a frame every `period` seconds, the first after `late`, and waits for each answer.

    span: `time.monotonic()` from which answers are counted, and at which it ends.
    """
    from websockets.asyncio.client import connect

    begin, end = span
    due = time.monotonic() + late
    async with connect(f"ws://{address}/v1/stream", compression=None, open_timeout=PATIENCE) as socket:
        number, before = 0, -GAP
        while due < end:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            sent = time.monotonic()
            # there and back, so that the person does not jump
            await socket.send(frames[min(number % (2 * FRAMES), 2 * FRAMES - 1 - number % (2 * FRAMES))])
            answer = json.loads(await asyncio.wait_for(socket.recv(), PATIENCE))
            if sent >= begin:
                counts.latencies.append(time.monotonic() - sent)
                counts.problems += "problem" in answer
                # a person is shown from the second frame on, while the frames are close together
                close = answer.get("time", 0.0) - before < GAP
                counts.wrong += close and len(answer.get("faces", ())) != 1
                counts.compared += close
            before = answer.get("time", before)
            number += 1
            due = max(due + period, time.monotonic())


async def deaf(address: str, frame: bytes, period: float, end: float) -> None:
    """Sends frames and never reads; connects again when the server cuts it off."""
    from websockets.asyncio.client import connect
    from websockets.exceptions import WebSocketException

    while time.monotonic() < end:
        with suppress(OSError, WebSocketException, asyncio.TimeoutError):
            async with connect(
                f"ws://{address}/v1/stream", compression=None, max_queue=1, close_timeout=0.1
            ) as socket:
                while time.monotonic() < end:
                    await socket.send(frame)
                    await asyncio.sleep(period)


def resident_mb(process: int) -> float:
    """10^6 bytes of resident memory, from procfs."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def jpegs() -> list[bytes]:
    """A person who moves, in frames of SIZE."""
    video = SyntheticVideo(VideoOptions(seconds=FRAMES / 10, faces=1, fps=10.0, size=SIZE, changes=0))
    images = [np.ascontiguousarray(video.frame(index)[..., ::-1]) for index in range(FRAMES)]
    return [cv2.imencode(".jpg", image, (cv2.IMWRITE_JPEG_QUALITY, 85))[1].tobytes() for image in images]


async def load(
    address: str, process: int, clients: int, seconds: float, fps: float, every: float
) -> tuple[Counts, list[dict[str, float]]]:
    """Runs the clients, and reads memory meanwhile: rows of seconds and MB."""
    frames, counts, memory = jpegs(), Counts(), list[dict[str, float]]()
    begin = time.monotonic() + WARM_UP
    end = begin + seconds
    # they do not all send at the same moment
    lates = [number / clients / fps for number in range(clients)]
    tasks = [
        asyncio.create_task(client(address, frames, 1 / fps, late, (begin, end), counts)) for late in lates
    ]
    tasks.append(asyncio.create_task(deaf(address, frames[0], 1 / fps, end)))
    await asyncio.sleep(max(0.0, begin - time.monotonic()))
    while time.monotonic() < end:
        memory.append({"s": round(time.monotonic() - begin, 1), "mb": round(resident_mb(process), 1)})
        await asyncio.sleep(min(every, max(0.0, end - time.monotonic())))
    await asyncio.gather(*tasks)
    memory.append({"s": round(time.monotonic() - begin, 1), "mb": round(resident_mb(process), 1)})
    return counts, memory


def measure(
    clients: int, seconds: float, fps: float, every: float, bundle: str | None, serve: str
) -> dict[str, Any]:
    """The row. Raises EdgefelError if an answer is missing or wrong."""
    try:
        import uvicorn
        import websockets  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(error.name or "uvicorn", "serve", "this bench") from None
    options = serve.split()
    # the clients, one that does not read, and its next connection
    with serving(clients + 2, bundle, options) as (address, process):
        counts, memory = asyncio.run(load(address, process, clients, seconds, fps, every))
    if not counts.compared or counts.wrong or counts.problems:
        raise EdgefelError(
            f"of {len(counts.latencies)} answers {counts.compared} came soon enough after each other to be compared, "
            f"{counts.wrong} of them do not show one person, and {counts.problems} are problems; nothing is stated"
        )
    p50, p90, p99 = (1e3 * float(np.quantile(counts.latencies, share)) for share in (0.5, 0.9, 0.99))
    half = len(memory) // 2
    return {
        "bench": "serve-load",
        "command": f"python -m edgefel.bench.experiments.serve_load --clients {clients} --seconds {seconds:g} "
        f"--fps {fps:g} --serve '{serve}'",
        "clients": clients,
        "deaf_clients": 1,
        "seconds": seconds,
        "fps": fps,
        "size": list(SIZE),
        "answers": len(counts.latencies),
        "compared": counts.compared,
        "answers_per_second": len(counts.latencies) / seconds,
        "latency_ms": {"p50": p50, "p90": p90, "p99": p99, "max": 1e3 * max(counts.latencies)},
        "memory": memory,
        "memory_growth_mb": memory[-1]["mb"] - memory[half]["mb"],
        "machine": cpu_name(),
        "cores": len(os.sched_getaffinity(0)),
        "load_average": os.getloadavg()[0],
        "versions": versions(uvicorn=uvicorn, opencv=cv2) | {"websockets": metadata.version("websockets")},
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--fps", type=float, default=1.0, help="of each client")
    parser.add_argument("--every", type=float, default=10.0, help="seconds between readings of memory")
    parser.add_argument("--bundle", help="without one, the network that comes with edgefel")
    parser.add_argument(
        "--serve", default="", help="further options of edgefel serve, such as '--detect-every 5'"
    )
    return run_bench(parser, measure, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
