"""Files over HTTP: kept by one replica, read from another, and a disk that takes no more."""

import json
import secrets
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from hashlib import sha256
from random import Random

import httpx
import pytest

from parley.core.ids import new_id
from parley.core.settings import Settings
from tests.containers.stack import Stack, docker, status_of
from tests.containers.streams import REPLICAS, Clients, one_user
from tests.processes import account, until
from tests.processes import say as say_to

pytestmark = pytest.mark.timeout(600)

MIB = 1024**2
UPLOAD_MAX_BYTES: int = Settings.model_fields["upload_max_bytes"].default
FOLDER = "/var/lib/parley/files"
SWEEP = ("run", "--rm", "--no-TTY", "sweep", "files", "sweep", "--json")
BOUNDARY = "parley"

# What a disk has that is full in mid-upload: a bit more than what the API wants free before it begins.
SMALL_DISK = "size=70m"


def noise(size: int) -> bytes:
    return Random(size).randbytes(size)  # noqa: S311 - the same in each run


FILES = {
    "empty.txt": b"",
    "note.md": "# Größe\n\nA note.\n".encode(),
    "noise.bin": noise(5 * MIB + 1),
}


def upload(client: httpx.Client, name: str, content: bytes) -> str:
    answer = client.post("/files", files={"file": (name, content, "application/octet-stream")})
    assert 201 == answer.status_code, answer.text
    kept = answer.json()
    assert (len(content), sha256(content).hexdigest()) == (kept["size"], kept["sha256"])
    return str(kept["id"])


def read(client: httpx.Client, file_id: str) -> bytes:
    answer = client.get(f"/files/{file_id}/content")
    assert 200 == answer.status_code, answer.text
    return answer.content


def post_chunked(client: httpx.Client, pieces: Iterator[bytes]) -> httpx.Response:
    """Nobody is told before its end how long it is."""

    def form() -> Iterator[bytes]:
        yield (
            f"--{BOUNDARY}\r\nContent-Disposition: form-data; name=file; filename=noise.bin\r\n\r\n"
        ).encode()
        yield from pieces
        yield f"\r\n--{BOUNDARY}--\r\n".encode()

    kind = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    return client.post("/files", content=form(), headers=kind)


class TestReplicas:
    @pytest.fixture
    def at(self, replicas: Stack) -> Generator[Clients]:
        with one_user(replicas) as clients:
            yield clients

    def test_what_one_keeps_all_give_to_the_byte_also_behind_a_restart(
        self, replicas: Stack, at: Clients
    ):
        kept = {upload(at["api"], name, content): content for name, content in FILES.items()}

        for replica in REPLICAS:
            assert kept == {file_id: read(at[replica], file_id) for file_id in kept}, replica
        replicas.compose("restart", "--no-deps", "api")
        replicas.compose("up", "--wait", "--no-deps", "--no-recreate", "api")
        again = f"{replicas.url()}/api/v1"  # its port may be another
        with httpx.Client(base_url=again, headers=at["api"].headers, timeout=60) as client:
            assert kept == {file_id: read(client, file_id) for file_id in kept}

    def test_a_sweep_takes_what_is_nobodys_and_leaves_what_is_somebodys(
        self, replicas: Stack, at: Clients
    ):
        kept = {upload(at["api"], name, content): content for name, content in FILES.items()}
        orphan = f"{FOLDER}/{new_id()}"
        make = f"printf orphan >{orphan} && touch --date='3 days ago' {orphan}"
        replicas.run_in("api-2", "sh", "-c", make)

        swept = json.loads(replicas.compose(*SWEEP))

        assert (1, []) == (swept["orphans"], swept["lost"])
        assert "" == replicas.run_in("api-2", "find", FOLDER, "-name", orphan.rpartition("/")[2])
        assert kept == {file_id: read(at["api-3"], file_id) for file_id in kept}


