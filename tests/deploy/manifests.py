import subprocess
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
KUSTOMIZE = ROOT / "deploy/tools/kustomize"

Manifest = dict[str, Any]


class Manifests(list[Manifest]):
    """What an overlay sends to a cluster."""

    @classmethod
    def of(cls, overlay: str, tree: Path = ROOT) -> "Manifests":
        """
        Raises:
            AssertionError: it cannot be rendered; the message is kubectl's.
        """
        rendering = subprocess.run(
            [KUSTOMIZE, f"deploy/kubernetes/overlays/{overlay}"],
            cwd=tree,
            check=False,
            capture_output=True,
            text=True,
        )
        assert rendering.returncode == 0, rendering.stderr
        return cls(yaml.safe_load_all(rendering.stdout))

    def every(self, kind: str) -> list[Manifest]:
        return [manifest for manifest in self if manifest["kind"] == kind]

    def one(self, kind: str, name: str) -> Manifest:
        """`name` without what kustomize appends to it."""
        (found,) = [m for m in self.every(kind) if m["metadata"]["name"].startswith(name)]
        return found

    def pods(self) -> Iterator[Manifest]:
        """The template of each Pod, whatever makes it."""
        for manifest in self:
            yield from _pods(manifest)

    @property
    def api(self) -> Manifest:
        return self.one("Deployment", "parley-api")["spec"]["template"]

    @property
    def migration(self) -> Manifest:
        return self.one("Job", "parley-migrate")["spec"]["template"]

    @property
    def sweep(self) -> Manifest:
        return self.one("CronJob", "parley-sweep")["spec"]["jobTemplate"]["spec"]["template"]

    def policies(self, pod: Manifest) -> list[Manifest]:
        """The NetworkPolicies that select it."""
        labels = pod["metadata"]["labels"]
        return [
            p for p in self.every("NetworkPolicy") if _selects(p["spec"]["podSelector"], labels)
        ]

    def ways_out(self, pod: Manifest) -> set[int]:
        """The ports that it may reach."""
        return {
            port["port"]
            for policy in self.policies(pod)
            for rule in policy["spec"].get("egress", [])
            for port in rule["ports"]
        }

    @property
    def environment(self) -> dict[str, str]:
        """What the API is told, but for secrets that the overlay only refers to."""
        told = dict(self.one("ConfigMap", "parley-api")["data"])
        for secret in self.every("Secret"):
            if secret["metadata"]["name"].startswith("parley-api"):
                told |= {name: b64decode(value).decode() for name, value in secret["data"].items()}
        (api,) = containers(self.api)
        return told | {variable["name"]: variable["value"] for variable in api.get("env", [])}


def _selects(selector: Manifest, labels: dict[str, str]) -> bool:
    return selector.get("matchLabels", {}).items() <= labels.items() and all(
        rule["operator"] == "In" and labels.get(rule["key"]) in rule["values"]
        for rule in selector.get("matchExpressions", [])
    )


def _pods(node: Any) -> Iterator[Manifest]:
    match node:
        case {"spec": {"containers": [*_]}}:
            yield node
        case dict():
            for value in node.values():
                yield from _pods(value)
        case _:
            pass


def containers(pod: Manifest) -> list[Manifest]:
    return [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]


def secrets(node: Any) -> set[str]:
    """The Secrets that a manifest refers to, in whatever way."""
    match node:
        case dict():
            names = {
                reference.get("name") or reference["secretName"]
                for key in ("secretRef", "secretKeyRef", "secret")
                if isinstance(reference := node.get(key), dict)
            }
            return names.union(*map(secrets, node.values()))
        case list():
            return set().union(*map(secrets, node))
        case _:
            return set()
