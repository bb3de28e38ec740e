"""`tools.compatibility`: changes of the OpenAPI documents that break clients are found, and no others."""

import copy
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.launcher.launching import ROOT
from tools.compatibility import breaking_changes, document_of, is_new_major_version, last_release

DOCUMENTS = {
    name: json.loads((ROOT / f"{name}-service" / "openapi.json").read_text("utf-8")) for name in ("user", "product")
}
Change = Callable[[dict[str, Any]], object]


def operation(document: dict[str, Any], name: str) -> dict[str, Any]:
    method, path = name.split(" ")
    found: dict[str, Any] = document["paths"][path][method.lower()]
    return found


def schema(document: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = document["components"]["schemas"][name]
    return found


def parameter(document: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(
        each for each in operation(document, "GET /products")["parameters"] if each["name"] == name
    )
    return found


def changes(name: str, change: Change) -> list[str]:
    changed = copy.deepcopy(DOCUMENTS[name])
    change(changed)
    assert changed != DOCUMENTS[name]
    return breaking_changes(DOCUMENTS[name], changed)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda d: d["paths"].pop("/products/export"), "GET /products/export was removed."),
        (
            lambda d: operation(d, "GET /products")["parameters"].pop(0),
            "GET /products: the parameter sort was removed.",
        ),
        (lambda d: parameter(d, "limit").update(required=True), "GET /products: the parameter limit is required."),
        (
            lambda d: parameter(d, "limit")["schema"].update(maximum=50),
            "GET /products: the parameter limit has another maximum.",
        ),
        (
            lambda d: parameter(d, "sort")["schema"]["enum"].remove("name"),
            "GET /products: the parameter sort has other values.",
        ),
        (
            lambda d: operation(d, "POST /products/import")["requestBody"]["content"].pop("text/csv"),
            "POST /products/import: a body of text/csv is not documented any more.",
        ),
        (
            lambda d: schema(d, "ProductCreate")["required"].append("currency"),
            "POST /products: the body/currency is required.",
        ),
        (
            lambda d: schema(d, "ProductCreate")["properties"].pop("sku"),
            "POST /products: the body/sku was removed.",
        ),
        (
            lambda d: schema(d, "ProductCreate")["properties"]["price"]["anyOf"].pop(0),
            "POST /products: the body/price has another type, number or string.",
        ),
        (
            lambda d: operation(d, "POST /products")["responses"].pop("201"),
            "POST /products: the status 201 was removed.",
        ),
        (
            lambda d: operation(d, "GET /products")["responses"]["200"]["headers"].pop("Link"),
            "GET /products: the header Link of 200 was removed.",
        ),
        (
            lambda d: operation(d, "POST /products")["responses"]["409"]["content"]["application/problem+json"][
                "examples"
            ].pop("sku-taken"),
            "POST /products: the code sku-taken of 409 was removed.",
        ),
        (
            lambda d: schema(d, "ProductRead")["required"].remove("version"),
            "GET /products: the response 200/*/version may be absent.",
        ),
        (
            lambda d: schema(d, "ProductRead")["properties"].update(id={"type": "string"}),
            "GET /products: the response 200/*/id has another type, string or integer.",
        ),
        (
            lambda d: schema(d, "ProductChange")["properties"]["action"]["enum"].append("archived"),
            "GET /products/{product_id}/history: the response 200/*/action has other values.",
        ),
    ],
)
def test_a_breaking_change_is_found(change: Change, sentence: str) -> None:
    assert sentence in changes("product", change)


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d["paths"].update({"/brands": {"get": {"responses": {}}}}),
        lambda d: schema(d, "ProductCreate")["properties"].update(weight={"type": "integer"}),
        lambda d: schema(d, "ProductCreate")["required"].remove("quantity"),
        lambda d: schema(d, "ProductCreate")["properties"]["name"].update(maxLength=500),
        lambda d: schema(d, "ProductRead")["properties"].update(weight={"type": "integer"}),
        lambda d: parameter(d, "sort")["schema"]["enum"].append("weight"),
        lambda d: parameter(d, "limit")["schema"].update(type="number"),
        lambda d: operation(d, "POST /products").update(summary="Add a product"),
    ],
)
def test_other_changes_are_compatible(change: Change) -> None:
    assert changes("product", change) == []


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_document_is_compatible_with_itself(name: str) -> None:
    assert breaking_changes(DOCUMENTS[name], copy.deepcopy(DOCUMENTS[name])) == []


def test_the_last_release_is_the_highest_version_before_the_commit(tmp_path: Path) -> None:
    def git(*words: str) -> None:
        identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "tag.gpgSign=false"]
        subprocess.run(["git", *identity, *words], cwd=tmp_path, check=True, capture_output=True)

    assert last_release(tmp_path) is None
    git("init")
    assert last_release(tmp_path) is None
    for version in ("9.0.0", "10.1.0"):
        document = {"info": {"version": version}}
        (tmp_path / "openapi.json").write_text(json.dumps(document), encoding="utf-8")
        git("add", ".")
        git("commit", "-m", version)
        assert last_release(tmp_path) == (None if version == "9.0.0" else "v9.0.0")
        git("tag", f"v{version}")
    git("tag", "v10.2.0-rc.1")
    assert last_release(tmp_path) == "v10.1.0"
    old, new = document_of(tmp_path, "v9.0.0", "openapi.json"), document_of(tmp_path, "v10.1.0", "openapi.json")
    assert old is not None
    assert new == {"info": {"version": "10.1.0"}}
    assert is_new_major_version(old, new)
    assert not is_new_major_version(new, {"info": {"version": "10.2.0"}})
    assert document_of(tmp_path, "v9.0.0", "other.json") is None
    git("checkout", "-b", "maintenance", "v9.0.0")
    assert last_release(tmp_path) == "v9.0.0"
