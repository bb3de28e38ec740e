"""The other commands of `dev.py`."""

import ast
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.launcher.launching import (
    COMMANDS,
    SERVICES,
    STANDIN_LIBRARIES,
    Terminal,
    environment_of,
    free_ports,
    ports_for_up,
    posix_only,
)
from tools import command_line

pytestmark = posix_only


def test_help_lists_every_command(standin: Path, terminal: Terminal) -> None:
    listing = terminal.dev(standin, "--help")
    assert listing.status() == 0
    assert sorted(re.findall(r"^    ([a-z-]+)\s+[A-Z]", listing.output, re.MULTILINE)) == sorted(COMMANDS)
    assert terminal.dev(standin, "test", "--help").status() == 0
    assert terminal.started[-1].output.startswith("usage: dev.py test ")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match=r"^0$"):
        command_line.parse([command, "--help"])
    assert capsys.readouterr().out.startswith(f"usage: dev.py {command} ")


def test_the_launcher_starts_in_pythons_safe_path_mode(standin: Path, terminal: Terminal) -> None:
    assert terminal.dev(standin, "--help", PYTHONSAFEPATH=1).status() == 0


def test_test_passes_all_arguments_to_pytest_and_returns_its_status(standin: Path, terminal: Terminal) -> None:
    arguments = ["-x", "--help", "-k", "this and that", "--", "up", "--data-dir"]
    started = terminal.dev(standin, "test", *arguments, STANDIN_PYTEST=5)
    assert started.status() == 5
    assert started.last_line == f"pytest {arguments} in {standin.name}"


@pytest.mark.parametrize("folders", [["clients"], ["installation", "launcher"], ["large"]])
def test_slow_tests_have_commands_of_their_own(standin: Path, terminal: Terminal, folders: list[str]) -> None:
    started = terminal.dev(standin, f"test-{folders[0]}", "-k", "fresh", STANDIN_PYTEST=5)
    assert started.status() == 5
    arguments = [*(f"tests/{folder}" for folder in folders), "-k", "fresh"]
    assert started.last_line == f"pytest {arguments} in {standin.name}"


def test_the_client_tests_need_the_npm_packages(standin: Path, terminal: Terminal) -> None:
    line = terminal.refused(standin, "test-clients", STANDIN_PACKAGES=1)
    assert line == "dev.py: The client tests need Node.js and its packages."


def test_manage_passes_all_arguments_to_the_service(standin: Path, terminal: Terminal) -> None:
    started = terminal.dev(standin, "manage", "user-service", "create-admin", "root", "--help", "--", "up")
    assert started.status() == 6
    assert started.last_line == "manage ['create-admin', 'root', '--help', '--', 'up'] in user-service"
    assert terminal.dev(standin, "manage", "product-service").status() == 6
    assert terminal.started[-1].last_line == "manage ['--help'] in product-service"


def test_bench_passes_all_arguments_and_returns_the_status(standin: Path, terminal: Terminal) -> None:
    started = terminal.dev(standin, "bench", "login-timing", "--cost", "4", "--break", STANDIN_LOGIN_TIMING=1)
    assert started.status() == 1
    assert started.last_line == f"login_timing ['--cost', '4', '--break'] in {standin.name}"
    assert terminal.dev(standin, "bench", "everything").status() == 2


def test_bench_needs_no_name_for_the_first_benchmark(standin: Path, terminal: Terminal) -> None:
    started = terminal.dev(standin, "bench", "--short", "--database", "sqlite", STANDIN_SERVICES=1)
    assert started.status() == 1
    assert started.last_line == f"services ['--short', '--database', 'sqlite'] in {standin.name}"


@pytest.mark.parametrize("command", ["prove", "fuzz", "attack"])
def test_prove_fuzz_and_attack_pass_all_arguments_on(standin: Path, terminal: Terminal, command: str) -> None:
    variable = {f"STANDIN_{command.upper()}": 1}
    started = terminal.dev(standin, command, "--database", "sqlite", "--seed", "5", **variable)
    assert started.status() == 1
    assert started.last_line == f"{command} ['--database', 'sqlite', '--seed', '5'] in {standin.name}"


def test_browser_tests_and_screenshots_need_chromium(standin: Path, terminal: Terminal) -> None:
    programs = terminal.folder / "programs"
    programs.mkdir()
    for command in ("test-browser", "screenshots"):
        line = terminal.refused(standin, command, PATH=programs)
        assert line == "dev.py: This needs a browser: install the package chromium."
    (programs / "chromium").write_text("#!/bin/sh\n")
    (programs / "chromium").chmod(0o755)
    started = terminal.dev(standin, "test-browser", "-k", "tour", PATH=programs, STANDIN_PYTEST=5)
    assert started.status() == 5
    assert started.last_line == f"pytest ['tests/browser', '-n', '0', '-k', 'tour'] in {standin.name}"
    assert terminal.dev(standin, "screenshots", PATH=programs, STANDIN_SCREENSHOTS=7).status() == 7


