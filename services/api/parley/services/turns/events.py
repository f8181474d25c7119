"""What a turn says, event by event, as far as this process has heard it."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import NamedTuple

from parley.core.errors import AppError, Draining
from parley.schemas.problem import Problem
from parley.schemas.turns import ChatReply, Delta, TurnStarted

AT_ONCE_MAX = 100
# Of an end whose place among the events is not known any more: behind every other.
END_SOMEWHERE = 10**15 - 1

Event = TurnStarted | Delta | ChatReply | Problem


class Numbered(NamedTuple):
    """Its number is its place among all events of its turn, from 1."""

    number: int
    event: Event


def problem_of(error: AppError) -> Problem:
    return Problem.model_validate(error.members)


class TurnEvents:
    """
    `turn`, a `delta` for each piece, and the end, for any number of readers at any pace.

    There is one who writes. A reader who leaves takes nothing along, and nobody waits for a slow one.
    """

    def __init__(self) -> None:
        # Pieces as bare text: there may be a hundred thousand of them.
        self.pieces: list[str] = []
        self.end: ChatReply | AppError | None = None
        self.is_whole = True
        """False where pieces may have been lost: what is known to be missing is then one piece."""
        self._started: TurnStarted | None = None
        self._is_broken_off = False
        self._is_joined = False
        self._news = asyncio.Event()

    def start(self, started: TurnStarted) -> None:
        self._started = started
        self._tell()

    def say(self, *pieces: str) -> None:
        self.pieces.extend(pieces)
        self._tell()

    def finish(self, reply: ChatReply) -> None:
        self._complete(reply.reply.content)
        self.end = reply
        self._tell()

    def fail(self, error: AppError, recorded: str = "") -> None:
        """With what was `recorded` of its reply, which may be more than was heard here."""
        self._complete(recorded)
        self.end = error
        self._tell()

    def break_off(self) -> None:
        """Nothing more is told here; whoever reads is to read on elsewhere."""
        self._is_broken_off = True
        self._tell()

    def _complete(self, text: str) -> None:
        heard = sum(map(len, self.pieces))
        if len(text) > heard:
            self.is_whole = False
            self._is_joined = True
            self.pieces.append(text[heard:])

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    @property
    def has_started(self) -> bool:
        return self._started is not None

    async def started(self) -> TurnStarted:
        """
        Wait until the turn has been accepted.

        Raises:
            AppError: it was refused.
        """
        while self._started is None:
            if isinstance(self.end, AppError):
                # One error for all who read: it is not to gather the frames of each.
                raise self.end.with_traceback(None)
            await self._news.wait()
        return self._started

    async def ended(self) -> ChatReply | AppError:
        """Wait until it has; who is to read on elsewhere is told so."""
        while self.end is None:
            if self._is_broken_off:
                return Draining()
            await self._news.wait()
        return self.end

    async def outcome(self) -> ChatReply:
        """
        Wait for the recorded turn.

        Raises:
            AppError: how the turn failed, or why it was refused.
        """
        end = await self.ended()
        if isinstance(end, AppError):
            raise end.with_traceback(None)
        return end

    def has_more(self, after: int) -> bool:
        """False where `after` is the number of the end."""
        last = len(self.pieces) + 2 if self.is_whole else END_SOMEWHERE
        return self.end is None or after < last or after == END_SOMEWHERE - 1

    async def read(self, after: int = 0) -> AsyncGenerator[Sequence[Numbered]]:
        """
        Every event behind number `after`, several at once for one who was slow; then the end, unless
        it is to be read elsewhere.

        Where pieces may have been lost the end comes alone to one who had more than is left, with the
        whole reply in it; once more, maybe. Nothing is yielded to one who has had the end.

        Raises:
            AppError: the turn was refused, so that there are no events.
        """
        had = max(after, 0)
        if had == 0:
            yield [Numbered(1, await self.started())]
            had = 1
        read = had - 1
        while True:
            # The end is looked at first: what is said until then is read before it is told.
            end = self.end
            if news := self.pieces[read : read + AT_ONCE_MAX]:
                numbered = [
                    Numbered(self._number_of(read + nth), Delta(text=piece))
                    for nth, piece in enumerate(news)
                ]
                read, had = read + len(news), numbered[-1].number
                yield numbered
                # One who takes all there is at once lets the others have theirs.
                await asyncio.sleep(0)
            elif end is not None:
                break
            elif self._is_broken_off:
                return
            else:
                await self._news.wait()
        if self.has_more(had):
            is_known = had < len(self.pieces) + 2 and not self._is_joined
            number = had + 1 if is_known else END_SOMEWHERE
            yield [Numbered(number, problem_of(end) if isinstance(end, AppError) else end)]

    def _number_of(self, piece: int) -> int:
        """Of several in one, which were several elsewhere, nobody knows: behind all others."""
        is_joined = self._is_joined and piece == len(self.pieces) - 1
        return END_SOMEWHERE - 1 if is_joined else piece + 2
