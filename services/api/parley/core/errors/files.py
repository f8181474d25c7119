"""Files: what they may be, and what they are kept in."""

from collections.abc import Sequence
from uuid import UUID

from parley.core.errors.base import AppError, Conflict, NotFound
from parley.core.errors.outages import Unavailable

_MIB = 1024**2


class FileNotFound(NotFound):
    code, title = "file-not-found", "File not found"

    def __init__(self, file_id: UUID | None = None) -> None:
        named = "this id" if file_id is None else f"the id {file_id}"
        super().__init__(f"You have no file with {named}.")


class FileLost(NotFound):
    code, title = "file-lost", "The file's bytes are lost"

    def __init__(self) -> None:
        super().__init__(
            "They are not in the file store any more. If nobody brings them back, delete the file."
        )


class FileInUse(Conflict):
    code, title = "file-in-use", "A message carries this file"

    def __init__(self, conversation_ids: Sequence[UUID] = ()) -> None:
        """With the ids of such conversations, all of them or the first few."""
        named = f": {', '.join(map(str, conversation_ids))}" if conversation_ids else ""
        super().__init__(f"Delete the conversations that it is attached in first{named}.")


class MalformedUpload(AppError):
    status, code, title = 400, "malformed-upload", "The upload is not whole, or not well formed"

    def __init__(
        self, detail: str = "Send one part, named `file`, and nothing beside it (RFC 7578)."
    ) -> None:
        super().__init__(detail)


class PreconditionFailed(AppError):
    status, code, title = 412, "precondition-failed", "The file is not the one that was meant"

    def __init__(self) -> None:
        super().__init__("If-Match or If-Unmodified-Since does not hold; a file never changes.")


class FileTooLarge(AppError):
    status, code, title = 413, "file-too-large", "The file is too large"

    def __init__(self, max_bytes: int = 0) -> None:
        super().__init__(f"A file may have {max_bytes} bytes ({max_bytes / _MIB:.1f} MiB) here.")


class QuotaExceeded(AppError):
    status, code, title = 413, "quota-exceeded", "You have no room for this file"

    def __init__(self, max_bytes: int = 0, max_files: int = 0) -> None:
        super().__init__(
            f"You may keep {max_bytes / _MIB:.1f} MiB in {max_files} files. Delete some first."
        )


class NotMultipart(AppError):
    status, code, title = 415, "not-multipart", "An upload is multipart/form-data"

    def __init__(self) -> None:
        super().__init__("Send the file as the part `file` of a form, as `curl -F` does.")


class FileTypeRefused(AppError):
    status, code, title = 415, "file-type-refused", "A file of this type is not taken"


class RangeNotSatisfiable(AppError):
    status, code, title = 416, "range-not-satisfiable", "The file does not reach that far"

    def __init__(self, size: int = 0) -> None:
        super().__init__(f"It has {size} bytes; ask for some of them.")
        self.size = size


class FileStoreUnavailable(Unavailable):
    code, title = "file-store-unavailable", "The file store is unavailable"


class StorageFull(AppError):
    status, code, title = 507, "storage-full", "The file store takes no more"

    def __init__(self) -> None:
        super().__init__("Nothing of the file was kept. Whoever runs this must make room.")
