import asyncio
from typing import Any
from uuid import UUID

import pytest

from parley.core.errors import (
    AccountGone,
    FileInUse,
    FileNotFound,
    Overloaded,
    QuotaExceeded,
)
from parley.core.ids import new_id
from parley.crud.ports import Store
from parley.schemas.conversations import ConversationDraft, MessageStatus
from parley.schemas.files import FileMetadata, NewFile, StorageQuota, Usage
from parley.schemas.turns import Turn, TurnStatus
from tests.factories import (
    PROBLEM,
    accept,
    make_conversation,
    make_file,
    messages_of,
    new_file,
    new_reply,
    new_turn,
    record,
)

ROOM = StorageQuota(max_bytes=1000, max_files=100)


async def get(store: Store, user_id: str, file_id: UUID) -> FileMetadata:
    async with store.begin(user_id, read_only=True) as tx:
        return await tx.files.get(file_id)


async def turn_of(store: Store, user_id: str, turn_id: UUID) -> Turn:
    async with store.begin(user_id, read_only=True) as tx:
        return await tx.turns.get(turn_id)


async def add(store: Store, user_id: str, file: NewFile, quota: StorageQuota) -> FileMetadata:
    async with store.begin(user_id) as tx:
        return await tx.files.add(file, quota)


async def delete(store: Store, user_id: str, file_id: UUID) -> None:
    async with store.begin(user_id) as tx:
        await tx.files.delete(file_id)


async def usage(store: Store, user_id: str) -> Usage:
    async with store.begin(user_id, read_only=True) as tx:
        return await tx.files.usage()


class TestAdd:
    async def test_it_is_kept_as_it_was_given(self, store: Store, alice: str):
        file = new_file(filename="Grüße 🙂.md", content_type="text/markdown", size=3_000_000_000)

        kept = await add(store, alice, file, StorageQuota(2**40, 1))

        assert kept == await get(store, alice, file.id)
        assert file.model_dump() == kept.model_dump(exclude={"created_at"})

    async def test_it_is_its_users_alone(self, store: Store, alice: str, bob: str):
        file = await make_file(store, bob)

        with pytest.raises(FileNotFound):
            await get(store, alice, file.id)
        with pytest.raises(FileNotFound):
            await delete(store, alice, file.id)
        assert file == await get(store, bob, file.id)

    async def test_nothing_of_a_deleted_account_comes_back(self, store: Store):
        with pytest.raises(AccountGone):
            await add(store, str(new_id()), new_file(), ROOM)


class TestAllowance:
    async def test_it_may_be_used_to_the_last_byte(self, store: Store, alice: str, bob: str):
        await make_file(store, bob, size=900)
        await make_file(store, alice, size=900)

        with pytest.raises(QuotaExceeded):
            await add(store, alice, new_file(size=101), ROOM)
        await add(store, alice, new_file(size=100), ROOM)

        assert Usage(1000, 2) == await usage(store, alice)

    async def test_it_counts_files_too(self, store: Store, alice: str):
        await make_file(store, alice, size=0)

        with pytest.raises(QuotaExceeded):
            await add(store, alice, new_file(size=0), StorageQuota(1000, 1))

    async def test_deleting_makes_room(self, store: Store, alice: str):
        file = await make_file(store, alice, size=1000)

        await delete(store, alice, file.id)

        assert Usage(0, 0) == await usage(store, alice)
        await add(store, alice, new_file(size=1000), ROOM)

    async def test_of_many_at_once_as_many_get_in_as_there_is_room_for(
        self, store: Store, alice: str
    ):
        outcomes = await asyncio.gather(
            *(add(store, alice, new_file(size=300), ROOM) for _ in range(8)),
            return_exceptions=True,
        )

        refused = [outcome for outcome in outcomes if isinstance(outcome, QuotaExceeded)]
        assert 5 == len(refused)
        assert Usage(900, 3) == await usage(store, alice)


class TestNamed:
    async def test_they_come_in_the_order_that_was_asked_for(self, store: Store, alice: str):
        files = [await make_file(store, alice) for _ in range(3)]
        wanted = [files[1], files[2], files[0]]

        async with store.begin(alice, read_only=True) as tx:
            assert wanted == [*await tx.files.named([file.id for file in wanted])]
            assert [] == [*await tx.files.named([])]

    async def test_one_that_is_not_the_users_is_none(self, store: Store, alice: str, bob: str):
        hers, his = await make_file(store, alice), await make_file(store, bob)

        for other in (his.id, new_id()):
            async with store.begin(alice, read_only=True) as tx:
                with pytest.raises(FileNotFound):
                    await tx.files.named([hers.id, other])


