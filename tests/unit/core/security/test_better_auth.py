import pytest

from parley.core.security.better_auth import SignedSessions
from tests.issuers import signed_session
from tests.session_table import SECRET

# The signature of this one has a plus, a slash and a padding.
TOKEN = "aBcDeFgHiJkLmNoPqRsTuVwXyZaBcDac"
BEARER = signed_session(TOKEN, SECRET)
COOKIE = signed_session(TOKEN, SECRET, encoded=True)
SIGNATURE = BEARER.rpartition(".")[2]


@pytest.fixture
def signed() -> SignedSessions:
    return SignedSessions(SECRET)


def test_the_example_has_every_kind_of_character():
    assert {"+", "/", "="} <= set(SIGNATURE)
    assert {"%2B", "%2F", "%3D"} <= {COOKIE[at : at + 3] for at in range(len(COOKIE))}


@pytest.mark.parametrize("form", [BEARER, COOKIE])
def test_a_signed_token_is_opened(signed: SignedSessions, form: str):
    assert TOKEN == signed.open(form)


def test_it_is_split_at_its_last_dot(signed: SignedSessions):
    assert "a.b.c" == signed.open(signed_session("a.b.c", SECRET))


@pytest.mark.parametrize(
    "forged",
    [
        "",
        ".",
        TOKEN,
        f"{TOKEN}.",
        f".{SIGNATURE}",
        f"{TOKEN}.{TOKEN}",
        f"{TOKEN[:-1]}.{SIGNATURE}",
        f"{TOKEN}x.{SIGNATURE}",
        f"{TOKEN.lower()}.{SIGNATURE}",
        f"{TOKEN}.{SIGNATURE.lower()}",
        f"{TOKEN}.{SIGNATURE[:-1]}",
        f"{TOKEN}.{SIGNATURE}=",
        f"{TOKEN}.{SIGNATURE.replace('+', ' ')}",
        f"{TOKEN}.{SIGNATURE.replace('+', '-').replace('/', '_')}",
        f"{TOKEN}.é{SIGNATURE}",
        f"é{TOKEN}.{SIGNATURE}",
        f"\ud800{TOKEN}.{SIGNATURE}",
        f"{TOKEN}.\ud800{SIGNATURE}",
        f"%FF{TOKEN}.{SIGNATURE}",
        f"{TOKEN}%00.{SIGNATURE}",
        f"{BEARER}.{SIGNATURE}",
        signed_session(TOKEN, "another secret, as long as the one of the tests"),
        signed_session(TOKEN, SECRET[:-1]),
        signed_session(TOKEN, ""),
        signed_session("", SECRET),
        "." * 1_000_000,
        "a" * 1_000_000,
    ],
    ids=lambda forged: repr(forged)[:50],
)
def test_any_other_is_not(signed: SignedSessions, forged: str):
    assert signed.open(forged) is None
