"""The Compose file, held to the image, the settings and the graces."""

import re
from typing import Any

import pytest
import yaml

from parley import __version__
from parley.cli.graces import Graces
from parley.core.settings import Settings
from tests.deploy.image import Image
from tests.deploy.manifests import ROOT

# They say how the stack is built; nobody sets them from outside.
FIXED = {
    "ENVIRONMENT",
    "BACKEND_PORT",
    "DATABASE_POOLER",
    "SHUTDOWN_ANNOUNCE_SECONDS",
    "SHUTDOWN_GRACE_SECONDS",
}
SECRETS = {
    "AUTH_SECRET",
    "AUTH_SECRET_PREVIOUS",
    "BETTER_AUTH_DATABASE_URL",
    "BETTER_AUTH_SECRET",
    "DATABASE_MIGRATION_URL",
    "DATABASE_URL",
    "REDIS_URL",
}
Service = dict[str, Any]


@pytest.fixture(scope="module")
def services() -> dict[str, Service]:
    services: dict[str, Service] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())[
        "services"
    ]
    return services


@pytest.fixture(scope="module")
def apis(services: dict[str, Service]) -> list[Service]:
    return [services[name] for name in ("api", "api-2", "api-3")]


class TestApi:
    def test_every_setting_that_is_no_secret_gets_through_from_outside(self, apis: list[Service]):
        settings = {name.upper() for name in Settings.model_fields} - SECRETS
        for api in apis:
            passed_on = {name for name, value in api["environment"].items() if value is None}
            assert settings - FIXED == passed_on

    def test_what_it_is_told_are_settings(self, apis: list[Service]):
        settings = {name.upper() for name in Settings.model_fields}
        for api in apis:
            assert set() == {name.removesuffix("_FILE") for name in api["environment"]} - settings

    def test_it_runs_what_the_image_runs_on_the_images_port(self, apis: list[Service]):
        image = Image.of(ROOT / "services/api/Dockerfile")
        port = image.environment["BACKEND_PORT"]
        for api in apis:
            assert image.command[1:] == api["command"]
            assert port == str(api["environment"]["BACKEND_PORT"])
        assert apis[0]["ports"][0].endswith(f":{port}")

    def test_compose_waits_longer_than_the_process(self, apis: list[Service]):
        for api in apis:
            told = api["environment"]
            settings = Settings(
                shutdown_announce_seconds=told["SHUTDOWN_ANNOUNCE_SECONDS"],
                shutdown_grace_seconds=told["SHUTDOWN_GRACE_SECONDS"],
            )
            waits = int(api["stop_grace_period"].removesuffix("s"))
            assert Graces.of(settings).gunicorn_seconds < waits

    def test_one_service_builds_the_image_and_what_others_wait_for_is_not_it(
        self, services: dict[str, Service]
    ):
        """Else a change of the code would restart PostgreSQL, or every `up` all of it."""
        assert {"api", "pgbouncer"} == {n for n, service in services.items() if "build" in service}
        built = {n for n, s in services.items() if s.get("image") == "${COMPOSE_PROJECT_NAME}-api"}
        assert {"migrate", "api-2", "api-3"} == built
        for name in ("secrets", "postgres", "redis"):
            assert built.isdisjoint(services[name].get("depends_on", {})), name

    def test_only_the_migration_is_told_the_owners_url(self, services: dict[str, Service]):
        told = {
            name
            for name, service in services.items()
            if any(
                key.startswith("DATABASE_MIGRATION_URL") for key in service.get("environment", {})
            )
        }
        assert {"migrate"} == told


class TestServices:
    def test_each_is_confined_and_bounded(self, services: dict[str, Service]):
        for name, service in services.items():
            assert service["read_only"], name
            assert ["ALL"] == service["cap_drop"], name
            assert ["no-new-privileges:true"] == service["security_opt"], name
            if name != "secrets":
                assert {"cpus", "memory", "pids"} == set(
                    service["deploy"]["resources"]["limits"]
                ), name

    def test_each_is_on_an_inner_network_but_those_that_clients_reach(
        self, services: dict[str, Service]
    ):
        outside = {
            name for name, service in services.items() if "front" in service.get("networks", [])
        }
        assert {"api", "api-2", "api-3", "nginx"} == outside
        assert {"api", "nginx"} == {
            name for name, service in services.items() if "ports" in service
        }
        for name in ("api", "nginx"):
            assert services[name]["ports"][0].startswith("127.0.0.1:"), name


class TestImage:
    def test_it_is_labelled_as_the_version_that_it_is(self):
        text = (ROOT / "services/api/Dockerfile").read_text()

        assert f"ARG VERSION={__version__}\n" in text


class TestNginx:
    def test_it_waits_as_long_as_a_reply_may_take(self):
        """Unstreamed, it is silent until it is whole."""
        conf = (ROOT / "deploy/nginx/nginx.conf").read_text()
        (seconds,) = re.findall(r"proxy_read_timeout (\d+)s;", conf)

        assert Settings().model_reply_seconds < int(seconds)