class TestNewest:
    async def test_the_last_come_first_page_by_page(self, store: Store, alice: str, bob: str):
        files = [await make_file(store, alice) for _ in range(5)]
        await make_file(store, bob)

        async with store.begin(alice, read_only=True) as tx:
            first = await tx.files.newest(2, None)
            second = await tx.files.newest(100, first[-1].id)

        assert files[::-1] == [*first, *second]


class TestAttachments:
    @pytest.fixture
    async def files(self, store: Store, alice: str) -> list[FileMetadata]:
        made = [await make_file(store, alice, filename=f"{n}.txt") for n in range(3)]
        return [made[2], made[0], made[1]]

    async def test_a_turn_and_its_message_have_them_in_order(
        self, store: Store, alice: str, files: list[FileMetadata]
    ):
        conversation = await make_conversation(store, alice)
        reply = await record(store, alice, conversation.id, attachments=files)

        turn = await turn_of(store, alice, reply.turn_id)
        shown = await messages_of(store, alice, conversation.id)

        assert files == reply.message.attachments == turn.message.attachments
        assert [files, []] == [message.attachments for message in shown]
        assert [reply.message, reply.reply] == shown

    async def test_so_do_a_running_one_the_last_and_the_history(
        self, store: Store, alice: str, files: list[FileMetadata]
    ):
        conversation = await make_conversation(store, alice)
        await record(store, alice, conversation.id, attachments=files)
        await accept(store, alice, new_turn(conversation.id, attachments=files[:1]))

        async with store.begin(alice, read_only=True) as tx:
            running = await tx.turns.running(conversation.id)
            last = await tx.turns.last(conversation.id)
            said = await tx.messages.history(
                conversation.id, 10, max_messages=10, max_characters=100
            )

        assert running is not None
        assert last is not None
        assert files[:1] == running.message.attachments
        assert files == last.message.attachments
        assert [files, []] == [message.attachments for message in said]

    @pytest.mark.parametrize("whose", ["bob's", "nobody's"])
    async def test_only_ones_own_can_be_attached(
        self, store: Store, alice: str, bob: str, whose: str
    ):
        conversation = await make_conversation(store, alice)
        file = await make_file(store, bob)
        if whose == "nobody's":
            await delete(store, bob, file.id)

        with pytest.raises(FileNotFound):
            await accept(store, alice, new_turn(conversation.id, attachments=[file]))
        async with store.begin(alice, read_only=True) as tx:
            assert None is await tx.turns.running(conversation.id)

    async def test_one_file_may_be_in_many_turns(
        self, store: Store, alice: str, files: list[FileMetadata]
    ):
        conversations = [await make_conversation(store, alice) for _ in range(2)]
        for conversation in conversations:
            await record(store, alice, conversation.id, attachments=files)

        async with store.begin(alice) as tx:
            await tx.conversations.delete(conversations[0].id)

        with pytest.raises(FileInUse) as refused:
            await delete(store, alice, files[0].id)
        assert str(conversations[1].id) in str(refused.value)
        assert str(conversations[0].id) not in str(refused.value)

    async def test_some_of_many_are_named_each_once(
        self, store: Store, alice: str, bob: str, files: list[FileMetadata]
    ):
        conversations = [await make_conversation(store, alice) for _ in range(7)]
        for conversation in [*conversations, conversations[0]]:
            await record(store, alice, conversation.id, attachments=files)

        with pytest.raises(FileInUse) as refused:
            await delete(store, alice, files[0].id)
        named = [c for c in conversations if str(c.id) in str(refused.value)]
        assert 5 == len(named)
        with pytest.raises(FileNotFound):
            await delete(store, bob, files[0].id)


async def _running(store: Store, user_id: str, file: FileMetadata) -> UUID:
    conversation = await make_conversation(store, user_id)
    await accept(store, user_id, new_turn(conversation.id, attachments=[file]))
    return conversation.id


async def _recorded(store: Store, user_id: str, file: FileMetadata) -> UUID:
    conversation = await make_conversation(store, user_id)
    await record(store, user_id, conversation.id, attachments=[file])
    return conversation.id


