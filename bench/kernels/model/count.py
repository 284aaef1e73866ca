"""What a kernel executes: instructions per unit of its work, and the time that no launch of it can beat."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, prod
from typing import Any

from edgefel.bench.kernels.model.gpus import L2_BYTES_PER_CLOCK, Gpu
from edgefel.bench.kernels.model.pipes import (
    OTHER,
    PIPES,
    count_pipes,
    cycles,
    global_bytes,
    multiply_adds,
    pipe,
)
from edgefel.bench.kernels.model.sass import Instruction, Loop, find_loops
from edgefel.errors import EdgefelError

PARTITIONS = 4  # of a multiprocessor, each with a scheduler
# instructions of a loop that waits for a barrier and does nothing else
_WAITING = 6
# amounts by which the units of a piece of code are known, for one instruction of a warp; None: it does not tell
MARKERS: dict[str, Callable[[Instruction], float | None]] = {
    "": lambda one: None,
    "products": multiply_adds,
    "stores": lambda one: global_bytes(one) if one.base == "STG" else 0,
    "ffma": lambda one: {"FFMA": 32, "FFMA2": 64}.get(one.base, 0),
    "fadd": lambda one: {"FADD": 32, "FADD2": 64}.get(one.base, 0),
}


@dataclass(frozen=True)
class Plan:
    """What is known of a launch before its code is read.

    unit: what instructions are counted by, such as "score". units: useful ones of the whole launch. programs: of the
    launch; warps: of a program. tile: units that one run of the inner loop's body handles in the source, padding
    included; trips: how often that body and each loop around it run for a program, outermost first, on average where
    programs differ; longest: what the longest program does, as a multiple of the average. l2_bytes: distinct
    bytes that the programs read and write, each program by itself. dram_bytes: every input once, every output once.
    marker: of MARKERS, by which unrolling and repeated work are found; per_unit: of it for one unit. contains: an
    opcode that the inner loop must have, where there are several.
    """

    unit: str
    units: int
    programs: int
    warps: int
    tile: int
    trips: tuple[float, ...]
    l2_bytes: float
    dram_bytes: float
    marker: str = ""
    per_unit: float = 1
    contains: str = ""
    longest: float = 1


@dataclass(frozen=True)
class Count:
    """Instructions of a launch.

    loop: of one iteration of the inner loop, one warp, by pipe; the whole code where there is no loop. loop_units: that
    an iteration handles, of all warps. executed: how often a warp executes each instruction. unknown: opcodes whose
    pipe is not known. redundancy: how many warps compute each product.
    """

    plan: Plan
    loop: Mapping[str, int]
    loop_units: float
    executed: Mapping[Instruction, float]
    unknown: tuple[str, ...]
    redundancy: int = 1

    @property
    def per_unit(self) -> float:
        """Instructions of the inner loop for one unit, lanes of all warps taken together."""
        return sum(self.loop.values()) * self._lanes / self.loop_units

    @property
    def by_pipe(self) -> dict[str, float]:
        """`per_unit` for each pipe."""
        return {name: self.loop.get(name, 0) * self._lanes / self.loop_units for name in (*PIPES, OTHER)}

    @property
    def whole_per_unit(self) -> float:
        """Instructions of the whole launch, padding included, for one useful unit."""
        return sum(self.executed.values()) * self._lanes * self.plan.programs / self.plan.units

    @property
    def warp_instructions(self) -> float:
        """Of the whole launch: what a profiler counts as executed."""
        return sum(self.executed.values()) * self.plan.warps * self.plan.programs

    @property
    def requested_bytes(self) -> float:
        """Bytes that loads, stores and copies ask of global memory, all lanes active; caches answer most."""
        asked = sum(global_bytes(one) * times for one, times in self.executed.items())
        return asked * self.plan.warps * self.plan.programs

    @property
    def _lanes(self) -> int:
        return 32 * self.plan.warps


def count(code: Sequence[Instruction], plan: Plan) -> Count:
    """Instructions of a launch from its code. Raises EdgefelError where its loops are not those of the plan."""
    nest = _nest(find_loops(code), code, plan)
    if not nest:
        return _counted(plan, code, plan.tile * prod(plan.trips), dict.fromkeys(code, 1.0))
    inner = [one for one in code if one.address in nest[-1].addresses]
    repeats = _repeats(inner, plan)
    trips = _trips(nest, code, plan, repeats)
    units = plan.tile if plan.marker == "products" else plan.tile * repeats
    return _counted(plan, inner, units, {one: _times(one, nest, trips) for one in code}, repeats)


def _counted(
    plan: Plan,
    inner: Sequence[Instruction],
    units: float,
    executed: Mapping[Instruction, float],
    repeats: float = 1,
) -> Count:
    unknown = sorted({one.opcode for one in executed if pipe(one) == OTHER})
    redundancy = int(repeats) if plan.marker == "products" else 1
    return Count(plan, count_pipes(inner), units, executed, tuple(unknown), redundancy)


def _times(instruction: Instruction, nest: Sequence[Loop], trips: Sequence[float]) -> float:
    """How often it runs; loops beside the nest count once, which leaves the bound a lower one."""
    around = zip(nest, trips, strict=False)
    return prod((often for loop, often in around if instruction.address in loop.addresses), start=1.0)


def _nest(loops: Sequence[Loop], code: Sequence[Instruction], plan: Plan) -> list[Loop]:
    """The main inner loop, behind those around it from the outermost on; empty if all loops were unrolled.

    The main one has the most matrix instructions, then the most of all; loops that only wait for a barrier are none.
    """

    def instructions(loop: Loop) -> list[Instruction]:
        return [one for one in code if one.address in loop.addresses]

    def work(loop: Loop) -> tuple[int, int]:
        return sum(pipe(one) == "tensor" for one in instructions(loop)), len(loop.addresses)

    loops = [loop for loop in loops if len(loop.addresses) > _WAITING]
    inner = [one for one in loops if not any(other.addresses < one.addresses for other in loops)]
    if plan.contains:
        inner = [one for one in inner if any(each.base == plan.contains for each in instructions(one))]
    if not inner:
        return []
    main = max(inner, key=work)
    around = [loop for loop in loops if main.addresses <= loop.addresses]
    return sorted(around, key=lambda loop: -len(loop.addresses))


def _marked(code: Sequence[Instruction], plan: Plan) -> float | None:
    """Units that these instructions of a program handle, by the plan's marker; None where that is not known."""
    total = 0.0
    for instruction in code:
        each = MARKERS[plan.marker](instruction)
        if each is None:
            return None
        total += each
    return total * plan.warps / plan.per_unit or None


