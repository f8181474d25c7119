import time
from base64 import urlsafe_b64encode

import pytest

from parley.core.errors import IssuerUnavailable, TokenRefused
from parley.core.ids import new_id
from parley.core.security.better_auth import SignedSessions
from parley.core.security.opaque import digest, new_key, shown_part
from parley.core.security.tokens import LocalTokens, Principal, Verified
from parley.crud.memory.store import MemoryStore
from parley.schemas.keys import NewKey
from parley.services.authentication import REMEMBERED_MAX, TOKEN_CHARACTERS_MAX, Authentication
from parley.services.better_auth import BetterAuth
from parley.services.liveness import LiveSessions
from tests.conftest import SECRET
from tests.factories import make_account, session_of
from tests.issuers import signed_session

ANN = "ann"
LIFETIME_SECONDS = 3600


class CountingVerifier:
    """Believes everything, until it is told not to; by the clock of who asks it."""

    def __init__(self, now: list[float]) -> None:
        self.asked = 0
        self.lifetime_seconds: float = LIFETIME_SECONDS
        self.error: Exception | None = None
        self._now = now

    async def verify(self, token: str) -> Verified:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return Verified(Principal("issuers-ann"), self._now[0] + self.lifetime_seconds)


class AnnsSessions:
    """Better Auth's table, in which every token is a session of Ann's."""

    async def user_of(self, token: str) -> str:
        return ANN

    async def close(self) -> None:
        pass


def unsigned(claims: str) -> str:
    return f"{segment('{}')}.{segment(claims)}."


def segment(text: str) -> str:
    return urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


THEIRS = unsigned('{"iss": "https://issuer.test"}')


@pytest.fixture
def verifier(now: list[float]) -> CountingVerifier:
    return CountingVerifier(now)


@pytest.fixture
def local() -> LocalTokens:
    return LocalTokens(SECRET, lifetime_seconds=LIFETIME_SECONDS)


@pytest.fixture
def now() -> list[float]:
    return [time.time()]


@pytest.fixture
async def authentication(
    verifier: CountingVerifier, local: LocalTokens, now: list[float]
) -> Authentication:
    store = MemoryStore()
    await make_account(store, ANN)
    return Authentication(
        store,
        LiveSessions(store),
        local=local,
        issuers={"https://issuer.test": verifier},
        clock=lambda: now[0],
    )


class TestIssuers:
    async def test_a_token_goes_to_the_verifier_of_its_issuer(
        self, authentication: Authentication, verifier: CountingVerifier, local: LocalTokens
    ):
        theirs = await authentication.of_bearer(THEIRS)
        ours = await authentication.of_bearer(local.issue(ANN, session_of(ANN)))

        assert ("issuers-ann", ANN) == (theirs.user_id, ours.user_id)
        assert 1 == verifier.asked

    @pytest.mark.parametrize(
        "claims",
        [
            '{"iss": "https://other.test"}',
            '{"iss": null}',
            '{"iss": 7}',
            '{"iss": []}',
            "{}",
            "[]",
            "null",
            "7",
            "",
            '{"iss": "https://issuer.test/"}',
            '{"iss": "parley"}',
        ],
    )
    async def test_one_of_nobody_known_goes_to_none(
        self, authentication: Authentication, verifier: CountingVerifier, claims: str
    ):
        with pytest.raises(TokenRefused):
            await authentication.of_bearer(unsigned(claims))
        assert 0 == verifier.asked

    @pytest.mark.parametrize(
        "token", ["", ".", "..", "...", "a" * 100_000, "\u00e9.\u00e9.", "x" * 32, "a.b"]
    )
    async def test_garbage_is_refused(self, authentication: Authentication, token: str):
        with pytest.raises(TokenRefused):
            await authentication.of_bearer(token)

    async def test_a_token_longer_than_any_is_not_looked_at(
        self, authentication: Authentication, verifier: CountingVerifier
    ):
        padded = '{"iss": "https://issuer.test", "x": "%s"}' % ("x" * 8192)
        with pytest.raises(TokenRefused):
            await authentication.of_bearer(unsigned(padded))
        assert 0 == verifier.asked

    async def test_a_session_longer_than_any_is_not_looked_up(self):
        store = MemoryStore()
        better_auth = BetterAuth(AnnsSessions(), SignedSessions(SECRET))
        authentication = Authentication(
            store, LiveSessions(store), local=None, issuers={}, better_auth=better_auth
        )
        fitting, too_long = (
            signed_session("t" * count, SECRET) for count in (1, TOKEN_CHARACTERS_MAX)
        )

        assert ANN == (await authentication.of_session(fitting)).user_id
        with pytest.raises(TokenRefused):
            await authentication.of_session(too_long)

    async def test_without_local_accounts_neither_token_nor_key_counts(self, local: LocalTokens):
        store, key = MemoryStore(), new_key()
        await make_account(store, ANN)
        async with store.begin(ANN) as tx:
            await tx.keys.create(NewKey(new_id(), digest(key), shown_part(key), "import", None))
        live = LiveSessions(store)
        believes = Authentication(store, live, local=local, issuers={})
        does_not = Authentication(store, live, local=None, issuers={})

        for token in (local.issue(ANN, session_of(ANN)), key):
            assert ANN == (await believes.of_bearer(token)).user_id
            with pytest.raises(TokenRefused):
                await does_not.of_bearer(token)


class TestVerifiedTokens:
    async def test_a_signature_is_checked_once(
        self, authentication: Authentication, verifier: CountingVerifier
    ):
        for _ in range(3):
            await authentication.of_bearer(THEIRS)

        assert 1 == verifier.asked

    async def test_never_past_the_tokens_end(
        self, authentication: Authentication, verifier: CountingVerifier, now: list[float]
    ):
        verifier.lifetime_seconds = 60
        await authentication.of_bearer(THEIRS)
        now[0] += 61
        verifier.error = TokenRefused()

        with pytest.raises(TokenRefused):
            await authentication.of_bearer(THEIRS)

    async def test_nor_for_longer_than_minutes(
        self, authentication: Authentication, verifier: CountingVerifier, now: list[float]
    ):
        """A key that its issuer has withdrawn is not believed for as long as its tokens last."""
        for seconds, asked in ((0, 1), (299, 1), (2, 2)):
            now[0] += seconds
            await authentication.of_bearer(THEIRS)
            assert asked == verifier.asked

    async def test_a_refusal_is_not_remembered(
        self, authentication: Authentication, verifier: CountingVerifier
    ):
        verifier.error = IssuerUnavailable()
        with pytest.raises(IssuerUnavailable):
            await authentication.of_bearer(THEIRS)
        verifier.error = None

        assert "issuers-ann" == (await authentication.of_bearer(THEIRS)).user_id

    async def test_there_is_room_for_so_many_and_no_more(
        self, authentication: Authentication, verifier: CountingVerifier
    ):
        for number in range(REMEMBERED_MAX + 1):
            await authentication.of_bearer(
                unsigned(f'{{"iss": "https://issuer.test", "n": {number}}}')
            )
        await authentication.of_bearer(unsigned('{"iss": "https://issuer.test", "n": 0}'))

        assert REMEMBERED_MAX + 2 == verifier.asked
