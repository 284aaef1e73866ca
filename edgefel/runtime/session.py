"""A bundle that is open and ready to label face crops. Torch-free."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from edgefel.errors import EdgefelError
from edgefel.runtime.backend import BACKENDS, Backend, backend_entry
from edgefel.runtime.manifest import INPUT_NAME, PRECISIONS, BundleFile, Manifest, read_manifest
from edgefel.runtime.preprocessing import Image, Tensor


class Predictions(NamedTuple):
    """What the model says of N crops, all float32; C classes in the order of the session's labels.

    logits [N, C] and primary [N, C] = softmax(logits): before the reliability correction.
    probabilities [N, C] and confidence [N] = 1 - normalised entropy: after it. embedding [N, E].
    None is an output that the bundle was exported without.
    """

    logits: Tensor | None
    primary: Tensor | None
    probabilities: Tensor
    confidence: Tensor
    embedding: Tensor | None


class Session:
    """Runs one file of a bundle. Use `Session.open`; `run` and calls may come from several threads.

    manifest, file, precision, backend, threads and max_batch say what was opened.
    """

    def __init__(
        self,
        manifest: Manifest,
        file: BundleFile,
        backend: str,
        runner: Backend,
        threads: int,
        max_batch: int,
    ) -> None:
        self.manifest = manifest
        self.file = file
        self.backend = backend
        self.threads = threads
        self.max_batch = max_batch
        self._runner: Backend | None = runner

    @classmethod
    def open(
        cls,
        folder: str | os.PathLike[str],
        precision: str | None = None,
        backend: str = "auto",
        threads: int | None = None,
        force: bool = False,
        *,
        max_batch: int = 16,
    ) -> Session:
        """Opens a bundle.

        precision: fp32, fp16, int8 or int8+fp16; without one, fp32, or the only one the bundle holds.
        backend: "auto" is the first backend that loads such a file here. threads: CPU threads of one
        call; all cores by default. force: use a file whose hash differs from the manifest's, or that failed
        its comparison with PyTorch (an engine: that its ONNX file failed).
        Raises EdgefelError: no such bundle, precision or backend, a changed or failed file, a file that does
        not load or whose inputs and outputs are not the manifest's. Never takes another precision or backend
        than the one asked for.
        """
        if threads is not None and threads < 1:
            raise EdgefelError(f"threads is {threads}; give at least 1")
        if max_batch < 1:
            raise EdgefelError(f"max_batch is {max_batch}; give at least 1")
        manifest = read_manifest(folder)
        name, file = _choose(manifest, precision, backend)
        path = manifest.folder / file.name
        if not force:
            manifest.check_verdict(file)
        if not force or not path.is_file():
            manifest.verify(file)
        threads = threads or _cores()
        runner = BACKENDS[name].load().open(path, threads=threads)
        _check_interface(path, runner, manifest.outputs)
        return cls(manifest, file, name, runner, threads, max_batch)

    @property
    def precision(self) -> str:
        """Precision of the open file."""
        return self.file.precision

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names in the order of the outputs' columns."""
        return self.manifest.labels

    def __call__(self, crops: Sequence[Image]) -> Predictions:
        """Predictions for N face crops, uint8 RGB [H, W, 3] of any sizes; preprocesses them."""
        crops = list(crops)
        preprocessing = self.manifest.preprocessing
        in_graph = self.manifest.input_type == "uint8"
        make_batch = preprocessing.pixel_batch if in_graph else preprocessing.batch
        parts = [
            self.run(make_batch(crops[start : start + self.max_batch]))
            for start in range(0, len(crops), self.max_batch)
        ]
        return self._concatenate(parts)

    def run(self, batch: Tensor | Image) -> Predictions:
        """Predictions for a batch as the manifest's input says: float32 [N, 3, H, W] of `Preprocessing.batch`, or
        uint8 [N, H, W, 3] of `pixel_batch`; N may be 0 or above max_batch."""
        runner = self._runner
        if runner is None:
            raise EdgefelError(f"{self.manifest.folder}: the session is closed; open a new one")
        expected, dtype = self.manifest.input_shape[1:], self.manifest.input_type
        if batch.dtype != dtype or batch.ndim != 4 or batch.shape[1:] != expected:
            shape = ", ".join(str(side) for side in self.manifest.input_shape)
            raise EdgefelError(
                f"batch of shape {batch.shape} and type {batch.dtype}: expected {dtype} [{shape}]"
            )
        parts = []
        for start in range(0, len(batch), self.max_batch):
            part: npt.NDArray[Any] = np.ascontiguousarray(batch[start : start + self.max_batch])
            parts.append(self._predictions(runner.run(part), len(part)))
        return self._concatenate(parts)

    def warm_up(self, runs: int = 1) -> None:
        """Runs an image of zeros, so that the first real call does not pay for the first allocations."""
        sides = (int(side) for side in self.manifest.input_shape[1:])
        image: npt.NDArray[Any] = np.zeros((1, *sides), dtype=self.manifest.input_type)
        for _ in range(runs):
            self.run(image)

    def close(self) -> None:
        """Frees the model; a second call does nothing. Calls already running end as usual."""
        self._runner = None

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _shapes(self, count: int) -> dict[str, tuple[int, ...]]:
        classes, width = self.manifest.model.num_classes, self.manifest.model.embedding_dim
        others = {"confidence": (count,), "embedding": (count, width)}
        return {name: others.get(name, (count, classes)) for name in self.manifest.outputs}

    def _predictions(self, outputs: Mapping[str, npt.NDArray[Any]], count: int) -> Predictions:
        for name, shape in self._shapes(count).items():
            found = outputs[name].shape
            if found != shape:
                raise EdgefelError(
                    f"{self.manifest.folder / self.file.name}: output {name} has shape {found}, "
                    f"and the manifest promises {shape}; export again"
                )
            if not np.isfinite(outputs[name]).all():
                raise EdgefelError(
                    f"{self.manifest.folder / self.file.name}: output {name} is not finite; the input is not, "
                    f"or {self.precision} does not hold the model's values: try another precision"
                )
        return _as_predictions(
            {name: np.asarray(outputs[name], dtype=np.float32) for name in self.manifest.outputs}
        )

    def _concatenate(self, parts: Sequence[Predictions]) -> Predictions:
        if len(parts) == 1:
            return parts[0]
        if parts:
            rows = {name: [getattr(part, name) for part in parts] for name in self.manifest.outputs}
            return _as_predictions({name: np.concatenate(arrays) for name, arrays in rows.items()})
        return _as_predictions({name: np.zeros(shape, np.float32) for name, shape in self._shapes(0).items()})


