"""Architecture rules that neither import-linter nor the type checker can check."""

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from inspect import iscoroutinefunction
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute, iter_route_contexts

from product_service import main as product_service
from user_service import main as user_service

ROOT = Path(__file__).parents[1]
SOURCES = {
    path.relative_to(ROOT).as_posix().rpartition("/src/")[2]: ast.parse(path.read_text(encoding="utf-8"))
    for sources in (*ROOT.glob("*-service/src"), *ROOT.glob("libs/*/src"))
    for path in sorted(sources.rglob("*.py"))
    if "testkit" not in path.parts
}
MODULES = [module.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for module in SOURCES]
LOCKS = [
    ROOT / "requirements-build.txt",
    ROOT / "requirements-dev.txt",
    ROOT / "user-service" / "requirements.txt",
    ROOT / "product-service" / "requirements.txt",
]


def places(matches: Callable[[ast.AST], bool]) -> list[str]:
    """The modules with matching syntax nodes, once for each match."""
    return [module for module, tree in SOURCES.items() for node in ast.walk(tree) if matches(node)]


def calls(name: str) -> Callable[[ast.AST], bool]:
    return lambda node: (
        isinstance(node, ast.Call)
        and (getattr(node.func, "attr", None) == name or getattr(node.func, "id", None) == name)
    )


def imports(package: str) -> Callable[[ast.AST], bool]:
    def matches(node: ast.AST) -> bool:
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
        return any(f"{name}.".startswith(f"{package}.") for name in names)

    return matches


def test_there_is_one_commit_in_the_tree() -> None:
    assert places(calls("commit")) == ["chassis/database/transactions.py"]
    # A transaction opened by a context manager would commit implicitly.
    assert set(places(calls("begin"))) <= {"chassis/database/migrations.py"}
    assert not places(lambda node: isinstance(node, ast.Constant) and str(node.value).strip().upper() == "COMMIT")


@pytest.mark.parametrize(
    ("package", "module"),
    [
        ("passlib", "user_service/security/passwords.py"),
        ("jose", "user_service/security/access_tokens.py"),
        ("limits", "chassis/rate_limits.py"),
        ("redis", "chassis/rate_limits.py"),
        ("zxcvbn", "chassis/guessing.py"),
        ("iso4217", "product_service/domain/money.py"),
        ("multipart", "product_service/api/uploads.py"),
        ("aiohttp", "auth_client/pool.py"),
        ("httpx_aiohttp", "auth_client/pool.py"),
        ("structlog", None),
        ("fastapi_offline", "chassis/http/pages.py"),
        ("opentelemetry.sdk", "chassis/http/tracing.py"),
        ("opentelemetry.exporter", "chassis/http/tracing.py"),
        ("prometheus_client", "chassis/metrics.py"),
    ],
)
def test_a_library_is_imported_in_one_module(package: str, module: str | None) -> None:
    found = set(places(imports(package)))
    assert found == {module} if module else all(each.startswith("chassis/") for each in found)


def test_httpx_is_imported_by_the_auth_client_and_the_seed_only() -> None:
    assert set(places(imports("httpx"))) - {"product_service/demo/seed.py"} == {"auth_client/pool.py"}


def test_the_api_of_opentelemetry_is_imported_where_spans_are_made() -> None:
    assert set(places(imports("opentelemetry"))) == {"chassis/http/trace_context.py", "chassis/http/tracing.py"}


def test_the_product_service_has_no_library_to_sign_or_hash() -> None:
    installed = set(re.findall(r"^([a-z0-9-]+)==", LOCKS[3].read_text(encoding="utf-8"), re.MULTILINE))
    assert installed.isdisjoint({"python-jose", "pyjwt", "joserfc", "cryptography", "libpass", "passlib", "bcrypt"})
    from product_service.settings import Settings

    assert not [name for name in Settings.model_fields if "secret" in name]


def test_the_user_service_signs_with_the_standard_library() -> None:
    """python-jose prefers cryptography if it is installed, for the same result at the cost of 8 MB of memory."""
    assert "cryptography" not in _pinned(LOCKS[2])


def test_unexpected_exceptions_are_caught_in_two_modules() -> None:
    def swallows_everything(node: ast.AST) -> bool:
        if not isinstance(node, ast.ExceptHandler):
            return False
        everything = node.type is None or getattr(node.type, "id", None) in ("Exception", "BaseException")
        last = node.body[-1]
        return everything and not (isinstance(last, ast.Raise) and last.exc is None)

    # The first turns them into a 500. The second raises them again in the task that reads the body.
    assert set(places(swallows_everything)) == {"chassis/http/middleware.py", "product_service/api/read_ahead.py"}


