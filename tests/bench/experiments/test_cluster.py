"""The parts of the experiment that need no cluster."""

from __future__ import annotations

import json
import signal
from types import SimpleNamespace

from runtime.bulk.sets import make_folder, network

from edgefel.bench.experiments import cluster
from edgefel.bench.experiments.cluster import _Killer, _rate, _rows
from edgefel.runtime.bulk.plan import plan_labelling
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


def test_ways_take_turns_until_the_time_is_over(monkeypatch):
    now, order = iter((0, 100, 399, 400)), []
    monkeypatch.setattr(cluster.time, "monotonic", lambda: next(now))
    ways = {name: lambda name=name: order.append(name) or len(order) for name in "ab"}
    rates = cluster._in_turn(ways, 400)
    # three repeats without a look at the clock, and one for each look but the last
    assert "".join(order) == "abbaabbaab"
    assert rates == {"a": [1, 4, 5, 8, 9], "b": [2, 3, 6, 7, 10]}


def test_a_rate_is_of_the_parts_after_the_first(tmp_path):
    images = make_folder(tmp_path / "images", 400)
    listed = tmp_path / "list.csv"
    listed.write_text("path\n" + "".join(f"{file}\n" for file in sorted(images.rglob("*.png"))))
    plan, net = plan_labelling(str(listed), 50), network(tmp_path)
    assert _rate(Threads(2), plan, net, tmp_path / "out", 2) > 0
    assert not (tmp_path / "out").exists()
    assert cluster._label_apart(net, plan.parts[:3]) > 0


def test_a_rate_leaves_out_the_beginning_and_the_end(tmp_path, monkeypatch):
    """Of eight results of 50 images: a pair in 3 s, but slow ones at both ends."""
    times = iter((10, 20, 30, 30, 33, 33, 36, 90))
    monkeypatch.setattr(cluster.time, "perf_counter", lambda: next(times))

    def label(plan, network, output, runner, progress):
        output.mkdir()
        for _ in range(8):
            progress()

    monkeypatch.setattr(cluster, "label", label)
    assert _rate(Threads(2), None, None, tmp_path / "out", 2) == 4 * 50 / 6
