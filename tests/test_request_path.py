"""The path of a protected write through both services: its thread hops, and its function calls in this project.

Both applications run in this process, so both can be counted; they communicate over a real socket.
"""

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import httpx
import pytest
import uvicorn
from anyio._backends._asyncio import AsyncIOBackend
from fastapi import FastAPI
from sqlalchemy import Engine, event

from product_service import main as product_service
from product_service.domain import search_text
from product_service.models import products as model
from product_service.settings import Settings as ProductSettings
from testkit.applications import running
from testkit.databases import NewDatabase
from testkit.processes import eventually
from testkit.products import migrations_of as product_migrations
from testkit.users import KEY, UNLIMITED, sign_up
from testkit.users import migrations_of as user_migrations
from user_service import main as user_service
from user_service.settings import Settings as UserSettings

ROOT = str(Path(__file__).resolve().parents[1])
DRAFT = {"name": "Lamp", "description": "of brass", "price": "19.99", "quantity": 3}


@asynccontextmanager
async def serving(app: FastAPI) -> AsyncIterator[str]:
    """The application on a real socket, served by this event loop."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, lifespan="on"))
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    task = asyncio.create_task(server.serve())
    async with asyncio.timeout(30):
        while not server.started:  # noqa: ASYNC110 - uvicorn has only this attribute
            await asyncio.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        await task


@pytest.fixture
async def products(new_database: NewDatabase, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the product service, with the token of an account of a real user service."""
    values: dict[str, Any] = {"data_dir": tmp_path, "secret_key": KEY.decode(), "bcrypt_cost": 4, **UNLIMITED}
    users = user_service.create_app(UserSettings(_env_file=None, database_url=new_database(user_migrations), **values))
    async with serving(users) as url, httpx.AsyncClient(base_url=url, trust_env=False) as client:
        person = await sign_up(client)
        settings = ProductSettings(
            _env_file=None, database_url=new_database(product_migrations), user_service_url=url, validation_timeout=20
        )
        async with running(product_service.create_app(settings)) as products:
            products.headers.update(person.headers)
            # Connections are opened, and statements compiled, by the first request.
            assert (await products.post("/products", json=DRAFT)).status_code == 201
            yield products


@contextmanager
def counted_hops(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The calls that are handed to a thread, by thread pool."""
    hops: list[str] = []
    submit, run_sync = ThreadPoolExecutor.submit, AsyncIOBackend.run_sync_in_worker_thread

    def counted_submit(self: ThreadPoolExecutor, work: Any, /, *args: Any, **kwargs: Any) -> Any:
        hops.append(str(self._thread_name_prefix))
        return submit(self, work, *args, **kwargs)

    async def counted_run_sync(func: Any, *args: Any, **kwargs: Any) -> Any:
        hops.append(f"shared pool: {func}")
        return await run_sync(func, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(ThreadPoolExecutor, "submit", counted_submit)
        patch.setattr(AsyncIOBackend, "run_sync_in_worker_thread", counted_run_sync)
        yield hops


async def test_a_protected_write_takes_two_thread_hops(
    products: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    with counted_hops(monkeypatch) as hops:
        assert (await products.post("/products", json=DRAFT)).status_code == 201
    assert hops == ["database-read", "database-write"]


async def test_a_public_read_takes_one_thread_hop(products: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    with counted_hops(monkeypatch) as hops:
        assert (await products.get("/products/1")).status_code == 200
    assert hops == ["database-read"]


def ours(code: CodeType) -> bool:
    return code.co_filename.startswith(ROOT) and "/src/" in code.co_filename


def frames_of_thread(frame: FrameType | None) -> Iterator[CodeType]:
    while frame is not None:
        yield frame.f_code
        frame = frame.f_back


def frames_of_task(task: asyncio.Task[Any]) -> list[CodeType]:
    """The functions awaiting each other in this task, from the inside out."""
    codes: list[CodeType] = []
    waiting: Any = task.get_coro()
    while waiting is not None:
        if code := getattr(waiting, "cr_code", None) or getattr(waiting, "gi_code", None):
            codes.append(code)
        waiting = getattr(waiting, "cr_await", None) or getattr(waiting, "gi_yieldfrom", None)
    return codes[::-1]


def waiting_endpoint(loop: asyncio.AbstractEventLoop) -> list[str] | None:
    """Our functions of the task that waits for the endpoint, from the inside out."""
    for task in asyncio.all_tasks(loop):
        names = [code.co_qualname for code in frames_of_task(task) if ours(code)]
        if any(name.endswith("create_product") for name in names) and "BoundedThreadPool.run_for" in names:
            return names
    return None


async def test_at_most_eight_frames_lie_between_the_endpoint_and_the_insert(products: httpx.AsyncClient) -> None:
    inserts: list[list[str]] = []
    loop = asyncio.get_running_loop()

    def look(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if not statement.startswith("INSERT INTO products "):
            return
        inside = [code.co_qualname for code in frames_of_thread(sys._getframe()) if ours(code)]
        # The thread may be here before the event loop has suspended the task that waits for it.
        outside = eventually(lambda: waiting_endpoint(loop))
        inserts.append([*inside, *outside])

    assert threading.current_thread() is threading.main_thread()
    event.listen(Engine, "before_cursor_execute", look)
    try:
        assert (await products.post("/products", json=DRAFT)).status_code == 201
    finally:
        event.remove(Engine, "before_cursor_execute", look)
    [frames] = inserts
    endpoint = next(number for number, name in enumerate(frames) if name.endswith("create_product"))
    assert len(frames[: endpoint + 1]) <= 8, frames[: endpoint + 1]


async def test_name_description_and_sku_are_folded_once_per_insert(
    products: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    folded: list[str] = []
    fold = search_text.fold

    def counted(text: str) -> str:
        folded.append(text)
        return fold(text)

    monkeypatch.setattr(search_text, "fold", counted)
    monkeypatch.setattr(model, "fold", counted)
    assert (await products.post("/products", json=DRAFT)).status_code == 201
    assert folded == ["Lamp", "of brass", ""]  # It has no SKU.
