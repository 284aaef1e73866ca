"""Tables of faces seen live say what was measured."""

from __future__ import annotations

import live_tables

LOAD = {
    "command": "python -m load",
    "clients": 32,
    "seconds": 300.0,
    "fps": 2.0,
    "size": [640, 480],
    "answers": 19_000,
    "compared": 18_500,
    "answers_per_second": 63.3,
    "latency_ms": {"p50": 11.4, "p90": 22.4, "p99": 33.4, "max": 444.4},
    "memory": [{"s": 0.0, "mb": 101.0}, {"s": 1.0, "mb": 102.0}, {"s": 2.0, "mb": 103.0}],
    "machine": "A CPU",
    "cores": 2,
}


def test_the_load_of_a_server():
    said = live_tables.serve_load(LOAD)
    assert "| 32 | 19,000 | 63.3 | 11 | 22 | 33 | 444 | 101 | 102 | 103 |" in said
    assert "2 JPEGs of 640x480 pixels a second for 300 seconds" in said
    assert "18,500 answers" in said
    assert "A CPU, 2 cores" in said
