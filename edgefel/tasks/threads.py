"""Tasks on threads of this process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable
from contextlib import closing

from edgefel.errors import EdgefelError
from edgefel.tasks.runner import ONE_CORE, Item, Need, Result, Stopped, Work, keep_nothing
from edgefel.workers import in_threads, usable_cores

# tasks per worker that are under way or whose results were not taken
_AHEAD = 4


class Threads:
    """Runs tasks on threads of this process, for work that releases the interpreter: decoding, detection, inference."""

    lost = 0

    def __init__(self, workers: int | None = None) -> None:
        """workers: threads; one per core by default. Raises EdgefelError for less than one."""
        if workers is not None and workers < 1:
            raise EdgefelError(f"{workers} workers: give at least 1")
        self.workers = workers or usable_cores()

    def run(
        self,
        make: Callable[[], Work[Item, Result]],
        items: Iterable[Item],
        keep: Callable[[Item, Result], None] = keep_nothing,
        need: Need = ONE_CORE,
    ) -> Generator[Result, None, None]:
        """See `Runner.run`. The results come in the order of the items."""
        work, ending = make(), threading.Event()

        def one(item: Item) -> list[Result]:
            if ending.is_set():
                return []
            try:
                result = work(item, ending.is_set)
                keep(item, result)
            except Stopped:
                return []
            except BaseException:
                ending.set()
                raise
            return [result]

        with closing(in_threads(one, items, self.workers, ahead=_AHEAD, stop=ending.set)) as ended:
            for results in ended:
                yield from results

    def close(self) -> None:
        """Nothing is held."""
