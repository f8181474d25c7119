from collections.abc import Awaitable, Callable
from uuid import UUID

import pytest
from httpx import AsyncClient, Response

from parley.crud.ports import Store
from parley.schemas.conversations import MessageStatus
from tests.factories import accept, make_conversation, new_turn, record, replace

PATH = "/api/v1/conversations"
Ask = Callable[..., Awaitable[Response]]


@pytest.fixture
def ask(client: AsyncClient, alice: str, bearer) -> Ask:
    async def send(method: str, path: str = "", **content) -> Response:
        return await client.request(method, PATH + path, headers=bearer(alice), **content)

    return send


class TestCreate:
    async def test_it_has_what_was_asked_for(self, ask: Ask):
        body = {"title": "Trip", "instructions": "Be brief.", "metadata": {"a": [1, None]}}
        response = await ask("POST", json=body)

        assert 201 == response.status_code
        made = response.json()
        assert body == {name: made[name] for name in body}
        assert {*body, "id", "length", "created_at", "updated_at"} == set(made)
        assert made["created_at"].endswith("Z")

    async def test_nothing_needs_to_be_said(self, ask: Ask):
        made = (await ask("POST", json={})).json()

        assert ("New conversation", None, {}, 0) == (
            made["title"],
            made["instructions"],
            made["metadata"],
            made["length"],
        )


class TestReplaceAndUpdate:
    async def test_put_sets_all_and_patch_what_it_names(self, ask: Ask):
        made = (await ask("POST", json={"title": "A", "metadata": {"k": 1}})).json()
        path = f"/{made['id']}"

        patched = (await ask("PATCH", path, json={"instructions": "Be brief."})).json()
        assert ("A", "Be brief.", {"k": 1}) == (
            patched["title"],
            patched["instructions"],
            patched["metadata"],
        )
        cleared = (await ask("PATCH", path, json={"instructions": None})).json()
        assert None is cleared["instructions"]

        put = (await ask("PUT", path, json={"title": "B"})).json()
        assert ("B", None, {}) == (put["title"], put["instructions"], put["metadata"])
        assert put == {
            name: value for name, value in (await ask("GET", path)).json().items() if name in put
        }

    async def test_naming_nothing_changes_nothing_nor_the_order(self, ask: Ask):
        made = (await ask("POST", json={"title": "A"})).json()
        patched = await ask("PATCH", f"/{made['id']}", json={})

        assert made == patched.json()

    async def test_a_title_cannot_be_taken_away(self, ask: Ask):
        made = (await ask("POST", json={})).json()

        for title in (None, "", "x" * 201):
            response = await ask("PATCH", f"/{made['id']}", json={"title": title})
            assert 422 == response.status_code


class TestList:
    async def test_pages_meet_newest_first(self, ask: Ask, store: Store, alice: str):
        made = [str((await make_conversation(store, alice)).id) for _ in range(5)]

        seen, cursor = [], None
        while True:
            params = {"limit": 2} | ({"cursor": cursor} if cursor else {})
            page = (await ask("GET", params=params)).json()
            seen += [item["id"] for item in page["items"]]
            cursor = page["next_cursor"]
            if cursor is None:
                break
        assert made[::-1] == seen

    async def test_twenty_come_unless_asked_otherwise(self, ask: Ask, store: Store, alice: str):
        for _ in range(21):
            await make_conversation(store, alice)

        page = (await ask("GET")).json()
        assert 20 == len(page["items"])
        assert None is not page["next_cursor"]

    async def test_nothing_is_an_empty_page(self, ask: Ask):
        assert {"items": [], "next_cursor": None} == (await ask("GET")).json()


