"""Group F of the list of attacks, rows 58 to 66: what is uploaded, and how it comes back."""

import gzip
import io
import os
import zipfile
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from httpx import AsyncClient, Response

from parley.core.ids import new_id
from parley.core.settings import Settings
from tests.conftest import SECRET

PATH = "/api/v1/files"
PNG = b"\x89PNG\r\n\x1a\n" + bytes.fromhex("0000000d49484452") + b"\0" * 20
HTML = b"<!DOCTYPE html><script>alert(1)</script>"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>'
XML = b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>'

Post = Callable[..., Awaitable[Response]]


@pytest.fixture
def backend() -> str:
    return "memory"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        auth_secret=SECRET, files_url=f"file://{tmp_path}/files", upload_max_bytes=1024**2
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "files"


@pytest.fixture
def post(client: AsyncClient, alice: str, bearer) -> Post:
    """Alice sends a body as it is."""

    async def send(
        body: bytes | AsyncGenerator[bytes], content_type: str = "multipart/form-data; boundary=x"
    ) -> Response:
        headers = {**bearer(alice), "Content-Type": content_type}
        return await client.post(PATH, content=body, headers=headers)

    return send


def part(
    content: bytes = b"hello",
    disposition: bytes = b'form-data; name="file"; filename="a.txt"',
    *headers: bytes,
) -> bytes:
    head = b"\r\n".join([b"Content-Disposition: " + disposition, *headers])
    return b"--x\r\n" + head + b"\r\n\r\n" + content + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--x--\r\n"


def named(filename: bytes) -> bytes:
    return form(part(b"hello", b'form-data; name="file"; filename="' + filename + b'"'))


def left_in(folder: Path) -> list[Path]:
    return [*folder.iterdir()] if folder.exists() else []


def answered(response: Response) -> tuple[int, str]:
    return response.status_code, response.json()["code"]


class TestNames:
    """Row 58."""

    @pytest.mark.parametrize(
        ("filename", "kept"),
        [
            (b"../../../etc/passwd", "passwd"),
            (b"/etc/passwd", "passwd"),
            (b"..", "file"),
            (b"C:\\\\Windows\\\\win.ini", "win.ini"),
            (b"a%0D%0ASet-Cookie: b=c", "aSet-Cookie: b=c"),
            (b"say %22hi%22.txt", 'say "hi".txt'),
            ("invoice\u202egnp.exe".encode(), "invoicegnp.exe"),
            ("Grüße 🙂.md".encode(), "Grüße 🙂.md"),
            (b"a" * 4096 + b".txt", "a" * 251 + ".txt"),
            (b"", "file"),
        ],
    )
    async def test_what_could_mislead_is_left_out_and_nothing_is_kept_under_it(
        self, post: Post, folder: Path, filename: bytes, kept: str
    ):
        answer = await post(named(filename))

        assert (201, kept) == (answer.status_code, answer.json()["filename"])
        assert [answer.json()["id"]] == [path.name for path in left_in(folder)]

    @pytest.mark.parametrize(
        ("filename", "code"),
        [
            (b"a\0b", "nul-character"),
            (b"a\xff", "filename-unreadable"),
            (b"\xed\xa0\x80", "filename-unreadable"),
        ],
    )
    async def test_what_is_no_text_is_refused(
        self, post: Post, folder: Path, filename: bytes, code: str
    ):
        answer = await post(named(filename))

        assert 422 == answer.status_code
        assert [(["body", "file"], code)] == [
            (fault["location"], fault["code"]) for fault in answer.json()["errors"]
        ]
        assert [] == left_in(folder)

    async def test_one_that_is_escaped_as_a_header_is_read_all_the_same(self, post: Post):
        disposition = b'form-data; name="file"; filename="Gr.md"; filename*=UTF-8\'\'Gr%C3%BC.md'

        answer = await post(form(part(b"hello", disposition)))

        assert "Grü.md" == answer.json()["filename"]

    @pytest.mark.parametrize("begin", [b"a", b'a\\"', b"a\\\\"])
    async def test_what_a_name_has_in_it_is_no_other_name(self, post: Post, begin: bytes):
        answer = await post(named(begin + b"; filename*=utf-8''b.exe"))

        assert answer.json()["filename"].endswith("; filename*=utf-8''b.exe")

    async def test_it_comes_back_in_a_header_that_nothing_gets_out_of(
        self, client: AsyncClient, alice: str, bearer, post: Post
    ):
        created = await post(named("\u202e%0D%0AX: 1%22; filename=🙂".encode()))
        answer = await client.get(f"{PATH}/{created.json()['id']}/content", headers=bearer(alice))

        disposition = answer.headers["Content-Disposition"]
        assert disposition.startswith('attachment; filename="')
        assert disposition.isascii()
        assert "X" not in answer.headers


