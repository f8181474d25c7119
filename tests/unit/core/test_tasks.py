import asyncio

import pytest

from parley.core import tasks
from parley.core.tasks import cancel


@pytest.mark.parametrize("lost", [0, 1, 3])
async def test_a_task_ends_however_many_cancellations_it_loses(
    monkeypatch: pytest.MonkeyPatch, lost: int
):
    monkeypatch.setattr(tasks, "PATIENCE_SECONDS", 0.01)
    left = lost

    async def work() -> None:
        nonlocal left
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if not left:
                    raise
                left -= 1

    task = asyncio.create_task(work())
    await asyncio.sleep(0)

    await cancel(task)

    assert task.cancelled()


async def test_one_that_has_ended_stays_so():
    task = asyncio.create_task(asyncio.sleep(0))
    await task

    await cancel(task)

    assert not task.cancelled()
