import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from redis.asyncio import BlockingConnectionPool, Redis
from redis.backoff import NoBackoff
from redis.exceptions import OutOfMemoryError, RedisError
from redis.retry import Retry

from parley.core.errors import Full, Unavailable

TIMEOUT_SECONDS = 0.2
# First in a script (Redis 7): limits are of little use if whoever fills Redis is rid of them.
TAKES_ROOM_ALWAYS = "#!lua flags=allow-oom\n"
CONNECTIONS_MAX = 8


def connect(url: str) -> Redis:
    """Opens nothing yet: the first question does. By itself the client would try for many seconds."""
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=CONNECTIONS_MAX,
        timeout=TIMEOUT_SECONDS,
        socket_timeout=TIMEOUT_SECONDS,
        socket_connect_timeout=TIMEOUT_SECONDS,
        retry=Retry(NoBackoff(), 0),
        # A connection says nothing before its first question: opened in a third of the time.
        protocol=2,
        driver_info=None,
    )
    return Redis.from_pool(pool)


@asynccontextmanager
async def in_time() -> AsyncGenerator[None]:
    """
    What is asked of Redis inside has 0.2 s in all: to connect, to ask, and to ask again.

    Raises:
        Full: it has no room for what was to be written.
        Unavailable: it did not answer, or refused.
    """
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            yield
    except OutOfMemoryError as error:
        raise Full from error
    except (RedisError, OSError) as error:
        msg = "Redis does not answer."
        raise Unavailable(msg) from error


async def probe(url: str) -> str:
    """
    Whether it answers, and takes something. Returns what it does when it is full: its policy.

    Raises:
        Full: it has no room.
        Unavailable: no answer within 0.2 s, or a refusal.
    """
    client = connect(url)
    try:
        async with in_time():
            await client.set("parley:probe", "", px=1)
            return str((await client.info("memory"))["maxmemory_policy"])
    finally:
        await client.aclose()
