import pytest

from parley.core.errors import ConversationNotFound
from parley.core.ids import new_id
from parley.crud.ports import Store
from parley.schemas.conversations import ConversationDraft, ConversationKey, Order
from tests.factories import make_conversation, new_turn, record


class TestCreateAndGet:
    async def test_what_was_created_is_read_back_exactly(self, store: Store, alice: str):
        metadata = {"b": [1, 2.5, None, True], "a": {"é": "\U0001f600"}, "big": 2**53 - 1}
        created = await make_conversation(
            store, alice, title="Holiday", instructions="Be brief.", metadata=metadata
        )

        async with store.begin(alice, read_only=True) as tx:
            found = await tx.conversations.get(created.id)

        assert created == found
        assert list(metadata) == list(found.metadata)
        assert 0 == found.length
        assert found.created_at.tzinfo is not None

    async def test_another_users_is_as_missing_as_nobodys(
        self, store: Store, alice: str, bob: str
    ):
        conversation = await make_conversation(store, alice)

        async with store.begin(bob) as tx:
            for missing in (conversation.id, new_id()):
                with pytest.raises(ConversationNotFound):
                    await tx.conversations.get(missing)
                with pytest.raises(ConversationNotFound):
                    await tx.conversations.update(missing, ConversationDraft(title="mine"))
                with pytest.raises(ConversationNotFound):
                    await tx.conversations.delete(missing)
            assert [] == await tx.conversations.newest(10, None)
            assert [] == await tx.messages.page(conversation.id, Order.OLDEST_FIRST, 10, None)

        async with store.begin(alice) as tx:
            assert conversation == await tx.conversations.get(conversation.id)

    async def test_two_users_may_have_the_same_id(self, store: Store, alice: str, bob: str):
        shared = new_id()
        for user_id, title in ((alice, "Alice's"), (bob, "Bob's")):
            async with store.begin(user_id) as tx:
                await tx.conversations.create(shared, ConversationDraft(title=title))

        async with store.begin(bob) as tx:
            await tx.conversations.delete(shared)

        async with store.begin(alice) as tx:
            assert "Alice's" == (await tx.conversations.get(shared)).title


class TestUpdate:
    async def test_only_the_named_fields_change(self, store: Store, alice: str):
        before = await make_conversation(store, alice, title="Old", instructions="Be brief.")

        async with store.begin(alice) as tx:
            after = await tx.conversations.update(before.id, ConversationDraft(title="New"))

        assert ("New", "Be brief.", {}) == (after.title, after.instructions, after.metadata)
        assert after.updated_at >= before.updated_at
        assert after.created_at == before.created_at


class TestNewest:
    async def test_pages_by_key_meet_without_a_gap(self, store: Store, alice: str):
        made = [await make_conversation(store, alice, title=str(n)) for n in range(5)]
        async with store.begin(alice) as tx:
            touched = await tx.conversations.update(made[1].id, ConversationDraft(title="1"))

        seen, after = [], None
        while True:
            async with store.begin(alice, read_only=True) as tx:
                page = await tx.conversations.newest(2, after)
            if not page:
                break
            seen += page
            after = ConversationKey(page[-1].updated_at, page[-1].id)

        assert [touched.id, *(made[n].id for n in (4, 3, 2, 0))] == [c.id for c in seen]


class TestDelete:
    async def test_turns_and_messages_go_with_it(self, store: Store, alice: str):
        kept, gone = [await make_conversation(store, alice) for _ in range(2)]
        reply = await record(store, alice, gone.id)
        await record(store, alice, kept.id)

        async with store.begin(alice) as tx:
            await tx.conversations.delete(gone.id)

        async with store.begin(alice) as tx:
            assert [] == await tx.messages.history(
                gone.id, 1000, max_messages=10, max_characters=10_000
            )
            assert 2 == len(
                await tx.messages.history(kept.id, 1000, max_messages=10, max_characters=10_000)
            )
            with pytest.raises(Exception, match="no turn"):
                await tx.turns.get(reply.turn_id)


class TestBegin:
    async def test_an_exception_undoes_everything(self, store: Store, alice: str):
        kept = await make_conversation(store, alice, title="kept")
        turn = new_turn(kept.id)

        with pytest.raises(RuntimeError, match="on purpose"):
            async with store.begin(alice) as tx:
                made = await tx.conversations.create(new_id(), ConversationDraft())
                await tx.conversations.update(kept.id, ConversationDraft(title="changed"))
                await tx.turns.accept(turn)
                raise RuntimeError("on purpose")

        async with store.begin(alice) as tx:
            assert kept == await tx.conversations.get(kept.id)
            assert None is await tx.turns.running(kept.id)
            with pytest.raises(ConversationNotFound):
                await tx.conversations.get(made.id)
