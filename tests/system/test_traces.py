"""The spans that both services export, as a collector receives them."""

import re
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from chassis.http.tracing import FLUSH_TIMEOUT
from testkit.databases import Databases
from testkit.processes import Service, Services, eventually, free_port, problem, running_services
from testkit.traces import Receiver, Span, as_text, finished, receiving
from tests.documents import ROOT

SOON = {"OTEL_BSP_SCHEDULE_DELAY": "100"}  # milliseconds between two exports
KEY = "a-key-of-the-product-service-for-these-tests"
SECRET = "hunter2-must-never-be-printed-anywhere"
CREDENTIALS = {"username": "ada", "password": "correct horse battery staple"}


@dataclass(frozen=True)
class Traced:
    receiver: Receiver
    services: Services


@pytest.fixture(scope="module")
def traced(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traced]:
    """Both services, which export their spans."""
    folder = tmp_path_factory.mktemp("traced")
    with receiving() as receiver, databases.made() as new_database:
        settings = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"{receiver.url}/",
            "SERVICE_KEYS": f"product-service:{KEY}",
            "SERVICE_KEY": KEY,
            **SOON,
        }
        with running_services(folder, lambda: new_database(None), **settings) as services:
            yield Traced(receiver, services)


def new_trace() -> tuple[str, str, dict[str, str]]:
    """The ids of a trace and of the client's span, and the header that tells them."""
    trace_id, span_id = secrets.token_hex(16), secrets.token_hex(8)
    return trace_id, span_id, {"traceparent": f"00-{trace_id}-{span_id}-01"}


def wait_for(receiver: Receiver, trace_id: str, *names: str) -> list[Span]:
    """Wait until the spans with these names have arrived; returns all of the trace."""

    def found() -> list[Span] | None:
        spans = [span for span in receiver.spans if span.trace_id == trace_id]
        return spans if {span.name for span in spans} >= set(names) else None

    return eventually(found, what=lambda: f"{names} among {[span.name for span in receiver.spans]}")


def named(spans: list[Span], service: str, name: str) -> Span:
    (span,) = (each for each in spans if (each.service, each.name) == (service, name))
    return span


def test_a_protected_write_is_one_trace_from_the_client_to_both_databases(traced: Traced, backend: str) -> None:
    owner = traced.services.sign_up()
    product = traced.services.create_product(owner)
    trace_id, clients_span, headers = new_trace()
    with traced.services.products.client(headers={**owner.bearer, **headers}) as client:
        assert client.put(f"/products/{product['id']}", json={"price": "24.50"}).status_code == 200
    spans = wait_for(traced.receiver, trace_id, "PUT /products/{product_id}", "SELECT users")

    request = named(spans, "product-service", "PUT /products/{product_id}")
    call = named(spans, "product-service", "POST /validate-token")
    validation = named(spans, "user-service", "POST /validate-token")
    assert request.parent_id == clients_span
    assert call.parent_id == request.id
    assert validation.parent_id == call.id
    assert named(spans, "user-service", "SELECT users").parent_id == validation.id
    assert named(spans, "product-service", "UPDATE products").parent_id == request.id
    assert request.attributes.items() >= {
        ("http.request.method", "PUT"),
        ("http.route", "/products/{product_id}"),
        ("http.response.status_code", 200),
    }
    assert (call.attributes["validation.outcome"], call.attributes["validation.tries"]) == ("valid", 1)
    update = named(spans, "product-service", "UPDATE products").attributes
    assert (update["db.system.name"], update["db.operation.name"]) == (backend, "UPDATE")
    assert "SET" in update["db.query.text"]
    for service, route in (
        (traced.services.products, request.attributes["http.route"]),
        (traced.services.users, "/validate-token"),
    ):
        service.wait_for_log_line("request", trace_id=trace_id, route=route)
    if backend == "sqlite":
        assert shape(as_text(spans)) in shape((ROOT / "docs" / "tracing.md").read_text(encoding="utf-8"))


def shape(text: str) -> str:
    """A trace as text, without its times."""
    return re.sub(r"^ *\d+\.\d+ +\d+\.\d+  ", "", text, flags=re.MULTILINE)


