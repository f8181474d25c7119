import re
import traceback
from pathlib import Path

import pytest
from pydantic import ValidationError

from parley.core.settings import EMBEDDED_DATABASE_URL, InvalidSettings, Settings, load_settings

CANARY = "canary-4711"
RATES = ("rate_limit_chat", "rate_limit_auth")

# Field, default, values at the bounds, values beyond them.
NUMBERS: list[tuple[str, float, list[float], list[float]]] = [
    ("backend_port", 8000, [1, 65535], [0, 65536, -1, 80.5]),
    ("shutdown_grace_seconds", 30, [0, 3600], [-0.1, 3600.1]),
    ("request_max_bytes", 1024**2, [1024], [1023, -1]),
    ("database_pool_size", 10, [1, 200], [0, 201]),
    ("database_pool_overflow", 0, [0, 200], [-1, 201]),
    ("database_timeout_seconds", 3, [0.001, 60], [0, 60.1]),
    ("auth_access_token_seconds", 900, [1, 86_400], [0, 86_401]),
    ("auth_refresh_token_seconds", 30 * 86_400, [60, 366 * 86_400], [59, 366 * 86_400 + 1]),
    ("auth_refresh_grace_seconds", 10, [0, 60], [-1, 61]),
    ("web_concurrency", 1, [1, 64], [0, 65]),
    ("shutdown_announce_seconds", 2, [0, 300], [-0.1, 300.1]),
    ("body_timeout_seconds", 30, [0.001, 600], [0, 600.1]),
    ("streams_max_per_user", 20, [1, 10_000], [0, 10_001]),
    ("history_max_characters", 100_000, [0, 10_000_000], [-1, 10_000_001]),
    ("turn_wait_seconds", 30, [0, 600], [-1, 601]),
    ("stream_retention_seconds", 600, [0, 86_400], [-1, 86_401]),
    ("history_max_messages", 100, [2, 1000], [1, 1001]),
    ("model_timeout_seconds", 60, [0.001, 3600], [0, 3600.1]),
    ("model_reply_seconds", 900, [0.001, 86_400], [0, 86_400.1]),
    ("reply_max_characters", 200_000, [1, 10_000_000], [0, 10_000_001]),
]
DEFAULTS = [(name, default) for name, default, _, _ in NUMBERS] + [
    ("environment", "development"),
    ("log_level", "INFO"),
    ("log_format", None),
    ("database_migration_url", None),
    ("database_pooler", "none"),
    ("redis_url", None),
    ("auth_secret", None),
    ("auth_secret_previous", None),
    ("auth_mode", ("local",)),
    ("auth_registration", "open"),
    ("cors_origins", ()),
    ("trusted_hosts", ()),
    ("trusted_proxies", ()),
    ("rate_limit_chat", "60/minute"),
    ("rate_limit_auth", "30/minute"),
    ("responder", "echo"),
    ("openai_base_url", None),
    ("openai_api_key", None),
    ("model", None),
    ("models", ()),
    ("system_prompt", None),
]
GOOD = [(name, value) for name, _, values, _ in NUMBERS for value in values] + [
    ("environment", "staging"),
    ("environment", "production"),
    ("log_level", "DEBUG"),
    ("log_level", "WARNING"),
    ("log_level", "ERROR"),
    ("log_format", "console"),
    ("log_format", "json"),
    ("database_pooler", "transaction"),
    ("responder", "openai"),
    ("openai_base_url", "http://localhost:11434/v1"),
    ("openai_base_url", "https://[::1]:8000"),
    ("model", "m" * 200),
    ("model", "hf.co/a/b:Q4_K_M"),
    ("system_prompt", "Be brief."),
]
BAD = [(name, str(value)) for name, _, _, values in NUMBERS for value in values] + [
    *((name, value) for name, *_ in NUMBERS for value in ("nan", "inf", "-inf", CANARY)),
    ("environment", CANARY),
    ("environment", "Production"),
    ("log_level", CANARY),
    ("log_level", "info"),
    ("log_format", CANARY),
    ("database_url", f"mysql://ann:{CANARY}@host/name"),
    ("database_url", f"postgresql://ann:{CANARY}@host:port/name"),
    ("database_url", CANARY),
    ("database_migration_url", f"mysql://owner:{CANARY}@host/name"),
    ("better_auth_database_url", f"sqlite:///{CANARY}"),
    ("better_auth_database_url", f"mysql://reader:{CANARY}@host/name"),
    ("database_pooler", CANARY),
    ("redis_url", f"http://:{CANARY}@host"),
    ("redis_url", CANARY),
    ("redis_url", f"redis://:{CANARY}/@host:6379/0"),
    ("redis_url", f"redis://:{CANARY}#@host:6379/0"),
    ("redis_url", f"redis://:{CANARY}@host:port"),
    ("redis_url", f"redis://:{CANARY}@:6379"),
    ("redis_url", f"rediss://host?socket_timeout={CANARY}"),
    ("redis_url", f"rediss://host?ssl_cert_reqs={CANARY}"),
    ("redis_url", f"redis://:{CANARY}@host?ssl_cert_reqs=none"),
    ("auth_mode", CANARY),
    ("auth_mode", f"local,{CANARY}"),
    ("auth_mode", ","),
    ("auth_mode", "local,local"),
    ("auth_registration", CANARY),
    ("auth_jwks_url", f"ftp://{CANARY}/jwks"),
    ("auth_jwks_url", CANARY),
    ("auth_jwks_url", f"https://ann:{CANARY}@host/jwks"),
    ("better_auth_url", CANARY),
    ("better_auth_url", f"https://{CANARY}@host"),
    ("better_auth_database_url", f"mysql://ann:{CANARY}@host/name"),
    ("better_auth_session_table", f'session; DROP TABLE "{CANARY}"'),
    ("responder", CANARY),
    ("openai_base_url", CANARY),
    ("openai_base_url", f"ftp://{CANARY}/v1"),
    ("openai_base_url", f"http://ann:{CANARY}@host/v1"),
    ("openai_base_url", f"http://host/v1?key={CANARY}"),
    ("openai_base_url", f"http://host/v1#{CANARY}"),
    ("openai_base_url", "http://host:0/v1"),
    ("openai_base_url", "http://host:65536/v1"),
    ("openai_base_url", "http://[:::]/v1"),
    ("openai_api_key", f"{CANARY} "),
    ("openai_api_key", f"{CANARY}\n"),
    ("openai_api_key", f"{CANARY}ä"),
    ("model", "m" * 201),
    ("model", f"{CANARY}\n"),
    ("models", f"a,{CANARY}\x07"),
    ("models", "a," + "m" * 201),
    ("models", ",".join(map(str, range(101)))),
    ("cors_origins", "*"),
    ("cors_origins", f"https://{CANARY}/path"),
    ("cors_origins", "https://chat.example.com,null"),
    ("trusted_hosts", f"https://{CANARY}"),
    ("trusted_hosts", "chat.example.com:443"),
    ("trusted_proxies", CANARY),
    ("trusted_proxies", "10.0.0.0/33"),
    ("trusted_proxies", "10.0.0.1,0.0.0.0/0"),
    ("trusted_proxies", "::/0"),
    *((name, rate) for name in RATES for rate in (CANARY, "0/minute", "5", "5/week", "-1/second")),
]


