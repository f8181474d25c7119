"""
A file out of a form, as it comes: multipart/form-data (RFC 7578) of one part.

FastAPI's own would first read the whole of it into memory and onto a disk.
"""

import re
from collections.abc import AsyncGenerator
from typing import NoReturn
from urllib.parse import unquote_to_bytes

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect

from parley.core.errors import MalformedUpload, NotMultipart
from parley.services.files.names import sanitised
from parley.services.files.service import Upload

PART = "file"
FORM_BYTES_MAX = 64 * 1024
"""Of a form without its file: boundaries, and the headers of one part."""
_HEADER_BYTES_MAX = 16 * 1024
_HEADERS_MAX = 8
# A form has one or two, and each that only looks like one takes the parser as long as a thousand bytes.
_BOUNDARIES_MAX = 100
# What browsers escape in a name, and nothing else (HTML, 4.10.21.8).
_ESCAPED = re.compile("%(22|0D|0A)", re.IGNORECASE)
# Forbidden here (RFC 7578, 4.2), and sent all the same.
_EXTENDED_NAME = re.compile(r";\s*filename\*=utf-8'[^']*'([^\s;\"]+)", re.IGNORECASE)
_QUOTED = re.compile(r'"(?:[^"\\]|\\.?)*(?:"|\Z)', re.DOTALL)
# The library's work grows with their square.
_PARAMETERS_MAX = 500


async def uploaded_file(request: Request) -> Upload:
    """
    Read up to where the file begins; the pieces read on, to the end of the form.

    Raises:
        NotMultipart: it is no form, or not such a one.
        MalformedUpload: it has no such part, more than one, or ends too early.
        RequestValidationError: the part has another name, no filename, or one that is no text.
    """
    form = _Form(_boundary(request.headers.get("Content-Type", "")))
    body = _body(request)
    while not form.has_begun:
        form.feed(await _next(body))
    disposition = form.headers.get("content-disposition", "")
    content_type = form.headers.get("content-type", "")
    return Upload(_filename(disposition), content_type, _pieces(form, body))


async def _pieces(form: "_Form", body: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    while True:
        for piece in form.taken():
            yield piece
        if form.is_whole:
            break
        form.feed(await _next(body))
    async for _ in body:  # what may follow, by RFC 2046, and says nothing
        pass


async def _body(request: Request) -> AsyncGenerator[bytes]:
    try:
        async for data in request.stream():
            yield data
    except ClientDisconnect as gone:
        raise MalformedUpload from gone


async def _next(body: AsyncGenerator[bytes]) -> bytes:
    try:
        return await anext(body)
    except StopAsyncIteration:
        broken_off = "It ends before its last boundary. Send it again."
        raise MalformedUpload(broken_off) from None


def _boundary(content_type: str) -> bytes:
    kind, options = _parameters(content_type)
    if kind != b"multipart/form-data":
        raise NotMultipart
    if not (boundary := options.get(b"boundary")):
        msg = "Its Content-Type names no boundary. Leave that header to your HTTP library."
        raise MalformedUpload(msg)
    return boundary


def _parameters(header: str) -> tuple[bytes, dict[bytes, bytes]]:
    if header.count(";") > _PARAMETERS_MAX:
        raise MalformedUpload
    return parse_options_header(header)


class _Form:
    """What the parser says of the one part that there may be."""

    def __init__(self, boundary: bytes) -> None:
        self.headers: dict[str, str] = {}
        self.has_begun = False
        self.is_whole = False
        self._name = b""
        self._value = b""
        self._pieces: list[bytes] = []
        self._delimiter = b"\r\n--" + boundary
        self._boundaries = 0
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin_part,
                    "on_header_field": self._take_name,
                    "on_header_value": self._take_value,
                    "on_header_end": self._end_header,
                    "on_headers_finished": self._begin_file,
                    "on_part_data": self._take_data,
                    "on_end": self._end,
                },
                max_header_count=_HEADERS_MAX,
                max_header_size=_HEADER_BYTES_MAX,
            )
        except FormParserError as error:
            raise MalformedUpload from error

    def feed(self, data: bytes) -> None:
        self._boundaries += data.count(self._delimiter)
        if self._boundaries > _BOUNDARIES_MAX:
            msg = "It is full of what looks like its boundary. Leave that to your HTTP library."
            raise MalformedUpload(msg)
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise MalformedUpload from error

    def taken(self) -> list[bytes]:
        pieces, self._pieces = self._pieces, []
        return pieces

    def _begin_part(self) -> None:
        if self.has_begun:
            raise MalformedUpload

    def _take_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _take_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        # What is no text is still some bytes each: a name is looked at more closely.
        self.headers[self._name.decode("latin-1").lower()] = self._value.decode("latin-1")
        self._name = self._value = b""

    def _begin_file(self) -> None:
        self.has_begun = True

    def _take_data(self, data: bytes, start: int, end: int) -> None:
        self._pieces.append(data[start:end])

    def _end(self) -> None:
        self.is_whole = True


def _filename(disposition: str) -> str:
    """`disposition` is in Latin-1, byte by byte."""
    kind, options = _parameters(disposition)
    if kind != b"form-data" or options.get(b"name") != PART.encode():
        _refuse("missing", "The form has no part of this name, or another one first")
    named = options.get(b"filename")
    if extended := _EXTENDED_NAME.search(_QUOTED.sub("", disposition)):
        named = unquote_to_bytes(extended[1])
    if named is None:
        _refuse("filename_missing", "A file has a filename: with curl, -F file=@path")
    try:
        name = named.decode()
    except UnicodeDecodeError:
        _refuse("filename_unreadable", "A filename is text in UTF-8")
    if "\x00" in name:
        _refuse("nul_character", "A filename cannot contain the NUL character")
    return sanitised(_ESCAPED.sub(lambda found: chr(int(found[1], 16)), name))


def _refuse(code: str, message: str) -> NoReturn:
    raise RequestValidationError([{"type": code, "loc": ("body", PART), "msg": message}])
