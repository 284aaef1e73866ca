"""Chains of Transpose and Reshape: the effect on the axes, as a shortest chain of at most three steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

Step = tuple[str, list[int]]


@dataclass(frozen=True)
class _Atom:
    """A factor of an axis that no step cuts further. size None: the batch. path: which axis of the input, and
    which half of it at each cut."""

    size: int | None
    path: tuple[int, ...]

    @property
    def axis(self) -> int:
        """The input's axis that it is a factor of."""
        return self.path[0]


def shuffle(shape: Sequence[int | None], steps: Sequence[Step]) -> list[Step] | None:
    """A shortest chain equal to `steps` on a tensor of `shape`, of at most Reshape, Transpose, Reshape.

    shape: sizes; the first may be None (the batch, any size), the others must be fixed. steps: ("Transpose",
    permutation) or ("Reshape", target) with at most one -1. A Reshape is given with -1 for the axis that holds
    the batch. None if a step cuts axes in a way that their factors do not allow.
    """
    if any(side is None for side in shape[1:]):
        return None
    start = [_Atom(side, (i,)) for i, side in enumerate(shape)]
    while True:
        axes: list[list[_Atom]] | None = [
            [atom for atom in start if atom.axis == i and atom.size != 1] for i in range(len(shape))
        ]
        refined = None
        for kind, values in steps:
            assert axes is not None
            if kind == "Transpose":
                axes = [axes[i] for i in values]
                continue
            axes, refined = _reshape(axes, values)
            if refined is not None:
                break
            if axes is None:
                return None
        if refined is None:
            assert axes is not None
            return _shortest(shape, start, axes)
        # an axis was cut: begin again with its two factors as atoms
        atom, inner = refined
        assert atom.size is not None
        at = start.index(atom)
        start[at : at + 1] = [_Atom(atom.size // inner, (*atom.path, 0)), _Atom(inner, (*atom.path, 1))]


def _reshape(
    axes: list[list[_Atom]], target: Sequence[int]
) -> tuple[list[list[_Atom]] | None, tuple[_Atom, int] | None]:
    """Groups the atoms anew; or says which atom to cut first, and the size of its inner factor."""
    flat = [atom for axis in axes for atom in axis]
    sizes = list(target)
    if -1 in sizes:
        sizes[sizes.index(-1)] = _rest(flat, target)
    grouped: list[list[_Atom]] = []
    # from the back, since the batch and the -1 that takes it in come first
    for position in reversed(range(len(sizes))):
        group: list[_Atom] = []
        holds_batch = _size(flat) is None and target[position] == -1
        needed = sizes[position]
        while needed > 1 or (holds_batch and flat and _size(group) is not None):
            if not flat:
                return None, None
            atom = flat[-1]
            if atom.size is None:
                if not holds_batch:
                    return None, None
            elif needed % atom.size:
                return (None, (atom, needed)) if atom.size % needed == 0 and needed > 1 else (None, None)
            else:
                needed //= atom.size
            group.insert(0, flat.pop())
        grouped.insert(0, group)
    return (None, None) if flat else (grouped, None)


def _rest(flat: Sequence[_Atom], target: Sequence[int]) -> int:
    """The fixed part of the axis that is given as -1."""
    known = math.prod(side for side in target if side != -1)
    return max(1, math.prod(atom.size or 1 for atom in flat) // known)


def _shortest(
    shape: Sequence[int | None], start: Sequence[_Atom], axes: Sequence[Sequence[_Atom]]
) -> list[Step]:
    """Reshape to pieces that move as one, Transpose them, Reshape to the result; without idle steps.

    Pieces may be the largest blocks that stay together, the axes of the result (no Reshape behind), or those
    of the input (no Reshape in front).
    """
    place = {atom: i for i, atom in enumerate(atom for atom in start if atom.size != 1)}
    outputs = [atom for axis in axes for atom in axis]
    final = [_size(axis) for axis in axes]
    blocks = _runs(outputs, lambda last, atom: place[atom] == place[last] + 1)
    if len(blocks) <= 1:
        return [] if list(shape) == final else [_to(final)]
    # of equals the first is taken: a Transpose at the end stands right before the MatMul that reads it
    chains = []
    if all(place[b] == place[a] + 1 for axis in axes for a, b in pairwise(axis)):
        chains.append(_by_pieces(shape, axes, final, place))
    chains.append(_by_pieces(shape, blocks, final, place))
    by_input = _runs(outputs, lambda last, atom: place[atom] == place[last] + 1 and atom.axis == last.axis)
    if len(by_input) == len({atom.axis for atom in outputs}):
        perm = [piece[0].axis for piece in by_input]
        perm += [i for i in range(len(shape)) if i not in perm]  # axes of size 1
        moved = [shape[i] for i in perm]
        chains.append([("Transpose", perm), *([] if moved == final else [_to(final)])])
    return min(chains, key=len)


def _runs(atoms: Sequence[_Atom], joins: Callable[[_Atom, _Atom], bool]) -> list[list[_Atom]]:
    """Cuts `atoms` wherever two neighbours do not join."""
    runs: list[list[_Atom]] = []
    for atom in atoms:
        if runs and joins(runs[-1][-1], atom):
            runs[-1].append(atom)
        else:
            runs.append([atom])
    return runs


def _by_pieces(
    shape: Sequence[int | None],
    pieces: Sequence[Sequence[_Atom]],
    final: list[int | None],
    place: dict[_Atom, int],
) -> list[Step]:
    """Pieces in the order of the result; one of size 1 has no atom and comes last in the input's order."""
    order = sorted(range(len(pieces)), key=lambda i: place[pieces[i][0]] if pieces[i] else len(place))
    middle = [_size(pieces[i]) for i in order]
    perm = [order.index(i) for i in range(len(pieces))]
    moved = [middle[i] for i in perm]
    chain: list[Step] = [] if list(shape) == middle else [_to(middle)]
    chain.append(("Transpose", perm))
    return chain if moved == final else [*chain, _to(final)]


def _size(atoms: Sequence[_Atom]) -> int | None:
    """Product of the sizes; None where the batch is in it, alone or with other factors.

    Lists of such sizes may be compared for all that: they describe one tensor, so if all other sizes are equal,
    those with the batch are too.
    """
    sizes = [atom.size for atom in atoms if atom.size is not None]
    return math.prod(sizes) if len(sizes) == len(atoms) else None


def _to(sides: Sequence[int | None]) -> Step:
    return "Reshape", [-1 if side is None else side for side in sides]
