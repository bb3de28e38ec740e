"""The modules that service layers import."""

import subprocess
import sys

import pytest

from auth_client.caller import Caller


@pytest.mark.parametrize("module", ["auth_client", "auth_client.caller", "auth_client.errors"])
def test_service_layers_load_neither_http_nor_the_database_with_it(module: str) -> None:
    script = f"import sys, {module}; print(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(run.stdout.split())
    assert "auth_client" in loaded
    assert not loaded & {"fastapi", "starlette", "httpx", "aiohttp", "httpx_aiohttp", "pydantic", "sqlalchemy"}


@pytest.mark.parametrize(
    ("roles", "is_admin"), [((), False), (("user",), False), (("user", "admin"), True), (("administrator",), False)]
)
def test_admins_have_the_role_admin(roles: tuple[str, ...], *, is_admin: bool) -> None:
    assert Caller(1, "ada", roles).is_admin is is_admin
