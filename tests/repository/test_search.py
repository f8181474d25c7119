"""The same is found on all stores, whatever its case."""

import string
import sys

import pytest

from parley.core.caseless import folded, pattern_of
from parley.core.ids import new_id
from parley.crud.ports import Store
from parley.schemas.conversations import ConversationDraft, ConversationKey
from tests.databases import DatabaseUrls, connected
from tests.factories import make_conversation, record, replace

CHUNK = 200


async def found(store: Store, user_id: str, text: str) -> list[str]:
    async with store.begin(user_id, read_only=True) as tx:
        return [each.title for each in await tx.conversations.newest(200, None, containing=text)]


class TestWhere:
    async def test_in_titles_and_in_what_either_said(self, store: Store, alice: str):
        await make_conversation(store, alice, title="A zebra")
        said = await make_conversation(store, alice, title="said")
        await record(store, alice, said.id, "of ZEBRAS")
        for _ in range(2):
            await record(store, alice, said.id, "zebra again")
        await make_conversation(store, alice, title="neither")

        assert ["said", "A zebra"] == await found(store, alice, "Zebra")
        assert ["said"] == await found(store, alice, "re: of z")

    async def test_not_in_what_was_replaced(self, store: Store, alice: str):
        conversation = await make_conversation(store, alice, title="talk")
        last = await record(store, alice, conversation.id, "zebra")
        await replace(store, alice, last, "gnu")

        assert [] == await found(store, alice, "zebra")
        assert ["talk"] == await found(store, alice, "re: gnu")

    async def test_not_in_what_is_anothers_be_the_ids_the_same(
        self, store: Store, alice: str, bob: str
    ):
        shared = new_id()
        for user_id in (alice, bob):
            async with store.begin(user_id) as tx:
                await tx.conversations.create(shared, ConversationDraft(title="shared"))
        await record(store, bob, shared, "zebra")
        await make_conversation(store, bob, title="zebra")

        assert [] == await found(store, alice, "zebra")
        assert ["zebra", "shared"] == await found(store, bob, "zebra")

    async def test_pages_by_key_meet_without_a_gap(self, store: Store, alice: str):
        for number in range(8):
            await make_conversation(
                store, alice, title=f"{'odd' if number % 2 else 'even'} {number}"
            )

        seen, after = [], None
        while True:
            async with store.begin(alice, read_only=True) as tx:
                page = await tx.conversations.newest(3, after, containing="ODD")
            if not page:
                break
            seen += [each.title for each in page]
            after = ConversationKey(page[-1].updated_at, page[-1].id)

        assert ["odd 7", "odd 5", "odd 3", "odd 1"] == seen


class TestCase:
    async def test_every_letter_that_has_another_case_is_found_in_it(
        self, store: Store, alice: str
    ):
        every = map(chr, range(sys.maxunicode + 1))
        pairs = [(folded(other), other) for other in every if folded(other) != other]
        for start in range(0, len(pairs), CHUNK):
            plain, other = (
                "".join(each) for each in zip(*pairs[start : start + CHUNK], strict=True)
            )
            await make_conversation(store, alice, title=plain)
            assert [plain] == await found(store, alice, other)
            await make_conversation(store, alice, title=other)
            assert [other, plain] == await found(store, alice, plain)

    @pytest.mark.parametrize(
        ("text", "titles"),
        [
            ("ς", ["Σ", "ς", "σ"]),  # noqa: RUF001 - the final small sigma
            ("ß", ["ẞ", "ß"]),
            ("ss", ["ſS", "ss"]),  # noqa: RUF001 - a long s
            ("i", ["İ", "i", "I"]),
            ("ı", ["ı"]),  # noqa: RUF001 - without a dot
            ("k", ["\u212a", "k"]),
            ("e\u0301", ["e\u0301"]),
            ("𐐀", ["𐐨"]),
            ("a\nb", ["A\nB"]),
        ],
    )
    async def test_one_character_is_one_character(
        self, store: Store, alice: str, text: str, titles: list[str]
    ):
        for title in (
            "I", "i", "İ", "ı", "ss", "ſS", "ß", "ẞ", "σ", "ς", "Σ", "k", "\u212a", "é", "e\u0301",  # noqa: RUF001
            "𐐨", "A\nB",
        ):  # fmt: skip
            await make_conversation(store, alice, title=title)

        assert titles == await found(store, alice, text)


class TestPlainText:
    async def test_no_character_stands_for_another(self, store: Store, alice: str):
        for character in string.punctuation + " \t\n\r":
            await make_conversation(store, alice, title=f"<{character}>")

        for character in set(string.punctuation) - {*"<>"}:
            assert [f"<{character}>"] == await found(store, alice, character)

    @pytest.mark.parametrize(
        "text",
        ["***:.", "***=a", "(?i)a", "[[:alpha:]]", "\\u0061", "'; --", "a" * 200, "\U0010ffff"],
    )
    async def test_nothing_is_a_command(self, store: Store, alice: str, text: str):
        await make_conversation(store, alice, title="another")
        assert [] == await found(store, alice, text)
        await make_conversation(store, alice, title=text)
        assert [text] == await found(store, alice, text)


COLLATIONS = {"C", "POSIX", "ucs_basic", "pg_c_utf8", "pg_unicode_fast", "tr-x-icu", "tr_TR.utf8"}


async def test_the_locale_of_the_database_does_not_matter(postgres: DatabaseUrls):
    """Of which there are those that know no letter but A to Z, and those of Turkey."""
    words = {"istanbul": "ISTANBUL", "οδος": "ΟΔΟΣ", "straße": "STRAẞE"}
    async with connected(postgres.api) as api:
        there = await api.fetch("SELECT collname FROM pg_collation")
        for collation in {row["collname"] for row in there} & COLLATIONS:
            for text, sought in words.items():
                query = f'SELECT $1 COLLATE "{collation}" ~ $2'
                assert await api.fetchval(query, text, pattern_of(sought)), (collation, text)
