from redis.asyncio import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from parley.core.errors import Unavailable

TIMEOUT_SECONDS = 0.2


async def ping(url: str) -> None:
    """
    Raises:
        Unavailable: no answer within 0.2 s; by itself the client would try for many.
    """
    client = Redis.from_url(
        url,
        socket_timeout=TIMEOUT_SECONDS,
        socket_connect_timeout=TIMEOUT_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )
    try:
        await client.ping()
    except (RedisError, OSError) as error:
        msg = "Redis does not answer."
        raise Unavailable(msg) from error
    finally:
        await client.aclose()
