"""A run of the bench at small sizes on the CPU: what is chosen, rows as they come, and going on after a stop."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from edgefel.bench.environment import describe
from edgefel.bench.kernels import competitors, run
from edgefel.bench.kernels.gpu import Ceilings
from edgefel.bench.kernels.problems import AttentionProblem
from edgefel.bench.kernels.run import Rig, Selection, from_row, kernel_rows, measure_kernels, to_row
from edgefel.bench.kernels.suite import KernelRow
from edgefel.bench.results import read_results
from edgefel.bench.timer import TimingPlan, measure
from edgefel.errors import EdgefelError

pytest.importorskip("triton")
CEILINGS = Ceilings(1e9, 1e9, 1e9)
NAMES = (competitors.OURS, "eager")


@pytest.fixture
def rig() -> Rig:
    timer = partial(measure, plan=TimingPlan(warmup=0, settle_seconds=0, min_runs=1, max_runs=1))
    return Rig(
        torch.device("cpu"), timer, None, lambda dtype: CEILINGS, {"device": "A", "commit": "c"} | describe()
    )


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    """Windows of three tokens instead of the full model's."""
    monkeypatch.setattr(
        run,
        "pyramid_levels",
        lambda batch, dtype: [AttentionProblem(level, 3, 1, 16, batch, dtype) for level in (1, 2, 3)],
    )


def attention(**how) -> Selection:
    values = {"batches": (2,), "dtypes": ("fp32",), "levels": (1, 3), "names": NAMES, "modes": ("forward",)}
    return Selection(**values | how)


def test_the_default_is_a_few_dozen_compilations():
    """torch.compile and FlexAttention each compile every step, most of them forward and backward."""
    steps = Selection().steps()
    assert sum(len({"compile", "flex"} & set(step.names)) for step in steps) <= 40
    assert {step.problem.batch for step in steps} == {64, 1}
    assert {step.problem.op for step in steps} == {
        "window_cross_attention", "pool_patches", "pool_tokens", "reliability_balance",
    }  # fmt: skip
    assert [step.mode for step in steps] == sorted(step.mode for step in steps), "forward first"


def test_levels_batches_modes_and_implementations_are_chosen():
    steps = attention(batches=(4, 1), modes=("forward+backward",)).steps()
    assert [(step.problem.level, step.problem.batch, step.names) for step in steps] == [
        (1, 4, NAMES), (3, 4, NAMES), (1, 1, NAMES), (3, 1, NAMES),
    ]  # fmt: skip
    everything = Selection(names=("sdpa-math",)).steps()
    assert {step.problem.op for step in everything} == {"window_cross_attention"}, "others have no SDPA"
    for wrong in ({"levels": (4,)}, {"names": ("cublas",)}, {"dtypes": ("int8",)}, {"modes": ("backward",)}):
        with pytest.raises(EdgefelError):
            Selection(**wrong)


def test_rows_are_in_the_file_after_every_comparison(rig, tmp_path, monkeypatch):
    path = tmp_path / "new" / "kernels.jsonl"
    found = []
    right = run.compare

    def compare(*arguments, **options):
        found.append(len(read_results(path).rows) if path.exists() else 0)
        return right(*arguments, **options)

    monkeypatch.setattr(run, "compare", compare)
    rows = measure_kernels(attention(), rig, path)
    assert found == [0, 2]
    assert [row.to_dict() for row in read_results(path).rows] == [row.to_dict() for row in rows]
    assert [row.subject["implementation"] for row in rows] == [*NAMES, *NAMES]
    assert all(row.metrics["ms_p50"] > 0 for row in rows)
    assert rows[0].metrics["ceilings"]["bytes_per_s"] == 1e9


def test_a_stopped_run_goes_on_where_it_was(rig, tmp_path, monkeypatch):
    path = tmp_path / "kernels.jsonl"
    first = measure_kernels(attention(levels=(1,)), rig, path)
    made = []
    right = run.compare
    monkeypatch.setattr(
        run,
        "compare",
        lambda problem, *rest, **how: made.append(problem.level) or right(problem, *rest, **how),
    )
    rows = measure_kernels(attention(), rig, path)
    assert made == [3]
    assert [row.to_dict() for row in rows[:2]] == [row.to_dict() for row in first]
    assert len(read_results(path).rows) == 4
    # of another commit or device they would be other measurements
    other = Rig(rig.device, rig.timer, rig.memory, rig.ceilings, rig.environment | {"commit": "d"})
    made.clear()
    measure_kernels(attention(), other, path)
    assert made == [1, 3]


def test_what_was_measured_before_a_failure_is_kept(rig, tmp_path, monkeypatch):
    path = tmp_path / "kernels.jsonl"
    right = run.compare

    def compare(problem, *rest, **how):
        if problem.level == 3:
            raise EdgefelError("wrong")
        return right(problem, *rest, **how)

    monkeypatch.setattr(run, "compare", compare)
    with pytest.raises(EdgefelError):
        measure_kernels(attention(), rig, path)
    assert len(read_results(path).rows) == 2


def test_a_row_comes_back_as_it_was():
    timed = KernelRow("op", "level 1", 8, "fp16", "forward", "edgefel", ms_p50=0.25, ms_p90=0.3, error=0.0)
    failed = KernelRow("op", "level 1", 8, "fp16", "forward", "flex", note="does not run: no")
    wrong = KernelRow(
        "op", "level 1", 8, "fp16", "forward", "sdpa-math", error=float("inf"), note="wrong; not timed"
    )
    environment = {"device": "a GPU"}
    assert [from_row(to_row(one, None, environment)) for one in (timed, failed)] == [timed, failed]
    assert from_row(to_row(wrong, None, environment)).error is None
    assert kernel_rows([to_row(timed, CEILINGS, environment)]) == [timed]