class TestTooMuch:
    """Row 59."""

    @pytest.mark.parametrize("is_declared", [True, False])
    async def test_it_is_413_and_nothing_is_left(
        self,
        post: Post,
        folder: Path,
        is_declared: bool,  # noqa: FBT001
    ):
        body = form(part(b"x" * (1024**2 + 1)))

        async def sent() -> AsyncGenerator[bytes]:
            for start in range(0, len(body), 10_000):
                yield body[start : start + 10_000]

        answer = await post(body if is_declared else sent())

        assert (413, "file-too-large") == answered(answer)
        assert [] == left_in(folder)

    @pytest.mark.parametrize("where", ["before", "behind"])
    async def test_so_is_a_form_around_it(self, post: Post, folder: Path, where: str):
        async def sent() -> AsyncGenerator[bytes]:
            if where == "behind":
                yield form(part())
            for _ in range(200):
                yield b"\r\n" * 5000

        answer = await post(sent())

        assert answer.status_code in {400, 413}
        assert [] == left_in(folder)


class TestForms:
    """Rows 60 and 61."""

    @pytest.mark.parametrize(
        ("body", "status"),
        [
            (form(*[part()] * 2000), 400),
            (form(part(), part(b"", b'form-data; name="purpose"')), 400),
            (form(part(b"hello", b"form-data; name=file; filename=a", b"X: " + b"a" * 5_000_000)), 413),
            (form(part(b"hello", b"form-data; name=file; filename=a", b"X: " + b"a" * 50_000)), 400),
            (form(part(b"hello", b"form-data; name=file; filename=a", *[b"X: a"] * 100)), 400),
            (form(part(b"hello", b"form-data; name=file; filename=a", b"no header at all")), 400),
            (form(part(b"hello", b"form-data; name=file; filename=a" + b";" * 10_000)), 400),
            (form(part())[:-8], 400),
            (part()[:-20], 400),
            (b"--x\r\n", 400),
            (b"--y\r\n\r\n--y--", 400),
            (b"", 400),
            (b"--x--\r\n", 400),
            (form(part(b"\r\n--xy" * 1000)), 400),
            (b"{}", 400),
            (form(part(b"hello", b'form-data; name="other"; filename="a"')), 422),
            (form(part(b"hello", b'form-data; filename="a"')), 422),
            (form(part(b"hello", b'form-data; name="file"')), 422),
            (form(part(b"hello", b'attachment; name="file"; filename="a"')), 422),
            (b"--x\r\n\r\nhello\r\n--x--\r\n", 422),
        ],
    )  # fmt: skip
    async def test_what_is_no_form_of_one_file_is_refused_and_nothing_is_left(
        self, post: Post, folder: Path, body: bytes, status: int
    ):
        answer = await post(body)

        assert status == answer.status_code
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert [] == left_in(folder)

    @pytest.mark.parametrize(
        "content_type",
        [
            "multipart/form-data",
            "multipart/form-data; boundary=",
            'multipart/form-data; boundary=""',
            "multipart/form-data; boundary=" + "x" * 5000,
            "multipart/form-data; boundary*=UTF-8''x",
            "multipart/form-data; boundary=x" + ";" * 10_000,
        ],
    )
    async def test_without_a_boundary_it_is_malformed(self, post: Post, content_type: str):
        assert (400, "malformed-upload") == answered(await post(form(part()), content_type))

    @pytest.mark.parametrize(
        "content_type",
        [
            "application/x-www-form-urlencoded", "application/json", "multipart/mixed; boundary=x",
            "text/plain", "", "multipart/form-datax; boundary=x",
        ],
    )  # fmt: skip
    async def test_whatever_else_comes_is_no_upload(self, post: Post, content_type: str):
        answer = await post(b"a=b&" * 100_000, content_type)

        assert (415, "not-multipart") == answered(answer)

    async def test_a_compressed_one_is_refused(
        self, client: AsyncClient, alice: str, bearer, folder: Path
    ):
        answer = await client.post(
            PATH,
            content=gzip.compress(form(part(b"a" * 100_000))),
            headers={
                **bearer(alice),
                "Content-Type": "multipart/form-data; boundary=x",
                "Content-Encoding": "gzip",
            },
        )

        assert (415, "unsupported-encoding") == answered(answer)
        assert [] == left_in(folder)

    async def test_nobodys_is_not_read(self, client: AsyncClient):
        answer = await client.post(
            PATH, content=b"no form", headers={"Content-Type": "text/plain"}
        )

        assert (401, "unauthenticated") == answered(answer)