def _repeats(inner: Sequence[Instruction], plan: Plan) -> float:
    """How many tiles an iteration of the loop is worth, by the marker; 1 where that does not tell.

    More than one of products: warps that share a small tile compute it each for itself. Of the other markers: the
    compiler unrolled the loop. Work on padding may be left out, so the number is rounded.
    """
    units = _marked(inner, plan)
    if units is None:
        return 1
    repeats = max(1, round(units / plan.tile))
    # of a tile of 16 columns or more at most half can be padding, of both products one
    if plan.marker == "products" and not 0.74 < units / plan.tile / repeats <= 1:
        raise EdgefelError(
            f"an iteration multiplies for {units:g} {plan.unit}s, which is no multiple of a tile's {plan.tile}"
        )
    return repeats


def _trips(nest: Sequence[Loop], code: Sequence[Instruction], plan: Plan, repeats: float) -> list[float]:
    """How often each loop of the nest runs.

    Products outside of the inner loop, of a tail or of an iteration that was peeled off, leave fewer for it.
    """
    known = list(plan.trips)
    if len(known) != len(nest):
        # a loop that runs once is none, where the compiler knows it
        known = [trip for trip in known if trip != 1]
    if len(known) != len(nest):
        raise EdgefelError(f"{len(nest)} nested loops were found, expected trips are {plan.trips}")
    around = known[:-1]
    if plan.marker != "products":
        return [*around, known[-1] / repeats]
    outside = 0.0
    for one in code:
        if one.address not in nest[-1].addresses:
            # of one run of the loop around the inner one
            outside += (_marked([one], plan) or 0) * _times(one, nest[:-1], around) / prod(around)
    if not outside:
        # what a fraction of an iteration stands for lies outside, in instructions that do not tell their products
        return [*around, float(int(known[-1]))]
    trips = known[-1] - outside / plan.tile / repeats
    if trips <= 0 or abs(trips - round(trips)) > 1e-6:
        raise EdgefelError(f"the inner loop would run {trips:g} times; its loops are not understood")
    return [*around, trips]


def bound(found: Count, gpu: Gpu, arch: int) -> dict[str, Any]:
    """Microseconds that a launch takes at least: by issue, by each pipe, by the L2 cache and by memory; "us" and "by"
    of the largest. Programs are spread evenly: the busiest multiprocessor has the number rounded up, or the longest."""
    plan = found.plan
    per_program = cycles(found.executed, arch, gpu.multiply_adds)
    if plan.marker == "products":
        # also where the instructions do not tell how much they multiply
        products = plan.tile * prod(plan.trips) * plan.per_unit / plan.warps
        per_program["tensor"] = max(per_program["tensor"], PARTITIONS * products / gpu.multiply_adds)
    programs = plan.programs / gpu.multiprocessors
    share = (ceil(programs) if plan.longest == 1 else max(programs, plan.longest)) * plan.warps / PARTITIONS
    parts = {name: gpu.microseconds(each * share) for name, each in per_program.items()}
    parts["l2"] = gpu.microseconds(plan.l2_bytes / (L2_BYTES_PER_CLOCK * gpu.multiprocessors))
    parts["dram"] = 1e6 * plan.dram_bytes / gpu.bytes_per_s
    by = max(parts, key=lambda name: parts[name])
    return {"us": parts[by], "by": by, "parts_us": parts}
