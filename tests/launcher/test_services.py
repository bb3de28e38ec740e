"""The list of services, and what each service is installed from."""

from pathlib import Path

import pytest

from tests.launcher.launching import ROOT
from tools import services
from tools.services import all_libraries, libraries_of


def package(folder: Path, sources: str) -> None:
    folder.mkdir(parents=True)
    (folder / "pyproject.toml").write_text(f"[tool.uv.sources]\n{sources}\n")


def test_libraries_are_found_through_other_libraries(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    package(
        tmp_path / "a-service", 'one = { path = "../libs/one", editable = true }\nx = { git = "https://x.example" }'
    )
    package(tmp_path / "libs" / "one", 'two = { path = "../two" }')
    package(tmp_path / "libs" / "two", 'one = { path = "../one" }')
    package(tmp_path / "libs" / "three", "")
    (tmp_path / "b-service").mkdir()
    monkeypatch.setattr(services, "ROOT", tmp_path)
    assert libraries_of(["a-service", "b-service"]) == ["libs/one", "libs/two"]
    assert libraries_of(["b-service", "libs/three"]) == []
    assert all_libraries() == ["libs/one", "libs/three", "libs/two"]


def test_no_service_is_installed_with_the_testkit() -> None:
    assert libraries_of(["user-service"]) == ["libs/chassis"]
    assert libraries_of(["product-service"]) == ["libs/auth-client", "libs/chassis"]
    assert "libs/testkit" in all_libraries()


def test_every_service_of_the_project_is_in_the_list() -> None:
    assert sorted(services.SERVICES) == sorted(folder.name for folder in ROOT.glob("*-service"))
