"""What the dashboard and the alerts ask Prometheus."""

import json
import re

import yaml

from tests.deploy.manifests import ROOT

DASHBOARD = ROOT / "deploy/grafana/dashboards/parley.json"
ALERTS = ROOT / "deploy/prometheus/alerts.yml"
_METRIC = re.compile(r"\b(?:parley|http)_\w+|\bup\b")


def dashboard_queries() -> list[str]:
    """As Grafana asks them that looks four times at what Prometheus scrapes each 15 s."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return [
        target["expr"].replace("$__rate_interval", "1m")
        for panel in panels
        for target in panel.get("targets", ())
    ]


def rules() -> list[dict[str, str]]:
    (group,) = yaml.safe_load(ALERTS.read_text())["groups"]
    return list(group["rules"])


def alerts() -> dict[str, dict[str, str]]:
    """By their names."""
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}


def metrics_in(*queries: str) -> set[str]:
    return {name for query in queries for name in _METRIC.findall(query)}
