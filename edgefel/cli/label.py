"""`edgefel label`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click

from edgefel.cli import params
from edgefel.cli.console import Bars, console_on_stderr, print_json, say, say_lost, working
from edgefel.cli.lazy import require
from edgefel.cli.network import network_options
from edgefel.cli.param_types import PATH, POSITIVE
from edgefel.cli.predict import bundle_before
from edgefel.text import counted

_NAMED = 5  # damaged shards


@click.command("label")
# click gives all arguments but the last to one that takes any number
@click.argument("bundles", metavar="[BUNDLE]", nargs=-1, type=PATH)
@click.argument("source")
@params.output("Folder to write; must not exist or be empty.")
# each task has one core
@partial(network_options, without="threads")
@params.min_confidence
@click.option("--no-detect", is_flag=True, help="The images are face crops already.")
@click.option("--every", type=POSITIVE, default=1, help="Label every n-th frame of videos.")
@click.option(
    "--part",
    "per_part",
    type=POSITIVE,
    default=1000,
    help="Images of a task and a file of labels, where they are not in tar shards.",
)
@params.cluster
@click.option("--restart", is_flag=True, help="Discard the results of an unfinished run.")
@params.verbose
@params.max_pixels
@params.json_output
def command(
    bundles: tuple[Path, ...],
    source: str,
    output: Path,
    network: dict[str, Any],
    no_detect: bool,
    every: int,
    per_part: int,
    workers: int | None,
    cluster: str | None,
    restart: bool,
    min_confidence: float,
    verbose: bool,
    as_json: bool,
) -> None:
    """Label the faces of a large set of images into Parquet files.

    SOURCE is a folder, or an address such as s3://bucket/faces, with images, tar shards, Parquet files with a column
    image and videos in it, at any depth; one such file; or a manifest, a CSV or Parquet file with a column path.
    BUNDLE is a bundle of `edgefel export`; without one, the network that comes with edgefel is used.

    Writes OUTPUT/part-000000.parquet, ... with a row for each face, and label.json with the counts. Images and shards
    that cannot be read are counted. The files are the same for any number of workers and machines. Ctrl-C ends with
    exit code 130; the same command then continues, also after a crash.

    \b
    Examples:
      edgefel label photos -o labels
      edgefel label bundle shards/ -o labels --no-detect --workers 8
      edgefel label bundle s3://bucket/faces -o labels --cluster auto
      edgefel label bundle faces.csv -o labels --json
    """
    require("data", "edgefel label", "pyarrow")
    from edgefel.files.resumable import partial_folder
    from edgefel.files.write import check_free
    from edgefel.runtime.bulk.plan import plan_labelling
    from edgefel.runtime.bulk.run import label
    from edgefel.runtime.bulk.work import Network
    from edgefel.tasks.choose import open_runner

    bundle = bundle_before(bundles, Path(source))
    params.refuse_both("no_detect", "detector_model")
    if no_detect:
        network["detector"] = "none"
    check_free(output)
    with working(f"listing {source}"):
        plan = plan_labelling(source, per_part)
    wanted = Network(bundle, **network, min_confidence=min_confidence, every=every)
    with working(f"loading {bundle}"), wanted.open() as model:
        chosen = wanted.chosen(model)
        lines = (
            model.session.headline,
            *((*model.session.choice.reasons, model.detector) if verbose else ()),
            *model.session.notes,
        )
    say(console_on_stderr(), *lines)

    def begin(done: int, total: int) -> None:
        if done:
            click.echo(f"continuing: {done} of {counted(total, 'part')} are done", err=True)
        bars.start("parts", total)
        bars.update(done, total)

    try:
        with open_runner(cluster, workers) as runner, Bars(transient=as_json) as bars:
            report = label(plan, chosen, output, runner, restart=restart, begin=begin, progress=bars.advance)
    except KeyboardInterrupt:
        kept = partial_folder(output)
        if kept.is_dir():
            click.echo(f"finished parts are kept in {kept}; the same command continues from there", err=True)
        raise
    say_lost(runner)
    if as_json:
        print_json({"output": str(output), "tasks_repeated": runner.lost, **report})
    else:
        _show(output, report)


def _show(output: Path, report: dict[str, Any]) -> None:
    from edgefel.data.images import left_out_text

    faces, images, files = report["faces"], report["images"], report["parts"]
    click.echo(f"{output}: {counted(faces, 'face')} in {counted(images, 'image')}, {counted(files, 'file')}")
    labels = ", ".join(f"{name} {count}" for name, count in report["labels"].items())
    if labels:
        click.echo(f"  {labels}")
    if report["without_face"]:
        click.echo(f"  no face found in {counted(report['without_face'], 'image')}")
    if report["unreadable"]:
        click.echo(f"  {counted(report['unreadable'], 'image')} cannot be read: see the column error")
    if report["lost_frames"]:
        click.echo(f"  {counted(report['lost_frames'], 'frame')} of videos missing or broken")
    if broken := report["broken"]:
        named = ", ".join(f"{one['name']} ({one['reason']})" for one in broken[:_NAMED])
        more = f" and {len(broken) - _NAMED} more" if len(broken) > _NAMED else ""
        click.echo(f"  {counted(len(broken), 'damaged shard')}, read up to the damage: {named}{more}")
    if report["left_out"]:
        click.echo(f"  {left_out_text(report['left_out'])}")
