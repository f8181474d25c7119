"""
By what a client marks a request that it may send again.

https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/07/
"""

from typing import Annotated

from fastapi import Depends, Header, Request

from parley.core.errors import InvalidRequest

HEADER = "Idempotency-Key"


async def idempotency_key(
    request: Request,
    key: Annotated[
        str | None,
        Header(
            alias=HEADER,
            min_length=1,
            max_length=255,
            pattern="^[\x21-\x7e]+$",
            description="Your own name for this message, such as a UUID. Sent again with it, the message is"
            " not answered twice: a turn that is running is joined, one that has ended is replayed, also"
            " one that broke off after its first words. Where nothing was recorded it is free again.",
        ),
    ] = None,
) -> str | None:
    # With two of them it would be chance which one counts here and which one in a proxy.
    if len(request.headers.getlist(HEADER)) > 1:
        msg = f"Send one header {HEADER}."
        raise InvalidRequest(msg)
    return key


IdempotencyKey = Annotated[str | None, Depends(idempotency_key)]
