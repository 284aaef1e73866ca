"""Instructions of kernels that are known by hand, and the bound that follows from them."""

from __future__ import annotations

import pytest

from edgefel.bench.kernels.model.count import Plan, bound, count
from edgefel.bench.kernels.model.gpus import GPUS, Gpu
from edgefel.bench.kernels.model.sass import Instruction
from edgefel.errors import EdgefelError

pytest.importorskip("triton")
STEPS = 400


@pytest.fixture(scope="module")
def counted(compiled):
    """Of `counted_kernels.py`, by name and length of the chain of fused multiply-adds."""
    rows = compiled("counted_kernels.py", 90, 120)
    return {(row["arch"], row["name"], row["length"]): row for row in rows}


@pytest.mark.slow
@pytest.mark.parametrize("arch", [90, 120])
def test_every_fused_multiply_add_of_a_chain_is_counted(counted, arch):
    for length in (24, 48):
        straight = counted[arch, "straight", length]
        assert straight["ffma"] == straight["executed_ffma"] == length
        assert straight["loops"] == []
        for name in ("looped", "predicated"):
            found = counted[arch, name, length]
            assert [loop["FFMA"] for loop in found["loops"]] == [length]
            assert found["executed_ffma"] == 40 * length
        found = counted[arch, "nested", length]
        assert [loop["FFMA"] for loop in found["loops"]] == [length, length]
        assert found["executed_ffma"] == STEPS * length


@pytest.mark.slow
@pytest.mark.parametrize("arch", [90, 120])
@pytest.mark.parametrize("name", ["straight", "looped", "nested", "predicated", "unrolled"])
def test_a_longer_chain_adds_its_length_and_nothing_else(counted, arch, name):
    """The rest of the code is the same: a counter that drops or doubles instructions differs here."""
    short, long = counted[arch, name, 24], counted[arch, name, 48]
    assert long["per_unit"] - short["per_unit"] == pytest.approx(24)
    assert long["by_pipe"]["fma"] - short["by_pipe"]["fma"] == pytest.approx(24)
    assert sum(short["by_pipe"].values()) == pytest.approx(short["per_unit"])
    assert short["by_pipe"]["other"] == 0


@pytest.mark.slow
def test_an_unrolled_loop_is_worth_several_steps(counted):
    found = counted[90, "unrolled", 24]
    assert max(loop["FFMA"] for loop in found["loops"]) == 4 * 24
    assert found["loop_units"] == 4 * 128
    # a fourth of the counter and the jump for each
    assert found["per_unit"] < counted[90, "looped", 24]["per_unit"]


def code(*opcodes: str) -> list[Instruction]:
    """ "OPCODE operands" or "@P OPCODE operands"."""
    found = []
    for number, text in enumerate(opcodes):
        predicate, _, rest = text.rpartition("~")
        opcode, _, operands = rest.partition(" ")
        found.append(Instruction(16 * number, predicate, opcode, operands))
    return found


def plan(**how) -> Plan:
    values = {"unit": "score", "units": 64, "programs": 1, "warps": 1, "tile": 32, "trips": (2,)}
    return Plan(**values | {"l2_bytes": 0, "dram_bytes": 0} | how)


LOOP = ("S2R R0", *["FFMA R1, R1, R1, R1"] * 6, "MUFU.EX2 R2, R2", "@P0~BRA 0x10", "EXIT")


def test_a_loop_runs_as_often_as_the_plan_says():
    found = count(code(*LOOP), plan())
    assert found.loop == {"fma": 6, "mufu": 1, "control": 1}
    assert found.per_unit == 8
    assert sum(found.executed.values()) == 2 + 2 * 8
    assert found.whole_per_unit == 18 * 32 / 64
    assert found.warp_instructions == 18


def test_a_loop_that_runs_once_may_be_there_or_not():
    assert count(code(*LOOP), plan(trips=(1,))).warp_instructions == 10
    assert count(code(*LOOP), plan(trips=(1, 3))).warp_instructions == 2 + 3 * 8
    straight = count(code(*LOOP[:-2], "EXIT"), plan(trips=(1, 1)))
    assert (straight.warp_instructions, straight.loop_units) == (9, 32)


def test_loops_that_are_not_those_of_the_plan_are_refused():
    with pytest.raises(EdgefelError, match=r"1 nested loops were found, expected trips are \(3, 2\)"):
        count(code(*LOOP), plan(trips=(3, 2)))


HMMA = "HMMA.16816.F32 R0, R0, R0, R0"