async def _failed(store: Store, user_id: str, file: FileMetadata) -> UUID:
    """After its first words: it is recorded."""
    conversation = await make_conversation(store, user_id)
    failed = MessageStatus.FAILED
    await record(store, user_id, conversation.id, status=failed, attachments=[file])
    return conversation.id


async def _replaced(store: Store, user_id: str, file: FileMetadata) -> UUID:
    conversation = await make_conversation(store, user_id)
    first = await record(store, user_id, conversation.id, attachments=[file])
    await record(store, user_id, conversation.id, "better", replaces=first.turn_id)
    return conversation.id


class TestInUse:
    @pytest.mark.parametrize("carry", [_running, _recorded, _failed, _replaced])
    async def test_one_that_a_turn_carries_stays_until_its_conversation_goes(
        self, store: Store, alice: str, carry: Any
    ):
        file = await make_file(store, alice)
        conversation_id = await carry(store, alice, file)

        with pytest.raises(FileInUse):
            await delete(store, alice, file.id)
        assert file == await get(store, alice, file.id)
        async with store.begin(alice) as tx:
            await tx.conversations.delete(conversation_id)

        await delete(store, alice, file.id)

    async def test_a_turn_that_ended_without_messages_carries_none(self, store: Store, alice: str):
        file = await make_file(store, alice)
        conversation = await make_conversation(store, alice)
        turn = await accept(store, alice, new_turn(conversation.id, attachments=[file]))

        async with store.begin(alice) as tx:
            await tx.turns.close(turn, TurnStatus.CANCELLED, PROBLEM)

        assert [] == (await turn_of(store, alice, turn.id)).message.attachments
        await delete(store, alice, file.id)

    async def test_nor_does_one_that_nobody_runs_any_more(self, store: Store, alice: str):
        file = await make_file(store, alice)
        conversation = await make_conversation(store, alice)
        turn = await accept(store, alice, new_turn(conversation.id, attachments=[file]))

        async with store.begin(alice) as tx:
            assert await tx.turns.close_abandoned(conversation.id, PROBLEM)

        assert [] == (await turn_of(store, alice, turn.id)).message.attachments
        await delete(store, alice, file.id)

    async def test_attaching_and_deleting_at_once_one_wins(self, store: Store, alice: str):
        for _ in range(10):
            file = await make_file(store, alice)
            conversation = await make_conversation(store, alice)
            turn = new_turn(conversation.id, attachments=[file])

            accepted, deleted = await asyncio.gather(
                accept(store, alice, turn),
                delete(store, alice, file.id),
                return_exceptions=True,
            )

            is_accepted = isinstance(accepted, type(turn))
            assert (
                (is_accepted, FileInUse if is_accepted else type(None)) ==
                (not isinstance(accepted, FileNotFound), type(deleted))
            )  # fmt: skip

    async def test_an_account_that_is_deleted_while_a_file_is_attached_says_so_or_takes_it_along(
        self, store: Store, alice: str
    ):
        """A user of another issuer has no account that both could wait for."""
        file = await make_file(store, alice)

        async def delete_account() -> None:
            async with store.begin(alice) as tx:
                await tx.accounts.delete()

        async with store.begin(alice) as tx:
            conversation = await tx.conversations.create(new_id(), ConversationDraft())
            await tx.turns.accept(new_turn(conversation.id, attachments=[file]))
            deleting = asyncio.create_task(delete_account())
            # PostgreSQL's gets as far as the file; elsewhere it has not begun.
            await asyncio.wait([deleting], timeout=0.5)
        (outcome,) = await asyncio.gather(deleting, return_exceptions=True)

        assert outcome is None or isinstance(outcome, Overloaded)

    async def test_an_account_is_deleted_with_what_its_turns_carry(
        self, store: Store, alice: str, bob: str
    ):
        mine, his = await make_file(store, alice), await make_file(store, bob)
        await _recorded(store, alice, mine)

        async with store.begin(alice) as tx:
            await tx.accounts.delete()

        assert Usage(0, 0) == await usage(store, alice)
        assert his == await get(store, bob, his.id)


async def test_recording_again_gives_the_same(store: Store, alice: str):
    file = await make_file(store, alice)
    conversation = await make_conversation(store, alice)
    turn = await accept(store, alice, new_turn(conversation.id, attachments=[file]))
    reply = new_reply()

    async with store.begin(alice) as tx:
        first = await tx.turns.record(turn, 0, reply, None)
    async with store.begin(alice) as tx:
        again = await tx.turns.record(turn, 0, reply, None)

    assert first == again
