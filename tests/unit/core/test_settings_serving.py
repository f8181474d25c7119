"""What the API asks of its settings beyond what a command does."""

from typing import Any

import pytest
from pydantic import ValidationError

from parley.core.settings import InvalidSettings, Settings

PRODUCTION = {
    "environment": "production",
    "auth_secret": "a secret of the tests, with more than 32 bytes",
    "database_url": "postgresql://api:canary-4711@host/name",
    "redis_url": "redis://host:6379/0",
}
BETTER_AUTH = {
    "auth_mode": ("local", "better-auth"),
    "better_auth_url": "https://auth.example.com",
    "better_auth_secret": "the other secret of the tests, of 32 bytes too",
    "better_auth_database_url": "postgresql://reader:canary-4711@host/name",
}


def faults(**values: Any) -> list[str]:
    with pytest.raises(InvalidSettings) as caught:
        Settings(**values).check_serving()
    assert "canary-4711" not in str(caught.value)
    return caught.value.faults


def names(**values: Any) -> list[str]:
    return [fault.partition(":")[0] for fault in faults(**values)]


def without(name: str) -> dict[str, str]:
    return {key: value for key, value in PRODUCTION.items() if key != name}


class TestDevelopment:
    def test_nothing_need_be_set(self):
        Settings().check_serving()

    def test_a_short_secret_is_taken(self):
        Settings(auth_secret="short").check_serving()


class TestStaging:
    def test_a_secret_is_all_it_needs(self):
        Settings(environment="staging", auth_secret="s" * 32).check_serving()

    def test_without_a_secret_it_does_not_start(self):
        assert ["AUTH_SECRET"] == names(environment="staging")


class TestProduction:
    def test_with_everything_set_it_starts(self):
        Settings(**PRODUCTION).check_serving()

    def test_each_thing_that_is_missing_has_a_line(self):
        assert ["AUTH_SECRET", "DATABASE_URL", "REDIS_URL"] == names(environment="production")

    @pytest.mark.parametrize("name", ["auth_secret", "database_url", "redis_url"])
    def test_one_that_is_missing_is_named(self, name: str):
        assert [name.upper()] == names(**without(name))

    @pytest.mark.parametrize("secret", ["s", "s" * 31, "é" * 15 + "s"])
    def test_a_secret_under_32_bytes_is_refused_and_not_shown(self, secret: str):
        fault = faults(**PRODUCTION | {"auth_secret": secret})

        assert ["AUTH_SECRET: must have at least 32 bytes in production"] == fault

    def test_a_secret_is_measured_in_bytes(self):
        Settings(**PRODUCTION | {"auth_secret": "äëïöüÿáéíóúýàèìò"}).check_serving()

    @pytest.mark.parametrize("secret", ["s" * 64, "change-me" * 4, "0123456701234567" * 2])
    def test_one_that_anybody_could_guess_is_refused(self, secret: str):
        (fault,) = faults(**PRODUCTION | {"auth_secret": secret})

        assert fault.startswith("AUTH_SECRET: has too few different characters")
        assert secret not in fault

    @pytest.mark.parametrize("secret", ["0123456789" * 4, "0a1b2c3d4" * 4])
    def test_one_of_few_kinds_of_characters_is_taken(self, secret: str):
        Settings(**PRODUCTION | {"auth_secret": secret}).check_serving()

    @pytest.mark.parametrize("environment", ["staging", "production"])
    def test_an_empty_secret_is_none(self, environment: str):
        """As an empty file of a secret gives."""
        assert ["AUTH_SECRET"] == names(
            **PRODUCTION | {"environment": environment, "auth_secret": ""}
        )

    @pytest.mark.parametrize(
        "url", ["sqlite:///var/parley.db", "sqlite:////srv/parley.db", "sqlite+aiosqlite:///x.db"]
    )
    def test_sqlite_is_refused(self, url: str):
        assert ["DATABASE_URL"] == names(**PRODUCTION | {"database_url": url})

    def test_the_owners_url_is_refused(self):
        assert ["DATABASE_MIGRATION_URL"] == names(
            **PRODUCTION, database_migration_url="postgresql://owner:canary-4711@host/name"
        )

    @pytest.mark.parametrize("environment", ["development", "staging"])
    def test_elsewhere_the_owners_url_may_be_set(self, environment: str):
        owners = "postgresql://owner:secret@host/name"

        Settings(
            **PRODUCTION | {"environment": environment}, database_migration_url=owners
        ).check_serving()