class TestNginx:
    @pytest.fixture
    def client(self, replicas: Stack) -> Generator[httpx.Client]:
        with account(replicas.url("nginx", 8080), f"{new_id().hex}@example.com") as client:
            yield client

    def test_the_largest_file_goes_both_ways(self, client: httpx.Client):
        largest = noise(UPLOAD_MAX_BYTES)

        assert largest == read(client, upload(client, "largest.bin", largest))

    @pytest.mark.parametrize("size", [UPLOAD_MAX_BYTES + 1, 2 * UPLOAD_MAX_BYTES])
    def test_a_larger_one_is_refused_in_parleys_words(self, client: httpx.Client, size: int):
        """By the API, and by nginx itself."""
        refused = client.post("/files", files={"file": ("larger.bin", noise(size))})

        assert (413, "file-too-large") == (refused.status_code, refused.json()["code"])
        assert "application/problem+json" == refused.headers["Content-Type"]

    def test_it_is_passed_on_as_it_comes(self, replicas: Stack, client: httpx.Client):
        """A replica writes what it has, while the client has not sent the rest yet."""

        def unfinished() -> int:
            return len(replicas.run_in("api", "find", FOLDER, "-name", "*#*", "-size", "+1M"))

        def pieces() -> Iterator[bytes]:
            yield noise(8 * MIB)
            until(lambda: unfinished() > 0)
            yield b"the rest"

        assert 0 == unfinished()
        kept = post_chunked(client, pieces())

        assert (201, 8 * MIB + 8) == (kept.status_code, kept.json()["size"])
        assert 0 == unfinished()


class TestVolume:
    def test_it_is_the_apis_and_their_groups_and_what_is_set_to_nothing_leads_there(
        self, stack: Stack
    ):
        stats = stack.run_in("api", "stat", "--format=%u:%g %a", "/var/lib/parley", FOLDER)

        assert ["10001:10001 770"] * 2 == stats.splitlines()
        default = Settings.model_fields["files_url"].default.removeprefix("file://")
        assert FOLDER == stack.run_in("api", "realpath", default).strip()

    def test_the_doctor_sees_that_it_takes_files(self, stack: Stack):
        findings = stack.run_in("api", "sh", "-c", "parley doctor || true")

        assert f"file://{FOLDER} takes files" in findings


@pytest.fixture
def small_disk() -> Generator[str]:
    name = f"parley-test-{secrets.token_hex(4)}"
    options = {"type": "tmpfs", "device": "tmpfs", "o": f"{SMALL_DISK},uid=10001,mode=0700"}
    words = [word for key, value in options.items() for word in ("--opt", f"{key}={value}")]
    docker("volume", "create", *words, name)
    try:
        yield name
    finally:
        docker("volume", "rm", "--force", name)


@contextmanager
def api_on(stack: Stack, volume: str, folder: str) -> Generator[tuple[str, httpx.Client]]:
    settings = {"FILES_URL": f"file://{folder}", "UPLOAD_MAX_BYTES": str(200 * MIB)}
    with stack.another("api", volume, **settings) as container:
        url = f"http://{docker('port', container, '8000').strip()}"
        until(lambda: status_of(f"{url}/health/ready") == 200)
        with account(url, f"{new_id().hex}@example.com") as client:
            yield container, client


def send_declared(client: httpx.Client) -> httpx.Response:
    return client.post("/files", files={"file": ("noise.bin", noise(10 * MIB))})


def send_chunked(client: httpx.Client) -> httpx.Response:
    return post_chunked(client, (noise(MIB) for _ in range(80)))


def assert_nothing_is_kept(container: str, client: httpx.Client, refused: httpx.Response) -> None:
    assert (507, "storage-full") == (refused.status_code, refused.json()["code"])
    assert "" == docker("exec", container, "find", "/full", "-type", "f")
    assert [] == client.get("/files").json()["items"]
    assert "You said: hello" in say_to(client, "hello")["reply"]["content"]


class TestFullDisk:
    @pytest.mark.parametrize("send", [send_declared, send_chunked])
    def test_nothing_of_the_file_is_kept_and_chat_goes_on(
        self, stack: Stack, small_disk: str, send: Callable[[httpx.Client], httpx.Response]
    ):
        """By what it says of its length there is no room for it; or the disk is full in mid-upload."""
        with api_on(stack, f"{small_disk}:/full", "/full/files") as (container, client):
            assert_nothing_is_kept(container, client, send(client))

            # And there is room again.
            assert FILES["note.md"] == read(client, upload(client, "note.md", FILES["note.md"]))
            # The disk goes now, and others look for the bytes of whatever file the database knows.
            assert client.delete("/auth/me").is_success


class TestReadOnlyDisk:
    @pytest.mark.parametrize("folder", ["/full", "/full/files"])
    @pytest.mark.parametrize("send", [send_declared, send_chunked])
    def test_nothing_of_the_file_is_kept_and_chat_goes_on(
        self,
        stack: Stack,
        small_disk: str,
        folder: str,
        send: Callable[[httpx.Client], httpx.Response],
    ):
        """Whether the folder is there or cannot be made."""
        with api_on(stack, f"{small_disk}:/full:ro", folder) as (container, client):
            assert_nothing_is_kept(container, client, send(client))
