"""Feeds broken files to edgefel's commands: each must end with exit code 0, or with 2 and one line.

    python tests/robustness/fuzz_inputs.py --count 20000 --seed 1 -o docs/results/fuzz.json

A traceback, another exit code, a crash of the process, or more than LIMIT seconds is a failure. Commands run inside a
worker process, one after the other; a worker that crashes or hangs is replaced. Every input comes from the seed and its
number alone, and a failing one is kept in --keep. Images go by the batch, BATCH to a command.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import random
import shlex
import shutil
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from fuzz_seeds import BUNDLE, write_seeds
from mutations import mutate_bytes, mutate_csv, mutate_json, mutate_lines, mutate_text

LIMIT = 60.0  # seconds for one command, on a machine with other work
BATCH = 20


@dataclass(frozen=True)
class Target:
    """A kind of input. share: of all inputs. file: below the work folder. command: words, {} for the work folder.

    spoil: makes the broken file. codes: exit codes that mean something here, besides 0 and 2.
    """

    share: float
    file: str
    command: str
    spoil: Callable[[Path, random.Random], bytes]
    codes: tuple[int, ...] = ()


def _json(path: Path, rng: random.Random) -> bytes:
    if rng.random() < 0.15:
        return mutate_bytes(path.read_bytes(), rng)
    return mutate_json(json.loads(path.read_text(encoding="utf-8")), rng)


def _lines(path: Path, rng: random.Random) -> bytes:
    if rng.random() < 0.15:
        return mutate_bytes(path.read_bytes(), rng)
    return mutate_lines([json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()], rng)


def _csv(path: Path, rng: random.Random) -> bytes:
    if rng.random() < 0.15:
        return mutate_bytes(path.read_bytes(), rng)
    return mutate_csv(path.read_text(encoding="utf-8"), rng)


def _text(path: Path, rng: random.Random) -> bytes:
    if rng.random() < 0.15:
        return mutate_bytes(path.read_bytes(), rng)
    return mutate_text(path.read_text(encoding="utf-8"), rng)


def _bytes(path: Path, rng: random.Random) -> bytes:
    return mutate_bytes(path.read_bytes(), rng)


_INSPECT = "data inspect {} --json --workers 1"
TARGETS: dict[str, Target] = {
    "images predicted": Target(
        0.3, "images", "predict {bundle} {} --no-detect --json --threads 1 --backend onnxruntime", _bytes
    ),
    "images inspected": Target(0.3, "images", _INSPECT, _bytes),
    "data manifest": Target(0.09, "manifest.csv", _INSPECT, _csv),
    "labels.csv": Target(0.09, "faces/labels.csv", "data inspect {work}/faces --json --workers 1", _csv),
    "dataset.json": Target(0.03, "faces/dataset.json", "data inspect {work}/faces --json --workers 1", _json),
    "tar shard": Target(0.04, "shards/train-0.tar", "data inspect {work}/shards --json --workers 1", _bytes),
    "FER+ votes": Target(0.03, "fer/fer2013new.csv", "data inspect {work}/fer --json --workers 1", _csv),
    "RAF-DB list": Target(
        0.02,
        "raf/list_patition_label.txt",
        "data inspect {work}/raf --layout raf-db --json --workers 1",
        _text,
    ),
    "ExpW list": Target(0.02, "expw/label.lst", "data inspect {work}/expw --json --workers 1", _text),
    "AffectNet list": Target(
        0.02,
        "affect/Manually_Annotated_file_lists/training.csv",
        "data inspect {work}/affect --json --workers 1",
        _csv,
    ),
    "prepare's journal": Target(
        0.02,
        ".crops.partial/journal",
        "data prepare {work}/faces -o {work}/crops --no-detect --size 16 --workers 1",
        _text,
    ),
    "bundle manifest": Target(
        0.08,
        "bundle/manifest.json",
        "predict {work}/bundle {work}/crop.png --no-detect --json --backend onnxruntime",
        _json,
    ),
    "model.json": Target(
        0.06, "run/model.json", "evaluate {work}/run --data {work}/nowhere -o {work}/out", _json
    ),
    "model.json, evaluated": Target(
        0.005, "run/model.json", "evaluate {work}/run --data {work}/faces --json -o {work}/out", _json
    ),
    "weights": Target(
        0.02, "run/model.safetensors", "evaluate {work}/run --data {work}/nowhere -o {work}/out", _bytes
    ),
    "weights, evaluated": Target(
        0.005, "run/model.safetensors", "evaluate {work}/run --data {work}/faces --json -o {work}/out", _bytes
    ),
    "run pointer": Target(
        0.02, "pointed/last.json", "evaluate {work}/pointed --data {work}/nowhere -o {work}/out", _json
    ),
    "train config": Target(0.04, "config.yaml", "train -c {} --data {work}/nowhere -o {work}/out", _text),
    "parity limits": Target(
        0.03, "limits.yaml", "parity {work}/bundle --data {work}/nowhere --limits {}", _text
    ),
    "bench rows": Target(0.06, "rows/a.jsonl", "bench report {} -o {work}/page.html", _lines),
    "bench rows compared": Target(0.04, "rows/a.jsonl", "bench diff {} {work}/rows/b.jsonl", _lines, (1, 3)),
    "calibration set": Target(
        0.02, "set.json", "export {work}/run -o {work}/out --int8 --calibration-set {}", _json
    ),
    "archive index": Target(0.02, "packed/index.json", "pack {work}/packed --verify", _json),
}


def plan(count: int, seed: int) -> Iterator[tuple[str, int]]:
    """(kind, number of the command) of all commands for `count` inputs, in a mixed order."""
    jobs = []
    total = sum(target.share for target in TARGETS.values())
    for kind, target in TARGETS.items():
        inputs = max(1, round(count * target.share / total))
        jobs += [(kind, n) for n in range(-(-inputs // BATCH) if target.file == "images" else inputs)]
    random.Random(seed).shuffle(jobs)
    yield from jobs


def inputs_of(kind: str) -> int:
    """How many broken files a command of this kind gets."""
    return BATCH if TARGETS[kind].file == "images" else 1


def attempt(work: Path, kind: str, number: int, seed: int) -> tuple[str, str]:
    """Breaks the input, runs the command, and mends the input: the outcome, and what to say of a failure."""
    target = TARGETS[kind]
    rng = random.Random(f"{seed} {kind} {number}")
    path = work / target.file
    sound = None if target.file == "images" else path.read_bytes()
    if sound is None:
        shutil.rmtree(path, ignore_errors=True)
        (path / "neutral").mkdir(parents=True)
        choices = sorted((work / "sound").iterdir())
        for n in range(BATCH):
            source = rng.choice(choices)
            (path / "neutral" / f"{n:02d}{source.suffix}").write_bytes(target.spoil(source, rng))
        shutil.copy(work / "crop.png", path / "neutral" / "whole.png")
    else:
        path.write_bytes(target.spoil(path, rng))
    try:
        return run(work, target)
    finally:
        if sound is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(sound)
        for left in ("out", "page.html", "crops"):
            shutil.rmtree(work / left, ignore_errors=True)
            (work / left).unlink(missing_ok=True)


def run(work: Path, target: Target) -> tuple[str, str]:
    """Runs the command on what is there: the outcome, and what to say of a failure."""
    from click.testing import CliRunner

    from edgefel.cli.main import main

    places = {"{bundle}": str(BUNDLE), "{work}": str(work), "{}": str(work / target.file)}
    words = shlex.split(target.command)
    for name, place in places.items():
        words = [word.replace(name, place) for word in words]
    return judge(CliRunner().invoke(main, words), target)


def judge(done: Any, target: Target) -> tuple[str, str]:
    """The outcome of a command: taken, refused, or a failure."""
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        text = "".join(traceback.format_exception(*done.exc_info))
        return "traceback", text[-3000:]
    if done.exit_code == 0 or done.exit_code in target.codes:
        return "taken", ""
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    last = done.stderr.rstrip().rpartition("\n")[2]
    if done.exit_code == 2 and len(errors) == 1 and last == errors[0]:
        return "refused in one line", ""
    return f"exit code {done.exit_code}" if done.exit_code != 2 else "refused in other words", done.stderr[
        -2000:
    ]


def _work(connection: Connection, folder: str, seed: int) -> None:
    """Of a worker process: answers every job with its outcome."""
    # what libraries in C print of broken images
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    os.environ["EDGEFEL_CACHE"] = str(Path(folder) / "cache")
    with contextlib.suppress(EOFError):
        while True:
            kind, number = connection.recv()
            connection.send(attempt(Path(folder), kind, number, seed))


class Worker:
    """A process that runs commands, and is replaced when it crashes or hangs."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._folder, self._seed = folder, seed
        self._start()

    def _start(self) -> None:
        # spawned: a fork of a process in which torch has run can hang
        context = multiprocessing.get_context("spawn")
        self._connection, other = context.Pipe()
        self._process = context.Process(
            target=_work, args=(other, str(self._folder), self._seed), daemon=True
        )
        self._process.start()
        other.close()

    def run(self, kind: str, number: int, limit: float = LIMIT) -> tuple[str, str]:
        """The outcome of a job."""
        sound = self._folder / TARGETS[kind].file
        kept = sound.read_bytes() if sound.is_file() else None
        self._connection.send((kind, number))
        try:
            if self._connection.poll(limit):
                result: tuple[str, str] = self._connection.recv()
                return result
            outcome = "hang", f"not done after {limit:g} s"
        except (EOFError, ConnectionError):
            self._process.join()
            outcome = "crash", f"the process ended with {self._process.exitcode}"
        self.close()
        if kept is not None:
            sound.write_bytes(kept)
        self._start()
        return outcome

    def close(self) -> None:
        """Ends the process."""
        self._connection.close()
        self._process.kill()
        self._process.join()


