"""Kills commands that write, at moments spread over their run, and gives them again: nothing may be lost or half there.

    python tests/robustness/kill_matrix.py [--kills 10] [--only NAME ...] [-o docs/results/kill-matrix.json]

Each command first runs once without harm; then it is ended by SIGTERM, SIGKILL and SIGHUP in turn. After each kill:
what lies under a final name is whole; no process that the command started is left; the same command (for training, its
resume form) goes on to the same result; and nothing hidden is left then. Takes about twenty minutes on two cores. Exit
code 1 if anything was otherwise.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import hashlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2

from edgefel import __version__
from edgefel.files.documents import read_json
from edgefel.files.write import write_json

ROOT = Path(__file__).resolve().parents[2]
RESULT = ROOT / "docs" / "results" / "kill-matrix.json"
BUNDLE = ROOT / "tests" / "bundles" / "nano-synthetic"
SIGNALS = (signal.SIGTERM, signal.SIGKILL, signal.SIGHUP)
# how long a process may take to end, once asked or once its parent is gone
PATIENCE = 120.0
EDGEFEL = (sys.executable, "-m", "edgefel.cli.main")
TRAIN = "--model poster-v2-nano --epochs 4 --batch-size 4 --per-class 4 --accelerator cpu --workers 0 --log-every 2"

State = dict[str, str]  # of files, by path: a hash of what must be the same after every kill


@dataclass(frozen=True)
class Case:
    """A command. OUT in its words is a name in an empty folder, DATA, PHOTOS, CHECKPOINT and CLIP are there already.

    read: what lies in the folder under final names, checked for being whole. Raises whatever it meets if it is not.
    """

    command: str
    read: Callable[[Path], State]
    resume: Callable[[Path], str | None] = lambda folder: None
    # where another exit code than 128 and the signal's number is meant
    codes: dict[int, int] = field(default_factory=dict)


def tree(folder: Path) -> State:
    """Every file that is not hidden."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    }


