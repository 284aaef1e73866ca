"""Choice of a set of weights in a published file, and of the prefix of its names.

Trainers wrap networks (`module.`, `_orig_mod.`, `model.`) and store other entries beside the weights; some store
averaged weights beside the raw ones. The set that fits the layout best is taken; of sets that fit equally the averaged
one, which those trainers evaluate.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate, takewhile

from torch import Tensor

from edgefel.errors import EdgefelError
from edgefel.models.pickles import WRAPPERS, Contents, WeightSet, averaged, listed
from edgefel.models.published_layouts import translate


@dataclass(frozen=True)
class _Candidate:
    found: WeightSet
    prefix: str
    fitting: int  # entries that the layout uses

    @property
    def name(self) -> str:
        """Its place in the file, for messages."""
        return ".".join((*self.found.path, self.prefix.removesuffix("."))).strip(".") or "the top of the file"

    @property
    def rank(self) -> tuple[int, bool, int]:
        names = [name for name in (*self.found.path, *self.prefix.split(".")) if name in WRAPPERS]
        return self.fitting, averaged(self.name), -min(map(WRAPPERS.index, names), default=len(WRAPPERS))


def choose(contents: Contents, layout: str, where: str) -> tuple[dict[str, Tensor], list[str]]:
    """The entries of the best set for `layout`, by published names without their prefix, and notes on the choice.

    If nothing fits, the largest set unchanged, for the message on misfits. Raises EdgefelError for entries of the
    network that are no plain tensors, and for two sets of equal rank.
    """
    candidates = [
        _Candidate(found, prefix, _fitting(found.tensors, prefix, layout))
        for found in contents.sets
        for prefix in _prefixes(found.tensors)
    ]
    best = max(candidates, key=lambda one: one.rank)
    if not best.fitting:
        return dict(max(contents.sets, key=lambda found: len(found.tensors)).tensors), []
    others = [one for one in candidates if one is not best and 2 * one.fitting > best.fitting]
    if twin := next((one for one in others if one.rank == best.rank), None):
        raise EdgefelError(
            f"{where}: holds two sets of weights, {best.name} and {twin.name}, and nothing says which is the network; "
            "save one of them alone"
        )
    for key, problem in best.found.unusable.items():
        if key.startswith(best.prefix) and translate(layout, key.removeprefix(best.prefix)):
            raise EdgefelError(f"{where}: {key} is {problem}; save the weights as plain float32 tensors")
    tensors = {
        key.removeprefix(best.prefix): value
        for key, value in best.found.tensors.items()
        if key.startswith(best.prefix)
    }
    return tensors, list(_notes(best, others))


def _prefixes(tensors: Mapping[str, Tensor]) -> list[str]:
    """Possible prefixes of the network's names: wrappers, averages, and prefixes that all entries share."""
    found = [""]
    for key in tensors:
        wrapping = takewhile(lambda part: part in WRAPPERS or averaged(part), key.split(".")[:-1])
        found += accumulate(f"{part}." for part in wrapping)
    return list(dict.fromkeys([*found, *_shared(tensors)]))


def _shared(keys: Iterable[str]) -> Iterator[str]:
    columns = zip(*(key.split(".")[:-1] for key in keys), strict=False)
    common = takewhile(lambda column: len(set(column)) == 1, columns)
    return accumulate(f"{column[0]}." for column in common)


def _fitting(tensors: Mapping[str, Tensor], prefix: str, layout: str) -> int:
    return sum(bool(translate(layout, key.removeprefix(prefix))) for key in tensors if key.startswith(prefix))


def _notes(best: _Candidate, others: list[_Candidate]) -> Iterator[str]:
    if others:
        kind = "averaged weights" if averaged(best.name) else "what fits best"
        names = listed([one.name for one in others], 5)
        yield f"took {best.name} ({kind}); not taken: {names}"
    taken = [best.prefix, *(one.prefix for one in others if one.found is best.found)]
    if outside := [key for key in best.found.tensors if not key.startswith(tuple(taken))]:
        yield f"left out {len(outside)} entries that are not under {best.prefix}: {listed(outside, 5)}"
