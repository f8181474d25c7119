"""Secrets in files: `NAME_FILE` in place of `NAME`."""

import traceback
from pathlib import Path

import pytest

from parley.core.settings import InvalidSettings, Settings, load_settings

CANARY = "canary-4711"
VALUES = {
    "database_url": f"postgresql://api:{CANARY}@host/name",
    "database_migration_url": f"postgresql://owner:{CANARY}@host/name",
    "better_auth_database_url": f"postgresql://reader:{CANARY}@host/name",
    "openai_api_key": CANARY,
    "redis_url": f"redis://:{CANARY}@host:6379/0",
}
SECRETS = [
    "auth_secret",
    "auth_secret_previous",
    "better_auth_database_url",
    "better_auth_secret",
    "database_migration_url",
    "database_url",
    "openai_api_key",
    "redis_url",
    "s3_secret_access_key",
]
every_secret = pytest.mark.parametrize("name", SECRETS)


def value_for(name: str) -> str:
    return VALUES.get(name, f"{CANARY} and more than 32 bytes of it")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "secrets"
    folder.mkdir()
    return folder


def refusal() -> str:
    with pytest.raises(InvalidSettings) as caught:
        load_settings()
    assert CANARY not in "".join(traceback.format_exception(caught.value))
    (fault,) = caught.value.faults
    return fault


class TestSecretFields:
    def test_each_setting_that_is_never_shown_is_tried_below(self):
        hidden = {
            name
            for name, field in Settings.model_fields.items()
            if "SecretStr" in repr(field.annotation)
        }

        assert hidden == set(SECRETS)


class TestSecretFiles:
    @every_secret
    @pytest.mark.parametrize("end", ["", "\n", "\r\n", " \n\n"])
    def test_a_secret_is_read_without_its_line_end(
        self, name: str, end: str, folder: Path, monkeypatch: pytest.MonkeyPatch
    ):
        (folder / name).write_text(value_for(name) + end, newline="")
        monkeypatch.setenv(f"{name.upper()}_FILE", str(folder / name))

        assert value_for(name) == getattr(load_settings(), name).get_secret_value()

    @every_secret
    def test_the_file_may_be_named_in_dotenv(self, name: str, folder: Path, tmp_path: Path):
        (folder / name).write_text(value_for(name))
        (tmp_path / ".env").write_text(f"{name.upper()}_FILE={folder / name}\n")

        assert value_for(name) == getattr(load_settings(), name).get_secret_value()

    def test_the_environments_file_comes_before_dotenvs(
        self, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        (folder / "theirs").write_text("theirs")
        (folder / "ours").write_text("ours")
        (tmp_path / ".env").write_text(f"AUTH_SECRET_FILE={folder / 'theirs'}\n")
        monkeypatch.setenv("AUTH_SECRET_FILE", str(folder / "ours"))

        secret = load_settings().auth_secret

        assert secret is not None
        assert "ours" == secret.get_secret_value()

    def test_characters_beyond_ascii_are_utf_8(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ):
        (folder / "auth").write_bytes("schlüssel 🔑".encode())
        monkeypatch.setenv("AUTH_SECRET_FILE", str(folder / "auth"))

        secret = load_settings().auth_secret

        assert secret is not None
        assert "schlüssel 🔑" == secret.get_secret_value()

    def test_an_empty_name_of_a_file_is_as_none(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("AUTH_SECRET_FILE", "")

        assert load_settings().auth_secret is None

    def test_what_is_no_secret_comes_from_no_file(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ):
        (folder / "port").write_text("9000")
        monkeypatch.setenv("BACKEND_PORT_FILE", str(folder / "port"))

        assert Settings.model_fields["backend_port"].default == load_settings().backend_port


class TestRefused:
    @every_secret
    def test_a_file_that_is_not_there(
        self, name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setenv(f"{name.upper()}_FILE", str(folder / "nothing"))

        expected = f"{name.upper()}_FILE: cannot be read: No such file or directory"
        assert expected == refusal()

    def test_a_folder(self, folder: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("AUTH_SECRET_FILE", str(folder))

        assert "AUTH_SECRET_FILE: cannot be read: Is a directory" == refusal()

    def test_bytes_that_are_not_utf_8(self, folder: Path, monkeypatch: pytest.MonkeyPatch):
        (folder / "auth").write_bytes(b"\xff" + CANARY.encode())
        monkeypatch.setenv("AUTH_SECRET_FILE", str(folder / "auth"))

        assert "AUTH_SECRET_FILE: cannot be read: it is not UTF-8 text" == refusal()

    @every_secret
    def test_a_value_and_a_file(self, name: str, folder: Path, monkeypatch: pytest.MonkeyPatch):
        (folder / name).write_text(value_for(name))
        monkeypatch.setenv(name.upper(), value_for(name))
        monkeypatch.setenv(f"{name.upper()}_FILE", str(folder / name))

        expected = f"{name.upper()}: is set, and {name.upper()}_FILE too; keep one of them"
        assert expected == refusal()

    @every_secret
    def test_a_value_in_dotenv_and_a_file(
        self, name: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        (folder / name).write_text(value_for(name))
        (tmp_path / ".env").write_text(f"{name.upper()}='{value_for(name)}'\n")
        monkeypatch.setenv(f"{name.upper()}_FILE", str(folder / name))

        assert refusal().startswith(f"{name.upper()}: is set, and {name.upper()}_FILE too")

    @pytest.mark.parametrize("name", ["database_url", "database_migration_url", "redis_url"])
    def test_a_bad_value_in_a_file_is_not_shown(
        self, name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
    ):
        (folder / name).write_text(f"mysql://ann:{CANARY}@host/name")
        monkeypatch.setenv(f"{name.upper()}_FILE", str(folder / name))

        assert refusal().startswith(f"{name.upper()}: must start with ")

    @pytest.mark.parametrize("content", ["", "\n", " \t\r\n"])
    def test_an_empty_file_is_no_secret_to_serve_with(
        self, content: str, folder: Path, monkeypatch: pytest.MonkeyPatch
    ):
        (folder / "auth").write_text(content)
        monkeypatch.setenv("AUTH_SECRET_FILE", str(folder / "auth"))
        monkeypatch.setenv("ENVIRONMENT", "staging")

        with pytest.raises(InvalidSettings, match="AUTH_SECRET"):
            load_settings().check_serving()
