import concurrent.futures
import os
import secrets
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from chassis.guessing import is_guessable_key
from chassis.process.configuration import load
from chassis.settings import SAMPLE_SERVICE_KEY
from testkit import preloaded
from testkit.users import KEY, MakeSettings
from user_service.security.keys import signing_key
from user_service.settings import SAMPLE_KEYS, Settings

OTHER = secrets.token_hex(32)
VALID = {"ENVIRONMENT": "production", "DATABASE_URL": "sqlite:///users.db", "SECRET_KEY": KEY.decode()}


def start_with(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, **environment: str) -> Settings:
    monkeypatch.chdir(tmp_path)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return load(Settings)


def test_production_starts_with_a_custom_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert start_with(monkeypatch, tmp_path, **VALID).bcrypt_cost == 12


@pytest.mark.parametrize(
    ("environment", "line"),
    [
        ({"DATABASE_URL": ""}, "DATABASE_URL must be set in production"),
        ({"SECRET_KEY": ""}, "SECRET_KEY must be set in production"),
        ({"SECRET_KEY": SAMPLE_KEYS[0]}, "SECRET_KEY is the sample"),
        ({"SECRET_KEY": "hunter2-hunter2"}, "SECRET_KEY: must be at least 32 bytes"),
        ({"SECRET_KEY": "hunter2-hunter2", "ENVIRONMENT": "development"}, "SECRET_KEY: must be at least 32 bytes"),
        ({"SECRET_KEY": "hunter2," * 8}, "SECRET_KEY: must not contain commas, or spaces at either end"),
        ({"SECRET_KEY": "ssh-rsa hunter2" * 4}, "SECRET_KEY: must be random text for HS256"),
        ({"SECRET_KEY": "hunter2\udcff" * 8}, "SECRET_KEY: must be UTF-8 text"),
        ({"SECRET_KEY": "hunter2 " * 8}, "SECRET_KEY: must not contain commas, or spaces at either end"),
        ({"SECRET_KEYS_ACCEPTED": "hunter2"}, "SECRET_KEYS_ACCEPTED: must be at least 32 bytes long"),
        ({"SECRET_KEYS_ACCEPTED": SAMPLE_KEYS[0]}, "SECRET_KEYS_ACCEPTED contains the sample from the documentation"),
        ({"SERVICE_KEYS": "hunter2"}, "SERVICE_KEYS: must be like name:key,name:key, with 32 or more"),
        ({"SERVICE_KEYS": f"a:{SAMPLE_SERVICE_KEY}"}, "SERVICE_KEYS contains the key from docker-compose.yml"),
        ({"SECRET_KEY": "x" * 64}, "SECRET_KEY has a key that is too easy to guess. Generate a random key"),
        ({"SECRET_KEY": "hunter2" * 8}, "SECRET_KEY has a key that is too easy to guess"),
        ({"SECRET_KEY": "hunter2-" * 80 + "hun"}, "SECRET_KEY has a key that is too easy to guess"),
        ({"SECRET_KEY": "correct horse battery staple" * 2}, "SECRET_KEY has a key that is too easy to guess"),
        ({"SECRET_KEY": "abcdefghijklmnopqrstuvwxyz0123456789"}, "SECRET_KEY has a key that is too easy to guess"),
        ({"SECRET_KEYS_ACCEPTED": f"{KEY.decode()},{'x' * 32}"}, "SECRET_KEYS_ACCEPTED has a key that is too easy"),
        ({"SERVICE_KEYS": f"a:{'hunter2' * 8}"}, "SERVICE_KEYS has a key that is too easy to guess"),
        ({"RATE_LIMIT_LOGIN": "often"}, "RATE_LIMIT_LOGIN: must be like 10/minute"),
        ({"RATE_LIMIT_STORAGE_URL": "http://hunter2@host"}, "RATE_LIMIT_STORAGE_URL: must be memory://, redis://"),
        ({"RATE_LIMIT_STORAGE_URL": "redis://host:hunter2"}, "RATE_LIMIT_STORAGE_URL: must be memory://, redis://"),
        ({"TRUSTED_PROXIES": "*"}, "TRUSTED_PROXIES: each must be like 10.0.0.5 or 10.0.0.0/8"),
        ({"BCRYPT_COST": "11"}, "BCRYPT_COST must be at least 12 in production"),
        ({"BCRYPT_COST": "3"}, "BCRYPT_COST: "),
        ({"PASSWORD_MIN_LENGTH": "7"}, "PASSWORD_MIN_LENGTH must be at least 8 in production"),
        ({"SERVICE_KEYS": f"a:{OTHER}", "SECRET_KEY": OTHER}, "SERVICE_KEYS has a key that signs tokens"),
        ({"SERVICE_KEYS": f"a:{OTHER}", "SECRET_KEYS_ACCEPTED": OTHER}, "SERVICE_KEYS has a key that signs tokens"),
        ({"WORKERS": "2"}, "WORKERS is above 1, and each would count attempts separately. Set RATE_LIMIT_STORAGE_URL"),
        ({"TRUSTED_PROXIES": "0.0.0.0/0"}, "TRUSTED_PROXIES: 0.0.0.0/0 is every address"),
        ({"ALLOWED_ORIGINS": "https://a.example,http://b.example"}, "ALLOWED_ORIGINS has an origin without TLS"),
        ({"PORT": "none"}, "PORT: "),
        ({"PASSWORD_MIN_LENGTH": "0"}, "PASSWORD_MIN_LENGTH: "),
        ({"ACCESS_TOKEN_EXPIRE_MINUTES": "0"}, "ACCESS_TOKEN_EXPIRE_MINUTES: "),
    ],
)
def test_unsafe_or_invalid_settings_prevent_startup(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    environment: dict[str, str],
    line: str,
) -> None:
    with pytest.raises(SystemExit) as exit_:
        start_with(monkeypatch, tmp_path, **{**VALID, **environment})
    assert exit_.value.code == 2
    errors = capsys.readouterr().err
    [refusal] = [each for each in errors.splitlines() if not each.startswith("warning: ")]
    assert refusal.startswith(f"cannot start: {line}")
    assert "hunter2" not in errors


