"""`edgefel demo`: the whole pipeline, one edgefel command after the other."""

from __future__ import annotations

import contextlib
import shlex
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

from edgefel.cli import params
from edgefel.cli.console import Bars, print_json, print_table
from edgefel.cli.lazy import require
from edgefel.cli.main import main
from edgefel.cli.param_types import PATH
from edgefel.cli.parity import REFUSED
from edgefel.errors import EdgefelError
from edgefel.files.documents import read_json
from edgefel.files.write import LOCK_NAME, sole_user, write_json
from edgefel.text import counted
from edgefel.workers import usable_cores

MODEL = "arbex-nano"
STATE_FILE = "state.json"
RESULTS_FILE = "results.json"


@click.command("demo")
@params.output("Folder for everything the demo writes.", required=False, default="demo")
@click.option("--quick", is_flag=True, help="A few faces and one epoch: runs every step, learns little.")
@click.option("--photo", type=PATH, help="Image to label.  [default: a bundled portrait]")
@click.option("--no-engine", is_flag=True, help="Leave out the TensorRT engines.")
@params.seed
@params.json_output
def command(output: Path, quick: bool, photo: Path | None, no_engine: bool, seed: int, as_json: bool) -> None:
    """Run the whole pipeline once, on the CPU, in a few minutes.

    Renders synthetic faces, trains the small ARBEx model (its streams first), evaluates it on unseen people, exports
    it to ONNX in FP32, FP16 and INT8, builds a TensorRT engine of each, and compares every file with PyTorch. The
    network that comes with edgefel, trained on real faces, labels the face in a photograph. Each stage is an edgefel
    command, which is printed before it runs. An interrupted demo continues where it stopped; a finished one only
    prints its results.

    \b
    Examples:
      edgefel demo
      edgefel demo --photo me.jpg -o my-demo
      edgefel demo --quick --no-engine --json
    """
    require("train", "edgefel demo", "torch", "lightning_fabric", "matplotlib")
    require("export", "edgefel demo", "onnx", "onnxscript", "onnxsim")
    image = _photo(photo)
    size = {"faces": 420, "subjects": 42, "epochs": 1, "per_class": 32} if quick else FULL
    demo = Demo(output, engine=not no_engine, photo=str(image), seed=seed, **size)
    # with --json, stdout holds one document; output of the stages goes to stderr
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        results = demo.run()
    if as_json:
        print_json(results)
    else:
        _print_results(results, output)


TIMING_SECONDS = 4.0
FULL = {"faces": 5600, "subjects": 280, "epochs": 8, "per_class": 210}


@dataclass(frozen=True)
class Demo:
    """The stages of a demo in a folder, and their state. A folder holds one demo, with one set of options."""

    folder: Path
    faces: int
    subjects: int
    epochs: int
    per_class: int
    engine: bool
    photo: str
    seed: int

    @property
    def options(self) -> dict[str, Any]:
        """What identifies the demo of a folder."""
        return {name: value for name, value in asdict(self).items() if name != "folder"}

    def stages(self) -> dict[str, list[str]]:
        """Stage -> its command line, without the program's name."""
        folder = self.folder
        faces, run, bundle = str(folder / "faces"), str(folder / "run"), str(folder / "bundle")
        evaluation, photograph = str(folder / "evaluation"), str(folder / "photograph")
        seed = ["--seed", str(self.seed)]
        synth = ["--count", str(self.faces), "--subjects", str(self.subjects), *FACES]
        workers = ["--workers", str(usable_cores())]
        length = ["--epochs", str(self.epochs), "--per-class", str(self.per_class)]
        train = ["--model", MODEL, "--data", faces, *seed, *RECIPE, *length]
        start = ["--init-from", str(folder / "streams"), "--freeze-backbones"]
        precisions = ["--fp32", "--fp16", "--int8", *(["--engine"] if self.engine else [])]
        return {
            "faces": ["data", "synth", "-o", faces, *synth, *seed, *workers],
            "streams": self._training("streams", [*train, *STREAMS]),
            "training": self._training("run", [*train, *start, *WHOLE]),
            "evaluation": ["evaluate", run, "--data", faces, "--split", "test", "-o", evaluation],
            "export": ["export", run, "-o", bundle, *precisions, "--data", faces, *seed],
            # may exist from a demo that was killed before it recorded the stage
            "photograph": ["predict", self.photo, "--save", photograph, "--overwrite"],
        }

    def _training(self, name: str, arguments: list[str]) -> list[str]:
        run = self.folder / name
        begun = (run / "last.json").exists()
        return ["train", "--resume", str(run)] if begun else ["train", *arguments, "-o", str(run)]

    def run(self) -> dict[str, Any]:
        """Runs the remaining stages; returns the results, which are also in results.json."""
        busy = f"{self.folder}: another demo is running there; wait for it, or choose another folder with -o"
        if self.folder.exists() and not self.folder.is_dir():
            raise EdgefelError(f"{self.folder}: in use and no demo; choose another folder with -o")
        with sole_user(self.folder, busy):
            return self._run()

    def _run(self) -> dict[str, Any]:
        state = self._state()
        stages = self.stages()
        for number, (name, arguments) in enumerate(stages.items(), start=1):
            if name in ATOMIC and (self.folder / ATOMIC[name]).exists() and name not in state["seconds"]:
                # the demo was killed between the end of the stage and its record
                self._finish(state, name, time.monotonic())
            if name not in state["seconds"]:
                shown = shlex.join(["edgefel", *arguments])
                click.secho(f"\n[{number}/{len(stages) + 1}] {name}: ", bold=True, err=True, nl=False)
                click.echo(f"$ {shown}", err=True)
                start = time.monotonic()
                _run_command(arguments)
                self._finish(state, name, start)
        if "measurement" not in state["seconds"]:
            click.secho(f"\n[{len(stages) + 1}/{len(stages) + 1}] measurement", bold=True, err=True)
            start = time.monotonic()
            write_json(self.folder / RESULTS_FILE, self._measure())
            self._finish(state, "measurement", start)
        results: dict[str, Any] = read_json(self.folder / RESULTS_FILE, dict)
        return results | {"seconds": state["seconds"], "options": self.options}

    def _state(self) -> dict[str, Any]:
        file = self.folder / STATE_FILE
        if not file.exists():
            if any(entry.name != LOCK_NAME for entry in self.folder.iterdir()):
                raise EdgefelError(f"{self.folder}: in use and no demo; choose another folder with -o")
            state: dict[str, Any] = {"options": self.options, "seconds": {}}
            write_json(file, state)
            return state
        state = read_json(file, {"options": dict, "seconds": {str: float}})
        if state.get("options") != self.options:
            raise EdgefelError(
                f"{self.folder}: holds a demo with other options; choose another folder with -o, or remove it"
            )
        return state

    def _finish(self, state: dict[str, Any], name: str, start: float) -> None:
        state["seconds"][name] = round(time.monotonic() - start, 1)
        write_json(self.folder / STATE_FILE, state)

    def _measure(self) -> dict[str, Any]:
        from edgefel.bench.bundle import compare_bundle
        from edgefel.data.open import open_dataset

        dataset = open_dataset(self.folder / "faces", split="test")
        with Bars() as bars:
            compared = compare_bundle(
                self.folder / "run",
                self.folder / "bundle",
                dataset,
                max_seconds=TIMING_SECONDS,
                threads=1,  # idle threads of one runtime would spin while another is timed
                advance=bars.follower("every file on the test split"),
            )
        return {
            "model": MODEL,
            "classes": len(dataset.labels),
            "chance": 1 / len(dataset.labels),
            "evaluation": read_json(self.folder / "evaluation" / "evaluation.json"),
            "comparison": compared,
        }


