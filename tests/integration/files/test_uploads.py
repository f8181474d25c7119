"""Files over HTTP: up, listed, down, away; on three stores and in three file stores."""

import hashlib
from collections.abc import AsyncGenerator, Iterator
from uuid import UUID

import pytest
from httpx import AsyncClient

from parley.core.ids import new_id
from parley.crud.ports import Blobs, Store
from parley.routers._uploads import FORM_BYTES_MAX
from tests.factories import make_file
from tests.integration.files.conftest import Upload
from tests.stores import kept

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c489"
    "0000000d49444154789c6360000002000001e221bc330000000049454e44ae426082"
)
PDF = b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n<<>>\nendobj\ntrailer<<>>\n%%EOF\n"


class TestUpload:
    @pytest.mark.parametrize(
        ("content", "filename", "content_type"),
        [
            (b"", "empty.txt", "text/plain"),
            ("Grüße\n".encode(), "Grüße 🙂.md", "text/markdown"),
            (PNG, "dot.png", "image/png"),
            (PDF, "paper.pdf", "application/pdf"),
            (bytes(range(256)) * 20_000, "data.bin", "application/octet-stream"),
        ],
        ids=["empty", "markdown", "image", "pdf", "five-megabytes"],
    )
    async def test_what_went_up_comes_down(
        self,
        client: AsyncClient,
        alice: str,
        bearer,
        upload: Upload,
        content: bytes,
        filename: str,
        content_type: str,
    ):
        created = await upload(content, filename, content_type)
        file = created.json()
        found = await client.get(f"/api/v1/files/{file['id']}", headers=bearer(alice))
        down = await client.get(f"/api/v1/files/{file['id']}/content", headers=bearer(alice))

        assert (201, 200, 200) == (created.status_code, found.status_code, down.status_code)
        assert file == found.json()
        assert (filename, content_type, len(content), hashlib.sha256(content).hexdigest()) == (
            file["filename"], file["content_type"], file["size"], file["sha256"]
        )  # fmt: skip
        assert content == down.content
        assert {"id", "filename", "content_type", "size", "sha256", "created_at"} == file.keys()

    async def test_a_body_of_unknown_length_is_taken_as_it_comes(
        self, client: AsyncClient, alice: str, bearer
    ):
        async def form() -> AsyncGenerator[bytes]:
            yield b"--x\r\nContent-Disposition: form-data; name=file; filename=a.txt\r\n\r\n"
            for _ in range(10):
                yield b"hello "
            yield b"\r\n--x--\r\nwhatever follows"

        headers = {**bearer(alice), "Content-Type": "multipart/form-data; boundary=x"}
        created = await client.post("/api/v1/files", content=form(), headers=headers)

        assert 201 == created.status_code
        assert 60 == created.json()["size"]

    async def test_they_are_listed_page_by_page_the_last_first(
        self, client: AsyncClient, alice: str, bob: str, bearer, upload: Upload
    ):
        made = [(await upload(filename=f"{n}.txt")).json() for n in range(3)]
        await upload(user_id=bob)

        first = await client.get("/api/v1/files?limit=2", headers=bearer(alice))
        cursor = first.json()["next_cursor"]
        second = await client.get(f"/api/v1/files?limit=2&cursor={cursor}", headers=bearer(alice))
        stolen = await client.get(f"/api/v1/files?cursor={cursor}", headers=bearer(bob))

        assert made[::-1] == [*first.json()["items"], *second.json()["items"]]
        assert None is second.json()["next_cursor"]
        assert (400, "invalid-cursor") == (stolen.status_code, stolen.json()["code"])


