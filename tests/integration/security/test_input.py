"""
Text and JSON that somebody sends: security.md, rows 45 to 56.

tests/integration/test_bad_input.py has many of them, on every store; these are the rest.
"""

import json
import re
from io import StringIO

import pytest
from httpx import AsyncClient

from parley.core.ids import new_id
from parley.crud.ports import Store
from tests.factories import make_conversation
from tests.integration.security.operations import OPERATIONS, Operation

JSON = {"Content-Type": "application/json"}
CHAT = "/api/v1/me/chat"

# Row 53.
STRANGE = {
    "a million combining marks' worth": "e" + "\u0301" * 31_999,
    "right to left": "\u202egnp.exe\u2066\u2069",
    "a homoglyph": "p\u0430ypal",
    "not normalised": "e\u0301 \u00e9 \ufb01 \u212b",
    "beyond the first plane": "\U0001f468\u200d\U0001f469 \U0010ffff",
    "no characters at all": "\ufdd0\ufffe\uffff",
    "controls": "\x01\x1b[31m\x7f\x85",
    "line ends": "a\r\nb\u2028c\u2029d\x0b",
    "nothing that shows": "\u200b",
}


@pytest.fixture
def backend() -> str:
    """The hardest one."""
    return "postgres"


class TestText:
    @pytest.mark.parametrize("text", STRANGE.values(), ids=STRANGE)
    async def test_it_is_kept_to_the_letter(self, client: AsyncClient, say, bearer, alice, text):
        """Row 53."""
        turn = (await say(text)).json()
        path = f"/api/v1/conversations/{turn['conversation_id']}"
        detail = (await client.get(path, headers=bearer(alice))).json()

        assert text == turn["message"]["content"] == detail["messages"][0]["content"]

    @pytest.mark.parametrize("text", ["", "\x00", "a\x00b", "\ud800", "a\udfff"])
    async def test_what_no_store_keeps_is_422_and_the_answer_is_utf_8(
        self, client: AsyncClient, bearer, alice: str, text: str
    ):
        """Rows 45 and 46: in a value, in a name, in metadata, and in what the answer says of it."""
        for body in (
            {"message": text},
            {"message": "a", text or "\x00": 1},
            {"message": "a", "conversation_id": text},
        ):
            refused = await client.post(
                CHAT, content=json.dumps(body), headers=JSON | bearer(alice)
            )
            assert 422 == refused.status_code, body
            assert text not in refused.content.decode() or not text

    @pytest.mark.parametrize(
        "query", ["limit=%00", "cursor=%00", "cursor=%ED%A0%80", "cursor=%FF"]
    )
    async def test_a_query_of_no_text_is_refused(
        self, client: AsyncClient, bearer, alice: str, query: str
    ):
        """Row 45."""
        refused = await client.get(f"/api/v1/conversations?{query}", headers=bearer(alice))

        assert refused.status_code in {400, 422}
        assert refused.content.decode()

    @pytest.mark.parametrize(
        "text", ["'; DROP TABLE messages; --", "%", "_", "\\", "$.a", '{"$ne": 1}', "${jndi:x}"]
    )
    async def test_it_is_never_a_command(
        self, client: AsyncClient, bearer, alice: str, store: Store, text: str
    ):
        """Row 54."""
        await make_conversation(store, alice)
        made = await client.post(
            "/api/v1/conversations",
            json={"title": text, "instructions": text, "metadata": {text: text}},
            headers=bearer(alice),
        )
        listed = (await client.get("/api/v1/conversations", headers=bearer(alice))).json()

        assert 201 == made.status_code
        assert text == listed["items"][0]["title"]
        assert 2 == len(listed["items"])


