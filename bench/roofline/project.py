"""Rows of lower bounds: a model in some precisions and batches on a device, with measured shares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgefel.bench.environment import describe
from edgefel.bench.results import Row, make_row
from edgefel.bench.roofline.bound import NetworkFloor, network_floor
from edgefel.bench.roofline.devices import DeviceSpec
from edgefel.bench.roofline.graph import read_network
from edgefel.bench.roofline.layers import count_work
from edgefel.bench.roofline.networks import Graphs

BOUND = "a bound, not a measurement: no launch, no wait and no access below the ceilings is counted"
# on a machine with a GPU, rows of its backends say nothing of the CPU
_CPU_BACKENDS = ("onnxruntime", "openvino", "pytorch", "torch.compile")


@dataclass(frozen=True)
class Projection:
    """A result row, and the lower bounds of every layer."""

    device: DeviceSpec
    row: Row
    floor: NetworkFloor


def project(
    graphs: Graphs,
    devices: Sequence[DeviceSpec],
    batches: Sequence[int],
    *,
    threads: int | None = None,
    measured: Sequence[Row] = (),
    layers: int = 5,
) -> list[Projection]:
    """A projection for each device, precision and batch, in that order.

    threads: of a measured CPU. measured: rows of `bench latency` and `bench compare`; those of the same model,
    precision, batch, device and threads give the share of the floor in what was measured. layers: how many of the
    heaviest the row names. Raises EdgefelError where a graph cannot be counted.
    """
    counted = {
        (precision, batch): count_work(read_network(model, batch))
        for precision, model in graphs.by_precision.items()
        for batch in batches
    }
    here = describe()
    found = []
    for device in devices:
        cpu = device.name == "cpu"
        # for a published device only versions and commit are those of this machine
        published = {"device": f"{device.title}, {device.mode}", "power_mode": device.mode}
        environment = here if cpu else published | {name: here[name] for name in ("versions", "commit")}
        for (precision, batch), work in counted.items():
            subject: dict[str, Any] = {"model": graphs.model, "precision": precision, "target": device.name}
            subject |= {"batch": batch, **({"threads": threads} if cpu else {})}
            floor = network_floor(work, device)
            metrics = {
                **floor.metrics(layers),
                "parameters": graphs.parameters,
                "constants": work.constants,
                "ceilings": device.ceilings,
            }
            if medians := _measured(measured, subject, device, environment):
                metrics["measured"] = {
                    backend: {"p50_ms": ms, "share_of_bound": floor.floor_ms / ms}
                    for backend, ms in medians.items()
                }
            row = make_row("roofline", subject, metrics, environment, [BOUND])
            found.append(Projection(device, row, floor))
    return found


def _measured(
    rows: Sequence[Row], subject: Mapping[str, Any], device: DeviceSpec, environment: Mapping[str, Any]
) -> dict[str, float]:
    """Backend -> the last median in ms that was measured for this subject on this device."""
    found = {}
    for row in rows:
        backend = str(row.subject.get("backend"))
        same = all(row.subject.get(name) == subject[name] for name in ("model", "precision", "batch"))
        if row.kind not in ("latency", "compare") or not same:
            continue
        if device.name == "cpu":
            here = row.device == environment["device"] and backend in _CPU_BACKENDS
            here = here and row.subject.get("threads") == subject["threads"]
        else:
            here = any(board.lower() in row.device.lower() for board in device.boards)
        if here:
            found[backend] = float(row.metrics["latency_ms"]["p50"])
    return {backend: ms for backend, ms in found.items() if ms}
