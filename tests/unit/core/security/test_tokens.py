"""Rows 2 to 12 of group A in the design's security.md; the numbers are its own."""

import json
import time
from base64 import urlsafe_b64decode
from typing import Any
from uuid import UUID, uuid4

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from parley.core.errors import TokenRefused
from parley.core.security.tokens import LocalTokens, Principal
from tests.unit.core.security.forge import (
    SECRET,
    FromNow,
    forged,
    good_claims,
    segment,
    signed,
)

PUBLIC_KEY = Ed25519PrivateKey.generate().public_key()
SPKI = PublicFormat.SubjectPublicKeyInfo
PEM = PUBLIC_KEY.public_bytes(Encoding.PEM, SPKI)
DER = PUBLIC_KEY.public_bytes(Encoding.DER, SPKI)
JWK = {
    "kty": "OKP",
    "crv": "Ed25519",
    "x": segment(PUBLIC_KEY.public_bytes(Encoding.Raw, PublicFormat.Raw)),
}

SESSION_ID = uuid4()
BEFORE = "the secret of before, with more than 32 bytes"
INFINITE, NOT_A_NUMBER = float("inf"), float("nan")

HEADERS: list[tuple[int, dict[str, Any]]] = [
    *((2, {"alg": alg}) for alg in ("none", "None", "NONE", "nOnE", "")),
    *((4, {"alg": alg}) for alg in ("HS384", "HS512", "RS256", "ES256", "EdDSA", "hs256", "HS1")),
    *((4, {"alg": alg}) for alg in (None, 7, True, [], ["HS256"], {"HS256": 1})),
    *((6, {"crit": crit}) for crit in (["x"], ["exp"], [], "x", None, [7], [[]], {})),
    *((11, {"typ": typ}) for typ in ("JWT", "rt+jwt", "id+jwt", "AT+JWT", "at+jwt ", "")),
    *((11, {"typ": typ}) for typ in (None, 7, ["at+jwt"])),
]
CLAIMS: list[tuple[int, str, Any]] = [
    *((7, claim, None) for claim in good_claims()),
    *((8, "exp", FromNow(seconds)) for seconds in (0, -1, -30, -59, -3600)),
    *((8, "exp", exp) for exp in (0, -1, True, False, INFINITE, -INFINITE, NOT_A_NUMBER)),
    *((8, "exp", exp) for exp in ("9999999999", "inf", "soon", "", [9999999999], {})),
    *((8, "exp", exp) for exp in (10**400, 1e300, 2**63)),
    *((9, claim, FromNow(90)) for claim in ("iat", "nbf")),
    *((9, claim, INFINITE) for claim in ("iat", "nbf")),
    *((9, claim, NOT_A_NUMBER) for claim in ("iat", "nbf")),
    *((9, claim, 10**400) for claim in ("iat", "nbf")),
    *((9, claim, value) for claim in ("iat", "nbf") for value in ("later", [], {})),
    *((10, "aud", aud) for aud in ("", "other", "Parley", "parley ", 7, {}, {"parley": 1})),
    *((10, "aud", aud) for aud in ([], ["other"], ["parley", 7], ["parley", "other"])),
    *((10, "iss", iss) for iss in ("", "other", "Parley", "https://parley", 7, ["parley"], {})),
    *((12, "sub", sub) for sub in (7, True, 1.5, ["ann"], {"ann": 1}, "", "a" * 65, "a" * 10_240)),
    *((12, "sub", sub) for sub in ("an\0n", "ann/bob", "../ann", "ann\n", " ann", "ann.bob")),
    *((12, "sub", sub) for sub in ("änn", "\ud800")),
    *((12, "sid", sid) for sid in (7, True, "", "x", [], {}, "\ud800")),
    (12, "jti", 7),
]
KEYS = {
    "another secret": b"another secret of the tests, as long as ours",
    "no secret": b"",
    "all but the secret's end": SECRET[:-1].encode(),
    "a public PEM": PEM,
    "a public PEM without its line end": PEM.strip(),
    "a public DER": DER,
    "a public JWK": json.dumps(JWK).encode(),
}
POINTERS = {
    "jku": "https://attacker.test/jwks.json",
    "x5u": "https://attacker.test/key.pem",
    "jwk": JWK,
    "kid": "../../dev/null",
}
DEEP = b"[" * 100_000
GARBAGE = {
    "nothing": "",
    "dots": "..",
    "many dots": "." * 1_048_576,
    "a megabyte": "a" * 1_048_576,
    "a megabyte for a signature": f"e30.e30.{'a' * 1_048_576}",
    "white space": " ",
    "NUL": "\0",
    "beyond ASCII": "é.é.é",
    "a lone surrogate": "\ud800.e30.e30",
    "two parts": "e30.e30",
    "four parts": "e30.e30.e30.e30",
    "five parts, as of a JWE": "e30.e30.e30.e30.e30",
    "no base64": "?.?.?",
    "empty objects": "e30.e30.e30",
    "null": ".".join([segment(b"null")] * 3),
    "a string": ".".join([segment(b'"x"')] * 3),
    "no UTF-8": ".".join([segment(b"\xff")] * 3),
    "a header too deep": f"{segment(DEEP)}.e30.e30",
    "signed claims too deep": signed(DEEP),
    "signed claims that are a list": signed([1]),
    "signed claims that are a string": signed("ann"),
    "signed claims that are null": signed(None),
    "signed claims that are no JSON": signed(b"ann"),
    "signed claims that are no UTF-8": signed(b'{"sub": "\xff"}'),
}


