"""Five hundred broken files, by the rules of fuzz_inputs.py: each is taken, or refused in one line."""

from __future__ import annotations

import os
import random
import shutil
from collections import Counter
from pathlib import Path

import mutations
import pytest
from fuzz_inputs import PASSES, TARGETS, attempt, inputs_of, plan, run, write_seeds

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


ODD_CONTENTS = {
    "nothing": b"",
    "zeros": bytes(3000),
    "a cell without end": b"path,label\n" + b"x" * 140_000 + b",neutral\n",
    "a quote without end": b'path,label\n"a,neutral\n' + b"b,neutral\n" * 20_000,
    "UTF-16": '{"a": 1}\npath,label\n'.encode("utf-16"),
    "half of UTF-16": b"\xff\xfe{",
    "Latin-1": "path,label\nä,ö\n".encode("latin-1"),
    "deep JSON": b"[" * 200_000,
    "a long number": b"9" * 5000,
    "another kind of JSON": b"[]",
    "an image": b"\x89PNG\r\n\x1a\n" + bytes(100),
}


@pytest.mark.parametrize("kind", [kind for kind, target in TARGETS.items() if target.file != "images"])
def test_odd_files_in_the_place_of_others(work, kind):
    target = TARGETS[kind]
    path = work / target.file
    sound = path.read_bytes()

    def check(what: str) -> None:
        shutil.rmtree(work / "crops", ignore_errors=True)  # what else is written is written over
        outcome, text = run(work, target)
        assert outcome in PASSES, (kind, what, outcome, text)

    try:
        for what, content in ODD_CONTENTS.items():
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
            check(what)
        for what, make in (
            ("pipe", os.mkfifo),
            ("folder", Path.mkdir),
            ("dangling link", lambda place: place.symlink_to("nowhere")),
            ("loop", lambda place: place.symlink_to(place.name)),
            ("device", lambda place: place.symlink_to("/dev/zero")),
        ):
            path.parent.mkdir(exist_ok=True)
            path.unlink(missing_ok=True)
            make(path)
            check(what)
            if path.is_dir() and not path.is_symlink():
                path.rmdir()
    finally:
        path.unlink(missing_ok=True)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(sound)


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
