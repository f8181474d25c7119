from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request, Response

from parley.core.errors import (
    AccountGone,
    BodyTimeout,
    FileInUse,
    FileLost,
    FileNotFound,
    FileStoreUnavailable,
    FileTooLarge,
    FileTypeRefused,
    InvalidCursor,
    MalformedUpload,
    NotMultipart,
    PreconditionFailed,
    QuotaExceeded,
    RangeNotSatisfiable,
    RateLimited,
    StorageFull,
    TooManyStreams,
    UnsupportedEncoding,
)
from parley.dependencies.auth import UserId
from parley.dependencies.limits import RequestLimits
from parley.dependencies.paging import LIMIT, Cursor, Limit
from parley.dependencies.services import Files
from parley.routers._content import headers_of, is_known, part_of, validators_of
from parley.routers._responses import STORE, TOKEN, JsonRoute, problems
from parley.routers._streamed import Streamed
from parley.routers._uploads import FORM_BYTES_MAX, PART, uploaded_file
from parley.schemas.files import FileMetadata
from parley.schemas.paging import Deleted, Page

UPLOAD_PATH = "/files"

router = APIRouter(prefix=UPLOAD_PATH, tags=["files"], route_class=JsonRoute)

_FORM = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": [PART],
                "properties": {PART: {"type": "string", "format": "binary"}},
                "additionalProperties": False,
            }
        }
    },
}
_RANGE = {
    "name": "Range",
    "in": "header",
    "description": "One range, such as `bytes=0-1023`; several are answered with the whole.",
    "schema": {"type": "string"},
}
_BYTES = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
_CONTENT: dict[int | str, dict[str, Any]] = {
    200: {"description": "The bytes, of the file's own type.", "content": _BYTES},
    206: {"description": "Those that `Range` asks for.", "content": _BYTES},
    304: {"description": "The client has the same already."},
}


@router.post(
    "",
    status_code=201,
    openapi_extra={"requestBody": _FORM},
    responses=problems(
        MalformedUpload,
        *TOKEN,
        AccountGone,
        BodyTimeout,
        FileTooLarge,
        QuotaExceeded,
        NotMultipart,
        FileTypeRefused,
        UnsupportedEncoding,
        RateLimited,
        TooManyStreams,
        FileStoreUnavailable,
        *STORE,
        StorageFull,
    ),
)
async def upload_file(
    user_id: UserId, request: Request, files: Files, limits: RequestLimits
) -> FileMetadata:
    """
    Keep a file, the part `file` of a form, and attach it to messages by its `id`.

    It counts as a message does. Its type is what it says, if its bytes agree; what says
    `application/octet-stream` is taken for what it looks like. Names lose what could mislead.
    """
    await limits.count_message(user_id)
    await limits.take_transfer_slot(user_id)
    declared = request.headers.get("Content-Length", "")
    expected = max(0, int(declared) - FORM_BYTES_MAX) if declared.isdecimal() else 0
    await files.require_room(user_id, expected)
    return await files.upload(user_id, await uploaded_file(request))


@router.get("", responses=problems(InvalidCursor, *TOKEN, *STORE))
async def list_files(
    user_id: UserId, files: Files, limit: Limit = LIMIT, cursor: Cursor = None
) -> Page[FileMetadata]:
    """Your files; the last begun come first."""
    return await files.newest(user_id, limit, cursor)


@router.get("/{file_id}", responses=problems(*TOKEN, FileNotFound, *STORE))
async def get_file(user_id: UserId, file_id: UUID, files: Files) -> FileMetadata:
    """What is known of one file."""
    return await files.get(user_id, file_id)


@router.delete("/{file_id}", responses=problems(*TOKEN, FileNotFound, FileInUse, *STORE))
async def delete_file(user_id: UserId, file_id: UUID, files: Files) -> Deleted:
    """Delete one that no message carries. There is no way back."""
    await files.delete(user_id, file_id)
    return Deleted(id=str(file_id))


@router.get(
    "/{file_id}/content",
    response_class=Response,
    openapi_extra={"parameters": [_RANGE]},
    responses={
        **_CONTENT,
        **problems(
            *TOKEN,
            FileNotFound,
            FileLost,
            PreconditionFailed,
            RangeNotSatisfiable,
            TooManyStreams,
            FileStoreUnavailable,
            *STORE,
        ),
    },
)
async def get_file_content(
    user_id: UserId, file_id: UUID, request: Request, files: Files, limits: RequestLimits
) -> Response:
    """
    Its bytes, to be saved. `ETag` is their SHA-256; `If-None-Match`, `If-Range` and the like count.

    What breaks off ends the connection before its end; `Range` goes on from there.
    """
    file = await files.get(user_id, file_id)
    if is_known(file, request.headers):
        return Response(status_code=304, headers=validators_of(file))
    headers, part = headers_of(file), part_of(file, request.headers)
    start, end = part or (0, file.size)
    if part is not None:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{file.size}"
    await limits.take_transfer_slot(user_id)
    pieces = files.read(file, start, end)
    # A refusal is raised here, before anything is sent.
    first = await anext(pieces, b"")
    return Streamed(
        first,
        pieces,
        headers=headers,
        status_code=200 if part is None else 206,
        size=end - start,
    )