def refusal() -> InvalidSettings:
    with pytest.raises(InvalidSettings) as caught:
        load_settings()
    return caught.value


class TestDefaults:
    @pytest.mark.parametrize(("name", "default"), DEFAULTS)
    def test_a_setting_that_nobody_set_has_its_default(self, name: str, default: object):
        assert default == getattr(load_settings(), name)

    def test_the_database_is_a_file_in_var(self):
        assert "sqlite:///var/parley.db" == EMBEDDED_DATABASE_URL
        assert EMBEDDED_DATABASE_URL == load_settings().database_url.get_secret_value()

    def test_loading_them_makes_no_file(self, tmp_path: Path):
        load_settings()

        assert [] == list(tmp_path.iterdir())


class TestEnvironment:
    @pytest.mark.parametrize(("name", "value"), GOOD)
    def test_a_variable_sets_its_field(
        self, name: str, value: object, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setenv(name.upper(), str(value))

        assert value == getattr(load_settings(), name)

    @pytest.mark.parametrize(("name", "value"), BAD)
    def test_a_bad_value_is_one_line_that_names_its_variable_and_not_the_value(
        self, name: str, value: str, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setenv(name.upper(), value)

        invalid = refusal()

        assert 1 == len(invalid.faults)
        assert re.fullmatch(rf"{name.upper()}: \S.*", invalid.faults[0])
        assert str(invalid) == invalid.faults[0]
        assert CANARY not in "".join(traceback.format_exception(invalid))

    def test_each_of_several_bad_values_has_a_line(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("BACKEND_PORT", "0")
        monkeypatch.setenv("LOG_LEVEL", "loud")
        monkeypatch.setenv("DATABASE_URL", "mysql://host/name")

        invalid = refusal()

        assert ["BACKEND_PORT", "LOG_LEVEL", "DATABASE_URL"] == [
            fault.partition(":")[0] for fault in invalid.faults
        ]
        assert invalid.faults == str(invalid).splitlines()

    @pytest.mark.parametrize("name", ["BACKEND_PORT", "DATABASE_URL", "AUTH_SECRET", "LOG_LEVEL"])
    def test_an_empty_variable_is_as_one_that_is_not_set(
        self, name: str, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setenv(name, "")

        assert Settings.model_fields[name.lower()].default == getattr(
            load_settings(), name.lower()
        )

    @pytest.mark.parametrize("scheme", ["redis", "rediss"])
    def test_redis_is_reached_with_and_without_tls(
        self, scheme: str, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setenv("REDIS_URL", f"{scheme}://host:6379/0")

        redis_url = load_settings().redis_url

        assert redis_url is not None
        assert f"{scheme}://host:6379/0" == redis_url.get_secret_value()

    @pytest.mark.parametrize(
        "url",
        [
            "redis://host",
            "redis://[::1]:6379",
            "redis://ann:a%2Fb%23c%40d@host:6379/1",
            "rediss://host?ssl_cert_reqs=none&ssl_check_hostname=false",
            "rediss://host?ssl_ca_certs=/etc/ssl/ours.pem",
            "rediss://host?ssl_certfile=/etc/ssl/me.pem&ssl_keyfile=/etc/ssl/me.key",
        ],
    )
    def test_redis_has_whatever_its_client_reads(self, url: str, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("REDIS_URL", url)

        assert load_settings().redis_url is not None


class TestDotenv:
    def test_a_file_in_the_working_directory_is_read(self, tmp_path: Path):
        (tmp_path / ".env").write_text("BACKEND_PORT=9000\nLOG_LEVEL='DEBUG'\n")

        settings = load_settings()

        assert (9000, "DEBUG") == (settings.backend_port, settings.log_level)

    def test_the_environment_comes_first(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        (tmp_path / ".env").write_text("BACKEND_PORT=9000\n")
        monkeypatch.setenv("BACKEND_PORT", "9001")

        assert 9001 == load_settings().backend_port

    def test_what_is_meant_for_another_program_is_ignored(self, tmp_path: Path):
        (tmp_path / ".env").write_text("COMPOSE_PROJECT_NAME=chat\n")

        assert Settings() == load_settings()

    def test_a_bad_value_is_a_line_too(self, tmp_path: Path):
        (tmp_path / ".env").write_text(f"BACKEND_PORT={CANARY}\n")

        invalid = refusal()

        assert invalid.faults[0].startswith("BACKEND_PORT: ")
        assert CANARY not in str(invalid)

    def test_a_file_in_another_encoding_is_refused_by_name(self, tmp_path: Path):
        """PowerShell's `>` writes UTF-16."""
        (tmp_path / ".env").write_text("BACKEND_PORT=9000\n", encoding="utf-16")

        assert ".env" in refusal().faults[0]


class TestSettings:
    def test_they_do_not_change(self):
        settings = Settings()

        with pytest.raises(ValidationError, match="frozen"):
            settings.backend_port = 1  # type: ignore[misc]

    @pytest.mark.parametrize("show", [repr, str, "{0}".format, Settings.model_dump_json])
    def test_they_show_no_secret(self, show):
        settings = Settings(
            database_url=f"postgresql://ann:{CANARY}@host/name",
            database_migration_url=f"postgresql://owner:{CANARY}@host/name",
            redis_url=f"redis://:{CANARY}@host",
            auth_secret=f"{CANARY} and more than 32 bytes of it",
        )

        assert "backend_port" in show(settings)
        assert CANARY not in show(settings)

    def test_every_one_says_what_it_is_for(self):
        assert [] == [
            name for name, field in Settings.model_fields.items() if not field.description
        ]


class TestMigrationUrl:
    OWNERS = "postgresql://owner:secret@host/name"
    APIS = "postgresql://api:secret@host/name"

    @pytest.mark.parametrize("environment", ["development", "staging", "production"])
    def test_the_owners_comes_first(self, environment: str):
        settings = Settings(
            environment=environment, database_url=self.APIS, database_migration_url=self.OWNERS
        )

        assert self.OWNERS == settings.migration_url

    def test_one_through_neons_pooler_does_not(self):
        """What it says is plain, and has no password."""
        settings = Settings(
            database_migration_url=f"postgresql://owner:{CANARY}@ep-x-1-pooler.aws.neon.tech/name"
        )

        with pytest.raises(InvalidSettings, match="take `-pooler` out of its host") as caught:
            _ = settings.migration_url

        assert CANARY not in str(caught.value)

    @pytest.mark.parametrize("environment", ["development", "staging"])
    def test_outside_production_the_apis_serves(self, environment: str):
        settings = Settings(environment=environment, database_url=self.APIS)

        assert self.APIS == settings.migration_url

    @pytest.mark.parametrize(
        "refusing", [{"environment": "production"}, {"database_pooler": "transaction"}]
    )
    def test_in_production_and_through_a_pooler_the_apis_does_not(self, refusing):
        """Through a pooler the lock of one that migrates would be anybody's."""
        settings = Settings(database_url=self.APIS, **refusing)

        with pytest.raises(InvalidSettings) as caught:
            _ = settings.migration_url

        assert ["DATABASE_MIGRATION_URL"] == [
            fault.partition(":")[0] for fault in caught.value.faults
        ]
