"""What every runner promises, on threads; tests/tasks/test_on_ray.py has the same on Ray."""

from __future__ import annotations

import pytest

from edgefel.errors import EdgefelError
from edgefel.tasks.threads import Threads


def double():
    return lambda item, stop: 2 * item


@pytest.mark.parametrize("workers", [1, 3])
def test_each_result_is_kept_once_and_given_in_order(workers):
    kept = []
    found = list(Threads(workers).run(double, range(50), lambda item, result: kept.append((item, result))))
    assert found == [2 * item for item in range(50)]
    assert sorted(kept) == [(item, 2 * item) for item in range(50)]


@pytest.mark.parametrize("where", ["work", "keep", "items"])
def test_an_error_ends_the_run(where):
    done = []

    def fail(at, item):
        if at == where and item == 5:
            raise EdgefelError("the fifth")

    def make():
        def work(item, stop):
            fail("work", item)
            return item

        return work

    def items():
        for item in range(100_000):
            fail("items", item)
            yield item

    def keep(item, result):
        fail("keep", item)
        done.append(item)

    with pytest.raises(EdgefelError, match="the fifth"):
        list(Threads(2).run(make, items(), keep))
    assert len(done) < 100
