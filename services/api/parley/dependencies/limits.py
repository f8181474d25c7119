"""How often somebody may ask, and how much they may have open: asked before the work is done."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import Depends, Request

from parley.core import audit
from parley.core.errors import RateLimited, TooManyStreams
from parley.core.security.addresses import bucket_of
from parley.dependencies.services import services
from parley.schemas.limits import Standing
from parley.services.limits import Crowd, LimitService
from parley.services.streams import Slot, StreamService


class Limits:
    """
    For one request. What is left is said on its answer, whatever that is; a refusal is audited.

    https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/10/
    """

    def __init__(self, request: Request, limits: LimitService, streams: StreamService) -> None:
        self._state = request.state
        self._limits = limits
        self._streams = streams
        self._standings: list[Standing] = []

    async def count_message(self, user_id: str) -> None:
        """
        Raises:
            RateLimited: as all of these.
        """
        self._admit(await self._limits.chat(user_id), user_id)

    async def count_attempt(self) -> None:
        """One that waits with as many from its address is refused at once, and does not count."""
        self._enter(self._limits.attempts, bucket_of(self._state.client_address), None)
        self._admit(await self._limits.address(self._state.client_address), None)

    async def count_attempt_at(self, email: str) -> None:
        """Before a password is hashed: that is what costs. `email` is normalised."""
        self._admit(await self._limits.account(self._state.client_address, email), None)

    async def count_password(self, user_id: str) -> None:
        self._enter(self._limits.attempts, bucket_of(self._state.client_address), user_id)
        self._enter(self._limits.password_changes, user_id, user_id)
        self._admit(await self._limits.password(user_id), user_id)

    async def count_refresh(self, user_id: str) -> None:
        self._admit(await self._limits.refresh(user_id), user_id)

    def enter_search(self, user_id: str) -> None:
        self._enter(self._limits.searches, user_id, user_id)

    async def take_slot(self, user_id: str) -> Slot:
        """
        For a turn. It is held until the request has ended, and by whoever else holds it.

        Raises:
            TooManyStreams: the user has as many open as one may.
        """
        return await self._take(user_id, user_id)

    async def take_reading_slot(self, user_id: str) -> None:
        """
        For what is only read. There are as many of these: all that run can be read again.

        Raises:
            TooManyStreams: as above.
        """
        # No user's id has a slash.
        await self._take(user_id, f"{user_id}/reading")

    async def take_transfer_slot(self, user_id: str) -> None:
        """
        For a file's bytes, up or down. There are as many of these again.

        Raises:
            TooManyStreams: as above.
        """
        await self._take(user_id, f"{user_id}/transfer")

    async def _take(self, user_id: str, holder: str) -> Slot:
        try:
            slot = await self._streams.take(holder)
        except TooManyStreams:
            audit.record(audit.Event.RATE_LIMITED, user_id, limit="streams")
            raise
        self._state.at_end.append(slot.leave)
        return slot

    def for_turn(self, user_id: str) -> "TurnAdmission":
        return TurnAdmission(self, user_id)

    def enter_with_key(self, user_id: str) -> None:
        self._enter(self._limits.keyed, user_id, user_id)

    def _enter(self, crowd: Crowd, key: str, user_id: str | None) -> None:
        """It is inside until the request has ended."""
        try:
            leave = crowd.enter(key)
        except RateLimited:
            audit.record(audit.Event.RATE_LIMITED, user_id, limit=crowd.name)
            raise
        self._state.at_end.append(leave)

    def _admit(self, standing: Standing, user_id: str | None) -> None:
        self._standings.append(standing)
        self._state.answer_headers.update(_headers(self._standings))
        if not standing.is_admitted:
            audit.record(audit.Event.RATE_LIMITED, user_id, limit=standing.quota.name)
            raise RateLimited(standing.reset_seconds)


class TurnAdmission:
    """What one turn of a user costs; a retry that finds its turn costs no message."""

    def __init__(self, asking: Limits, user_id: str) -> None:
        self._asking = asking
        self._user_id = user_id

    async def begin_turn(self) -> Slot:
        await self._asking.count_message(self._user_id)
        return await self._asking.take_slot(self._user_id)

    def enter_with_key(self) -> None:
        self._asking.enter_with_key(self._user_id)


def _headers(standings: Sequence[Standing]) -> dict[str, str]:
    quotas = [standing.quota for standing in standings]
    return {
        "RateLimit-Policy": ", ".join(f'"{q.name}";q={q.amount};w={q.seconds}' for q in quotas),
        "RateLimit": ", ".join(
            f'"{s.quota.name}";r={s.remaining};t={s.reset_seconds}' for s in standings
        ),
    }


async def limits(request: Request) -> Limits:
    wired = await services(request)
    return Limits(request, wired.limits, wired.streams)


async def attempt_limits(asking: Annotated[Limits, Depends(limits)]) -> Limits:
    """The address has been counted, whatever the body says; one that is no JSON is refused before."""
    await asking.count_attempt()
    return asking


RequestLimits = Annotated[Limits, Depends(limits)]
AttemptLimits = Annotated[Limits, Depends(attempt_limits)]
