"""Images per second and memory of training: the step of `edgefel train` on synthetic images in memory."""

from __future__ import annotations

import gc
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count, product
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np
import torch

from edgefel.bench.environment import Found, measured_rows
from edgefel.bench.results import Row, check_counts, check_names
from edgefel.bench.sessions import fresh_process_memory_mb
from edgefel.bench.timer import (
    FULL,
    Advance,
    Call,
    TimingPlan,
    cpu_stopwatch,
    cuda_stopwatch,
    measure,
    ratio_to,
)
from edgefel.data.labels import expression_labels
from edgefel.data.loading.batches import Batch, ImageSource
from edgefel.data.loading.sampling import BalancedEpoch
from edgefel.errors import EdgefelError
from edgefel.export.parity.gate import torch_threads
from edgefel.kernels.backend import CHOICES, TRITON_INSTALLED, check_available
from edgefel.models.registry import model_config
from edgefel.text import counted
from edgefel.training.config import ComputeConfig, TrainConfig
from edgefel.training.data import Data, open_data
from edgefel.training.distributed import create_fabric
from edgefel.training.model import make_model, run_preprocessing
from edgefel.training.run_folder import RunFolder, TrainingState
from edgefel.training.trainer import Trainer

if TYPE_CHECKING:
    from lightning_fabric import Fabric

CLASSES = 7
# the names of this bench, and Lightning Fabric's
PRECISIONS = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}
REFERENCE, KERNELS = "reference", "triton"
# how far the loss of the first step may be from that of the reference in FP32, as a share of it
LARGEST_LOSS_DEVIATION = {"fp32": 1e-3, "bf16": 0.05, "fp16": 0.05}
# of a run long enough that the correction ramp hardly moves while it is timed
_STEPS_PER_EPOCH = 100


@dataclass(frozen=True)
class TrainingOptions:
    """What is trained, and how.

    batches: images of one step, at least 2. precisions: names of PRECISIONS. attentions: of "auto",
    "reference" and "triton"; None is the reference, and the kernels where they run. threads: of PyTorch on
    the CPU; None leaves them as they are. data: a data set, to time training from its files, too. memory:
    peak memory. Raises EdgefelError for unknown names and too small numbers.
    """

    model: str = "arbex"
    batches: tuple[int, ...] = (8,)
    precisions: tuple[str, ...] = ("fp32",)
    attentions: tuple[str, ...] | None = None
    accelerator: str = "auto"
    threads: int | None = None
    plan: TimingPlan = FULL
    data: str | os.PathLike[str] | None = None
    memory: bool = True

    def __post_init__(self) -> None:
        model_config(self.model)
        check_counts(2, ", which batch normalization needs", batches=self.batches)
        check_counts(threads=self.threads)
        check_names("precision", self.precisions, PRECISIONS)
        check_names("attention", self.attentions, CHOICES)

    def compute(self, precision: str, attention: str = "auto") -> ComputeConfig:
        """One device in that precision, a name of PRECISIONS."""
        name = PRECISIONS[precision]
        return ComputeConfig(accelerator=self.accelerator, devices="1", precision=name, attention=attention)


class TrainingCase(NamedTuple):
    """One thing that is timed."""

    batch: int
    precision: str
    attention: str

    def __str__(self) -> str:
        return f"{self.precision} {self.attention}, batch {self.batch}"


def bench_training(options: TrainingOptions, advance: Advance = lambda step, share: None) -> tuple[Row, ...]:
    """One row for each batch, precision and attention; those of one batch take turns in one run.

    Each is a `Trainer` of its own with the same weights. A step is timed: augmentation, forward, losses,
    backward, Adam. The losses of the first steps are compared first. Raises EdgefelError for a precision or
    an attention that is not available, a loss that differs or is not finite, and data that cannot be used.
    """
    return measured_rows("train", _steps(options, advance))


def _steps(options: TrainingOptions, advance: Advance) -> Iterator[Found]:
    with torch.random.fork_rng(devices=[]), torch_threads(options.threads):
        device = make_fabric(options.compute(options.precisions[0])).device
        for batch in options.batches:
            yield from _steps_of(options, batch, device, advance)


def _steps_of(
    options: TrainingOptions, batch: int, device: torch.device, advance: Advance
) -> Iterator[Found]:
    attentions = choices(options.attentions, device)
    cases = [TrainingCase(batch, *names) for names in product(options.precisions, attentions)]
    memory = {case: peak_memory(options, case, device) for case in cases if options.memory}
    steppers = {case: Stepper(options, case) for case in cases}
    check_losses({case: stepper.first_loss for case, stepper in steppers.items()})
    # by case, and whether the images come from files
    calls: dict[tuple[TrainingCase, bool], Call] = {(case, False): steppers[case] for case in cases}
    if options.data is not None:
        calls |= {(case, True): steppers[case].from_files for case in cases}
    stopwatch = cuda_stopwatch(flush=False) if device.type == "cuda" else cpu_stopwatch()
    step = f"{options.model}, batch {batch}: {len(calls)} in turn"
    timings = measure(calls, options.plan, stopwatch, partial(advance, step))
    for case, stepper in steppers.items():
        stepper.check()
        timing = timings[case, False]
        metrics = timing.speed(batch)
        # as a multiple of plain PyTorch in the same precision; plain PyTorch itself, in FP32
        plain = case._replace(attention=REFERENCE)
        base = plain if plain != case else plain._replace(precision="fp32")
        if base != case and base in cases:
            name = f"{base.precision} {base.attention}"
            metrics["ratio"] = ratio_to(timings, (base, False), (case, False), name)
        if options.data is not None:
            metrics["images_per_s_from_files"] = 1e3 * batch / timings[case, True].p50
        if case in memory:
            metrics["peak_memory_mb"] = memory[case]
        subject = {
            "model": options.model,
            "precision": case.precision,
            "backend": "pytorch",
            "batch": batch,
            "threads": torch.get_num_threads(),
            "attention": case.attention,
            "accelerator": device.type,
        }
        yield subject, metrics, [*_notes(options, device), *timing.verdict.notes]


