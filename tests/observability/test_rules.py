"""The files of deploy/observability, checked by the tools of Prometheus and Alertmanager."""

import itertools
import json
import re
import subprocess

import pytest

from tests.documents import ROOT, read
from tests.observability.observers import DEPLOY

ALERTS = re.findall(r"^      - alert: (\w+)$", (DEPLOY / "rules.yml").read_text(encoding="utf-8"), re.MULTILINE)


def run(*words: str) -> str:
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_configuration_of_prometheus_is_valid() -> None:
    run("promtool", "check", "config", str(DEPLOY / "prometheus.yml"))


def test_the_rules_do_what_their_tests_say() -> None:
    run("promtool", "test", "rules", "tests/observability/rules_test.yml")


def test_every_alert_is_tested_and_documented() -> None:
    tests, page = read("tests/observability/rules_test.yml"), read("docs/metrics.md")
    assert len(ALERTS) >= 6
    for alert in ALERTS:
        assert f"alertname: {alert}\n        exp_alerts:\n" in tests, alert
        assert f"| `{alert}` |" in page, alert


def test_the_configuration_of_the_alertmanager_is_valid() -> None:
    run("amtool", "check-config", str(DEPLOY / "alertmanager.yml"))


@pytest.mark.parametrize(("severity", "receiver"), [("page", "pager"), ("ticket", "tracker")])
def test_an_alert_goes_to_the_receiver_of_its_severity(severity: str, receiver: str) -> None:
    config = f"--config.file={DEPLOY / 'alertmanager.yml'}"
    assert run("amtool", "config", "routes", "test", config, f"severity={severity}").strip() == receiver


def test_containers_get_the_files_and_pinned_images() -> None:
    text = read("docker-compose.observability.yml")
    images = re.findall(r"^    image: (\S+)$", text, re.MULTILINE)
    assert len(images) == 4
    assert all(re.fullmatch(r"[\w/]+:v?\d+\.\d+\.\d+(@sha256:[0-9a-f]{64})?", each) for each in images)
    sources = re.findall(r"^      - (\./[^:]+):", text, re.MULTILINE)
    assert len(sources) == 5
    assert all((ROOT / each).exists() for each in sources)
    # Prometheus scrapes the port that the services get.
    assert "METRICS_PORT: 9000" in text
    assert re.findall(r"-service:(\d+)", read("deploy/observability/prometheus.yml")) == ["9000", "9000"]


def test_the_dashboard_is_provisioned_and_uses_the_data_source() -> None:
    dashboard = json.loads((DEPLOY / "grafana" / "dashboards" / "twinlatch.json").read_text(encoding="utf-8"))
    sources = read("deploy/observability/grafana/provisioning/datasources/datasources.yml")
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    assert {panel["datasource"]["uid"] for panel in panels} == set(re.findall(r"uid: (prometheus)", sources))
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    cells: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        columns, rows = (range(place[at], place[at] + place[size]) for at, size in (("x", "w"), ("y", "h")))
        taken = set(itertools.product(columns, rows))
        assert max(x for x, _ in taken) < 24
        assert not taken & cells, panel["title"]
        cells |= taken
    mounted = read("docker-compose.observability.yml")
    folder = re.findall(r"path: (\S+?)}", read("deploy/observability/grafana/provisioning/dashboards/dashboards.yml"))
    assert f"grafana/dashboards:{folder[0]}:ro" in mounted