def run_state(folder: Path) -> State:
    """A training run: every pointer names a whole checkpoint, and the log has whole lines."""
    from edgefel.training.run_folder import RunFolder

    run = RunFolder(folder / "out")
    if not (run.path / "config.yaml").exists():
        assert not run.path.exists() or not [p for p in run.path.iterdir() if not p.name.startswith(".")]
        return {}
    run.config()
    if not run.has_checkpoint():
        return {}
    _, state, tensors = run.load_last()
    if not state.finished:
        return {"step": str(state.step)}
    with (run.path / "metrics.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    for row in rows:
        del row["seconds"], row["images_per_second"]
    pointer = read_json(run.path / "last.json")["checkpoint"]
    weights = (run.path / pointer / "model.safetensors").read_bytes()
    return {
        "weights": hashlib.sha256(weights).hexdigest()[:16],
        "rows": json.dumps(rows),
        "tensors": str(len(tensors)),
    }


def bundle_state(folder: Path) -> State:
    """An exported bundle, whose manifest has the hash of every file."""
    from edgefel.runtime.manifest import read_manifest

    if not (folder / "out").exists():
        return {}
    manifest = read_manifest(folder / "out")
    for file in manifest.files:
        manifest.verify(file)
    return {file.name: file.sha256[:16] for file in manifest.files if file.kind == "onnx"}


def recording_state(folder: Path) -> State:
    """A recording and its labels: every line is whole, every video that has its final name can be read to its end."""
    found: State = {}
    lines = folder / "out.jsonl"
    if lines.exists():
        text = lines.read_text()
        whole = text[: text.rfind("\n") + 1].splitlines()
        labels = [[face["label"] for face in json.loads(line)["faces"]] for line in whole]
        found["labels"] = json.dumps(labels)
    video = folder / "out.mkv"
    if video.exists():
        found["frames"] = str(frames_of(video))
    return found


def frames_of(video: Path) -> int:
    capture = cv2.VideoCapture(str(video))
    count = 0
    while capture.read()[0]:
        count += 1
    assert count, f"{video.name} cannot be read"
    return count


def resume_training(folder: Path) -> str | None:
    return "train --resume OUT --quiet" if (folder / "out" / "config.yaml").exists() else None


CASES = {
    "synth": Case("data synth -o OUT --count 400 --size 64 --workers 2", tree),
    "train": Case(
        f"train --data DATA -o OUT {TRAIN} --checkpoint-every 3 --quiet", run_state, resume_training
    ),
    "export": Case("export CHECKPOINT -o OUT --fp32 --int8 --data DATA", bundle_state),
    "calibrate": Case("calibrate --data DATA -o OUT.json", tree),
    "prepare": Case("data prepare DATA -o OUT --no-detect --workers 1 --size 256", tree),
    "run --save": Case(
        f"run {BUNDLE} --source CLIP --save OUT.mkv -o OUT.jsonl --overwrite --threads 1",
        recording_state,
        # a service manager ends it so
        codes={signal.SIGTERM: 0, signal.SIGHUP: 0},
    ),
    "pack": Case(f"pack {BUNDLE} -o OUT.tar.gz --no-kernels", tree),
}


class Matrix:
    """Runs cases in folders of its own below `work`."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.places: dict[str, Path] = {}

    def prepare(self, names: Sequence[str]) -> None:
        """Makes what the commands read."""
        self.places = {name: self.work / name.lower() for name in ("DATA", "CHECKPOINT")}
        self.places["CLIP"] = self.work / "clip.mp4"
        if any(word in CASES[name].command for name in names for word in ("DATA", "CHECKPOINT")):
            self._whole("data synth -o DATA --count 140 --subjects 14 --size 64")
        if "export" in names:
            self._whole(f"train --data DATA -o CHECKPOINT {TRAIN} --quiet")
        if "run --save" in names:
            self._whole("data video -o CLIP --seconds 6 --faces 2 --changes 1")

    def kill(self, case: Case, kills: int, signals: Sequence[int] = SIGNALS) -> dict[str, Any]:
        """Kills the command so often; what became of it, and the problems."""
        folder = self._folder()
        start = time.monotonic()
        process = self._start(case.command, folder)
        _, errors = process.communicate()
        seconds = time.monotonic() - start
        if process.returncode:
            raise RuntimeError(f"{case.command}: ended with {process.returncode}: {errors}")
        expected = case.read(folder)
        rows = [
            self._kill(case, signals[i % len(signals)], seconds * (i + 1) / (kills + 0.5), expected)
            for i in range(kills)
        ]
        return {
            "command": shlex.join(["edgefel", *case.command.split()]),
            "seconds": round(seconds, 1),
            "kills": rows,
        }

    def _kill(self, case: Case, number: int, after: float, expected: State) -> dict[str, Any]:
        folder = self._folder()
        process = self._start(case.command, folder)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(after)
        started = list(descendants(process.pid))
        finished = process.poll() is not None
        process.send_signal(number)
        _, errors = process.communicate(timeout=PATIENCE)
        problems = []
        if not finished and process.returncode not in (-number, 0, case.codes.get(number, 128 + number)):
            problems.append(f"exit code {process.returncode}: {errors[-300:]}")
        if "Traceback" in errors:
            problems.append(f"a traceback: {errors[-500:]}")
        left = wait_for_end(started)
        if left:
            problems.append(f"{len(left)} processes left")
        found = self._read(case, folder, problems, "after the kill")
        # nothing, but what prepare goes on from, by a command that had time to clear up
        hidden = [name for name in hidden_in(folder) if not name.endswith(".partial")]
        if hidden and process.returncode >= 0:
            problems.append(f"left behind: {', '.join(hidden)}")
        row = {
            "signal": signal.Signals(number).name,
            "after": round(after, 2),
            "code": process.returncode,
            "found": "nothing" if not found else "all" if found == expected else "a part",
        }
        again = self._start(case.resume(folder) or case.command, folder)
        _, errors = again.communicate(timeout=600)
        refused = again.returncode == 2 and found == expected
        if again.returncode and not refused:
            problems.append(f"given again, it ended with {again.returncode}: {errors[-300:]}")
        if self._read(case, folder, problems, "after the next run") != expected:
            problems.append("the next run came to another result")
        if hidden := hidden_in(folder):
            problems.append(f"left behind after the next run: {', '.join(hidden)}")
        shutil.rmtree(folder)
        return row | {"again": "refused: it is there" if refused else "went on", "problems": problems}

    def _read(self, case: Case, folder: Path, problems: list[str], when: str) -> State:
        try:
            return case.read(folder)
        except Exception as error:
            problems.append(f"not whole {when}: {error!r}")
            return {}

    def _folder(self) -> Path:
        return Path(tempfile.mkdtemp(prefix="killed-", dir=self.work))

    def _start(self, command: str, folder: Path) -> subprocess.Popen[str]:
        places = {**self.places, "OUT": folder / "out"}
        words = []
        for word in command.split():
            name, dot, suffix = word.partition(".")
            words.append(f"{places[name]}{dot}{suffix}" if name in places else word)
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "EDGEFEL_CACHE": str(folder.with_name("cache"))}
        return subprocess.Popen(
            [*EDGEFEL, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            start_new_session=True,
            preexec_fn=_heed_signals,
        )

    def _whole(self, command: str) -> None:
        process = self._start(command, self.work)
        _, errors = process.communicate()
        if process.returncode:
            raise RuntimeError(f"{command}: ended with {process.returncode}: {errors}")


def _heed_signals() -> None:
    # this tool may itself have been started to ignore some: by nohup, or in the background
    for number in SIGNALS:
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)


def hidden_in(folder: Path) -> list[str]:
    """What has a hidden name; empty files that data sets bring are none of them."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob(".*"))


def descendants(number: int) -> Iterator[tuple[int, str]]:
    """Processes below one, each with when it started, which tells it from a later one of that number."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            if int(fields[1]) == number:
                child = int(path.parent.name)
                yield child, fields[19]
                yield from descendants(child)


def wait_for_end(processes: Sequence[tuple[int, str]], seconds: float = PATIENCE) -> list[int]:
    """Those of them that are still there when the time is up."""
    deadline = time.monotonic() + seconds
    while left := [number for number, started in processes if _is_alive(number, started)]:
        if time.monotonic() > deadline:
            break
        time.sleep(0.05)
    return left


def _is_alive(number: int, started: str) -> bool:
    try:
        fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return False
    return fields[0] not in "ZX" and fields[19] == started


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=10, help="of each command")
    parser.add_argument(
        "--only",
        action="append",
        choices=list(CASES),
        help="this command, whose results replace those in the file; repeat for several",
    )
    parser.add_argument("-o", "--output", type=Path, default=RESULT)
    chosen = parser.parse_args(arguments)
    names = chosen.only or list(CASES)
    found: dict[str, Any] = {}
    if chosen.only and chosen.output.exists():
        found = read_json(chosen.output)["commands"]
    with tempfile.TemporaryDirectory(prefix="killed-") as work:
        matrix = Matrix(Path(work))
        matrix.prepare(names)
        for name in names:
            found[name] = matrix.kill(CASES[name], chosen.kills)
            found[name]["command"] = found[name]["command"].replace(f"{ROOT}/", "")
            bad = [problem for row in found[name]["kills"] for problem in row["problems"]]
            print(f"{name}: {chosen.kills} kills, {len(bad)} problems", *bad, sep="\n  ", flush=True)
            write_json(chosen.output, document(found))
    return int(any(row["problems"] for name in names for row in found[name]["kills"]))


def document(found: dict[str, Any]) -> dict[str, Any]:
    """What the results file holds."""
    kills = [row for one in found.values() for row in one["kills"]]
    return {
        "command": "python tests/robustness/kill_matrix.py",
        "edgefel": __version__,
        "cores": os.cpu_count(),
        "kills": len(kills),
        "with_problems": sum(bool(row["problems"]) for row in kills),
        "commands": found,
    }


if __name__ == "__main__":
    sys.exit(main())
