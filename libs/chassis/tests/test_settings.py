"""`chassis.settings`: sources of values, defaults and error messages."""

import os
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import ClassVar

import pytest
from pydantic import Field, SecretStr, ValidationError
from sqlalchemy import make_url

from chassis.process.configuration import as_markdown, load
from chassis.settings import SAMPLE_DATABASE_PASSWORD, ServiceSettings
from testkit.library import LibrarySettings, make_settings


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def set_all(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    for name, value in values.items():
        monkeypatch.setenv(name, value)


def test_all_settings_have_defaults() -> None:
    settings = load(LibrarySettings)
    assert (settings.host, settings.port, settings.workers) == ("127.0.0.1", 8099, 1)
    assert settings.database_url == "sqlite:///data/library.db"
    assert settings.migrate_on_start is True


def test_environment_variables_override_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("PORT=1111\nHOST=0.0.0.0\n# a comment\nNOT_OURS=x\n", encoding="utf-8")
    set_all(monkeypatch, PORT="2222")
    settings = load(LibrarySettings)
    assert (settings.port, settings.host) == (2222, "0.0.0.0")


def test_an_empty_value_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("WORKERS=\nPORT=1111\n", encoding="utf-8")
    set_all(monkeypatch, PORT="", DATABASE_URL="", ALLOWED_ORIGINS="", LOG_LEVEL="")
    settings = load(LibrarySettings)
    assert (settings.workers, settings.port, settings.log_level) == (1, 1111, "INFO")
    assert settings.database_url == "sqlite:///data/library.db"
    assert settings.allowed_origins == []


def test_secrets_are_files_that_environment_variables_override(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("chassis.process.configuration.SECRETS", tmp_path)
    for name, content in (("database_password", "p@ss word\n"), ("host", "0.0.0.0"), ("workers", ""), ("other", "x")):
        (tmp_path / name).write_text(content, encoding="utf-8")
    set_all(monkeypatch, DATABASE_URL="postgresql://ada@host/name", HOST="127.0.0.2")
    settings = load(LibrarySettings)
    assert make_url(settings.database_url).password == "p@ss word"
    assert (settings.host, settings.workers) == ("127.0.0.2", 1)


def test_errors_about_a_secret_do_not_show_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("chassis.process.configuration.SECRETS", tmp_path)
    (tmp_path / "port").write_text("not-a-port", encoding="utf-8")
    (tmp_path / "database_password").write_text("hidden", encoding="utf-8")
    with pytest.raises(SystemExit):
        load(LibrarySettings)
    error = capsys.readouterr().err
    assert "cannot start: PORT: " in error
    assert "cannot start: DATABASE_PASSWORD needs a DATABASE_URL" in error
    assert "hidden" not in error
    assert "not-a-port" not in error


def test_a_list_is_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, ALLOWED_ORIGINS=" https://a.example ,https://b.example:8443,, ")
    assert load(LibrarySettings).allowed_origins == ["https://a.example", "https://b.example:8443"]


@pytest.mark.parametrize("level", ["debug", "Debug", "DEBUG"])
def test_log_levels_are_case_insensitive(monkeypatch: pytest.MonkeyPatch, level: str) -> None:
    set_all(monkeypatch, LOG_LEVEL=level)
    assert load(LibrarySettings).log_level == "DEBUG"


@pytest.mark.parametrize("url", ["http://localhost:4318", "https://collector.example/otlp", "http://[::1]:4318"])
def test_the_url_of_a_collector_has_no_slash_at_its_end(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    set_all(monkeypatch, OTEL_EXPORTER_OTLP_ENDPOINT=f"{url}/")
    assert load(LibrarySettings).otel_exporter_otlp_endpoint == url


@pytest.mark.parametrize(
    "url", ["localhost:4318", "grpc://localhost:4317", "http://", "http://a:b", "http://a?b", "http://a:0"]
)
def test_an_unusable_url_of_a_collector_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], url: str
) -> None:
    set_all(monkeypatch, OTEL_EXPORTER_OTLP_ENDPOINT=url)
    with pytest.raises(SystemExit):
        load(LibrarySettings)
    assert capsys.readouterr().err == "cannot start: OTEL_EXPORTER_OTLP_ENDPOINT: must be like http://localhost:4318\n"


def test_tracing_without_its_packages_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def find_nothing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", find_nothing)
    assert load(LibrarySettings).otel_exporter_otlp_endpoint == ""
    set_all(monkeypatch, OTEL_EXPORTER_OTLP_ENDPOINT="http://localhost:4318")
    with pytest.raises(SystemExit):
        load(LibrarySettings)
    assert capsys.readouterr().err == (
        "cannot start: OTEL_EXPORTER_OTLP_ENDPOINT: needs packages that are not installed: "
        "install twinlatch-chassis[tracing], or unset it\n"
    )


