"""What is asked, and what is made of a good answer."""

import asyncio
import json
from contextlib import aclosing

import pytest

from parley.services.responders.base import PromptAttachment, PromptMessage, Receipt
from parley.services.responders.openai import OpenAIResponder
from tests.factories import metadata_of
from tests.integration.openai.listening import CANARY, PROMPT, TOLD, listen, text_of
from tests.model_server import (
    DONE,
    MODEL,
    USAGE,
    ModelServer,
    Then,
    answer,
    chunk,
    end,
    event,
    head,
    piece,
    reply,
)


class TestAttachments:
    async def asked_with(self, server: ModelServer, *attachments: PromptAttachment) -> object:
        responder = OpenAIResponder(base_url=server.url, api_key=None)
        prompt = [PromptMessage("user", "Look", attachments)]
        async with aclosing(responder.stream(prompt, "stub-1")) as pieces:
            assert [piece async for piece in pieces]
        await responder.close()
        (message,) = server.asked[-1].body["messages"]
        assert "user" == message["role"]
        assert {"role", "content"} == message.keys()
        return message["content"]

    async def test_text_is_text_with_its_name_and_where_it_ends(self, server: ModelServer):
        file = metadata_of(filename="Grüße.md", content_type="text/markdown", size=9)

        assert await self.asked_with(
            server, PromptAttachment(file, text="# Hi"), PromptAttachment(file, "# H", is_cut=True)
        ) == (
            "Look\n\n"
            f'[File {file.id}: "Grüße.md" (text/markdown, 9 bytes)]\n# Hi\n[End of file {file.id}]\n\n'
            f'[File {file.id}: "Grüße.md" (text/markdown, 9 bytes)]\n# H\n'
            f"[End of file {file.id}, cut here: it goes on]"
        )

    async def test_an_image_is_a_part_of_its_own(self, server: ModelServer):
        file = metadata_of(filename="dot.png", content_type="image/png", size=3)

        assert await self.asked_with(server, PromptAttachment(file, image=b"dot")) == [
            {"type": "text", "text": f'Look\n\n[File {file.id}: "dot.png" (image/png, 3 bytes)]'},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,ZG90"}},
        ]

    async def test_anything_else_is_named(self, server: ModelServer):
        file = metadata_of(filename="a.pdf", content_type="application/pdf", size=3)

        assert await self.asked_with(server, PromptAttachment(file)) == (
            f'Look\n\n[File {file.id}: "a.pdf" (application/pdf, 3 bytes), which you are not shown]'
        )


class TestReply:
    async def test_the_prompt_is_asked_and_the_answer_comes_in_pieces(
        self, server: ModelServer, responder: OpenAIResponder
    ):
        said = await listen(responder)

        assert ["", "Hello", " there", "", Receipt(MODEL, USAGE)] == said
        (asked,) = server.asked
        assert "/v1/chat/completions" == asked.path
        assert {
            "model": "stub-1",
            "messages": [
                {"role": "system", "content": "Be kind."},
                {"role": "user", "content": "Hi"},
            ],
            "stream": True,
            "stream_options": {"include_usage": True},
        } == asked.body

    async def test_it_sends_the_key_and_nothing_of_the_environment(
        self, server: ModelServer, monkeypatch: pytest.MonkeyPatch
    ):
        for name in ("BASE_URL", "API_KEY", "ADMIN_KEY", "ORG_ID", "PROJECT_ID"):
            monkeypatch.setenv(f"OPENAI_{name}", CANARY)
        monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", f"X-Mine: {CANARY}\nAuthorization: {CANARY}")
        responder = OpenAIResponder(base_url=server.url, api_key="sk-secret")
        assert "Hello there" == await text_of(responder)
        await responder.close()

        (asked,) = server.asked
        assert "Bearer sk-secret" == asked.headers["authorization"]
        assert CANARY not in asked.head
        assert "identity" == asked.headers["accept-encoding"]

    async def test_each_piece_is_there_as_soon_as_it_was_said(
        self, server: ModelServer, responder: OpenAIResponder
    ):
        gate = asyncio.Event()
        server.script = [head(), piece("first"), gate, piece(" second", "stop"), DONE]
        async with aclosing(responder.stream(PROMPT, "stub-1")) as stream:
            assert "first" == await anext(stream)
            gate.set()
            assert " second" == await anext(stream)

    async def test_who_stops_listening_hangs_up(
        self, server: ModelServer, responder: OpenAIResponder
    ):
        server.script = [head(), piece("first"), Then.STALL]
        async with aclosing(responder.stream(PROMPT, "stub-1")) as stream:
            await anext(stream)

        async with asyncio.timeout(60):
            await server.left.wait()

    @pytest.mark.parametrize(
        "sign",
        [
            chunk({"index": 0, "delta": {"reasoning_content": "hm"}, "finish_reason": None}),
            chunk({"index": 0, "delta": {"content": None}}),
            chunk({"index": 0, "delta": None}),
            chunk({"index": 0}),
            chunk({"index": 0, "delta": {"content": ""}, "finish_reason": ""}),
            chunk(),
            event({"choices": None}),
            event({}),
        ],
    )
    async def test_what_has_no_words_is_a_sign_of_life(
        self, server: ModelServer, responder: OpenAIResponder, sign: bytes
    ):
        server.script = [head(), sign, piece("word", "stop"), DONE]

        assert ["", "word"] == (await listen(responder))[:-1]

    async def test_lines_may_end_in_any_way_and_have_comments_between(
        self, server: ModelServer, responder: OpenAIResponder
    ):
        crlf = b"".join(reply("a", "b")[1:]).replace(b"\n", b"\r\n")
        server.script = [head(), b": ping\r\n\r\n", crlf]

        assert "ab" == await text_of(responder)

    @pytest.mark.parametrize(
        "nothing",
        [b"event: ping\n\n", b"id: 5\n\n", b"data:\n\n", b"data\n\n", b"retry: 1\n\n\n"],
    )
    async def test_an_event_without_data_is_none(
        self, server: ModelServer, responder: OpenAIResponder, nothing: bytes
    ):
        server.script = [head(), nothing, piece("a"), nothing, piece("b", "stop"), nothing, DONE]

        assert ["a", "b", Receipt(MODEL)] == await listen(responder)

    @pytest.mark.parametrize("first", [b"", b": ping\n\n"])
    async def test_a_byte_order_mark_is_no_part_of_what_is_said(
        self, server: ModelServer, responder: OpenAIResponder, first: bytes
    ):
        server.script = [head(), b"\xef\xbb\xbf" + first + piece("a"), *reply("b")[1:]]

        assert "ab" == await text_of(responder)

    async def test_what_no_store_keeps_is_left_out(
        self, server: ModelServer, responder: OpenAIResponder
    ):
        server.script = reply("a\x00b", "c\ud83dd", "\U0001f600")

        assert "abcd\U0001f600" == await text_of(responder)

    @pytest.mark.parametrize(
        ("pieces", "kept"),
        [
            (["a\ud83d", "\ude00b"], ["a", "\U0001f600b"]),
            (["\ud83d", "", "\ude00\n"], ["", "", "\U0001f600\n"]),
            (["\ud83d", "a"], ["", "a"]),
            (["\ud83d", "\ud83d", "\ude00"], ["", "", "\U0001f600"]),
            (["\ud83d\n", "\ude00"], ["\n", ""]),
            (["\ufeffa", "\ud83d"], ["\ufeffa", ""]),
        ],
    )
    async def test_a_character_may_come_in_two_halves(
        self, server: ModelServer, responder: OpenAIResponder, pieces: list[str], kept: list[str]
    ):
        server.script = reply(*pieces)

        assert ["", *kept, "", Receipt(MODEL, USAGE)] == await listen(responder)

    async def test_a_cookie_of_one_turn_is_not_sent_with_another(
        self, server: ModelServer, responder: OpenAIResponder
    ):
        server.script = [head(Set_Cookie="whose=alice; Path=/"), *reply("a")[1:]]
        await text_of(responder)
        await text_of(responder)

        assert [False, False] == ["cookie" in asked.headers for asked in server.asked]


