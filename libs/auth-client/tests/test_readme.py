"""The README of the library: its example runs, and its table of settings is complete."""

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from auth_client.settings import AuthClientSettings
from chassis.process.configuration import as_markdown
from chassis.settings import ServiceSettings
from testkit.applications import running
from testkit.user_service_stub import ADA, UserServiceStub

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


async def test_the_example_is_a_service_with_a_protected_operation(
    user_service: UserServiceStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    [example] = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    service = ModuleType("review_service")
    monkeypatch.setitem(sys.modules, service.__name__, service)
    exec(compile(example, "README.md", "exec"), vars(service))
    app = service.create_app(service.Settings(_env_file=None, user_service_url=user_service.url))
    async with running(app) as http:
        seen = await http.get("/whoami", headers={"Authorization": f"Bearer {ADA}"})
        assert (seen.status_code, seen.json()) == (200, "ada")
        assert (await http.get("/whoami")).json()["code"] == "not-authenticated"
    assert {"401", "503"} <= app.openapi()["paths"]["/whoami"]["get"]["responses"].keys()


def test_the_table_of_settings_is_current() -> None:
    section = README.partition("\n## Settings\n")[2].partition("\n## ")[0]
    table = [line for line in section.splitlines() if line.startswith("|")]
    inherited = as_markdown(ServiceSettings).splitlines()
    heading = inherited[:2]
    own = [line for line in as_markdown(AuthClientSettings).splitlines() if line not in inherited]
    assert table == [*heading, *own]
    assert len(own) == 4


def test_every_module_is_listed() -> None:
    modules = {path.name for path in (Path(__file__).parents[1] / "src" / "auth_client").glob("*.py")}
    section = README.partition("\n## Modules\n")[2]
    assert set(re.findall(r"`(\w+\.py)`", section)) == modules - {"__init__.py"}