LOOPBACK_ORIGINS = ["http://localhost:5174", "http://127.0.0.1:8002", "http://[::1]:3000", "https://localhost"]
FOREIGN_ORIGINS = [
    *("https://shop.example", "null", "", "http://localhost.shop.example", "http://shop.example#http://localhost:1"),
    *("http://localhost:1@shop.example", "http://localhost:", "http://127.0.0.2:3000", "ftp://localhost", "localhost"),
]


@pytest.mark.parametrize("environment", ["development", "production"])
def test_only_development_allows_every_port_of_this_machine(environment: str) -> None:
    settings = make_settings(environment=environment, database_url="sqlite:///library.db")
    for origin in LOOPBACK_ORIGINS:
        assert settings.allows_origin(origin) == (environment == "development"), origin
    for origin in FOREIGN_ORIGINS:
        assert not settings.allows_origin(origin), origin


@pytest.mark.parametrize("environment", ["development", "production"])
def test_a_listed_origin_is_allowed(environment: str) -> None:
    settings = make_settings(
        environment=environment, database_url="sqlite:///library.db", allowed_origins=["https://shop.example"]
    )
    assert settings.allows_origin("https://shop.example")
    assert not settings.allows_origin("http://shop.example")
    assert not settings.allows_origin("https://shop.example:8443")


def test_the_database_url_is_normalised(monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, DATABASE_URL="postgres://u:p@host/name")
    assert load(LibrarySettings).database_url == "postgresql+psycopg2://u:p@host/name"


@pytest.mark.parametrize("password", ["plain", "p@ss/w:rd", "100%", "%41", "a#b?c=d&e+f", "sp ace", "naïve", "$x'\""])
def test_the_database_password_may_have_any_characters(monkeypatch: pytest.MonkeyPatch, password: str) -> None:
    set_all(monkeypatch, DATABASE_URL="postgresql://ada@host:5433/name?sslmode=disable", DATABASE_PASSWORD=password)
    settings = load(LibrarySettings)
    url = make_url(settings.database_url)
    assert (url.username, url.password, url.host, url.port, url.database) == ("ada", password, "host", 5433, "name")
    assert url.query == {"sslmode": "disable"}
    assert password not in repr(settings)


@pytest.mark.parametrize("url", ["", "sqlite:///file.db", "postgresql://host/name", "postgresql://ada:other@host/name"])
def test_a_database_password_needs_a_url_to_add_it_to(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], url: str
) -> None:
    set_all(monkeypatch, DATABASE_URL=url, DATABASE_PASSWORD=SECRET)
    with pytest.raises(SystemExit):
        load(LibrarySettings)
    assert capsys.readouterr().err == (
        "cannot start: DATABASE_PASSWORD needs a DATABASE_URL with a user and no password, "
        "like postgresql://user@host/name\n"
    )


def test_production_rejects_the_sample_password_in_either_setting(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    set_all(monkeypatch, ENVIRONMENT="production", DATABASE_URL="postgresql://ada@host/name")
    load(LibrarySettings)
    for changes in (
        {"DATABASE_PASSWORD": SAMPLE_DATABASE_PASSWORD},
        {"DATABASE_PASSWORD": "", "DATABASE_URL": f"postgresql://ada:{SAMPLE_DATABASE_PASSWORD}@host/name"},
    ):
        set_all(monkeypatch, **changes)
        with pytest.raises(SystemExit):
            load(LibrarySettings)
        assert "the database password is the sample from docker-compose.yml" in capsys.readouterr().err


def test_production_needs_a_database_url(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    set_all(monkeypatch, ENVIRONMENT="production", DATA_DIR="somewhere")
    with pytest.raises(SystemExit):
        load(LibrarySettings)
    assert capsys.readouterr().err == (
        "cannot start: DATABASE_URL must be set in production. For SQLite it names the file, "
        "such as sqlite:////data/library.db\n"
    )
    set_all(monkeypatch, DATABASE_URL="sqlite:////data/library.db")
    assert load(LibrarySettings).database_url == "sqlite:////data/library.db"


def test_production_has_a_drain_time_and_a_watchdog_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    def loaded() -> tuple[float, float]:
        settings = load(LibrarySettings)
        return settings.drain_seconds, settings.watchdog_seconds

    assert loaded() == (0, 0)
    set_all(monkeypatch, ENVIRONMENT="production", DATABASE_URL="sqlite:////data/library.db")
    assert loaded() == (5, 30)
    set_all(monkeypatch, DRAIN_SECONDS="0", WATCHDOG_SECONDS="0")
    assert loaded() == (0, 0)


@pytest.mark.parametrize("folder", ["with space", "100%", "%20", "what?", "a#b", "naïve"])
def test_the_default_database_is_in_the_data_folder(folder: str) -> None:
    assert make_url(make_settings(data_dir=Path(folder)).database_url).database == f"{folder}/library.db"


SECRET = "hunter2"
INVALID_VALUES = {
    "PORT": [SECRET, "0", "65536", "1.5"],
    "WORKERS": ["0", "-1", SECRET],
    "ENVIRONMENT": [SECRET],
    "LOG_LEVEL": [SECRET],
    "LOG_FORMAT": [SECRET],
    "DATABASE_URL": [f"mysql://u:{SECRET}@host/name", f"postgresql://u:{SECRET}@host:x/name", SECRET, "sqlite://"]
    + [f"postgresql://u@host/name?{each}" for each in ("ssl=true", "sslmode=require&pgbouncer=true", f"{SECRET}=1")],
    "DATABASE_POOL_SIZE": ["1", SECRET],
    "DATABASE_POOL_TIMEOUT": ["0", "-1", "nan", SECRET],
    "MIGRATE_ON_START": [SECRET],
    "ALLOWED_ORIGINS": [
        "*",
        SECRET,
        f"https://{SECRET}/",
        "ftp://a.example",
        "https://a.example,b.example",
        "https://",
    ],
    "MAX_BODY_BYTES": ["1023", SECRET],
    "DRAIN_SECONDS": ["-1", "301", SECRET],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in INVALID_VALUES.items() for value in values]
)
def test_an_error_names_the_variable_but_not_the_value(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, value: str
) -> None:
    set_all(monkeypatch, **{name: value})
    with pytest.raises(SystemExit) as end:
        load(LibrarySettings)
    assert end.value.code == 2
    output, errors = capsys.readouterr()
    assert output == ""
    assert errors.startswith(f"cannot start: {name}: ")
    assert errors.count("\n") == 1
    assert SECRET not in errors


def test_each_error_has_its_own_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    set_all(monkeypatch, PORT="x", WORKERS="y")
    Path(".env").write_text("LOG_FORMAT=z\n", encoding="utf-8")
    with pytest.raises(SystemExit):
        load(LibrarySettings)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[1] for line in lines] == ["PORT", "WORKERS", "LOG_FORMAT"]


