"""Rows 2 to 12 of group A in the design's security.md, for those who are not Parley itself."""

import hmac
import json
from base64 import b64encode
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from parley.core.errors import IssuerUnavailable, TokenRefused
from parley.core.ids import new_id
from parley.core.security.issuers import (
    better_auth_keys_url,
    better_auth_tokens,
    oidc_tokens,
)
from parley.core.security.keys import KeyCache, Keys, KeysUnreadable, keys_of
from parley.core.security.tokens import LocalTokens, Principal, TokenVerifier
from tests.issuers import Issuer, SigningKey, better_auth_issuer, oidc_issuer, subject_id
from tests.unit.core.security.forge import SECRET, FromNow, segment, signed
from tests.unit.core.security.test_tokens import GARBAGE

OIDC, BETTER_AUTH = oidc_issuer(), better_auth_issuer()
ISSUERS = {"oidc": OIDC, "better-auth": BETTER_AUTH}
SECOND = SigningKey("second", "ES256")
STRANGER = SigningKey("stranger", "EdDSA")
LOCAL_ID = "0193497d-8a7d-7c0b-b4f6-d1f0a4a7ce55"
INFINITE, NOT_A_NUMBER = float("inf"), float("nan")

HEADERS: list[tuple[int, dict[str, Any]]] = [
    *((2, {"alg": alg}) for alg in ("none", "None", "NONE", "nOnE", "")),
    *((4, {"alg": alg}) for alg in ("HS256", "HS384", "HS512", "ES256K", "ES521", "rs256", "X")),
    *((4, {"alg": alg}) for alg in (None, 7, True, [], ["RS256"], {"RS256": 1})),
    *((4, {"kid": kid}) for kid in ("unknown", "", "../../dev/null", "\0", None, 7, ["key-1"])),
    *((6, {"crit": crit}) for crit in (["x"], ["exp"], ["b64"], [], "x", None, [7], {})),
    (6, {"b64": False, "crit": ["b64"]}),
    *((11, {"typ": typ}) for typ in ("rt+jwt", "id+jwt", "logout+jwt", "at+jwt ", "", "JWS")),
    *((11, {"typ": typ}) for typ in ("dpop+jwt", "secevent+jwt", "application/id+jwt")),
    *((11, {"typ": typ}) for typ in (None, 7, ["at+jwt"])),
]
CLAIMS: list[tuple[int, str, Any]] = [
    *((7, claim, None) for claim in ("sub", "iss", "aud", "exp")),
    *((8, "exp", FromNow(seconds)) for seconds in (0, -1, -30, -59, -3600)),
    *((8, "exp", exp) for exp in (0, -1, True, False, INFINITE, -INFINITE, NOT_A_NUMBER)),
    *((8, "exp", exp) for exp in ("9999999999", "inf", "soon", "", [9999999999], {})),
    *((8, "exp", exp) for exp in (10**400, 1e300, 2**63)),
    *((9, claim, FromNow(90)) for claim in ("iat", "nbf")),
    *((9, claim, INFINITE) for claim in ("iat", "nbf")),
    *((9, claim, NOT_A_NUMBER) for claim in ("iat", "nbf")),
    *((9, claim, 10**400) for claim in ("iat", "nbf")),
    *((9, claim, value) for claim in ("iat", "nbf") for value in ("later", [], {}, None)),
    *(
        (10, "aud", aud)
        for aud in ("", "other", 7, {}, [], ["other"], [["https://api.chat.test"]])
    ),
    *((10, "iss", iss) for iss in ("", "parley", "https://tenant.auth.test", 7, [], {})),
    *((11, "typ", typ) for typ in ("ID", "Refresh", "Offline", "Logout", "DPoP", 7, None)),
    *((11, "token_use", use) for use in ("id", "refresh", None)),
    *((11, claim, "x") for claim in ("at_hash", "c_hash")),
    *(
        (12, "sub", sub)
        for sub in (7, True, 1.5, ["ann"], {"ann": 1}, "", "a" * 256, "a" * 10_240)
    ),
    *((12, "sub", sub) for sub in ("an\0n", "\0", "\ud800")),
]


def keys_for(*keys: SigningKey) -> KeyCache:
    async def fetch() -> Keys:
        return keys_of({"keys": [key.jwk for key in keys]})

    return KeyCache(fetch)


