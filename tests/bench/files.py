"""What files on their way cost a worker: its memory, and the time of everybody else."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from functools import partial
from http.client import HTTPConnection
from pathlib import Path

from tests.bench.client import MB, PATIENCE_SECONDS, Client, crowd, in_process
from tests.bench.table import Goal, Row, medians
from tests.processes import Server, account
from tests.s3 import make_bucket, s3_server

LARGE_MB = 200
LARGE_TIMES = 3
CROWD = 10
CROWD_MB = 40
ROUNDS = 5
IDLE_SAMPLES = 200
PAUSE_SECONDS = 0.005
MEMORY = Goal(16, is_of_ours=True)
LATENCY = Goal(2)

Tell = Callable[[str], object]


def rows(tell: Tell) -> Generator[Row]:
    """In one server each, and each a single worker. Figures are the worker's alone."""
    yield from _memory(tell, "file://")
    with s3_server() as endpoint:
        yield from _memory(
            tell,
            "s3://",
            FILES_URL=f"s3://{make_bucket(endpoint)}",
            S3_ENDPOINT=endpoint,
            S3_ACCESS_KEY_ID="bench",
            S3_SECRET_ACCESS_KEY="bench",
        )
    yield from _latency(tell)


def _memory(tell: Tell, where: str, **variables: str) -> Generator[Row]:
    """
    The highest that it grows to while the same is done LARGE_TIMES over, above what it had behind
    some small files: none of them as large has come before.
    """
    with _serving(**variables) as (server, client):
        (worker,) = server.workers()
        for _ in range(CROWD):
            small = client.upload(1)
            client.download(small, 1)
            client.delete(small)
        for way in ("upload", "download"):
            tell(f"memory of a worker, {LARGE_MB} MB {way}, {where}")
            # Not within what is measured: the download's file is there before, and goes behind it.
            kept = in_process(client.upload, LARGE_MB) if way == "download" else None
            with grown(worker) as growth:
                for _ in range(LARGE_TIMES):
                    if kept is not None:
                        in_process(client.download, kept, LARGE_MB)
                    else:
                        client.delete(in_process(client.upload, LARGE_MB))
            if kept is not None:
                client.delete(kept)
            yield Row(
                f"memory growth, {LARGE_MB} MB {way}, {where}", growth[0], LARGE_MB, "MB", MEMORY
            )


def _latency(tell: Tell) -> Generator[Row]:
    """Samples are taken while all of a crowd are on their way."""
    with _serving() as (server, client):
        kept = client.upload(CROWD_MB)
        ask = HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_SECONDS)

        def alone() -> Sequence[float]:
            return [_asked(ask) for _ in range(IDLE_SAMPLES)]

        def beside(transfer: Callable[..., object], what: str) -> Sequence[float]:
            tell(f"GET /health beside {CROWD} {what}")
            with crowd(transfer, CROWD) as all_run:
                samples = []
                while all_run():
                    samples.append(_asked(ask))
            return samples

        ups = partial(beside, partial(_upload_and_delete, client), "uploads")
        downs = partial(beside, partial(client.download, kept, CROWD_MB), "downloads")
        quiet, up, down = medians(ROUNDS, alone, ups, downs)
        name = f"GET /health beside {CROWD} {{}} of {CROWD_MB} MB".format
        yield Row(name("uploads"), up, quiet, "ms", LATENCY)
        yield Row(name("downloads"), down, quiet, "ms", LATENCY)


def _upload_and_delete(client: Client, begun: Callable[[], object]) -> None:
    client.delete(client.upload(CROWD_MB, begun))


def _asked(connection: HTTPConnection) -> float:
    """In milliseconds. A pause before it: who asks again at once shares its core with what is asked."""
    time.sleep(PAUSE_SECONDS)
    began_at = time.perf_counter()
    connection.request("GET", "/health")
    connection.getresponse().read()
    return (time.perf_counter() - began_at) * 1000


@contextmanager
def grown(process: int) -> Generator[list[float]]:
    """In MB, there when it is left: by how much the highest was above what it began with."""
    Path(f"/proc/{process}/clear_refs").write_text("5")
    before = _memory_kb(process, "VmRSS")
    growth: list[float] = []
    yield growth
    growth.append((_memory_kb(process, "VmHWM") - before) / 1024)


def _memory_kb(process: int, name: str) -> int:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(f"{name}:"))
    return int(line.split()[1])


@contextmanager
def _serving(**variables: str) -> Generator[tuple[Server, Client]]:
    with tempfile.TemporaryDirectory(prefix="parley-bench-") as name:
        folder = Path(name)
        database_url = f"sqlite:///{folder}/parley.db"
        ours = {
            "DATABASE_URL": database_url,
            "FILES_URL": f"file://{folder}/files",
            "WEB_CONCURRENCY": "1",
            "UPLOAD_MAX_BYTES": str(256 * MB),
            "UPLOAD_QUOTA_BYTES": str(4096 * MB),
        }
        migrate = [sys.executable, "-m", "parley.cli", "migrate"]
        subprocess.run(migrate, cwd=folder, env=os.environ | ours, capture_output=True, check=True)
        with Server(folder, **(ours | variables)) as server, account(server.url) as asking:
            yield server, Client(server.port, asking.headers["Authorization"])
