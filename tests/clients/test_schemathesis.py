"""Both services against their OpenAPI documents: schemathesis generates the requests and runs all of its checks."""

import subprocess
import sys
from pathlib import Path

import pytest

from testkit.processes import Services

CONFIGURATION = """
# A schema can't say which currencies exist, nor how many decimals each has. So a product that is valid by the schema
# may be rejected for these two reasons. (tests/system/bad_input tests the others.)
[[operations]]
include-name = ["POST /products", "PUT /products/{product_id}", "PATCH /products/{product_id}"]
checks.positive_data_acceptance.expected-statuses = ["2xx", "401", "403", "404", "409", "412", "422"]

# A schema can't generate a cursor, nor say that two prices form a range, or what a word is. And the condition headers
# that schemathesis sends don't always match their schema.
[[operations]]
include-name = [
    "GET /users", "GET /users/{user_id}/sessions", "GET /sessions", "GET /products", "GET /products/{product_id}",
    "DELETE /products/{product_id}", "POST /products/{product_id}/stock",
]
checks.positive_data_acceptance.expected-statuses = ["2xx", "304", "401", "403", "404", "409", "412", "422"]

# Of a parameter that is sent twice, the last value counts.
[[operations]]
include-name = ["GET /users", "GET /users/{user_id}/sessions", "GET /sessions", "GET /products"]
checks.negative_data_rejection.expected-statuses = ["2xx", "400", "401", "403", "422"]

# A form with wrong credentials is a 400, as in OAuth2.
[[operations]]
include-name = "POST /login"
checks.positive_data_acceptance.expected-statuses = ["2xx", "400"]

# The history outlives the product.
[[operations]]
include-name = ["GET /products/{product_id}/history"]
checks.use_after_free.enabled = false
checks.positive_data_acceptance.expected-statuses = ["2xx", "401", "403", "404", "422"]

# The schema of a file is any text, but not every text is an importable file.
[[operations]]
include-name = "GET /products/export"
checks.positive_data_acceptance.expected-statuses = ["2xx", "401", "422"]
[[operations]]
include-name = "POST /products/import"
checks.positive_data_acceptance.expected-statuses = ["2xx", "401", "422"]
checks.negative_data_rejection.expected-statuses = ["2xx", "400", "401", "413", "415", "422"]

# These end the session that all the requests are made with.
[[operations]]
include-path = ["/logout", "/logout-all"]
enabled = false
"""

PROGRAM = """
import schemathesis
from schemathesis.cli import schemathesis as command_line

@schemathesis.serializer("application/x-ndjson", "text/csv")
def unchanged(context, text):
    return str(text).encode()

command_line()
"""


@pytest.mark.parametrize("name", ["users", "products"])
def test_a_service_conforms_to_its_document(services: Services, name: str, tmp_path: Path) -> None:
    service = getattr(services, name)
    # The sessions with small ids belong to other accounts, so a generated id does not revoke the session in use.
    for _ in range(10):
        services.sign_up()
    account = services.sign_up()
    services.users.sql("UPDATE users SET is_admin = true WHERE id = :id", id=account.id)
    services.create_product(account)
    (tmp_path / "schemathesis.toml").write_text(CONFIGURATION, encoding="utf-8")
    run = subprocess.run(
        [
            *(sys.executable, "-c", PROGRAM),
            *("--config-file", "schemathesis.toml", "run", f"{service.url}/openapi.json"),
            *("--checks", "all", "--generation-deterministic", "--max-examples", "5", "--continue-on-failure"),
            *("--header", f"Authorization: Bearer {account.token}", "--no-color"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    answered = {(line["method"], line["route"], line["status"]) for line in service.log_lines if "route" in line}
    # Requests got past authentication and validation: operations succeeded, and rejected requests, too.
    successes = {
        "users": {
            *(("POST", "/register", 201), ("POST", "/validate-token", 200), ("GET", "/me", 200)),
            *(("GET", "/sessions", 200), ("GET", "/users", 200), ("GET", "/users/{user_id}", 200)),
            ("PATCH", "/users/{user_id}", 200),
        },
        "products": {
            ("POST", "/products", 201),
            ("GET", "/products", 200),
            ("PUT", "/products/{product_id}", 200),
            ("PATCH", "/products/{product_id}", 200),
            ("POST", "/products/{product_id}/stock", 200),
            ("GET", "/products/{product_id}/history", 200),
            *(("GET", "/products/export", 200), ("POST", "/products/import", 200)),
            ("DELETE", "/products/{product_id}", 204),
        },
    }[name]
    assert answered >= successes
    assert len({status for _, _, status in answered}) >= 6
    assert not [status for _, _, status in answered if status >= 500]
