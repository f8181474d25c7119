"""Which keys of a set count, and how seldom an issuer is asked for them."""

import asyncio
import json
from io import StringIO
from typing import Any

import pytest

from parley.core.errors import IssuerUnavailable
from parley.core.security.keys import KeyCache, Keys, KeysUnreadable, keys_of
from tests.issuers import SigningKey
from tests.unit.core.security.forge import segment

RSA = SigningKey("rsa", "RS256")
EC = SigningKey("ec", "ES256")
OKP = SigningKey("okp", "EdDSA")
PRIVATE = {"d": segment(b"d" * 32)}
LEFT_OUT: dict[str, Any] = {
    "for encrypting": RSA.jwk | {"use": "enc"},
    "of no use": RSA.jwk | {"use": None},
    "for signing only": RSA.jwk | {"key_ops": ["sign"]},
    "with operations that are no list": RSA.jwk | {"key_ops": "verify"},
    "symmetric": {"kty": "oct", "k": segment(b"a shared secret" * 4), "kid": "x", "alg": "HS256"},
    "symmetric without alg": {"kty": "oct", "k": segment(b"a shared secret" * 4), "kid": "x"},
    "an RSA key to make HMACs by": RSA.jwk | {"alg": "HS256"},
    "an RSA key without a signature": RSA.jwk | {"alg": "none"},
    "an RSA key to encrypt with": RSA.jwk | {"alg": "RSA-OAEP-256"},
    "a weak RSA key": SigningKey("weak", "RS256", rsa_bits=1024).jwk,
    "an EC key with another curve's algorithm": EC.jwk | {"alg": "ES512"},
    "an EC key that says RSA": EC.jwk | {"alg": "RS256"},
    "an algorithm that is no text": EC.jwk | {"alg": ["ES256"]},
    "an unknown curve": EC.jwk | {"crv": "P-999", "alg": "ES256"},
    "a curve that is no text": EC.jwk | {"crv": ["P-256"]},
    "Bitcoin's curve": EC.jwk | {"crv": "secp256k1", "alg": "ES256K"},
    "no point of its curve": EC.jwk | {"y": EC.jwk["x"]},
    "a private key": OKP.jwk | PRIVATE,
    "a kind that nobody knows": {"kty": "PQC", "kid": "x", "alg": "ML-DSA-44"},
    "a kind that is no text": RSA.jwk | {"kty": ["RSA"]},
    "without a kind": {"kid": "x"},
    "without a kid": {name: value for name, value in RSA.jwk.items() if name != "kid"},
    "with a kid that is no text": RSA.jwk | {"kid": 7},
    "with a number for a modulus": RSA.jwk | {"n": 7},
    "without a modulus": RSA.jwk | {"n": ""},
    "a text": "key",
    "nothing": None,
}


class TestKeysOf:
    @pytest.mark.parametrize("name", LEFT_OUT)
    def test_one_that_cannot_verify_a_token_is_left_out_and_the_others_stay(self, name: str):
        assert {"okp"} == keys_of({"keys": [LEFT_OUT[name], OKP.jwk]}).keys()

    @pytest.mark.parametrize(
        "algorithm",
        ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"],
    )
    def test_a_key_has_the_algorithm_that_the_set_gives_it(self, algorithm: str):
        key = SigningKey("one", algorithm)

        assert algorithm == keys_of({"keys": [key.jwk]})["one"].algorithm_name

    @pytest.mark.parametrize(
        ("algorithm", "implied"),
        [("PS512", "RS256"), ("ES384", "ES384"), ("ES512", "ES512"), ("EdDSA", "EdDSA")],
    )
    def test_one_without_has_the_usual_one_of_its_kind(self, algorithm: str, implied: str):
        jwk = SigningKey("one", algorithm).jwk
        del jwk["alg"]

        assert implied == keys_of({"keys": [jwk]})["one"].algorithm_name

    def test_an_empty_set_has_no_keys(self):
        assert {} == keys_of({"keys": []})

    @pytest.mark.parametrize(
        "document", [None, [], "keys", 7, {}, {"keys": None}, {"keys": {"kid": OKP.jwk}}]
    )
    def test_what_is_no_set_is_refused(self, document: object):
        with pytest.raises(KeysUnreadable):
            keys_of(document)


