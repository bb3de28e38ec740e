"""The dependencies of protected operations, in a small application on the chassis."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import httpx
import pytest
from fastapi import FastAPI

from auth_client.client import AuthClient
from auth_client.dependency import AUTHENTICATION_ERRORS, CurrentCaller, RequireCaller
from auth_client.settings import AuthClientSettings
from chassis.http import application
from chassis.http.problems import documented
from chassis.http.routing import Router
from testkit.applications import running
from testkit.user_service_stub import ADA, ROOT, UserServiceStub

PROTECTED = ["/caller", "/protected"]


class Settings(AuthClientSettings):
    service: ClassVar[str] = "review-service"
    port: int = 8003


router = Router()


@router.get("/caller", responses=documented(*AUTHENTICATION_ERRORS))
async def show_caller(caller: CurrentCaller) -> dict[str, Any]:
    return {"id": caller.user_id, "name": caller.username, "is_admin": caller.is_admin}


@router.get("/protected", dependencies=[RequireCaller], responses=documented(*AUTHENTICATION_ERRORS))
async def show_something() -> str:
    return "something"


@router.get("/public")
async def show_something_public() -> str:
    return "something public"


@pytest.fixture
def app(client: AuthClient) -> FastAPI:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield

    return application.build(
        Settings(_env_file=None),
        title="Review service",
        version="0",
        description="",
        lifespan=lifespan,
        routers=[router],
        authenticate=client.validate,
        login_origin="http://users.example",
    )


@pytest.fixture
async def http(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with running(app) as http:
        yield http


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def test_an_operation_gets_its_caller(http: httpx.AsyncClient) -> None:
    assert (await http.get("/caller", headers=bearer(ADA))).json() == {"id": 1, "name": "ada", "is_admin": False}
    assert (await http.get("/caller", headers=bearer(ROOT))).json() == {"id": 9, "name": "root", "is_admin": True}


async def test_an_operation_may_require_a_caller_without_looking_at_it(http: httpx.AsyncClient) -> None:
    assert (await http.get("/protected", headers=bearer(ADA))).json() == "something"


async def test_each_request_validates_its_token_once(http: httpx.AsyncClient, user_service: UserServiceStub) -> None:
    for path in (*PROTECTED, "/public"):
        assert (await http.get(path, headers=bearer(ADA))).status_code == 200
    assert [token for token, _ in user_service.requests] == [ADA, ADA]


@pytest.mark.parametrize("path", PROTECTED)
async def test_the_other_outcomes_are_the_documented_errors(
    http: httpx.AsyncClient, user_service: UserServiceStub, path: str
) -> None:
    missing = await http.get(path)
    malformed = await http.get(path, headers=bearer("x(y)"))
    assert user_service.requests == []
    rejected = await http.get(path, headers=bearer("unknown"))
    user_service.answer = lambda _: (500, b"{}")
    unavailable = await http.get(path, headers=bearer(ADA))
    responses = (missing, malformed, rejected, unavailable)
    assert [(each.status_code, each.json()["code"]) for each in responses] == [
        (401, "not-authenticated"),
        (401, "invalid-token"),
        (401, "invalid-token"),
        (503, "auth-unavailable"),
    ]
    assert unavailable.headers["retry-after"] == "2"
    assert {each.json()["code"] for each in responses} == {error.code for error in AUTHENTICATION_ERRORS}


async def test_the_request_log_names_the_caller(http: httpx.AsyncClient, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        await http.get("/protected", headers=bearer(ROOT))
    lines: list[Any] = [record.msg for record in caplog.records if record.name == "chassis.requests"]
    assert [line["user_id"] for line in lines] == [9]


async def test_the_document_says_which_operations_are_protected_and_where_to_log_in(app: FastAPI) -> None:
    document = app.openapi()
    paths: dict[str, Any] = document["paths"]
    assert {path for path in paths if paths[path]["get"]["security"]} == set(PROTECTED)
    for path in PROTECTED:
        assert {"401", "503"} <= paths[path]["get"]["responses"].keys()
    schemes = document["components"]["securitySchemes"]
    assert set(schemes) == {"Bearer", "Login"}
    assert schemes["Login"]["flows"]["password"]["tokenUrl"] == "http://users.example/login"