class TestReceipt:
    @pytest.mark.parametrize(
        "name", ["m" * 1_000_000, "m" * 201, "a\x00b", "a\nb", "\ud83d", "", 7, ["x"], None]
    )
    async def test_a_name_that_makes_no_sense_is_not_taken(
        self, server: ModelServer, responder: OpenAIResponder, name: object
    ):
        last = {"index": 0, "delta": {"content": "x"}, "finish_reason": "stop"}
        server.script = [head(), chunk(last, model=name), DONE]

        assert Receipt("stub-1") == (await listen(responder))[-1]

    @pytest.mark.parametrize(
        ("usage", "counted"),
        [
            (None, None),
            ("many", None),
            ([], None),
            ({"prompt_tokens": "1", "completion_tokens": 1.5, "total_tokens": True}, None),
            ({"prompt_tokens": -1, "completion_tokens": 2**53}, None),
            (USAGE | {"prompt_tokens": 10**4000}, {"completion_tokens": 2, "total_tokens": 13}),
            (USAGE | {"prompt_tokens_details": {"cached_tokens": 1}, "cost": 1}, USAGE),
        ],
    )
    async def test_only_counts_are_counted(
        self,
        server: ModelServer,
        responder: OpenAIResponder,
        usage: object,
        counted: dict[str, int] | None,
    ):
        server.script = reply("x", usage=usage)

        assert Receipt(MODEL, counted) == (await listen(responder))[-1]

    async def test_counts_may_come_with_the_last_words(
        self, server: ModelServer, responder: OpenAIResponder
    ):
        last = {"index": 0, "delta": {"content": "x"}, "finish_reason": "length"}
        server.script = [head(), chunk(last, usage=USAGE), DONE]

        assert ["x", Receipt(MODEL, USAGE)] == await listen(responder)

    @pytest.mark.parametrize(
        "after", [[Then.CUT], [event(json.loads(TOLD))], [b"data: {\n\n"], [Then.STALL], []]
    )
    async def test_a_reply_that_has_finished_is_whole_whatever_comes_then(
        self,
        server: ModelServer,
        responder: OpenAIResponder,
        monkeypatch: pytest.MonkeyPatch,
        after: list,
    ):
        monkeypatch.setattr("parley.services.responders.openai.responder.LAST_WORDS_SECONDS", 0.05)
        server.script = [head(), piece("whole"), end(), *after]

        assert ["whole", "", Receipt(MODEL)] == await listen(responder)

    @pytest.mark.parametrize("status", ["400 Bad Request", "422 Unprocessable Content"])
    async def test_who_cannot_be_asked_to_count_is_asked_without(
        self, server: ModelServer, responder: OpenAIResponder, status: str
    ):
        server.scripts = [answer(status, TOLD), reply("one"), reply("two")]

        assert ["one", "two"] == [await text_of(responder), await text_of(responder)]
        assert [True, False, False] == ["stream_options" in asked.body for asked in server.asked]
