"""Queues between stages: order, waiting, dropping, ending."""

from __future__ import annotations

import threading
import time

import pytest

from edgefel.errors import EdgefelError
from edgefel.runtime.stream.pipeline import StageQueue


def in_thread(work) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_all_keeps_everything_in_order_and_never_more_than_its_size():
    queue: StageQueue[int] = StageQueue(3)
    waiting = []

    def produce() -> None:
        for number in range(200):
            queue.put(number)
            waiting.append(len(queue))
        queue.end()

    thread = in_thread(produce)
    taken = []
    while (item := queue.get()) is not None:
        taken.append(item)
    thread.join(5)
    assert taken == list(range(200))
    assert max(waiting) <= 3
    assert queue.dropped == 0


def test_latest_never_waits_and_counts_what_it_drops():
    queue: StageQueue[int] = StageQueue(1, "latest")
    for number in range(10):
        assert queue.put(number)
    queue.end()
    assert queue.get() == 9
    assert queue.get() is None
    assert queue.dropped == 9


def test_the_end_wakes_who_waits_for_an_item():
    queue: StageQueue[int] = StageQueue(1)
    got = []
    thread = in_thread(lambda: got.append(queue.get()))
    time.sleep(0.05)
    assert not got
    queue.end()
    thread.join(5)
    assert got == [None]


def test_the_end_wakes_who_waits_for_a_place():
    queue: StageQueue[int] = StageQueue(1)
    queue.put(1)
    taken = []
    thread = in_thread(lambda: taken.append(queue.put(2)))
    time.sleep(0.05)
    assert not taken
    queue.end(discard=True)
    thread.join(5)
    assert taken == [False]
    assert queue.get() is None


@pytest.mark.parametrize(("size", "policy"), [(0, "all"), (1, "some")])
def test_impossible_queues(size, policy):
    with pytest.raises(EdgefelError):
        StageQueue(size, policy)
