"""`edgefel run`: from camera to labels."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import click

from edgefel import signals
from edgefel.cli import params
from edgefel.cli.console import console_on_stderr, say
from edgefel.cli.mqtt import mqtt_options
from edgefel.cli.network import load_network, network_options
from edgefel.cli.output import discard
from edgefel.cli.param_types import ABOVE_ZERO, PATH, POSITIVE, FiniteRange
from edgefel.cli.run_console import LabelChanges, run_progress, say_summary
from edgefel.cli.run_report import about_run, check_report, opened_report, refuse_unrelated
from edgefel.errors import EdgefelError

if TYPE_CHECKING:
    from rich.console import Console

    from edgefel.runtime.stream.frames import FrameResult
    from edgefel.runtime.stream.pipeline import Stream
    from edgefel.runtime.stream.report.page import About
    from edgefel.runtime.stream.sinks import Sink
    from edgefel.runtime.telemetry.telemetry import Telemetry


@click.command("run")
@params.bundle_or_shipped
@params.source(default="0")
@params.frame_size()
@params.frame_rate(
    help="Frame rate to request from the camera; makes a folder of images a sequence at that rate."
)
@params.patience
@click.option("--loop", is_flag=True, help="Restart a file when it ends.")
@params.decoder
@network_options
@params.detect_every
@click.option(
    "--policy",
    type=click.Choice(["auto", "latest", "all"]),
    default="auto",
    help="When too slow: drop to the latest frame, or make the source wait. auto: latest for live sources.",
)
@params.smoothing
@params.min_confidence
@click.option("--frames", type=POSITIVE, help="Stop after this many frames of the source.")
@click.option("--seconds", type=ABOVE_ZERO, help="Stop after this much time of the source.")
@click.option("--show", is_flag=True, help="Show the annotated image in a window; q ends.")
@click.option("--save", type=PATH, help="Write the annotated video.")
@click.option(
    "-o",
    "--output",
    "outputs",
    multiple=True,
    type=PATH,
    help="Write results to FILE.jsonl or FILE.csv. May be given several times.",
)
@click.option(
    "--report",
    type=PATH,
    help="Write a page (REPORT.html) with the timeline and shares of labels of each person, and REPORT.csv beside it.",
)
@click.option("--thumbnails", is_flag=True, help="Show faces in --report: the clearest one of each label.")
@params.overwrite("Replace files of --output, --save and --report that exist.")
@click.option("--metrics", type=PATH, help="Append latencies, rates, memory and power to a JSON lines file.")
@click.option(
    "--metrics-every", type=FiniteRange(min=0.05), default=1.0, help="Seconds between the lines of --metrics."
)
@click.option(
    "--metrics-port", type=click.IntRange(1, 65535), help="Serve the same to Prometheus on this port."
)
@click.option(
    "--metrics-host", default="127.0.0.1", help="Address that --metrics-port listens on; 0.0.0.0 is all."
)
@mqtt_options
@params.verbose
@params.max_pixels
@params.json_output
def command(**options: Any) -> None:
    """Label faces from a camera, a stream, a video or images, person by person.

    BUNDLE is a bundle of `edgefel export`; without one, the network that comes with edgefel is used. Prints a line
    whenever a person's label changes, or with --json one line of JSON per frame. Ends with a table of latencies, drops,
    memory and power on stderr.

    \b
    Examples:
      edgefel run                                              the first camera
      edgefel run bundle                                       a network of your own
      edgefel run bundle --source csi --show                   a Jetson's CSI camera, in a window
      edgefel run bundle --source rtsp://10.0.0.7/live --json --metrics-port 9109
      edgefel run bundle --source clip.mp4 --save labelled.mp4 -o faces.csv
      edgefel run bundle --source clip.mp4 --report report.html --thumbnails
      edgefel run bundle --source clip.mp4 --json | jq .faces
      edgefel run --source csi --mqtt mqtt://homeassistant.local/edgefel/hall
    """
    params.refuse_alone("metrics_every", "metrics")
    params.refuse_alone("metrics_host", "metrics_port")
    params.refuse_alone("thumbnails", "report")
    _run(SimpleNamespace(**options))


def _run(options: SimpleNamespace) -> None:
    from edgefel.runtime.model import STREAM_BATCHES
    from edgefel.runtime.stream.capture import SourceOptions, plan_source
    from edgefel.runtime.telemetry.board import Board
    from edgefel.runtime.telemetry.telemetry import Telemetry

    _check_targets(options)
    params.refuse_source(options.bundle)
    errors = console_on_stderr()
    with ExitStack() as stack:
        plan = plan_source(
            options.source,
            SourceOptions(options.size, options.fps, options.loop, options.decoder, options.patience),
        )
        # a file is opened before the model is loaded, to report errors early; a camera would lose frames meanwhile
        source = None if plan.live else stack.enter_context(closing(plan.open()))
        if options.report is not None:
            refuse_unrelated(source)
        network = options.network | {"min_confidence": options.min_confidence}
        model, lines = load_network(
            options.bundle, network, STREAM_BATCHES, verbose=options.verbose, as_json=options.as_json
        )
        stack.enter_context(model)
        say(errors, *lines)
        mqtt = options.mqtt and options.mqtt.connect(model, stack, errors)
        source = source or stack.enter_context(closing(plan.open()))
        telemetry = stack.enter_context(Telemetry(Board.find()))
        _serve_metrics(options, telemetry, stack, errors)
        stream = model.stream(
            source,
            policy=options.policy,
            detect_every=options.detect_every,
            smoothing=options.smoothing,
            frames=options.frames,
            seconds=options.seconds,
            telemetry=telemetry,
        )
        say(errors, f"{source.description}, policy {stream.policy}")
        report = about_run(options, model, source, stream)
        sinks = stack.enter_context(_opened_sinks(options, source.fps, errors, report, mqtt))
        # pending results are written and files closed; then Ctrl-C ends with exit code 130, and SIGTERM and SIGHUP
        # (service manager, lost connection) with 0
        asked: list[int] = []

        def stop(number: int) -> None:
            # a second Ctrl-C does not wait for the frames in the pipeline
            if number == signal.SIGINT and number in asked:
                raise signals.Interrupted(number)
            asked.append(number)
            stream.stop()

        stack.enter_context(signals.answered(stop))
        try:
            with run_progress(errors, source, options.as_json) as progress:
                _consume(stream, sinks, progress, telemetry)
        finally:
            say_summary(errors, telemetry, stream, source)
        if signal.SIGINT in asked:
            raise signals.Interrupted(signal.SIGINT)


def _check_targets(options: SimpleNamespace) -> None:
    """Refuses bad output names before the model is loaded, and outputs that are the source or each other.

    --overwrite is meant for results of an earlier run.
    """
    from edgefel.data.recording import check_video_target
    from edgefel.runtime.stream.sinks import check_file_target

    named = [*(("-o", path) for path in options.outputs), ("--save", options.save)]
    if options.report is not None:
        named += check_report(options)
    taken = {os.path.realpath(options.source): "--source"}
    for option, path in (*named, ("--metrics", options.metrics)):
        if path is None:
            continue
        place = os.path.realpath(path)
        if place in taken:
            raise EdgefelError(
                f"{path}: is named by {taken[place]} and by {option}; give each a file of its own"
            )
        taken[place] = option
    if options.save is not None:
        check_video_target(options.save, overwrite=options.overwrite)
    for path in options.outputs:
        check_file_target(path, overwrite=options.overwrite)


def _serve_metrics(options: SimpleNamespace, telemetry: Telemetry, stack: ExitStack, errors: Console) -> None:
    from edgefel.runtime.telemetry.files import MetricsFile
    from edgefel.runtime.telemetry.server import MetricsServer

    if options.metrics is not None:
        file = stack.enter_context(MetricsFile(options.metrics, telemetry, options.metrics_every))

        @stack.callback
        def warn() -> None:
            if file.problem is not None:
                say(errors, f"warning: {file.problem}")

    if options.metrics_port is not None:
        server = stack.enter_context(MetricsServer(telemetry, options.metrics_port, options.metrics_host))
        say(errors, f"metrics at {server.url}")


@contextmanager
def _opened_sinks(
    options: SimpleNamespace, fps: float, errors: Console, about: About, mqtt: Sink | None
) -> Iterator[list[Sink]]:
    """The sinks, which are always closed, so that their files are complete. about: for the report."""
    from edgefel.runtime.stream.sinks import JsonLines, VideoSink, WindowSink, open_file_sink

    with ExitStack() as stack:
        # closed last: drawing takes seconds
        reports = [] if options.report is None else [opened_report(options, stack, errors, about)]

        def opened(sink: Sink) -> Sink:
            stack.callback(sink.close)
            return sink

        # first the sinks that leave no file behind if a later one is refused
        images: list[Sink] = []
        if options.save is not None:
            video = VideoSink(options.save, fps, overwrite=options.overwrite)
            images.append(opened(video))
            if video.kept is not None:
                say(errors, f"a recording that an earlier run did not complete is now {video.kept}")
        if options.show:
            images.append(opened(WindowSink(f"edgefel {options.source}")))
        files: list[Sink] = []
        with ExitStack() as undo:
            for path in options.outputs:
                is_new = not path.exists()
                files.append(opened(open_file_sink(path, overwrite=options.overwrite)))
                if is_new:
                    undo.callback(path.unlink, missing_ok=True)
            undo.pop_all()
        text = opened(JsonLines(sys.stdout) if options.as_json else LabelChanges())
        messages = [] if mqtt is None else [opened(mqtt)]
        # the files before the window, which may end the run
        yield [*files, *reports, *messages, *images, text]


def _consume(
    stream: Stream, sinks: Sequence[Sink], progress: Callable[[FrameResult, int], None], telemetry: Telemetry
) -> None:
    from edgefel.runtime.stream.overlay import draw
    from edgefel.runtime.stream.sinks import SinkClosed

    needs_image = any(sink.needs_image for sink in sinks)
    try:
        for result in stream:
            start = time.perf_counter()
            image = None
            if needs_image:
                image = draw(result, telemetry.power_w, stream.dropped, stream.backend)
            for sink in sinks:
                sink.write(result, image)
            telemetry.record("sinks", time.perf_counter() - start)
            progress(result, stream.dropped)
    except SinkClosed:  # the window was closed, or the reader of the output has gone
        try:
            sys.stdout.flush()
        except BrokenPipeError:
            discard(sys.stdout)
