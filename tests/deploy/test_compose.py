"""The Compose file, held to the image, the settings and the graces."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from parley import __version__
from parley.cli.graces import Graces
from parley.core.settings import Settings
from parley.routers._uploads import FORM_BYTES_MAX
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
# The stack makes them, or reads them from files that it makes. OPENAI_API_KEY is only its owner's to give.
SECRETS = {
    "AUTH_SECRET",
    "AUTH_SECRET_PREVIOUS",
    "BETTER_AUTH_DATABASE_URL",
    "BETTER_AUTH_SECRET",
    "DATABASE_MIGRATION_URL",
    "DATABASE_URL",
    "REDIS_URL",
}
# The stack's own Better Auth and its own volume, unless somebody says otherwise.
DEFAULTS = {
    "BETTER_AUTH_URL": "http://auth:3000",
    "BETTER_AUTH_SESSION_TABLE": "auth.session",
    "FILES_URL": "file:///var/lib/parley/files",
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
        passed = dict.fromkeys(settings - FIXED) | {
            name: f"${{{name}:-{default}}}" for name, default in DEFAULTS.items()
        }
        for api in apis:
            told = {name: value for name, value in api["environment"].items() if name in passed}
            assert passed == told
            assert FIXED <= api["environment"].keys()

    def test_it_reaches_a_model_wherever_that_is(self, apis: list[Service]):
        """Over `front`, for nothing leaves `data`; and on this machine by a name."""
        for api in apis:
            assert {"data", "front"} == api["networks"].keys()
            assert ["host.docker.internal:host-gateway"] == api["extra_hosts"]

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
        assert {"api", "auth", "pgbouncer"} == {n for n, s in services.items() if "build" in s}
        built = {
            name: service["image"]
            for name, service in services.items()
            if "COMPOSE_PROJECT_NAME" in service.get("image", "")
        }
        assert (
            dict.fromkeys(
                ("migrate", "sweep", "backup", "api-2", "api-3"), "${COMPOSE_PROJECT_NAME}-api"
            )
            | {"auth-migrate": "${COMPOSE_PROJECT_NAME}-auth"}
            == built
        )
        for name in ("secrets", "postgres", "redis"):
            assert built.keys().isdisjoint(services[name].get("depends_on", {})), name

    def test_only_the_migration_the_sweep_and_the_backup_are_told_the_owners_url(
        self, services: dict[str, Service]
    ):
        told = {
            name
            for name, service in services.items()
            if any(
                key.startswith("DATABASE_MIGRATION_URL") for key in service.get("environment", {})
            )
        }
        assert {"migrate", "sweep", "backup", "dump"} == told


class TestFiles:
    @pytest.fixture
    def users(self, services: dict[str, Service], apis: list[Service]) -> list[Service]:
        """The APIs, what sweeps and what backs up."""
        return [*apis, services["sweep"], services["backup"]]

    def test_all_are_told_of_one_place(self, users: list[Service]):
        names = {
            name.upper() for name in Settings.model_fields if name.startswith(("files_", "s3_"))
        }
        place = dict.fromkeys(names) | {
            "FILES_URL": f"${{FILES_URL:-{DEFAULTS['FILES_URL']}}}",
        }
        for user in users:
            told = {name: value for name, value in user["environment"].items() if name in names}
            assert place == told

    def test_it_is_a_volume_of_their_own_unless_somebody_says_otherwise(
        self, services: dict[str, Service]
    ):
        mounted = {"type": "volume", "source": "files", "target": "/var/lib/parley"}
        assert DEFAULTS["FILES_URL"].startswith(f"file://{mounted['target']}/")
        having = {
            name: volume
            for name, service in services.items()
            for volume in service.get("volumes", [])
            if volume["source"] == "files"
        }
        assert dict.fromkeys(("api", "api-2", "api-3", "sweep", "backup"), mounted) == having

    def test_the_image_has_that_folder_for_its_user_and_its_group_alone(self):
        dockerfile = ROOT / "services/api/Dockerfile"
        image = Image.of(dockerfile)
        owner, _, group = image.user.partition(":")

        assert DEFAULTS["FILES_URL"] == image.environment["FILES_URL"]
        assert (
            f"install --directory --owner={owner} --group={group} --mode=0770"
            " /var/lib/parley /var/lib/parley/files "
        ) in dockerfile.read_text()

    def test_an_s3_store_is_reached_wherever_it_is(self, users: list[Service]):
        for user in users:
            assert {"data", "front"} == {*user["networks"]}
            assert ["host.docker.internal:host-gateway"] == user["extra_hosts"]


class TestBackup:
    """`make` says as whom they run, and what they write is that user's."""

    def test_both_write_to_one_folder_that_is_there_before(self, services: dict[str, Service]):
        folders = [
            volume
            for name in ("dump", "backup")
            for volume in services[name]["volumes"]
            if volume["target"] == "/backups"
        ]
        assert [
            {
                "type": "bind",
                "source": "${BACKUPS:-./var/backups}",
                "target": "/backups",
                "bind": {"create_host_path": False},
            }
        ] * 2 == folders

    def test_whoever_copies_the_files_is_of_the_group_that_has_them(
        self, services: dict[str, Service]
    ):
        _, _, group = Image.of(ROOT / "services/api/Dockerfile").user.partition(":")

        assert [group] == services["backup"]["group_add"]

    @pytest.mark.parametrize("place", ["argument", "environment"])
    @pytest.mark.parametrize("target", ["backup", "restore"])
    def test_make_asks_the_stack_that_is_named(self, target: str, place: str):
        """And no other, whichever way it is written: one of them would be the stack that is used."""
        drill = {"COMPOSE": "docker compose -p drill"}
        told = [f"{name}={value}" for name, value in drill.items() if place == "argument"]
        shown = subprocess.run(
            ["make", "--dry-run", target, "from=var/backups/x", *told],
            cwd=ROOT,
            env=os.environ | (drill if place == "environment" else {}),
            capture_output=True,
            text=True,
            check=True,
        ).stdout

        asked = re.findall(r"docker compose (.{8})", shown)
        assert {"-p drill"} == set(asked)

    @pytest.mark.parametrize("name", ["with spaces", "it's", '"so`called"', "-dash", "ünï"])
    @pytest.mark.parametrize("target", ["backup", "restore"])
    def test_a_folder_may_be_called_as_its_owner_likes(
        self, tmp_path: Path, target: str, name: str
    ):
        """Wherever make is asked from, and whether or not a slash is behind it."""
        (tmp_path / name).mkdir()
        asked = tmp_path / "compose"
        asked.write_text('#!/bin/sh\nprintf \'%s\\n\' "$BACKUPS" "$@"\n')
        asked.chmod(0o700)
        told = {"backup": f"to={name}", "restore": f"from={name}/2026-11-30T02-15-01Z/"}[target]
        said = subprocess.run(
            ["make", "--makefile", str(ROOT / "Makefile"), target, told, f"COMPOSE={asked}"],
            cwd=tmp_path, capture_output=True, text=True, check=True,
        ).stdout.splitlines()  # fmt: skip

        assert str(tmp_path / name) in said
        assert {"backup": "/backups", "restore": "/backups/2026-11-30T02-15-01Z"}[target] in said

    @pytest.mark.parametrize("target", ["backup", "restore"])
    def test_a_folder_that_is_not_there_is_said_and_no_other_is_used(
        self, tmp_path: Path, target: str
    ):
        (tmp_path / "file").touch()
        told = {"backup": "to=file/in/it", "restore": "from=not/there/2026-11-30T02-15-01Z"}[
            target
        ]
        refused = subprocess.run(
            ["make", "--makefile", str(ROOT / "Makefile"), target, told, "COMPOSE=true"],
            cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip

        assert 0 != refused.returncode
        assert {"backup": "file", "restore": "not/there"}[target] in refused.stderr

    @pytest.mark.parametrize(
        ("keep", "said"), [("1", 0), ("07", 2), ("0", 2), ("-1", 2), ("7x", 2), ("all", 2)]
    )
    def test_how_many_are_kept_is_looked_at_before_all_is_dumped(
        self, tmp_path: Path, keep: str, said: int
    ):
        made = subprocess.run(
            ["make", "--makefile", str(ROOT / "Makefile"), "backup", f"keep={keep}", "COMPOSE=echo"],
            cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip

        assert (said, said == 2) == (made.returncode, "keep=7" in made.stderr)
        assert (said == 0) == ("dump" in made.stdout)

    def test_the_dump_is_made_by_tools_of_the_servers_release(self, services: dict[str, Service]):
        assert services["postgres"]["image"] == services["dump"]["image"]


class TestArchive:
    """What deploy/postgres/archive.yml lays over it."""

    @pytest.fixture
    def over(self) -> dict[str, Service]:
        text = (ROOT / "deploy/postgres/archive.yml").read_text()
        return dict(yaml.safe_load(text)["services"])

    def test_what_it_adds_is_confined_and_of_the_servers_release(
        self, over: dict[str, Service], services: dict[str, Service]
    ):
        assert {"wal", "postgres", "recover"} == over.keys()
        for name in ("wal", "recover"):
            assert over[name]["read_only"], name
            assert ["ALL"] == over[name]["cap_drop"], name
            assert ["no-new-privileges:true"] == over[name]["security_opt"], name
            assert "none" == over[name]["network_mode"], name
            assert services["postgres"]["image"] == over[name]["image"]
            assert services["postgres"]["user"] == over[name]["user"]

    def test_the_servers_log_is_there_before_it_and_only_read_to_recover(
        self, over: dict[str, Service]
    ):
        assert (
            "service_completed_successfully" == over["postgres"]["depends_on"]["wal"]["condition"]
        )
        (log,) = [v for v in over["recover"]["volumes"] if v["source"] == "wal"]
        assert log["read_only"]


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

    def test_each_is_on_an_inner_network_but_what_clients_reach_or_what_copies_files(
        self, services: dict[str, Service]
    ):
        outside = {
            name for name, service in services.items() if "front" in service.get("networks", [])
        }
        published = {"api", "auth", "grafana", "nginx", "prometheus"}
        assert published | {"api-2", "api-3", "backup", "sweep"} == outside
        assert published == {name for name, service in services.items() if "ports" in service}
        for name in published:
            assert services[name]["ports"][0].startswith("127.0.0.1:"), name

    def test_each_sees_its_own_folder_of_secrets(self, services: dict[str, Service]):
        seen = {
            name: volume["volume"]["subpath"]
            for name, service in services.items()
            for volume in service.get("volumes", [])
            if volume["source"] == "secrets" and name != "secrets"
        }
        own = {
            name: name
            for name in (
                *("api", "auth", "auth-roles", "grafana", "migrate"),
                *("pgbouncer", "postgres", "redis"),
            )
        }
        others = {"api-2": "api", "api-3": "api", "auth-migrate": "auth"}
        others |= dict.fromkeys(("sweep", "backup", "dump"), "migrate")
        assert own | others == seen
        for name in seen:
            assert all(
                v["read_only"]
                for v in services[name]["volumes"]
                if v["type"] == "volume" and v["source"] == "secrets"
            ), name


class TestImage:
    @pytest.mark.parametrize("service", ["api", "auth"])
    def test_it_is_labelled_as_the_version_that_it_is(self, service: str):
        text = (ROOT / "services" / service / "Dockerfile").read_text()

        assert f"ARG VERSION={__version__}\n" in text


class TestBetterAuth:
    def test_it_runs_what_its_image_runs_on_its_port(self, services: dict[str, Service]):
        image = Image.of(ROOT / "services/auth/Dockerfile")
        port = image.environment["PORT"]

        assert ["node", "src/main.js", "serve"] == image.command
        assert image.user.partition(":")[0].isdecimal()
        assert port == str(services["auth"]["environment"]["PORT"])
        assert services["auth"]["ports"][0].endswith(f":{port}")
        assert DEFAULTS["BETTER_AUTH_URL"] == f"http://auth:{port}"

    def test_it_and_the_api_know_it_by_one_url(
        self, services: dict[str, Service], apis: list[Service]
    ):
        for api in apis:
            for name in ("auth", "auth-migrate"):
                told = services[name]["environment"]["BETTER_AUTH_URL"]
                assert api["environment"]["BETTER_AUTH_URL"] == told

    def test_who_may_not_register_at_the_api_may_not_sign_up_there(
        self, services: dict[str, Service], apis: list[Service]
    ):
        """By one word, as somebody has set it."""
        for service in (*apis, services["auth"], services["auth-migrate"]):
            assert service["environment"]["AUTH_REGISTRATION"] is None

    def test_the_api_reads_its_sessions_by_a_url_of_their_own(self, apis: list[Service]):
        for api in apis:
            files = [
                api["environment"][f"{name}_FILE"]
                for name in ("BETTER_AUTH_DATABASE_URL", "DATABASE_URL")
            ]

            assert "/run/secrets/better-auth-database-url" == files[0] != files[1]

    def test_all_of_it_is_there_by_its_profile_alone(self, services: dict[str, Service]):
        of_it = {n for n, s in services.items() if s.get("profiles") == ["better-auth"]}

        assert {"auth", "auth-migrate", "auth-roles"} == of_it
        for name, service in services.items():
            if name not in of_it:
                assert of_it.isdisjoint(service.get("depends_on", {})), name

    def test_compose_waits_longer_than_the_process(self, services: dict[str, Service]):
        text = (ROOT / "services/auth/src/serve.js").read_text()
        (milliseconds,) = re.findall(r"STOP_MILLISECONDS = ([0-9_]+);", text)
        waits = int(services["auth"]["stop_grace_period"].removesuffix("s"))

        assert int(milliseconds) / 1000 < waits

    def test_the_package_is_of_this_release_and_its_lock_names_no_host(self):
        package = json.loads((ROOT / "services/auth/package.json").read_text())
        lock = json.loads((ROOT / "services/auth/package-lock.json").read_text())

        assert [__version__] * 2 == [package["version"], lock["version"]]
        assert package["dependencies"] == lock["packages"][""]["dependencies"]
        assert [] == [name for name, found in lock["packages"].items() if "resolved" in found]
        locked = {name: found for name, found in lock["packages"].items() if name}
        assert [] == [name for name, found in locked.items() if "integrity" not in found]


class Loader(yaml.SafeLoader):
    """Knows Compose's own two tags, for what is not merged but taken away or replaced."""


Loader.add_constructor("!reset", lambda *_: None)
Loader.add_constructor("!override", lambda loader, node: loader.construct_mapping(node, deep=True))


class TestNeon:
    @pytest.fixture
    def over(self) -> dict[str, Service]:
        """What deploy/neon/compose.yml changes."""
        text = (ROOT / "deploy/neon/compose.yml").read_text()
        return dict(yaml.load(text, Loader)["services"])  # noqa: S506 - it is a SafeLoader

    def test_nothing_that_is_left_needs_what_is_gone(
        self, services: dict[str, Service], over: dict[str, Service]
    ):
        gone = {name for name, service in over.items() if service is None}
        left = {
            name: services.get(name, {}) | (over.get(name) or {})
            for name in {*services, *over} - gone
        }

        auths = {"auth", "auth-migrate", "auth-roles"}
        assert {"postgres", "pgbouncer", "dump", "backup"} | auths == gone
        for name, service in left.items():
            assert gone.isdisjoint(service.get("depends_on", {})), name

    def test_each_reads_the_url_that_is_made_for_it(
        self, services: dict[str, Service], over: dict[str, Service]
    ):
        for name in ("api", "api-2", "api-3"):
            assert {
                "DATABASE_URL_FILE": "/run/secrets/DATABASE_URL",
                "DATABASE_POOLER": "transaction",
            } == over[name]["environment"]
        for name in ("migrate", "sweep"):
            file = "/run/secrets/DATABASE_MIGRATION_URL"
            assert {"DATABASE_MIGRATION_URL_FILE": file} == over[name]["environment"]
        for name in ("api", "migrate"):
            (volume,) = [v for v in services[name]["volumes"] if v["source"] == "secrets"]
            assert (name, "/run/secrets") == (volume["volume"]["subpath"], volume["target"])

    def test_whatever_asks_the_database_gets_out(
        self, services: dict[str, Service], over: dict[str, Service]
    ):
        for name in ("api", "api-2", "api-3", "migrate", "sweep", "neon"):
            networks = {
                *services.get(name, {}).get("networks", []),
                *over[name].get("networks", []),
            }
            assert "front" in networks, name

    def test_what_sets_it_up_is_confined_and_bounded_and_not_there_by_itself(
        self, over: dict[str, Service]
    ):
        neon = over["neon"]

        assert neon["read_only"]
        assert ["ALL"] == neon["cap_drop"]
        assert ["no-new-privileges:true"] == neon["security_opt"]
        assert {"cpus", "memory", "pids"} == neon["deploy"]["resources"]["limits"].keys()
        assert ["neon"] == neon["profiles"]
        assert all(v["read_only"] for v in neon["volumes"] if v["type"] == "bind")


class TestNginx:
    @pytest.fixture
    def conf(self) -> str:
        return (ROOT / "deploy/nginx/nginx.conf").read_text()

    def test_it_waits_as_long_as_a_reply_may_take(self, conf: str):
        """Unstreamed, it is silent until it is whole."""
        (seconds,) = re.findall(r"proxy_read_timeout (\d+)s;", conf)

        assert Settings().model_reply_seconds < int(seconds)

    def test_it_passes_on_the_largest_request_and_the_largest_file(self, conf: str):
        settings = Settings()
        before, _, behind = conf.partition("location = /api/v1/files {")
        (megabytes,) = re.findall(r"client_max_body_size (\d+)m;", before)
        (of_a_file,) = re.findall(r"client_max_body_size (\d+)m;", behind.partition("}")[0])

        assert settings.request_max_bytes < int(megabytes) * 1024**2
        assert settings.upload_max_bytes + FORM_BYTES_MAX < int(of_a_file) * 1024**2

    def test_it_holds_nothing_back_on_either_way(self, conf: str):
        """Of a file neither, and so in no location more than in another."""
        for directive in ("proxy_request_buffering", "proxy_buffering"):
            assert ["off"] == re.findall(rf"\b{directive} (\w+);", conf)
