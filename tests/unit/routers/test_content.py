from datetime import UTC, datetime
from urllib.parse import unquote

import pytest
from starlette.datastructures import Headers

from parley.core.errors import PreconditionFailed, RangeNotSatisfiable
from parley.core.ids import new_id
from parley.routers._content import Part, disposition, headers_of, is_known, part_of
from parley.schemas.files import FileMetadata

SHA = "a" * 64
TAG = f'"{SHA}"'
BEFORE = "Mon, 30 Nov 2026 06:59:59 GMT"
THEN = "Mon, 30 Nov 2026 07:00:00 GMT"
AFTER = "Mon, 30 Nov 2026 07:00:01 GMT"


def file_of(size: int = 100, filename: str = "a.txt", content_type: str = "text/plain"):
    return FileMetadata(
        id=new_id(),
        filename=filename,
        content_type=content_type,
        size=size,
        sha256=SHA,
        created_at=datetime(2026, 11, 30, 7, 0, 0, 999_000, tzinfo=UTC),
    )


FILE = file_of()


class TestRange:
    @pytest.mark.parametrize(
        ("asked", "part"),
        [
            ("bytes=0-0", Part(0, 1)),
            ("bytes=0-99", Part(0, 100)),
            ("bytes=0-", Part(0, 100)),
            ("bytes=50-", Part(50, 100)),
            ("bytes=99-", Part(99, 100)),
            ("bytes=10-1000", Part(10, 100)),
            ("bytes=-1", Part(99, 100)),
            ("bytes=-1000", Part(0, 100)),
            ("BYTES=1-2", Part(1, 3)),
        ],
    )
    def test_one_that_makes_sense_is_honoured(self, asked: str, part: Part):
        assert part == part_of(FILE, Headers({"Range": asked}))

    @pytest.mark.parametrize(
        "asked",
        [
            "", "bytes", "bytes=", "bytes=-", "bytes=5-4", "bytes=a-b", "bytes=0-1,5-6", "lines=0-1",
            "bytes=0x1-2", "bytes=+1-2", "bytes=1 - 2", "bytes=1-2-3", "bytes=" + "0-," * 5000,
            "bytes=" + "9" * 5000 + "-", "bytes=\u0661-\u0662",
        ],
    )  # fmt: skip
    def test_one_that_makes_none_counts_for_nothing(self, asked: str):
        headers = Headers(raw=[(b"range", asked.encode())])

        assert None is part_of(FILE, headers)

    @pytest.mark.parametrize(
        "asked", ["bytes=100-", "bytes=100-200", "bytes=-0", f"bytes={10**18}-"]
    )
    def test_one_behind_the_end_is_refused(self, asked: str):
        with pytest.raises(RangeNotSatisfiable):
            part_of(FILE, Headers({"Range": asked}))

    def test_nothing_is_in_an_empty_file(self):
        with pytest.raises(RangeNotSatisfiable):
            part_of(file_of(0), Headers({"Range": "bytes=0-"}))

    @pytest.mark.parametrize(
        ("condition", "holds"),
        [(TAG, True), (THEN, True), ('"b"', False), (f"W/{TAG}", False), (BEFORE, False), (AFTER, False), ("x", False)],
    )  # fmt: skip
    def test_one_of_another_file_is_answered_with_the_whole(self, condition: str, holds: bool):  # noqa: FBT001
        headers = Headers({"Range": "bytes=0-1", "If-Range": condition})

        assert (Part(0, 2) if holds else None) == part_of(FILE, headers)


class TestConditions:
    @pytest.mark.parametrize(
        ("headers", "known"),
        [
            ({}, False),
            ({"If-None-Match": TAG}, True),
            ({"If-None-Match": f"W/{TAG}"}, True),
            ({"If-None-Match": f'"b", {TAG}'}, True),
            ({"If-None-Match": "*"}, True),
            ({"If-None-Match": '"b"'}, False),
            ({"If-None-Match": ""}, False),
            ({"If-Modified-Since": THEN}, True),
            ({"If-Modified-Since": AFTER}, True),
            ({"If-Modified-Since": BEFORE}, False),
            ({"If-Modified-Since": "yesterday"}, False),
            ({"If-Modified-Since": "Mon, 30 Nov 2026 07:00:00"}, False),
            ({"If-None-Match": '"b"', "If-Modified-Since": AFTER}, False),
            ({"If-Match": TAG}, False),
            ({"If-Match": "*", "If-None-Match": TAG}, True),
            ({"If-Unmodified-Since": THEN}, False),
            ({"If-Match": TAG, "If-Unmodified-Since": BEFORE}, False),
            ({"If-Unmodified-Since": "yesterday"}, False),
        ],
    )
    def test_who_has_it_is_told_so(self, headers: dict[str, str], known: bool):  # noqa: FBT001
        assert known == is_known(FILE, Headers(headers))

    @pytest.mark.parametrize(
        "headers",
        [{"If-Match": '"b"'}, {"If-Match": f"W/{TAG}"}, {"If-Match": ""}, {"If-Unmodified-Since": BEFORE}],
    )  # fmt: skip
    def test_who_means_another_gets_nothing(self, headers: dict[str, str]):
        with pytest.raises(PreconditionFailed):
            is_known(FILE, Headers(headers))


class TestDisposition:
    @pytest.mark.parametrize(
        ("filename", "expected"),
        [
            ("a.txt", 'attachment; filename="a.txt"'),
            ("a b.txt", 'attachment; filename="a b.txt"'),
            ('say "hi".txt', "attachment; filename=\"say _hi_.txt\"; filename*=UTF-8''say%20%22hi%22.txt"),
            ("50%.txt", "attachment; filename=\"50_.txt\"; filename*=UTF-8''50%25.txt"),
            ("Grüße.md", "attachment; filename=\"Gr__e.md\"; filename*=UTF-8''Gr%C3%BC%C3%9Fe.md"),
            ("a;b='c'.txt", "attachment; filename=\"a;b='c'.txt\""),
        ],
    )  # fmt: skip
    def test_both_names_are_there_where_they_differ(self, filename: str, expected: str):
        assert expected == disposition(filename)

    @pytest.mark.parametrize(
        "filename", ["\u202e\r\n\x00", '"; filename="evil.html', "\\", "🙂" * 60]
    )
    def test_nothing_gets_out_of_it(self, filename: str):
        said = disposition(filename)

        assert said.isascii()
        assert said.isprintable()
        plain, _, extended = said.removeprefix('attachment; filename="').partition('"; filename*=')
        assert '"' not in plain
        assert "\\" not in plain
        assert filename == unquote(extended.removeprefix("UTF-8''"))


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        ("text/html", "text/html; charset=utf-8"),
        ("application/json", "application/json; charset=utf-8"),
        ("image/png", "image/png"),
    ],
)
def test_it_is_never_a_page_of_ours(content_type: str, expected: str):
    headers = headers_of(file_of(content_type=content_type))

    assert expected == headers["Content-Type"]
    assert headers["Content-Disposition"].startswith("attachment;")
    assert headers["Content-Security-Policy"].endswith("; sandbox")
    assert (TAG, THEN, "bytes") == (
        headers["ETag"], headers["Last-Modified"], headers["Accept-Ranges"]
    )  # fmt: skip
