from collections.abc import Sequence
from uuid import UUID

import structlog

from parley.core.errors import AppError
from parley.crud.ports import Blobs

log = structlog.get_logger(__name__)


class Eraser:
    """
    Takes away the bytes of files that nobody has any more.

    What fails is no failure of whoever deleted them: `parley files sweep` finds what is left.
    """

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs

    async def erase(self, file_ids: Sequence[UUID]) -> None:
        if not file_ids:
            return
        try:
            await self._blobs.delete(file_ids)
        except AppError as error:
            log.warning("bytes-not-erased", files=len(file_ids), code=error.code)
