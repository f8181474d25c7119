"""What is deployed is what the image and the settings have."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from pydantic import ValidationError

from parley import __version__
from parley.cli.graces import Graces
from parley.core.settings import Settings
from parley.routers import metrics
from parley.routers._uploads import FORM_BYTES_MAX
from tests.deploy.image import Image
from tests.deploy.manifests import ROOT, Manifest, Manifests, containers, secrets
from tests.deploy.monitoring import ALERTS, alerts, dashboard_queries

# The first with `sleep` in preStop that needs no feature gate.
OLDEST_KUBERNETES = "1.30"
MAX_CONNECTIONS = 100
# Superusers' three, the migration, a backup, and some for whoever looks into a trouble.
RESERVED_CONNECTIONS = 10
DAY_SECONDS = 86400

S3, VOLUME = (f"- ../../components/files-{place}" for place in ("s3", "volume"))
BACKUP = "- ../../components/backup"
# As Debian has them, and as the backup's first container hands them on.
SYSTEMS_CAS, CAS = (
    f"{folder}/ca-certificates.crt" for folder in ("/etc/ssl/certs", "/certificates")
)


@pytest.fixture(scope="session")
def image() -> Image:
    return Image.of(ROOT / "services/api/Dockerfile")


@pytest.fixture(scope="session")
def production() -> Manifests:
    return Manifests.of("production")


@pytest.fixture(scope="session")
def development() -> Manifests:
    return Manifests.of("development")


@pytest.fixture(scope="session")
def neon() -> Manifests:
    return Manifests.of("neon")


@pytest.fixture(params=["development", "production", "neon"])
def manifests(request: pytest.FixtureRequest) -> Manifests:
    return request.getfixturevalue(request.param)


@pytest.fixture
def settings(image: Image, manifests: Manifests) -> Settings:
    """As the API's Pod has them."""
    told = image.environment | manifests.environment
    return Settings(
        **{name: told[name.upper()] for name in Settings.model_fields if name.upper() in told}
    )


