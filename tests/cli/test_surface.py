"""Every command with its arguments and options, and every format that is read or written, is in surface.txt.

`python tests/cli/test_surface.py` writes it anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from edgefel.cli.main import main

LISTED = Path(__file__).with_name("surface.txt")


def surface(command: click.Command = main, name: str = "edgefel") -> Iterator[str]:
    """A line per command, followed by an indented line per parameter: names, type, default; no help texts."""
    with click.Context(command, info_name=name) as ctx:
        if isinstance(command, click.Group):
            for inner in command.list_commands(ctx):
                found = command.get_command(ctx, inner)
                assert found is not None, inner
                yield from surface(found, f"{name} {inner}")
            return
        yield name
        shown = [parameter for parameter in command.params if not getattr(parameter, "hidden", False)]
        arguments = [parameter for parameter in shown if isinstance(parameter, click.Argument)]
        options = [parameter for parameter in shown if isinstance(parameter, click.Option)]
        for argument in arguments:
            yield f"  {argument.make_metavar(ctx)}"
        yield from sorted(f"  {describe(option, ctx)}" for option in options)


def describe(option: click.Option, ctx: click.Context) -> str:
    names = "/".join(sorted(option.opts) + sorted(option.secondary_opts))
    marks = [] if option.is_flag else [option.make_metavar(ctx)]
    marks += ["required"] * option.required + ["repeatable"] * option.multiple
    default = option.to_info_dict()["default"]
    if default not in (None, False, ()):
        marks.append(f"default {default}")
    return " ".join([names, *marks])


def formats() -> Iterator[str]:
    """A line per kind of format or name that commands take: data sets, weights, models, precisions, backends, files."""
    from edgefel.bench.experiments.ablation.papers import EXPERIMENTS
    from edgefel.cli.bench.report import MARKDOWN, PAGES
    from edgefel.data.images import IMAGE_SUFFIXES
    from edgefel.data.labels import PRESETS
    from edgefel.data.open import LAYOUTS
    from edgefel.data.recording.writer import _CONTAINERS
    from edgefel.deploy.archive import TAR_SUFFIXES
    from edgefel.export.onnx.passes import EXACT_PASSES
    from edgefel.models.published_layouts import LAYOUTS as WEIGHTS
    from edgefel.models.registry import MODELS
    from edgefel.runtime.backends.base import BACKENDS
    from edgefel.runtime.manifest import OUTPUT_NAMES, PRECISIONS

    yield "formats"
    for name, values in {
        "archives": TAR_SUFFIXES,
        "backends": BACKENDS,
        "data sets": LAYOUTS,
        "experiments": EXPERIMENTS,
        "graph passes": EXACT_PASSES,
        "images read": sorted(IMAGE_SUFFIXES - {".avif", ".gif"}),  # these two depend on the installed OpenCV
        "label presets": PRESETS,
        "models": MODELS,
        "outputs": OUTPUT_NAMES,
        "precisions": PRECISIONS,
        "reports": PAGES + MARKDOWN,
        "videos written": _CONTAINERS,
        "weights": WEIGHTS,
    }.items():
        yield f"  {name}: {' '.join(values)}"


def test_no_command_option_or_format_changes_unnoticed():
    assert [*surface(), *formats()] == LISTED.read_text().splitlines()


if __name__ == "__main__":
    LISTED.write_text("\n".join([*surface(), *formats()]) + "\n")
