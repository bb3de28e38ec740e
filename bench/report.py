"""The options and the results that benchmarks have in common."""

import argparse
import os
import platform
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from testkit.databases import POSTGRESQL, SQLITE

TITLES = {SQLITE: "SQLite", POSTGRESQL: "PostgreSQL"}


def parser(name: str, description: str | None, databases: str = "both") -> argparse.ArgumentParser:
    """A parser of the options that all have.

    :param name: the name of the benchmark
    :param description: the docstring of its module, of which the first line is shown
    :param databases: what it runs on by default
    """
    made = argparse.ArgumentParser(prog=f"dev.py bench {name}", description=(description or "").partition("\n")[0])
    made.add_argument(
        "--database", choices=list(TITLES), action="append", help=f"default: {databases}; may be repeated"
    )
    made.add_argument("--short", action="store_true", help="few requests, which show only that it works")
    made.add_argument("--write", action="store_true", help=f"write bench/{_file(name).name} as well")
    return made


def by_database(chosen: Iterable[str] | None, results_on: Callable[[str], Iterable[str]]) -> Iterator[str]:
    """The results on each of the chosen databases, or on both, below its title."""
    for backend in chosen or TITLES:
        yield from ("", f"## {TITLES[backend]}", "")
        yield from results_on(backend)


def report(name: str, lines: Iterable[str], *, write: bool) -> None:
    """Print the lines as they come, and write them to a file if wanted."""
    printed = []
    for line in lines:
        print(line, flush=True)
        printed.append(line)
    if write:
        command = "dev.py bench" if name == "services" else f"dev.py bench {name}"
        text = "\n".join([f"# Results of `python3 {command}`", "", *printed])
        _file(name).write_text(f"{text}\n", encoding="utf-8")


def machine() -> str:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{cores} cores, {platform.system()}, Python {platform.python_version()}"


def _file(name: str) -> Path:
    return Path(__file__).with_name("RESULTS.md" if name == "services" else f"RESULTS-{name}.md")