class TestDetail:
    async def test_the_newest_fifty_come_in_order_and_the_cursor_leads_to_the_older(
        self, ask: Ask, store: Store, alice: str
    ):
        conversation = await make_conversation(store, alice)
        for number in range(30):
            status = MessageStatus.FAILED if number == 29 else MessageStatus.COMPLETE
            await record(store, alice, conversation.id, str(number), status)

        detail = (await ask("GET", f"/{conversation.id}")).json()
        assert [*range(11, 61)] == [message["position"] for message in detail["messages"]]
        assert (60, None) == (detail["length"], detail["running_turn"])
        assert "failed" == detail["messages"][-1]["status"]

        older = await ask(
            "GET",
            f"/{conversation.id}/messages",
            params={"cursor": detail["messages_cursor"], "limit": 100},
        )
        assert [*range(10, 0, -1)] == [m["position"] for m in older.json()["items"]]
        assert None is older.json()["next_cursor"]

    async def test_a_turn_of_a_dead_worker_is_closed_by_who_looks(
        self, ask: Ask, store: Store, alice: str
    ):
        conversation = await make_conversation(store, alice)
        turn = await accept(store, alice, new_turn(conversation.id))

        assert None is (await ask("GET", f"/{conversation.id}")).json()["running_turn"]
        async with store.begin(alice) as tx:
            assert "failed" == (await tx.turns.get(turn.id)).status


class TestMessages:
    async def test_both_orders_and_the_cursor_keeps_its_own(
        self, ask: Ask, store: Store, alice: str
    ):
        conversation = await make_conversation(store, alice)
        for number in range(2):
            await record(store, alice, conversation.id, str(number))
        path = f"/{conversation.id}/messages"

        oldest = (await ask("GET", path, params={"limit": 3})).json()
        newest = (await ask("GET", path, params={"limit": 3, "order": "desc"})).json()
        assert [1, 2, 3] == [message["position"] for message in oldest["items"]]
        assert [4, 3, 2] == [message["position"] for message in newest["items"]]

        rest = (await ask("GET", path, params={"cursor": newest["next_cursor"]})).json()
        assert [1] == [message["position"] for message in rest["items"]]
        crossed = {"cursor": newest["next_cursor"], "order": "asc"}
        assert 400 == (await ask("GET", path, params=crossed)).status_code

    async def test_what_was_replaced_is_a_list_of_its_own(
        self, ask: Ask, store: Store, alice: str
    ):
        conversation = await make_conversation(store, alice)
        last = await record(store, alice, conversation.id, "one")
        await replace(store, alice, last, "two")
        path = f"/{conversation.id}/messages"
        all_of_them = {"superseded": True, "limit": 3}

        first = (await ask("GET", path, params=all_of_them)).json()
        cursor = {"cursor": first["next_cursor"]}
        rest = (await ask("GET", path, params=all_of_them | cursor)).json()
        shown = (await ask("GET", path, params={"limit": 1})).json()

        assert ["one", "two", "re: one", "re: two"] == [
            message["content"] for message in first["items"] + rest["items"]
        ]
        assert "two" == shown["items"][0]["content"]
        crossed = [cursor, {"superseded": True, "cursor": shown["next_cursor"]}]
        assert [400, 400] == [
            (await ask("GET", path, params=params)).status_code for params in crossed
        ]


class TestSearch:
    async def test_it_is_of_titles_and_messages_and_paged(
        self, ask: Ask, store: Store, alice: str
    ):
        titles = ["Zebras", "a", "b"]
        for title in titles:
            made = await make_conversation(store, alice, title=title)
            await record(store, alice, made.id, "no" if title == "a" else "of a ZEBRA")

        first = (await ask("GET", params={"q": "zebra", "limit": 1})).json()
        cursor = {"cursor": first["next_cursor"]}
        second = (await ask("GET", params={"q": "zebra", "limit": 1} | cursor)).json()

        assert ["b", "Zebras"] == [each["title"] for each in first["items"] + second["items"]]
        assert None is second["next_cursor"]
        for other in ({}, {"q": "ZEBRA"}, {"q": "no"}):
            assert 400 == (await ask("GET", params=other | cursor)).status_code

    async def test_what_bob_said_is_not_found_by_alice(
        self, ask: Ask, store: Store, bob: str, client: AsyncClient, bearer
    ):
        his = await make_conversation(store, bob, title="giraffe")
        await record(store, bob, his.id, "zebra")

        for word in ("zebra", "giraffe"):
            params = {"q": word}
            assert [] == (await ask("GET", params=params)).json()["items"]
            found = await client.get(PATH, params=params, headers=bearer(bob))
            assert [str(his.id)] == [each["id"] for each in found.json()["items"]]

    @pytest.mark.parametrize("q", ["%", "_", "\\", "'", '"', ".", "*", "%%", "a\nb", "é😀"])
    async def test_no_character_is_another(self, ask: Ask, store: Store, alice: str, q: str):
        await make_conversation(store, alice, title="zebra")
        assert [] == (await ask("GET", params={"q": q})).json()["items"]
        await make_conversation(store, alice, title=f"<{q}>")
        (found,) = (await ask("GET", params={"q": q})).json()["items"]

        assert f"<{q}>" == found["title"]

    @pytest.mark.parametrize("q", ["", "a" * 201, "a\x00b", "\x00"])
    async def test_what_nobody_can_have_written_is_422(self, ask: Ask, q: str):
        refused = await ask("GET", params={"q": q})

        assert (422, ["query", "q"]) == (
            refused.status_code,
            refused.json()["errors"][0]["location"],
        )

    async def test_two_hundred_characters_of_any_kind_are_taken(self, ask: Ask):
        for character in ("a", "é", "😀"):
            assert 200 == (await ask("GET", params={"q": character * 200})).status_code