UNSAFE = {"PASSWORD_MIN_LENGTH": "6", "BCRYPT_COST": "4", "ALLOWED_ORIGINS": "http://a.example", "WORKERS": "3"}
RISKY = {"ACCESS_TOKEN_EXPIRE_MINUTES": "90", "REJECT_COMMON_PASSWORDS": "false"}


def test_everything_invalid_unsafe_and_risky_is_named_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def named(beginning: str) -> set[str]:
        return {line.removeprefix(beginning).split()[0] for line in lines if line.startswith(beginning)}

    with pytest.raises(SystemExit):
        start_with(monkeypatch, tmp_path, ENVIRONMENT="production", **UNSAFE, **RISKY)
    lines = capsys.readouterr().err.splitlines()
    assert named("cannot start: ") == {"DATABASE_URL", "SECRET_KEY", *UNSAFE}
    assert named("warning: ") == {"SERVICE_KEYS", *RISKY}
    # With invalid ones as well. They are not also called missing.
    with pytest.raises(SystemExit):
        start_with(monkeypatch, tmp_path, PORT="none", SECRET_KEY="hunter2", DATABASE_URL="mysql://db/users")
    lines = capsys.readouterr().err.splitlines()
    assert named("cannot start: ") == {"PORT:", "SECRET_KEY:", "DATABASE_URL:", *UNSAFE}
    assert named("warning: ") == {"SERVICE_KEYS", *RISKY}
    assert len(lines) == 10
    with pytest.raises(SystemExit):
        start_with(monkeypatch, tmp_path, ENVIRONMENT="development")
    assert len(capsys.readouterr().err.splitlines()) == 3
    assert start_with(monkeypatch, tmp_path, PORT="", SECRET_KEY="", DATABASE_URL="").workers == 3


SAFE = {
    **VALID,
    "SERVICE_KEYS": f"product-service:{OTHER}",
    "DATABASE_URL": "postgresql://ada@db.example/users?sslmode=verify-full",
}


