"""What `dev.py up` hands to which service."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def dev(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    specification = importlib.util.spec_from_file_location("dev", Path(__file__).parents[2] / "dev.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    monkeypatch.setitem(sys.modules, "dev", module)
    specification.loader.exec_module(module)
    return module


def test_what_a_service_says_in_its_env_file_is_not_overridden(
    dev: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "product-service").mkdir()
    (tmp_path / "product-service" / ".env").write_text("ALLOWED_ORIGINS=https://shop.example\n")
    monkeypatch.setattr(dev, "ROOT", tmp_path)
    given = dev.environments(None, 18001, 18002)
    assert "ALLOWED_ORIGINS" not in given[dev.PRODUCT]
    assert "http://localhost:18002" in given[dev.USER]["ALLOWED_ORIGINS"]
    assert given[dev.PRODUCT]["USER_SERVICE_PUBLIC_URL"] == "http://localhost:18001"


def test_the_signing_key_never_reaches_the_product_service(dev: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", "a key")
    given = dev.environments(None)
    assert given[dev.USER]["SECRET_KEY"] == "a key"
    assert "SECRET_KEY" not in given[dev.PRODUCT]
