"""Runs the steps of a GPU session, the most valuable first, each under a limit of its own.

\b
    OUT=results python tools/gpu_session.py [--seconds 545] [--data FER+] [--carried FOLDER] [--dry-run]
        [--only NAME,NAME]

Every step writes its rows under $OUT while it runs. A step that fails or is late is killed with all it started, and
harms no other one; what is left of the time bounds the next. $OUT/steps.jsonl gets a line for each. Needs the standard
library alone, since it installs the rest. --dry-run runs tiny forms of the steps on the CPU, and checks the options of
every edgefel command; a pretended clock advances by what each step may take, or by what --pretend says.

What is too large for one transfer comes in pieces that tools/gpu_carry.py packed: a .zip is FER+, for the training in
the time that is left; wheels are those of TensorRT for RTX, whose engine is then built, run and compared.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gpu_carry import FOLDER, WHOLE, packed

# less is too short for any step
LEAST_SECONDS = 8.0
# for a killed step to end, and for the last lines
SPARE_SECONDS = 6.0
EDGEFEL = ("-m", "edgefel.cli.main")
# one launch of the forward kernel, for a profiler: tuning is off, so its tile is that of `bench kernels --model`
LAUNCH = """
import torch
from edgefel.bench.kernels.competitors import implementation, run
from edgefel.bench.kernels.problems import pyramid_levels
problem = pyramid_levels({batch}, torch.float16)[0]
inputs = problem.inputs(torch.device("cuda"))
call = implementation("edgefel", problem, inputs, False)
run(call, tuple(inputs[name] for name in problem.leaves), None)()
torch.cuda.synchronize()
"""
VERSIONS = """
import json, torch, triton
print(json.dumps({"torch": torch.__version__, "triton": triton.__version__, "cuda": torch.version.cuda,
    "device": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None}))
"""
PYTEST = (
    "-m",
    "pytest",
    "-c",
    os.devnull,
    "--rootdir",
    ".",
    "--import-mode=importlib",
    "-p",
    "no:cacheprovider",
    "-v",
)


@dataclass(frozen=True)
class Step:
    """One step. arguments: of this Python; {out} is the output folder. program: in front of Python. tiny: arguments of
    the dry run, unless they are edgefel's, whose options are checked; None: it takes part in name alone. environment:
    set for it."""

    name: str
    limit: float
    arguments: tuple[str, ...]
    tiny: tuple[str, ...] | None = None
    program: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)


def _bench(name: str, limit: float, *arguments: str) -> Step:
    return Step(name, limit, (*EDGEFEL, "bench", *arguments))


def _kernels(name: str, limit: float, *arguments: str) -> Step:
    return _bench(name, limit, "kernels", "--runs", "30", "-o", "{out}/kernels", *arguments)


def carried_steps(folder: Path, names: Sequence[str]) -> list[Step]:
    """Joins the files that were carried in pieces. Wheels are installed, and an engine is checked with them."""
    carry = ("tools/gpu_carry.py", "join", "--into", str(folder))
    found = [Step("carried", 30, carry, carry)]
    wheels = [str(folder / WHOLE / name) for name in names if name.endswith(".whl")]
    if wheels:
        install = ("-m", "pip", "install", "-q", "--no-deps", "--no-index", *wheels)
        engine = ("tools/gpu_engine.py", "-o", "{out}/rtx.json")
        found.append(Step("rtx-install", 30, install, ("-c", "import tensorrt_rtx")))
        found.append(Step("rtx", 60, engine, (*engine, "--build-only")))
    return found


def steps(data: str | None, carried: Sequence[Step] = ()) -> list[Step]:
    """By worth. data: a data set to train on in the time that is left; None leaves that out. carried: of
    `carried_steps`."""
    untuned = {"EDGEFEL_AUTOTUNE": "0"}
    attention = ("--level", "1,2,3", "--dtype", "fp16")
    compared = ("compare", "arbex", "--precision", "fp16", "--quick", "--runs", "30", "--no-memory")
    compared += ("-o", "{out}/compare.jsonl", "--batch-sizes")
    eager, compiled = (
        "pytorch-cuda,edgefel-cuda",
        "pytorch-cuda,torch.compile-cuda,edgefel-cuda,edgefel-compile-cuda",
    )
    model = ("bench", "kernels", "--model", "--arch", "sm_90", "--level", "1", "--batch", "256")
    profiler = (
        "ncu",
        "--clock-control",
        "none",
        "--metrics",
        "smsp__inst_executed.sum,gpu__time_duration.sum",
    )
    found = [
        Step("install", 60, ("-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "-e", ".")),
        Step("versions", 30, ("-c", VERSIONS), ("-c", VERSIONS)),
        Step("precompile", 60, ("tools/gpu_precompile.py",), ("tools/gpu_precompile.py", "--list")),
        Step(
            "tests", 90, (*PYTEST, "tests/kernels", "tests/gpu"),
            (*PYTEST, "tests/gpu/test_driver_launch.py"), environment=untuned,
        ),
        _kernels("forward", 110, *attention, "--mode", "forward", "--batch", "256,64,8,1",
                 "--impl", "edgefel,sdpa-cudnn,sdpa-efficient,sdpa-math"),
        _bench("network", 45, *compared, "64,1", "--backend", eager),
        Step("predicted", 45, (*EDGEFEL, *model, "-o", "{out}/kernels")),
        Step(
            "executed", 30, ("-c", LAUNCH.format(batch=256)), program=(
                *profiler, "--csv", "--kernel-name", "regex:.*(forward|dense|aligned|window).*",
                "--log-file", "{out}/executed.csv"
            ), environment=untuned,
        ),
        _kernels("compiled", 70, *attention, "--mode", "forward", "--batch", "256,1",
                 "--impl", "edgefel,compile,flex"),
        _kernels("backward", 60, *attention, "--mode", "forward+backward", "--batch", "64",
                 "--impl", "edgefel,sdpa-cudnn,sdpa-efficient,compile"),
        _bench("training", 40, "train", "--precision", "bf16", "--batch-sizes", "64", "--seconds", "3",
               "-o", "{out}/training.jsonl"),
        # compiling the network takes a minute; one batch at a time, since rows are written at the end
        _bench("network-compiled-64", 120, *compared, "64", "--backend", compiled),
        _bench("network-compiled-1", 120, *compared, "1", "--backend", compiled),
    ]  # fmt: skip
    places = {step.name: number for number, step in enumerate(found)}
    # an engine that runs at all is worth more than torch.compile's times
    found[places["compiled"] : places["compiled"]] = carried
    return found if data is None else [*found, _training(data)]


def _training(data: str) -> Step:
    trained = (
        "train",
        "--model",
        "arbex",
        "--data",
        data,
        "--precision",
        "bf16-mixed",
        "--batch-size",
        "128",
    )
    return Step("fer-plus", 500, (*EDGEFEL, *trained, "-o", "{out}/run"))


class Clock:
    """Seconds since the session began."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    def now(self) -> float:
        """In real time."""
        return time.monotonic() - self._start