def _notes(options: TrainingOptions, device: torch.device) -> list[str]:
    if device.type == "cuda":
        return ["memory: allocated on the GPU"]
    alone = "no GPU: the fused kernels do not run here, and the reference stands alone"
    memory = "memory: of a process of its own, with PyTorch"
    return [memory] if options.attentions else [alone, memory]


def choices(asked: Sequence[str] | None, device: torch.device) -> tuple[str, ...]:
    """The attentions to time. Raises EdgefelError for kernels that cannot run on the device."""
    if asked is None:
        return (REFERENCE, KERNELS) if device.type == "cuda" and TRITON_INSTALLED else (REFERENCE,)
    for name in asked:
        check_available(name, device)
    return tuple(dict.fromkeys(asked))


def check_losses(losses: Mapping[TrainingCase, float]) -> None:
    """Raises EdgefelError where the same weights and images give another loss than plain PyTorch in FP32."""
    first = min(losses, key=lambda case: (case.precision != "fp32", case.attention != REFERENCE))
    for case, loss in losses.items():
        limit = max(LARGEST_LOSS_DEVIATION[one.precision] for one in (case, first))
        if not abs(loss - losses[first]) <= limit * abs(losses[first]):  # NaN too
            raise EdgefelError(
                f"{case}: the loss of its first step is {loss:.5g} and that of {first} {losses[first]:.5g}; they "
                "compute different things, and nothing was timed"
            )


def make_fabric(compute: ComputeConfig) -> Fabric:
    """Launched. Raises EdgefelError where there is no such device, or it does not know the precision."""
    fabric = create_fabric(compute)
    fabric.launch()
    return fabric


class Stepper:
    """A trainer on the same synthetic batch again and again; each call is one optimizer step."""

    def __init__(self, options: TrainingOptions, case: TrainingCase) -> None:
        config = TrainConfig(
            model=options.model,
            data="" if options.data is None else os.fspath(options.data),
            batch_size=case.batch,
            compute=options.compute(case.precision, case.attention),
        )
        preprocessing = run_preprocessing(config)
        self._files = open_data(config, preprocessing) if config.data else None
        self._size = case.batch
        data = self._files or _synthetic_data(case.batch)
        side = preprocessing.resize
        pixels = np.random.default_rng(0).integers(0, 256, (case.batch, 3, side, side), dtype=np.uint8)
        self._trainer = Trainer(
            config,
            RunFolder(Path(tempfile.gettempdir())),  # of which nothing is read or written without `fit`
            make_fabric(config.compute),
            data,
            preprocessing,
            make_model(config, data.labels),
            TrainingState(),
            _STEPS_PER_EPOCH,
            True,
        )
        self._trainer.supervised.train()
        self._batch = Batch(torch.from_numpy(pixels), torch.arange(case.batch) % len(data.targets))
        if self._files is not None:
            self._files.train.load()
        self._loader = self._read()
        self()
        self.first_loss = self._trainer.window.take()["loss"]

    def __call__(self) -> None:
        """One step on a prepared batch; on a GPU, its work is queued."""
        self._trainer.step(self._batch)

    def from_files(self) -> None:
        """One step on the next images of the data set."""
        self._trainer.step(next(self._loader))

    def check(self) -> None:
        """Raises EdgefelError if the loss of a step since the last check was not finite."""
        self._trainer.window.take()

    def _read(self) -> Iterator[Batch]:
        """Batches of balanced epochs, as the training loop reads them, without end."""
        assert self._files is not None
        for epoch in count():
            order = self._files.sampler.indices(epoch)
            whole = len(order) // self._size
            if not whole:
                raise EdgefelError(
                    f"{self._files.train.dataset.root}: a balanced epoch has {counted(len(order), 'image')}, fewer "
                    f"than one batch of {self._size}; give a smaller batch"
                )
            yield from self._files.train.batches(np.split(order[: whole * self._size], whole))


def _synthetic_data(batch: int) -> Data:
    """A trainer's data for a batch that is handed to it."""
    labels = expression_labels(CLASSES)
    targets = torch.arange(batch) % len(labels)
    sampler = BalancedEpoch(targets.tolist(), [""] * batch, per_class=1, per_group=batch, seed=0)
    return Data(labels, cast(ImageSource, None), None, sampler, targets, None)


def peak_memory(options: TrainingOptions, case: TrainingCase, device: torch.device) -> float:
    """Peak memory of two steps, the second with Adam's moments, in 10^6 bytes.

    On a GPU: memory that PyTorch allocated there beyond what it held before. On the CPU: resident memory of a
    fresh process, with Python and PyTorch.
    """
    if device.type != "cuda":
        arguments = (options.model, options.threads or torch.get_num_threads(), *case)
        return round(fresh_process_memory_mb(_TWO_STEPS, arguments), 1)
    gc.collect()
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    stepper = Stepper(options, case)
    stepper()
    peak = torch.cuda.max_memory_allocated() - before
    del stepper
    gc.collect()
    return round(peak / 1e6, 1)


_TWO_STEPS = """
import sys
import torch
from edgefel.bench.training import Stepper, TrainingCase, TrainingOptions
model, threads, batch, precision, attention = sys.argv[1:]
torch.set_num_threads(int(threads))
Stepper(TrainingOptions(model, (int(batch),), accelerator="cpu"), TrainingCase(int(batch), precision, attention))()
"""
