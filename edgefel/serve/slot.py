"""The newest item for one reader."""

from __future__ import annotations

import asyncio
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Slot(Generic[Item]):
    """Holds one item. A newer one replaces it, and `dropped` counts those that were never read. Used by one event loop.

    So a reader that is slow, or stops, costs the memory of one item and delays nobody.
    """

    def __init__(self) -> None:
        self._item: Item | None = None
        self._changed = asyncio.Event()
        self._closed = False
        self.dropped = 0

    def put(self, item: Item) -> None:
        """Replaces the item."""
        self.dropped += self._item is not None
        self._item = item
        self._changed.set()

    async def get(self) -> Item | None:
        """Waits for an item; None once the slot is closed and empty."""
        while self._item is None and not self._closed:
            self._changed.clear()
            await self._changed.wait()
        item, self._item = self._item, None
        return item

    def close(self) -> None:
        """Nothing comes any more."""
        self._closed = True
        self._changed.set()
