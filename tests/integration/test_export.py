"""A whole conversation, as a file."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from io import StringIO
from typing import Any
from uuid import UUID

import pytest
from fastapi import FastAPI
from httpx import AsyncClient, Response

from parley.core.errors import ConversationNotFound
from parley.core.ids import new_id
from parley.core.security.cursors import Cursors
from parley.core.settings import Settings
from parley.crud.ports import Store, Transaction
from parley.services.conversations import ConversationService
from parley.services.turns.records import TurnRecords
from parley.services.workers import Worker
from tests.conftest import SECRET
from tests.factories import make_conversation, messages_of, record, replace

Export = Callable[[object], Any]


@pytest.fixture
def export(client: AsyncClient, bearer: Callable[[str], dict[str, str]], alice: str) -> Export:
    async def get(conversation_id: object) -> Response:
        path = f"/api/v1/conversations/{conversation_id}/export"
        return await client.get(path, headers=bearer(alice))

    return get


@pytest.fixture
def pages_of_two_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("parley.services.conversations.EXPORT_PAGE_MESSAGES", 4)


class Counting:
    """A store that says how many transactions were begun, and how many are open."""

    def __init__(self, store: Store) -> None:
        self.begun = self.open = 0
        self._store = store

    @asynccontextmanager
    async def begin(self, user_id: str, *, read_only: bool = False) -> AsyncGenerator[Transaction]:
        self.begun += 1
        self.open += 1
        async with self._store.begin(user_id, read_only=read_only) as tx:
            yield tx
        self.open -= 1


class TestFile:
    async def test_it_has_the_conversation_and_then_its_messages_in_order(
        self, export: Export, store: Store, client: AsyncClient, bearer, alice: str
    ):
        made = await make_conversation(store, alice, title="Trip", instructions="Be brief.")
        for text in ("a\nb", "\u2028 é 😀"):
            last = await record(store, alice, made.id, text)
        await replace(store, alice, last, "instead")
        path = f"/api/v1/conversations/{made.id}"
        detail = (await client.get(path, headers=bearer(alice))).json()
        answer = await export(made.id)

        assert 200 == answer.status_code
        assert "application/jsonl" == answer.headers["Content-Type"]
        assert (
            f'attachment; filename="conversation-{made.id}.jsonl"'
            == answer.headers["Content-Disposition"]
        )
        *lines, end = answer.content.split(b"\n")
        conversation, *messages = map(json.loads, lines)
        assert b"" == end
        assert messages == detail["messages"]
        assert conversation == {name: detail[name] for name in conversation}
        assert {*detail} - {"messages", "messages_cursor", "running_turn"} == {*conversation}
        assert ["a\nb", "re: a\nb", "instead", "re: instead"] == [m["content"] for m in messages]

    async def test_of_an_empty_one_it_is_a_line(self, export: Export, store: Store, alice: str):
        made = await make_conversation(store, alice)

        assert 1 == (await export(made.id)).content.count(b"\n")

    @pytest.mark.parametrize("turns", [9, 10, 11, 20, 21])
    async def test_pages_meet(self, export: Export, store: Store, alice: str, turns: int):
        made = await make_conversation(store, alice)
        for _ in range(turns):
            await record(store, alice, made.id)

        lines = (await export(made.id)).content.splitlines()[1:]
        assert [*range(1, 2 * turns + 1)] == [json.loads(line)["position"] for line in lines]

    async def test_what_is_not_there_is_a_problem(
        self, export: Export, store: Store, alice: str, bob: str
    ):
        his = await make_conversation(store, bob)
        await record(store, bob, his.id)

        for missing in (his.id, new_id()):
            answer = await export(missing)
            assert (404, "conversation-not-found") == (answer.status_code, answer.json()["code"])


class TestSlot:
    @pytest.fixture
    def settings(self) -> Settings:
        return Settings(auth_secret=SECRET, streams_max_per_user=1)

    async def test_it_takes_one_and_gives_it_back(
        self, export: Export, app: FastAPI, store: Store, alice: str, logged: StringIO
    ):
        made = await make_conversation(store, alice)
        taken = await app.state.services.streams.take(f"{alice}/reading")
        refused = await export(made.id)
        taken.leave()

        assert (429, "too-many-streams") == (refused.status_code, refused.json()["code"])
        assert '"limit": "streams"' in logged.getvalue()
        assert [200, 200, 404, 200] == [
            (await export(each)).status_code for each in (made.id, made.id, new_id(), made.id)
        ]


@pytest.mark.usefixtures("pages_of_two_turns")
class TestPages:
    @pytest.fixture
    def counting(self, store: Store) -> Counting:
        return Counting(store)

    @pytest.fixture
    async def conversation_id(self, store: Store, alice: str) -> UUID:
        """Of five turns, which are three pages."""
        made = await make_conversation(store, alice)
        for number in range(5):
            await record(store, alice, made.id, str(number))
        return made.id

    @pytest.fixture
    def lines(self, counting: Counting, alice: str, conversation_id: UUID) -> AsyncGenerator[Any]:
        service = ConversationService(
            counting, TurnRecords(counting, Worker(counting)), Cursors(b"key")
        )  # type: ignore[arg-type]
        return service.export(alice, conversation_id)

    async def test_one_is_read_when_the_one_before_was_taken_and_none_is_kept_open(
        self, counting: Counting, lines: AsyncGenerator[Any]
    ):
        begun = []
        async for _ in lines:
            begun.append(counting.begun)
            assert 0 == counting.open

        assert [1] * 5 + [2] * 4 + [3] * 2 == begun

    async def test_long_messages_end_one_early_but_never_within_a_turn(
        self, counting: Counting, lines: AsyncGenerator[Any], monkeypatch: pytest.MonkeyPatch
    ):
        """A turn has 6 characters: for the first page there is room for one and a half."""
        monkeypatch.setattr("parley.services.conversations.PAGE_CHARACTERS_MAX", 9)
        begun = []
        async for _ in lines:
            begun.append(counting.begun)
            if len(begun) == 5:
                monkeypatch.setattr("parley.services.conversations.PAGE_CHARACTERS_MAX", 1)

        assert [1] * 3 + [2] * 2 + [3] * 2 + [4] * 2 + [5] * 2 == begun

    async def test_a_turn_that_is_replaced_meanwhile_is_whole_and_an_added_one_left_out(
        self, store: Store, alice: str, conversation_id: UUID, lines: AsyncGenerator[Any]
    ):
        first = [await anext(lines) for _ in range(5)]
        *_, message, reply = await messages_of(store, alice, conversation_id)
        last = await record(store, alice, conversation_id, "added")
        await replace(store, alice, last, "another")
        async with store.begin(alice, read_only=True) as tx:
            assert 12 == (await tx.conversations.get(conversation_id)).length

        rest = [line async for line in lines]
        assert first[0].length == len(first[1:] + rest)
        assert [message, reply] == rest[-2:]

    async def test_one_that_is_replaced_behind_the_page_does_not_come_twice(
        self, store: Store, alice: str
    ):
        made = await make_conversation(store, alice)
        for number in range(3):
            last = await record(store, alice, made.id, str(number))
        lines = ConversationService(
            store, TurnRecords(store, Worker(store)), Cursors(b"key")
        ).export(alice, made.id)
        before = [await anext(lines) for _ in range(4)]
        await replace(store, alice, last, "instead")

        said = [each.content for each in before[1:]] + [each.content async for each in lines]
        assert ["0", "re: 0", "1", "re: 1", "instead", "re: instead"] == said

    async def test_one_that_is_deleted_meanwhile_is_no_end(
        self, store: Store, alice: str, conversation_id: UUID, lines: AsyncGenerator[Any]
    ):
        seen = [await anext(lines) for _ in range(2)]
        async with store.begin(alice) as tx:
            await tx.conversations.delete(conversation_id)

        seen += [await anext(lines) for _ in range(3)]
        with pytest.raises(ConversationNotFound):
            await anext(lines)
        assert [1, 2, 3, 4] == [message.position for message in seen[1:]]


async def test_two_at_once_do_not_wait_for_each_other(store: Store, alice: str):
    """Neither keeps a transaction of hers, nor a connection, while nobody reads."""
    made = await make_conversation(store, alice)
    await record(store, alice, made.id)
    service = ConversationService(store, TurnRecords(store, Worker(store)), Cursors(b"key"))
    several = [service.export(alice, made.id) for _ in range(30)]
    async with asyncio.timeout(30):
        for lines in several:
            await anext(lines)
        await record(store, alice, made.id)

    assert [2] * 30 == [len([line async for line in lines]) for lines in several]