@pytest.mark.parametrize(
    ("changes", "warnings"),
    [
        ({}, []),
        ({"DATABASE_URL": "postgresql://ada@127.0.0.1/users"}, []),
        ({"WORKERS": "2", "RATE_LIMIT_STORAGE_URL": "rediss://counters.example"}, []),
        ({"DATABASE_URL": "postgresql://ada@db.example/users"}, ["DATABASE_URL has no sslmode"]),
        ({"DATABASE_URL": "sqlite:///users.db"}, ["DATABASE_URL is SQLite"]),
        ({"SERVICE_KEYS": ""}, ["SERVICE_KEYS is unset"]),
        ({"DATABASE_URL": "postgresql://ada@db.example/users?sslmode=prefer"}, ["DATABASE_URL has no sslmode"]),
        ({"DATABASE_URL": "postgresql://ada@db.example/users?sslmode=require"}, []),
        ({"RATE_LIMIT_REFRESH": "off"}, ["RATE_LIMIT_REFRESH is off"]),
        (
            {"RATE_LIMIT_LOGIN": "off", "RATE_LIMIT_LOGIN_ADDRESS": "off", "WORKERS": "2"},
            ["RATE_LIMIT_LOGIN and RATE_LIMIT_LOGIN_ADDRESS are off"],
        ),
        ({"REJECT_COMMON_PASSWORDS": "false"}, ["REJECT_COMMON_PASSWORDS is off"]),
        ({"ACCESS_TOKEN_EXPIRE_MINUTES": "60"}, []),
        ({"ACCESS_TOKEN_EXPIRE_MINUTES": "61"}, ["ACCESS_TOKEN_EXPIRE_MINUTES is over an hour"]),
    ],
)
def test_what_is_risky_in_production(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, changes: dict[str, str], warnings: list[str]
) -> None:
    reasons = start_with(monkeypatch, tmp_path, **{**SAFE, **changes}).risky()
    assert len(reasons) == len(warnings)
    for reason, beginning in zip(reasons, warnings, strict=True):
        assert reason.startswith(beginning)


@pytest.mark.parametrize(
    ("changes", "status", "output"),
    [
        ({}, 0, "The settings are valid.\n"),
        (
            {"SERVICE_KEYS": ""},
            0,
            "warning: SERVICE_KEYS is unset. Anyone with a token can look up its account\nThe settings are valid.\n",
        ),
        (
            {"BCRYPT_COST": "4", "PORT": "0", "SERVICE_KEYS": ""},
            2,
            (
                "warning: SERVICE_KEYS is unset. Anyone with a token can look up its account\n"
                "cannot start: PORT: Input should be greater than or equal to 1\n"
                "cannot start: BCRYPT_COST must be at least 12 in production\n"
            ),
        ),
    ],
)
def test_settings_can_be_checked_without_starting(
    tmp_path: Path, changes: dict[str, str], status: int, output: str
) -> None:
    ran = preloaded.run("user_service", ["check-settings"], tmp_path, {**os.environ, **SAFE, **changes})
    assert (ran.returncode, ran.stdout + ran.stderr) == (status, output)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("key", ["x" * 64, "secret" * 8])
def test_development_accepts_a_key_that_is_easily_guessed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, key: str
) -> None:
    assert start_with(monkeypatch, tmp_path, SECRET_KEY=key).secret_key is not None


@pytest.mark.parametrize("make", [secrets.token_hex, secrets.token_urlsafe, lambda: secrets.token_hex(16)])
def test_random_keys_are_not_easily_guessed(make: Callable[[], str]) -> None:
    keys = [make() for _ in range(10)]
    assert not any(map(is_guessable_key, keys))
    assert not is_guessable_key(keys[0] * 3)


def test_the_repr_of_the_settings_hides_secrets(make_settings: MakeSettings) -> None:
    assert KEY.decode() not in repr(make_settings())


def test_the_first_start_in_development_generates_a_key_for_later_ones(make_settings: MakeSettings) -> None:
    settings = make_settings(secret_key=None)
    key = signing_key(settings.secret_key, settings.development_key_file)
    assert len(key) >= 32
    assert signing_key(settings.secret_key, settings.development_key_file) == key
    if sys.platform != "win32":
        assert stat.S_IMODE(settings.development_key_file.stat().st_mode) == 0o600


def test_concurrent_first_starts_generate_one_key(make_settings: MakeSettings, tmp_path: Path) -> None:
    settings = make_settings(secret_key=None, data_dir=tmp_path / "new")
    with concurrent.futures.ThreadPoolExecutor(16) as threads:
        keys = list(threads.map(lambda _: signing_key(settings.secret_key, settings.development_key_file), range(64)))
    assert len(set(keys)) == 1
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["secret-key"]


def test_a_truncated_key_file_prevents_startup(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "secret-key").write_text("too short")
    with pytest.raises(SystemExit):
        start_with(monkeypatch, tmp_path)
    assert capsys.readouterr().err.startswith("cannot start: ")


def test_the_configured_key_is_used_unchanged(make_settings: MakeSettings) -> None:
    configured = make_settings()
    assert signing_key(configured.secret_key, configured.development_key_file) == KEY
