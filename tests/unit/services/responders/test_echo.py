from collections.abc import Sequence
from typing import Any

import pytest

from parley.services.responders.base import PromptAttachment, PromptMessage
from parley.services.responders.echo import EchoResponder
from tests.factories import metadata_of

SYSTEM = PromptMessage("system", "Be brief.")
NOTHING = "I remember nothing yet."


def user(words: str) -> PromptMessage:
    return PromptMessage("user", words)


def assistant(words: str) -> PromptMessage:
    return PromptMessage("assistant", words)


async def pieces(*prompt: PromptMessage) -> list[str]:
    return [piece async for piece in EchoResponder().stream(prompt, "echo")]


async def echo(*prompt: PromptMessage) -> str:
    return "".join(await pieces(*prompt))


def earlier(turns: int, last: str = "what I said") -> Sequence[PromptMessage]:
    said = [f"message {n}" for n in range(turns - 1)] + [last]
    return [message for words in said for message in (user(words), assistant(f"re {words}"))]


class TestFirstMessage:
    async def test_it_is_said_back_and_nothing_is_remembered(self):
        assert f"You said: hello\n{NOTHING}" == await echo(user("hello"))

    async def test_what_the_system_says_is_not_remembered(self):
        assert f"You said: hello\n{NOTHING}" == await echo(SYSTEM, SYSTEM, user("hello"))


class TestLaterMessages:
    @pytest.mark.parametrize("turns", [1, 2, 50])
    async def test_both_sides_of_every_turn_are_counted(self, turns: int):
        expected = f"I remember {2 * turns} earlier messages; you last said: what I said."

        assert f"You said: hello\n{expected}" == await echo(*earlier(turns), user("hello"))

    async def test_what_the_system_says_is_not_counted(self):
        reply = await echo(SYSTEM, *earlier(1), SYSTEM, user("hello"))

        assert "I remember 2 earlier messages; you last said: what I said." in reply

    async def test_a_history_may_begin_with_a_reply(self):
        """As it does where the oldest messages were left out."""
        reply = await echo(*earlier(2)[1:], user("hello"))

        assert "I remember 3 earlier messages; you last said: what I said." in reply

    @pytest.mark.parametrize(
        ("last", "expected"),
        [
            ("one", "one"),
            ("one two three four five", "one two three four five"),
            ("one two three four five six seven", "one two three four five"),
            ("  one\t two\n\nthree  ", "one two three"),
            ("one, two. three! four? five; six", "one, two. three! four? five;"),
            ("\u00fc\u00f1\U0001f511 \u540d\u524d", "\u00fc\u00f1\U0001f511 \u540d\u524d"),
        ],
    )
    async def test_the_first_five_words_are_remembered(self, last: str, expected: str):
        reply = await echo(*earlier(1, last), user("hello"))

        assert reply.endswith(f"; you last said: {expected}.")

    async def test_the_last_message_is_not_the_new_one(self):
        reply = await echo(*earlier(1, "before"), user("after"))

        assert reply.startswith("You said: after\n")
        assert reply.endswith("; you last said: before.")


class TestPieces:
    async def test_they_are_words_with_the_white_space_behind_them(self):
        assert ["You ", "said: ", "hello  ", "you\n\n", "\U0001f511\n"] == (
            await pieces(user("hello  you\n\n\U0001f511"))
        )[:5]

    @pytest.mark.parametrize(
        "message",
        [
            "hello",
            " hello ",
            "\n\n hello\r\n\tyou \n",
            " ",
            "\u3000\u2028\u00a0x\u2029",
            "x" * 32_000,
            "x " * 16_000,
            " " * 32_000,
            "\n" * 32_000,
            " x" * 16_000,
            "\U0001f511e\u0301 \U0001f511",
        ],
        ids=lambda message: repr(message)[:20],
    )
    async def test_joined_they_are_the_whole(self, message: str):
        """White space in any amount too, and no piece is empty."""
        said = await pieces(user(message))

        assert f"You said: {message}\n{NOTHING}" == "".join(said)
        assert all(said)

    async def test_white_space_alone_is_one_piece_with_the_word_before_it(self):
        said = await pieces(user(" " * 32_000))

        assert ["You ", f"said: {' ' * 32_000}\n", "I ", "remember ", "nothing ", "yet."] == said


class TestAttachments:
    @pytest.mark.parametrize(
        ("given", "told"),
        [
            ({"text": "Grüße"}, "5 characters of it"),
            ({"text": "", "is_cut": True}, "the first 0 characters of it"),
            ({"text": "abc", "is_cut": True}, "the first 3 characters of it"),
            ({"image": b"x"}, "the image"),
            ({}, "its name alone"),
        ],
    )
    async def test_it_tells_what_it_was_given(self, given: dict[str, Any], told: str):
        file = metadata_of(filename="notes.md", content_type="text/markdown", size=7)
        message = user("look")._replace(attachments=(PromptAttachment(file, **given),))

        assert await echo(message) == (
            f"You said: look\nI was given notes.md (text/markdown, 7 bytes): {told}.\n{NOTHING}"
        )

    async def test_those_of_before_are_not_told_again(self):
        before = user("look")._replace(attachments=(PromptAttachment(metadata_of()),))

        assert "I was given" not in await echo(before, assistant("ok"), user("and now?"))