class TestBetterAuth:
    def test_with_everything_set_it_starts(self):
        Settings(**PRODUCTION | BETTER_AUTH).check_serving()

    @pytest.mark.parametrize("name", BETTER_AUTH.keys() - {"auth_mode"})
    @pytest.mark.parametrize("environment", ["development", "production"])
    def test_what_is_missing_is_named(self, environment: str, name: str):
        """Its database too, which is never DATABASE_URL's for want of another."""
        given = PRODUCTION | BETTER_AUTH | {"environment": environment, name: None}

        assert [f"{name.upper()}: set it, for AUTH_MODE has `better-auth`"] == faults(**given)

    @pytest.mark.parametrize(
        "url",
        [
            PRODUCTION["database_url"],
            "postgresql://api@host/other",
            "postgresql://api:canary-4711@HOST:6432/name?sslmode=require",
        ],
    )
    def test_in_production_the_apis_own_role_is_refused(self, url: str):
        (fault,) = faults(**PRODUCTION | BETTER_AUTH | {"better_auth_database_url": url})

        assert fault.startswith("BETTER_AUTH_DATABASE_URL: must not be of DATABASE_URL's role")
        assert fault.endswith("deploy/better-auth/roles.sql makes one")

    @pytest.mark.parametrize(
        ("apis", "readers"),
        [
            ("postgresql://api@host/name", "postgresql://api@elsewhere/name"),
            ("postgresql://api@host/name", "postgresql://reader@host/name"),
            ("postgresql://api@/name?host=/run/a", "postgresql://api@/name?host=/run/b"),
        ],
    )
    def test_another_host_or_role_is_another(self, apis: str, readers: str):
        urls = {"database_url": apis, "better_auth_database_url": readers}

        Settings(**PRODUCTION | BETTER_AUTH | urls).check_serving()

    def test_elsewhere_and_where_nobody_asks_it_may_be_the_same(self):
        same = {"better_auth_database_url": PRODUCTION["database_url"]}

        Settings(**PRODUCTION | BETTER_AUTH | same | {"auth_mode": ("local",)}).check_serving()
        Settings(**PRODUCTION | BETTER_AUTH | same | {"environment": "staging"}).check_serving()


class TestModel:
    def test_the_echo_needs_nothing(self):
        assert ("echo",) == Settings().offered_models

    def test_a_server_of_ones_own_needs_no_key(self):
        Settings(responder="openai", openai_base_url="http://host/v1", model="m").check_serving()

    def test_openai_itself_needs_no_url(self):
        Settings(responder="openai", openai_api_key="canary-4711", models="m").check_serving()

    def test_each_thing_that_is_missing_has_a_line(self):
        assert ["MODEL", "OPENAI_API_KEY"] == names(responder="openai")
        assert ["OPENAI_API_KEY"] == names(responder="openai", model="m")
        assert ["MODEL"] == names(responder="openai", openai_api_key="canary-4711")

    @pytest.mark.parametrize(
        ("model", "models", "offered"),
        [
            ("a", "", ("a",)),
            (None, "a, b", ("a", "b")),
            ("b", "a,b,a", ("b", "a")),
            ("c", "a,b", ("c", "a", "b")),
        ],
    )
    def test_the_default_is_first_and_each_is_there_once(
        self, model: str | None, models: str, offered: tuple[str, ...]
    ):
        assert offered == Settings(model=model, models=models).offered_models


class TestFiles:
    @pytest.mark.parametrize(
        "values", [PRODUCTION, {"web_concurrency": 2, "redis_url": "redis://host"}]
    )
    def test_what_each_process_has_for_itself_is_for_one_that_is_tried_out(self, values):
        assert ["FILES_URL"] == names(**values, files_url="memory://")
        Settings(files_url="memory://").check_serving()

    @pytest.mark.parametrize("name", ["s3_access_key_id", "s3_secret_access_key"])
    def test_half_a_key_is_none(self, name: str):
        assert ["S3_ACCESS_KEY_ID"] == names(**{name: "canary-4711"})

    @pytest.mark.parametrize(
        "url",
        [
            "file://srv/files", "file://", "/srv/files", "s3://", "s3://B", "s3://a", "s3://bucket?x=1",
            "http://host", "memory", "gs://bucket", "file:///srv?x",
        ],
    )  # fmt: skip
    def test_what_is_no_file_store_is_refused(self, url: str):
        with pytest.raises(ValidationError):
            Settings(files_url=url)

    @pytest.mark.parametrize(
        "url",
        ["memory://", "file:///srv/files", "file://var/files", "s3://bucket", "s3://bucket/a/b"],
    )
    def test_what_is_one_is_taken(self, url: str):
        assert url == Settings(files_url=url).files_url

    @pytest.mark.parametrize("types", ["image", "*/*", "image/png;q=1", "image/", "text/*x"])
    def test_what_is_no_media_type_is_refused(self, types: str):
        with pytest.raises(ValidationError):
            Settings(upload_types=types)

    def test_types_are_listed_in_whatever_case(self):
        assert ("image/png", "text/*") == Settings(upload_types="Image/PNG, text/*").upload_types
