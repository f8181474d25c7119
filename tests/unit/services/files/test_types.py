import gzip
import io
import zipfile

import pytest

from parley.core.errors import FileTypeRefused
from parley.core.settings.values import DEFAULT_UPLOAD_TYPES
from parley.services.files.types import UNKNOWN, FileTypes, Sniffer

OFFICE = "application/vnd.openxmlformats-officedocument."
DOCX = f"{OFFICE}wordprocessingml.document"
PNG = b"\x89PNG\r\n\x1a\n" + bytes.fromhex("0000000d49484452") + b"\0" * 20
JPEG = bytes.fromhex("ffd8ffe000104a46494600010100000100010000") + b"\0" * 40
EXIF = bytes.fromhex("ffd8ffe1") + b"\0\x10Exif\0\0" + b"\0" * 40
GIF = b"GIF89a\x01\0\x01\0\0\0\0," + b"\0" * 20
WEBP = b"RIFF\x24\0\0\0WEBPVP8 " + b"\0" * 30
PDF = b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n"
HTML = b"<!DOCTYPE html><html><body><script>alert(1)</script>"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>'
XML = b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'
BINARY = bytes(range(1, 200)) * 3


def zipped(*names: str) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name in names:
            archive.writestr(name, "x" * 10)
    return made.getvalue()


ZIP = zipped("a.txt")
WORD = zipped("[Content_Types].xml", "word/document.xml")


def type_of(content: bytes, claim: str, filename: str = "a", *, size: int = 7) -> str:
    """Of what comes in pieces of `size`."""
    types, sniffer = FileTypes(DEFAULT_UPLOAD_TYPES), Sniffer()
    admitted = types.admit(claim)
    for start in range(0, len(content), size):
        sniffer.feed(content[start : start + size])
    return types.confirm(admitted, filename, sniffer)


class TestClaims:
    @pytest.mark.parametrize(
        ("content", "claim"),
        [
            (PNG, "image/png"),
            (JPEG, "image/jpeg"),
            (EXIF, "image/jpeg"),
            (GIF, "image/gif"),
            (WEBP, "image/webp"),
            (PDF, "application/pdf"),
            (ZIP, "application/zip"),
            (WORD, DOCX),
            (b"", "text/plain"),
            (b"hello", "text/plain"),
            (HTML, "text/html"),
            (HTML, "text/markdown"),
            (XML, "text/xml"),
            (b'{"a": 1}', "application/json"),
            ("Grüße 🙂\r\n\tend\x1b[0m".encode(), "text/x-log"),
            (b"BM is what I am called", "text/plain"),
            (b"MZ, PK and ID3 are no words. FORM is one", "text/plain"),
            (b"P1 is the first", "text/csv"),
        ],
    )
    @pytest.mark.parametrize("size", [1, 10_000])
    def test_what_is_what_it_says_is_taken(self, content: bytes, claim: str, size: int):
        assert claim == type_of(content, claim, size=size)

    @pytest.mark.parametrize(
        ("content", "claim"),
        [
            *((content, "image/png") for content in (HTML, SVG, XML, JPEG, PDF, ZIP, b"", b"hello", BINARY)),
            *((content, "application/pdf") for content in (HTML, PNG, ZIP, b"pdf", BINARY)),
            *((content, "text/plain") for content in (PNG, PDF, GIF + b"\n", ZIP, BINARY)),
            (b"a\0b", "text/plain"),
            (b"a\x07b", "text/plain"),
            ("Grüße".encode("latin-1"), "text/plain; charset=latin-1"),
            ("hello".encode("utf-16"), "text/plain"),
            ("Grü".encode()[:-1], "text/markdown"),
            (b"\xed\xa0\x80", "text/plain"),
            (PNG, DOCX),
            (HTML, "application/zip"),
            (gzip.compress(b"a", mtime=0), "application/zip"),
        ],
    )  # fmt: skip
    @pytest.mark.parametrize("size", [1, 10_000])
    def test_what_is_something_else_is_refused(self, content: bytes, claim: str, size: int):
        with pytest.raises(FileTypeRefused):
            type_of(content, claim, size=size)

    @pytest.mark.parametrize(
        "claim",
        [
            "image/svg+xml", "application/x-msdownload", "video/mp4", "application/xhtml+xml",
            "text", "*/*", "../etc", "text/", "text/a\0b", "text/a\nSet-Cookie: b", "text/a b", "text/<b>",
            "text/a, text/b", "text/é", "text/" + "x" * 64, "text/a/b", "/", "text/*", "image/png/../..", "x" * 10_000,
        ],
    )  # fmt: skip
    def test_what_is_not_on_the_list_is_refused_before_it_is_read(self, claim: str):
        with pytest.raises(FileTypeRefused):
            FileTypes(DEFAULT_UPLOAD_TYPES).admit(claim)

    @pytest.mark.parametrize(
        ("claim", "meant"),
        [
            ("IMAGE/PNG", "image/png"),
            ("image/jpg", "image/jpeg"),
            ("text/plain; charset=utf-8", "text/plain"),
            ("application/x-zip-compressed", "application/zip"),
            ("text/x-markdown", "text/markdown"),
            ("", UNKNOWN),
            (" ; charset=utf-8", UNKNOWN),
            ("application/vnd.ms-excel", UNKNOWN),
        ],
    )
    def test_it_is_named_in_one_word(self, claim: str, meant: str):
        assert meant == FileTypes(DEFAULT_UPLOAD_TYPES).admit(claim)

    def test_a_type_of_no_signature_is_believed_unless_another_is_there(self):
        types = FileTypes(["application/x-mine"])
        for content, is_believed in ((BINARY, True), (PNG, False), (b"hello", False)):
            sniffer = Sniffer()
            sniffer.feed(content)
            if is_believed:
                assert "application/x-mine" == types.confirm("application/x-mine", "a", sniffer)
            else:
                with pytest.raises(FileTypeRefused):
                    types.confirm("application/x-mine", "a", sniffer)


