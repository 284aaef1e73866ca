"""The profilers of ONNX Runtime and OpenVINO: what every node of a call took."""

from __future__ import annotations

import json
import tempfile
import time
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from edgefel.errors import EdgefelError
from edgefel.runtime.backends.base import Array, ModelFile
from edgefel.runtime.backends.onnxruntime_backend import runner_options
from edgefel.runtime.backends.openvino_backend import compile_options, read_network
from edgefel.runtime.backends.quiet import import_quietly
from edgefel.text import one_line


@dataclass(frozen=True)
class NodeTimes:
    """One node that is executed. op: the runtime's name of its operator. parts: nodes of the file that it was fused
    from, where the runtime tells. ms: float64 [runs], or [1] where the runtime tells no more than the mean."""

    name: str
    op: str
    parts: tuple[str, ...]
    ms: npt.NDArray[np.float64]


class Profiler(AbstractContextManager["Profiler"], ABC):
    """A session of one file that records its nodes; what it holds is freed at the end of the block.

    calls: nanoseconds of every call, the profiler's work included. statistic: what its times are of the calls.
    """

    statistic: ClassVar[str] = "median"

    def __init__(self) -> None:
        self.calls: list[int] = []

    @classmethod
    @abstractmethod
    def open(cls, model: ModelFile, threads: int, batch: int) -> Profiler:
        """Raises EdgefelError for a file that the runtime does not load."""

    @abstractmethod
    def run(self, batch: Array) -> None:
        """One call."""

    @abstractmethod
    def nodes(self, runs: int) -> tuple[NodeTimes, ...]:
        """Of the last `runs` calls, in the order of execution; no call may follow."""

    def __exit__(self, *exception: object) -> None:
        self.close()

    @abstractmethod
    def close(self) -> None:
        """Frees the session."""


class OnnxRuntimeProfiler(Profiler):
    """ONNX Runtime writes a trace: an event for the kernel of every node, then one for the whole call."""

    def __init__(self, session: Any, model: ModelFile, folder: tempfile.TemporaryDirectory[str]) -> None:
        super().__init__()
        self._session, self._model, self._folder = session, model, folder

    @classmethod
    def open(cls, model: ModelFile, threads: int, batch: int) -> OnnxRuntimeProfiler:
        import onnxruntime

        folder = tempfile.TemporaryDirectory(prefix="edgefel-profile-")
        options = runner_options(threads)
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder.name, "trace"))
        try:
            session = onnxruntime.InferenceSession(
                str(model.path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its exception classes have no public base
            folder.cleanup()
            raise EdgefelError(
                f"{model.path}: ONNX Runtime cannot load it ({one_line(error)}); export it again"
            ) from error
        return cls(session, model, folder)

    def run(self, batch: Array) -> None:
        begin = time.perf_counter_ns()
        self._session.run(None, {self._model.input_name: batch})
        self.calls.append(time.perf_counter_ns() - begin)

    def nodes(self, runs: int) -> tuple[NodeTimes, ...]:
        path = Path(self._session.end_profiling())
        return read_trace(path.read_bytes(), len(self.calls), runs)

    def close(self) -> None:
        self._session = None
        self._folder.cleanup()


def read_trace(trace: bytes, calls: int, runs: int) -> tuple[NodeTimes, ...]:
    """Nodes of the last `runs` of so many calls of ONNX Runtime's trace.

    Raises EdgefelError for a trace that lacks calls: ONNX Runtime stops recording after a million events.
    """
    found: list[dict[str, tuple[str, str, float]]] = [{}]
    for event in json.loads(trace):
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            arguments = event["args"]
            name = event["name"].removesuffix("_kernel_time")
            key = f"{arguments.get('node_index')} {name}"
            found[-1][key] = (name, arguments["op_name"], event["dur"] / 1e3)
        elif event.get("name") == "model_run":
            found.append({})
    whole = found[:-1]
    if len(whole) != calls or any(one.keys() != whole[-1].keys() for one in whole[-runs:]):
        raise EdgefelError(
            f"the trace of ONNX Runtime holds {len(whole)} of {calls} calls whole: it stops after a million events; "
            "profile fewer --runs"
        )
    timed = whole[-runs:]
    return tuple(
        NodeTimes(name, op, (), np.array([one[key][2] for one in timed]))
        for key, (name, op, _) in timed[-1].items()
    )


class OpenVinoProfiler(Profiler):
    """OpenVINO's CPU plugin keeps the mean of all calls until now for every node, in whole microseconds.

    Source: `PerfCount` in src/plugins/intel_cpu/src/perf_count.h of https://github.com/openvinotoolkit/openvino
    """

    statistic: ClassVar[str] = "mean"

    def __init__(self, compiled: Any, model: ModelFile) -> None:
        super().__init__()
        self._compiled, self._model = compiled, model
        self._request = compiled.create_infer_request()
        self._infos: list[list[Any]] = []

    @classmethod
    def open(cls, model: ModelFile, threads: int, batch: int) -> OpenVinoProfiler:
        openvino = import_quietly("openvino")
        try:
            core = openvino.Core()
            network = read_network(core, model.path)
            network.reshape([batch, *model.image_shape])
            options = compile_options(threads) | {"PERF_COUNT": True}
            return cls(core.compile_model(network, "CPU", options), model)
        except RuntimeError as error:
            raise EdgefelError(
                f"{model.path}: OpenVINO cannot load it ({one_line(error)}); export it again"
            ) from error

    def run(self, batch: Array) -> None:
        begin = time.perf_counter_ns()
        self._request.infer({self._model.input_name: batch}, share_inputs=True)
        self.calls.append(time.perf_counter_ns() - begin)
        self._infos.append(self._request.get_profiling_info())

    def nodes(self, runs: int) -> tuple[NodeTimes, ...]:
        parts = {
            node.get_friendly_name(): _parts(node)
            for node in self._compiled.get_runtime_model().get_ordered_ops()
        }
        calls = len(self._infos)
        # what the calls before took on the whole, which the mean holds too
        before = {info.node_name: info for info in self._infos[-runs - 1]} if calls > runs else {}
        # a node whose mean falls below a microsecond counts as not run any more
        executed = {
            info.node_name
            for infos in self._infos
            for info in infos
            if info.status == type(info).Status.EXECUTED
        }
        found = []
        for info in self._infos[-1]:
            if info.node_name in executed:
                first = _ms(before.get(info.node_name)) * (calls - runs)
                ms = max(0.0, _ms(info) * calls - first) / runs
                found.append(
                    NodeTimes(info.node_name, info.node_type, parts.get(info.node_name, ()), np.array([ms]))
                )
        return tuple(found)

    def close(self) -> None:
        self._infos = []
        self._request = self._compiled = None


def _parts(node: Any) -> tuple[str, ...]:
    """Names of the layers that a node of the runtime's model was fused from."""
    found = node.get_rt_info()
    if "originalLayersNames" not in found:
        return ()
    names = found["originalLayersNames"]
    return tuple(name for name in str(getattr(names, "value", names)).split(",") if name)


def _ms(info: Any | None) -> float:
    return 0.0 if info is None else float(info.real_time.total_seconds() * 1e3)


PROFILERS: dict[str, type[Profiler]] = {"onnxruntime": OnnxRuntimeProfiler, "openvino": OpenVinoProfiler}
