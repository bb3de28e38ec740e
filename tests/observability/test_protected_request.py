"""The text in docs/metrics.md: what a scrape of both services shows of one protected request. `-s` prints it."""

import re
from pathlib import Path

from testkit.metrics import Samples, scrape
from testkit.processes import Service, eventually, free_port, services_in
from tests.documents import read

SHOWN = re.compile(r"_(count|total)$")


def lines(service: Service, before: Samples, after: Samples) -> list[str]:
    """The samples that have increased, by how much, without those of the process."""
    found = []
    for sample in after.all:
        increase = sample.value - before.sum(sample.name, **sample.labels)
        if SHOWN.search(sample.name) and increase > 0 and not sample.name.startswith("process_"):
            labels = ",".join(f'{name}="{value}"' for name, value in sample.labels.items())
            found.append(f"{service.name:15}  {sample.name}{{{labels}}} {increase:g}")
    return found


def test_one_protected_request_is_in_the_metrics_of_both_services(tmp_path: Path) -> None:
    with services_in(tmp_path) as services:
        both = [services.users, services.products]
        ports = {service.name: free_port() for service in both}
        for service in both:
            service.environment["METRICS_PORT"] = str(ports[service.name])
            service.start()
        for service in both:
            service.wait_ready()
        ada = services.sign_up("ada")
        before = [scrape(ports[service.name]) for service in both]
        services.create_product(ada)

        def text() -> str:
            after = [scrape(ports[service.name]) for service in both]
            return "\n".join(line for each in zip(both, before, after, strict=True) for line in lines(*each))

        # A request is recorded when its response has been sent.
        eventually(lambda: f"```\n{text()}\n```" in read("docs/metrics.md"), 10, lambda: f"not documented:\n{text()}")
        print(f"\n{text()}")
