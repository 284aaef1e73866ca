"""Lower bound on the latency of a network on a device, layer by layer.

Williams, Waterman and Patterson, "Roofline: an insightful visual performance model for multicore
architectures", 2009.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from edgefel.bench.environment import describe
from edgefel.bench.results import Row, make_row
from edgefel.bench.roofline.devices import DeviceSpec
from edgefel.bench.roofline.graph import Graphs, read_network
from edgefel.bench.roofline.layers import LayerWork, NetworkWork, count_work

BoundBy = Literal["compute", "memory"]
BOUND = "a bound, not a measurement: no launch, no wait and no access below the ceilings is counted"
# on a machine with a GPU, rows of its backends say nothing of the CPU
_CPU_BACKENDS = ("onnxruntime", "openvino", "pytorch", "torch.compile")


@dataclass(frozen=True)
class LayerFloor:
    """Least seconds of a layer for computing, and for moving its bytes."""

    layer: LayerWork
    compute: float
    memory: float

    @property
    def seconds(self) -> float:
        """Both at once, at best."""
        return max(self.compute, self.memory)

    @property
    def bound(self) -> BoundBy:
        """What it waits for."""
        return "compute" if self.compute > self.memory else "memory"


@dataclass(frozen=True)
class NetworkFloor:
    """Lower bounds on running a network once.

    layers: fused, in order. unfused_ms: every node reads and writes memory. ideal_ms: no activation leaves
    the caches and all layers overlap; weights, input and outputs cross the memory bus once.
    """

    layers: tuple[LayerFloor, ...]
    unfused_ms: float
    ideal_ms: float

    @property
    def floor_ms(self) -> float:
        """Layers in sequence, each of which reads and writes memory."""
        return 1e3 * sum(layer.seconds for layer in self.layers)

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return sum(floor.layer.macs for floor in self.layers)

    def share(self, bound: BoundBy) -> float:
        """Of the floor, in layers that wait for that."""
        return 1e3 * sum(f.seconds for f in self.layers if f.bound == bound) / self.floor_ms

    def heaviest(self, count: int) -> list[LayerFloor]:
        """The layers with the largest floors, largest first."""
        return sorted(self.layers, key=lambda floor: -floor.seconds)[:count]

    def metrics(self, count: int) -> dict[str, Any]:
        """Plain JSON values of a result row, with the `count` heaviest layers."""
        layers = [floor.layer for floor in self.layers]
        return {
            "floor_ms": self.floor_ms,
            "unfused_floor_ms": self.unfused_ms,
            "ideal_ms": self.ideal_ms,
            "macs": self.macs,
            "macs_by_type": {
                kind: sum(layer.matrix.get(kind, 0) for layer in layers) // 2
                for kind in ("fp32", "fp16", "int8")
                if any(kind in layer.matrix for layer in layers)
            },
            "bytes": {
                "weights": sum(layer.weight_bytes for layer in layers),
                "read": sum(layer.read_bytes for layer in layers),
                "written": sum(layer.written_bytes for layer in layers),
            },
            "bound_share": {"compute": self.share("compute"), "memory": self.share("memory")},
            "layers": [
                {name: getattr(floor.layer, name) for name in ("name", "op", "precision", "macs", "bytes")}
                | {"floor_ms": 1e3 * floor.seconds, "share": 1e3 * floor.seconds / self.floor_ms}
                | {"bound": floor.bound}
                for floor in self.heaviest(count)
            ],
        }


def layer_floor(layer: LayerWork, device: DeviceSpec) -> LayerFloor:
    """max(operations / ceiling, bytes / bandwidth). Tensor cores and CUDA cores work in parallel."""
    matrix = sum(count / device.matrix[kind].per_second for kind, count in layer.matrix.items())
    vector = sum(count / device.vector[kind].per_second for kind, count in layer.vector.items())
    return LayerFloor(layer, max(matrix, vector), layer.bytes / device.bandwidth.per_second)


def network_floor(work: NetworkWork, device: DeviceSpec) -> NetworkFloor:
    """Floors of all layers of a network on a device."""
    fused = tuple(layer_floor(layer, device) for layer in work.fused)
    compute = sum(floor.compute for floor in fused)
    least = work.end_bytes + sum(layer.weight_bytes for layer in work.fused)
    return NetworkFloor(
        fused,
        unfused_ms=1e3 * sum(layer_floor(layer, device).seconds for layer in work.unfused),
        ideal_ms=1e3 * max(compute, least / device.bandwidth.per_second),
    )


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
            if shares := _measured(measured, subject, device, environment, floor.floor_ms):
                metrics["measured"] = shares
            row = make_row("roofline", subject, metrics, environment, [BOUND])
            found.append(Projection(device, row, floor))
    return found


def _measured(
    rows: Sequence[Row],
    subject: Mapping[str, Any],
    device: DeviceSpec,
    environment: Mapping[str, Any],
    floor_ms: float,
) -> dict[str, dict[str, float]]:
    """Backend -> the last median that was measured for this subject on this device, and the share of the bound."""
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
        if here and (ms := float(row.metrics["latency_ms"]["p50"])):
            found[backend] = {"p50_ms": ms, "share_of_bound": floor_ms / ms}
    return found
