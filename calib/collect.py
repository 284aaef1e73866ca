"""Ranges of activations over calibration images: streaming, with memory that does not grow with them."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort

from edgefel.calib.histogram import ActivationHistogram
from edgefel.calib.thresholds import QMAX, CalibrationMethod
from edgefel.errors import EdgefelError
from edgefel.runtime.backends.onnxruntime_backend import session_options
from edgefel.runtime.manifest import INPUT_NAME
from edgefel.workers import in_threads, usable_cores

# every worker holds one image's activations, 80 MB for the largest model; more than this many would let a
# machine with many cores run out of memory
MAX_WORKERS = 8


class ActivationCollector:
    """Runs a float graph on calibration images and keeps a histogram of each observed activation.

    Images run one at a time, each on one thread of its own, and are counted there while other images run:
    no core waits for another, memory is that of `workers` images whatever the batch size, and every image
    goes through the very same arithmetic. Results are therefore the same to the bit for any batch size and
    any number of workers.

    graph: FP32, with the input `image` [N, 3, S, S], N open or 1; not changed. tensors: activations to
    observe, the input among them if wanted. workers: by default one per core, at most MAX_WORKERS.

    Raises EdgefelError for a tensor that the graph does not compute from the image: what is constant has no
    range to calibrate.
    """

    def __init__(self, graph: onnx.ModelProto, tensors: Sequence[str], workers: int | None = None) -> None:
        self.workers = min(usable_cores(), MAX_WORKERS) if workers is None else workers
        if self.workers < 1:
            raise EdgefelError(f"calibration: {workers} workers; give at least 1")
        self.tensors = tuple(dict.fromkeys(tensors))
        self._check_tensors(graph)
        self._shape = _input_shape(graph)
        self._fetched = [name for name in self.tensors if name != INPUT_NAME]
        self._session = _session_with_outputs(graph, self._fetched)
        self.reset()

    def reset(self) -> None:
        """Forgets everything collected."""
        self.images = 0
        # one set of histograms per worker, so that counting needs no lock
        self._sets = [self._empty() for _ in range(self.workers)]

    def collect(
        self,
        batches: Iterable[npt.NDArray[np.float32]],
        advance: Callable[[int], None] | None = None,
    ) -> None:
        """Runs batches [N, 3, S, S], float32. `advance` is called with 1 after each image.

        Raises EdgefelError for a batch of another shape or type, or naming an activation that is not finite or
        changes its shape; `reset` before collecting again.
        """
        free: queue.SimpleQueue[dict[str, ActivationHistogram]] = queue.SimpleQueue()
        for histograms in self._sets:
            free.put(histograms)

        def images() -> Iterator[npt.NDArray[np.float32]]:
            for batch in batches:
                self._check_batch(batch)
                yield from (batch[i : i + 1] for i in range(len(batch)))

        # few ahead: an image that waits was read and preprocessed, and takes memory
        observed = in_threads(lambda image: self._observe(image, free), images(), self.workers, ahead=2)
        with closing(observed):
            for _ in observed:
                self.images += 1
                if advance is not None:
                    advance(1)

    def histograms(self) -> dict[str, ActivationHistogram]:
        """What was collected so far, per tensor. Raises EdgefelError if that was no image."""
        if self.images == 0:
            raise EdgefelError("calibration: no images; give a data set with readable images")
        merged = self._empty()
        for histograms in self._sets:
            for name, histogram in merged.items():
                histogram.merge(histograms[name])
        return merged

    def compute(self, method: CalibrationMethod) -> dict[str, np.float32]:
        """INT8 scale of every tensor, see `activation_scales`."""
        return activation_scales(self.histograms(), method)

    def _empty(self) -> dict[str, ActivationHistogram]:
        return {name: ActivationHistogram(name) for name in self.tensors}

    def _observe(
        self, image: npt.NDArray[np.float32], free: queue.SimpleQueue[dict[str, ActivationHistogram]]
    ) -> None:
        histograms = free.get()
        try:
            if INPUT_NAME in histograms:
                histograms[INPUT_NAME].collect(image)
            if self._fetched:
                values = self._session.run(self._fetched, {INPUT_NAME: image})
                for name, value in zip(self._fetched, values, strict=True):
                    histograms[name].collect(value)
        finally:
            free.put(histograms)

    def _check_tensors(self, graph: onnx.ModelProto) -> None:
        reached = {INPUT_NAME}
        made = {output for node in graph.graph.node for output in node.output}
        for node in graph.graph.node:  # ONNX keeps nodes in the order in which they can run
            if not reached.isdisjoint(node.input):
                reached.update(node.output)
        for name in self.tensors:
            if name not in reached:
                what = "does not depend on the image" if name in made else "is no activation of the graph"
                raise EdgefelError(
                    f"calibration: {name!r} {what}, so it has no range to calibrate; leave the nodes that read "
                    "it in float, or fold constants first"
                )

    def _check_batch(self, batch: npt.NDArray[np.float32]) -> None:
        if batch.dtype != np.float32 or batch.ndim != 4 or batch.shape[1:] != self._shape:
            expected = ", ".join(map(str, self._shape))
            raise EdgefelError(
                f"calibration: a batch of {INPUT_NAME!r} has the shape {list(batch.shape)} and type {batch.dtype}; "
                f"the graph takes float32 [N, {expected}]; preprocess the images for this model"
            )


def collect_activations(
    model: onnx.ModelProto,
    tensors: Sequence[str],
    batches: Iterable[npt.NDArray[np.float32]],
    advance: Callable[[int], None] | None = None,
    *,
    workers: int | None = None,
) -> dict[str, ActivationHistogram]:
    """Runs the float graph over `batches` [N, 3, S, S] and returns a histogram of each named activation.

    An `ActivationCollector` used once; raises EdgefelError where it does, and if there is no image.
    """
    collector = ActivationCollector(model, tensors, workers)
    collector.collect(batches, advance)
    return collector.histograms()


def activation_scales(
    histograms: Mapping[str, ActivationHistogram], method: CalibrationMethod
) -> dict[str, np.float32]:
    """INT8 scale of every activation, threshold / 127.

    Raises EdgefelError naming an activation that is the same value everywhere.
    """
    return {name: np.float32(histogram.compute(method) / QMAX) for name, histogram in histograms.items()}


def activation_ends(
    histograms: Mapping[str, ActivationHistogram], method: CalibrationMethod
) -> dict[str, tuple[float, float]]:
    """The least and the largest value of every activation's asymmetric range; raises as `activation_scales` does."""
    return {name: histogram.ends(method) for name, histogram in histograms.items()}


def _input_shape(graph: onnx.ModelProto) -> tuple[int, ...]:
    """[3, S, S] of the input `image`."""
    for value in graph.graph.input:
        dims = value.type.tensor_type.shape.dim
        if value.name == INPUT_NAME and len(dims) == 4 and dims[0].dim_value in (0, 1):
            return tuple(dim.dim_value for dim in dims[1:])
    raise EdgefelError(
        f"calibration: the graph has no input {INPUT_NAME!r} [N, 3, S, S] with N open or 1; "
        "export it with edgefel export --fp32"
    )


def _session_with_outputs(graph: onnx.ModelProto, tensors: Sequence[str]) -> ort.InferenceSession:
    """A session of the graph that also returns `tensors`."""
    present = {value.name for value in graph.graph.output}
    more = onnx.ModelProto()
    for name in tensors:
        if name not in present:
            more.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    # messages that follow each other are merged by whoever parses them, lists by appending
    # (https://protobuf.dev/programming-guides/encoding/#last-one-wins); that saves a copy of all weights
    data = graph.SerializeToString() + more.SerializeToString()
    # one thread per image: two threads on one image spend most of their extra time waiting for each other
    return ort.InferenceSession(data, session_options(threads=1), providers=["CPUExecutionProvider"])
