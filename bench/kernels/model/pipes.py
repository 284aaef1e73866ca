"""Which pipe of a multiprocessor an instruction goes to, and for how many cycles it keeps it.

A multiprocessor has four partitions; each issues one instruction of a warp (32 lanes) per cycle. Rates are of the CUDA
C++ Programming Guide, "Throughput of Native Arithmetic Instructions", and of the architectures' white papers; names
and duties of the pipes are those of Nsight Compute's documentation, "Pipelines". Where two sources differ the faster
one stands, so that a time that follows stays a lower bound.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping

from edgefel.bench.kernels.model.sass import Instruction

PIPES = ("fma", "alu", "fp16", "mufu", "lsu", "tensor", "uniform", "control")
# no pipe is known for it
OTHER = "other"
_BASES = {
    "fma": "FFMA FMUL FADD FFMA2 FMUL2 FADD2 FFMA32I FMUL32I FADD32I FSWZADD IMAD IMUL IDP IDP4A FHADD FHFMA",
    "alu": "IADD IADD3 IADD32I LOP LOP3 LOP32I SHF SHL SHR LEA ISETP FSETP FSET FMNMX FMNMX3 FSEL SEL PRMT MOV MOV32I "
    "VIADD VIMNMX VIMNMX3 VIADDMNMX IMNMX IABS SGXT BMSK PLOP3 PSETP P2R R2P F2FP I2FP F2IP FCHK VOTE VABSDIFF "
    "VABSDIFF4 VHMNMX",
    "fp16": "HADD2 HFMA2 HMUL2 HSETP2 HSET2 HMNMX2 HADD2_32I HFMA2_32I HMUL2_32I HFMA2_MMA",
    "mufu": "MUFU I2F F2I F2F I2I FRND POPC FLO BREV",
    "lsu": "LDG LDS LDSM STS STSM STG LDGSTS LDL STL LD ST ATOM ATOMG ATOMS RED REDG REDS REDUX SHFL MATCH CCTL CCTLL "
    "LDTM STTM LDT STT LDGMC UBLKCP UTMALDG UTMASTG",
    "tensor": "HMMA HGMMA IMMA IGMMA QMMA QGMMA BMMA BGMMA DMMA OMMA UTCHMMA UTCIMMA UTCQMMA UTCOMMA",
    "uniform": "R2UR S2UR LDCU VOTEU",
    "control": "BRA BRX JMP JMX EXIT BSSY BSYNC BREAK BMOV CALL RET BAR DEPBAR LDGDEPBAR WARPSYNC NOP YIELD SYNCS "
    "MEMBAR ERRBAR FENCE ELECT S2R CS2R LDC WARPGROUP NANOSLEEP ENDCOLLECTIVE ACQBULK PREEXIT ARRIVES LEPC KILL BPT "
    "RPCMOV CGAERRBAR",
}
_PIPE = {base: pipe for pipe, bases in _BASES.items() for base in bases.split()}
_UNIFORM = re.compile(r"U[A-Z]")
_WIDTH = re.compile(r"\.(?:U|S)?(8|16|32|64|96|128|256)(?![\w])")
_MATRICES = re.compile(r"\.M88(?:\.(2|4))?")
_HMMA = {"16816": 16 * 8 * 16, "1688": 16 * 8 * 8, "1684": 16 * 8 * 4}
_HGMMA = re.compile(r"\.(\d+)x(\d+)x(\d+)")
# reads and writes of the memory that all multiprocessors see
_GLOBAL = {"LDG", "STG", "LDGSTS", "LD", "ST", "LDL", "STL"}


def pipe(instruction: Instruction) -> str:
    """One of PIPES, or OTHER. What a false predicate always stops takes its place in issue alone: control."""
    if instruction.predicate in ("@!PT", "@!UPT"):
        return "control"
    base = instruction.base
    return _PIPE.get(base) or ("uniform" if _UNIFORM.match(base) else OTHER)


def count_pipes(code: Iterable[Instruction]) -> Counter[str]:
    """Number of instructions of each pipe."""
    return Counter(pipe(instruction) for instruction in code)


def bytes_of_lane(instruction: Instruction) -> int:
    """Bytes that a load, a store or a copy moves for one lane."""
    if matrices := _MATRICES.search(instruction.opcode):
        return 4 * int(matrices[1] or 1)
    width = _WIDTH.search(instruction.opcode)
    return int(width[1]) // 8 if width else 4


def global_bytes(instruction: Instruction) -> int:
    """Bytes that a warp asks of global or local memory, all lanes active; 0 for everything else."""
    if pipe(instruction) != "lsu" or instruction.base not in _GLOBAL:
        return 0
    return 32 * bytes_of_lane(instruction)


def multiply_adds(instruction: Instruction) -> float | None:
    """Multiply-adds of a matrix instruction for each warp that issues it; None where its name does not tell."""
    if pipe(instruction) != "tensor":
        return 0
    if instruction.base == "HMMA":
        shape = next((part for part in instruction.opcode.split(".")[1:] if part in _HMMA), None)
        return None if shape is None else _HMMA[shape]
    if instruction.base == "HGMMA" and (found := _HGMMA.search(instruction.opcode)):
        rows, columns, depth = map(int, found.groups())
        return rows * columns * depth / 4  # the four warps of a group issue it together
    return None


def cycles(code: Mapping[Instruction, float], arch: int, multiply_adds_per_clock: int) -> dict[str, float]:
    """Cycles of one partition for each pipe, and for "issue". code: how often a warp executes each instruction.

    multiply_adds_per_clock: of a multiprocessor's tensor cores, in 16-bit types.
    """
    found = dict.fromkeys((*PIPES, "issue"), 0.0)
    heavy = 0.0
    for instruction, times in code.items():
        name = pipe(instruction)
        found["issue"] += times
        if name == "tensor":
            found[name] += times * 4 * (multiply_adds(instruction) or 0) / multiply_adds_per_clock
        elif name in found:
            found[name] += times * _cycles(name, instruction, arch)
        if instruction.base in ("IMAD", "IMUL"):
            heavy += times
    # of the two halves of the FMA pipe one multiplies integers: 64 lanes per multiprocessor
    found["fma"] = max(found["fma"], 2 * heavy)
    return found


def _cycles(name: str, instruction: Instruction, arch: int) -> float:
    if name == "alu":  # 64 lanes per multiprocessor; all 128 in Blackwell of compute capability 12
        return 1 if arch >= 120 else 2
    if name == "mufu":  # 16 lanes per multiprocessor; conversions 64
        return 8 if instruction.base == "MUFU" else 2
    if name == "lsu":  # one for all partitions: 128 bytes per cycle, and one instruction at most
        if instruction.base == "SHFL":
            return 4
        return 4 * max(1.0, bytes_of_lane(instruction) / 4)
    return 1 if name in ("fma", "fp16") else 0