def test_container_tests_need_docker(standin: Path, terminal: Terminal) -> None:
    programs = terminal.folder / "programs"
    programs.mkdir()
    refusal = "dev.py: The container tests need Docker, and no {} responds."
    assert terminal.refused(standin, "test-containers", PATH=programs) == refusal.format("Docker engine")
    docker = programs / "docker"
    for answers, missing in (("false", "Docker engine"), ('test "$1" = info', "docker compose")):
        docker.write_text(f"#!/bin/sh\n{answers}\n")
        docker.chmod(0o755)
        assert terminal.refused(standin, "test-containers", PATH=programs) == refusal.format(missing)
    docker.write_text("#!/bin/sh\ntrue\n")
    started = terminal.dev(standin, "test-containers", "-k", "tour", PATH=programs, STANDIN_PYTEST=5)
    assert started.status() == 5
    arguments = ["tests/containers", "-n", "0", "-p", "no:testkit", "-k", "tour"]
    assert started.last_line == f"pytest {arguments} in {standin.name}"


def test_windows_tests_need_a_wine_that_runs_scripts_like_windows(standin: Path, terminal: Terminal) -> None:
    programs = terminal.folder / "programs"
    programs.mkdir()
    refusal = "dev.py: The tests of the Windows scripts need wine 10 or newer on the PATH."
    assert terminal.refused(standin, "test-windows", PATH=programs) == refusal
    wine = programs / "wine"
    wine.write_text("#!/bin/sh\necho 'wine-8.0 (Debian 8.0)'\n")
    wine.chmod(0o755)
    assert terminal.refused(standin, "test-windows", PATH=programs) == refusal
    wine.write_text("#!/bin/sh\necho 'wine-10.0 (Debian 10.0)'\n")
    started = terminal.dev(standin, "test-windows", "-k", "version", PATH=programs, STANDIN_PYTEST=5)
    assert started.status() == 5
    arguments = ["tests/windows", "-n", "0", "-p", "no:testkit", "-k", "version"]
    assert started.last_line == f"pytest {arguments} in {standin.name}"


def test_check_runs_every_tool_and_names_the_failed_ones(standin: Path, terminal: Terminal) -> None:
    passed = terminal.dev(standin, "check")
    assert passed.status() == 0
    ran = [line for line in passed.output.splitlines() if " in " in line]
    expected = ["ruff ['check']", "ruff ['format', '--check']", "mypy []"]
    packages = ("libs/auth-client", "libs/chassis", "libs/testkit", "product-service", "user-service")
    expected += [f"mypy ['{package}/src', '{package}/tests']" for package in packages]
    expected += ["lint-imports []", "hadolint ['product-service/Dockerfile', 'user-service/Dockerfile']"]
    expected += ["kubernetes-validate ['--strict', '--quiet', '--no-warn', '-']"] * 2
    assert ran == [f"{tool} in {standin.name}" for tool in expected]
    assert passed.last_line == "No tag v* yet: the OpenAPI documents were not compared with a release."

    line = terminal.refused(standin, "check", STANDIN_RUFF="1 for check", STANDIN_MYPY="2 for product-service/src")
    assert line == "dev.py: Failed: ruff check, mypy product-service/src product-service/tests."
    assert "lint-imports [] in" in terminal.started[-1].output
    line = terminal.refused(standin, "check", STANDIN_KUBERNETES_VALIDATE="1")
    assert line == "dev.py: These overlays of deploy/kubernetes are invalid: development, production."
    line = terminal.refused(standin, "check", STANDIN_KUBECTL="1")
    assert line == "dev.py: kustomize can't build the overlay development."


def test_check_refuses_changes_that_break_clients_of_the_last_release(standin: Path, terminal: Terminal) -> None:
    def write(service: str, version: str, *paths: str) -> None:
        operations: dict[str, object] = {path: {"get": {"responses": {}}} for path in paths}
        text = json.dumps({"info": {"version": version}, "paths": operations})
        (standin / service / "openapi.json").write_text(text, encoding="utf-8")

    def git(*words: str) -> None:
        identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "tag.gpgSign=false"]
        subprocess.run(["git", *identity, *words], cwd=standin, check=True, capture_output=True)

    documents = [f"{service}/openapi.json" for service in SERVICES]
    for service in SERVICES:
        write(service, "1.0.0", "/kept", "/removed")
    git("init")
    try:
        git("add", *documents)
        git("commit", "-m", "The release", "--no-gpg-sign")
        git("tag", "v1.0.0")
        write("user-service", "1.1.0", "/kept", "/removed", "/new")
        compatible = terminal.dev(standin, "check")
        assert compatible.status() == 0
        assert compatible.last_line == "The OpenAPI documents are compatible with v1.0.0."
        write("product-service", "1.1.0", "/kept")
        line = terminal.refused(standin, "check")
        assert line == "dev.py: Clients of v1.0.0 break; that needs a new major version."
        assert "product-service: GET /removed was removed." in terminal.started[-1].output
        write("product-service", "2.0.0", "/kept")
        assert terminal.dev(standin, "check").status() == 0
    finally:
        shutil.rmtree(standin / ".git")