def test_products_tell_how_often_the_loop_runs_and_how_many_warps_do_the_same():
    """A peeled iteration leaves one less for the loop; a warp that repeats another's products adds to neither."""
    peeled = (HMMA, "NOP", HMMA, *["NOP"] * 6, "@P0~BRA 0x20", "EXIT")
    found = count(code(*peeled), plan(trips=(5,), marker="products", per_unit=16 * 8 * 16 / 32))
    assert found.executed[code(*peeled)[2]] == 4
    assert found.redundancy == 1
    twice = count(code(*peeled), plan(trips=(5,), marker="products", per_unit=16 * 8 * 16 / 64))
    assert (twice.redundancy, twice.loop_units, twice.per_unit) == (2, 32, found.per_unit)


def test_a_tail_before_the_loop_is_a_fraction_of_an_iteration():
    tail = (HMMA, "NOP", HMMA, HMMA, *["NOP"] * 5, "@P0~BRA 0x20", "EXIT")
    found = count(code(*tail), plan(trips=(4.5,), marker="products", per_unit=2 * 16 * 8 * 16 / 32))
    assert found.executed[code(*tail)[2]] == 4
    unknown = [one.replace(HMMA, "UTCHMMA gdesc[UR4]") for one in tail]
    assert count(code(*unknown), plan(trips=(4.5,), marker="products")).executed[code(*unknown)[2]] == 4


def test_products_of_padding_may_be_left_out():
    """The compiler knows the scores of padded keys: 15 of 16 products of a tile stay."""
    body = (*[HMMA] * 15, "@P0~BRA 0x0", "EXIT")
    found = count(code(*body), plan(marker="products", per_unit=16 * 16 * 8 * 16 / 32))
    assert (found.redundancy, found.loop_units, found.executed[code(*body)[0]]) == (1, 32, 2)


def test_products_that_do_not_add_up_are_refused():
    body = (HMMA, *["NOP"] * 7, "@P0~BRA 0x0", "EXIT")
    with pytest.raises(EdgefelError, match="which is no multiple of a tile's 32"):
        count(code(*body), plan(marker="products", per_unit=100))


def test_a_loop_that_waits_for_a_barrier_is_no_loop():
    waiting = (*LOOP[:-1], "SYNCS.PHASECHK P1, [UR4]", "@!P1~BRA 0x90", "EXIT")
    assert count(code(*waiting), plan()).loop["fma"] == 6


GPU = Gpu(
    "A", multiprocessors=2, megahertz=1000, multiply_adds=1024, bytes_per_s=1e9, cache_bytes=1, source=""
)


def test_the_bound_is_of_the_busiest_multiprocessor_and_the_slowest_part():
    found = count(code(*LOOP), plan(programs=5, warps=4, units=5 * 64))
    limit = bound(found, GPU, 90)
    # three programs on one of two, each warp on a partition of its own; 8 cycles for an exponential
    assert limit["parts_us"]["issue"] == pytest.approx(3 * 18 / 1000)
    assert limit["parts_us"]["mufu"] == pytest.approx(3 * 2 * 8 / 1000)
    assert (limit["by"], limit["us"]) == ("issue", limit["parts_us"]["issue"])
    slow = count(code(*LOOP), plan(dram_bytes=5000, l2_bytes=64 * 2 * 7))
    limit = bound(slow, GPU, 90)
    assert (limit["by"], limit["us"]) == ("dram", 5)
    assert limit["parts_us"]["l2"] == pytest.approx(7 / 1000)


def test_the_longest_program_bounds_a_launch_of_few():
    """Two multiprocessors: three programs' average work on one of them, or the longest program alone."""
    few, many = (
        bound(count(code(*LOOP), plan(programs=programs, warps=4, longest=2.5)), GPU, 90)["parts_us"]["issue"]
        for programs in (3, 7)
    )
    assert (few, many) == (pytest.approx(2.5 * 18 / 1000), pytest.approx(3.5 * 18 / 1000))


def test_products_take_the_tensor_cores_at_least_their_time():
    found = count(code(*LOOP), plan(marker="products", per_unit=1024))
    assert bound(found, GPU, 110)["parts_us"]["tensor"] == pytest.approx(2 * 32 * 1024 / 1024 / 1000)


def test_global_bytes_are_of_all_lanes():
    moved = ("LDG.E.U16 R0", "LDG.E.128 R0", "STG.E R0", "LDS.128 R0", "LDGSTS.E.BYPASS.64 [R0]", "EXIT")
    assert count(code(*moved), plan(warps=2, programs=3)).requested_bytes == 32 * (2 + 16 + 4 + 8) * 2 * 3


def test_every_gpu_has_a_source():
    assert set(GPUS) == {87, 90, 110, 120}
    assert all(gpu.source.startswith("https://") for gpu in GPUS.values())
