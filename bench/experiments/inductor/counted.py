"""Instructions of FlexAttention's and torch.compile's Triton kernels for window attention, without a GPU.

    python -m edgefel.bench.experiments.inductor.counted [--levels 1,2] [--batch 256] [--archs 87,90,110,120] >> FILE

Prints rows of the kind "kernel-model", one a line. Of torch.compile only the softmax with its bias is counted: the two
products beside it are cuBLAS's, and no code of theirs is here.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import ceil, isqrt
from pathlib import Path
from typing import Any

import torch

from edgefel.bench.environment import describe
from edgefel.bench.kernels.model.attention import attention_forward
from edgefel.bench.kernels.model.compiled import KIND, count_spec, metrics, subject
from edgefel.bench.kernels.model.count import Plan
from edgefel.bench.kernels.model.modelled import ModelledLaunch
from edgefel.bench.kernels.problems import pyramid_levels
from edgefel.bench.results import Row, make_row
from edgefel.errors import EdgefelError
from edgefel.kernels.ahead_of_time.kernel_spec import Argument, KernelSpec
from edgefel.kernels.backend import next_power_of_two

_KERNEL = re.compile(r"async_compile\.triton\('(\w+)', '''(.*?)'''", re.DOTALL)
_DECORATOR = re.compile(r"@triton_heuristics\.(\w+)\((.*?)\n\)\n@triton\.jit", re.DOTALL)
_MODULE = "inductor_kernels_"


@dataclass(frozen=True)
class Generated:
    """One kernel of Inductor's module. kind: of its heuristics, such as "template" or "reduction". signature: types of
    its arguments. warps, stages: 0 where Inductor tunes them. source: a module of its own."""

    name: str
    kind: str
    signature: dict[str, str]
    warps: int
    stages: int
    source: str

    def constant(self, name: str) -> int:
        """Value of a tl.constexpr in the source. Raises EdgefelError if there is none."""
        found = re.search(rf"^\s*{name} ?: tl\.constexpr = (\d+)", self.source, re.MULTILINE)
        if found is None:
            raise EdgefelError(f"{self.name}: has no constant {name}; this torch writes other code")
        return int(found[1])


def parse(code: str) -> list[Generated]:
    """The Triton kernels in Inductor's code."""
    found = []
    for name, source in _KERNEL.findall(code):
        decorator = _DECORATOR.search(source)
        signature = re.search(r"'signature': \{(.*?)\}", decorator[2]) if decorator else None
        if decorator is None or signature is None:
            raise EdgefelError(f"{name}: its decorator is not understood; this torch writes other code")
        types = dict(re.findall(r"'(\w+)': '(\*?\w+)'", signature[1]))
        numbers = {key: int(value) for key, value in re.findall(r"num_(warps|stages)=(\d+)", decorator[2])}
        plain = source.replace(decorator[0], "@triton.jit").replace("triton_helpers.set_driver_to_gpu()", "")
        found.append(
            Generated(name, decorator[1], types, numbers.get("warps", 0), numbers.get("stages", 0), plain)
        )
    return found


def launch(which: str, kernels: list[Generated], ours: ModelledLaunch, folder: Path) -> ModelledLaunch:
    """The kernel that has the scores, as a launch of the same problem as ours. Its module is written to `folder`, which
    must be on the path. Raises EdgefelError if there is none."""
    kind, word = ("template", "flex_attention") if which == "flex" else ("", "softmax")
    chosen = [one for one in kernels if one.kind.startswith(kind) and word in one.name]
    if len(chosen) != 1:
        raise EdgefelError(f"{which}: expected one kernel with the scores, got {len(chosen)}")
    (kernel,) = chosen
    plan, heads = ours.plan, ours.spec.constants["H"]
    m = isqrt(plan.units // (ours.batch * heads))
    if which == "flex":
        block_m, block_n = kernel.constant("BLOCK_M"), kernel.constant("BLOCK_N")
        programs, constants, warps, stages = (
            ceil(m / block_m) * heads * ours.batch,
            {},
            kernel.warps,
            kernel.stages,
        )
        row = 2 * ours.spec.constants["D"]
        plan = replace(
            plan, programs=programs, warps=warps, tile=block_m * block_n, trips=(ceil(m / block_n),),
            l2_bytes=programs * row * (2 * block_m + 2 * m), marker="",
        )  # fmt: skip
    else:
        # of the launches that Inductor would try: a row of scores to a program, four scores to a thread
        sizes = {"XBLOCK": 1, "R0_BLOCK": next_power_of_two(m)}
        programs, warps, stages = heads * m * ours.batch, max(1, sizes["R0_BLOCK"] // 128), 1
        numbers = {name: 0 for name, kind in kernel.signature.items() if kind == "i32"}
        constants = {**numbers, **{key: value for key, value in sizes.items() if key in kernel.signature}}
        # the scores are read and their softmax is written; the products that use them are other launches
        moved = 4.0 * plan.units
        plan = Plan("score", plan.units, programs, warps, m, (1,), moved, moved)
    module = f"{_MODULE}{which}_{m}"
    (folder / f"{module}.py").write_text(kernel.source)
    pointers = {name: kind[1:] for name, kind in kernel.signature.items() if kind.startswith("*")}
    arguments = tuple(Argument(name, kind, "") for name, kind in pointers.items())
    spec = KernelSpec(which, module, kernel.name, arguments, constants, 1, warps, stages)
    return replace(ours, spec=spec, plan=plan)


def rows(levels: list[int], batch: int, archs: list[int]) -> Iterator[Row]:
    """Of both implementations, for each level and target."""
    here = describe(packages=("torch", "triton"))
    with tempfile.TemporaryDirectory() as name:
        sys.path.insert(0, name)
        for problem in pyramid_levels(batch, torch.float16):
            if problem.level not in levels:
                continue
            ours = attention_forward(problem, archs[0])[-1]  # for the problem, whatever its kernel
            for which in ("flex", "compile"):
                code = _generate(which, problem.window, problem.heads, batch)
                one = launch(which, parse(code), ours, Path(name))
                for arch in archs:
                    found = metrics(*count_spec(one.spec, one.plan, arch), arch)
                    notes = ["its products are cuBLAS's and not counted"] if which == "compile" else []
                    named = subject(one, arch, which) | {"kernel": one.kernel}
                    yield replace(make_row(KIND, named, found, here, notes), command=_command())


def _command() -> str:
    """What was typed: a module is run by its path."""
    return shlex.join(["python", "-m", "edgefel.bench.experiments.inductor.counted", *sys.argv[1:]])


def _generate(which: str, *numbers: int) -> str:
    command = [
        sys.executable,
        "-m",
        "edgefel.bench.experiments.inductor.pretended",
        which,
        *map(str, numbers),
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
    if result.returncode:
        raise EdgefelError((result.stderr.strip().splitlines() or [which])[-1].removeprefix("error: "))
    return result.stdout


def main(arguments: list[str] | None = None) -> int:
    """Prints the rows; exit code 2 with one line where there are none."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )

    def numbers(text: str) -> list[int]:
        return [int(part) for part in text.split(",")]

    parser.add_argument("--levels", type=numbers, default=[1, 2])
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--archs", type=numbers, default=[87, 90, 110, 120])
    options: Any = parser.parse_args(arguments)
    try:
        for row in rows(options.levels, options.batch, options.archs):
            print(json.dumps(row.to_dict()), flush=True)
    except EdgefelError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