def test_a_file_that_is_not_utf_8_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    Path(".env").write_bytes(b"HOST=\xff\n")
    with pytest.raises(SystemExit) as end:
        load(LibrarySettings)
    assert end.value.code == 2
    assert capsys.readouterr().err == "cannot start: .env: is not UTF-8 text\n"


def test_a_broken_line_of_the_file_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    Path(".env").write_text("# a comment\n\nthis is no setting\nPORT=1111\nHOST='127.0.0.1\n", encoding="utf-8")
    with pytest.raises(SystemExit) as end:
        load(LibrarySettings)
    assert end.value.code == 2
    errors = [f"cannot start: .env: line {line} is not like NAME=value" for line in (3, 5)]
    assert capsys.readouterr().err.splitlines() == errors


def test_a_secret_that_cannot_be_read_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("chassis.process.configuration.SECRETS", tmp_path)
    secret = tmp_path / "database_password"
    secret.mkdir()
    with pytest.raises(SystemExit) as end:
        load(LibrarySettings)
    assert end.value.code == 2
    assert capsys.readouterr().err == f"cannot start: {secret} is a folder, and must be a file\n"
    secret.rmdir()
    secret.write_bytes(b"\xffhidden")
    with pytest.raises(SystemExit) as end:
        load(LibrarySettings)
    assert end.value.code == 2
    errors = capsys.readouterr().err
    assert errors.startswith("cannot start: ")
    assert errors.count("\n") == 1
    assert "hidden" not in errors


def test_settings_are_immutable() -> None:
    with pytest.raises(ValidationError):
        setattr(make_settings(), "port", 1)  # noqa: B010 - the type checker knows it, too


class SecretiveSettings(ServiceSettings):
    service: ClassVar[str] = "secretive"
    port: int = 8098
    secret_key: SecretStr = Field(default=SecretStr(""), description="The key.")


def test_the_table_has_all_settings_with_defaults_and_descriptions() -> None:
    lines = as_markdown(SecretiveSettings).splitlines()
    assert lines[:2] == ["| variable | default | |", "|---|---|---|"]
    table = {line.split(" | ")[0]: line for line in lines[2:]}
    assert len(table) == len(SecretiveSettings.model_fields)
    assert table["| `WORKERS`"].startswith("| `WORKERS` | `1` | Worker processes.")
    assert "|  |" in table["| `DATABASE_URL`"]
    assert "8098" in table["| `PORT`"]


def test_every_setting_has_a_description() -> None:
    assert all(field.description for field in LibrarySettings.model_fields.values())


@pytest.fixture(scope="module", autouse=True)
def environment_of_a_developer() -> Iterator[None]:
    """Set before the plugin's fixture, which must hide these variables."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("DATABASE_URL", "database_url", "PORT", "SECRET_KEY"):
            patch.setenv(name, "from outside")
        yield


def test_tests_do_not_see_settings_from_the_environment() -> None:
    assert not {"DATABASE_URL", "database_url", "PORT", "SECRET_KEY"} & os.environ.keys()
    assert load(LibrarySettings).database_url == "sqlite:///data/library.db"


def test_other_environment_variables_stay() -> None:
    assert "PATH" in os.environ