@pytest.fixture
def api(manifests: Manifests) -> Manifest:
    (container,) = containers(manifests.api)
    return container


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy to change."""
    shutil.copytree(ROOT / "deploy", tmp_path / "deploy")
    return tmp_path


def change(tree: Path, overlay: str, old: str, new: str) -> None:
    path = tree / "deploy/kubernetes/overlays" / overlay / "kustomization.yaml"
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


class TestSchemas:
    @pytest.mark.parametrize("version", [OLDEST_KUBERNETES, kubernetes_validate.latest_version()])
    def test_kubernetes_knows_every_kind_and_every_field(self, manifests: Manifests, version: str):
        for manifest in manifests:
            kubernetes_validate.validate(manifest, version, strict=True)


class TestPods:
    def test_each_keeps_the_restricted_profile_and_a_read_only_root(self, manifests: Manifests):
        for pod in manifests.pods():
            spec = pod["spec"]
            assert spec["automountServiceAccountToken"] is False
            assert spec["securityContext"]["runAsNonRoot"] is True
            assert {"type": "RuntimeDefault"} == spec["securityContext"]["seccompProfile"]
            assert set() == spec.keys() & {"hostNetwork", "hostPID", "hostIPC"}
            assert not any("hostPath" in volume for volume in spec.get("volumes", []))
            for container in containers(pod):
                assert {
                    "allowPrivilegeEscalation": False,
                    "capabilities": {"drop": ["ALL"]},
                    "readOnlyRootFilesystem": True,
                } == container["securityContext"]

    def test_each_image_has_a_tag_that_stays(self, manifests: Manifests):
        for pod in manifests.pods():
            for container in containers(pod):
                tag = container["image"].rpartition("/")[2].partition(":")[2]
                assert tag not in {"", "latest"}, container["image"]

    def test_production_deploys_this_release(self, production: Manifests):
        (container,) = containers(production.api)

        assert container["image"].endswith(f"/parley-api:{__version__}")

    def test_parley_runs_as_the_images_user_and_writes_to_tmp_alone_but_for_files(
        self, manifests: Manifests, image: Image
    ):
        for pod in (manifests.api, manifests.migration, manifests.sweep):
            identity = pod["spec"]["securityContext"]
            assert image.user == f"{identity['runAsUser']}:{identity['runAsGroup']}"
            (volume,) = [v for v in pod["spec"]["volumes"] if "persistentVolumeClaim" not in v]
            assert volume["emptyDir"].keys() == {"medium", "sizeLimit"}
            for container in containers(pod):
                (mount,) = [m for m in container["volumeMounts"] if m["name"] != "files"]
                assert {"name": volume["name"], "mountPath": "/tmp"} == mount  # noqa: S108


class TestApi:
    def test_the_image_serves_as_it_is(self, api: Manifest, image: Image):
        assert image.command == ["parley", "serve", "--host", "0.0.0.0"]  # noqa: S104
        assert set() == api.keys() & {"command", "args"}

    def test_what_it_is_told_are_settings(self, manifests: Manifests):
        assert set() == {name.lower() for name in manifests.environment} - set(
            Settings.model_fields
        )

    def test_development_is_told_all_that_serving_needs(self, development: Manifests):
        Settings(**{n.lower(): v for n, v in development.environment.items()}).check_serving()

    def test_production_is_told_that_it_is(self, production: Manifests):
        assert production.environment["ENVIRONMENT"] == "production"

    def test_production_answers_to_the_ingress_host_and_to_no_other(self, production: Manifests):
        (ingress,) = production.every("Ingress")
        hosts = [rule["host"] for rule in ingress["spec"]["rules"]]

        assert hosts == ingress["spec"]["tls"][0]["hosts"]
        assert ",".join(hosts) == production.environment["TRUSTED_HOSTS"]

    def test_everything_leads_to_the_port_that_it_opens(
        self, manifests: Manifests, api: Manifest, settings: Settings
    ):
        assert [{"name": "http", "containerPort": settings.backend_port}] == api["ports"]
        (port,) = manifests.one("Service", "parley-api")["spec"]["ports"]
        assert port["targetPort"] == "http"
        for policy in manifests.every("NetworkPolicy"):
            for rule in policy["spec"].get("ingress", []):
                assert [{"port": "http"}] == rule["ports"]

    def test_probes_ask_what_answers_them(self, api: Manifest):
        probes = {name: probe["httpGet"] for name, probe in api.items() if name.endswith("Probe")}

        assert {
            "startupProbe": {"path": "/health", "port": "http"},
            "livenessProbe": {"path": "/health", "port": "http"},
            "readinessProbe": {"path": "/health/ready", "port": "http"},
        } == probes
        paths = json.loads((ROOT / "docs/openapi.json").read_text())["paths"]
        assert {probe["path"] for probe in probes.values()} <= paths.keys()

    def test_each_grace_ends_before_the_next(
        self, manifests: Manifests, api: Manifest, settings: Settings
    ):
        graces = Graces.of(settings)
        leaving = api["lifecycle"]["preStop"]["sleep"]["seconds"]
        killed = manifests.api["spec"]["terminationGracePeriodSeconds"]

        assert 0 < leaving
        assert leaving + graces.drain_seconds < graces.uvicorn_seconds < graces.gunicorn_seconds
        assert leaving + graces.gunicorn_seconds < killed

    def test_a_rollout_waits_for_readiness(self, manifests: Manifests):
        strategy = manifests.one("Deployment", "parley-api")["spec"]["strategy"]

        assert {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}} == strategy

    def test_its_selectors_find_its_pods_and_no_others(self, manifests: Manifests):
        labels = manifests.api["metadata"]["labels"]
        for pod in manifests.pods():
            if pod != manifests.api:
                assert pod["metadata"]["labels"].items().isdisjoint(labels.items())
        assert labels == manifests.one("Service", "parley-api")["spec"]["selector"]
        for budget in manifests.every("PodDisruptionBudget"):
            assert labels == budget["spec"]["selector"]["matchLabels"]
        for spread in manifests.api["spec"]["topologySpreadConstraints"]:
            assert labels == spread["labelSelector"]["matchLabels"]

    def test_the_autoscaler_alone_says_how_many(self, production: Manifests):
        (autoscaler,) = production.every("HorizontalPodAutoscaler")

        assert {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "name": "parley-api",
        } == autoscaler["spec"]["scaleTargetRef"]
        assert "replicas" not in production.one("Deployment", "parley-api")["spec"]
        # One may be evicted, and one still serves.
        assert 2 <= autoscaler["spec"]["minReplicas"]

    def test_postgresql_has_a_connection_for_each_that_may_be_opened(
        self, manifests: Manifests, settings: Settings
    ):
        replicas = max(
            (m["spec"]["maxReplicas"] for m in manifests.every("HorizontalPodAutoscaler")),
            default=1,
        )
        pool = settings.database_pool_size + settings.database_pool_overflow

        # In a rolling update all the old may still be draining when all the new already serve.
        opened = 2 * replicas * settings.web_concurrency * pool
        assert opened <= MAX_CONNECTIONS - RESERVED_CONNECTIONS


class TestFiles:
    @pytest.fixture
    def on_a_volume(self, tree: Path) -> Manifests:
        """Production, but for that choice."""
        change(tree, "production", f"  {S3}\n", f"  # {S3}\n")
        change(tree, "production", f"  # {VOLUME}\n", f"  {VOLUME}\n")
        return Manifests.of("production", tree)

    @pytest.fixture(params=["on_s3", "on_a_volume", "in_development"])
    def files(self, request: pytest.FixtureRequest) -> Manifests:
        names = {"on_s3": "production", "in_development": "development"}
        return request.getfixturevalue(names.get(request.param, request.param))

    def test_production_keeps_them_on_s3_until_somebody_chooses_a_volume(
        self, production: Manifests, on_a_volume: Manifests, image: Image
    ):
        """In words that its settings take."""
        Settings(
            files_url=production.environment["FILES_URL"],
            s3_endpoint=production.environment["S3_ENDPOINT"],
        )

        assert production.environment["FILES_URL"].startswith("s3://")
        assert [] == production.every("PersistentVolumeClaim")
        assert image.environment["FILES_URL"] == on_a_volume.environment["FILES_URL"]

    def test_nobody_chooses_both(self, tree: Path):
        change(tree, "production", f"  # {VOLUME}\n", f"  {VOLUME}\n")

        with pytest.raises(AssertionError, match="parley-sweep"):
            Manifests.of("production", tree)

    def test_a_volume_is_where_the_image_has_the_folder(
        self, on_a_volume: Manifests, development: Manifests, image: Image
    ):
        for overlay in (on_a_volume, development):
            (claim,) = overlay.every("PersistentVolumeClaim")
            for pod in (overlay.api, overlay.sweep):
                (container,) = containers(pod)
                (mount,) = [m for m in container["volumeMounts"] if m["name"] == "files"]
                assert image.environment["FILES_URL"].startswith(f"file://{mount['mountPath']}/")
                assert {
                    "name": "files",
                    "persistentVolumeClaim": {"claimName": claim["metadata"]["name"]},
                } in pod["spec"]["volumes"]
                assert image.user.endswith(f":{pod['spec']['securityContext']['fsGroup']}")

    def test_only_one_replica_shares_it_with_nobody(
        self, on_a_volume: Manifests, development: Manifests
    ):
        for overlay, modes in ((on_a_volume, "ReadWriteMany"), (development, "ReadWriteOnce")):
            (claim,) = overlay.every("PersistentVolumeClaim")
            assert [modes] == claim["spec"]["accessModes"]
        assert [] == development.every("HorizontalPodAutoscaler")

    def test_what_sweeps_is_of_the_same_image_and_told_of_the_same_place(self, files: Manifests):
        (sweep,) = containers(files.sweep)
        (api,) = containers(files.api)

        assert ["files", "sweep"] == sweep["args"]
        assert "command" not in sweep
        assert api["image"] == sweep["image"]
        (settings,) = [s for s in api["envFrom"] if "configMapRef" in s]
        assert settings in sweep["envFrom"]
        for variable in api.get("env", []):
            assert variable in sweep["env"]

    def test_it_reaches_the_database_and_what_files_are_in_and_nothing_else(
        self, files: Manifests
    ):
        store = {443} if files.environment["FILES_URL"].startswith("s3://") else set()

        assert {53, 5432} | store == files.ways_out(files.sweep)
        assert {53, 5432, 6379} | store == files.ways_out(files.api)
        assert {53, 5432} == files.ways_out(files.migration)

    def test_it_is_told_of_the_apis_secret_only_what_an_s3_store_asks_for(
        self, production: Manifests
    ):
        (sweep,) = containers(production.sweep)
        told = {v["name"]: v["valueFrom"]["secretKeyRef"] for v in sweep["env"]}

        assert {
            name: {"name": "parley-api", "key": name, "optional": True}
            for name in ("S3_ACCESS_KEY_ID", "S3_SECRET_ACCESS_KEY")
        } == told
        assert {name.lower() for name in told} <= Settings.model_fields.keys()

    def test_one_sweep_a_day_and_never_two_at_once(self, files: Manifests):
        (job,) = files.every("CronJob")

        assert "Forbid" == job["spec"]["concurrencyPolicy"]
        assert re.fullmatch(r"\d+ \d+ \* \* \*", job["spec"]["schedule"])
        # One that hangs would keep all the others from beginning.
        assert 0 < job["spec"]["jobTemplate"]["spec"]["activeDeadlineSeconds"] < DAY_SECONDS
        assert 0 == job["spec"]["jobTemplate"]["spec"]["backoffLimit"]

    def test_the_ingress_passes_the_largest_file_on_as_it_comes(self, production: Manifests):
        (ingress,) = production.every("Ingress")
        said = {
            name.removeprefix("nginx.ingress.kubernetes.io/"): value
            for name, value in ingress["metadata"]["annotations"].items()
        }
        (megabytes,) = re.findall(r"^(\d+)m$", said["proxy-body-size"])

        assert Settings().upload_max_bytes + FORM_BYTES_MAX < int(megabytes) * 1024**2
        assert "off" == said["proxy-request-buffering"]


class TestBackup:
    @pytest.fixture(params=["on_s3", "on_a_volume"])
    def backing_up(self, request: pytest.FixtureRequest, tree: Path) -> Manifests:
        """Production, with files in either place."""
        change(tree, "production", f"  # {BACKUP}\n", f"  {BACKUP}\n")
        if request.param == "on_a_volume":
            change(tree, "production", f"  {S3}\n", f"  # {S3}\n")
            change(tree, "production", f"  # {VOLUME}\n", f"  {VOLUME}\n")
        return Manifests.of("production", tree)

    @pytest.mark.parametrize("version", [OLDEST_KUBERNETES, kubernetes_validate.latest_version()])
    def test_kubernetes_knows_every_kind_and_every_field(
        self, backing_up: Manifests, version: str
    ):
        for manifest in backing_up:
            kubernetes_validate.validate(manifest, version, strict=True)

    def test_each_keeps_the_restricted_profile(self, backing_up: Manifests):
        TestPods().test_each_keeps_the_restricted_profile_and_a_read_only_root(backing_up)
        TestPods().test_each_image_has_a_tag_that_stays(backing_up)

    def test_the_database_is_dumped_and_behind_it_its_files_are_copied(
        self, backing_up: Manifests
    ):
        _, database, files = containers(pod_of(backing_up, "parley-backup"))
        (api,) = containers(backing_up.api)

        assert ["bash", "/scripts/backup.sh", "/backups"] == [
            *database["command"],
            *database["args"],
        ]
        assert ["backup", "files", "--to", "/backups"] == files["args"][:4]
        assert "command" not in files
        assert api["image"] == files["image"]

    def test_a_restore_looks_puts_back_the_bytes_then_the_rows_and_migrates_when_asked(
        self, backing_up: Manifests
    ):
        job = backing_up.one("CronJob", "parley-restore")
        words = [
            " ".join([*container.get("command", ["parley"]), *container["args"]])
            for container in containers(pod_of(backing_up, "parley-restore"))[1:]
        ]

        assert [
            "bash /scripts/restore.sh --look",
            "parley restore files --from /backups/NAME",
            "bash /scripts/restore.sh /backups/NAME",
            "parley migrate",
        ] == words
        assert job["spec"]["suspend"] is True

    def test_what_dumps_is_of_the_release_of_the_server_that_is_tried_out(
        self, backing_up: Manifests, development: Manifests
    ):
        (server,) = containers(development.one("StatefulSet", "postgres")["spec"]["template"])
        for name in ("parley-backup", "parley-restore"):
            images = {
                c["image"]
                for c in containers(pod_of(backing_up, name))
                if c.get("command", [])[:1] == ["bash"]
            }
            assert {server["image"]} == images

    def test_what_dumps_has_the_cas_of_the_image_that_has_some(self, backing_up: Manifests):
        """PostgreSQL's has none, and a URL may say `sslrootcert=system`, as all of Neon's do."""
        (api,) = containers(backing_up.api)
        for name in ("parley-backup", "parley-restore"):
            first, *rest = containers(pod_of(backing_up, name))
            (mount,) = [m for m in first["volumeMounts"] if m["name"] == "certificates"]

            assert api["image"] == first["image"]
            assert ["cp", SYSTEMS_CAS, mount["mountPath"]] == first["command"]
            asking = [c for c in rest if c["image"] != api["image"]]
            assert asking
            for container in asking:
                assert {"name": "SSL_CERT_FILE", "value": CAS} in container["env"]
                assert mount | {"readOnly": True} in container["volumeMounts"]
            assert f"{mount['mountPath']}/{SYSTEMS_CAS.rpartition('/')[2]}" == CAS

    @pytest.mark.parametrize(
        "ended", ["Complete", "SuccessCriteriaMet Complete", "FailureTarget Failed"]
    )
    def test_the_page_waits_for_a_restore_however_it_ends(self, tmp_path: Path, ended: str):
        """By a kubectl that says how after a while, and what else it is asked."""
        page = (ROOT / "deploy/kubernetes/README.md").read_text()
        (lines,) = re.findall(r"```sh\n(kubectl [^`]*job restore[^`]*)```", page)
        kubectl = tmp_path / "kubectl"
        kubectl.write_text(
            '#!/bin/sh\necho "$*" >>asked\n'
            f"case $* in *'get job'*) test -e later && echo {ended}; touch later ;; esac\n"
        )
        kubectl.chmod(0o755)

        done = subprocess.run(
            ["bash", "-ec", lines.replace("sleep 5", ":")],
            cwd=tmp_path, env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
            capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip

        assert ended == done.stdout.strip()
        asked = (tmp_path / "asked").read_text().splitlines()
        assert "-n parley logs job/restore --all-containers" == asked[-1]
        assert 2 == len([words for words in asked if "get job" in words])
        assert asked[1].startswith("-n parley delete job restore")

    def test_behind_where_files_are_it_is_refused(self, tree: Path):
        """It would not hear of them, and back up none."""
        change(tree, "production", f"  # {BACKUP}\n", "")
        change(tree, "production", f"  {S3}\n", f"  {S3}\n  {BACKUP}\n")

        with pytest.raises(
            AssertionError, match=r"components/backup.*list this component before where files are"
        ):
            Manifests.of("production", tree)

    def test_where_nobody_says_where_files_are_it_does_not_start(self, tree: Path):
        change(tree, "production", f"  # {BACKUP}\n", f"  {BACKUP}\n")
        change(tree, "production", f"  {S3}\n", f"  # {S3}\n")

        without = Manifests.of("production", tree)

        for name in ("parley-backup", "parley-restore"):
            (files,) = [c for c in containers(pod_of(without, name)) if c["name"] == "files"]
            told = {variable["name"].lower(): variable["value"] for variable in files["env"]}
            with pytest.raises(ValidationError, match="files_url"):
                Settings(**told)

    def test_the_scripts_are_those_of_compose(self, backing_up: Manifests):
        scripts = backing_up.one("ConfigMap", "backup-scripts")
        folder = ROOT / "deploy/postgres/backup"

        assert {path.name: path.read_text() for path in folder.glob("*.sh")} == scripts["data"]
        for name in ("parley-backup", "parley-restore"):
            volumes = pod_of(backing_up, name)["spec"]["volumes"]
            assert {
                "name": "scripts",
                "configMap": {"name": scripts["metadata"]["name"]},
            } in volumes

    def test_both_have_the_files_of_the_api_and_a_volume_of_their_own(self, backing_up: Manifests):
        (sweep,) = containers(backing_up.sweep)
        claims = {claim["metadata"]["name"] for claim in backing_up.every("PersistentVolumeClaim")}
        for name in ("parley-backup", "parley-restore"):
            pod = pod_of(backing_up, name)
            (files,) = [c for c in containers(pod) if c["name"] == "files"]
            assert sweep["env"] == files["env"]
            assert sweep["envFrom"] == files["envFrom"]
            mounted = {mount["name"]: mount["mountPath"] for mount in files["volumeMounts"]}
            swept = {mount["name"]: mount["mountPath"] for mount in sweep["volumeMounts"]}
            assert swept | {"backups": "/backups"} == mounted
            assert claims == {
                volume["persistentVolumeClaim"]["claimName"]
                for volume in pod["spec"]["volumes"]
                if "persistentVolumeClaim" in volume
            }

    def test_they_reach_the_database_and_what_files_are_in_and_nothing_else(
        self, backing_up: Manifests
    ):
        for name in ("parley-backup", "parley-restore"):
            pod = pod_of(backing_up, name)
            assert backing_up.ways_out(backing_up.sweep) == backing_up.ways_out(pod)
            ways = {way for p in backing_up.policies(pod) for way in p["spec"]["policyTypes"]}
            assert {"Ingress", "Egress"} == ways

    def test_one_backup_a_day_and_never_two_at_once(self, backing_up: Manifests):
        job = backing_up.one("CronJob", "parley-backup")["spec"]

        assert "Forbid" == job["concurrencyPolicy"]
        assert re.fullmatch(r"\d+ \d+ \* \* \*", job["schedule"])
        assert 0 < job["jobTemplate"]["spec"]["activeDeadlineSeconds"] < DAY_SECONDS
        assert 0 == job["jobTemplate"]["spec"]["backoffLimit"]


def pod_of(manifests: Manifests, cron_job: str) -> Manifest:
    pod: Manifest = manifests.one("CronJob", cron_job)["spec"]["jobTemplate"]["spec"]["template"]
    return pod


class TestMigration:
    def test_it_migrates_with_the_apis_image_and_as_strictly_as_production(
        self, manifests: Manifests
    ):
        (migrate,) = containers(manifests.migration)
        (api,) = containers(manifests.api)

        assert ["migrate"] == migrate["args"]
        assert "command" not in migrate
        assert migrate["image"] == api["image"]
        assert [{"name": "ENVIRONMENT", "value": "production"}] == migrate["env"]

    def test_each_release_has_a_job_of_its_own(self, tree: Path):
        change(tree, "production", f"newTag: {__version__}", "newTag: 9.9.9-rc.1")
        change(tree, "production", "images.example.com/", "images.example.com:5000/")

        (job,) = Manifests.of("production", tree).every("Job")

        assert job["metadata"]["name"] == "parley-migrate-9.9.9-rc.1"

    @pytest.mark.parametrize("overlay", ["development", "production", "neon"])
    def test_settings_and_secrets_change_without_changing_the_job(self, tree: Path, overlay: str):
        before = Manifests.of(overlay, tree)
        for path in (tree / "deploy/kubernetes").rglob("kustomization.yaml"):
            text = path.read_text().replace(
                "- ENVIRONMENT=", "- LOG_LEVEL=DEBUG\n      - ENVIRONMENT="
            )
            path.write_text(text.replace("development@postgres", "changed@postgres"))

        after = Manifests.of(overlay, tree)

        assert before.environment != after.environment
        assert before.every("Job") == after.every("Job")


class TestSecrets:
    def test_the_owners_url_is_the_migrations_and_the_sweeps_alone(self, manifests: Manifests):
        (owners,) = secrets(manifests.migration)
        (apis,) = secrets(manifests.api)
        (sweep,) = containers(manifests.sweep)

        assert owners == "parley-migrate"
        assert {"parley-migrate"} == secrets(sweep["envFrom"])
        assert apis.startswith("parley-api")
        assert "DATABASE_MIGRATION_URL" not in manifests.environment

    def test_production_only_refers_to_them(self, production: Manifests):
        assert [] == production.every("Secret")
        assert {"parley-api"} == secrets(production.api)


class TestMonitoring:
    @pytest.fixture
    def monitored(self, tree: Path) -> Manifests:
        way = "- ../../components/monitoring"
        change(tree, "production", f"# {way}\n", f"{way}\n")
        return Manifests.of("production", tree)

    def test_each_pod_behind_the_service_is_scraped(self, monitored: Manifests):
        (monitor,) = monitored.every("ServiceMonitor")
        service = monitored.one("Service", "parley-api")
        (endpoint,) = monitor["spec"]["endpoints"]

        assert (
            monitor["spec"]["selector"]["matchLabels"].items()
            <= service["metadata"]["labels"].items()
        )
        assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
        assert metrics.PATH == endpoint["path"]

    def test_it_is_scraped_under_the_name_that_the_alerts_and_the_dashboard_know(
        self, monitored: Manifests
    ):
        """Else none of those that watch a replica would ever ring."""
        (monitor,) = monitored.every("ServiceMonitor")
        (endpoint,) = monitor["spec"]["endpoints"]
        (job,) = [
            rule["replacement"] for rule in endpoint["relabelings"] if rule["targetLabel"] == "job"
        ]
        asked = {*dashboard_queries(), *(rule["expr"] for rule in alerts().values())}

        assert {job} == set(re.findall(r'job="([^"]*)"', "".join(asked)))

    def test_prometheus_is_let_in_and_nobody_else(
        self, monitored: Manifests, production: Manifests
    ):
        before = {p["metadata"]["name"] for p in production.every("NetworkPolicy")}
        (added,) = [
            p for p in monitored.policies(monitored.api) if p["metadata"]["name"] not in before
        ]
        (rule,) = added["spec"]["ingress"]

        assert ["Ingress"] == added["spec"]["policyTypes"]
        assert [{"namespaceSelector", "podSelector"}] == [set(peer) for peer in rule["from"]]
        (container,) = containers(monitored.api)
        assert [{"port": port["name"]} for port in container["ports"]] == rule["ports"]

    def test_the_alerts_become_a_rule_of_the_operators_as_the_page_says(self):
        page = (ROOT / "deploy/kubernetes/README.md").read_text()
        (command,) = re.findall(r"```sh\n(\{ printf.*?\}) \| kubectl", page, re.DOTALL)
        made = subprocess.run(
            ["sh", "-c", command], cwd=ROOT, check=True, capture_output=True, text=True
        )
        rule = yaml.safe_load(made.stdout)

        assert "PrometheusRule" == rule["kind"]
        assert yaml.safe_load(ALERTS.read_text())["groups"] == rule["spec"]["groups"]


class TestNeon:
    def test_it_is_production_through_a_transaction_pooler_and_nothing_else(
        self, neon: Manifests, production: Manifests
    ):
        told = production.environment | {"DATABASE_POOLER": "transaction"}

        assert told == neon.environment

        def rest(manifests: Manifests) -> str:
            """But for the settings, and the name that they get from what they say."""
            name = manifests.one("ConfigMap", "parley-api")["metadata"]["name"]
            others = [manifest for manifest in manifests if manifest["kind"] != "ConfigMap"]
            return json.dumps(others).replace(name, "settings")

        assert rest(production) == rest(neon)

    def test_it_goes_along_with_what_production_is_changed_to(self, tree: Path):
        change(tree, "production", f"newTag: {__version__}", "newTag: 9.9.9")

        neon = Manifests.of("neon", tree)

        assert neon.one("Job", "parley-migrate")["metadata"]["name"] == "parley-migrate-9.9.9"
        assert containers(neon.api)[0]["image"].endswith(":9.9.9")

    def test_each_secret_has_the_key_of_a_file_that_is_made_for_it(self, neon: Manifests):
        """`kubectl create secret --from-file=folder` names the keys as the files are."""
        page = (ROOT / "deploy/neon/README.md").read_text()
        made = (ROOT / "deploy/neon/set_up.py").read_text()

        for pod, folder, name in (
            (neon.api, "api", "DATABASE_URL"),
            (neon.migration, "migrate", "DATABASE_MIGRATION_URL"),
        ):
            (secret,) = secrets(pod)
            assert f"create secret generic {secret} --from-file=var/neon/{folder}" in page
            assert f'"{folder}/{name}"' in made
            assert name.lower() in Settings.model_fields


class TestNetwork:
    def test_every_pod_of_parley_has_a_policy_for_both_ways(self, manifests: Manifests):
        for pod in (manifests.api, manifests.migration, manifests.sweep):
            ways = {way for p in manifests.policies(pod) for way in p["spec"]["policyTypes"]}
            assert {"Ingress", "Egress"} == ways

    @pytest.mark.parametrize("component", ["issuers", "model", "files-s3"])
    def test_the_way_out_is_shut_until_a_component_opens_it(self, tree: Path, component: str):
        def opened() -> set[int]:
            overlay = Manifests.of("production", tree)
            return overlay.ways_out(overlay.api)

        way = f"- ../../components/{component}"
        change(tree, "production", f"  {S3}\n", f"  # {S3}\n")
        before = opened()
        change(tree, "production", f"# {way}\n", f"{way}\n")

        assert ({53, 5432, 6379}, {53, 443, 5432, 6379}) == (before, opened())

    def test_the_ingress_passes_on_the_api_and_its_documentation_and_nothing_else(
        self, production: Manifests
    ):
        (ingress,) = production.every("Ingress")
        (rule,) = ingress["spec"]["rules"]
        assert set() == ingress["spec"].keys() & {"defaultBackend"}
        assert all(
            {"service": {"name": "parley-api", "port": {"name": "http"}}} == path["backend"]
            for path in rule["http"]["paths"]
        )

        def passed_on(path: str) -> bool:
            return any(
                path == allowed["path"]
                or (
                    allowed["pathType"] == "Prefix"
                    and path.startswith(f"{allowed['path'].rstrip('/')}/")
                )
                for allowed in rule["http"]["paths"]
            )

        documented = json.loads((ROOT / "docs/openapi.json").read_text())["paths"]
        inside = {"/metrics", "/health", "/health/ready", "/health/db"}
        outside = {*documented, "/docs", "/docs/assets/x", "/redoc", "/openapi.json"} - inside
        assert (inside, outside) == (
            {path for path in inside | outside if not passed_on(path)},
            {path for path in inside | outside if passed_on(path)},
        )
