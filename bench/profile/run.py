"""Where a session's time goes: every file of a bundle in ONNX Runtime and OpenVINO, by groups of operators."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import onnx

from edgefel.bench.environment import Found, measured_rows
from edgefel.bench.profile.groups import Attribution
from edgefel.bench.profile.names import ATTENTION, GROUPS, PRODUCTS
from edgefel.bench.profile.profilers import PROFILERS, NodeTimes
from edgefel.bench.results import Measured, check_counts
from edgefel.bench.sessions import BundleOptions, Key, OpenBundle, bench_bundle
from edgefel.bench.timer import Advance, TimingPlan, measure
from edgefel.errors import EdgefelError
from edgefel.runtime.backends.base import BACKENDS, ModelFile
from edgefel.runtime.manifest import ENGINE_FORMATS, BundleFile, Manifest, read_manifest
from edgefel.runtime.onnx_functions import inlined

# Not more: every call leaves an event for each node, and ONNX Runtime's profiler keeps a million.
PLAN = TimingPlan(warmup=3, settle_seconds=2.0, min_runs=20, seconds=5.0, max_runs=200)
# groups whose operations are counted
_COUNTED = (PRODUCTS, ATTENTION)


@dataclass(frozen=True)
class ProfileOptions(BundleOptions):
    """What is profiled, and how.

    top: number of the slowest nodes in a row. count: only count the nodes that are executed, each file in the backends
    that it is made for, whether its outputs are right on this machine or not: nothing is timed. Raises EdgefelError for
    a backend whose profile is not read, too.
    """

    plan: TimingPlan = PLAN
    top: int = 10
    count: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(least=0, top=self.top)
        if unread := [name for name in self.backends or () if name not in PROFILERS]:
            raise EdgefelError(
                f"backend {unread[0]}: its profile is not read; choose from {', '.join(PROFILERS)}"
            )


def bench_profile(
    folder: str | os.PathLike[str], options: ProfileOptions, advance: Advance = lambda step, share: None
) -> Measured:
    """A row for each file, backend, batch and number of threads.

    Each file is open twice, with the profiler and without, and the two take turns, so that its cost is seen. Raises
    EdgefelError as `bench_bundle` does, and for a bundle of which nothing is profiled.
    """
    if options.count:
        return _count(folder, options, advance)
    named = replace(options, backends=options.backends or _available(folder, options))
    return bench_bundle("profile", folder, named, partial(_profiles, options=options, advance=advance))


def _available(folder: str | os.PathLike[str], options: ProfileOptions) -> tuple[str, ...] | None:
    """The backends that can run one of the wanted files here; all, of which opening says why, if none can."""
    files = _onnx_files(read_manifest(folder), options)
    found = tuple(
        name
        for name in PROFILERS
        if any(BACKENDS[name].load().unavailable_reason(file) is None for file in files)
    )
    return found or tuple(PROFILERS)


def _onnx_files(manifest: Manifest, options: ProfileOptions) -> list[BundleFile]:
    files = [file for file in manifest.files if file.kind == "onnx" and file.precision not in ENGINE_FORMATS]
    return [file for file in files if file.precision in (options.precisions or (file.precision,))]


def _profiles(opened: OpenBundle, options: ProfileOptions, advance: Advance) -> Iterator[Found]:
    for batch in options.batches:
        images = opened.inputs(batch)
        with ExitStack() as stack:
            profilers = {
                key: stack.enter_context(
                    PROFILERS[key.backend].open(
                        ModelFile.of(opened.manifest, session.file), opened.threads, batch
                    )
                )
                for key, session in opened.sessions.items()
            }
            calls = {
                (key, name): partial(call, images)
                for key, session in opened.sessions.items()
                for name, call in (("plain", session.run), ("profiled", profilers[key].run))
            }
            timings = measure(calls, options.plan, advance=partial(advance, f"batch {batch}"))
            for key, profiler in profilers.items():
                plain = timings[key, "plain"]
                nodes = profiler.nodes(plain.runs)
                middle = np.median if profiler.statistic == "median" else np.mean
                wall = float(middle(profiler.calls[-plain.runs :])) / 1e6
                attribution = attribution_of(opened.manifest, opened.sessions[key].file)
                metrics = {
                    "latency_ms": plain.to_dict(),
                    "statistic": profiler.statistic,
                    "profiled_ms": round(wall, 4),
                    **describe(nodes, attribution, batch, options.top),
                }
                yield opened.subject(key, batch), metrics, list(plain.verdict.notes)


def _count(folder: str | os.PathLike[str], options: ProfileOptions, advance: Advance) -> Measured:
    """Rows without times, and without threads, on which the nodes do not depend."""
    manifest = read_manifest(folder)
    pairs = [
        (file, name)
        for file in _onnx_files(manifest, options)
        for name in options.backends or PROFILERS
        if name in file.backends or options.backends is not None
    ]
    if not pairs:
        raise EdgefelError(f"{manifest.folder}: holds no ONNX file of what is to be counted")
    skipped: dict[str, str] = {}

    def found() -> Iterator[Found]:
        for number, (file, name) in enumerate(pairs):
            advance(f"{file.name} in {name}", number / len(pairs))
            manifest.verify(file, force=options.force)
            for batch in options.batches:
                model = ModelFile.of(manifest, file)
                try:
                    profiler = PROFILERS[name].open(model, 1, batch)
                except ModuleNotFoundError as error:
                    skipped[name] = f"{error.name} is not installed"
                    continue
                with profiler:
                    profiler.run(np.zeros((batch, *model.image_shape), model.dtype))
                    nodes = profiler.nodes(1)
                subject = {"model": manifest.model.name, **Key(file.precision, name)._asdict()}
                attribution = attribution_of(manifest, file)
                metrics = untimed(describe(nodes, attribution, batch, 0))
                yield {**subject, "batch": batch, "counted": True}, metrics, ()

    return Measured(measured_rows("profile", found()), skipped)


def attribution_of(manifest: Manifest, file: BundleFile) -> Attribution:
    """By the nodes of a file of the bundle."""
    return Attribution(onnx.load_from_string(inlined((manifest.folder / file.name).read_bytes())))


def describe(nodes: Sequence[NodeTimes], attribution: Attribution, batch: int, top: int) -> dict[str, Any]:
    """The metrics of a row on its nodes.

    nodes, nodes_ms: their number, and the median over calls (where only means are known, their mean) of the sum of
    their times. groups: by name, the same with its share of nodes_ms, and with gops, 10^9 operations a second, where
    operations are counted. operators: the same by operator and group, the slowest first. slowest: single nodes.
    Milliseconds are of an image.
    """
    groups = [attribution.group(node.name, node.op, node.parts) for node in nodes]
    total = _median(nodes, batch)

    def part(members: Sequence[NodeTimes]) -> dict[str, Any]:
        ms = _median(members, batch)
        return {"nodes": len(members), "ms": round(ms, 4), "share": round(ms / total, 4) if total else 0.0}

    by_group = {
        group: part([node for node, own in zip(nodes, groups, strict=True) if own == group])
        for group in GROUPS
    }
    macs = attribution.macs()
    for group in _COUNTED:
        if by_group[group]["ms"]:
            by_group[group]["gops"] = round(2e-6 * macs[group] / by_group[group]["ms"], 2)
    members: dict[tuple[str, str], list[NodeTimes]] = {}
    for node, group in zip(nodes, groups, strict=True):
        members.setdefault((node.op, group), []).append(node)
    operators = [{"op": op, "group": group, **part(own)} for (op, group), own in members.items()]
    singles: list[dict[str, Any]] = [
        {"name": name, "op": node.op, "group": group, "ms": round(_median([node], batch), 4)}
        for name, node, group in zip(_placed(nodes, attribution), nodes, groups, strict=True)
    ]
    return {
        "nodes": len(nodes),
        "nodes_ms": round(total, 4),
        "groups": by_group,
        "operators": sorted(operators, key=lambda one: (-one["ms"], -one["nodes"], one["op"])),
        "slowest": sorted(singles, key=lambda one: -one["ms"])[:top],
    }


def untimed(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """What `describe` says of the number of nodes."""
    counts = {name: {"nodes": group["nodes"]} for name, group in metrics["groups"].items()}
    operators = [{name: one[name] for name in ("op", "group", "nodes")} for one in metrics["operators"]]
    return {
        "nodes": metrics["nodes"],
        "groups": counts,
        "operators": sorted(operators, key=lambda one: (-one["nodes"], one["op"])),
    }


def _median(nodes: Sequence[NodeTimes], batch: int) -> float:
    """Milliseconds an image: the median over the calls of the sum over the nodes."""
    return float(np.median(np.sum([node.ms for node in nodes], axis=0))) / batch if nodes else 0.0


def _placed(nodes: Sequence[NodeTimes], attribution: Attribution) -> Iterator[str]:
    """Names; of a node that the runtime made up, with the node that was executed before it."""
    last = "the input"
    for node in nodes:
        if attribution.generated(node.name):
            yield f"{node.name} after {last}"
        else:
            yield node.name
            last = node.name
