"""Row 58 of the list of attacks: a name says no path, no line and no other order of letters."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley.services.files.names import BYTES_MAX, NAMELESS, sanitised


@pytest.mark.parametrize(
    ("given_name", "kept"),
    [
        ("notes.md", "notes.md"),
        ("Grüße 🙂.md", "Grüße 🙂.md"),
        ("👩‍💻.txt", "👩‍💻.txt"),
        ("می‌خواهم.txt", "می‌خواهم.txt"),
        ("../../etc/passwd", "passwd"),
        ("/etc/passwd", "passwd"),
        ("C:\\Windows\\system.ini", "system.ini"),
        ("..\\..\\secret", "secret"),
        ("a\r\nSet-Cookie: b=c", "aSet-Cookie: b=c"),
        ("a\x1b[31mred.txt", "a[31mred.txt"),
        ("invoice\u202egnp.exe", "invoicegnp.exe"),
        ("a\u2028b\u2029c", "abc"),
        ("\ufeffa\u200b.txt", "a.txt"),
        (" a b .txt ", "a b .txt"),
        (".gitignore", ".gitignore"),
        *((name, NAMELESS) for name in ("", ".", "..", "/", "a/", " ", "\u202e", "...", "../..")),
    ],
)
def test_what_could_mislead_is_left_out(given_name: str, kept: str):
    assert kept == sanitised(given_name)


def test_a_long_one_keeps_what_it_ends_with():
    kept = sanitised("ü" * 4000 + ".markdown")

    assert BYTES_MAX >= len(kept.encode()) > BYTES_MAX - 2
    assert kept.endswith("ü.markdown")


@given(st.text())
def test_whatever_it_is_something_harmless_is_left(name: str):
    kept = sanitised(name)

    assert kept.strip(". ")
    assert kept == sanitised(kept) or len(name.encode(errors="replace")) > BYTES_MAX
    assert len(kept.encode()) <= BYTES_MAX
    assert not set(kept) & set("/\\\r\n\x00\u202e\u2066")
