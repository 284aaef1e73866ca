"""A bounded queue between two stages that blocks or drops when it is full."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from typing import Generic, Literal, TypeVar, get_args

from edgefel.errors import EdgefelError

Item = TypeVar("Item")
Policy = Literal["latest", "all"]
POLICIES: tuple[Policy, ...] = get_args(Policy)


class StageQueue(Generic[Item]):
    """Passes items from one thread to another; at most `size` wait.

    policy "all": `put` waits for space. "latest": `put` never waits; it drops the oldest item, which `dropped` counts.
    """

    def __init__(self, size: int, policy: Policy = "all") -> None:
        if size < 1:
            raise EdgefelError(f"a queue of {size}: give at least 1")
        if policy not in POLICIES:
            raise EdgefelError(f"policy {policy!r} is not known; choose one of: {', '.join(POLICIES)}")
        self._size = size
        self._policy = policy
        self._items: deque[Item] = deque()
        self._changed = threading.Condition()
        self._ended = False
        self.dropped = 0

    def put(self, item: Item) -> bool:
        """Adds an item; False if the queue has ended."""
        with self._changed:
            if self._policy == "all":
                self._changed.wait_for(lambda: self._ended or len(self._items) < self._size)
            if self._ended:
                return False
            if len(self._items) == self._size:
                self._items.popleft()
                self.dropped += 1
            self._items.append(item)
            self._changed.notify_all()
            return True

    def get(self) -> Item | None:
        """Waits for the oldest item; None once the queue has ended and is empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended or self._items)
            if not self._items:
                return None
            item = self._items.popleft()
            self._changed.notify_all()
            return item

    def __iter__(self) -> Iterator[Item]:
        """The items until the end, each when it has come."""
        while (item := self.get()) is not None:
            yield item

    def end(self, *, discard: bool = False) -> None:
        """Accepts no more items. Those that wait can still be taken, unless `discard` removes them."""
        with self._changed:
            self._ended = True
            if discard:
                self._items.clear()
            self._changed.notify_all()

    def __len__(self) -> int:
        return len(self._items)
