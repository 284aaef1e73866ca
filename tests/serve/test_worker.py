"""The thread that labels: batches, a bounded queue, clients that go away."""

from __future__ import annotations

import asyncio
import threading

import pytest

from edgefel.serve.engine import MOST_TOGETHER, Answer, Work
from edgefel.serve.problems import Problem
from edgefel.serve.worker import Worker


class Labeller:
    """Answers each work with its data as source of a size, once `go` is set."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.begun, self.go = threading.Event(), threading.Event()

    def __call__(self, works):
        self.begun.set()
        assert self.go.wait(10)
        self.batches.append(len(works))
        return [
            Problem(422, "bad", "bad") if work.data == b"bad" else Answer([], (int(work.data), 1), False, {})
            for work in works
        ]


@pytest.fixture
def labeller():
    return Labeller()


@pytest.fixture
def make_worker(labeller):
    workers = []

    def make(most: int = 64, seconds: float = 10.0) -> Worker:
        workers.append(Worker(labeller, most, seconds))
        workers[-1].start()
        return workers[-1]

    yield make
    labeller.go.set()
    for worker in workers:
        worker.close()
        assert not worker.alive


async def began(labeller: Labeller) -> None:
    while not labeller.begun.is_set():
        await asyncio.sleep(0.005)


def test_what_gathers_during_a_batch_is_the_next_one(labeller, make_worker):
    worker = make_worker()

    async def run():
        first = asyncio.create_task(worker.label([Work(b"0")]))
        await began(labeller)
        rest = [asyncio.create_task(worker.label([Work(str(number).encode())])) for number in range(1, 12)]
        await asyncio.sleep(0.02)
        assert worker.waiting == 11
        labeller.go.set()
        return await asyncio.gather(first, *rest)

    answers = asyncio.run(run())
    assert [answer.size[0] for (answer,) in answers] == list(range(12))
    assert labeller.batches == [1, MOST_TOGETHER, 3]


def test_a_request_waits_for_all_its_images_and_names_the_bad_one(labeller, make_worker):
    worker = make_worker()
    labeller.go.set()
    answers = asyncio.run(worker.label([Work(b"3"), Work(b"4")]))
    assert [answer.size[0] for answer in answers] == [3, 4]
    with pytest.raises(Problem) as raised:
        asyncio.run(worker.label([Work(b"3"), Work(b"bad")]))
    assert raised.value.image == 1


def test_a_full_queue_refuses(labeller, make_worker):
    worker = make_worker(most=2)

    async def run():
        first = asyncio.create_task(worker.label([Work(b"0")]))
        await began(labeller)
        others = asyncio.create_task(worker.label([Work(b"1"), Work(b"2")]))
        await asyncio.sleep(0.02)
        with pytest.raises(Problem) as raised:
            await worker.label([Work(b"3")])
        labeller.go.set()
        await asyncio.gather(first, others)
        return raised.value

    assert asyncio.run(run()).status == 503


def test_works_of_a_client_that_has_gone_are_left_out(labeller, make_worker):
    worker = make_worker()

    async def run():
        first = asyncio.create_task(worker.label([Work(b"0")]))
        await began(labeller)
        others = [asyncio.create_task(worker.label([Work(b"1")])) for _ in range(3)]
        await asyncio.sleep(0.02)
        others[1].cancel()
        await asyncio.sleep(0.02)
        labeller.go.set()
        await asyncio.gather(first, others[0], others[2])

    asyncio.run(run())
    assert labeller.batches == [1, 2]


def test_nobody_waits_for_ever(labeller, make_worker):
    worker = make_worker(seconds=0.05)
    with pytest.raises(Problem) as raised:
        asyncio.run(worker.label([Work(b"0")]))
    assert raised.value.status == 503


def test_those_that_wait_at_the_end_are_refused(labeller, make_worker):
    worker = make_worker()

    async def run():
        first = asyncio.create_task(worker.label([Work(b"0")]))
        await began(labeller)
        second = asyncio.create_task(worker.label([Work(b"1")]))
        await asyncio.sleep(0.02)
        threading.Timer(0.05, labeller.go.set).start()
        await asyncio.to_thread(worker.close)
        return await asyncio.gather(first, second, worker.label([Work(b"2")]), return_exceptions=True)

    answered, *refused = asyncio.run(run())
    assert answered[0].size == (0, 1)
    assert [problem.status for problem in refused] == [503, 503]
