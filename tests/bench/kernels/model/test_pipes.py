"""Pipes, widths and products of instructions, by name."""

from __future__ import annotations

import pytest

from edgefel.bench.kernels.model.pipes import OTHER, PIPES, cycles, global_bytes, multiply_adds, pipe
from edgefel.bench.kernels.model.sass import Instruction


def one(opcode: str, predicate: str = "") -> Instruction:
    return Instruction(0, predicate, opcode, "")


@pytest.mark.parametrize(
    ("opcode", "expected"),
    [
        ("FFMA", "fma"),
        ("IMAD.MOV.U32", "fma"),
        ("LOP3.LUT", "alu"),
        ("F2FP.F16.F32.PACK_AB", "alu"),
        ("HADD2.F32", "fp16"),
        ("MUFU.EX2", "mufu"),
        ("LDGSTS.E.BYPASS.128", "lsu"),
        ("SHFL.BFLY", "lsu"),
        ("HGMMA.64x32x16.F32", "tensor"),
        ("UTCHMMA", "tensor"),
        ("UISETP.GE.U32.AND", "uniform"),
        ("ULDC.64", "uniform"),
        ("BAR.SYNC.DEFER_BLOCKING", "control"),
        ("WARPGROUP.ARRIVE", "control"),
        ("XYZ", OTHER),
    ],
)
def test_every_opcode_has_one_pipe(opcode, expected):
    assert pipe(one(opcode)) == expected


def test_what_never_executes_takes_its_place_in_issue_alone():
    assert pipe(one("LDS", "@!PT")) == "control"
    assert pipe(one("LDS", "@P1")) == "lsu"


def test_products_of_matrix_instructions():
    assert multiply_adds(one("HMMA.16816.F32")) == 2048
    assert multiply_adds(one("HGMMA.64x32x16.F32")) == 64 * 32 * 16 / 4
    assert multiply_adds(one("UTCHMMA")) is None
    assert multiply_adds(one("FFMA")) == 0


def test_bytes_that_a_warp_asks_for():
    assert [global_bytes(one(opcode)) for opcode in ("LDG.E.U16", "LDG.E", "STG.E.128", "LDSM.16.M88.4")] == [
        64, 128, 512, 0,
    ]  # fmt: skip


def test_cycles_of_a_partition():
    def of(opcode: str, arch: int = 90) -> dict[str, float]:
        return cycles({one(opcode): 10.0}, arch, 2048)

    assert set(of("FFMA")) == {*PIPES, "issue"}
    assert of("FFMA")["fma"] == of("FFMA")["issue"] == 10
    # integer products have half of the pipe
    assert of("IMAD.IADD")["fma"] == 20
    assert (of("LOP3.LUT")["alu"], of("LOP3.LUT", 120)["alu"]) == (20, 10)
    assert (of("MUFU.EX2")["mufu"], of("F2F.F32.F64")["mufu"]) == (80, 20)
    # one load/store unit for four partitions: 128 bytes in a cycle
    assert (of("LDS.128")["lsu"], of("LDG.E.U16")["lsu"], of("SHFL.BFLY")["lsu"]) == (160, 40, 40)
    assert of("HMMA.16816.F32")["tensor"] == 10 * 4 * 2048 / 2048
    assert of("BRA")["issue"] == 10