# stages whose folder appears only when it is complete
ATOMIC = {"faces": "faces", "evaluation": "evaluation", "export": "bundle"}
# Differences from the papers' recipe that let training from random weights converge within minutes for any seed: the
# streams are trained first and then frozen, where the papers start from pretrained ones. Averaged weights and noise in
# the images leave fewer near-ties, which INT8 would flip.
RECIPE = shlex.split(
    "--batch-size 32 --lr 2e-3 --warmup-steps 20 --clip-norm 1 --lambda-auxiliary 1 --ema 0.97 "
    "--rotation 5 --noise 0.04 --erase-probability 0 --eval-every 4"
)
STREAMS = ["--lr-decay", "0.85", "--auxiliary-steps", "60"]
WHOLE = ["--lr-decay", "0.8", "--auxiliary-steps", "20"]
# clear expressions in moderate poses and light, which a small network learns in minutes
FACES = shlex.split("--size 144 --pose 0.5 --nuisance 0.5 --blend 0 --intensity 0.85 1.0")


def _run_command(arguments: list[str]) -> None:
    name, *rest = arguments
    command = main.get_command(click.Context(main), name)
    assert command is not None
    code = command.main(rest, prog_name=f"edgefel {name}", standalone_mode=False)
    if name == "export" and code == REFUSED:
        # after so little training many predictions are near-ties, and INT8 may flip more than the gate allows
        click.secho(
            "the gate refused a file (see above); the demo goes on with the others", fg="yellow", err=True
        )
    elif isinstance(code, int) and code:
        raise click.exceptions.Exit(code)


def _photo(photo: Path | None) -> Path:
    if photo is None:
        from matplotlib import cbook

        return Path(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False))
    if not photo.is_file():
        raise EdgefelError(f"{photo}: no such image; give an image file with --photo")
    return photo.resolve()


def _print_results(results: dict[str, Any], folder: Path) -> None:
    compared = results["comparison"]
    columns = ("file", "precision", ">MB", ">ms/image p50", ">accuracy", ">agrees", ">largest deviation")
    print_table(
        columns,
        map(_cells, compared["files"]),
        f"{results['model']} on {counted(compared['images'], 'face')} of unseen people "
        f"(batch 1, {compared['threads']} thread; chance {results['chance']:.1%})",
    )
    click.echo(f"{sum(results['seconds'].values()):.0f} s in all. Look at:")
    for what, file in (
        ("faces", "faces/contact_sheet.png"),
        ("confusion matrix", "evaluation/confusion.png"),
        ("photograph", "photograph/"),
        ("numbers", RESULTS_FILE),
    ):
        click.echo(f"  {what:<17}{folder / file}")


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    cells = row["file"], row["precision"], f"{row['megabytes']:.2f}"
    if row["ms_p50"] is None:
        return *cells, row["note"], "", "", ""
    return (
        *cells,
        f"{row['ms_p50']:.2f}",
        f"{row['accuracy']:.1%}",
        f"{row['agreement']:.1%}" + (f" ({row['note']})" if row["note"] else ""),
        f"{row['deviation']:.1e}",
    )
