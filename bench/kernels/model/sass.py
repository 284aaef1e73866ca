"""Machine code of a compiled kernel: its instructions, and the loops among them."""

from __future__ import annotations

import re
import struct
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgefel.errors import EdgefelError

BYTES = 16  # of an instruction, since Volta
_INSTRUCTION = re.compile(
    r"^\s*/\*([0-9a-f]{4,})\*/\s+(?:(@!?U?P\w+)\s+)?([A-Z][\w.]*)\s*(.*?)\s*;\s*(?:/\*|$)"
)
_FUNCTION = re.compile(r"^\s*Function : (\S+)")
_TARGET = re.compile(r"\b0x([0-9a-f]+)\b")
# opcodes after which the next instruction is not reached, unless a predicate guards them
_ENDS = {"BRA", "EXIT", "RET", "BRX", "JMP", "JMX", "KILL"}
# opcodes that go to the address they name; ptxas also leaves long loops by a call that does not return
_JUMPS = {"BRA", "CALL", "JMP"}


@dataclass(frozen=True)
class Instruction:
    """address: in bytes, from the function's first instruction. predicate: such as "@!P0", or ""."""

    address: int
    predicate: str
    opcode: str
    operands: str

    @property
    def base(self) -> str:
        """The opcode without modifiers."""
        return self.opcode.partition(".")[0]

    @property
    def target(self) -> int | None:
        """Address that a jump goes to."""
        if self.base not in _JUMPS:
            return None
        found = _TARGET.findall(self.operands)
        return int(found[-1], 16) if found else None

    @property
    def falls_through(self) -> bool:
        """Whether the next instruction may be reached. A jump may be conditional by its guard or an operand."""
        if self.base not in _ENDS or self.predicate:
            return True
        return self.base == "BRA" and "," in self.operands


@dataclass(frozen=True)
class Loop:
    """A natural loop: addresses of its instructions; head: of the first one that is executed."""

    head: int
    addresses: frozenset[int]


def disassemble(cubin: bytes, function: str, tool: Path) -> tuple[Instruction, ...]:
    """All instructions of `function`, by cuobjdump (`tool`). Raises EdgefelError if any is missing."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kernel.cubin"
        file.write_bytes(cubin)
        command = [str(tool), "--dump-sass", str(file)]
        result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    if result.returncode:
        raise EdgefelError(f"{tool.name}: {result.stderr.strip() or result.returncode}")
    code = parse_code(result.stdout, function)
    if len(code) * BYTES != (expected := code_bytes(cubin, function)):
        raise EdgefelError(
            f"{function}: {len(code)} instructions were read of {expected // BYTES}; "
            f"{tool.name} writes them in another form than this edgefel knows"
        )
    return code


def parse_code(text: str, function: str) -> tuple[Instruction, ...]:
    """Instructions of `function` in the output of cuobjdump --dump-sass. Raises EdgefelError for a gap between two."""
    found: list[Instruction] = []
    inside = False
    for line in text.splitlines():
        if name := _FUNCTION.match(line):
            inside = name[1] == function
        elif inside and (match := _INSTRUCTION.match(line)):
            found.append(Instruction(int(match[1], 16), match[2] or "", match[3], match[4]))
    if not found:
        raise EdgefelError(f"the disassembly has no function '{function}'")
    for number, instruction in enumerate(found):
        if instruction.address != number * BYTES:
            raise EdgefelError(f"{function}: no instruction was read at {number * BYTES:#x}")
    return tuple(found)


def code_bytes(cubin: bytes, function: str) -> int:
    """Size of the function's code, from the section headers of the ELF file."""
    try:
        (offset,) = struct.unpack_from("<Q", cubin, 0x28)
        size, count, names = struct.unpack_from("<HHH", cubin, 0x3A)
        headers = [struct.unpack_from("<IIQQQQ", cubin, offset + number * size) for number in range(count)]
        start = headers[names][4]
        for header in headers:
            first = start + header[0]
            if cubin[first : cubin.index(b"\0", first)].decode() == f".text.{function}":
                return header[5]
    except (struct.error, ValueError, IndexError):
        raise EdgefelError(f"{function}: its cubin is not an ELF file that can be read") from None
    raise EdgefelError(f"the cubin has no code of '{function}'")


def find_loops(code: Sequence[Instruction]) -> tuple[Loop, ...]:
    """Natural loops, outer ones before those inside them; jumps back to one head make one loop.

    A jump is a back edge if its target dominates it (Aho et al., "Compilers", section 9.6). What is reached from a
    loop but does not lead back to its head, such as its exit, is not in it, wherever it lies.
    """
    following = _edges(code)
    dominators = _dominators(following)
    before: dict[int, list[int]] = {address: [] for address in following}
    for address, targets in following.items():
        for target in targets:
            before[target].append(address)
    bodies: dict[int, set[int]] = {}
    for address, above in dominators.items():
        for head in following[address]:
            if head in above:
                body = bodies.setdefault(head, {head})
                waiting = [address]
                while waiting:
                    one = waiting.pop()
                    if one not in body:
                        body.add(one)
                        waiting += [other for other in before[one] if other in dominators]
    loops = [Loop(head, frozenset(_whole(body, code, following))) for head, body in bodies.items()]
    return tuple(sorted(loops, key=lambda loop: (-len(loop.addresses), loop.head)))


def _edges(code: Sequence[Instruction]) -> dict[int, list[int]]:
    """Basic blocks, by the address of their first instruction: the first ones of those that may follow."""
    last = code[-1].address
    leaders = {0}
    for instruction in code:
        if (target := instruction.target) is not None:
            leaders |= {target, instruction.address + BYTES}
        elif not instruction.falls_through or instruction.base == "EXIT":
            leaders.add(instruction.address + BYTES)
    starts = sorted(address for address in leaders if address <= last)
    following: dict[int, list[int]] = {}
    for number, start in enumerate(starts):
        end = (starts[number + 1] if number + 1 < len(starts) else last + BYTES) - BYTES
        final = code[end // BYTES]
        targets = [final.target] if final.target is not None else []
        if final.falls_through and end + BYTES <= last:
            targets.append(end + BYTES)
        following[start] = [target for target in dict.fromkeys(targets) if 0 <= target <= last]
    return following


def _dominators(following: dict[int, list[int]]) -> dict[int, frozenset[int]]:
    """For every block that can be reached, those that every way to it goes through, itself among them."""
    order: list[int] = []
    seen = {0}
    stack: list[tuple[int, Iterable[int]]] = [(0, iter(following[0]))]
    while stack:
        block, rest = stack[-1]
        for target in rest:
            if target not in seen:
                seen.add(target)
                stack.append((target, iter(following[target])))
                break
        else:
            order.append(block)
            stack.pop()
    order.reverse()
    everything = frozenset(order)
    found = dict.fromkeys(order, everything) | {0: frozenset({0})}
    before: dict[int, list[int]] = {block: [] for block in order}
    for block in order:
        for target in following[block]:
            before[target].append(block)
    changed = True
    while changed:
        changed = False
        for block in order[1:]:
            above = frozenset.intersection(*(found[other] for other in before[block])) | {block}
            if above != found[block]:
                found[block], changed = above, True
    return found


def _whole(blocks: set[int], code: Sequence[Instruction], following: dict[int, list[int]]) -> Iterable[int]:
    """Addresses of all instructions of these blocks."""
    starts = sorted(following)
    for number, start in enumerate(starts):
        if start in blocks:
            end = starts[number + 1] if number + 1 < len(starts) else code[-1].address + BYTES
            yield from range(start, end, BYTES)
