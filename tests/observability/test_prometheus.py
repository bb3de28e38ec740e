"""A real Prometheus and Alertmanager, which observe both services while everything happens that is measured."""

import json
import math
import os
import re
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest

from testkit.processes import Services, eventually, free_port, services_in
from tests.observability.observers import DEPLOY, Prometheus, alertmanager, prometheus
from tests.observability.test_rules import ALERTS
from tests.processes.test_metrics import alive, restart_workers, stop

PANELS = json.loads((DEPLOY / "grafana" / "dashboards" / "twinlatch.json").read_text(encoding="utf-8"))["panels"]
EXPRESSIONS = [(panel["title"], each["expr"]) for panel in PANELS for each in panel.get("targets", ())]
WORKERS = 2
PASSWORD = "correct horse battery staple"
REQUESTS = 'sum(http_server_request_duration_seconds_count{job="user-service", route="/me"})'


@dataclass(frozen=True)
class Observed:
    services: Services
    prometheus: Prometheus
    alertmanager: str


@pytest.fixture(scope="module")
def observed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observed]:
    folder = tmp_path_factory.mktemp("observed")
    ports = {"user-service": free_port(), "product-service": free_port()}
    with services_in(folder, WORKERS=str(WORKERS)) as services:
        for service in (services.users, services.products):
            service.environment["METRICS_PORT"] = str(ports[service.name])
            service.start()
        for service in (services.users, services.products):
            service.wait_ready()
        targets = {f"{name}:9000": f"127.0.0.1:{port}" for name, port in ports.items()}
        with (
            alertmanager(folder / "alertmanager") as alerts,
            prometheus(folder / "prometheus", targets, alerts) as server,
        ):
            for name in ("ada", "bob"):  # Twice, because a rate does not see the first value of a series.
                cause_everything(services, server, name)
                server.scrape_again()
            yield Observed(services, server, alerts)
        stop(services.users)
        stop(services.products)


def cause_everything(services: Services, server: Prometheus, name: str) -> None:
    """Requests of all kinds: protected ones, refused logins, a reused refresh token, an outage of the user service."""
    owner = services.sign_up(name)
    services.create_product(owner)
    with services.users.client() as client, services.products.client(headers=owner.bearer) as products:
        for _ in range(20):
            products.get("/products")
        assert client.post("/login", json={"username": name, "password": "wrong"}).status_code == 401
        tokens = client.post("/login", json={"username": name, "password": PASSWORD}).json()
        first = tokens["refresh_token"]
        second = client.post("/refresh", json={"refresh_token": first}).json()["refresh_token"]
        client.post("/refresh", json={"refresh_token": second})
        assert client.post("/refresh", json={"refresh_token": first}).status_code == 401
        server.scrape_again()  # What the user service counted is lost with its process.
        services.users.stop()
        assert products.post("/products", json={"name": "Lamp", "price": "1", "quantity": 1}).status_code == 503
        services.users.start().wait_ready()


def test_both_services_are_scraped(observed: Observed) -> None:
    assert observed.prometheus.query("sum by (job) (up)") == {"job=product-service": 1, "job=user-service": 1}
    validations = observed.prometheus.query("sum by (outcome) (token_validation_duration_seconds_count)")
    assert validations == {"outcome=valid": 2, "outcome=unavailable": 2, "outcome=refused": 0, "outcome=cancelled": 0}


@pytest.mark.parametrize(("title", "expression"), EXPRESSIONS, ids=[title for title, _ in EXPRESSIONS])
def test_every_expression_of_the_dashboard_returns_data(observed: Observed, title: str, expression: str) -> None:
    values = observed.prometheus.query(expression.replace("$__rate_interval", "5m")).values()
    assert any(not math.isnan(value) for value in values), title


def test_labels_have_few_values(observed: Observed) -> None:
    with observed.services.products.client() as client:
        for number in range(50):
            client.get(f"/products/{number}")
            client.get(f"/unknown-{number}")
            client.request(f"X{number}", "/products")
    observed.prometheus.scrape_again()
    names = ("method", "route", "status", "outcome", "reason", "pool", "worker")
    for name in names:
        values = observed.prometheus.get(f"label/{name}/values")
        assert 0 < len(values) < 40, values
        assert not [each for each in values if re.search(r"unknown-|X\d|/\d", each)], values


def test_counters_never_fall_when_workers_are_killed_and_replaced(observed: Observed) -> None:
    users, server = observed.services.users, observed.prometheus

    def request(number: int) -> None:
        for _ in range(number):
            with users.client() as client:
                client.get("/me")

    begin = time.time()
    request(10)
    server.scrape_again()
    before = server.value(REQUESTS)
    assert before is not None
    [killed, *_] = alive(users)
    os.kill(killed, signal.SIGKILL)
    eventually(lambda: len(alive(users) - {killed}) == WORKERS, 60, "the killed worker is replaced")
    request(10)
    restart_workers(users)
    request(10)
    server.scrape_again()
    assert server.value(REQUESTS) == before + 20
    window = f"[{math.ceil(time.time() - begin)}s]"
    assert server.value(f"sum(resets(http_server_request_duration_seconds_count{{job='user-service'}}{window}))") == 0


def test_a_reused_refresh_token_raises_an_alert_that_reaches_the_alertmanager(observed: Observed) -> None:
    def alert() -> dict[str, str] | None:
        found = httpx.get(f"{observed.alertmanager}/api/v2/alerts", trust_env=False).json()
        return next((each for each in found if each["labels"]["alertname"] == "RefreshTokenReused"), None)

    sent = eventually(alert, 30, "the alert has been sent")
    assert sent["labels"]["job"] == "user-service"  # type: ignore[index]
    assert [each["name"] for each in sent["receivers"]] == ["tracker"]  # type: ignore[index]


def test_prometheus_evaluates_all_rules(observed: Observed) -> None:
    groups = observed.prometheus.get("rules")["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert {rule["health"] for rule in rules} == {"ok"}
    assert {rule["name"] for rule in rules if rule["type"] == "alerting"} == set(ALERTS)
