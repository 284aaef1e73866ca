"""Tasks on threads: how much is under way, and what an interruption keeps."""

from __future__ import annotations

import threading
import time
from contextlib import closing

from edgefel.tasks.runner import Stopped
from edgefel.tasks.threads import Threads


def double():
    return lambda item, stop: 2 * item


def test_the_work_is_made_once_for_all_threads():
    made = []

    def make():
        made.append(threading.get_ident())
        return lambda item, stop: item

    list(Threads(3).run(make, range(20)))
    assert made == [threading.get_ident()]


def test_items_are_taken_when_there_is_room():
    taken = []

    def items():
        for item in range(1000):
            taken.append(item)
            yield item

    with closing(Threads(2).run(double, items())) as results:
        next(results)
        assert len(taken) < 20


def test_closing_tells_tasks_to_stop_and_keeps_what_they_return():
    """One of two tasks under way returns what it has, the other has nothing; none is begun afterwards."""
    begun, kept = threading.Barrier(3), []

    def make():
        def work(item, stop):
            if item:
                begun.wait(10)
                while not stop():
                    time.sleep(0.001)
            if item == 2:
                raise Stopped
            return item

        return work

    results = Threads(2).run(make, range(100), lambda item, result: kept.append(item))
    closer = threading.Thread(target=lambda: (begun.wait(10), results.close()))
    assert next(results) == 0
    closer.start()
    closer.join(10)
    assert not closer.is_alive()
    assert sorted(kept) == [0, 1]
