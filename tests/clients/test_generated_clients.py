"""Clients that are generated from the committed OpenAPI documents compile, and work with the running services."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from testkit.processes import Services
from tests.clients.packages import FOLDER, NODE, NODE_MODULES, command
from tests.launcher.launching import ROOT

NAMES = {"users": "user-service", "products": "product-service"}


def run(words: Sequence[object], folder: Path, environment: Mapping[str, str] | None = None) -> str:
    """Run a program that must succeed; returns its output."""
    result = subprocess.run(
        [str(word) for word in words],
        cwd=folder,
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        timeout=240,
        check=False,
    )
    assert result.returncode == 0, result.stdout
    return result.stdout


@pytest.fixture
def python_clients(tmp_path: Path) -> Path:
    """A folder with the two generated packages."""
    skipped = ""
    for name, service in NAMES.items():
        generate = [
            *("generate", "--config", FOLDER / "openapi-python-client.yaml", "--meta", "none"),
            *("--path", ROOT / service / "openapi.json", "--output-path", tmp_path / f"twinlatch_{name}"),
        ]
        skipped += run([sys.executable, "-m", "openapi_python_client", *generate], tmp_path)
    # See openapi-python-client.yaml.
    assert re.findall(r"WARNING .*|Unsupported .*", skipped) == [
        "WARNING parsing POST /products/import within products.",
        "Unsupported content type application/x-ndjson",
    ]
    return tmp_path


def test_every_module_of_the_python_clients_can_be_imported(python_clients: Path) -> None:
    modules = [
        path.relative_to(python_clients).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")
        for path in python_clients.rglob("*.py")
    ]
    assert len(modules) > 50
    run([sys.executable, "-c", "\n".join(f"import {module}" for module in modules)], python_clients)


def test_the_python_clients_type_check_and_work(python_clients: Path, services: Services) -> None:
    program = FOLDER / "use_python_client.py"
    environment = {"MYPYPATH": str(python_clients), "PYTHONPATH": str(python_clients)}
    words = ["--strict", "--config-file=", "--follow-imports=silent", f"--cache-dir={python_clients / 'cache'}"]
    run([sys.executable, "-m", "mypy", *words, program], python_clients, environment)
    urls = (services.users.url, services.products.url)
    assert run([sys.executable, program, *urls], python_clients, environment) == "done\n"


@pytest.fixture
def typescript_client(tmp_path: Path) -> Path:
    """A folder with the generated types and the program that uses them."""
    for name, service in NAMES.items():
        run(command("openapi-typescript", ROOT / service / "openapi.json", "-o", tmp_path / f"{name}.ts"), FOLDER)
    for name in ("use_typescript_client.ts", "tsconfig.json", "package.json"):
        shutil.copy(FOLDER / name, tmp_path)
    (tmp_path / "node_modules").symlink_to(NODE_MODULES, target_is_directory=True)
    return tmp_path


def test_the_typescript_client_compiles_and_works(typescript_client: Path, services: Services) -> None:
    run(command("typescript", "-p", typescript_client), typescript_client)
    program = typescript_client / "out" / "use_typescript_client.js"
    assert run([NODE, program, services.users.url, services.products.url], typescript_client) == "done\n"


def test_a_wrong_field_does_not_compile(typescript_client: Path) -> None:
    program = typescript_client / "use_typescript_client.ts"
    text = program.read_text(encoding="utf-8")
    assert text.count("quantity: 3") == 1
    program.write_text(text.replace("quantity: 3", 'quantity: "3"'), encoding="utf-8")
    with pytest.raises(AssertionError, match="Type 'string' is not assignable to type 'number'"):
        run(command("typescript", "-p", typescript_client), typescript_client)
