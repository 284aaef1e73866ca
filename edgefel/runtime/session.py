"""A bundle that is open and ready to label face crops. Torch-free."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from edgefel.data.preprocessing import Image, Tensor
from edgefel.errors import EdgefelError
from edgefel.runtime.backends.base import Array, Backend, ModelFile, Record
from edgefel.runtime.backends.choice import AUTO, Choice, Opened, open_backend
from edgefel.runtime.confidence import entropy_confidence
from edgefel.runtime.manifest import INPUT_NAME, BundleFile, Manifest, read_manifest
from edgefel.workers import usable_cores

_log = logging.getLogger("edgefel.runtime")


class Predictions(NamedTuple):
    """Predictions for N crops, all float32; C classes in the order of the session's labels.

    logits [N, C] and primary [N, C] = softmax(logits): before the reliability correction.
    probabilities [N, C] and confidence [N] = 1 - normalised entropy: after it. embedding [N, E].
    None is an output that the bundle was exported without.
    """

    logits: Tensor | None
    primary: Tensor | None
    probabilities: Tensor
    confidence: Tensor
    embedding: Tensor | None


class Session(AbstractContextManager["Session"]):
    """Runs one file of a bundle. Use `Session.open`; `run` and calls may come from several threads.

    manifest, file, precision, backend, choice, threads, max_batch and mirror say what was opened; `headline` is one
    short line on it, `choice.reasons` why no other backend and file was taken.
    """

    def __init__(
        self, manifest: Manifest, opened: Opened, threads: int, max_batch: int, mirror: bool = False
    ) -> None:
        self.manifest = manifest
        self.file: BundleFile = opened.file
        self.choice: Choice = opened.choice
        self.threads = threads
        self.mirror = mirror
        limit = opened.runner.max_batch
        self.max_batch = max_batch if limit is None else min(max_batch, limit)
        self._runner: Backend | None = opened.runner
        self._model = ModelFile.of(manifest, opened.file)
        self._calls = 0
        self._closed = False
        self._lock = threading.Lock()

    @classmethod
    def open(
        cls,
        folder: str | os.PathLike[str],
        precision: str | None = None,
        backend: str = AUTO,
        threads: int | None = None,
        force: bool = False,
        *,
        max_batch: int = 16,
        mirror: bool = False,
        advise: bool = True,
    ) -> Session:
        """Opens a bundle.

        precision: fp32, fp16, int8 or int8+fp16; without one, the file that is best for the backend: the fastest
        of those that passed their comparison with PyTorch (docs/runtime.md). backend: a name of BACKENDS, which
        is taken or is an error, or "auto": the fastest that can run such a file here (docs/runtime.md). threads: CPU
        threads of one call; all cores by default. force: use a file whose hash differs from the manifest's, or that
        failed its comparison with PyTorch (an engine: that its ONNX file failed). max_batch: larger batches are
        split; an engine may have a smaller limit. mirror: run every image and its mirror image, which takes twice as
        long, and average their outputs; the confidence is that of the averaged distribution. advise: log a warning,
        once for each file and backend in a process, where FP32 is known to be faster.
        Raises EdgefelError: no such bundle, precision or backend, a backend that cannot be used here, a changed
        or failed file, a file that does not load or whose inputs and outputs are not the manifest's. Never
        takes another precision or backend than the one asked for.
        """
        if threads is not None and threads < 1:
            raise EdgefelError(f"threads is {threads}; give at least 1")
        if max_batch < 1:
            raise EdgefelError(f"max_batch is {max_batch}; give at least 1")
        manifest = read_manifest(folder)

        def check(model: ModelFile) -> None:
            if not force:
                manifest.check_verdict(model.file)
            manifest.verify(model.file, force=force)

        threads = threads or usable_cores()
        opened = open_backend(manifest, precision, backend, threads, check, force=force)
        try:
            _check_interface(manifest, opened)
        except EdgefelError:
            opened.runner.close()
            raise
        if advise and opened.choice.slower is not None:
            _warn_once(opened.choice.slower)
        return cls(manifest, opened, threads, max_batch, mirror)

    @property
    def backend(self) -> str:
        """Name of the backend that runs it."""
        return self.choice.backend

    @property
    def headline(self) -> str:
        """The file and the backend, in at most 100 characters."""
        return self.choice.headline(self.file)

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes on the session and of the backend, one line each; empty once the session is closed."""
        runner = self._runner
        own = ("each image and its mirror image, averaged",) if self.mirror else ()
        return () if runner is None else (*own, *runner.notes)

    @property
    def precision(self) -> str:
        """Precision of the open file."""
        return self.file.precision

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names in the order of the outputs' columns."""
        return self.manifest.labels

    def __call__(self, crops: Sequence[Image], record: Record | None = None) -> Predictions:
        """Predictions for N face crops, uint8 RGB [H, W, 3] of any sizes; preprocesses them.

        record: told each stage and its seconds, "preprocess" and those of `run`, once for each part of a
        batch that is split.
        """
        crops = list(crops)
        preprocessing = self.manifest.preprocessing
        make_batch = preprocessing.pixel_batch if self._model.dtype == np.uint8 else preprocessing.batch

        def batches() -> Iterator[Array]:
            for start in range(0, len(crops), self.max_batch):
                begin = time.perf_counter()
                batch = make_batch(crops[start : start + self.max_batch])
                if record is not None:
                    record("preprocess", time.perf_counter() - begin)
                yield batch

        return self._predict(batches(), record)

    def run(self, batch: Tensor | Image, record: Record | None = None) -> Predictions:
        """Predictions for a batch as the manifest's input says: float32 [N, 3, H, W] of `Preprocessing.batch`, or
        uint8 [N, H, W, 3] of `pixel_batch`; N may be 0 or above max_batch.

        record: told each stage and its seconds: "copy in", "gpu" and "copy out" by TensorRT, "inference" by others.
        """
        model = self._model
        if batch.dtype != model.dtype or batch.ndim != 4 or batch.shape[1:] != model.image_shape:
            shape = ", ".join(str(side) for side in self.manifest.input_shape)
            raise EdgefelError(
                f"batch of shape {batch.shape} and type {batch.dtype}: expected {model.dtype} [{shape}]"
            )
        starts = range(0, len(batch), self.max_batch)
        parts = (np.ascontiguousarray(batch[start : start + self.max_batch]) for start in starts)
        return self._predict(parts, record)

    def warm_up(self, runs: int = 1, batches: Sequence[int] = (1,)) -> None:
        """Runs images of zeros at these batch sizes, so that the first real call does not pay for the first
        allocations, nor for compiling kernels or capturing a CUDA graph. What a backend makes for certain batch sizes
        is made."""
        with self._running() as runner:
            if (prepare := getattr(runner, "prepare", None)) is not None:
                prepare([min(size, self.max_batch) for size in batches])
        for size in batches:
            images: Array = np.zeros((size, *self._model.image_shape), dtype=self._model.dtype)
            for _ in range(runs):
                self.run(images)

    def close(self) -> None:
        """Frees the model, at once or when the calls that are running have ended as usual; a second call does
        nothing."""
        with self._lock:
            self._closed = True
        self._free_if_idle()

    @contextmanager
    def _running(self) -> Iterator[Backend]:
        """The runner, which is not freed while the block runs."""
        with self._lock:
            runner = self._runner
            if runner is None or self._closed:
                raise EdgefelError(f"{self.manifest.folder}: the session is closed; open a new one")
            self._calls += 1
        try:
            yield runner
        finally:
            with self._lock:
                self._calls -= 1
            self._free_if_idle()

    def _free_if_idle(self) -> None:
        with self._lock:
            if self._calls or not self._closed:
                return
            runner, self._runner = self._runner, None
        if runner is not None:
            runner.close()

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _predict(self, batches: Iterable[Array], record: Record | None) -> Predictions:
        with self._running() as runner:
            run = self._run_both if self.mirror else self._run
            parts = [run(runner, batch, record) for batch in batches]
        shapes = self._model.output_shapes
        if not parts:
            parts.append({name: np.zeros((0, *shape), np.float32) for name, shape in shapes.items()})
        values: dict[str, Any] = dict.fromkeys(Predictions._fields)
        for name in shapes:
            rows = [part[name] for part in parts]
            values[name] = rows[0] if len(rows) == 1 else np.concatenate(rows)
        return Predictions(**values)

    def _run(self, runner: Backend, batch: Array, record: Record | None) -> dict[str, Tensor]:
        return self._checked(runner.run(batch, record), len(batch))

    def _run_both(self, runner: Backend, batch: Array, record: Record | None) -> dict[str, Tensor]:
        """Means over the batch and its mirror images; the seconds of both go to `record` as one."""
        spent: dict[str, float] = defaultdict(float)

        def add(stage: str, seconds: float) -> None:
            spent[stage] += seconds

        across = 2 if batch.dtype == np.uint8 else 3  # [N, H, W, 3] and [N, 3, H, W]
        mirrored = np.ascontiguousarray(np.flip(batch, across))
        seen = self._run(runner, batch, add), self._run(runner, mirrored, add)
        means: dict[str, Tensor] = {name: (seen[0][name] + seen[1][name]) / np.float32(2) for name in seen[0]}
        means["confidence"] = entropy_confidence(means["probabilities"]).astype(np.float32)
        for stage, seconds in spent.items():
            if record is not None:
                record(stage, seconds)
        return means

    def _checked(self, outputs: Mapping[str, Array], count: int) -> dict[str, Tensor]:
        path = self._model.path
        for name, shape in self._model.output_shapes.items():
            found = outputs[name].shape
            if found != (count, *shape):
                raise EdgefelError(
                    f"{path}: output {name} has shape {found}, and the manifest promises {(count, *shape)}; "
                    "export again"
                )
            if not np.isfinite(outputs[name]).all():
                raise EdgefelError(
                    f"{path}: output {name} is not finite; the input is not, or {self.precision} does not hold "
                    "the model's values: try another precision"
                )
        return {name: np.asarray(outputs[name], dtype=np.float32) for name in self.manifest.outputs}


@cache
def _warn_once(warning: str) -> None:
    """Logs it, unless this process has done so before."""
    _log.warning("%s", warning)


def _check_interface(manifest: Manifest, opened: Opened) -> None:
    inputs, outputs = opened.runner.input_names, opened.runner.output_names
    if inputs != (INPUT_NAME,) or set(manifest.outputs) - set(outputs):
        raise EdgefelError(
            f"{manifest.folder / opened.file.name}: takes {', '.join(inputs)} and gives {', '.join(outputs)}; "
            f"the manifest's file takes {INPUT_NAME} and gives {', '.join(manifest.outputs)}. Export it again"
        )
