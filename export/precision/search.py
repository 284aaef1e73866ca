"""The mixed-precision search: as much work in INT8 as the gate lets through, the costliest layers in float."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from edgefel.errors import EdgefelError
from edgefel.export.precision.sensitivity import LayerCost
from edgefel.progress import SILENT, Progress
from edgefel.text import counted

GIVE_BACK_TRIES = 16


@dataclass(frozen=True)
class MixVerdict:
    """The gate's verdict on a mix. reasons: why it fails. recall_loss: points of the class that loses most."""

    passes: bool
    reasons: tuple[str, ...] = ()
    recall_loss: float | None = None


@dataclass(frozen=True)
class Trial:
    """One mix that was tried. kept: layers in float. int8_share: of the multiply-accumulates of all layers that
    could be INT8."""

    kept: tuple[str, ...]
    int8_share: float
    verdict: MixVerdict


@dataclass(frozen=True)
class Decision:
    """INT8 or float for one layer, and why."""

    cost: LayerCost
    int8: bool
    reason: str


@dataclass(frozen=True)
class SearchResult:
    """The mix chosen. decisions: per layer, the costliest first. trials: in the order in which they were made."""

    decisions: tuple[Decision, ...]
    trials: tuple[Trial, ...]

    @property
    def keep_float(self) -> dict[str, str]:
        """Layer -> why it stays in float, as `place` takes it."""
        return {d.cost.node: d.reason for d in self.decisions if not d.int8}

    @property
    def int8_share(self) -> float:
        """Share of the layers' multiply-accumulates that are INT8."""
        return _share([d.cost for d in self.decisions], frozenset(self.keep_float))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "int8_share_of_macs": self.int8_share,
            "layers": [
                {**asdict(decision.cost), "int8": decision.int8, "reason": decision.reason}
                for decision in self.decisions
            ],
            "trials": [asdict(trial) for trial in self.trials],
        }


def search(
    ranking: Sequence[LayerCost],
    judge: Callable[[frozenset[str]], MixVerdict],
    progress: Progress = SILENT,
) -> SearchResult:
    """Finds a set of layers to keep in float with which the gate passes.

    ranking: costliest first (`rank_layers`). judge: the layers kept in float -> the gate's verdict on the rest
    in INT8. First the fewest of the costliest layers that make the gate pass (doubling, then bisection); then
    each of these, the one with most work first, is given back to INT8 if the gate still passes without it, in
    at most GIVE_BACK_TRIES tries. The mix that is returned has itself passed.

    Raises EdgefelError if the gate fails even with only the cheapest layer in INT8.
    """
    progress.start("search the precision mix")
    return _Search(tuple(ranking), judge, progress).run()


@dataclass
class _Search:
    ranking: tuple[LayerCost, ...]
    judge: Callable[[frozenset[str]], MixVerdict]
    progress: Progress
    trials: dict[frozenset[str], Trial] = field(default_factory=dict)

    def run(self) -> SearchResult:
        needed = self._fewest()
        kept = {cost.node for cost in self.ranking[:needed]}
        failed: dict[str, MixVerdict] = {}
        tries = sorted(self.ranking[:needed], key=lambda cost: -cost.macs)[:GIVE_BACK_TRIES]
        for cost in tries if needed else []:
            verdict = self._try(frozenset(kept - {cost.node}))
            if verdict.passes:
                kept.discard(cost.node)
            else:
                failed[cost.node] = verdict
        decisions = [
            self._decide(rank, cost, rank <= needed, cost.node in kept, failed.get(cost.node))
            for rank, cost in enumerate(self.ranking, start=1)
        ]
        return SearchResult(tuple(decisions), tuple(self.trials.values()))

    def _try(self, kept: frozenset[str]) -> MixVerdict:
        if kept not in self.trials:
            names = tuple(cost.node for cost in self.ranking if cost.node in kept)
            self.trials[kept] = Trial(names, _share(self.ranking, kept), self.judge(kept))
            self.progress.advance()
        return self.trials[kept].verdict

    def _passes(self, count: int) -> bool:
        return self._try(frozenset(cost.node for cost in self.ranking[:count])).passes

    def _fewest(self) -> int:
        """How many of the costliest have to stay in float; bisection takes it that more of them never hurt."""
        if self._passes(0):
            return 0
        most = len(self.ranking) - 1
        low, high = 0, 1
        while high < most and not self._passes(high):
            low, high = high, min(2 * high, most)
        if most < 1 or not self._passes(high):
            reasons = "; ".join(list(self.trials.values())[-1].verdict.reasons)
            raise EdgefelError(
                f"no mix of INT8 and float passes the gate: {reasons}, with "
                f"{most} of {counted(most + 1, 'layer')} in float; look at FP16 alone, or give other limits"
            )
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self._passes(middle) else (middle, high)
        return high

    def _decide(
        self, rank: int, cost: LayerCost, suspected: bool, kept: bool, failed: MixVerdict | None
    ) -> Decision:
        alone = f"alone it costs {cost.kl:.2g} nats in {cost.precision}"
        if cost.recall_loss is not None:
            alone += f" and at most {cost.recall_loss:.1f} points of a class's recall"
        if not suspected:
            return Decision(cost, True, f"rank {rank}: {alone}; the gate passes with it in INT8")
        if not kept:
            return Decision(cost, True, f"rank {rank}: {alone}; given back, the gate passes with it in INT8")
        if failed is not None:
            why = f"with it in INT8 as well the gate fails ({'; '.join(failed.reasons)})"
        else:
            why = "one of the costliest, without which the gate failed; not tried on its own"
        return Decision(cost, False, f"rank {rank}: {alone}; {why}")


def _share(costs: Sequence[LayerCost], kept: frozenset[str]) -> float:
    total = sum(cost.macs for cost in costs)
    return sum(cost.macs for cost in costs if cost.node not in kept) / total
