import asyncio
import threading

import pytest
from pwdlib import PasswordHash

from parley.core.errors import Overloaded
from parley.core.security.passwords import CONCURRENT, Passwords

PATIENCE_SECONDS = 60


@pytest.fixture
def quick_passwords() -> None:
    """Not here: what is tested is what people's passwords get."""


class Hasher:
    """In place of Argon2id: takes as long as the test says."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.begun: asyncio.Queue[None] = asyncio.Queue()
        self.may_end = threading.Semaphore(0)
        self.hashed: list[str] = []
        self.verified: list[tuple[str, str]] = []

    def hash(self, password: str) -> str:
        self.hashed.append(password)
        self._wait()
        return f"hash of {password}"

    def verify(self, password: str, password_hash: str) -> bool:
        self._wait()
        self.verified.append((password, password_hash))
        return password_hash == f"hash of {password}"

    def _wait(self) -> None:
        self._loop.call_soon_threadsafe(self.begun.put_nowait, None)
        if not self.may_end.acquire(timeout=PATIENCE_SECONDS):
            raise TimeoutError


@pytest.fixture
async def hasher(monkeypatch: pytest.MonkeyPatch) -> Hasher:
    hasher = Hasher()
    monkeypatch.setattr(PasswordHash, "recommended", lambda: hasher)
    return hasher


class TestMatches:
    """With Argon2id itself."""

    @pytest.mark.parametrize(
        "password", ["correct horse battery staple", "pässwörd 🔑", "x" * 128]
    )
    async def test_the_password_does_and_another_does_not(self, password: str):
        passwords = Passwords()
        hashed = await passwords.hash(password)

        assert await passwords.matches(password, hashed)
        assert not await passwords.matches(password[:-1], hashed)
        assert not await passwords.matches("", hashed)

    async def test_without_a_hash_nothing_does(self):
        passwords = Passwords()

        for password in ("", "x", "nobody's password"):
            assert not await passwords.matches(password, None)

    async def test_a_hash_is_argon2id_salted_and_not_the_password(self):
        passwords = Passwords()
        first, second = await passwords.hash("a password"), await passwords.hash("a password")

        assert first.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
        assert first != second
        assert "a password" not in first


class TestTime:
    async def test_without_a_hash_as_much_is_done(self, hasher: Hasher):
        """Else a listener could tell who has an account."""
        passwords = Passwords()
        hasher.may_end.release(4)
        await passwords.matches("a password", "hash of a password")
        await passwords.matches("a password", None)

        assert ["hash of a password", "hash of nobody's password"] == [
            password_hash for _, password_hash in hasher.verified
        ]

    async def test_what_is_compared_instead_is_made_once(self, hasher: Hasher):
        """After a start many log in together."""
        passwords = Passwords()
        hasher.may_end.release(2 * CONCURRENT + 1)
        await asyncio.gather(
            *(passwords.matches("a password", None) for _ in range(2 * CONCURRENT))
        )

        assert ["nobody's password"] == hasher.hashed

    async def test_who_makes_it_and_goes_away_leaves_it_to_the_next(self, hasher: Hasher):
        passwords = Passwords()
        first = asyncio.create_task(passwords.matches("a password", None))
        await hasher.begun.get()
        next_one = asyncio.create_task(passwords.matches("a password", None))
        first.cancel()
        hasher.may_end.release(3)

        assert not await next_one

    async def test_the_loop_goes_on_meanwhile(self, hasher: Hasher):
        """The hash ends only when somebody else's work on the loop is done."""
        hashing = asyncio.create_task(Passwords().hash("a password"))
        await hasher.begun.get()
        hasher.may_end.release()

        assert "hash of a password" == await hashing

    async def test_the_loop_goes_on_while_one_is_verified(self, hasher: Hasher):
        matching = asyncio.create_task(Passwords().matches("a password", "hash of a password"))
        for _ in range(2):
            await hasher.begun.get()
            hasher.may_end.release()

        assert await matching

    async def test_so_many_run_at_once_and_no_more(self, hasher: Hasher):
        passwords = Passwords()
        hashing = [asyncio.create_task(passwords.hash(str(n))) for n in range(CONCURRENT + 1)]
        for _ in range(CONCURRENT):
            await hasher.begun.get()
        # A fifth would be here by now: each was handed to a thread before the first began.
        assert hasher.begun.empty()

        hasher.may_end.release()
        await hasher.begun.get()
        hasher.may_end.release(CONCURRENT)

        assert {f"hash of {n}" for n in range(CONCURRENT + 1)} == set(
            await asyncio.gather(*hashing)
        )


class TestCrowd:
    async def test_more_than_can_be_served_are_refused_at_once(
        self, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr("parley.core.security.passwords.WAITING_MAX", 0)
        passwords = Passwords()
        outcomes = await asyncio.gather(
            *(passwords.hash("correct horse") for _ in range(2 * CONCURRENT)),
            return_exceptions=True,
        )

        assert CONCURRENT == sum(isinstance(outcome, Overloaded) for outcome in outcomes)
        assert await passwords.matches("correct horse", outcomes[0])