def test_only_the_settings_read_the_environment() -> None:
    def reads_environment(node: ast.AST) -> bool:
        names = [alias.name for alias in node.names] if isinstance(node, ast.ImportFrom) else []
        return bool({"environ", "getenv"} & {getattr(node, "attr", None), *names})

    # The second tells prometheus_client, and the workers, where their files are.
    assert set(places(reads_environment)) <= {"chassis/process/probe.py", "chassis/metrics.py"}


def test_importing_any_module_has_no_side_effects(tmp_path: Path) -> None:
    """It writes no file, opens no socket or database, starts no thread, and prints nothing."""
    modules = [module for module in MODULES if "alembic_environment" not in module]
    script = (
        "import importlib, sys, threading\n"
        "def watch(event, arguments):\n"
        "    if event in ('sqlite3.connect', 'socket.bind', 'socket.connect', 'os.mkdir', 'subprocess.Popen') or (\n"
        "        event == 'open' and arguments[1] and set(str(arguments[1])) & set('wax+')):\n"
        "        raise SystemExit(f'{event} {arguments} at import')\n"
        "sys.dont_write_bytecode = True\n"
        "sys.addaudithook(watch)\n"
        f"for module in {modules!r}:\n"
        "    importlib.import_module(module)\n"
        "assert threading.active_count() == 1\n"
    )
    run = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("make_app", [user_service.documented_app, product_service.documented_app])
def test_no_endpoint_or_dependency_is_a_plain_function(make_app: Callable[[], FastAPI]) -> None:
    """FastAPI runs plain functions in a shared pool of 40 threads: when all are busy, requests hang."""
    operations = [each.original_route for each in iter_route_contexts(make_app().routes)]
    dependants = [each.dependant for each in operations if isinstance(each, APIRoute)]
    plain = []
    for dependant in dependants:  # The loop appends to the list.
        dependants += dependant.dependencies
        call: Any = dependant.call
        if not any(map(iscoroutinefunction, (call, getattr(call, "__call__", None)))):  # noqa: B004 - an instance's method
            plain.append(call)
    assert len(dependants) > 30
    assert plain == []


def test_services_and_the_domain_load_neither_http_nor_a_database() -> None:
    layers = [
        module
        for module in MODULES
        if re.match(r"\w+_service\.(services|domain)\b|auth_client\.(caller|errors)$", module)
    ]
    script = (
        "import importlib, sys\n"
        f"for module in {layers!r}:\n"
        "    importlib.import_module(module)\n"
        "    loaded = {name.partition('.')[0] for name in sys.modules}\n"
        "    loaded &= {'fastapi', 'starlette', 'uvicorn', 'httpx', 'aiohttp', 'sqlalchemy', 'alembic', 'psycopg2'}\n"
        "    if loaded:\n"
        "        raise SystemExit(f'{module} loads {loaded}')\n"
    )
    assert len(layers) > 10
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")


