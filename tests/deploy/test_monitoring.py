"""Prometheus' settings, the alerts and the dashboard, as far as they can be held without a stack."""

import json
import re
import subprocess

import pytest
import yaml

from tests.deploy.manifests import ROOT
from tests.deploy.monitoring import ALERTS, DASHBOARD, alerts

GRAFANA = ROOT / "deploy/grafana/provisioning"


def promtool(*words: str) -> None:
    done = subprocess.run(
        [ROOT / "deploy/tools/promtool", *words],
        cwd=ALERTS.parent, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert 0 == done.returncode, done.stdout + done.stderr


class TestPrometheus:
    def test_its_settings_are_good(self):
        promtool("check", "config", "--lint=all", "--lint-fatal", "prometheus.yml")

    def test_the_alerts_are_good_and_ring_when_they_should(self):
        promtool("check", "rules", "--lint=all", "--lint-fatal", "alerts.yml")
        promtool("test", "rules", "alerts_test.yml")

    def test_each_alert_has_a_case_in_which_it_rings(self):
        cases = yaml.safe_load((ALERTS.parent / "alerts_test.yml").read_text())["tests"]
        rung = {
            rule["alertname"]
            for case in cases
            for rule in case.get("alert_rule_test", ())
            if rule.get("exp_alerts")
        }

        assert set(alerts()) == rung

    @pytest.mark.parametrize("name", alerts())
    def test_each_alert_leads_to_what_to_do(self, name: str):
        runbook = (ROOT / "docs/runbook.md").read_text()

        assert f"docs/runbook.md#{name.lower()}" == alerts()[name]["annotations"]["runbook"]
        assert f"### {name}\n" in runbook


class TestDashboard:
    def test_it_asks_the_prometheus_that_is_provisioned(self):
        (source,) = yaml.safe_load((GRAFANA / "datasources/prometheus.yml").read_text())[
            "datasources"
        ]
        asked = re.findall(r'"uid": "(\w+)"\n', DASHBOARD.read_text())

        assert {source["uid"]} == set(asked)

    def test_its_panels_lie_beside_each_other(self):
        taken: set[tuple[int, int]] = set()
        for panel in json.loads(DASHBOARD.read_text())["panels"]:
            at = panel["gridPos"]
            cells = {
                (x, y)
                for x in range(at["x"], at["x"] + at["w"])
                for y in range(at["y"], at["y"] + at["h"])
            }
            assert not cells & taken, panel["title"]
            assert at["x"] + at["w"] <= 24
            taken |= cells
