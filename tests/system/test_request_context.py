"""Request ids and traces in the logs of both services."""

import secrets
from typing import Any

import pytest

from testkit.processes import Services

DRAFT = {"name": "Lamp", "price": "19.99", "quantity": 3}


def logged(services: Services, request_id: str) -> dict[str, Any]:
    """The log lines of both services for one protected request; fails if one is missing."""
    found = {}
    for service, route in ((services.products, "/products"), (services.users, "/validate-token")):
        found[route] = service.wait_for_log_line("request", request_id=request_id, route=route)
    asked = services.products.wait_for_log_line("called user-service", request_id=request_id)
    return {**found, "asked": asked}


def test_both_logs_have_the_request_id_and_the_trace_id(services: Services) -> None:
    owner = services.sign_up()
    request_id, trace_id = secrets.token_hex(8), secrets.token_hex(16)
    headers = {"X-Request-ID": request_id, "traceparent": f"00-{trace_id}-{secrets.token_hex(8)}-01"}
    with services.products.client(headers=owner.bearer) as client:
        assert client.post("/products", json=DRAFT, headers=headers).status_code == 201
    for line in logged(services, request_id).values():
        assert line["trace_id"] == trace_id


@pytest.mark.parametrize("traceparent", [None, "hunter2", f"00-{'0' * 32}-{'1' * 16}-01"])
def test_a_missing_or_malformed_traceparent_is_not_logged(services: Services, traceparent: str | None) -> None:
    owner = services.sign_up()
    with services.products.client(headers=owner.bearer) as client:
        answer = client.post("/products", json=DRAFT, headers={"traceparent": traceparent} if traceparent else {})
    assert answer.status_code == 201
    for line in logged(services, answer.headers["x-request-id"]).values():
        assert "trace_id" not in line
    assert "hunter2" not in services.products.log + services.users.log
