"""The settings of a service that validates tokens."""

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import ClassVar

import pytest
from pydantic import SecretStr, ValidationError

from auth_client.client import AuthClient
from auth_client.settings import AuthClientSettings
from chassis.settings import SAMPLE_SERVICE_KEY
from testkit.user_service_stub import ADA, UserServiceStub

KEY = "9c1f0e5b7a3d48d2b6e4f8017c25a9d3"


class Settings(AuthClientSettings):
    service: ClassVar[str] = "review-service"

    port: int = 8003
    longest_review: int = 1000


@pytest.fixture(scope="module")
def environment_of_a_developer() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("LONGEST_REVIEW", "7")
        monkeypatch.setenv("USER_SERVICE_URL", "http://users.example")
        yield


@pytest.mark.usefixtures("environment_of_a_developer")
def test_tests_see_no_setting_of_the_environment() -> None:
    assert not {"LONGEST_REVIEW", "USER_SERVICE_URL"} & set(os.environ)


@pytest.mark.parametrize("key", ["too-short", "with a space " * 4, "x" * 40 + "\n", "\u00e9" * 40, "with,commas" * 4])
def test_a_service_key_that_no_header_can_hold_or_the_user_service_cannot_have_is_rejected(key: str) -> None:
    with pytest.raises(ValidationError, match="at least 32 letters, digits and punctuation marks") as rejection:
        Settings(_env_file=None, service_key=SecretStr(key))
    assert key not in str(rejection.value)


@pytest.mark.parametrize("name", ["user_service_url", "user_service_public_url"])
@pytest.mark.parametrize(
    "url",
    [
        *("http://a..b:80", f"http://{'a' * 70}:80", "http://local\thost:1", "http://a b:80"),
        *("http://localhost:99999", "http://localhost:0", "http://[::1]:18474/a?", "http://a#", "localhost:8001"),
    ],
)
def test_an_impossible_url_is_rejected_at_startup(name: str, url: str) -> None:
    with pytest.raises(ValidationError, match="must be like http://localhost:8001"):
        Settings.model_validate({name: url})


@pytest.mark.parametrize("url", ["http://ada@users.example", "http://ada:secret@users.example"])
def test_a_url_with_credentials_is_rejected_because_health_shows_it(url: str) -> None:
    with pytest.raises(ValidationError, match="must not contain a user name or password") as rejection:
        Settings(_env_file=None, user_service_url=url)
    assert "secret" not in str(rejection.value)


@pytest.mark.parametrize("url", ["http://[::1]:8001", "https://users.example", "http://users:8001/behind/a/path/"])
def test_a_trailing_slash_is_removed_from_a_url(url: str) -> None:
    assert Settings(_env_file=None, user_service_url=url).user_service_url == url.rstrip("/")


def test_browsers_log_in_at_the_url_that_validates_tokens_unless_another_is_set() -> None:
    assert Settings(_env_file=None).login_origin == "http://localhost:8001"
    settings = Settings(_env_file=None, user_service_url="http://localhost:18001/")
    assert settings.login_origin == "http://localhost:18001"
    settings = Settings(_env_file=None, user_service_url="http://users:8001", user_service_public_url="http://x.test/")
    assert settings.login_origin == "http://x.test"


@pytest.mark.parametrize("timeout", [0, -1, 31, float("nan")])
def test_the_timeout_is_more_than_zero_and_at_most_thirty_seconds(timeout: float) -> None:
    with pytest.raises(ValidationError):
        Settings(_env_file=None, validation_timeout=timeout)


async def test_a_client_is_made_from_the_settings(user_service: UserServiceStub) -> None:
    settings = Settings(
        _env_file=None, user_service_url=user_service.url, service_key=SecretStr(KEY), validation_timeout=0.5
    )
    client = AuthClient.from_settings(settings)
    await client.validate(ADA)
    await client.close()
    [(_, headers)] = user_service.requests
    assert headers["x-service-key"] == KEY
    assert (client.url, client._timeout) == (user_service.url, 0.5)


def test_production_rejects_the_sample_service_key() -> None:
    sample = SecretStr(SAMPLE_SERVICE_KEY)
    Settings(_env_file=None, service_key=sample)
    with pytest.raises(ValidationError, match=r"SERVICE_KEY is the sample from docker-compose\.yml"):
        Settings(_env_file=None, environment="production", service_key=sample)


@pytest.mark.parametrize("key", ["x" * 40, "secret" * 8, "correct-horse-battery-staple" * 2])
def test_production_rejects_a_service_key_that_is_easily_guessed(key: str) -> None:
    Settings(_env_file=None, service_key=SecretStr(key))
    with pytest.raises(ValidationError, match="SERVICE_KEY is too easy to guess") as rejection:
        Settings(_env_file=None, environment="production", service_key=SecretStr(key))
    assert key not in str(rejection.value)


def test_development_does_not_load_the_lists_of_guessable_words() -> None:
    script = (
        "import sys\n"
        "from auth_client.settings import AuthClientSettings\n"
        "AuthClientSettings(_env_file=None, port=8003, database_url='sqlite:///x.db', service_key='x' * 40)\n"
        "print('zxcvbn' in sys.modules)\n"
    )
    assert (
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "False\n"
    )


@pytest.mark.parametrize(
    ("url", "key", "warnings"),
    [
        ("https://users.example", KEY, []),
        ("http://127.0.0.1:8001", KEY, []),
        ("http://localhost:8001", KEY, []),
        ("http://[::1]:8001", KEY, []),
        ("http://users.example", KEY, ["USER_SERVICE_URL has no TLS"]),
        ("http://127.users.example", KEY, ["USER_SERVICE_URL has no TLS"]),
        ("https://users.example", None, ["SERVICE_KEY is unset"]),
    ],
)
def test_a_key_and_tls_are_missed_in_production(url: str, key: str | None, warnings: list[str]) -> None:
    settings = Settings(
        _env_file=None,
        environment="production",
        database_url="postgresql://ada@127.0.0.1/reviews",
        user_service_url=url,
        service_key=SecretStr(key) if key else None,
    )
    assert [reason.partition(".")[0] for reason in settings.risky()] == warnings
