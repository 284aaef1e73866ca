"""The parts of the experiment that need no cluster."""

from __future__ import annotations

import json
import signal
from types import SimpleNamespace

from runtime.bulk.sets import make_folder, network

from edgefel.bench.experiments import cluster
from edgefel.bench.experiments.cluster import _files, _Killer, _rate, _rows
from edgefel.tasks.threads import Threads


def test_the_last_machine_is_killed_once_when_half_is_done(monkeypatch):
    killed = []
    monkeypatch.setattr(cluster.os, "kill", lambda pid, number: killed.append((pid, number)))
    monkeypatch.setattr(cluster, "_with_children", lambda pid: [pid, 10 * pid])

    def node(pid):
        return SimpleNamespace(all_processes={"raylet": [SimpleNamespace(process=SimpleNamespace(pid=pid))]})

    killer = _Killer(SimpleNamespace(list_all_nodes=lambda: [node(1), node(2), node(3)]), 10)
    for _ in range(5):
        killer.progress(4)
    assert killed == [(30, signal.SIGKILL), (3, signal.SIGKILL)]
    assert killer.at == 12


def test_rows_differ_by_what_was_learned_alone(tmp_path):
    for name, seconds, accuracy in (("a", 1.0, 0.5), ("b", 2.0, 0.5), ("c", 1.0, 0.6)):
        (tmp_path / name / "head").mkdir(parents=True)
        row = {"subject": {"seed": 0}, "metrics": {"seconds": seconds, "accuracy": accuracy}, "time": seconds}
        (tmp_path / name / "head/rows.jsonl").write_text(json.dumps(row) + "\n")
    assert _rows(tmp_path / "a") == _rows(tmp_path / "b") != _rows(tmp_path / "c")


def test_a_rate_is_of_the_parts_after_the_first(tmp_path):
    images = make_folder(tmp_path / "images", 400)
    listed = tmp_path / "list.csv"
    listed.write_text("path\n" + "".join(f"{file}\n" for file in sorted(images.rglob("*.png"))))
    assert _rate(Threads(1), listed, network(tmp_path), tmp_path / "out") > 0
    assert len(_files(tmp_path / "out")) == 9
