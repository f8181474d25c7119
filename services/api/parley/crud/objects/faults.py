"""What goes wrong in a file store, as errors of ours."""

import re
from collections.abc import Generator
from contextlib import contextmanager
from errno import EACCES, EDQUOT, EFBIG, ENOSPC, EPERM, EROFS

import structlog
from obstore.exceptions import BaseError

from parley.core.errors import FileLost, FileStoreUnavailable, StorageFull

# A folder that may not be written is as good as a disk that may only be read.
_TAKES_NO_MORE = {EACCES, EDQUOT, EFBIG, ENOSPC, EPERM, EROFS}
# The library says the system's reason in its words alone.
_OS_ERROR = re.compile(r"\(os error (\d+)\)")

log = structlog.get_logger(__name__)


@contextmanager
def told(*, is_writing: bool = False, is_reading: bool = False) -> Generator[None]:
    """
    Raises:
        FileLost: where it is read, nothing is there under this id.
        StorageFull: where it is written, a disk is full, or may only be read.
        FileStoreUnavailable: whatever else.
    """
    try:
        yield
    except (BaseError, OSError) as error:
        if is_reading and isinstance(error, FileNotFoundError):
            raise FileLost from error
        # The first line: the others quote it again, piece by piece.
        reason = str(error).partition("\n")[0]
        log.warning("file-store-failed", reason=reason)
        if is_writing and _takes_no_more(error, reason):
            raise StorageFull from error
        raise FileStoreUnavailable from error


def _takes_no_more(error: Exception, reason: str) -> bool:
    number = getattr(error, "errno", None)
    if found := _OS_ERROR.search(reason):
        number = int(found[1])
    return number in _TAKES_NO_MORE
