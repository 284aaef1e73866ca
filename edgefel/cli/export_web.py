"""`edgefel export --web`: its options, and the page."""

from __future__ import annotations

import functools
import shlex
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from edgefel.cli import params
from edgefel.cli.console import console_on_stderr, print_json, print_table, say
from edgefel.cli.param_types import PATH
from edgefel.errors import EdgefelError

# what a browser does not run
_NEVER = ("fp16", "fp8", "weights", "engine")
# what does not shape the network
_OWN = (
    *("web", "onnxruntime_web", "detector_model"),
    *("checkpoint", "output", "fp32", "int8", "as_json", "overwrite"),
)


def web_options(function: Callable[..., None]) -> Callable[..., None]:
    """The options of the page, which reach the command as the dict `page`."""

    @functools.wraps(function)
    def command(*context: Any, **values: Any) -> None:
        names = ("web", "onnxruntime_web", "detector_model")
        function(*context, page={name: values.pop(name) for name in names}, **values)

    web = click.option(
        "--web",
        is_flag=True,
        help="Write a page that labels faces in the browser, without a server: a folder of files. CHECKPOINT may be a "
        "bundle then, or be left out for the network that comes with edgefel. Downloads onnxruntime-web by npm.",
    )
    vendored = click.option(
        "--onnxruntime-web",
        type=PATH,
        help="With --web: a folder of that npm package, unpacked; nothing is downloaded.",
    )
    return web(vendored(params.detector_model(command)))


def required(checkpoint: Path | None) -> Path:
    """CHECKPOINT of a call without --web; raises EdgefelError for options of --web, and click's error without one."""
    for option in ("onnxruntime_web", "detector_model"):
        params.refuse_alone(option, "web")
    if checkpoint is None:
        raise click.MissingParameter(param_hint="'CHECKPOINT'", param_type="argument")
    return checkpoint


def export_web(
    source: Path | None,
    output: Path,
    page: dict[str, Any],
    export: Callable[[Path, Path, bool], object],
    *,
    as_json: bool,
    overwrite: bool,
) -> None:
    """Writes the page. source: a checkpoint, a bundle, or None. export: as of the command, of a checkpoint."""
    from edgefel.runtime.manifest import is_bundle
    from edgefel.runtime.shipped import shipped_bundle
    from edgefel.web.folder import WebOptions, check_web, write_web_folder

    params.refuse_both("fp32", "int8")
    _refuse(lambda name: name in _NEVER, "--web takes an FP32 or an INT8 file; leave it out")
    precision = "int8" if params.given("int8") else "fp32"
    options = WebOptions(precision, page["detector_model"], page["onnxruntime_web"], overwrite)
    check_web(output, options)
    with ExitStack() as stack:
        if source is None or is_bundle(source):
            bundle = source or shipped_bundle()
            _refuse(lambda name: name not in _OWN, "a bundle is exported already; leave it out")
        else:
            place = stack.enter_context(tempfile.TemporaryDirectory(prefix="edgefel-web-"))
            bundle = Path(place, source.resolve().name)
            export(source, bundle, False)
        errors = console_on_stderr()
        files = write_web_folder(bundle, output, options, lambda line: say(errors, line))
    _show(output, precision, files, as_json)


def _refuse(wrong: Callable[[str], bool], why: str) -> None:
    """Raises EdgefelError if a parameter with such a name was given."""
    for param in click.get_current_context().command.params:
        if wrong(param.name) and params.given(param.name):
            raise EdgefelError(f"{param.opts[0]}: {why}")


def _show(output: Path, precision: str, files: list[Path], as_json: bool) -> None:
    from edgefel.files.write import sha256

    if as_json:
        entries = [
            {
                "path": file.relative_to(output).as_posix(),
                "bytes": file.stat().st_size,
                "sha256": sha256(file),
            }
            for file in files
        ]
        print_json({"folder": str(output), "precision": precision, "files": entries})
        return
    parts: dict[str, list[int]] = {}
    for file in files:
        inner, _, rest = file.relative_to(output).as_posix().partition("/")
        parts.setdefault(f"{inner}/" if rest else "top level", []).append(file.stat().st_size)
    rows = [(name, str(len(sizes)), f"{sum(sizes) / 1e6:.2f}") for name, sizes in sorted(parts.items())]
    print_table(("part", "files", ">MB"), rows, str(output))
    click.echo("Any web server serves it, over https or on localhost; to try it:")
    click.echo(f"  python3 -m http.server --bind 127.0.0.1 --directory {shlex.quote(str(output))}")