def test_the_command_prints_a_trace_once_all_of_it_has_arrived(traced: Traced) -> None:
    trace_id, _, headers = new_trace()
    with traced.services.products.client(headers=headers) as client:
        assert client.get("/products/1").status_code in (200, 404)
    wait_for(traced.receiver, trace_id, "GET /products/{product_id}")
    trace = next(spans for spans in finished(traced.receiver, quiet=0) if spans[0].trace_id == trace_id)
    assert re.sub("200|404", "...", shape(as_text(trace))) == (
        " start  took\nproduct-service: GET /products/{product_id} ...\n  product-service: SELECT products"
    )


@pytest.mark.parametrize("parents", [0, 2])
def test_a_request_without_one_valid_trace_starts_its_own(traced: Traced, parents: int) -> None:
    owner = traced.services.sign_up()
    sent, _, traceparent = new_trace()
    headers = [*owner.bearer.items(), *(list(traceparent.items()) * parents)]
    with traced.services.products.client(headers=headers) as client:
        request_id = client.post("/products", json={}).headers["x-request-id"]
    logged = {
        service.wait_for_log_line("request", request_id=request_id)["trace_id"]
        for service in (traced.services.products, traced.services.users)
    }
    (trace_id,) = logged
    assert trace_id != sent
    (first,) = (span for span in wait_for(traced.receiver, trace_id, "POST /products") if not span.parent_id)
    assert first.name == "POST /products"


def test_nothing_private_is_exported(traced: Traced) -> None:
    services, private = traced.services, [secrets.token_hex(8) for _ in range(12)]
    username, password, name, sku, text, query, path, key, agent, host, baggage, typo = private
    account = services.sign_up(username, password)
    trace_id, _, headers = new_trace()
    headers |= {"Idempotency-Key": key, "User-Agent": agent, "Host": f"{host}.example", "baggage": f"a={baggage}"}
    line, ndjson = f'{{"name": "{name}", "price": 1, "{typo}": 1}}', {"Content-Type": "application/x-ndjson"}
    with services.products.client(headers={**account.bearer, **headers}) as client:
        draft = {"name": name, "sku": sku, "description": text, "price": "98765.43", "quantity": 876_543_210}
        product = client.post("/products", json=draft).raise_for_status().json()
        assert client.get(f"/products?q={query}&sort=price").status_code == 200
        assert client.get(f"/products/{path}").status_code == 422
        assert client.get(f"/{path}?{query}={query}").status_code == 404
        assert client.get("/products/765432109876").status_code == 404
        assert client.post("/products/import", content=line, headers=ndjson).status_code == 200
        assert client.put(f"/products/{product['id']}", json={"sku": sku, typo: typo}).status_code == 422
    with services.users.client(headers=headers) as client:
        login = client.post("/login", json={"username": username, "password": password}).raise_for_status().json()
        assert client.post("/login", json={"username": username, "password": typo}).status_code == 401
        assert client.post("/refresh", json={"refresh_token": login["refresh_token"]}).status_code == 200
        validation = {"X-Service-Key": KEY}
        assert client.post("/validate-token", json={"token": typo}, headers=validation).json()["valid"] is False
        assert client.post("/logout", headers=account.bearer).status_code == 204
    private += [account.token, login["access_token"], login["refresh_token"], KEY, "98765.43", "876543210"]
    private += ["765432109876", "987654321", "127.0.0.1"]
    wait_for(traced.receiver, trace_id, "GET", "PUT /products/{product_id}", "POST /logout")
    exported = b"\n".join(traced.receiver.bodies)
    assert b"/products/{product_id}" in exported
    assert [each for each in private if each.encode() in exported] == []
    assert {span.name for span in traced.receiver.spans if "{" not in span.name and "/" in span.name} <= {
        *("GET /products", "POST /products", "POST /products/import", "POST /register", "POST /login", "POST /refresh"),
        *("POST /validate-token", "POST /logout"),
    }


def test_a_failed_statement_is_marked_without_the_message_of_the_database(traced: Traced) -> None:
    account = traced.services.sign_up()
    trace_id, _, headers = new_trace()
    with traced.services.users.client(headers=headers) as client:
        again = {"username": account.username, "password": account.password}
        problem(client.post("/register", json=again), 409, "username-taken")
    spans = wait_for(traced.receiver, trace_id, "POST /register")
    insert = named(spans, "user-service", "INSERT users")
    assert insert.has_failed
    assert insert.attributes["error.type"] in ("IntegrityError", "UniqueViolation")
    assert not named(spans, "user-service", "POST /register").has_failed
    assert {(span.status_message, span.events) for span in traced.receiver.spans} == {("", 0)}


