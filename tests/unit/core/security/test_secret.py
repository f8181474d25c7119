import hmac
import multiprocessing
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import pytest

from parley.core.security.secret import derive_key, embedded_secret
from parley.core.settings import InvalidSettings

AT_ONCE = 4
ROUNDS = 20


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "var" / "auth-secret"


class TestEmbeddedSecret:
    def test_it_is_made_where_it_is_said_to_be(self, tmp_path: Path):
        secret = embedded_secret()

        assert secret == (tmp_path / "var/auth-secret").read_text()

    def test_it_is_long_enough_to_sign_with(self, path: Path):
        assert 32 <= len(embedded_secret(path))

    def test_it_is_read_ever_after(self, path: Path):
        assert embedded_secret(path) == embedded_secret(path)

    def test_another_place_has_another(self, path: Path, tmp_path: Path):
        assert embedded_secret(path) != embedded_secret(tmp_path / "other")

    def test_one_that_is_there_is_kept(self, path: Path):
        path.parent.mkdir()
        path.write_text("an older one\n")

        assert "an older one" == embedded_secret(path)
        assert "an older one\n" == path.read_text()

    def test_nobody_but_its_owner_may_read_it(self, path: Path):
        embedded_secret(path)

        assert [0o600, 0o700] == [each.stat().st_mode & 0o777 for each in (path, path.parent)]

    def test_it_leaves_no_draft_behind(self, path: Path):
        embedded_secret(path)
        embedded_secret(path)

        assert [path] == list(path.parent.iterdir())

    def test_threads_that_start_at_once_agree(self, tmp_path: Path):
        """As containers do that share `var/`: there every process has the same id."""
        barrier = threading.Barrier(AT_ONCE)

        def start(number: int) -> str:
            barrier.wait()
            return embedded_secret(tmp_path / str(number) / "auth-secret")

        with ThreadPoolExecutor(AT_ONCE) as threads:
            for number in range(ROUNDS):
                secrets = list(threads.map(start, [number] * AT_ONCE))
                path = tmp_path / str(number) / "auth-secret"
                assert {path.read_text()} == set(secrets)
                assert [path] == list(path.parent.iterdir())

    def test_processes_that_start_at_once_agree(self, path: Path):
        spawning = multiprocessing.get_context("spawn")
        barrier = spawning.Barrier(AT_ONCE)
        with ProcessPoolExecutor(
            AT_ONCE, mp_context=spawning, initializer=barrier.wait
        ) as processes:
            secrets = list(processes.map(embedded_secret, [path] * AT_ONCE))

        assert {path.read_text()} == set(secrets)


class TestDeriveKey:
    def test_a_key_has_32_bytes(self):
        assert 32 == len(derive_key("a secret", "cursors"))

    def test_the_same_purpose_has_the_same_key(self):
        assert derive_key("a secret", "cursors") == derive_key("a secret", "cursors")

    def test_another_purpose_has_another(self):
        keys = {derive_key("a secret", purpose) for purpose in ("cursors", "files", "")}

        assert 3 == len(keys)

    def test_another_secret_has_another(self):
        assert derive_key("a secret", "cursors") != derive_key("a secre", "tcursors")

    def test_no_key_is_the_secret_itself(self):
        secret = "s" * 32

        assert secret.encode() != derive_key(secret, "")

    def test_it_is_rfc_5869s(self):
        """So that an upgrade of the library leaves every cursor as it was."""
        extracted = hmac.digest(bytes(32), b"a secret", "sha256")
        expanded = hmac.digest(extracted, b"parley cursors\x01", "sha256")

        assert expanded == derive_key("a secret", "cursors")


class TestEmptyFile:
    def test_it_is_no_secret_and_is_not_taken_for_one(self, tmp_path: Path):
        """A disk that failed may leave one."""
        (tmp_path / "auth-secret").touch()

        with pytest.raises(InvalidSettings, match=r"^AUTH_SECRET: .* is empty"):
            embedded_secret(tmp_path / "auth-secret")
