"""What a process remembers of the slots that others refuse it."""

import asyncio
from typing import Any

import pytest

from parley.core.errors import TooManyStreams
from parley.services.shared import Shared
from parley.services.streams import StreamService


class Crowded:
    """The other processes have taken them all, until they give some back."""

    def __init__(self) -> None:
        self.slots = self
        self.is_full = True
        self.asked = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def take(self, *_: Any) -> bool:
        self.asked.set()
        await self.may_answer.wait()
        return not self.is_full


@pytest.fixture
async def crowded() -> Crowded:
    return Crowded()


@pytest.fixture
def streams(crowded: Crowded) -> StreamService:
    return StreamService(Shared(crowded), max_per_user=1)


class TestTake:
    async def test_one_that_others_refuse_is_not_held_here(
        self, streams: StreamService, crowded: Crowded
    ):
        with pytest.raises(TooManyStreams):
            await streams.take("ann")
        crowded.is_full = False

        assert await streams.take("ann")

    async def test_nor_one_that_nobody_waits_for_any_more(
        self, streams: StreamService, crowded: Crowded
    ):
        crowded.is_full = False
        crowded.may_answer.clear()
        taking = asyncio.create_task(streams.take("ann"))
        await crowded.asked.wait()
        taking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await taking
        crowded.may_answer.set()

        assert await streams.take("ann")