class TestBody:
    @pytest.mark.parametrize("coding", ["gzip", "GZIP", "deflate", "br", "zstd", "identity, gzip"])
    async def test_a_compressed_one_is_415(
        self, client: AsyncClient, bearer, alice: str, coding: str
    ):
        """Row 51."""
        headers = JSON | bearer(alice) | {"Content-Encoding": coding}
        refused = await client.post(CHAT, json={"message": "a"}, headers=headers)

        assert (415, "unsupported-encoding") == (refused.status_code, refused.json()["code"])

    async def test_the_second_of_two_codings_counts_too(
        self, client: AsyncClient, bearer, alice: str
    ):
        """Row 51."""
        coded = [("Content-Encoding", "identity"), ("Content-Encoding", "gzip")]
        headers = [*coded, *(JSON | bearer(alice)).items()]

        assert 415 == (await client.post(CHAT, content=b"{}", headers=headers)).status_code

    @pytest.mark.parametrize(
        "content_type",
        [
            "text/html",
            "multipart/form-data; boundary=x",
            "application/x-www-form-urlencoded; charset=utf-8",
            "application/jsonp",
            "application/octet-stream",
            "application",
            "json",
            "",
            "text/plain;application/json",
        ],
    )
    async def test_one_of_another_type_is_not_read_as_json(
        self, client: AsyncClient, bearer, alice: str, content_type: str
    ):
        """Row 52: those that a page of another origin may send without asking are among them."""
        refused = await client.post(
            CHAT,
            content=b'{"message": "a"}',
            headers={"Content-Type": content_type} | bearer(alice),
        )

        assert refused.status_code in {415, 422}

    @pytest.mark.parametrize(
        "operation", [each for each in OPERATIONS if each.body_schema], ids=str
    )
    async def test_of_members_without_end_is_refused_as_a_whole(
        self, client: AsyncClient, bearer, alice: str, operation: Operation
    ):
        """A fault for each of ninety thousand would take a second of everybody's time."""
        path = re.sub(r"\{(\w+)\}", str(new_id()), operation.path.replace("{user_id}", "me"))
        answers = [
            await client.request(
                operation.method,
                path,
                json={str(number): 0 for number in range(count)},
                headers=bearer(alice),
            )
            for count in (50, 51)
        ]

        assert [(422, "invalid-request")] * 2 == [
            (answer.status_code, answer.json()["code"]) for answer in answers
        ]
        assert [True, False] == ["errors" in answer.json() for answer in answers]

    @pytest.mark.parametrize("charset", ["utf-16", "utf-7", "latin-1"])
    async def test_json_is_utf_8_whatever_else_is_claimed(
        self, client: AsyncClient, bearer, alice: str, charset: str
    ):
        """Rows 47 and 52."""
        headers = {"Content-Type": f"application/json; charset={charset}"} | bearer(alice)
        body = '{"message": "é"}'
        read = await client.post(CHAT, content=body.encode(), headers=headers)
        refused = await client.post(CHAT, content=body.encode("utf-16"), headers=headers)

        assert (200, "é") == (read.status_code, read.json()["message"]["content"])
        assert 422 == refused.status_code


class TestLog:
    FORGED = "x\r\n{}\n\x1b[2J\u2028\u2029\x85"

    async def test_nothing_that_is_sent_makes_a_line_of_its_own(
        self, client: AsyncClient, bearer, alice: str, logged: StringIO
    ):
        """Row 55: whatever is logged of it."""
        path = "/" + "".join(f"%{byte:02X}" for byte in self.FORGED.encode())
        headers = bearer(alice) | {"X-Request-ID": "x\t{}"}
        await client.get(path, headers=headers)
        await client.post(CHAT, json={"message": self.FORGED}, headers=headers)
        await client.post(
            "/api/v1/conversations", json={"title": self.FORGED}, headers=bearer(alice)
        )
        account = {"email": f"a{self.FORGED}@example.com", "password": self.FORGED}
        await client.post("/api/v1/auth/login", json=account)

        text = logged.getvalue()
        ours = [line for line in text.split("\n")[:-1] if '"logger": "httpx"' not in line]
        assert len(ours) == sum(isinstance(json.loads(line), dict) for line in ours)
        assert 4 == sum(json.loads(line)["logger"] == "parley.access" for line in ours)
        assert text.isascii()
        assert "\x1b" not in text
        assert "\r" not in text

    @pytest.mark.parametrize(
        "given", [b"x" * 129, b"x" * 10_000, b"a\tb", b"a%0d%0ab", b"\x80", b"\xe2\x80\xa8", b"{}"]
    )
    async def test_a_request_id_that_could_say_more_is_replaced_in_the_log_too(
        self, client: AsyncClient, given: bytes, logged: StringIO
    ):
        """Row 56; with a line's end in it, it is no header: test_http.py."""
        answer = await client.get("/api/health", headers={b"X-Request-ID": given})

        name = answer.headers["X-Request-ID"]
        assert 32 == len(name)
        (line,) = [
            line
            for line in map(json.loads, logged.getvalue().splitlines())
            if line["logger"] == "parley.access"
        ]
        assert name == line["request_id"]

    async def test_of_two_request_ids_one_counts_everywhere(
        self, client: AsyncClient, logged: StringIO
    ):
        """Row 56."""
        headers = [("X-Request-ID", "mine"), ("X-Request-ID", "theirs")]
        answer = await client.get("/nowhere", headers=headers)

        assert ["mine"] == answer.headers.get_list("X-Request-ID")
        assert "mine" == answer.json()["request_id"]
        assert "theirs" not in logged.getvalue()