class TestLongMessages:
    """A page ends early where its messages are long: 50 of the longest would be many megabytes."""

    @pytest.fixture
    async def conversation_id(
        self, store: Store, alice: str, monkeypatch: pytest.MonkeyPatch
    ) -> UUID:
        """Of 200, 204, 5, 9, 5 and 9 characters, where a page has room for 210."""
        monkeypatch.setattr("parley.services.conversations.PAGE_CHARACTERS_MAX", 210)
        conversation = await make_conversation(store, alice)
        for message in ("x" * 200, "short", "short"):
            await record(store, alice, conversation.id, message)
        return conversation.id

    @pytest.mark.parametrize(
        ("order", "expected"),
        [("asc", [[1], [2, 3], [4, 5, 6]]), ("desc", [[6, 5, 4, 3], [2], [1]])],
    )
    async def test_pages_end_early_and_meet(
        self, ask: Ask, conversation_id: UUID, order: str, expected: list[list[int]]
    ):
        pages, params = [], {"order": order}
        while True:
            page = (await ask("GET", f"/{conversation_id}/messages", params=params)).json()
            pages.append([message["position"] for message in page["items"]])
            if page["next_cursor"] is None:
                break
            params = {"cursor": page["next_cursor"]}

        assert expected == pages

    async def test_a_page_has_one_message_however_long(
        self, ask: Ask, conversation_id: UUID, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr("parley.services.conversations.PAGE_CHARACTERS_MAX", 1)
        path = f"/{conversation_id}/messages"

        first = (await ask("GET", path)).json()
        second = (await ask("GET", path, params={"cursor": first["next_cursor"]})).json()

        assert [[1], [2]] == [[m["position"] for m in page["items"]] for page in (first, second)]

    async def test_fewer_come_with_the_conversation_and_the_cursor_leads_to_the_rest(
        self, ask: Ask, conversation_id: UUID
    ):
        detail = (await ask("GET", f"/{conversation_id}")).json()
        params = {"cursor": detail["messages_cursor"]}
        older = (await ask("GET", f"/{conversation_id}/messages", params=params)).json()

        assert [3, 4, 5, 6] == [message["position"] for message in detail["messages"]]
        assert [2] == [message["position"] for message in older["items"]]


class TestCursor:
    async def test_a_bad_one_is_400(self, ask: Ask, store: Store, alice: str):
        for _ in range(2):
            await make_conversation(store, alice)
        good = (await ask("GET", params={"limit": 1})).json()["next_cursor"]

        for cursor in ("", "x", "é", "\x00", good[:-2], "A" + good, "A" * 10_000):
            response = await ask("GET", params={"cursor": cursor})
            assert (400, "invalid-cursor") == (response.status_code, response.json()["code"])

    async def test_it_is_worth_nothing_to_another_user_or_elsewhere(
        self, ask: Ask, client: AsyncClient, store: Store, alice: str, bob: str, bearer
    ):
        conversations = [await make_conversation(store, alice) for _ in range(2)]
        cursor = (await ask("GET", params={"limit": 1})).json()["next_cursor"]

        stolen = await client.get(PATH, params={"cursor": cursor}, headers=bearer(bob))
        elsewhere = await ask("GET", f"/{conversations[0].id}/messages", params={"cursor": cursor})
        assert [400, 400] == [stolen.status_code, elsewhere.status_code]