def verifier_for(issuer: Issuer, keys: KeyCache) -> TokenVerifier:
    if issuer is BETTER_AUTH:
        return better_auth_tokens(keys, origin=issuer.issuer)
    return oidc_tokens(keys, issuer=issuer.issuer, audience=issuer.audience)


@pytest.fixture(params=ISSUERS)
def issuer(request: pytest.FixtureRequest) -> Issuer:
    return ISSUERS[request.param]


@pytest.fixture
def verifier(issuer: Issuer) -> TokenVerifier:
    return verifier_for(issuer, keys_for(issuer.key, SECOND))


def user_id_of(issuer: Issuer) -> str:
    if issuer is BETTER_AUTH:
        return issuer.subject
    return subject_id(issuer.issuer, issuer.subject)


class TestBelieved:
    async def test_a_good_token(self, issuer: Issuer, verifier: TokenVerifier):
        """Else the rows below would be refused for another reason."""
        principal, _ = await verifier.verify(issuer.token())

        assert Principal(user_id_of(issuer)) == principal

    async def test_it_says_when_it_ends(self, issuer: Issuer, verifier: TokenVerifier):
        assert 4_000_000_000 == (await verifier.verify(issuer.token(exp=4_000_000_000))).expires_at

    @pytest.mark.parametrize(
        "typ", ["JWT", "jwt", "at+jwt", "AT+JWT", "application/at+jwt", "Application/JWT"]
    )
    async def test_an_access_token_by_its_type(
        self, issuer: Issuer, verifier: TokenVerifier, typ: str
    ):
        assert await verifier.verify(issuer.token({"typ": typ}))

    async def test_one_without_a_type(self, issuer: Issuer, verifier: TokenVerifier):
        assert await verifier.verify(issuer.token(without="typ"))

    @pytest.mark.parametrize(
        "claims", [{"typ": "Bearer"}, {"token_use": "access"}, {"azp": "app", "scope": "openid"}]
    )
    async def test_claims_as_access_tokens_have_them(
        self, issuer: Issuer, verifier: TokenVerifier, claims: dict[str, Any]
    ):
        assert await verifier.verify(issuer.token(**claims))

    async def test_an_audience_among_others(self, issuer: Issuer, verifier: TokenVerifier):
        assert await verifier.verify(issuer.token(aud=["other", issuer.audience]))

    @pytest.mark.parametrize("claim", ["iat", "nbf"])
    async def test_a_clock_may_lag_by_a_minute(
        self, issuer: Issuer, verifier: TokenVerifier, claim: str
    ):
        assert await verifier.verify(issuer.token(**{claim: FromNow(50)}))

    async def test_iat_is_not_asked_for(self, issuer: Issuer, verifier: TokenVerifier):
        assert await verifier.verify(issuer.token(leave_out="iat"))

    async def test_any_key_of_the_set(self, issuer: Issuer, verifier: TokenVerifier):
        header = {"alg": SECOND.algorithm, "kid": SECOND.kid}

        assert await verifier.verify(issuer.token(header, key=SECOND))


class TestUserIds:
    @pytest.mark.parametrize(
        "subject", ["auth0|abc", "a/b", "j_x", "a" * 255, "ä", "me", " ", "."]
    )
    async def test_another_issuers_subject_is_mapped(self, subject: str):
        verified = await verifier_for(OIDC, keys_for(OIDC.key)).verify(OIDC.token(sub=subject))

        assert subject_id(OIDC.issuer, subject) == verified.principal.user_id
        assert 45 == len(verified.principal.user_id)

    @pytest.mark.parametrize("subject", ["a" * 32, "a", "A-b_9", "a" * 64, "-", "J_", "1"])
    async def test_better_auths_is_kept(self, subject: str):
        token = BETTER_AUTH.token(sub=subject)

        verified = await verifier_for(BETTER_AUTH, keys_for(BETTER_AUTH.key)).verify(token)

        assert subject == verified.principal.user_id

    @pytest.mark.parametrize(
        "subject",
        ["auth0|abc", "../me", "a b", "ä", "a" * 65, "ann\n", "j_", subject_id("iss", "ann"),
         LOCAL_ID, LOCAL_ID.upper(), LOCAL_ID.replace("-", "")],
    )  # fmt: skip
    async def test_better_auths_that_could_be_somebody_else_is_refused(self, subject: str):
        await refuses(
            verifier_for(BETTER_AUTH, keys_for(BETTER_AUTH.key)), BETTER_AUTH.token(sub=subject)
        )

    async def test_two_issuers_never_meet_in_one_user(self):
        other = Issuer("https://tenant.auth.test", OIDC.audience, OIDC.key)
        ids = {
            (await verifier_for(issuer, keys_for(issuer.key)).verify(token)).principal.user_id
            for issuer, token in [
                (OIDC, OIDC.token(sub="/ann")),
                (OIDC, OIDC.token(sub="ann")),
                (other, other.token(sub="/ann")),
                (other, other.token(sub="ann")),
                (BETTER_AUTH, BETTER_AUTH.token(sub="ann")),
            ]
        }

        assert 5 == len(ids)


