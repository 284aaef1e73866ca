"""The newest item wins."""

from __future__ import annotations

import asyncio

from edgefel.serve.slot import Slot


def test_a_newer_item_replaces_one_that_was_not_read():
    async def run():
        slot: Slot[int] = Slot()
        for number in range(5):
            slot.put(number)
        assert (await slot.get(), slot.dropped) == (4, 4)
        slot.put(5)
        slot.close()
        return await slot.get(), await slot.get(), slot.dropped

    assert asyncio.run(run()) == (5, None, 4)


def test_a_reader_waits_for_an_item_or_the_end():
    async def run(end):
        slot: Slot[int] = Slot()
        reader = asyncio.create_task(slot.get())
        await asyncio.sleep(0.01)
        assert not reader.done()
        end(slot)
        return await asyncio.wait_for(reader, 1)

    assert asyncio.run(run(lambda slot: slot.put(0))) == 0
    assert asyncio.run(run(lambda slot: slot.close())) is None
