"""Prometheus and Alertmanager as Debian packages them, on loopback, with the files of deploy/observability."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from testkit.processes import eventually, free_port
from tests.documents import ROOT

DEPLOY = ROOT / "deploy" / "observability"
TARGETS = 2
INTERVAL = 0.5  # seconds between two scrapes, and between two evaluations of the rules


@contextmanager
def running(program: str, folder: Path, port: int, *options: str) -> Iterator[str]:
    """The address of a server, which is ready."""
    folder.mkdir(parents=True)
    url = f"http://127.0.0.1:{port}"
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([program, *options], cwd=folder, stdout=log, stderr=log)

    def is_ready() -> bool:
        assert process.poll() is None, (folder / "log").read_text()
        try:
            return httpx.get(f"{url}/-/ready", trust_env=False).is_success
        except httpx.TransportError:
            return False

    try:
        eventually(is_ready, 60, f"{program} is ready")
        yield url
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def alertmanager(folder: Path) -> Iterator[str]:
    port = free_port()
    options = (
        f"--config.file={DEPLOY / 'alertmanager.yml'}",
        f"--storage.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
    )
    with running("prometheus-alertmanager", folder, port, *options) as url:
        yield url


@dataclass(frozen=True)
class Prometheus:
    url: str

    def get(self, path: str, **parameters: str) -> Any:
        answer = httpx.get(f"{self.url}/api/v1/{path}", params=parameters, trust_env=False, timeout=20)
        assert answer.is_success, f"{parameters}: {answer.text}"
        return answer.json()["data"]

    def query(self, expression: str) -> dict[str, float]:
        """The value of each series, by its labels as text."""
        result = self.get("query", query=expression)["result"]
        return {
            ",".join(f"{name}={value}" for name, value in sorted(each["metric"].items())): float(each["value"][1])
            for each in result
        }

    def value(self, expression: str) -> float | None:
        """The value of an expression with one series; None if it has none."""
        values = list(self.query(expression).values())
        assert len(values) <= 1, expression
        return values[0] if values else None

    def scrape_again(self) -> None:
        """Wait until all targets have been scraped, and then the rules evaluated, after this moment."""
        now = datetime.now(UTC)

        def scraped() -> bool:
            oldest = self.value("min(timestamp(up))")
            return oldest is not None and oldest > now.timestamp() and len(self.query("up")) == TARGETS

        def evaluated() -> bool:
            groups = self.get("rules")["groups"]
            return all(datetime.fromisoformat(group["lastEvaluation"]) > now for group in groups)

        eventually(scraped, 30, "the targets have been scraped")
        now = datetime.now(UTC)
        eventually(evaluated, 30, "the rules have been evaluated")


@contextmanager
def prometheus(folder: Path, targets: dict[str, str], alertmanager_url: str) -> Iterator[Prometheus]:
    """Prometheus with the project's configuration, apart from addresses and intervals.

    :param targets: where each target of the configuration is, as host:port
    """
    port = free_port()
    config = (DEPLOY / "prometheus.yml").read_text(encoding="utf-8")
    addresses = {**targets, "alertmanager:9093": alertmanager_url.removeprefix("http://")}
    texts = {
        **{f'"{name}"': f'"{address}"' for name, address in addresses.items()},
        "interval: 15s": f"interval: {round(INTERVAL * 1000)}ms",
        "[rules.yml]": f'["{DEPLOY / "rules.yml"}"]',
    }
    for old, new in texts.items():
        assert old in config
        config = config.replace(old, new)
    folder.mkdir(parents=True)
    file = folder / "prometheus.yml"
    file.write_text(config, encoding="utf-8")
    options = (
        f"--config.file={file}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    )
    with running("prometheus", folder / "run", port, *options) as url:
        yield Prometheus(url)