class PretendedClock(Clock):
    """Advances by what steps are said to take, and by nothing else."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self._now = 0.0
        self._seconds = seconds

    def now(self) -> float:
        return self._now

    def pass_by(self, step: Step, limit: float) -> bool:
        """Whether the step is done within `limit`; half of its own limit where nothing is said of it."""
        taken = self._seconds.get(step.name, step.limit / 2)
        self._now += min(taken, limit)
        return taken <= limit


Run = Callable[[Step, float, Path], "tuple[int, str]"]


def run_session(
    chosen: Sequence[Step], seconds: float, out: Path, clock: Clock, run: Run
) -> list[dict[str, object]]:
    """Runs the steps in order until the time is up; a line for each is in steps.jsonl as soon as it ended."""
    out.mkdir(parents=True, exist_ok=True)
    lines: list[dict[str, object]] = []
    for step in chosen:
        began = clock.now()
        limit = min(step.limit, seconds - SPARE_SECONDS - began)
        if limit < LEAST_SECONDS:
            state, code = "no time left", None
        else:
            code, state = run(step, limit, out)
        line = {"step": step.name, "state": state, "code": code, "began": round(began, 1)}
        line |= {"seconds": round(clock.now() - began, 1), "limit": round(max(limit, 0), 1)}
        lines.append(line)
        with (out / "steps.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(f"{line['began']:6.1f} s  {step.name}: {state} after {line['seconds']} s", flush=True)
    return lines


def run_step(step: Step, limit: float, out: Path) -> tuple[int, str]:
    """Runs one step with its output in NAME.log. After `limit` seconds it is killed, with all processes it started."""
    return _execute([*step.program, sys.executable, *step.arguments], step, limit, out)


def run_tiny(clock: PretendedClock) -> Run:
    """For a dry run: the tiny form of each step, or a check of its options, and the pretended clock's word on its
    time."""

    def run(step: Step, limit: float, out: Path) -> tuple[int, str]:
        code, state = 0, "done"
        if step.arguments[: len(EDGEFEL)] == EDGEFEL:
            if (
                problem := wrong_options([word.replace("{out}", str(out)) for word in step.arguments[2:]])
            ) != "":
                code, state = 2, f"failed: {problem}"
        elif step.tiny is not None:
            code, state = _execute([sys.executable, *step.tiny], step, 300, out)
        return (code, state) if clock.pass_by(step, limit) else (124, "late: killed")

    return run


def wrong_options(arguments: Sequence[str]) -> str:
    """Why edgefel would refuse its command line; empty if it would not. Nothing is run."""
    import click

    from edgefel.cli.main import main as edgefel

    command: click.Command = edgefel
    rest = list(arguments)
    try:
        with contextlib.ExitStack() as contexts:
            while isinstance(command, click.Group):
                name, found, rest = command.resolve_command(
                    contexts.enter_context(click.Context(command)), rest
                )
                assert found is not None, name
                command = found
            contexts.enter_context(command.make_context("edgefel", rest))
    except click.ClickException as error:
        return error.format_message()
    return ""


def _execute(command: list[str], step: Step, limit: float, out: Path) -> tuple[int, str]:
    words = [word.replace("{out}", str(out)) for word in command]
    with (out / f"{step.name}.log").open("ab") as log:
        try:
            process = subprocess.Popen(
                words,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env={**os.environ, **step.environment},
                start_new_session=True,
            )
        except OSError as error:
            return 127, f"failed: {error.strerror}"
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            # its children too, such as compilers, also if the session itself is stopped
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if code is None:
        return 124, "late: killed"
    return code, "done" if code == 0 else f"failed: exit code {code}"


def compare_counts(out: Path) -> dict[str, float] | None:
    """Instructions that the profiler counted in one launch, and the model's prediction, into counts.json; None where
    one of them is missing."""
    profiled, predicted = out / "executed.csv", out / "kernels" / "kernel-model.jsonl"
    if not (profiled.is_file() and predicted.is_file()):
        return None
    lines = [line for line in profiled.read_text().splitlines() if line.startswith('"')]
    wanted = "smsp__inst_executed.sum"
    executed = [row["Metric Value"] for row in csv.DictReader(lines) if row.get("Metric Name") == wanted]
    rows = map(json.loads, predicted.read_text().splitlines())
    counted = [row["metrics"]["warp_instructions"] for row in rows if row["subject"]["mode"] == "forward"]
    if not (executed and counted):
        return None
    found = {"executed": float(executed[0].replace(",", "")), "predicted": float(counted[-1])}
    found["predicted over executed"] = round(found["predicted"] / found["executed"], 4)
    (out / "counts.json").write_text(json.dumps(found) + "\n")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 if every step that had time was done."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=545.0, help="of the whole session")
    parser.add_argument("--data", help="data set to train on in the time that is left")
    parser.add_argument(
        "--carried", type=Path, default=FOLDER, metavar="FOLDER", help="pieces of tools/gpu_carry.py"
    )
    parser.add_argument("--only", help="steps by name, with commas")
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--pretend", default="", help="of a dry run: NAME=SECONDS,..., what steps take")
    options = parser.parse_args(arguments)
    names = packed(options.carried)
    archives = [options.carried / WHOLE / name for name in names if name.endswith(".zip")]
    data = options.data or (str(archives[0].with_suffix("")) if archives else None)
    chosen = steps(data, carried_steps(options.carried, names) if names else ())
    if options.only:
        names = options.only.split(",")
        if unknown := set(names) - {step.name for step in chosen}:
            parser.error(
                f"no step {', '.join(sorted(unknown))}; known: {', '.join(one.name for one in chosen)}"
            )
        chosen = [step for step in chosen if step.name in names]
    out = Path(os.environ.get("OUT", "gpu-session")).absolute()
    if options.dry_run:
        pairs = (part.split("=") for part in options.pretend.split(",") if part)
        pretended = PretendedClock({name: float(seconds) for name, seconds in pairs})
        lines = run_session(chosen, options.seconds, out, pretended, run_tiny(pretended))
    else:
        lines = run_session(chosen, options.seconds, out, Clock(), run_step)
    if (counts := compare_counts(out)) is not None:
        print(f"instructions of one launch: {counts}")
    return int(any(line["state"] not in ("done", "no time left") for line in lines))


if __name__ == "__main__":
    sys.exit(main())
