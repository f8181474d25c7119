from parley.crud.ports import Store
from parley.schemas.conversations import Message, MessageKey, MessageStatus, Order
from tests.factories import make_conversation, messages_of, record, replace


def key_of(message: Message) -> MessageKey:
    return MessageKey(message.position, message.id)


class TestHistory:
    async def test_the_newest_come_oldest_first(self, store: Store, alice: str):
        conversation = await make_conversation(store, alice)
        for text in ("one", "two", "three"):
            await record(store, alice, conversation.id, text)

        async with store.begin(alice, read_only=True) as tx:
            history = await tx.messages.history(
                conversation.id, 1000, max_messages=3, max_characters=10_000
            )

        assert ["re: two", "three", "re: three"] == [message.content for message in history]

    async def test_failed_turns_stay_out_whole_and_cancelled_ones_stay_in(
        self, store: Store, alice: str
    ):
        conversation = await make_conversation(store, alice)
        await record(store, alice, conversation.id, "cancelled", MessageStatus.CANCELLED)
        await record(store, alice, conversation.id, "failed", MessageStatus.FAILED)
        await record(store, alice, conversation.id, "fine")

        async with store.begin(alice, read_only=True) as tx:
            history = await tx.messages.history(
                conversation.id, 1000, max_messages=10, max_characters=10_000
            )

        assert ["cancelled", "re: cancelled", "fine", "re: fine"] == [m.content for m in history]

    async def test_no_more_characters_than_fit_and_what_is_long_hides_what_is_older(
        self, store: Store, alice: str
    ):
        """Characters as people count them, not bytes."""
        conversation = await make_conversation(store, alice)
        for text in ("old", "\U0001f511" * 20, "new"):
            await record(store, alice, conversation.id, text)

        async def fitting(max_characters: int) -> list[str]:
            async with store.begin(alice, read_only=True) as tx:
                history = await tx.messages.history(
                    conversation.id, 6, max_messages=10, max_characters=max_characters
                )
            return [message.content[:4] for message in history]

        assert [] == await fitting(6)
        assert ["re: "] == await fitting(9)
        assert ["new", "re: "] == await fitting(10)
        assert ["new", "re: "] == await fitting(33)
        assert ["re: ", "new", "re: "] == await fitting(34)
        assert 6 == len(await fitting(64))

    async def test_none_behind_a_position(self, store: Store, alice: str):
        conversation = await make_conversation(store, alice)
        for text in ("one", "two"):
            await record(store, alice, conversation.id, text)

        async with store.begin(alice, read_only=True) as tx:
            history = await tx.messages.history(
                conversation.id, 2, max_messages=10, max_characters=100
            )

        assert ["one", "re: one"] == [message.content for message in history]

    async def test_none_that_was_replaced(self, store: Store, alice: str):
        conversation = await make_conversation(store, alice)
        old = await record(store, alice, conversation.id, "old")
        await record(store, alice, conversation.id, "new", replaces=old.turn_id)

        async with store.begin(alice, read_only=True) as tx:
            history = await tx.messages.history(
                conversation.id, 2, max_messages=10, max_characters=100
            )

        assert ["new", "re: new"] == [message.content for message in history]


class TestPage:
    async def test_pages_meet_in_both_orders(self, store: Store, alice: str):
        conversation = await make_conversation(store, alice)
        for number in range(3):
            await record(store, alice, conversation.id, str(number))

        seen: dict[Order, list[int]] = {}
        for order in Order:
            after, positions = None, []
            while True:
                async with store.begin(alice, read_only=True) as tx:
                    page = await tx.messages.page(conversation.id, order, 4, after)
                if not page:
                    break
                positions += [message.position for message in page]
                after = key_of(page[-1])
            seen[order] = positions

        assert [1, 2, 3, 4, 5, 6] == seen[Order.OLDEST_FIRST]
        assert [6, 5, 4, 3, 2, 1] == seen[Order.NEWEST_FIRST]

    async def test_what_was_replaced_comes_only_where_it_is_asked_for(
        self, store: Store, alice: str
    ):
        conversation = await make_conversation(store, alice)
        last = await record(store, alice, conversation.id, "one")
        await replace(store, alice, last, "two")
        await record(store, alice, conversation.id, "three")
        everything = [
            (1, "one"), (1, "two"), (2, "re: one"), (2, "re: two"), (3, "three"), (4, "re: three"),
        ]  # fmt: skip

        for order, expected in (
            (Order.OLDEST_FIRST, everything),
            (Order.NEWEST_FIRST, everything[::-1]),
        ):
            for limit in (1, 3, 10):
                seen, after = [], None
                while True:
                    async with store.begin(alice, read_only=True) as tx:
                        page = await tx.messages.page(
                            conversation.id, order, limit, after, with_superseded=True
                        )
                    if not page:
                        break
                    seen += [(message.position, message.content) for message in page]
                    after = key_of(page[-1])
                assert expected == seen

        shown = await messages_of(store, alice, conversation.id)
        assert ["two", "re: two", "three", "re: three"] == [each.content for each in shown]

    async def test_a_successor_does_not_come_behind_what_it_replaced(
        self, store: Store, alice: str
    ):
        """Between two pages: the position has been."""
        conversation = await make_conversation(store, alice)
        last = await record(store, alice, conversation.id, "one")
        await replace(store, alice, last, "two")

        async with store.begin(alice, read_only=True) as tx:
            behind = [
                await tx.messages.page(conversation.id, order, 10, key_of(last.reply))
                for order in Order
            ]

        assert [[], ["two"]] == [[each.content for each in page] for page in behind]