class TestDelete:
    async def test_it_is_gone_with_its_bytes(
        self, client: AsyncClient, alice: str, bearer, upload: Upload, app_blobs: Blobs
    ):
        file_id = (await upload()).json()["id"]
        path = f"/api/v1/files/{file_id}"

        deleted = await client.delete(path, headers=bearer(alice))
        again = await client.delete(path, headers=bearer(alice))
        content = await client.get(f"{path}/content", headers=bearer(alice))

        assert {"id": file_id, "deleted": True} == deleted.json()
        assert {(404, "file-not-found")} == {
            (answer.status_code, answer.json()["code"]) for answer in (again, content)
        }
        assert set() == await kept(app_blobs)

    async def test_one_in_use_stays_until_its_conversation_is_deleted(
        self, client: AsyncClient, alice: str, bearer, upload: Upload, say, app_blobs: Blobs
    ):
        file_id = (await upload()).json()["id"]
        said = (await say(attachments=[file_id])).json()

        refused = await client.delete(f"/api/v1/files/{file_id}", headers=bearer(alice))
        still = await client.get(f"/api/v1/files/{file_id}/content", headers=bearer(alice))
        conversation = f"/api/v1/conversations/{said['conversation_id']}"
        await client.delete(conversation, headers=bearer(alice))
        deleted = await client.delete(f"/api/v1/files/{file_id}", headers=bearer(alice))

        assert (409, "file-in-use") == (refused.status_code, refused.json()["code"])
        assert said["conversation_id"] in refused.json()["detail"]
        assert b"hello" == still.content
        assert 200 == deleted.status_code
        assert set() == await kept(app_blobs)

    async def test_deleting_an_account_takes_its_files_bytes_along(
        self, client: AsyncClient, alice: str, bob: str, bearer, upload: Upload, app_blobs: Blobs
    ):
        await upload()
        his = (await upload(user_id=bob)).json()["id"]

        deleted = await client.delete("/api/v1/auth/me", headers=bearer(alice))

        assert 200 == deleted.status_code
        assert {UUID(his)} == await kept(app_blobs)


class TestLost:
    async def test_a_file_without_its_bytes_says_so_and_can_be_deleted(
        self, client: AsyncClient, alice: str, bearer, store: Store, upload: Upload
    ):
        await upload()  # the file store is there
        file = await make_file(store, alice)

        content = await client.get(f"/api/v1/files/{file.id}/content", headers=bearer(alice))
        deleted = await client.delete(f"/api/v1/files/{file.id}", headers=bearer(alice))

        assert (404, "file-lost") == (content.status_code, content.json()["code"])
        assert "not in the file store any more" in content.json()["detail"]
        assert 200 == deleted.status_code


class TestAllowances:
    @pytest.fixture
    def limits(self) -> dict[str, object]:
        return {"upload_max_bytes": 1000, "upload_quota_bytes": 1500}

    @pytest.mark.parametrize("size", [1000, 1001, 70_000, 200_000])
    async def test_a_file_may_have_so_many_bytes_and_not_one_more(
        self, upload: Upload, app_blobs: Blobs, size: int
    ):
        answer = await upload(b"x" * size)

        if size == 1000:
            assert 201 == answer.status_code
            return
        assert (413, "file-too-large") == (answer.status_code, answer.json()["code"])
        assert "1000 bytes" in answer.json()["detail"]
        assert set() == await kept(app_blobs)

    async def test_so_where_nobody_has_said_how_many_come(
        self, client: AsyncClient, alice: str, bearer, app_blobs: Blobs
    ):
        def form() -> Iterator[bytes]:
            yield b"--x\r\nContent-Disposition: form-data; name=file; filename=a.txt\r\n\r\n"
            for _ in range(200):
                yield b"x" * 1000

        async def sent() -> AsyncGenerator[bytes]:
            for piece in form():
                yield piece

        headers = {**bearer(alice), "Content-Type": "multipart/form-data; boundary=x"}
        answer = await client.post("/api/v1/files", content=sent(), headers=headers)

        assert (413, "file-too-large") == (answer.status_code, answer.json()["code"])
        assert set() == await kept(app_blobs)

    async def test_a_user_may_keep_so_many_bytes_in_all(
        self, client: AsyncClient, alice: str, bearer, upload: Upload, app_blobs: Blobs
    ):
        first = await upload(b"x" * 1000)
        second = await upload(b"x" * 501)
        third = await upload(b"x" * 500)
        fourth = await upload(b"x")

        assert [201, 413, 201, 413] == [a.status_code for a in (first, second, third, fourth)]
        assert {"quota-exceeded"} == {a.json()["code"] for a in (second, fourth)}
        assert 2 == len(await kept(app_blobs))
        await client.delete(f"/api/v1/files/{first.json()['id']}", headers=bearer(alice))
        assert 201 == (await upload(b"x" * 1000)).status_code

    async def test_one_that_says_it_is_larger_is_refused_before_any_of_it_is_read(
        self, client: AsyncClient, alice: str, bearer, upload: Upload
    ):
        await upload(b"x" * 1000)
        is_read = False

        async def form() -> AsyncGenerator[bytes]:
            nonlocal is_read
            is_read = True
            yield b""

        headers = {
            **bearer(alice),
            "Content-Type": "multipart/form-data; boundary=x",
            "Content-Length": str(FORM_BYTES_MAX + 501),
            # What others are sending already is taken, and thrown away.
            "Expect": "100-continue",
        }
        answer = await client.post("/api/v1/files", content=form(), headers=headers)

        assert not is_read
        assert (413, "quota-exceeded") == (answer.status_code, answer.json()["code"])

    async def test_nobody_elses_bytes_count(self, upload: Upload, bob: str):
        await upload(b"x" * 1000)

        assert 201 == (await upload(b"x" * 1000, user_id=bob)).status_code