class TestDisguises:
    """Rows 62 and 63."""

    @pytest.mark.parametrize("content", [HTML, SVG, XML, b"GIF89a" + HTML, b"%PDF-1.7" + HTML])
    @pytest.mark.parametrize("claim", ["image/png", "image/jpeg"])
    async def test_what_is_no_picture_is_none(
        self, post: Post, folder: Path, content: bytes, claim: str
    ):
        disposition = b'form-data; name="file"; filename="a.png"'
        answer = await post(form(part(content, disposition, b"Content-Type: " + claim.encode())))

        assert (415, "file-type-refused") == answered(answer)
        assert [] == left_in(folder)

    @pytest.mark.parametrize(
        ("content", "claim", "kept"),
        [
            (HTML, "text/html", "text/html; charset=utf-8"),
            (SVG, "application/octet-stream", "text/plain; charset=utf-8"),
            (XML, "application/octet-stream", "text/plain; charset=utf-8"),
            (PNG + HTML, "image/png", "image/png"),
            (b"GIF89a/*" + HTML, "image/gif", "image/gif"),
            (b"MZ\x90\0\3\0\0\0" + HTML, "application/octet-stream", "application/octet-stream"),
        ],
    )
    async def test_whatever_it_is_no_browser_runs_it(
        self, client: AsyncClient, alice: str, bearer, post: Post, content, claim, kept
    ):
        disposition = b'form-data; name="file"; filename="a"'
        created = await post(form(part(content, disposition, b"Content-Type: " + claim.encode())))
        answer = await client.get(f"{PATH}/{created.json()['id']}/content", headers=bearer(alice))

        assert content == answer.content
        assert kept == answer.headers["Content-Type"]
        assert answer.headers["Content-Disposition"].startswith("attachment;")
        assert "nosniff" == answer.headers["X-Content-Type-Options"]
        assert answer.headers["Content-Security-Policy"].endswith("sandbox")
        assert "same-origin" == answer.headers["Cross-Origin-Resource-Policy"]
        assert "no-store" == answer.headers["Cache-Control"]


def _bomb() -> bytes:
    """Ten megabytes of nothing in ten kilobytes, inside of the like."""
    content = b"\0" * 10 * 1024**2
    for name in ("word/document.xml", "inner.zip"):
        made = io.BytesIO()
        with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(name, content)
        content = made.getvalue()
    return content


async def test_what_would_grow_is_kept_as_it_is_and_shown_to_nobody(
    client: AsyncClient, alice: str, bearer, post: Post, folder: Path
):
    """Row 64."""
    bomb = _bomb()
    created = await post(form(part(bomb, b'form-data; name="file"; filename="a.zip"')))
    file = created.json()
    said = await client.post(
        "/api/v1/me/chat",
        json={"message": "open it", "attachments": [file["id"]]},
        headers=bearer(alice),
    )

    assert ("application/zip", len(bomb)) == (file["content_type"], file["size"])
    assert [len(bomb)] == [path.stat().st_size for path in left_in(folder)]
    assert "its name alone" in said.json()["reply"]["content"]


class TestIds:
    """Row 65."""

    @pytest.mark.parametrize(
        "file_id",
        [
            "../../etc/passwd", "..%2f..%2fetc%2fpasswd", "L2V0Yy9wYXNzd2Q=", "%00", "a.txt",
            "..", "%2e%2e", "00000000-0000-0000-0000-000000000000%00.png",
        ],
    )  # fmt: skip
    @pytest.mark.parametrize("suffix", ["", "/content"])
    async def test_what_is_no_id_leads_nowhere(
        self, client: AsyncClient, alice: str, bearer, file_id: str, suffix: str
    ):
        answer = await client.get(f"{PATH}/{file_id}{suffix}", headers=bearer(alice))

        assert answer.status_code in {404, 422}

    async def test_nor_does_one_of_nobodys(self, client: AsyncClient, alice: str, bearer):
        for path in (f"{PATH}/{new_id()}", f"{PATH}/{new_id()}/content"):
            answer = await client.get(path, headers=bearer(alice))
            assert (404, "file-not-found") == answered(answer)


class TestRoom:
    """Row 66."""

    @pytest.fixture
    def settings(self, tmp_path: Path) -> Settings:
        return Settings(
            auth_secret=SECRET,
            files_url=f"file://{tmp_path}/files",
            upload_quota_bytes=100,
            rate_limit_chat="1000/minute",
        )

    async def test_many_small_ones_have_no_more_than_one_large_one(self, post: Post, folder: Path):
        answers = [await post(form(part(b"x" * 9))) for _ in range(20)]

        assert 11 == [answer.status_code for answer in answers].count(201)
        assert (413, "quota-exceeded") == answered(answers[-1])
        assert 11 == len(left_in(folder))

    async def test_nor_have_empty_ones(
        self, post: Post, folder: Path, monkeypatch: pytest.MonkeyPatch, app: FastAPI
    ):
        files = app.state.services.files
        monkeypatch.setattr(files, "_quota", files._quota._replace(max_files=3))  # noqa: SLF001
        answers = [await post(form(part(b""))) for _ in range(5)]

        assert [201, 201, 201, 413, 413] == [answer.status_code for answer in answers]
        assert 3 == len(left_in(folder))

    @pytest.mark.parametrize("make", [Path.symlink_to, lambda path, _: os.mkfifo(path)])
    async def test_a_link_in_the_file_store_is_not_followed(
        self,
        client: AsyncClient,
        alice: str,
        bearer,
        post: Post,
        folder: Path,
        tmp_path: Path,
        make: Any,
    ):
        secret = tmp_path / "secret"
        secret.write_text("not hers")
        file_id = (await post(form(part()))).json()["id"]
        (folder / file_id).unlink()
        make(folder / file_id, secret)

        answer = await client.get(f"{PATH}/{file_id}/content", headers=bearer(alice))

        assert (404, "file-lost") == answered(answer)