@pytest.mark.parametrize("service", [user_service, product_service], ids=["user-service", "product-service"])
@pytest.mark.parametrize("other_driver", ["psycopg2", "sqlite3"])
def test_a_start_imports_no_library_that_it_may_never_need(service: Any, other_driver: str, tmp_path: Path) -> None:
    """Imports take most of the time that a service needs to start, and most of its memory."""
    url = "postgresql+psycopg2://someone@127.0.0.1/nowhere"
    if other_driver == "psycopg2":
        url = f"sqlite:///{tmp_path.as_posix()}/migrated.db"
        service.migrations(service.Settings.model_construct(database_url=url)).upgrade()
    script = (
        f"import pydantic, sys, {service.__name__} as service\n"
        "key = pydantic.SecretStr('any key, which signs nothing here')\n"
        f"settings = service.Settings.model_construct(database_url={url!r}, secret_key=key)\n"
        f"assert {'sqlite' not in url} or not service.migrations(settings).upgrade()\n"
        "service.create_app(settings)\n"
        "loaded = {name.partition('.')[0] for name in sys.modules}\n"
        "loaded |= {name for name in sys.modules if name.startswith(('opentelemetry.sdk', 'opentelemetry.exporter'))}\n"
        "unwanted = {'alembic', 'mako', 'prometheus_client', 'redis', 'requests', 'tqdm', 'zxcvbn'}\n"
        f"unwanted.add({other_driver!r})\n"
        "print({name for name in loaded if name in unwanted or name.startswith('opentelemetry.')})"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert found.strip() == "set()"


@pytest.mark.parametrize(
    ("service", "command"),
    [("user_service", "create-admin"), ("product_service", "migrate"), ("product_service", "import")],
)
def test_commands_and_the_parent_of_workers_import_no_application(service: str, command: str) -> None:
    script = (
        "import runpy, sys\n"
        f"sys.argv = [{service!r}, {command!r}, '--help']\n"
        "try:\n"
        f"    runpy.run_module({service!r}, run_name='__main__')\n"
        "finally:\n"
        "    loaded = {name.partition('.')[0] for name in sys.modules}\n"
        "    unwanted = {'aiohttp', 'alembic', 'fastapi', 'httpx', 'prometheus_client', 'starlette', 'uvicorn'}\n"
        "    print(loaded & unwanted, file=sys.stderr)"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr.strip()) == (0, "set()")
    assert command in run.stdout


def test_no_module_has_a_meaningless_name() -> None:
    meaningless = {"utils", "util", "helpers", "helper", "common", "core", "base", "manager", "misc", "app"}
    assert not [module for module in SOURCES if meaningless & set(module.removesuffix(".py").split("/"))]


def test_repositories_return_no_statements() -> None:
    def returns_a_select(node: ast.AST) -> bool:
        return (
            isinstance(node, ast.FunctionDef)
            and not node.name.startswith("_")
            and node.name != "base"
            and node.returns is not None
            and "Select" in ast.unparse(node.returns)
        )

    assert places(returns_a_select) == []


def test_domain_errors_have_no_status() -> None:
    for module in ("chassis/errors.py", "user_service/errors.py", "product_service/errors.py"):
        assert not re.search(r"\b[45]\d\d\b|[Ss]tatus", ast.unparse(_without_docstrings(SOURCES[module]))), module


def test_money_is_never_a_float() -> None:
    for module in (
        "product_service/domain/money.py",
        "product_service/models/products.py",
        "product_service/schemas.py",
    ):
        assert not [node for node in ast.walk(SOURCES[module]) if isinstance(node, ast.Name) and node.id == "float"]


def test_the_launcher_uses_only_the_standard_library() -> None:
    paths = [ROOT / "dev.py", *ROOT.glob("tools/**/*.py")]
    nodes = [node for path in paths for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))]
    imported = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
    assert len(paths) > 5
    assert {name.partition(".")[0] for name in imported} <= {*sys.stdlib_module_names, "tools"}


def _pinned(lock: Path) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", lock.read_text(encoding="utf-8"), re.MULTILINE))


TOOLS_LOCKS = [ROOT / "requirements-audit.txt", ROOT / "requirements-load.txt"]


@pytest.mark.parametrize("lock", [*LOCKS, *TOOLS_LOCKS], ids=lambda lock: lock.relative_to(ROOT).as_posix())
def test_a_lock_file_has_a_hash_for_every_package_and_no_url(lock: Path) -> None:
    text = lock.read_text(encoding="utf-8")
    blocks = re.split(r"\n(?=[a-z])", text)
    assert _pinned(lock)
    assert all("--hash=sha256:" in block for block in blocks)
    assert "://" not in text
    assert "--index" not in text


@pytest.mark.parametrize("lock", LOCKS[2:], ids=lambda lock: lock.parent.name)
def test_development_uses_the_locked_versions_of_the_services(lock: Path) -> None:
    development = _pinned(LOCKS[1])
    assert {name: development.get(name) for name in _pinned(lock)} == _pinned(lock)


def _without_docstrings(tree: ast.Module) -> ast.Module:
    def strip(nodes: list[ast.stmt]) -> Iterator[ast.stmt]:
        for node in nodes:
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                continue
            if isinstance(node, ast.ClassDef):
                node = ast.ClassDef(**{**dict(ast.iter_fields(node)), "body": list(strip(node.body)) or [ast.Pass()]})
            yield node

    return ast.fix_missing_locations(ast.Module(body=list(strip(tree.body)), type_ignores=[]))


def test_all_packages_have_the_version_of_the_changelog() -> None:
    # Each distribution is built by itself, so that each has to state its version.
    newest = re.search(r"^## \[(\d+\.\d+\.\d+)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert newest
    modules = [*ROOT.glob("libs/*/src/*/__init__.py"), *ROOT.glob("*-service/src/*/__init__.py")]
    versions = {
        re.findall(r'^__version__ = "(.+)"$', path.read_text(encoding="utf-8"), re.MULTILINE)[0] for path in modules
    }
    assert versions == {newest[1]}