class TestAttaching:
    async def test_another_users_file_or_nobodys_is_not_found_and_nothing_begins(
        self, client: AsyncClient, alice: str, bob: str, bearer, upload: Upload, say
    ):
        his = (await upload(user_id=bob)).json()["id"]
        hers = (await upload()).json()["id"]

        for other in (his, str(new_id())):
            answer = await say(attachments=[hers, other])
            assert (404, "file-not-found") == (answer.status_code, answer.json()["code"])
        listed = await client.get("/api/v1/conversations", headers=bearer(alice))
        assert [] == listed.json()["items"]

    async def test_a_conversation_shows_them_with_their_message(
        self, client: AsyncClient, alice: str, bearer, upload: Upload, say
    ):
        files = [(await upload(filename=f"{n}.txt")).json() for n in range(3)]
        wanted = [files[2], files[0]]

        said = (await say(attachments=[file["id"] for file in wanted])).json()
        conversation = await client.get(
            f"/api/v1/conversations/{said['conversation_id']}", headers=bearer(alice)
        )
        turn = await client.get(f"/api/v1/turns/{said['turn_id']}", headers=bearer(alice))

        assert wanted == said["message"]["attachments"] == turn.json()["message"]["attachments"]
        assert [wanted, []] == [m["attachments"] for m in conversation.json()["messages"]]

    async def test_the_echo_says_what_it_was_given(self, upload: Upload, say):
        notes = (await upload("Grüße".encode(), "notes.md", "text/markdown")).json()["id"]
        picture = (await upload(PNG, "dot.png", "image/png")).json()["id"]

        said = (await say("look", attachments=[notes, picture])).json()

        assert said["reply"]["content"] == (
            "You said: look\n"
            "I was given notes.md (text/markdown, 7 bytes): 5 characters of it.\n"
            f"I was given dot.png (image/png, {len(PNG)} bytes): its name alone.\n"
            "I remember nothing yet."
        )

    @pytest.mark.parametrize("count", [10, 11])
    async def test_at_most_ten_go_with_a_message(self, store: Store, alice: str, say, count: int):
        files = [await make_file(store, alice) for _ in range(count)]

        answer = await say(attachments=[str(file.id) for file in files])

        assert (200 if count == 10 else 422) == answer.status_code

    async def test_each_once(self, upload: Upload, say):
        file_id = (await upload()).json()["id"]

        answer = await say(attachments=[file_id, file_id])

        assert 422 == answer.status_code
        assert "attached-twice" == answer.json()["errors"][0]["code"]


async def test_a_regenerated_reply_is_shown_them_and_an_edited_message_is_not(
    client: AsyncClient, alice: str, bearer, upload: Upload, say
):
    file = (await upload()).json()
    said = (await say("look", attachments=[file["id"]])).json()
    conversation_id = said["conversation_id"]

    again = await client.post(
        f"/api/v1/conversations/{conversation_id}/regenerate", headers=bearer(alice)
    )
    edited = await say("look away", conversation_id=conversation_id, replace_last=True)

    assert [file] == again.json()["message"]["attachments"]
    assert again.json()["reply"]["content"] == said["reply"]["content"]
    assert [] == edited.json()["message"]["attachments"]
    assert "I was given" not in edited.json()["reply"]["content"]


async def test_a_key_names_its_attachments_too(upload: Upload, client: AsyncClient, alice, bearer):
    files = [(await upload()).json()["id"] for _ in range(2)]
    headers = {**bearer(alice), "Idempotency-Key": "one"}

    async def send(*attachments: str):
        body = {"message": "look", "attachments": attachments}
        return await client.post("/api/v1/me/chat", json=body, headers=headers)

    first = await send(files[0])
    same = await send(files[0])
    other = await send(files[1])

    assert first.json() == same.json()
    assert (422, "idempotency-key-reused") == (other.status_code, other.json()["code"])