class TestNoClaim:
    @pytest.mark.parametrize(
        ("content", "filename", "expected"),
        [
            (PNG, "a.txt", "image/png"),
            (JPEG, "a", "image/jpeg"),
            (GIF, "a", "image/gif"),
            (WEBP, "a.png", "image/webp"),
            (PDF, "a.html", "application/pdf"),
            (WORD, "a.docx", DOCX),
            (WORD, "a", "application/zip"),
            (ZIP, "a.png", "application/zip"),
            ("# Grüße".encode(), "Grüße.md", "text/markdown"),
            (b"a,b", "a.csv", "text/csv"),
            (b"{}", "a.json", "application/json"),
            (b"a: 1", "a.yml", "text/yaml"),
            (b"hello", "a", "text/plain"),
            (b"hello", "a.png", "text/plain"),
            (b"hello", "a.pdf", "text/plain"),
            (b"", "a.md", "text/markdown"),
            (HTML, "a.html", "text/html"),
            (SVG, "a.svg", "text/plain"),
            (BINARY, "a.png", UNKNOWN),
            (BINARY, "a.txt", UNKNOWN),
            # What begins as a text and is none.
            ("Grüße".encode("utf-16"), "a.txt", UNKNOWN),
            ("<html>Grüße</html>".encode("latin-1"), "a.html", UNKNOWN),
            (b"BEGIN:VCALENDAR\r\n" + BINARY, "a.ics", UNKNOWN),
            (b'{"a": "\0"}', "a.json", UNKNOWN),
            (b"<?xml version='1.0'?>" + BINARY, "a.xml", UNKNOWN),
            (b"MZ\x90\0\3\0\0\0", "a.exe", UNKNOWN),
            (b"\x7fELF\x02\x01\x01" + b"\0" * 20, "a", UNKNOWN),
        ],
    )
    def test_it_is_taken_for_what_it_looks_like(
        self, content: bytes, filename: str, expected: str
    ):
        assert expected == type_of(content, UNKNOWN, filename)

    @pytest.mark.parametrize("content", [PNG, PDF, b"hello", BINARY])
    def test_where_that_is_not_on_the_list_it_says_nothing(self, content: bytes):
        types, sniffer = FileTypes(["image/gif"]), Sniffer()
        sniffer.feed(content)

        assert UNKNOWN == types.confirm(types.admit(""), "a", sniffer)