class Issuer:
    """Has what it is told, or is away; a clock of the test's own."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.asked = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.keys: Keys | None = None
        self.has(OKP)

    def has(self, *keys: SigningKey) -> None:
        self.keys = keys_of({"keys": [key.jwk for key in keys]})

    def is_away(self) -> None:
        self.keys = None

    async def fetch(self) -> Keys:
        self.asked += 1
        await self.gate.wait()
        if self.keys is None:
            raise KeysUnreadable("away")
        return self.keys


@pytest.fixture
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture
def cache(issuer: Issuer) -> KeyCache:
    return KeyCache(
        issuer.fetch, max_age_seconds=300, cool_down_seconds=10, clock=lambda: issuer.now
    )


async def until_idle() -> None:
    """What was begun in the background, and waits for nothing, is done."""
    for _ in range(5):
        await asyncio.sleep(0)


class TestCache:
    async def test_keys_are_fetched_once(self, issuer: Issuer, cache: KeyCache):
        for _ in range(3):
            assert await cache.get("okp") is not None
            issuer.now += 90

        assert 1 == issuer.asked

    async def test_many_who_wait_ask_once(self, issuer: Issuer, cache: KeyCache):
        issuer.gate.clear()
        waiting = [asyncio.create_task(cache.get("okp")) for _ in range(50)]
        await until_idle()
        issuer.gate.set()

        assert all(await asyncio.gather(*waiting))
        assert 1 == issuer.asked

    async def test_one_who_gives_up_does_not_take_the_keys_from_the_others(
        self, issuer: Issuer, cache: KeyCache
    ):
        issuer.gate.clear()
        impatient, patient = (asyncio.create_task(cache.get("okp")) for _ in range(2))
        await until_idle()
        impatient.cancel()
        await until_idle()
        issuer.gate.set()

        assert await patient is not None
        assert impatient.cancelled()
        assert 1 == issuer.asked

    async def test_old_keys_are_fetched_again(self, issuer: Issuer, cache: KeyCache):
        await cache.get("okp")
        issuer.has(RSA)
        issuer.now += 301

        assert await cache.get("okp") is None
        assert await cache.get("rsa") is not None
        assert 2 == issuer.asked

    async def test_an_unknown_kid_is_asked_for_after_the_cool_down_and_not_before(
        self, issuer: Issuer, cache: KeyCache
    ):
        await cache.get("okp")
        issuer.has(OKP, RSA)
        issuer.now += 9

        assert await cache.get("rsa") is None
        issuer.now += 1
        assert await cache.get("rsa") is not None
        assert 2 == issuer.asked

    async def test_invented_kids_do_not_flood_the_issuer(self, issuer: Issuer, cache: KeyCache):
        for number in range(1_000):
            assert await cache.get(f"invented-{number}") is None
            issuer.now += 0.1

        assert 100 / 10 == issuer.asked

    async def test_keys_count_through_an_outage(self, issuer: Issuer, cache: KeyCache):
        await cache.get("okp")
        issuer.is_away()

        for _ in range(100):
            issuer.now += 3_600
            assert await cache.get("okp") is not None

    async def test_in_an_outage_the_issuer_is_asked_no_more_than_the_cool_down_lets(
        self, issuer: Issuer, cache: KeyCache
    ):
        await cache.get("okp")
        issuer.is_away()
        issuer.now += 301

        for number in range(1_000):
            assert await cache.get("okp") is not None
            assert await cache.get(f"invented-{number}") is None
            await until_idle()
            issuer.now += 0.1

        assert 1 + 100 / 10 == issuer.asked

    async def test_only_the_first_waits_for_an_issuer_that_is_away(
        self, issuer: Issuer, cache: KeyCache
    ):
        await cache.get("okp")
        issuer.is_away()
        issuer.now += 301
        await cache.get("okp")
        issuer.gate.clear()
        issuer.now += 10

        async with asyncio.timeout(60):
            assert await cache.get("okp") is not None
        await until_idle()
        assert 3 == issuer.asked
        await cache.close()

    async def test_what_an_issuer_has_after_an_outage_counts(
        self, issuer: Issuer, cache: KeyCache
    ):
        await cache.get("okp")
        issuer.is_away()
        issuer.now += 301
        await cache.get("okp")
        issuer.has(RSA)
        issuer.now += 10
        await cache.get("okp")
        await until_idle()

        assert await cache.get("okp") is None
        assert await cache.get("rsa") is not None

    async def test_without_ever_an_answer_nobody_can_be_believed(
        self, issuer: Issuer, cache: KeyCache
    ):
        issuer.is_away()

        for _ in range(100):
            with pytest.raises(IssuerUnavailable):
                await cache.get("okp")
            issuer.now += 1

        assert 100 / 10 == issuer.asked

    async def test_closing_ends_what_is_under_way(self, issuer: Issuer, cache: KeyCache):
        issuer.gate.clear()
        waiting = asyncio.create_task(cache.get("okp"))
        await until_idle()

        await cache.close()

        with pytest.raises(asyncio.CancelledError):
            await waiting

    async def test_a_bug_in_it_is_told_and_does_not_wedge_the_cache(self, issuer: Issuer):
        async def broken() -> Keys:
            raise ZeroDivisionError

        cache = KeyCache(broken, cool_down_seconds=0)
        for _ in range(2):
            with pytest.raises(ZeroDivisionError):
                await cache.get("okp")

    async def test_an_outage_is_logged_with_its_reason(
        self, issuer: Issuer, cache: KeyCache, logged: StringIO
    ):
        await cache.get("okp")
        issuer.is_away()
        issuer.now += 301
        await cache.get("okp")

        lines = [json.loads(line) for line in logged.getvalue().splitlines()]
        (line,) = [line for line in lines if line["event"] == "issuer-keys-unavailable"]
        assert ("warning", "away", True) == (line["level"], line["reason"], line["has_keys"])
