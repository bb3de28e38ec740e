"""The metrics of every service, recorded in this process. tests/processes/test_metrics.py scrapes real ones."""

import asyncio
import socket
import subprocess
import sys
import threading
from contextlib import closing

import httpx
import pytest

from chassis.errors import Unavailable
from chassis.http.routing import Router
from chassis.rate_limits import RateLimits, parse
from chassis.settings import ServiceSettings, UnusableSettings
from chassis.thread_pool import BoundedThreadPool
from testkit.library import client_of, make_app
from testkit.library_api import TOKEN
from testkit.metrics import increases

REQUESTS = "http_server_request_duration_seconds_count"


class Busy(Unavailable):
    code = "busy"
    detail = "Busy."


def test_nothing_is_imported_or_recorded_unless_metrics_are_on() -> None:
    script = (
        "import sys\n"
        "from chassis import metrics\n"
        "counter = metrics.Counter('test_total', 'A test.', outcome=('good',))\n"
        "counter.add(1, 'good')\n"
        "assert 'prometheus_client' not in sys.modules\n"
        "registry = metrics.record()\n"
        "later = metrics.Gauge('test_later', 'Declared when others are recorded already.')\n"
        "assert registry.get_sample_value('test_total', {'outcome': 'good'}) == 0\n"
        "counter.add(2, 'good')\n"
        "later.set(3)\n"
        "print(*(registry.get_sample_value(*each) for each in [('test_total', {'outcome': 'good'}), ('test_later',)]))"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (run.stdout, run.stderr) == ("2.0 3.0\n", "")


async def test_a_request_is_recorded_with_its_method_route_template_and_status(client: httpx.AsyncClient) -> None:
    with increases() as increase:
        await client.get("/books/17")
        await client.head("/books")
        await client.delete("/books/1", headers=TOKEN)
        await client.delete("/books/1")
        await client.get("/failures/unexpected")
        assert increase(REQUESTS) == 5
        assert increase(REQUESTS, method="GET", route="/books/{book_id}", status="200") == 1
        assert increase(REQUESTS, method="HEAD", route="/books", status="200") == 1
        assert increase(REQUESTS, method="DELETE", route="/books/{book_id}", status="204") == 1
        assert increase(REQUESTS, method="DELETE", route="/books/{book_id}", status="401") == 1
        assert increase(REQUESTS, method="GET", status="500") == 1
        assert increase("http_server_request_duration_seconds_sum") > 0
        assert increase("http_server_request_duration_seconds_bucket", le="10.0") == 5


async def test_unknown_methods_and_paths_share_one_value(client: httpx.AsyncClient) -> None:
    with increases() as increase:
        for number in range(3):
            await client.get(f"/unknown/{number}")
            await client.request(f"METHOD{number}", "/unknown")
        assert increase(REQUESTS) == 6
        assert increase(REQUESTS, method="GET", route="none", status="404") == 3
        assert increase(REQUESTS, method="_OTHER", route="none") == 3


async def test_active_requests_are_those_in_progress() -> None:
    routes = Router()
    seen = []

    @routes.get("/seen")
    async def see() -> None:
        seen.append(increase("http_server_active_requests"))

    with increases() as increase:
        async with client_of(make_app(routes)) as client:
            await client.get("/seen")
        assert seen == [1]
        assert increase("http_server_active_requests") == 0


async def test_a_thread_pool_tells_its_threads_those_that_are_busy_waits_and_rejections() -> None:
    proceed = threading.Event()
    with increases() as increase:
        pool = BoundedThreadPool("metered", 2, 0.05, Busy)
        assert increase("thread_pool_threads", pool="metered") == 2
        working = [asyncio.ensure_future(pool.run(proceed.wait)) for _ in range(2)]
        await asyncio.sleep(0)
        assert increase("thread_pool_threads_busy", pool="metered") == 2
        assert increase("thread_pool_wait_seconds_count", pool="metered") == 0
        with pytest.raises(Busy):
            await pool.run(int)
        assert increase("thread_pool_rejections_total", pool="metered") == 1
        assert increase("thread_pool_wait_seconds_count", pool="metered") == 1
        assert increase("thread_pool_wait_seconds_sum", pool="metered") >= 0.05
        proceed.set()
        await asyncio.gather(*working)
        assert increase("thread_pool_threads_busy", pool="metered") == 0
        pool.close()


async def test_failed_calls_of_the_shared_storage_of_rate_limits_are_counted() -> None:
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        limits = RateLimits(f"redis://127.0.0.1:{listener.getsockname()[1]}")  # Nothing accepts connections there.
        with increases() as increase:
            await limits.hit([(parse("3/hour")[0], ("key",))])
            assert increase("rate_limit_storage_errors_total") == 1
        await limits.close()


def test_metrics_are_never_served_at_the_public_port() -> None:
    class Settings(ServiceSettings):
        service = "library"
        port: int = 8000

    with pytest.raises(ValueError, match="METRICS_PORT is the same as PORT") as refusal:
        Settings(_env_file=None, metrics_port=8000)
    assert isinstance(refusal.value.errors()[0]["ctx"]["error"], UnusableSettings)  # type: ignore[attr-defined]
    assert Settings(_env_file=None).metrics_port is None
    assert Settings(_env_file=None, metrics_port=8001).metrics_host == "127.0.0.1"