def test_health_checks_have_no_spans(traced: Traced) -> None:
    probe, _, headers = new_trace()
    trace_id, _, others = new_trace()
    with traced.services.products.client() as client:
        for path in ("/health", "/health/live", "/health/ready"):
            assert client.get(path, headers=headers).status_code == 200
        assert client.get("/products", headers=others).status_code == 200
    wait_for(traced.receiver, trace_id, "GET /products")
    assert probe not in {span.trace_id for span in traced.receiver.spans}


def test_a_preflight_that_asks_for_the_headers_of_traces_is_accepted(traced: Traced) -> None:
    for service in (traced.services.users, traced.services.products):
        trace_id, _, headers = new_trace()
        headers |= {
            "Origin": "http://localhost:5174",
            "Access-Control-Request-Method": "PUT",
            "Access-Control-Request-Headers": "authorization,traceparent,tracestate",
        }
        with service.client() as client:
            answer = client.options("/products/1", headers=headers)
        assert answer.status_code == 200
        assert "tracestate" in answer.headers["access-control-allow-headers"]
        (span,) = wait_for(traced.receiver, trace_id, "OPTIONS")
        assert span.attributes["http.response.status_code"] == 200


def test_a_span_says_why_a_token_could_not_be_validated(tmp_path: Path) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    with receiving() as receiver:
        settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url, "USER_SERVICE_URL": nowhere, **SOON}
        service = Service("product-service", tmp_path, **settings)
        try:
            with service.start().wait_ready().client() as client:
                answer = client.post("/products", json={}, headers={"Authorization": "Bearer x"})
                problem(answer, 503, "auth-unavailable")
            trace_id = service.wait_for_log_line("request", route="/products")["trace_id"]
            spans = wait_for(receiver, trace_id, "POST /products")
        finally:
            service.close()
    call = named(spans, "product-service", "POST /validate-token")
    assert (call.has_failed, call.attributes["error.type"]) == (True, "no connection")
    request = named(spans, "product-service", "POST /products")
    assert (request.has_failed, request.attributes["http.response.status_code"]) == (True, 503)


def test_what_the_sampler_leaves_out_is_not_exported_but_has_a_trace_id(tmp_path: Path) -> None:
    with receiving() as receiver:
        settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url, "OTEL_TRACES_SAMPLER": "always_off"}
        service = Service("user-service", tmp_path, **settings)
        try:
            with service.start().wait_ready().client() as client:
                assert client.post("/register", json=CREDENTIALS).status_code == 201
            assert re.fullmatch("[0-9a-f]{32}", service.wait_for_log_line("request", route="/register")["trace_id"])
            service.stop()
        finally:
            service.close()
    assert receiver.bodies == []


def test_a_collector_that_is_away_costs_no_request_and_one_log_line(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_EXPORTER_OTLP_TIMEOUT": "1", **SOON}
    settings["OTEL_EXPORTER_OTLP_HEADERS"] = SECRET  # Malformed: a header has a name.
    service = Service("user-service", tmp_path, **settings)
    warning = "the collector at OTEL_EXPORTER_OTLP_ENDPOINT took no spans; they are lost"
    try:
        with service.start().wait_ready().client() as client:
            assert client.get("/me").status_code == 401
            assert service.wait_for_log_line(warning)["level"] == "warning"
            for _ in range(20):
                assert client.get("/me").status_code == 401
        service.stop()
    finally:
        service.close()
    assert service.log.count(warning) == 1
    assert not [text for text in ("Traceback", url, SECRET) if text in service.log]
    assert {line["level"] for line in service.log_lines} == {"info", "warning"}


def test_a_collector_that_hangs_delays_neither_requests_nor_the_end_of_the_service(tmp_path: Path) -> None:
    with receiving() as receiver:
        receiver.delay = 60
        settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url, "OTEL_EXPORTER_OTLP_TIMEOUT": "60", **SOON}
        service = Service("user-service", tmp_path, **settings)
        try:
            with service.start().wait_ready().client() as client:
                for _ in range(20):
                    assert client.get("/me").status_code == 401
            started = time.monotonic()
            service.stop()
            # The SDK alone would wait for half a minute.
            assert time.monotonic() - started < FLUSH_TIMEOUT + 15
        finally:
            service.close()
    assert max(line["duration_ms"] for line in service.log_lines if line["message"] == "request") < 10_000
