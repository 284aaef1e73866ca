"""Leaks that planted_leak.py plants are what it says, and docs/data-preparing.md quotes what was found of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from edgefel.bench.experiments.planted_leak import EACH, KINDS, found_pairs, plant
from edgefel.data.inspection.inspect import inspect_dataset
from edgefel.data.open import open_dataset
from edgefel.tasks.threads import Threads

ROOT = Path(__file__).resolve().parents[3]


def test_exact_copies_are_all_found_and_others_mostly(faces_folder, tmp_path, monkeypatch):
    shutil.copytree(faces_folder, tmp_path / "faces")
    monkeypatch.chdir(tmp_path)
    assert found_pairs(inspect_dataset(open_dataset("faces")).to_dict()) == set()
    leaks = plant(Path("faces"))
    found = found_pairs(inspect_dataset(open_dataset("faces"), runner=Threads(2)).to_dict())
    assert list(leaks) == list(KINDS)
    for kind, own in leaks.items():
        assert len(own) == EACH
        assert sum(pair in found for pair in own) >= (EACH if kind == "exact copy" else 0.8 * EACH)
    assert found <= {pair for own in leaks.values() for pair in own}


def test_the_page_quotes_the_committed_result():
    document = json.loads((ROOT / "docs/results/planted-leaks.json").read_text())
    page = " ".join((ROOT / "docs/data-preparing.md").read_text().split())
    for kind in KINDS:
        row = document["planted"][kind]
        assert row["planted"] == EACH
        assert f"| {kind} | {row['found']} of {EACH} |" in page
    clean = document["clean"]
    assert f"split test of {clean['images']:,} synthetic faces" in page
    assert f"{clean['found']} of {clean['pairs']:,} pairs were taken to be alike" in page