@pytest.fixture
def tokens() -> LocalTokens:
    return LocalTokens(SECRET, lifetime_seconds=300)


def decoded(part: str) -> dict[str, Any]:
    return json.loads(urlsafe_b64decode(part + "=="))


class TestIssue:
    def test_it_has_the_form_of_rfc_9068(self, tokens: LocalTokens):
        header, claims, _ = tokens.issue("ann", SESSION_ID).split(".")

        assert {"alg": "HS256", "typ": "at+jwt"} == decoded(header)
        assert {"sub", "iss", "aud", "iat", "exp", "jti", "sid"} == set(decoded(claims))
        assert ("parley", "parley") == (decoded(claims)["iss"], decoded(claims)["aud"])

    def test_it_lasts_as_long_as_told(self, tokens: LocalTokens):
        claims = decoded(tokens.issue("ann", SESSION_ID).split(".")[1])

        assert 300 == claims["exp"] - claims["iat"]
        assert abs(claims["iat"] - time.time()) < 5

    def test_no_two_are_the_same(self, tokens: LocalTokens):
        assert tokens.issue("ann", SESSION_ID) != tokens.issue("ann", SESSION_ID)


class TestVerify:
    @pytest.mark.parametrize("user_id", ["ann", "a", "A-b_9", "a" * 64, "-", "_"])
    def test_what_was_issued_is_believed(self, user_id: str, tokens: LocalTokens):
        verified = tokens.verify(tokens.issue(user_id, SESSION_ID))

        assert Principal(user_id, SESSION_ID) == verified.principal
        assert abs(verified.expires_at - time.time() - 300) < 5

    def test_a_forged_one_is_good_but_for_what_a_row_changes(self, tokens: LocalTokens):
        """Else the rows below would be refused for another reason."""
        assert Principal("ann", UUID(good_claims()["sid"])) == tokens.verify(forged()).principal

    @pytest.mark.parametrize("claim", ["iat", "nbf"])
    def test_a_clock_may_lag_by_a_minute(self, claim: str, tokens: LocalTokens):
        assert tokens.verify(forged(**{claim: FromNow(50)}))

    def test_a_token_that_has_not_run_out_is_good_to_the_last(self, tokens: LocalTokens):
        assert tokens.verify(forged(exp=FromNow(30)))

    def test_claims_and_headers_of_no_meaning_here_change_nothing(self, tokens: LocalTokens):
        assert tokens.verify(forged({"kid": "x", "x": 1}, scope="all", admin=True))


