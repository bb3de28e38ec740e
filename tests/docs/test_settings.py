"""The documented settings match the settings classes."""

import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from chassis.process.configuration import as_markdown
from chassis.settings import ServiceSettings
from product_service.settings import Settings as ProductSettings
from tests.documents import DOCUMENTS, ROOT, prose, read
from user_service.settings import SAMPLE_KEYS
from user_service.settings import Settings as UserSettings

BOTH = pytest.mark.parametrize(
    "settings", [UserSettings, ProductSettings], ids=[UserSettings.service, ProductSettings.service]
)

UNITS = {"": 1, "KiB": 2**10, "MiB": 2**20}
# A setting with its default, such as `CLOCK_LEEWAY_SECONDS` (5) or `MAX_IMPORT_BYTES` 100 MiB
DEFAULT = re.compile(r"`([A-Z_]+)`\s+\(?(\d(?:[\d,]*\d)?)(/[a-z]+)?(?:\s+([KM]iB))?")


READ_BY_OPENTELEMETRY = {"OTEL_EXPORTER_OTLP_HEADERS", "OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG"}


def example(settings: type[ServiceSettings]) -> str:
    return (ROOT / settings.service / ".env.example").read_text(encoding="utf-8")


def shown_in_example(settings: type[ServiceSettings]) -> list[tuple[str, str]]:
    """The settings in the example, which are commented out, with their values."""
    return re.findall(r"^#([A-Z_]+)=(.*)$", example(settings), re.MULTILINE)


@BOTH
def test_the_settings_table_is_current(settings: type[ServiceSettings]) -> None:
    section = read("docs/settings.md").partition(f"\n## {settings.service}\n")[2].partition("\n## ")[0]
    table = "\n".join(line for line in section.splitlines() if line.startswith("|"))
    assert table == as_markdown(settings)


def test_the_defaults_beside_settings_in_other_documents_are_current() -> None:
    defaults: dict[str, set[str]] = {}
    for settings in (UserSettings, ProductSettings):
        for name, value in shown_in_example(settings):
            defaults.setdefault(name, set()).add(value.removesuffix(".0"))
    found = []
    for document in DOCUMENTS:
        for name, number, period, unit in DEFAULT.findall(prose(document)):
            value = str(int(number.replace(",", "")) * UNITS[unit]) + period
            if name in defaults:
                found.append(name)
                assert value in defaults[name], f"{document}: {name} is {value}"
    assert {"MAX_PRODUCTS_PER_ACCOUNT", "CLOCK_LEEWAY_SECONDS", "MAX_BODY_BYTES", "RATE_LIMIT_LOGIN"} <= set(found)


@BOTH
def test_the_example_has_every_setting_once(settings: type[ServiceSettings]) -> None:
    assert [name for name, _ in shown_in_example(settings)] == [name.upper() for name in settings.model_fields]


@BOTH
def test_the_example_sets_nothing_and_describes_each_setting(settings: type[ServiceSettings]) -> None:
    lines = example(settings).splitlines()
    assert all(not line or line.startswith("#") for line in lines)
    for number, line in enumerate(lines):
        if re.match(r"#[A-Z_]+=", line):
            assert re.match(r"# [A-Z`].+\.$", lines[number - 1]), line


@BOTH
def test_the_example_shows_the_defaults(settings: type[ServiceSettings], tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("".join(f"{name}={value}\n" for name, value in shown_in_example(settings)), encoding="utf-8")
    defaults = settings(_env_file=None)
    from_example = settings(_env_file=file)
    for name in settings.model_fields.keys() - {"secret_key"}:
        assert getattr(from_example, name) == getattr(defaults, name), name


@BOTH
def test_docker_compose_sets_or_passes_on_every_setting(settings: type[ServiceSettings]) -> None:
    passed_on = re.findall(r"^([A-Z_]+)", read(f"{settings.service}/compose.env"), re.MULTILINE)
    passed_on = [name for name in passed_on if name not in READ_BY_OPENTELEMETRY]
    section = read("docker-compose.yml").partition(f"\n  {settings.service}:\n")[2].partition("\n\n")[0]
    set_there = re.findall(r"^      ([A-Z_]+):", section, re.MULTILINE)
    assert sorted([*passed_on, *set_there]) == sorted(name.upper() for name in settings.model_fields)


def test_the_sample_key_is_rejected_in_production() -> None:
    sample = dict(shown_in_example(UserSettings))["SECRET_KEY"]
    assert sample in SAMPLE_KEYS
    with pytest.raises(ValidationError, match="sample"):
        UserSettings(environment="production", database_url="sqlite:///users.db", secret_key=sample)


@BOTH
def test_an_example_has_no_setting_of_the_other_service(settings: type[ServiceSettings]) -> None:
    other = ProductSettings if settings is UserSettings else UserSettings
    foreign = {name.upper() for name in other.model_fields.keys() - settings.model_fields.keys()}
    assert not foreign & set(re.findall(r"\b[A-Z_]{4,}\b", example(settings)))
