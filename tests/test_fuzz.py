"""Five hundred broken files, by the rules of tools/fuzz_inputs.py: each is taken, or refused in one line."""

from __future__ import annotations

import random
import sys
from collections import Counter
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "tools"))
import mutations
from fuzz_inputs import PASSES, TARGETS, attempt, inputs_of, plan, write_seeds

SEED = 3
COUNT = 500


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEFEL_CACHE", str(folder / "cache"))
        write_seeds(folder)
        yield folder


def test_sound_files_are_taken(work, monkeypatch):
    """Else every broken one would be refused for another reason."""
    for kind, target in TARGETS.items():
        unspoilt = {
            **TARGETS,
            kind: type(target)(1, target.file, target.command, lambda path, rng: path.read_bytes()),
        }
        monkeypatch.setattr("fuzz_inputs.TARGETS", unspoilt)
        outcome, text = attempt(work, kind, 0, SEED)
        # these are given no data, so that a file that is taken costs nothing more
        wanted = (
            "refused in one line" if "nowhere" in target.command or kind == "calibration set" else "taken"
        )
        assert outcome == wanted, (kind, text)


@pytest.mark.slow
def test_every_broken_file_is_taken_or_refused_in_one_line(work):
    outcomes: Counter[str] = Counter()
    for kind, number in plan(COUNT, SEED):
        outcome, text = attempt(work, kind, number, SEED)
        assert outcome in PASSES, f"{kind} {number}: {outcome}: {text}"
        outcomes[outcome] += inputs_of(kind)
    assert sum(outcomes.values()) >= COUNT
    assert min(outcomes.values()) > COUNT / 20  # neither everything nor nothing is refused


def test_the_same_seed_breaks_a_file_in_the_same_way():
    document = {"a": [1, {"b": "c"}], "d": None}
    for mutate, value in (
        (mutations.mutate_json, document),
        (mutations.mutate_lines, [document, document]),
        (mutations.mutate_csv, "path,label\na,b\n"),
        (mutations.mutate_text, "a: 1\nb: [2]\n"),
        (mutations.mutate_bytes, bytes(range(256))),
    ):
        made = [[mutate(value, random.Random(f"{n}")) for n in range(40)] for _ in range(2)]
        assert made[0] == made[1]
        assert len(set(made[0])) > 20
    assert document == {"a": [1, {"b": "c"}], "d": None}