def refuses(tokens: LocalTokens, token: str) -> None:
    with pytest.raises(TokenRefused) as caught:
        tokens.verify(token)
    assert TokenRefused is type(caught.value)


def shortened(value: object) -> str:
    return repr(value)[:40]


class TestSecretOfBefore:
    def test_what_it_signed_is_believed_still(self):
        before = LocalTokens(BEFORE, lifetime_seconds=300)
        after = LocalTokens(SECRET, BEFORE, lifetime_seconds=300)

        assert "ann" == after.verify(before.issue("ann", SESSION_ID)).principal.user_id

    def test_it_signs_nothing_any_more(self):
        before = LocalTokens(BEFORE, lifetime_seconds=300)
        after = LocalTokens(SECRET, BEFORE, lifetime_seconds=300)

        refuses(before, after.issue("ann", SESSION_ID))

    def test_an_expired_one_is_no_better_for_it(self):
        after = LocalTokens(BEFORE, SECRET, lifetime_seconds=300)

        assert after.verify(forged())
        refuses(after, forged(exp=FromNow(-1)))


class TestRefused:
    @pytest.mark.parametrize(("row", "header"), HEADERS, ids=shortened)
    def test_a_header(self, row: int, header: dict[str, Any], tokens: LocalTokens):
        refuses(tokens, forged(header))

    @pytest.mark.parametrize(("row", "claim", "value"), CLAIMS, ids=shortened)
    def test_a_claim(self, row: int, claim: str, value: object, tokens: LocalTokens):
        refuses(tokens, forged(**{claim: value}))

    @pytest.mark.parametrize("algorithm", ["none", "None", "nOnE", "", "HS256"])
    def test_row_2_no_signature(self, algorithm: str, tokens: LocalTokens):
        header, claims, _ = forged({"alg": algorithm}).split(".")

        refuses(tokens, f"{header}.{claims}.")

    @pytest.mark.parametrize("part", range(3))
    def test_row_2_a_part_of_another_token(self, part: int, tokens: LocalTokens):
        parts, others = forged().split("."), forged({"kid": "x"}, sub="bob").split(".")
        parts[part] = others[part]

        refuses(tokens, ".".join(parts))

    @pytest.mark.parametrize("name", KEYS)
    def test_row_3_another_key(self, name: str, tokens: LocalTokens):
        refuses(tokens, forged(key=KEYS[name]))

    @pytest.mark.parametrize("name", POINTERS)
    def test_row_5_a_pointer_to_another_key(self, name: str, tokens: LocalTokens):
        refuses(tokens, forged({name: POINTERS[name]}, key=PEM))

    @pytest.mark.parametrize("claim", good_claims())
    def test_row_7_a_claim_that_is_missing(self, claim: str, tokens: LocalTokens):
        refuses(tokens, forged(leave_out=claim))

    def test_row_8_an_exp_of_5000_digits(self, tokens: LocalTokens):
        refuses(tokens, signed(b'{"exp": %s}' % (b"9" * 5000)))

    @pytest.mark.parametrize("name", GARBAGE)
    def test_garbage(self, name: str, tokens: LocalTokens):
        refuses(tokens, GARBAGE[name])

    def test_each_without_a_word_of_the_reason(self, tokens: LocalTokens):
        """Whoever sent it learns nothing; the audit does."""
        said = []
        for token in (forged(exp=1), forged(aud="other"), forged(key=PEM), "e30.e30.e30"):
            with pytest.raises(TokenRefused) as caught:
                tokens.verify(token)
            said.append((caught.value.reason, caught.value.members))

        assert ["expired", *["not-valid"] * 3] == [reason for reason, _ in said]
        assert [said[0][1]] * 4 == [members for _, members in said]
