"""The resources of deploy/kubernetes that need an operator, against the types of the operators' APIs.

Their definitions are in npm packages, made from the Go types of each operator. The TypeScript compiler finds unknown
fields, and the packages' own validation finds wrong values.
"""

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.clients.packages import NODE, NODE_MODULES, command
from tests.kubernetes.manifests import CUSTOM_KINDS, Overlay, Resource

PACKAGES = {
    "gateway.networking.k8s.io/v1": "gateway-api",
    "monitoring.coreos.com/v1": "prometheus-operator",
    "postgresql.cnpg.io/v1": "cloudnative-pg",
}
"""The package of @kubernetes-models that has the types of an API."""


@pytest.fixture(scope="module")
def resources() -> list[Resource]:
    return Overlay("production").of_kind(*CUSTOM_KINDS)


def errors(resources: Sequence[Resource], folder: Path) -> str:
    """What the compiler or the validation says against the resources."""
    lines = []
    for number, each in enumerate(resources):
        package = f"@kubernetes-models/{PACKAGES[each['apiVersion']]}/{each['apiVersion']}/{each['kind']}"
        lines.append(f"import {{ {each['kind']} as Kind{number} }} from {json.dumps(package)};")
        fields = {name: value for name, value in each.items() if name not in ("apiVersion", "kind")}
        lines.append(f"new Kind{number}({json.dumps(fields)}).validate();")
    (folder / "resources.ts").write_text("\n".join(lines), encoding="utf-8")
    (folder / "package.json").write_text('{"type": "module"}', encoding="utf-8")
    (folder / "node_modules").symlink_to(NODE_MODULES)
    options = [
        "--strict",
        "--skipLibCheck",
        "--module",
        "NodeNext",
        "--target",
        "ES2022",
        "--outDir",
        "out",
        "resources.ts",
    ]
    for words in (command("typescript", *options), [str(NODE), "out/resources.js"]):
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
        if done.returncode != 0:
            return done.stdout + done.stderr
    return ""


def test_all_custom_resources_are_valid(resources: list[Resource], tmp_path: Path) -> None:
    assert {each["kind"] for each in resources} == CUSTOM_KINDS
    assert errors(resources, tmp_path) == ""


def test_an_unknown_field_is_an_error(resources: list[Resource], tmp_path: Path) -> None:
    (cluster, *_) = (each for each in resources if each["kind"] == "Cluster")
    misspelt = {**cluster, "spec": {**cluster["spec"], "instanzes": 3}}
    assert "'\"instanzes\"' does not exist" in errors([misspelt], tmp_path)


def test_a_wrong_value_is_an_error(resources: list[Resource], tmp_path: Path) -> None:
    (route, *_) = (each for each in resources if each["kind"] == "HTTPRoute")
    backend = {"backendRefs": [{"name": "user-service", "port": 80_010}]}
    wrong = {**route, "spec": {**route["spec"], "rules": [backend]}}
    assert "port must be <= 65535" in errors([wrong], tmp_path)
