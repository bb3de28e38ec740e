"""The user service is killed and restarted while clients read from and write to the product service."""

import time

import httpx

from testkit.processes import Services, eventually, problem
from tests.streams import Stream, assert_kept, create, names_of_products

RECOVERED_WITHIN = 2.0
"""Seconds after the user service is ready again."""


def test_reads_never_fail_and_writes_recover_soon_after_the_restart(services: Services) -> None:
    owner = services.sign_up()
    product_service = services.products.pid
    began: dict[str, float] = {}

    def write(client: httpx.Client, name: str) -> httpx.Response:
        began[name] = time.monotonic()
        answer = create(client, name)
        if answer.status_code != 201:
            problem(answer, 503, "auth-unavailable")
            time.sleep(0.02)  # A 503 takes so little time that there would be hardly any other requests.
        return answer

    def read(client: httpx.Client, name: str) -> httpx.Response:
        time.sleep(0.01)
        return client.get("/products?limit=10")

    with (
        Stream(services.products, read, clients=2, prefix="read") as reads,
        Stream(services.products, write, prefix="killed", headers=owner.bearer) as writes,
    ):
        writes.flows()
        services.users.kill()
        writes.flows(status=503)
        reads.flows(status=200)
        services.users.start().wait_ready()
        recovered = time.monotonic() + RECOVERED_WITHIN
        eventually(lambda: time.monotonic() > recovered)
        writes.flows(40)

    assert set(reads.counts) == {200}
    assert set(writes.counts) == {201, 503}
    late = {name for name, moment in began.items() if moment > recovered}
    assert len(late) > 30
    assert {writes.answers[name] for name in late} == {201}
    assert_kept(writes, names_of_products(services, "killed"))
    assert (services.products.pid, services.products.is_running) == (product_service, True)
