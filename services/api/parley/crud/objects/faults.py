"""What goes wrong in a file store, as errors of ours."""

import re
from collections.abc import Generator
from contextlib import contextmanager
from errno import EACCES, EDQUOT, EFBIG, ENOSPC, EPERM, EROFS

import structlog
from obstore.exceptions import BaseError

from parley.core.errors import FileNotFound, FileStoreUnavailable, StorageFull

GONE = "The file's bytes are not in the file store any more. Delete it."
# A folder that may not be written is as good as a disk that may only be read.
_TAKES_NO_MORE = {EACCES, EDQUOT, EFBIG, ENOSPC, EPERM, EROFS}
# The library says the system's reason in its words alone.
_OS_ERROR = re.compile(r"\(os error (\d+)\)")

log = structlog.get_logger(__name__)


@contextmanager
def told() -> Generator[None]:
    """
    Raises:
        FileNotFound: nothing is there under this id.
        StorageFull: a disk is full, or may only be read.
        FileStoreUnavailable: whatever else.
    """
    try:
        yield
    except FileNotFoundError as missing:
        raise FileNotFound(GONE) from missing
    except (BaseError, OSError) as error:
        # The first line: the others quote it again, piece by piece.
        reason = str(error).partition("\n")[0]
        number = _OS_ERROR.search(reason)
        is_full = number is not None and int(number[1]) in _TAKES_NO_MORE
        is_full = is_full or getattr(error, "errno", None) in _TAKES_NO_MORE
        log.warning("file-store-failed", reason=reason)
        raise StorageFull if is_full else FileStoreUnavailable from error
