"""Reading cuobjdump's report, and the occupancy estimate against examples worked out by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgefel.errors import EdgefelError
from edgefel.kernels.ahead_of_time import resources
from edgefel.kernels.ahead_of_time.resources import (
    Resources,
    blocks_per_multiprocessor,
    occupancy,
    parse_resources,
    read_resources,
)

REPORT = """
Resource usage:
 Common:
  GLOBAL:0
 Function other:
  REG:12 STACK:0 SHARED:0 LOCAL:0 CONSTANT[0]:380 TEXTURE:0 SURFACE:0 SAMPLER:0
 Function forward_kernel:
  REG:224 STACK:16 SHARED:1024 LOCAL:8 CONSTANT[0]:404 TEXTURE:0 SURFACE:0 SAMPLER:0
"""
CODE = """
        /*0210*/                   STL [R1], R4 ;
        /*0220*/                   STL.64 [R1+0x8], R6 ;
        /*0230*/                   LDL.LU R4, [R1] ;
        /*0240*/                   LDL.128 R4, [R1+0x10] ;
        /*0250*/                   LDG.E R4, [R2] ;
"""


def test_a_report_is_read_for_its_own_function():
    found = parse_resources(REPORT, CODE, "forward_kernel", shared=20_000)
    assert found == Resources(224, 16, 8, spill_store_bytes=12, spill_load_bytes=20, shared_bytes=20_000)
    assert parse_resources(REPORT, "", "other", shared=0) == Resources(12, 0, 0, 0, 0, shared_bytes=0)


def test_spills_are_counted_where_there_is_a_stack(monkeypatch):
    said = {"--dump-resource-usage": REPORT, "--dump-sass": CODE}
    monkeypatch.setattr(resources, "_call", lambda command: said[command[1]])
    found = [read_resources(b"", name, Path("cuobjdump"), 0) for name in ("forward_kernel", "other")]
    assert [(one.spill_store_bytes, one.spill_load_bytes) for one in found] == [(12, 20), (0, 0)]


@pytest.mark.parametrize(
    ("report", "message"),
    [("", "no function"), (" Function forward_kernel:\n  REG:3", "no LOCAL, SHARED, STACK")],
)
def test_a_report_without_the_numbers_is_an_error(report, message):
    with pytest.raises(EdgefelError, match=message):
        parse_resources(report, "", "forward_kernel", shared=0)


@pytest.mark.parametrize(
    ("registers", "shared", "warps", "arch", "blocks"),
    [
        (32, 0, 4, 80, 16),  # 2048 threads
        (64, 0, 4, 80, 8),  # 65536 registers / (64 * 32 * 4)
        (80, 12288, 4, 87, 6),  # 65536 / 10240
        (65, 0, 4, 80, 7),  # registers are given out by 8: 72
        (32, 50_000, 4, 80, 3),  # 164 KiB / (50000 + 1024)
        (32, 50_000, 4, 75, 1),  # 64 KiB, nothing reserved
        (16, 0, 1, 87, 16),  # the limit of blocks
        (255, 101_000, 8, 87, 1),
    ],
)
def test_blocks_that_fit(registers, shared, warps, arch, blocks):
    found = Resources(registers, 0, 0, 0, 0, shared)
    assert blocks_per_multiprocessor(found, warps, arch) == blocks


def test_occupancy_is_the_share_of_resident_threads():
    assert occupancy(Resources(80, 0, 0, 0, 0, 12288), 4, 87) == pytest.approx(6 * 128 / 1536)
