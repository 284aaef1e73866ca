"""Instructions and loops of machine code: of text written by hand, and nothing may be dropped."""

from __future__ import annotations

import struct

import pytest

from edgefel.bench.kernels.model.sass import code_bytes, find_loops, parse_code
from edgefel.errors import EdgefelError


def listing(*lines: str, function: str = "f") -> str:
    """As cuobjdump writes it; a line of its own holds the second half of each encoding."""
    body = "".join(
        f"        /*{16 * number:04x}*/ {line} ;   /* 0x0000000000000000 */\n{' ' * 60}/* 0x000fe200 */\n"
        for number, line in enumerate(lines)
    )
    return f'\tcode for sm_90a\n\t\tFunction : {function}\n\t.headerflags\t@"EF_CUDA_SM90"\n{body}\t\t.....\n'


def loops(*lines: str) -> list[tuple[int, list[int]]]:
    """Numbers of the head and of the instructions of each loop."""
    found = find_loops(parse_code(listing(*lines), "f"))
    return [(loop.head // 16, sorted(address // 16 for address in loop.addresses)) for loop in found]


def test_an_instruction_has_predicate_opcode_and_operands():
    first, second, third = parse_code(
        listing("@!P0 BRA 0x20", "LDG.E.U16 R16, desc[UR18][R16.64]", "EXIT"), "f"
    )
    assert (first.predicate, first.base, first.target) == ("@!P0", "BRA", 32)
    assert (second.predicate, second.opcode, second.operands) == ("", "LDG.E.U16", "R16, desc[UR18][R16.64]")
    assert (third.address, third.falls_through, first.falls_through) == (32, False, True)


def test_only_the_function_that_is_asked_for_is_read():
    text = listing("NOP", "EXIT", function="other") + listing("EXIT")
    assert [one.opcode for one in parse_code(text, "f")] == ["EXIT"]
    with pytest.raises(EdgefelError, match="the disassembly has no function 'g'"):
        parse_code(text, "g")


@pytest.mark.parametrize("dropped", [0, 1])
def test_an_instruction_that_is_not_understood_is_an_error(dropped):
    lines = ["NOP", "FADD R1, R2, R3", "EXIT"]
    lines[dropped] = "??? R1"
    with pytest.raises(EdgefelError, match=f"f: no instruction was read at {16 * dropped:#x}"):
        parse_code(listing(*lines), "f")


def test_code_without_jumps_back_has_no_loop():
    assert loops("@P0 BRA 0x20", "FADD R1, R2, R3", "EXIT", "BRA 0x30") == []


def test_a_loop_is_from_its_head_to_the_jump_back():
    assert loops("NOP", "FADD R1, R2, R3", "@!P0 BRA 0x10", "EXIT") == [(1, [1, 2])]


def test_nested_loops_come_from_the_outside():
    lines = ("NOP", "NOP", "FADD", "@P0 BRA 0x20", "NOP", "@P1 BRA 0x10", "EXIT")
    assert loops(*lines) == [(1, [1, 2, 3, 4, 5]), (2, [2, 3])]


def test_two_ways_back_to_one_head_are_one_loop():
    lines = ("NOP", "@P0 BRA 0x40", "FADD", "BRA 0x10", "FMUL", "@P1 BRA 0x10", "EXIT")
    assert loops(*lines) == [(1, [1, 2, 3, 4, 5])]


def test_a_cold_part_that_lies_behind_the_exit_is_in_the_loop_and_an_exit_inside_is_not():
    lines = ("NOP", "@P0 BRA 0x60", "@P1 BRA 0x50", "@P2 BRA 0x10", "EXIT", "EXIT", "FADD", "BRA 0x20")
    assert loops(*lines) == [(1, [1, 2, 3, 6, 7])]
    exit_inside = ("NOP", "@!P0 BRA 0x40", "STG", "EXIT", "@P1 BRA 0x10", "EXIT")
    assert loops(*exit_inside) == [(1, [1, 4])]


def test_a_loop_may_be_left_by_a_call_that_does_not_return():
    """As ptxas writes long loops for sm_87."""
    assert loops("NOP", "FADD", "@P0 CALL.REL.NOINC 0x40", "BRA 0x10", "STG", "EXIT") == [(1, [1, 2, 3])]


def test_a_branch_on_a_uniform_predicate_may_fall_through():
    lines = ("NOP", "BRA.U UP0, 0x30", "FADD", "@P0 BRA 0x10", "EXIT")
    assert loops(*lines) == [(1, [1, 2, 3])]


def elf(sections: dict[str, int]) -> bytes:
    """Section headers alone: the size of each by name."""
    names = b"\0" + b"".join(name.encode() + b"\0" for name in sections) + b".shstrtab\0"
    header = struct.pack("<IIQQQQ", 0, 0, 0, 0, 0, 0) + bytes(24)
    places = [names.index(name.encode() + b"\0") for name in (*sections, ".shstrtab")]
    headers = [struct.pack("<IIQQQQ", place, 1, 0, 0, 64, size) + bytes(24)
               for place, size in zip(places, (*sections.values(), len(names)), strict=True)]  # fmt: skip
    start = 64 + len(names)
    first = bytearray(64)
    struct.pack_into("<Q", first, 0x28, start)
    struct.pack_into("<HHH", first, 0x3A, 64, len(headers) + 1, len(headers))
    return bytes(first) + names + header + b"".join(headers)


def test_the_size_of_the_code_is_that_of_its_own_section():
    cubin = elf({".text.f": 160, ".text.ff": 32})
    assert (code_bytes(cubin, "f"), code_bytes(cubin, "ff")) == (160, 32)
    with pytest.raises(EdgefelError, match="no code of 'g'"):
        code_bytes(cubin, "g")
    with pytest.raises(EdgefelError, match="is not an ELF file"):
        code_bytes(b"\x7fELF", "f")
