from parley.crud.ports import Store
from parley.schemas.conversations import MessageStatus, Order
from tests.factories import make_conversation, record


class TestHistory:
    async def test_the_newest_come_oldest_first(self, store: Store, alice: str):
        conversation = await make_conversation(store, alice)
        for text in ("one", "two", "three"):
            await record(store, alice, conversation.id, text)

        async with store.begin(alice, read_only=True) as tx:
            history = await tx.messages.history(conversation.id, 3)

        assert ["re: two", "three", "re: three"] == [message.content for message in history]

    async def test_failed_turns_stay_out_whole_and_cancelled_ones_stay_in(
        self, store: Store, alice: str
    ):
        conversation = await make_conversation(store, alice)
        await record(store, alice, conversation.id, "cancelled", MessageStatus.CANCELLED)
        await record(store, alice, conversation.id, "failed", MessageStatus.FAILED)
        await record(store, alice, conversation.id, "fine")

        async with store.begin(alice, read_only=True) as tx:
            history = await tx.messages.history(conversation.id, 10)

        assert ["cancelled", "re: cancelled", "fine", "re: fine"] == [m.content for m in history]


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
                after = positions[-1]
            seen[order] = positions

        assert [1, 2, 3, 4, 5, 6] == seen[Order.OLDEST_FIRST]
        assert [6, 5, 4, 3, 2, 1] == seen[Order.NEWEST_FIRST]