PASSES = ("taken", "refused in one line")


def fuzz(count: int, seed: int, folder: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Runs all commands; counts of inputs by kind and outcome, and the failures."""
    write_seeds(folder)
    outcomes: dict[str, Counter[str]] = {kind: Counter() for kind in TARGETS}
    failures = []
    begin = time.monotonic()
    worker = Worker(folder, seed)
    try:
        for done, (kind, number) in enumerate(plan(count, seed), start=1):
            outcome, text = worker.run(kind, number)
            outcomes[kind][outcome] += inputs_of(kind)
            if outcome not in PASSES:
                failures.append({"kind": kind, "number": number, "outcome": outcome, "text": text})
                say(f"{kind} {number}: {outcome}: {text.strip().splitlines()[-1] if text.strip() else ''}")
            if done % 500 == 0:
                say(f"{done} commands, {time.monotonic() - begin:.0f} s, {len(failures)} failures")
    finally:
        worker.close()
    return {
        "seed": seed,
        "inputs": sum(sum(counts.values()) for counts in outcomes.values()),
        "failures": len(failures),
        "seconds": round(time.monotonic() - begin),
        "kinds": {
            kind: {"command": f"edgefel {TARGETS[kind].command}", "outcomes": dict(sorted(counts.items()))}
            for kind, counts in outcomes.items()
        },
        "failed": failures,
    }


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = fuzz(options.count, options.seed, Path(folder), lambda line: print(line, flush=True))
    command = f"python tests/robustness/fuzz_inputs.py --count {options.count} --seed {options.seed}"
    document = {"command": f"{command} -o docs/results/fuzz.json", **result}
    if options.output is not None:
        options.output.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    print(json.dumps({name: document[name] for name in ("inputs", "failures", "seconds")}))
    raise SystemExit(1 if result["failures"] else 0)


if __name__ == "__main__":
    main()
