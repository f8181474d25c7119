"""Alice at each method of the ports, with what is Bob's; and what she is to get."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, get_type_hints
from uuid import UUID

from parley.core.errors import (
    ConversationNotFound,
    FileNotFound,
    KeyNotFound,
    TurnNotFound,
)
from parley.core.ids import new_id
from parley.crud.ports import Store, Transaction
from parley.schemas.accounts import Account
from parley.schemas.conversations import Conversation, ConversationDraft, Message, Order
from parley.schemas.files import FileMetadata, StorageQuota, Usage
from parley.schemas.keys import ApiKey, NewKey
from parley.schemas.turns import ChatReply, NewTurn, TurnStatus
from tests.factories import (
    PROBLEM,
    accept,
    make_conversation,
    make_file,
    new_file,
    new_reply,
    new_turn,
    record,
)

CANARY = "of-bob-alone"
EMAIL = f"{CANARY}@example.com"
ALICES_EMAIL = "alice@example.com"
TOKEN_HASH = f"token-{CANARY}"
KEY_HASH = f"key-{CANARY}"


@dataclass(frozen=True)
class Bobs:
    """An account, a session, a key, a file, a conversation with a whole turn, and one with a lost one."""

    session_id: UUID
    key: ApiKey
    file: FileMetadata
    conversation: Conversation
    whole: ChatReply
    running: NewTurn


async def give_bob(store: Store, bob: str) -> Bobs:
    async with store.begin(bob) as tx:
        await tx.accounts.create(EMAIL, f"hash-{CANARY}")
        session_id = new_id()
        await tx.sessions.open(session_id, TOKEN_HASH, 3600)
        await tx.sessions.open(new_id(), f"expired {TOKEN_HASH}", -3600)
        key = await tx.keys.create(NewKey(new_id(), KEY_HASH, f"k-{CANARY}", CANARY, None))
    conversation = await make_conversation(
        store, bob, title=CANARY, instructions=CANARY, metadata={"word": CANARY}
    )
    file = await make_file(store, bob, filename=CANARY)
    whole = await record(
        store, bob, conversation.id, f"whole {CANARY}", attachments=[await make_file(store, bob)]
    )
    other = await make_conversation(store, bob, title=f"other {CANARY}")
    turn = new_turn(other.id, f"running {CANARY}", idempotency_key=CANARY)
    running = await accept(store, bob, turn)
    return Bobs(session_id, key, file, conversation, whole, running)


@dataclass(frozen=True)
class Attempt:
    """
    `answer` is what is returned, or the error's type.

    `filters` says that nothing but the query's filter stands before Bob's rows where there are no
    policies: without it the answer is another, or his rows are.
    """

    call: Callable[[Transaction, Bobs], Awaitable[Any]]
    answer: object = None
    filters: bool = True
    is_registered: bool = True


async def _create_hers(tx: Transaction, bobs: Bobs) -> str:
    made = await tx.conversations.create(bobs.conversation.id, ConversationDraft(title="hers"))
    return made.title


async def _find(tx: Transaction, _: Bobs) -> list[Conversation]:
    listed = await tx.conversations.newest(10, None)
    return [*listed, *await tx.conversations.newest(10, None, containing=CANARY)]


async def _read(tx: Transaction, bobs: Bobs) -> list[Message]:
    which = bobs.conversation.id, Order.OLDEST_FIRST, 10, None
    shown = await tx.messages.page(*which)
    return [*shown, *await tx.messages.page(*which, with_superseded=True)]


async def _add_file(tx: Transaction, bobs: Bobs) -> str:
    new = new_file(filename="hers").model_copy(update={"id": bobs.file.id})
    return (await tx.files.add(new, StorageQuota(5, 1))).filename


async def _create_key(tx: Transaction, bobs: Bobs) -> str:
    return (await tx.keys.create(NewKey(bobs.key.id, "hash", "hers", "hers", None))).name


async def _email(account: Awaitable[Account | None]) -> str | None:
    found = await account
    return found and found.email


ATTEMPTS = {
    # Her own, with Bob's id: that he has one shows in nothing.
    "conversations.create": Attempt(_create_hers, "hers", filters=False),
    "conversations.get": Attempt(
        lambda tx, bobs: tx.conversations.get(bobs.conversation.id), ConversationNotFound
    ),
    "conversations.lock": Attempt(
        lambda tx, bobs: tx.conversations.lock(bobs.conversation.id), ConversationNotFound
    ),
    "conversations.newest": Attempt(_find, []),
    "conversations.update": Attempt(
        lambda tx, bobs: tx.conversations.update(
            bobs.conversation.id, ConversationDraft(title="Alice was here")
        ),
        ConversationNotFound,
    ),
    "conversations.delete": Attempt(
        lambda tx, bobs: tx.conversations.delete(bobs.conversation.id), ConversationNotFound
    ),
    "turns.is_abandoned": Attempt(
        lambda tx, bobs: tx.turns.is_abandoned(bobs.running.id), answer=False
    ),
    "turns.seconds_since_end": Attempt(
        lambda tx, bobs: tx.turns.seconds_since_end(bobs.whole.turn_id), 0
    ),
    "turns.close_abandoned": Attempt(
        lambda tx, bobs: tx.turns.close_abandoned(bobs.running.conversation_id, PROBLEM),
        answer=False,
    ),
    # The foreign key carries the user.
    "turns.accept": Attempt(
        lambda tx, bobs: tx.turns.accept(new_turn(bobs.conversation.id)),
        ConversationNotFound,
        filters=False,
    ),
    "turns.record": Attempt(
        lambda tx, bobs: tx.turns.record(bobs.running, 0, new_reply(), None),
        ConversationNotFound,
    ),
    "turns.close": Attempt(
        lambda tx, bobs: tx.turns.close(bobs.running, TurnStatus.FAILED, PROBLEM),
        ConversationNotFound,
    ),
    "turns.get": Attempt(lambda tx, bobs: tx.turns.get(bobs.whole.turn_id), TurnNotFound),
    "turns.running": Attempt(lambda tx, bobs: tx.turns.running(bobs.running.conversation_id)),
    "turns.recorded": Attempt(lambda tx, bobs: tx.turns.recorded(bobs.whole.turn_id)),
    "turns.last": Attempt(lambda tx, bobs: tx.turns.last(bobs.conversation.id)),
    "turns.keyed": Attempt(lambda tx, _: tx.turns.keyed(CANARY)),
    "turns.request_cancel": Attempt(
        lambda tx, bobs: tx.turns.request_cancel(bobs.running.id), TurnNotFound
    ),
    "turns.wanted": Attempt(lambda tx, bobs: tx.turns.wanted(bobs.running.worker_id), []),
    "messages.history": Attempt(
        lambda tx, bobs: tx.messages.history(
            bobs.conversation.id, 1000, max_messages=10, max_characters=10_000
        ),
        [],
    ),
    "messages.page": Attempt(_read, []),
    # An address is one account's in the whole store, and its owner's alone.
    "accounts.create": Attempt(
        lambda tx, _: tx.accounts.create(EMAIL, "hash"), filters=False, is_registered=False
    ),
    "accounts.get": Attempt(lambda tx, _: _email(tx.accounts.get()), ALICES_EMAIL),
    "accounts.lock": Attempt(lambda tx, _: _email(tx.accounts.lock()), ALICES_EMAIL),
    "accounts.set_password": Attempt(lambda tx, _: tx.accounts.set_password("alices")),
    "accounts.set_disabled": Attempt(lambda tx, _: tx.accounts.set_disabled(is_disabled=True)),
    "accounts.delete": Attempt(lambda tx, _: tx.accounts.delete(), []),
    # Takes away what has expired: hers only, and only so told from Bob's.
    "sessions.open": Attempt(lambda tx, _: tx.sessions.open(new_id(), "hers", 3600)),
    "sessions.use_of": Attempt(lambda tx, _: tx.sessions.use_of(TOKEN_HASH, grace_seconds=10)),
    "sessions.rotate": Attempt(
        lambda tx, _: tx.sessions.rotate(
            TOKEN_HASH, "hers", lifetime_seconds=3600, grace_seconds=10
        )
    ),
    "sessions.live": Attempt(lambda tx, bobs: tx.sessions.live(bobs.session_id), answer=False),
    "sessions.close": Attempt(lambda tx, _: tx.sessions.close(TOKEN_HASH)),
    "sessions.close_all": Attempt(lambda tx, _: tx.sessions.close_all()),
    "keys.create": Attempt(_create_key, "hers", filters=False),
    "keys.count": Attempt(lambda tx, _: tx.keys.count(), 0),
    "keys.newest": Attempt(lambda tx, _: tx.keys.newest(10, None), []),
    "keys.delete": Attempt(lambda tx, bobs: tx.keys.delete(bobs.key.id), KeyNotFound),
    "keys.live": Attempt(lambda tx, _: tx.keys.live(KEY_HASH)),
    "keys.touch": Attempt(lambda tx, bobs: tx.keys.touch(bobs.key.id)),
    # Her own, with Bob's id, and as much as she may keep: what he keeps shows in nothing.
    "files.add": Attempt(_add_file, "hers"),
    "files.get": Attempt(lambda tx, bobs: tx.files.get(bobs.file.id), FileNotFound),
    "files.named": Attempt(lambda tx, bobs: tx.files.named([bobs.file.id]), FileNotFound),
    "files.newest": Attempt(lambda tx, _: tx.files.newest(10, None), []),
    "files.usage": Attempt(lambda tx, _: tx.files.usage(), Usage(0, 0)),
    "files.delete": Attempt(lambda tx, bobs: tx.files.delete(bobs.file.id), FileNotFound),
}


def methods() -> set[str]:
    """Every method behind `begin`, as the ports' protocols have them."""
    return {
        f"{name}.{method}"
        for name, part in vars(Transaction).items()
        if isinstance(part, property)
        for method, value in vars(get_type_hints(part.fget)["return"]).items()
        if callable(value) and not method.startswith("_")
    }
