"""Entry point of the `edgefel` command."""

from __future__ import annotations

import errno
import gc
import os
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

import click

from edgefel import __version__, signals
from edgefel.cli import output
from edgefel.cli.console import warn
from edgefel.cli.lazy import LazyGroup
from edgefel.errors import EdgefelError, EdgefelWarning
from edgefel.files.write import DISK_FULL
from edgefel.text import printable

_LONGEST = 4000  # characters of a message

# command -> one-line help
COMMANDS = {
    "demo": "Run the whole pipeline once: faces, training, export, engines, a photograph.",
    "models": "List the models: parameters, GMAC, input size.",
    "data": "Generate, inspect and prepare data sets.",
    "train": "Train a model.",
    "evaluate": "Accuracy, macro F1, recall by class and calibration of a checkpoint.",
    "ablate": "Rerun a table of the papers: a grid of trainings, and a verdict.",
    "import": "Convert published checkpoints to edgefel's format.",
    "calibrate": "Choose class-balanced images for INT8 calibration.",
    "export": "Export to ONNX (FP32, FP16, INT8) and TensorRT engines.",
    "parity": "Compare a bundle's files with PyTorch, class by class, on labelled images.",
    "engine": "Build TensorRT engines from a bundle's ONNX files, on the device.",
    "kernels": "Compile the fused kernels for the GPU of another machine.",
    "pack": "Pack a bundle for a device, Triton Inference Server or DeepStream.",
    "bench": "Measure speed, memory and accuracy.",
    "run": "Label faces from a camera, a stream or a video, person by person.",
    "serve": "Serve a page, REST and a WebSocket that label faces.",
    "predict": "Label the faces in images or a video with an exported model.",
    "label": "Label the faces of folders, shards, manifests or object stores into Parquet files.",
    "detector": "Get the face detector YuNet: faster, and finds more faces than OpenCV's cascade.",
    "doctor": "Examine this machine: packages, GPU, cameras, power; each problem with its fix.",
    "completion": "Print the script by which bash, zsh or fish completes edgefel's commands.",
}

# the output's place: no permission, read-only, a file where a folder should be, a name too long
_WRONG_PLACE = (
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.EISDIR),
    *(errno.ENAMETOOLONG, errno.ENOENT),
)

# read when OpenCV is imported; edgefel reports broken files itself
_OPENCV_SILENT = {"OPENCV_LOG_LEVEL": "FATAL", "OPENCV_FFMPEG_LOGLEVEL": "-8"}


class Edgefel(LazyGroup):
    """The commands; errors of the user or the disk become one line."""

    def make_context(self, *arguments: Any, **options: Any) -> click.Context:
        # imports leave millions of objects that stay: looking through them for garbage took a fifth of the start
        gc.set_threshold(50_000, 20, 100)
        output.prepare_streams()
        for variable, level in _OPENCV_SILENT.items():
            os.environ.setdefault(variable, level)
        try:
            return super().make_context(*arguments, **options)
        except OSError as error:  # --help into a closed pipe
            if output.reader_gone(error):
                raise click.exceptions.Exit(output.PIPE_CLOSED) from None
            raise

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with signals.answered(), warnings.catch_warnings():
                warnings.simplefilter("default", EdgefelWarning)  # once, however often a data set is opened
                warnings.showwarning = _show_warning(warnings.showwarning)
                with _interrupts_kept():
                    result = super().invoke(ctx)
                _flush()
                return result
        except EdgefelError as error:
            _fail(ctx, str(error))
        except ImportError as error:
            # an installed package that does not load: OpenCV without libGL, one built for another NumPy
            if (error.name or "").startswith("edgefel"):
                raise
            _fail(ctx, f"a package does not load ({error}); run 'edgefel doctor', which says which")
        except (BrokenPipeError, SystemExit) as error:
            if not output.reader_gone(error):
                raise
            ctx.exit(output.PIPE_CLOSED)
        except UnicodeEncodeError as error:  # from a library, for a file name that is not UTF-8
            _fail(ctx, f"{error.object}: a name that is not UTF-8; rename the file or folder")
        except OSError as error:
            # files are replaced atomically: nothing half-written is left
            where, what, mend = error.filename or "the output", "written", "choose another place"
            if error.errno in DISK_FULL:
                mend = f"free disk space or {mend}"
            elif error.filename is None:
                raise
            elif error.errno not in _WRONG_PLACE:  # a loop of links, a failing disk, too many open files
                what, mend = "opened", "choose another file or place"
            _fail(ctx, f"{where}: cannot be {what} ({error.strerror}); {mend}")
        except (KeyboardInterrupt, click.Abort) as error:
            # click turns an interrupt of a command within a command (demo) into Abort
            stops = [one for one in (error, error.__cause__) if isinstance(one, signals.Interrupted)]
            stop = (stops or [signals.Interrupted(signals.received() or signal.SIGINT)])[0]
            with suppress(OSError):  # the terminal may be gone
                click.echo(str(stop), err=True)
            ctx.exit(stop.code)


@contextmanager
def _interrupts_kept() -> Iterator[None]:
    """Raises Interrupted in place of an exception that a library made of it."""
    try:
        yield
    except (click.Abort, click.exceptions.Exit):
        raise
    except Exception as error:
        if (number := signals.interrupting()) is not None:
            raise signals.Interrupted(number) from error
        raise


def _show_warning(others: Any) -> Any:
    """A `warnings.showwarning` that prints edgefel's warnings as one line and passes the rest to `others`."""

    def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        if issubclass(category, EdgefelWarning):
            warn(_line(str(message)))
        else:
            others(message, category, *where, **more)

    return show


def _fail(ctx: click.Context, message: str) -> NoReturn:
    with suppress(OSError):  # standard error may be closed
        click.echo(f"error: {_line(message)}", err=True)
    ctx.exit(2)


def _line(text: str) -> str:
    """One line of bounded length; file names may hold anything."""
    if len(text) > _LONGEST:
        text = f"{text[: _LONGEST - 1000]} ... {text[-990:]}"
    return printable(text, lines=False)


def _flush() -> None:
    """Raises EdgefelError if standard output cannot be written; Python would print a traceback at exit."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        output.discard(sys.stdout)
        raise EdgefelError(
            f"standard output: cannot be written ({error.strerror}); free disk space or choose another place"
        ) from None


@click.command(
    cls=Edgefel,
    package="edgefel.cli",
    helps=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True},
)
@click.version_option(__version__, prog_name="edgefel")
def main() -> None:
    """Facial-expression transformers from training to an edge device.

    \b
    Examples:
      edgefel demo                                  the whole pipeline once, on the CPU
      edgefel train --model arbex-nano --data faces -o runs/nano
      edgefel export runs/nano -o bundle --fp32 --fp16 --int8 --data faces
      edgefel predict bundle photo.jpg --save out
    """


if __name__ == "__main__":
    sys.exit(main())