def test_fix_formats_even_if_some_findings_remain(standin: Path, terminal: Terminal) -> None:
    started = terminal.dev(standin, "fix", STANDIN_RUFF="1 for check")
    assert started.status() == 1
    assert "ruff ['check', '--fix']" in started.output
    assert "ruff ['format']" in started.output


def test_migrate_migrates_both_services_and_names_the_one_that_fails(standin: Path, terminal: Terminal) -> None:
    assert terminal.dev(standin, "migrate", "--data-dir", "here").status() == 0
    assert all((terminal.folder / "here" / service / "migrated").exists() for service in SERVICES)
    line = terminal.refused(standin, "migrate", STANDIN_PRODUCT="fail to migrate")
    assert line == "dev.py: The database of the product-service could not be migrated."


def test_revision_passes_the_message_and_returns_the_status(standin: Path, terminal: Terminal) -> None:
    started = terminal.dev(standin, "revision", "product-service", "add a colour")
    assert started.status() == 4
    assert started.last_line == "revision ['revision', 'add a colour']"


def test_openapi_writes_a_document_only_if_the_service_prints_it(standin: Path, terminal: Terminal) -> None:
    assert terminal.dev(standin, "openapi").status() == 0
    documents = [standin / service / "openapi.json" for service in SERVICES]
    assert [document.read_bytes() for document in documents] == [
        f'{{"title": "{service} é", "paths": {{}}}}\n'.encode() for service in SERVICES
    ]
    assert "user-service" in terminal.refused(standin, "openapi", STANDIN_USER="fail to describe itself")
    assert documents[0].read_bytes() == '{"title": "user-service é", "paths": {}}\n'.encode()


def test_seed_needs_running_services_and_gets_their_addresses(standin: Path, terminal: Terminal) -> None:
    ports = ports_for_up()
    assert f"does not answer at port {ports[1]}" in terminal.refused(standin, "seed", *ports)
    _, user, product = terminal.up(standin)
    seeded = terminal.dev(standin, "seed", "--user-port", user, "--product-port", product)
    assert seeded.status() == 0
    urls = [f"--users-url=http://127.0.0.1:{user}", f"--products-url=http://127.0.0.1:{product}"]
    assert seeded.last_line == f"seed {urls} in product-service"
    seeded = terminal.dev(standin, "seed", "--user-port", user, "--product-port", product, "--products", "7")
    assert seeded.status() == 0
    assert seeded.last_line == f"seed {[*urls, '--products=7']} in product-service"


def test_lock_compiles_every_lock_file_for_all_platforms_with_hashes(standin: Path, terminal: Terminal) -> None:
    started = terminal.dev(standin, "lock", "--upgrade")
    assert started.status() == 0
    ran = [ast.literal_eval(found) for found in re.findall(r"^uv (\[.*\]) in", started.output, re.MULTILINE)]
    flags = "--universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header"
    flags += "".join(f" --no-emit-package standin-{name}" for name in ("auth_client", "chassis", "testkit"))
    flags += " -q --upgrade -o"
    packages = [f"{folder}/pyproject.toml" for folder in (*STANDIN_LIBRARIES, *SERVICES)]
    commands = [
        f"pip compile --group build {flags} requirements-build.txt",
        f"pip compile --group dev {' '.join(packages)} --all-extras {flags} requirements-dev.txt",
        f"pip compile --group audit {flags} requirements-audit.txt",
        f"pip compile --group load {flags} requirements-load.txt",
    ] + [
        f"pip compile {name}/pyproject.toml --all-extras -c requirements-dev.txt {flags} {name}/requirements.txt"
        for name in SERVICES
    ]
    assert ran == [command.split() for command in commands]


def test_serve_is_replaced_by_the_service_process(standin: Path, terminal: Terminal) -> None:
    port, _ = free_ports()
    started = terminal.start(
        standin / "start-product-service.sh", PORT=port, USER_SERVICE_URL="http://users:1", EMPTY=""
    )
    started.serves(port)
    environment = environment_of(port)
    assert environment["PID"] == started.process.pid
    assert (environment["USER_SERVICE_URL"], environment["EMPTY"]) == ("http://users:1", "")
    assert terminal.dev(standin, "serve", "user-service", STANDIN_USER="refuse to start").status() == 2


@pytest.mark.parametrize(
    "words",
    [["upp"], [], ["serve", "stock-service"], ["up", "--user-port", "70000"], ["seed", "--user-port", "x"]],
    ids=" ".join,
)
def test_a_mistyped_command_prints_its_usage_and_exits_with_2(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match=r"^2$"):
        command_line.parse(words)
    assert capsys.readouterr().err.startswith("usage: dev.py")