async def refuses(verifier: TokenVerifier, token: str) -> None:
    with pytest.raises(TokenRefused) as caught:
        await verifier.verify(token)
    assert TokenRefused is type(caught.value)


def shortened(value: object) -> str:
    return repr(value)[:40]


class TestRefused:
    @pytest.mark.parametrize(("row", "header"), HEADERS, ids=shortened)
    async def test_a_header(
        self, row: int, header: dict[str, Any], issuer: Issuer, verifier: TokenVerifier
    ):
        await refuses(verifier, issuer.token(header))

    @pytest.mark.parametrize(("row", "claim", "value"), CLAIMS, ids=shortened)
    async def test_a_claim(
        self, row: int, claim: str, value: object, issuer: Issuer, verifier: TokenVerifier
    ):
        await refuses(verifier, issuer.token(**{claim: value}))

    @pytest.mark.parametrize("algorithm", ["none", "None", "nOnE", "", "RS256", "EdDSA"])
    async def test_row_2_no_signature(
        self, algorithm: str, issuer: Issuer, verifier: TokenVerifier
    ):
        header, claims, _ = issuer.token({"alg": algorithm}).split(".")

        await refuses(verifier, f"{header}.{claims}.")

    @pytest.mark.parametrize("part", range(3))
    async def test_row_2_a_part_of_another_token(
        self, part: int, issuer: Issuer, verifier: TokenVerifier
    ):
        parts, others = issuer.token().split("."), issuer.token({"x": 1}, sub="bob").split(".")
        parts[part] = others[part]

        await refuses(verifier, ".".join(parts))

    @pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
    @pytest.mark.parametrize("form", ["PEM", "PEM without its line end", "DER", "raw", "JWK"])
    async def test_row_3_a_public_key_as_a_secret(
        self, algorithm: str, form: str, issuer: Issuer, verifier: TokenVerifier
    ):
        public, spki = issuer.key.private.public_key(), PublicFormat.SubjectPublicKeyInfo
        pem = public.public_bytes(Encoding.PEM, spki)
        jwk = json.dumps(issuer.key.jwk).encode()
        secret = {
            "PEM": pem,
            "PEM without its line end": pem.strip(),
            "DER": public.public_bytes(Encoding.DER, spki),
            "raw": issuer.key.jwk.get("x", issuer.key.jwk.get("n")).encode(),
            "JWK": jwk,
        }[form]
        header, claims, _ = issuer.token({"alg": algorithm}).split(".")
        covered = f"{header}.{claims}".encode()
        digest = hmac.digest(secret, covered, f"sha{algorithm[2:]}")

        await refuses(verifier, f"{covered.decode()}.{segment(digest)}")

    @pytest.mark.parametrize(
        ("by", "said"),
        [("PS256", "PS256"), ("PS256", "RS256"), ("RS512", "RS512"), ("RS384", "RS256")],
    )
    async def test_row_4_the_right_key_by_another_algorithm(self, by: str, said: str):
        """The set says RS256 of this key."""
        key = SigningKey(OIDC.key.kid, by)
        assert key.private is OIDC.key.private

        await refuses(verifier_for(OIDC, keys_for(OIDC.key)), OIDC.token({"alg": said}, key=key))

    @pytest.mark.parametrize("algorithm", ["RS384", "RS512", "PS384", "PS512", "ES384"])
    async def test_row_4_an_algorithm_that_better_auth_never_uses(self, algorithm: str):
        key = SigningKey("other", algorithm)
        token = BETTER_AUTH.token({"alg": algorithm, "kid": key.kid}, key=key)

        await refuses(verifier_for(BETTER_AUTH, keys_for(BETTER_AUTH.key, key)), token)

    async def test_row_4_another_key_of_the_set_than_the_one_that_is_named(
        self, issuer: Issuer, verifier: TokenVerifier
    ):
        await refuses(verifier, issuer.token({"alg": SECOND.algorithm}, key=SECOND))
        await refuses(verifier, issuer.token({"kid": SECOND.kid}))

    async def test_row_4_a_token_that_names_no_key(self, issuer: Issuer, verifier: TokenVerifier):
        await refuses(verifier, issuer.token(without="kid"))

    @pytest.mark.parametrize("name", ["jku", "x5u", "jwk", "x5c", "x5t"])
    async def test_row_5_a_pointer_to_a_key_of_ones_own(
        self, name: str, issuer: Issuer, verifier: TokenVerifier
    ):
        """Unit tests have no network: one that were followed would fail here."""
        pointers = {
            "jku": "https://attacker.test/jwks.json",
            "x5u": "https://attacker.test/key.pem",
            "jwk": STRANGER.jwk,
            "x5c": [b64encode(b"certificate").decode()],
            "x5t": "x",
        }
        header = {name: pointers[name], "alg": "EdDSA"}

        await refuses(verifier, issuer.token(header, key=STRANGER))
        await refuses(verifier, issuer.token({**header, "kid": STRANGER.kid}, key=STRANGER))

    @pytest.mark.parametrize("claim", ["sub", "iss", "aud", "exp"])
    async def test_row_7_a_claim_that_is_missing(
        self, claim: str, issuer: Issuer, verifier: TokenVerifier
    ):
        await refuses(verifier, issuer.token(leave_out=claim))

    async def test_row_8_an_exp_of_5000_digits(self, issuer: Issuer, verifier: TokenVerifier):
        await refuses(verifier, issuer.signed(b'{"exp": %s}' % (b"9" * 5000)))

    @pytest.mark.parametrize("body", [b"[" * 100_000, b"[1]", b'"ann"', b"null", b"\xff", b""])
    async def test_signed_garbage(self, body: bytes, issuer: Issuer, verifier: TokenVerifier):
        await refuses(verifier, issuer.signed(body))

    @pytest.mark.parametrize("name", GARBAGE)
    async def test_garbage(self, name: str, verifier: TokenVerifier):
        await refuses(verifier, GARBAGE[name])

    async def test_row_10_the_other_issuers_token_and_parleys_own(self, verifier: TokenVerifier):
        others = [other.token() for other in ISSUERS.values()]
        local = LocalTokens(SECRET, lifetime_seconds=300).issue("ann", new_id())
        believed = []
        for token in (*others, local, signed({"sub": "ann"})):
            try:
                believed.append(await verifier.verify(token))
            except TokenRefused:
                continue

        assert 1 == len(believed)

    async def test_each_without_a_word_of_the_reason(
        self, issuer: Issuer, verifier: TokenVerifier
    ):
        details = set()
        for token in (issuer.token(exp=1), issuer.token(aud="x"), issuer.token(key=STRANGER), "."):
            with pytest.raises(TokenRefused) as caught:
                await verifier.verify(token)
            details.add(caught.value.members["detail"])

        assert 1 == len(details)


