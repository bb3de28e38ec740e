"""Service keys: if configured, `/validate-token` requires one."""

import logging
from typing import Any

import httpx
import pytest

from testkit.applications import running
from testkit.users import KEY, MakeSettings, sign_up
from user_service.main import create_app

NEW, OLD, OTHER = (f"{name}-{KEY.decode()}".replace(" ", "-") for name in ("new", "old", "other"))
KEYS = f"products:{NEW}, products-until-june:{OLD},orders:{OTHER}"


async def validate(client: httpx.AsyncClient, token: str, key: str | None) -> httpx.Response:
    headers = {} if key is None else {b"X-Service-Key": key.encode()}
    return await client.post("/validate-token", json={"token": token}, headers=headers)


@pytest.mark.parametrize("key", [NEW, OLD, OTHER], ids=["new", "old", "other"])
async def test_each_configured_key_is_accepted(make_settings: MakeSettings, key: str) -> None:
    async with running(create_app(make_settings(service_keys=KEYS))) as client:
        ada = await sign_up(client)
        assert (await validate(client, ada.token, key)).json()["valid"] is True


@pytest.mark.parametrize("key", [None, "", "x", NEW[:-1], NEW + "!", "products", f"products:{NEW}", "\u00e9"])
async def test_a_missing_or_wrong_key_is_rejected(make_settings: MakeSettings, key: str | None) -> None:
    async with running(create_app(make_settings(service_keys=KEYS))) as client:
        ada = await sign_up(client)
        answer = await validate(client, ada.token, key)
        assert (answer.status_code, answer.json()["code"]) == (401, "invalid-service-key")
        assert (await client.get("/me", headers=ada.headers)).status_code == 200


async def test_the_key_is_checked_before_the_body_is_read(make_settings: MakeSettings) -> None:
    async with running(create_app(make_settings(service_keys=KEYS))) as client:
        for content in (b"{", b"x" * 20_000):
            answer = await client.post("/validate-token", content=content)
            assert (answer.status_code, answer.json()["code"]) == (401, "invalid-service-key")


async def test_without_configured_keys_any_key_or_none_is_accepted(client: httpx.AsyncClient) -> None:
    ada = await sign_up(client)
    assert (await validate(client, ada.token, None)).json()["valid"] is True
    assert (await validate(client, ada.token, "any")).json()["valid"] is True


async def test_the_key_is_not_logged(make_settings: MakeSettings, caplog: pytest.LogCaptureFixture) -> None:
    settings = make_settings(service_keys=KEYS)
    with caplog.at_level(logging.DEBUG):
        async with running(create_app(settings)) as client:
            await validate(client, "a token", NEW)
    assert NEW not in caplog.text
    assert NEW not in repr(settings)


async def test_the_log_names_the_key(make_settings: MakeSettings, caplog: pytest.LogCaptureFixture) -> None:
    async with running(create_app(make_settings(service_keys=KEYS))) as client:
        await validate(client, "a token", OLD)
        await client.get("/me")
    lines: list[Any] = [record.msg for record in caplog.records if record.name == "chassis.requests"]
    assert [line.get("asked_by") for line in lines] == ["products-until-june", None]


@pytest.mark.parametrize(
    "keys",
    [
        *("products", "products:", ":" + NEW, "products:short", f"a:{NEW},a:{OLD}", NEW),
        # A header can't contain these, so they would never match.
        *(f"a: {NEW}", f"a:{NEW} x", f"a:{NEW}\u00e9", f"a b:{NEW}"),
    ],
)
def test_invalid_keys_prevent_startup(make_settings: MakeSettings, keys: str) -> None:
    with pytest.raises(ValueError, match="name") as error:
        make_settings(service_keys=keys)
    assert NEW not in str(error.value)
