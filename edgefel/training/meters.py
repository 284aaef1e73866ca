"""Running sums between two lines of the log, and the clock."""

from __future__ import annotations

import math
import time

import torch
from torch import Tensor

from edgefel.errors import EdgefelError
from edgefel.training.distributed import gather_sum
from edgefel.training.losses import LossTerms

_TERMS = ("loss", "loss_classification", "loss_anchor", "loss_center", "anchor_spread", "loss_auxiliary")
_CORRECT, _IMAGES, _STEPS = len(_TERMS), len(_TERMS) + 1, len(_TERMS) + 2


class Window:
    """Loss terms and accuracy summed over the steps of a log interval, on the device: no step waits for it.

    Every rank sums its own part; the parts are joined when they are read.
    """

    def __init__(self, device: torch.device, world: int, saved: list[float]) -> None:
        self.world = world
        self.sums = torch.tensor(saved or [0.0] * (_STEPS + 1), device=device)

    def add(self, terms: LossTerms, correct: Tensor, images: int) -> None:
        """One step. The terms are means over equal shards, so a rank's share of each is 1/world."""
        values = [term.detach() / self.world for term in terms]
        values += [correct, correct.new_tensor(images), terms.total.new_tensor(1.0 / self.world)]
        self.sums += torch.stack([value.to(self.sums) for value in values])

    def state(self) -> list[float]:
        """The sums over all ranks. Raises EdgefelError if the loss is no longer finite."""
        sums = [float(value) for value in gather_sum(self.sums).tolist()]
        if not all(math.isfinite(value) for value in sums):
            raise EdgefelError(
                f"the loss is no longer finite (its terms: {dict(zip(_TERMS, sums, strict=False))}); "
                "start again with a lower --lr, or with --anchor-loss hinge"
            )
        return sums

    def take(self) -> dict[str, float]:
        """The means over all ranks since the last call, and starts anew."""
        means = self._means(self.state())
        self.sums.zero_()
        return means

    def own(self) -> dict[str, float]:
        """This rank's means so far."""
        return self._means([float(value) for value in self.sums.tolist()])

    def _means(self, sums: list[float]) -> dict[str, float]:
        steps = max(sums[_STEPS], 1e-9)
        means = {name: value / steps for name, value in zip(_TERMS, sums, strict=False)}
        return means | {"accuracy": sums[_CORRECT] / max(sums[_IMAGES], 1.0)}


class Clock:
    """Seconds of training, over all sessions of a run, and images/s since the last lap."""

    def __init__(self, before: float) -> None:
        self._before = before
        self._start = self._mark = time.perf_counter()
        self._images = 0

    def count(self, images: int) -> None:
        """`images` more are done."""
        self._images += images

    def seconds(self) -> float:
        """Spent so far, with what earlier sessions spent."""
        return self._before + time.perf_counter() - self._start

    def rate(self) -> float:
        """Images per second since the last lap."""
        return self._images / max(time.perf_counter() - self._mark, 1e-9)

    def lap(self) -> None:
        """Starts the rate anew."""
        self._mark, self._images = time.perf_counter(), 0