def _as_predictions(outputs: Mapping[str, Tensor]) -> Predictions:
    return Predictions(
        outputs.get("logits"),
        outputs.get("primary"),
        outputs["probabilities"],
        outputs["confidence"],
        outputs.get("embedding"),
    )


def _check_interface(path: Path, runner: Backend, promised: Sequence[str]) -> None:
    inputs, outputs = runner.input_names, runner.output_names
    if inputs != (INPUT_NAME,) or set(promised) - set(outputs):
        raise EdgefelError(
            f"{path}: takes {', '.join(inputs)} and gives {', '.join(outputs)}; the manifest's file takes "
            f"{INPUT_NAME} and gives {', '.join(promised)}. Export it again"
        )


def _choose(manifest: Manifest, precision: str | None, backend: str) -> tuple[str, BundleFile]:
    """The backend's name and the file to open."""
    names = list(BACKENDS) if backend == "auto" else [backend]
    kinds = {name: backend_entry(name).kind for name in names}
    if precision is not None and precision not in PRECISIONS:
        raise EdgefelError(f"precision {precision!r} is not known; choose one of: {', '.join(PRECISIONS)}")
    for name, kind in kinds.items():
        there = [file for file in manifest.files if file.kind == kind]
        for file in there:
            if file.precision == (precision or "fp32"):
                return name, file
        if precision is None and len(there) == 1:
            return name, there[0]
    files = ", ".join(f"{file.name} ({file.precision})" for file in manifest.files) or "no files"
    wanted = f"no {precision} file" if precision else "neither an fp32 file nor a single other one"
    raise EdgefelError(
        f"{manifest.folder}: {wanted} for {', '.join(names)}; the bundle holds {files}. "
        f"Choose a precision from these, or export again"
    )


def _cores() -> int:
    """Cores this process may use; on a shared board that is less than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