async def away() -> Keys:
    raise KeysUnreadable("away")


class TestAsking:
    """Only a token that might be good makes us ask its issuer."""

    @pytest.mark.parametrize(("row", "header"), HEADERS, ids=shortened)
    async def test_for_no_key_of_a_header_that_is_refused(
        self, row: int, header: dict[str, Any], issuer: Issuer
    ):
        might_be_good = isinstance(header.get("kid"), str)
        token = issuer.token(header)

        with pytest.raises(IssuerUnavailable if might_be_good else TokenRefused):
            await verifier_for(issuer, KeyCache(away)).verify(token)

    async def test_for_no_key_that_no_header_names(self, issuer: Issuer):
        with pytest.raises(TokenRefused):
            await verifier_for(issuer, KeyCache(away)).verify(issuer.token(without="kid"))


class TestKeysUrl:
    @pytest.mark.parametrize(
        ("base_url", "keys_url"),
        [
            ("https://a.test", "https://a.test/api/auth/jwks"),
            ("https://a.test/", "https://a.test/api/auth/jwks"),
            ("https://a.test/api/auth", "https://a.test/api/auth/jwks"),
            ("https://a.test/api/auth/", "https://a.test/api/auth/jwks"),
            ("http://a.test:3000/accounts", "http://a.test:3000/accounts/jwks"),
        ],
    )
    def test_it_is_under_its_base(self, base_url: str, keys_url: str):
        assert keys_url == better_auth_keys_url(base_url)
