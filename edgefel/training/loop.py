"""The training loop (ARBEx section 4): `train` starts a run, `resume` continues one bit for bit."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from edgefel.data.loading.batches import Batch
from edgefel.data.preprocessing import Preprocessing, default_preprocessing
from edgefel.errors import EdgefelError
from edgefel.files.write import DISK_FULL, write_json
from edgefel.kernels.backend import check_available
from edgefel.models.checkpoint import Initialization
from edgefel.models.network import FacialExpressionModel
from edgefel.training.augmentation import Augmentation, Shard
from edgefel.training.config import TrainConfig, settings
from edgefel.training.distributed import convert_for_ranks, gather_sum
from edgefel.training.interrupts import Interrupts
from edgefel.training.logs import MetricsLog
from edgefel.training.losses import ReliabilityLoss, linear_trust
from edgefel.training.meters import Clock, Window
from edgefel.training.optimization import LR_FACTOR, learning_rate, make_optimizer
from edgefel.training.progress import TrainingProgress
from edgefel.training.randomness import Purpose, derive_seed, repeatable
from edgefel.training.run_folder import (
    LEFT_OUT_NAME,
    SKIPPED_NAME,
    RunFolder,
    TrainingState,
    check_output,
    restore_training,
)
from edgefel.training.setup import (
    Data,
    LeftOut,
    absolute,
    check_batches,
    create_fabric,
    ending_together,
    freeze_backbones,
    is_first_process,
    make_model,
    open_data,
    run_preprocessing,
    set_training_mode,
)
from edgefel.training.supervision import SupervisedModel
from edgefel.training.validation import validate

if TYPE_CHECKING:
    from lightning_fabric import Fabric

# Processes agree on stopping every so many steps; on one process it is every step.
_AGREE_EVERY = 8


@dataclass(frozen=True)
class TrainResult:
    """How a run ended. `best` is the validation score of the best checkpoint, None without validation. `left_out`: of
    training, for their copies in other splits; None where they were not looked for."""

    run: Path
    step: int
    epoch: int
    best: float | None
    interrupted: bool
    skipped: tuple[str, ...]
    left_out: LeftOut | None
    main_process: bool


def train(config: TrainConfig, output: str | Path, *, quiet: bool = False) -> TrainResult:
    """Trains a model into the new folder `output`; see `run_folder` for what it holds.

    Raises EdgefelError, before anything is written, for an output folder in use, unusable data, an unknown
    model, a class count that does not match, or a device that is not there.
    """
    run = RunFolder(Path(output))
    check_output(run.path)
    with _alone(run), torch.random.fork_rng(devices=[]):
        check_output(run.path)
        return _run(absolute(config), run, quiet)


def resume(run: str | Path, changes: Mapping[str, Any] | None = None, *, quiet: bool = False) -> TrainResult:
    """Continues a run from its last checkpoint, or from the start if it was killed before the first.

    `changes` maps dotted names to values; only settings that do not alter what is learned may change.
    """
    folder = RunFolder(Path(run))
    config = folder.config()
    changes = dict(changes or {})
    allowed = [path for path, _, limits in settings() if limits.resumable]
    fixed = sorted(set(changes) - set(allowed))
    if fixed:
        raise EdgefelError(
            f"{run}: {', '.join(fixed)} cannot change when a run is resumed; these can: {', '.join(allowed)}"
        )
    with _alone(folder), torch.random.fork_rng(devices=[]):
        return _run(absolute(config.replaced(changes)), folder, quiet, resuming=True)


def _alone(run: RunFolder) -> AbstractContextManager[None]:
    """Keeps other runs out of the folder; of the processes of one run, the first does."""
    return run.alone() if is_first_process() else nullcontext()


def _run(config: TrainConfig, run: RunFolder, quiet: bool, resuming: bool = False) -> TrainResult:
    preprocessing = run_preprocessing(config, run.last() if resuming else None)
    fabric = create_fabric(config.compute)
    state = TrainingState()
    tensors: dict[str, Tensor] = {}
    threads: int | None = None
    starts: list[Initialization] = []
    if resuming and run.has_checkpoint():
        checkpoint, state, tensors = run.load_last()
        model = checkpoint.model
        threads = checkpoint.extra.get("training", {}).get("threads")
        data = open_data(config, preprocessing, checkpoint.labels, quiet=quiet)
    else:
        data = open_data(config, preprocessing, quiet=quiet)
        model = make_model(config, data.labels, starts.append)
    if data.votes is not None:  # on record, so that the run goes on with the same file
        config = replace(config, votes=data.votes.file)
    with ending_together():
        fabric.launch()
    steps = check_batches(config, data, fabric.world_size)
    trainer = Trainer(config, run, fabric, data, preprocessing, model, state, steps, quiet)
    if threads is not None and fabric.device.type == "cpu" and threads != torch.get_num_threads():
        trainer.progress.say(
            f"the run had {threads} threads so far and goes on with {torch.get_num_threads()}: sums are rounded in "
            f"another order, so the result is not bit for bit that of an uninterrupted run (OMP_NUM_THREADS={threads})"
        )
    if config.init_from and preprocessing != default_preprocessing(preprocessing.output_size):
        trainer.progress.say(f"images as the weights of init_from know them: {preprocessing.summary}")
    restore_training(trainer.supervised, trainer.updater, tensors)
    if trainer.main:
        for start in starts:
            tell = trainer.progress.say if start.complete else trainer.progress.tell
            tell(f"init-from {start.describe()}")
    return trainer.fit(resuming)


class Trainer:
    """One run on this process. Use `train` and `resume`."""

    def __init__(
        self,
        config: TrainConfig,
        run: RunFolder,
        fabric: Fabric,
        data: Data,
        preprocessing: Preprocessing,
        model: FacialExpressionModel,
        state: TrainingState,
        steps_per_epoch: int,
        quiet: bool,
    ) -> None:
        self.config, self.run, self.fabric, self.data = config, run, fabric, data
        self.preprocessing, self.raw, self.state = preprocessing, model, state
        self.shard = Shard(fabric.global_rank, fabric.world_size)
        self.main = fabric.global_rank == 0
        planned = config.epochs * steps_per_epoch
        self.planned = min(planned, config.max_steps or planned)
        if config.freeze_backbones:
            freeze_backbones(model)
        check_available(config.compute.attention, fabric.device)
        model.use_attention(cast(Any, config.compute.attention))
        convert_for_ranks(model, self.shard, cuda=fabric.device.type == "cuda")
        self.supervised = SupervisedModel(model, enabled=config.loss.lambda_auxiliary > 0)
        self.updater = make_optimizer(config, self.supervised.named_parameters())
        self.model, self.optimizer = cast(Any, fabric.setup(self.supervised, self.updater))
        self.loss = ReliabilityLoss(
            lambda_cls=config.loss.lambda_cls,
            lambda_anchor=config.loss.lambda_anchor,
            lambda_center=config.loss.lambda_center,
            lambda_auxiliary=config.loss.lambda_auxiliary,
            kind=cast(Any, config.loss.anchor_loss),
            margin=config.loss.anchor_margin,
            criterion=data.criterion,
        )
        self.augment = Augmentation(config.augment, preprocessing, config.seed)
        self.window = Window(fabric.device, self.shard.world, state.window if self.main else [])
        self.progress = TrainingProgress(
            enabled=self.main and not quiet,
            epochs=config.epochs,
            steps=self.planned,
            start=state.step,
            max_seconds=None if config.max_minutes is None else 60 * config.max_minutes,
        )
        self.clock = Clock(state.seconds)
        self.log: MetricsLog | None = None
        self.saved_step = state.step if state.step else -1

    def fit(self, resuming: bool) -> TrainResult:
        """Trains until the epochs, a limit or a signal end it."""
        try:
            self._prepare(resuming)
            try:
                with Interrupts() as interrupts, self.progress, repeatable(self.fabric.device):
                    interrupted = self._epochs(interrupts)
            finally:
                if self.log:
                    self.log.close()
        except OSError as error:
            if error.errno not in DISK_FULL:
                raise
            raise EdgefelError(
                f"{self.run.path}: cannot be written ({error.strerror}); free disk space and continue with: "
                f"edgefel train --resume {self.run.path}"
            ) from None
        return self._result(interrupted)

    def _prepare(self, resuming: bool) -> None:
        if resuming and self.main:
            (self.run.path / SKIPPED_NAME).unlink(missing_ok=True)  # files may have been repaired since
        for source in (self.data.train, self.data.val):
            if source and source.fits:
                with self.progress.loading(len(source.dataset)) as bar:
                    source.load(bar.advance)
        self._report_skipped()
        if self.data.votes is not None:
            self.progress.say(f"labels: votes of {self.data.votes.file}")
        if self.data.left_out is not None:
            self.progress.say(str(self.data.left_out))
        if self.data.val is None:
            self.progress.say(
                "no val split: training goes on without validation, and no checkpoint is the best"
            )
        if self.main:
            self.run.create(self.config)
            if self.data.left_out is not None:
                write_json(self.run.path / LEFT_OUT_NAME, asdict(self.data.left_out))
            if self.run.has_checkpoint():
                self.run.prune(self.config.keep)
            self.log = MetricsLog(self.run.path, self.state.step if resuming else None)
        self.fabric.barrier()
        if self.state.precision:
            self.fabric.strategy.precision.load_state_dict(self.state.precision)
        self.clock = Clock(self.state.seconds)

    def _epochs(self, interrupts: Interrupts) -> bool:
        """Runs to the end; True if a signal stopped it."""
        while not self._finished():
            set_training_mode(self.raw, self.config.freeze_backbones)
            epoch = self.state.epoch
            order = self.data.sampler.indices(epoch)
            size = self.config.batch_size
            steps = len(order) // size
            batches = [
                order[step * size : (step + 1) * size][self.shard.slice(size)]
                for step in range(self.state.epoch_step, steps)
            ]
            for batch in self.data.train.batches(batches):
                self.step(batch)
                ends_epoch = self.state.epoch_step == steps
                stop, interrupted = self._agree(interrupts)
                self._after_step(ends_epoch, stop)
                if interrupted:
                    self._save(best=False)
                if stop or interrupted:
                    return interrupted and not self._finished()
            if not batches:  # a pool without some class can leave an epoch shorter than a batch
                self.state.epoch, self.state.epoch_step = epoch + 1, 0
        return False

    def _finished(self) -> bool:
        limit = self.config.max_minutes
        late = limit is not None and self.state.seconds >= 60 * limit
        return late or self.state.epoch >= self.config.epochs or self.state.step >= self.planned

    def step(self, batch: Batch) -> None:
        """One optimizer step on this rank's part of a global batch."""
        config, state = self.config, self.state
        trust = linear_trust(state.step, self.planned) if config.loss.trust == "linear" else 1.0
        pixels = self.fabric.to_device(batch.pixels)
        images = self.augment(pixels, state.epoch, state.epoch_step, self.shard)
        target = self.fabric.to_device(self.data.targets[batch.indices])
        rate = learning_rate(config, state.epoch, state.step, self.planned)
        for group in self.updater.param_groups:
            group["lr"] = rate * group.get(LR_FACTOR, 1.0)
        torch.manual_seed(derive_seed(config.seed, Purpose.LAYERS, state.epoch, state.epoch_step))
        prediction, auxiliary = self.model(images, trust=trust)
        waiting = auxiliary is not None and state.step < config.loss.auxiliary_steps
        own = 0.0 if waiting else 1.0
        terms = self.loss(prediction, target, self.raw.head.anchors, trust, auxiliary, own)
        self.fabric.backward(terms.total)
        if config.clip_norm:
            self.fabric.clip_gradients(
                self.model, self.optimizer, max_norm=config.clip_norm, error_if_nonfinite=False
            )
        self.optimizer.step()
        self.optimizer.zero_grad()
        with torch.no_grad():
            label = target.argmax(1) if target.is_floating_point() else target
            correct = (prediction.probabilities.argmax(1) == label).sum()
            self.window.add(terms, correct, len(label))
        state.step += 1
        state.epoch_step += 1
        self.clock.count(config.batch_size)

    def _agree(self, interrupts: Interrupts) -> tuple[bool, bool]:
        """(stop because a limit is reached, stop because of a signal), the same on all ranks."""
        limit = self.config.max_minutes
        late = limit is not None and self.clock.seconds() >= 60 * limit
        if self.shard.world > 1:
            if self.state.step % _AGREE_EVERY:
                return self.state.step >= self.planned, False
            flags = gather_sum(torch.tensor([late, interrupts.requested], device=self.fabric.device).float())
            late, asked = bool(flags[0] > 0), bool(flags[1] > 0)
        else:
            asked = interrupts.requested
        return late or self.state.step >= self.planned, asked

    def _after_step(self, ends_epoch: bool, stop: bool) -> None:
        """Logs, validates and saves where it is due."""
        config, state = self.config, self.state
        last = stop or (ends_epoch and state.epoch + 1 == config.epochs)
        validating = last or (ends_epoch and (state.epoch + 1) % config.eval_every == 0)
        if self.fabric.device.type == "cpu" or state.step % 10 == 0:
            self._show()
        scores: dict[str, float] = {}
        if validating or state.step % config.log_every == 0:
            train_row = self._train_row()
            if validating and self.data.val is not None:
                scores = validate(self.raw, self.data.val, self.preprocessing, self.fabric)
                set_training_mode(self.raw, config.freeze_backbones)
                self._summary(train_row, scores)
            if validating:
                for source in (self.data.train, self.data.val):
                    if source and not source.fits:
                        source.join_skipped(self.fabric.device)
            self._report_skipped()
            if self.log:
                self.log.write(train_row | scores | {"skipped_images": len(self.data.train.skipped)})
            self.clock.lap()
        if ends_epoch:
            state.epoch, state.epoch_step = state.epoch + 1, 0
        score = scores.get(f"val_{config.best_by}")
        best = score is not None and (state.best is None or score > state.best)
        if best:
            state.best = score
        if validating or state.step % config.checkpoint_every == 0:
            self._save(best=best, scores=scores, finished=last)

    def _train_row(self) -> dict[str, Any]:
        means = self.window.take()
        state = self.state
        trust = linear_trust(state.step - 1, self.planned) if self.config.loss.trust == "linear" else 1.0
        return {
            "step": state.step,
            "epoch": state.epoch + 1,
            "seconds": round(self.clock.seconds(), 3),
            "images_per_second": round(self.clock.rate(), 1),
            "lr": self.updater.param_groups[0]["lr"],
            "trust": trust,
            **means,
        }

    def _show(self) -> None:
        if not self.progress.enabled:
            return
        means = self.window.own()
        self.progress.update(
            epoch=self.state.epoch,
            step=self.state.step,
            loss=means["loss"],
            accuracy=means["accuracy"],
            rate=self.clock.rate(),
            spent=self.clock.seconds(),
        )

    def _summary(self, row: Mapping[str, Any], scores: Mapping[str, float]) -> None:
        self.progress.say(
            f"epoch {row['epoch']}/{self.config.epochs}  step {row['step']}  loss {row['loss']:.3f}  "
            f"accuracy {row['accuracy']:.1%}  |  val accuracy {scores['val_accuracy']:.1%}  "
            f"macro F1 {scores['val_macro_f1']:.3f}  without head {scores['val_primary_accuracy']:.1%}"
        )

    def _save(self, *, best: bool, scores: Mapping[str, float] | None = None, finished: bool = False) -> None:
        """Writes a checkpoint (rank 0). A signal right after one that is already there adds nothing."""
        state = self.state
        state.window = self.window.state()
        state.seconds = self.clock.seconds()
        state.precision = dict(self.fabric.strategy.precision.state_dict())
        state.finished = finished
        if self.main and (state.step != self.saved_step or best or finished):
            extra = {
                "step": state.step,
                "epoch": state.epoch,
                "scores": dict(scores or {}),
                "threads": torch.get_num_threads(),
            }
            self.run.save(
                self.supervised,
                self.updater,
                state,
                {
                    "labels": self.data.labels,
                    "preprocessing": self.preprocessing.to_dict(),
                    "extra": {"training": extra},
                },
                best=best,
                keep=self.config.keep,
            )
        self.saved_step = state.step
        self.fabric.barrier()

    def _report_skipped(self) -> None:
        """Names the images that could not be read: new ones on the screen, all of them in skipped.json."""
        sources = {"train": self.data.train, "val": self.data.val}
        new = [found for source in sources.values() if source for found in source.unreported()]
        for index, reason in new:
            self.progress.say(f"skipped image {index}: {reason}")
        if new and self.main:
            skipped = {
                split: [source.skipped[index] for index in sorted(source.skipped)]
                for split, source in sources.items()
                if source
            }
            write_json(self.run.path / SKIPPED_NAME, skipped)

    def _result(self, interrupted: bool) -> TrainResult:
        sources = [source for source in (self.data.train, self.data.val) if source]
        names = [str(s.dataset.samples[i].path) for s in sources for i in sorted(s.skipped)]
        state = self.state
        return TrainResult(
            self.run.path,
            state.step,
            state.epoch,
            state.best,
            interrupted,
            tuple(names),
            self.data.left_out,
            self.main,
        )
