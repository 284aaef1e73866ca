"""The tables of docs/cluster.md say what the numbers say."""

from __future__ import annotations

import cluster_tables

FOUND = {
    "command": "python -m x",
    "environment": {"device": "CPU, 2 cores", "cores": 2},
    "start": {
        "cluster": {"seconds": 12.34, "children_mb": 1700},
        "process": {"seconds": 0.6, "children_mb": 0},
        "threads": {"seconds": 0.27, "children_mb": 0},
        "load_before": 1.5,
    },
    "rates": {
        "threads_1": 100.0,
        "threads_2": 190.0,
        "cluster_1": 98.0,
        "cluster_2": 180.0,
        "task_ms": 2.25,
        "load_before": 2,
    },
    "loss": {
        "prepare": {
            "faces": 20000,
            "killed_after": 10048,
            "tasks_repeated": 2,
            "files": 20003,
            "bytes_per_face": 2000,
        }
        | {"equal": True, "seconds_threads": 20.0},
        "label": {
            "faces": 20000,
            "killed_after": 10000,
            "tasks_repeated": 1,
            "files": 101,
            "bytes_per_face": 100,
        }
        | {"equal": False, "seconds_threads": 100.0},
        "load_before": 3,
    },
    "ablate": {"runs": 2, "killed": 2, "equal": True},
}


def test_start_and_rates():
    assert "| a Ray cluster of two cores | 12.3 | 1,700 |" in cluster_tables.start(FOUND)
    said = cluster_tables.rates(FOUND)
    assert "| threads of one process | 100 | 190 | 1.90 |" in said
    assert "takes 2.2 ms" in said
    assert "load 2 before. Numbers" in said
    # three processes wanted two cores
    assert "load 3 before. The machine was busy" in cluster_tables.loss(FOUND)


def test_medians_beside_the_ideal():
    more = {
        "command": "python -m rates",
        "repeats": 7,
        "apart_1": 110.0,
        "apart_2": 220.0,
        "apart_ratio": 1.95,
        "threads_ratio": 1.8,
    }
    said = cluster_tables.rates(FOUND | {"rates": FOUND["rates"] | more})
    # the ratio is of pairs
    assert "| threads of one process | 100 | 190 | 1.80 |" in said
    assert "| processes that nothing connects: the ideal | 110 | 220 | 1.95 |" in said
    assert "Medians of 7 repeats in turn. A task" in said
    assert "made by `python -m rates`" in said


def test_a_difference_is_not_hidden():
    said = cluster_tables.loss(FOUND)
    assert "| `data prepare` | 20,000 | 10,048 | 2 | 20,003 | the same |" in said
    assert "| `label` | 20,000 | 10,000 | 1 | 101 | not the same |" in said
    assert "a training was killed twice: its rows are the same" in said


def test_the_plan_is_arithmetic():
    """10^9 / 100 a second = 2,778 core hours, 0.434 hours of 6,400 cores; 100 GB in them are 64 MB/s."""
    label, prepare = cluster_tables.plan(FOUND).splitlines()[2:4]
    assert label == "| `label` | 100 | 2,778 | 0.4 | 100 GB | 64 |"
    # the machine was busy before faces were prepared
    assert "From the rates above. The machine was busy" in cluster_tables.plan(FOUND)
    quiet = {"loss": FOUND["loss"] | {"load_before": 2}}
    assert cluster_tables.plan(FOUND | quiet).endswith("From the rates above.")
    # 500 a second on each of two threads
    assert prepare == "| `data prepare` | 500 | 556 | 0.1 | 2,000 GB | 6,400 |"
