"""What runs independent tasks and hands on their results: `threads` here, or `on_ray` on the machines of a cluster.

A task reads and computes; it writes nothing. Its result goes to `keep`, which writes it, in the process that submitted
the task. So a task that is lost with its worker or its machine is simply run again, nothing is written twice, and
workers need no access to the output.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import Protocol, TypeAlias, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
# computes the result of an item. The second argument tells whether to stop: then it returns early, or raises Stopped
Work: TypeAlias = Callable[[Item, Callable[[], bool]], Result]


class Stopped(Exception):
    """Raised by a task that was told to stop and has no result worth keeping."""


@dataclass(frozen=True)
class Need:
    """What a task takes of a cluster's machines. patience: seconds in which a task that is told to stop must end."""

    cores: float = 1.0
    gpus: float = 0.0
    patience: float = 10.0


ONE_CORE = Need()


def keep_nothing(item: object, result: object) -> None:
    """`keep` of `Runner.run` where taking the results is enough."""


class Runner(Protocol):
    """Where tasks run. lost: tasks that were begun again, since their worker or machine was gone."""

    @property
    def lost(self) -> int: ...

    def run(
        self,
        make: Callable[[], Work[Item, Result]],
        items: Iterable[Item],
        keep: Callable[[Item, Result], None] = keep_nothing,
        need: Need = ONE_CORE,
    ) -> Generator[Result, None, None]:
        """The result of each item, in any order.

        make: called once in each process that works; what it gives is called by several threads there. With a cluster,
        `make`, items and results are pickled. keep: takes each result once, as soon as it is there and before it is
        given; several threads may call it. When the iterator is closed or something raises, no more tasks are begun,
        those under way are told to stop, and what they return in time is kept as well.

        Raises what a task, `items` or `keep` raise; of a cluster also EdgefelError for a task whose worker is lost
        again and again, and for a machine that cannot run it.
        """
        ...

    def close(self) -> None:
        """Frees what the runner holds; a cluster goes on."""
        ...
