"""What `dev.py up` puts into the environment of each service."""

from pathlib import Path

import pytest

from tools import service_settings
from tools.service_settings import environments
from tools.services import PRODUCT, SERVICES, USER, Service


def test_the_env_file_of_a_service_is_not_overridden(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "product-service").mkdir()
    (tmp_path / "product-service" / ".env").write_text("USER_SERVICE_PUBLIC_URL=https://users.example\n")
    monkeypatch.setattr(service_settings, "ROOT", tmp_path)
    given = environments(None, {USER: 18001, PRODUCT: 18002})
    assert "USER_SERVICE_PUBLIC_URL" not in given[PRODUCT]
    assert given[USER]["USER_SERVICE_PUBLIC_URL"] == "http://localhost:18001"


def test_only_the_user_service_gets_the_signing_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SECRET_KEY", "SECRET_KEYS_ACCEPTED"):
        monkeypatch.setenv(name, "a key")
    given = environments(None, {service: service.port for service in (*SERVICES.values(), Service("review", 8003))})
    assert len(given) == len(SERVICES) + 1
    for service, environment in given.items():
        for name in ("SECRET_KEY", "SECRET_KEYS_ACCEPTED"):
            assert environment.get(name) == ("a key" if service == USER else None)
