"""
Parley that dies once, at the point of a turn or of an upload that a file named `die-at` names, and
then lives on.

Its model writes a line into `asked` each time. Where TEST_LEASE_SECONDS says so, its turns count as
lost sooner.
"""

import os
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from parley.cli.environment import prepare
from parley.core.settings import load_settings
from parley.crud.ports import Files, Store, Transaction, Turns
from parley.crud.sql import store as sql_store
from parley.schemas.files import FileMetadata, NewFile, StorageQuota
from parley.schemas.problem import Problem
from parley.schemas.turns import ChatReply, NewTurn, Reply
from parley.services import workers
from parley.services.responders.base import PromptMessage

DIE_AT = Path("die-at")


def die_if_told(point: str) -> None:
    if DIE_AT.exists() and DIE_AT.read_text() == point:
        DIE_AT.unlink()
        os._exit(9)


class MortalTurns:
    """`step` is what the transaction does for a turn."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self.step: str | None = None

    async def accept(self, turn: NewTurn) -> None:
        die_if_told("before the claim")
        await self._turns.accept(turn)
        self.step = "the claim"

    async def record(
        self, turn: NewTurn, length: int, reply: Reply, problem: Problem | None
    ) -> ChatReply:
        recorded = await self._turns.record(turn, length, reply, problem)
        self.step = "the record"
        return recorded

    def __getattr__(self, name: str) -> Any:
        return getattr(self._turns, name)


class MortalFiles:
    """Likewise, for an upload."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self.step: str | None = None

    async def add(self, file: NewFile, quota: StorageQuota) -> FileMetadata:
        die_if_told("before the metadata")
        added = await self._files.add(file, quota)
        self.step = "the metadata"
        return added

    def __getattr__(self, name: str) -> Any:
        return getattr(self._files, name)


class MortalStore:
    def __init__(self, store: Store) -> None:
        self._store = store

    @asynccontextmanager
    async def begin(self, user_id: str, *, read_only: bool = False) -> AsyncGenerator[Transaction]:
        async with self._store.begin(user_id, read_only=read_only) as tx:
            turns: Any = MortalTurns(tx.turns)
            files: Any = MortalFiles(tx.files)
            tx.turns, tx.files = turns, files  # type: ignore[misc]  # properties only of the port
            yield tx
            step = turns.step or files.step
            die_if_told(f"before the commit of {step}")
        die_if_told(f"after the commit of {step}")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


class Counting:
    async def stream(self, prompt: Sequence[PromptMessage], model: str) -> AsyncGenerator[str]:
        with Path("asked").open("a") as asked:  # noqa: ASYNC230 - a line
            asked.write("asked\n")
        yield f"re: {prompt[-1].content}"


if __name__ == "__main__":
    prepare()
    from parley.cli import serve
    from parley.main import create_app
    from parley.wiring import open_store

    seconds = float(os.environ["TEST_LEASE_SECONDS"])
    sql_store.LEASE_SECONDS = workers.LEASE_SECONDS = seconds  # type: ignore[assignment]
    workers.RENEW_SECONDS = seconds / 3
    serve.run(
        lambda settings: create_app(
            settings,
            store=MortalStore(open_store(settings)),  # type: ignore[arg-type]  # the rest by name
            responder=Counting(),
        ),
        load_settings(),
        "127.0.0.1",
    )
