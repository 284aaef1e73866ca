"""The training loop (ARBEx section 4) of one run on one process."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from edgefel import signals
from edgefel.data.framing import Framing
from edgefel.data.loading.batches import Batch
from edgefel.data.preprocessing import Preprocessing, default_preprocessing
from edgefel.errors import EdgefelError
from edgefel.files.write import DISK_FULL, write_json
from edgefel.kernels.backend import check_available
from edgefel.models.checkpoint import Initialization, read_framing
from edgefel.models.network import FacialExpressionModel
from edgefel.text import counted
from edgefel.training.augmentation import Augmentation, Mixing
from edgefel.training.config import TrainConfig
from edgefel.training.data import CopiesLeftOut, Data, run_framing
from edgefel.training.distillation import Teacher, agreement, labels_of
from edgefel.training.distributed import Shard, convert_for_ranks, gather_sum, join_skipped
from edgefel.training.log import Clock, MetricsLog, TrainingProgress, Window, loading_bar
from edgefel.training.losses import correction_ramp
from edgefel.training.model import Student, supervised_student
from edgefel.training.optimization import (
    WeightAverage,
    check_weights,
    learning_rate,
    make_optimizer,
    set_learning_rate,
)
from edgefel.training.prior import write_prior
from edgefel.training.randomness import Purpose, derive_seed, repeatable
from edgefel.training.run_folder import LEFT_OUT_NAME, PRIOR_NAME, SKIPPED_NAME, RunFolder, TrainingState
from edgefel.training.validation import Validation, trouble, validate

if TYPE_CHECKING:
    from lightning_fabric import Fabric

# Processes agree on stopping every so many steps; a single process checks every step.
_AGREE_EVERY = 8


@dataclass(frozen=True)
class TrainResult:
    """How a run ended.

    epoch: of complete ones. best: validation score of the best checkpoint, None without validation. stopped_early: by
    the patience, before the planned end. skipped: unreadable images.
    left_out: training images with copies in other splits, None where they were not searched.
    """

    run: Path
    step: int
    epoch: int
    best: float | None
    stopped_early: bool
    interrupted: bool
    skipped: tuple[str, ...]
    left_out: CopiesLeftOut | None
    main_process: bool


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
        teacher: Teacher | Tensor | None = None,
        student: Student | None = None,
    ) -> None:
        self.config, self.run, self.fabric, self.data = config, run, fabric, data
        self.preprocessing, self.raw, self.state = preprocessing, model, state
        self.shard = Shard(fabric.global_rank, fabric.world_size)
        self.main = fabric.global_rank == 0
        Mixing.check(config.augment, config.batch_size, self.shard.world)
        planned = config.epochs * steps_per_epoch
        self.planned = min(planned, config.max_steps or planned)
        self.max_seconds = 60 * (config.max_minutes or math.inf)
        check_available(config.compute.attention, fabric.device)
        model.use_attention(cast(Any, config.compute.attention))
        convert_for_ranks(model, self.shard, cuda=fabric.device.type == "cuda")
        self.supervised, self.loss = student or supervised_student(config, model, data.prior)
        self.updater = make_optimizer(config, self.supervised.named_parameters())
        self.model, self.optimizer = cast(Any, fabric.setup(self.supervised, self.updater))
        # of a resumed run, the model comes with its averaged weights; those that learn are restored after this
        self.average = WeightAverage(model, config.ema) if config.ema else None
        self.teacher, self.taught = teacher, cast("Tensor | None", None)
        self.augment = Augmentation(config.augment, preprocessing, config.seed)
        self.mix = Mixing(config.augment, config.seed)
        sums = state.window if self.main else []
        self.window = Window(fabric.device, self.shard.world, sums, self.loss.names)
        self.progress = TrainingProgress(
            config.epochs,
            self.planned,
            self.max_seconds,
            start=state.step,
            spent=state.seconds,
            enabled=self.main and not quiet,
        )
        self.clock = Clock(state.seconds)
        self.rate = config.lr  # of the last step
        self.log: MetricsLog | None = None
        self.framing: Framing | None = None
        self.saved_step = state.step if state.step else -1

    def announce(self, starts: list[Initialization], before: Mapping[str, Any]) -> None:
        """Reports what the run starts from. before: what the last checkpoint says of its training, {} for a new run."""
        say, now, threads = self.progress.say, torch.get_num_threads(), before.get("threads")
        root, images = self.data.train.dataset.root, self.data.fingerprint()
        if before.get("data", images) != images:
            other = "not the training images or labels of the run so far; it goes on with these"
            say(f"warning: {root}: {other}", always=self.main)
        if threads is not None and self.fabric.device.type == "cpu" and threads != now:
            say(
                f"the run had {threads} threads so far and goes on with {now}: sums are rounded in another order, so "
                f"the result is not bit for bit that of an uninterrupted run (OMP_NUM_THREADS={threads})"
            )
        used = self.preprocessing
        if self.config.init_from and replace(used, detail=None, colour="RGB") != default_preprocessing(
            used.output_size
        ):
            say(f"images as the weights of init_from know them: {used.summary}")
        if self.main:
            for start in starts:
                say(f"init-from {start.describe()}", always=not start.complete)

    def fit(self, resuming: bool) -> TrainResult:
        """Trains until the epochs, a limit or a signal end it."""
        try:
            self._prepare(resuming)
            try:
                with signals.collected() as stopping, self.progress.bar, repeatable(self.fabric.device):
                    interrupted = self._epochs(stopping)
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
        state, sources = self.state, self.data.sources.values()
        return TrainResult(
            self.run.path,
            state.step,
            state.epoch,
            state.best,
            self._stops_early() and state.step < self.planned,
            interrupted,
            tuple(str(s.dataset.samples[i].path) for s in sources for i in sorted(s.skipped)),
            self.data.left_out,
            self.main,
        )

    def _prepare(self, resuming: bool) -> None:
        """Loads the images, reports what is unusual about them, and opens the run folder."""
        run, data, say = self.run, self.data, self.progress.say
        if resuming and self.main:
            (run.path / SKIPPED_NAME).unlink(missing_ok=True)  # files may have been repaired since
        for source in self.data.sources.values():
            if source.fits:
                with loading_bar(len(source.dataset), shown=self.progress.enabled) as advance:
                    source.load(advance)
        self._report_skipped()
        if data.votes is not None:
            say(f"labels: votes of {data.votes.file}")
        if data.left_out is not None:
            say(str(data.left_out))
        if data.val is None:
            say("no val split: training goes on without validation, and no checkpoint is the best")
        if self.main:
            if self.config.loss.prior_is_file and data.prior is not None:
                write_prior(run.path / PRIOR_NAME, data.labels, data.prior)
            run.create(self.config)
            self.supervised.keep_in(run.path)
            if data.left_out is not None:
                write_json(run.path / LEFT_OUT_NAME, asdict(data.left_out))
            last = run.last()
            if last is not None:
                run.prune(self.config.keep)
                self.framing = read_framing(last)
            if self.framing is None:
                found = run_framing(data)
                say(f"framing: {found.summary}")
                self.framing = found.framing
            self.log = MetricsLog(run.path, self.state.step if resuming else None)
        shown = self.progress.enabled
        self.taught = labels_of(self.teacher, run.path, data, self.config, self.fabric, shown=shown)
        if self.taught is not None:
            agreed = agreement(self.taught, data.targets)
            say(f"teacher: gives {agreed:.1%} of the training images the class of their label")
        self.fabric.barrier()
        if self.state.precision:
            self.fabric.strategy.precision.load_state_dict(self.state.precision)
        self.clock = Clock(self.state.seconds)

    def _epochs(self, stopping: list[int]) -> bool:
        """Runs to the end; True if a signal stopped it."""
        state, size = self.state, self.config.batch_size
        while not self._finished(state.seconds):
            self.supervised.train()
            epoch = state.epoch
            order = self.data.sampler.indices(epoch)
            steps = len(order) // size
            batches = [
                order[step * size : (step + 1) * size][self.shard.slice(size)]
                for step in range(state.epoch_step, steps)
            ]
            for batch in self.data.train.batches(batches):
                self.step(batch)
                stop, interrupted = self._agree(stopping)
                self._after_step(state.epoch_step == steps, stop)
                if interrupted:
                    self._save({})
                if stop or interrupted:
                    return interrupted and not self._finished(state.seconds)
            if not batches:  # a pool without some class can leave an epoch shorter than a batch
                state.epoch, state.epoch_step = epoch + 1, 0
        return False

    def _finished(self, seconds: float) -> bool:
        state = self.state
        over = state.epoch >= self.config.epochs or state.step >= self.planned
        return over or seconds >= self.max_seconds or self._stops_early()

    def _stops_early(self) -> bool:
        return 0 < self.config.patience <= self.state.waited

    @property
    def kept(self) -> FacialExpressionModel:
        """The model that is saved."""
        if self.average is None:
            return self.raw
        return cast("FacialExpressionModel", self.average.model)

    def _ramp(self, step: int) -> float:
        return correction_ramp(step, self.planned) if self.config.loss.correction_ramp == "linear" else 1.0

    def step(self, batch: Batch) -> None:
        """One optimizer step on this rank's part of a global batch."""
        config, state = self.config, self.state
        pixels = self.fabric.to_device(batch.pixels)
        images = self.augment(pixels, state.epoch, state.epoch_step, self.shard)
        images, mixture = self.mix(images, state.epoch, state.epoch_step)
        classes, own = self.raw.config.num_classes, self.fabric.to_device(self.data.targets[batch.indices])
        target, taught = mixture.of(own, classes), None
        if self.taught is not None:
            taught = mixture.of(self.fabric.to_device(self.taught[batch.indices]), classes)
        self.rate = learning_rate(config, state.epoch, state.step, self.planned)
        set_learning_rate(self.updater, self.rate)
        torch.manual_seed(derive_seed(config.seed, Purpose.LAYERS, state.epoch, state.epoch_step))
        ramp = self._ramp(state.step)
        if images.device.type == "cpu":  # the convolutions of oneDNN reorder anything else, there and back
            images = images.contiguous(memory_format=torch.channels_last)
        prediction, auxiliary = self.model(images, ramp)
        waiting = auxiliary is not None and state.step < config.loss.auxiliary_steps
        anchors, factor = self.raw.head.anchors, 0.0 if waiting else 1.0
        terms = self.loss(prediction, target, anchors, ramp, auxiliary, factor, taught)
        self.fabric.backward(terms.total)
        if config.clip_norm:
            self.fabric.clip_gradients(
                self.model, self.optimizer, max_norm=config.clip_norm, error_if_nonfinite=False
            )
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.average is not None:
            self.average.update(state.step)
        with torch.no_grad():
            self.window.add(terms, mixture.found(prediction.probabilities, own), len(own))
        state.step += 1
        state.epoch_step += 1
        self.clock.count(config.batch_size)

    def _agree(self, stopping: list[int]) -> tuple[bool, bool]:
        """(stop because a limit is reached, stop because of a signal), the same on all ranks."""
        done, late = self.state.step >= self.planned, self.clock.seconds() >= self.max_seconds
        asked = bool(stopping)
        if self.shard.world > 1:
            if self.state.step % _AGREE_EVERY:
                return done, False
            flags = gather_sum(torch.tensor([late, asked], device=self.fabric.device).float())
            late, asked = (flags > 0).tolist()
        return late or done, asked

    def _after_step(self, ends_epoch: bool, stop: bool) -> None:
        """Logs, validates and saves where it is due."""
        config, state = self.config, self.state
        last = stop or (ends_epoch and state.epoch + 1 == config.epochs)
        validating = last or (ends_epoch and (state.epoch + 1) % config.eval_every == 0)
        if self.progress.enabled and (self.fabric.device.type == "cpu" or state.step % 10 == 0):
            self.progress.update(state.epoch, state.step, self.window.own(), self.clock)
        scores: dict[str, float] = {}
        if validating or state.step % config.log_every == 0:
            means = self.window.take()  # waits for the device
            for name, value in {**means, "steps": 1.0}.items():
                state.since[name] = state.since.get(name, 0.0) + value * self.window.steps
            row = {
                "step": state.step,
                "epoch": state.epoch + 1,
                "seconds": round(self.clock.seconds(), 3),
                "images_per_second": round(self.clock.rate(), 1),
                "lr": self.rate,
                "correction_ramp": self._ramp(state.step - 1),
                **means,
            }
            if validating:
                scores = self._validate(row)
            self._report_skipped()
            if self.log:
                self.log.write(row | scores | {"skipped_images": len(self.data.train.skipped)})
            self.clock.lap()
        if ends_epoch:
            state.epoch, state.epoch_step = state.epoch + 1, 0
        score = scores.get(f"val_{config.best_by}")
        best = score is not None and (state.best is None or score > state.best)
        if best:
            state.best = score
        if score is not None:
            state.waited = 0 if best else state.waited + 1
            if self._stops_early() and not last:
                self.progress.say(
                    f"stopped early: {counted(state.waited, 'validation')} without a better {config.best_by} than "
                    f"{state.best} of epoch {state.best_epoch}"
                )
        if validating or state.step % config.checkpoint_every == 0:
            self._save(scores, best=best, finished=last or self._stops_early())

    def _validate(self, row: Mapping[str, Any]) -> dict[str, float]:
        """Scores of the validation split, {} without one; exchanges which images could not be read."""
        check_weights(self.supervised, self.kept)
        scores: dict[str, float] = {}
        if self.data.val is not None:
            judged = self.supervised.judged if self.average is None else self.kept
            found = validate(judged, self.data.val, self.preprocessing, self.fabric)
            scores = found.scores
            self.supervised.train()
            means = {name: value / self.state.since["steps"] for name, value in self.state.since.items()}
            self.progress.say(
                f"epoch {row['epoch']}/{self.config.epochs}  step {row['step']}  loss {means['loss']:.3f}  "
                f"accuracy {means['accuracy']:.1%}  |  val accuracy {scores['val_accuracy']:.1%}  "
                f"macro F1 {scores['val_macro_f1']:.3f}  without head {scores['val_primary_accuracy']:.1%}"
            )
            self._warn(found, row["epoch"], means.get("loss_classification", 0.0))
        self.state.since = {}
        for source in self.data.sources.values():
            if not source.fits:
                join_skipped(source, self.fabric.device)
        return scores

    def _warn(self, found: Validation, epoch: int, loss: float) -> None:
        """Says what is wrong with the run, if anything is. loss: of the classification, since the last validation."""
        state = self.state
        score = found.scores[f"val_{self.config.best_by}"]
        if state.best is None or score > state.best:
            state.best_epoch = epoch
        lowest, best = state.lowest_loss, state.best_epoch
        for remark in trouble(found, self.data.labels, loss, lowest, epoch, best, self.config):
            self.progress.say(f"warning: epoch {epoch}: {remark}", always=self.main)
        state.lowest_loss = loss if lowest is None else min(loss, lowest)

    def _save(self, scores: Mapping[str, float], *, best: bool = False, finished: bool = False) -> None:
        """Writes a checkpoint (rank 0). A signal right after one that is already there adds nothing."""
        state = self.state
        check_weights(self.supervised, self.kept)
        state.window = self.window.state()
        state.seconds = self.clock.seconds()
        state.precision = dict(self.fabric.strategy.precision.state_dict())
        state.finished = finished
        if self.main and (state.step != self.saved_step or best or finished):
            extra = {
                "step": state.step,
                "epoch": state.epoch,
                "scores": dict(scores),
                "threads": torch.get_num_threads(),
                "data": self.data.fingerprint(),
            }
            description = {
                "labels": self.data.labels,
                "preprocessing": self.preprocessing.to_dict(),
                "framing": self.framing,
                "extra": {"training": extra, **self.supervised.described()},
            }
            average = None if self.average is None else self.kept
            self.run.save(
                self.supervised, average, self.updater, state, description, best=best, keep=self.config.keep
            )
        self.saved_step = state.step
        self.fabric.barrier()

    def _report_skipped(self) -> None:
        """Names the images that could not be read: new ones on the screen, all of them in skipped.json."""
        sources = self.data.sources
        new = [found for source in sources.values() for found in source.unreported()]
        for index, reason in new:
            self.progress.say(f"skipped image {index}: {reason}")
        if new and self.main:
            skipped = {
                split: [source.skipped[index] for index in sorted(source.skipped)]
                for split, source in sources.items()
            }
            write_json(self.run.path / SKIPPED_NAME, skipped)
