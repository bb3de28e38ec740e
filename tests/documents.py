"""The project's Markdown files: their shell blocks, links and headings, and a shell that runs the blocks."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Timer
from typing import Self

from testkit.processes import Pair

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted(
    {
        path.relative_to(ROOT).as_posix()
        for pattern in ("*.md", "[!.]*/*.md", "docs/**/*.md")
        for path in ROOT.glob(pattern)
    }
)
"""Every document, as a path from the root of the project."""

_PART = re.compile(
    r"^<!-- (?P<action>start|stop) (?P<service>user-service|product-service) -->$"
    r"|^```\w*\n(?P<block>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_HEADING = re.compile(r"^#{1,6} +(.+?) *$", re.MULTILINE)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def read(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def prose(document: str) -> str:
    """The document without its fenced blocks."""
    return _PART.sub("", read(document))


def shell_parts(document: str) -> list[tuple[str, str]]:
    """The steps that a test executes for this document, in order.

    `("run", block)` for each fenced block that uses curl; `("stop", service)` or `("start", service)` where the text
    asks the reader to do that, repeated for the test in an HTML comment.
    """
    parts: list[tuple[str, str]] = []
    for part in _PART.finditer(read(document)):
        if part["action"]:
            parts.append((part["action"], part["service"]))
        elif "curl" in part["block"]:
            parts.append(("run", part["block"]))
    return parts


def links(document: str) -> list[str]:
    """The targets of the document's links, as written."""
    return _LINK.findall(prose(document))


def anchors(document: str) -> set[str]:
    """The anchors of the document's headings, as GitHub and others make them."""
    names: set[str] = set()
    for heading in _HEADING.findall(prose(document)):
        words = re.sub(r"[^\w\- ]", "", heading.lower())
        names.add(words.replace(" ", "-"))
    return names


def shell_words(document: str) -> Iterator[str]:
    """Every place that may name a command: the lines of all fenced blocks, and inline code."""
    for part in _PART.finditer(read(document)):
        if part["block"]:
            yield from part["block"].splitlines()
    yield from re.findall(r"`([^`\n]+)`", prose(document))


_EXPECTED = re.compile(r"  # (?P<text>.+)$")
_WHOLE_DOCUMENT = 600.0
"""Seconds after which a hanging shell is killed."""


@dataclass(frozen=True)
class Command:
    """A command of a block, possibly over several lines, and the expected last line of its output, if any."""

    text: str
    expected: str | None


def commands(block: str) -> list[Command]:
    """The block's commands; each ends with the line that makes it complete for the shell."""
    found: list[Command] = []
    lines: list[str] = []
    for line in block.splitlines():
        lines.append(line)
        text = "\n".join(lines)
        if not line.endswith("\\") and _is_complete(text):
            code = [each for each in lines if each.strip() and not each.lstrip().startswith("#")]
            if code:
                comment = _EXPECTED.search(line)
                found.append(Command(text, comment["text"] if comment else None))
            lines = []
    assert not lines, f"the block ends within a command: {lines}"
    return found


def _is_complete(text: str) -> bool:
    # An unterminated here-document is only a warning.
    parsed = subprocess.run(["bash", "-n"], input=text + "\n", capture_output=True, text=True, check=False)
    return parsed.returncode == 0 and not parsed.stderr


class Shell:
    """A bash process that runs one command at a time and returns its output."""

    _END = "=== end of command:"

    def __init__(self, folder: Path) -> None:
        # Without proxies, and without a ~/.curlrc.
        environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        # With the python3 of the tests: one that a version manager puts on the PATH takes several times as long.
        environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment["PATH"]])
        self._bash = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            cwd=folder,
            env={**environment, "HOME": str(folder)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
        )
        self._timer = Timer(_WHOLE_DOCUMENT, self._bash.kill)
        self._timer.start()
        self.run("set -u -o pipefail")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        self._bash.kill()
        self._bash.wait()
        for stream in (self._bash.stdin, self._bash.stdout):
            if stream:
                stream.close()

    def run(self, command: str) -> tuple[int, list[str]]:
        """The exit status of the command, and the lines that it printed, without blank ones."""
        assert self._bash.stdin
        assert self._bash.stdout
        self._bash.stdin.write(f"{{\n{command}\n}} </dev/null\nprintf '\\n%s %s\\n' '{self._END}' $?\n")
        self._bash.stdin.flush()
        printed: list[str] = []
        for line in self._bash.stdout:
            if line.startswith(self._END):
                return int(line.removeprefix(self._END)), printed
            if line.strip():
                printed.append(line.strip())
        raise AssertionError(f"the shell exited, or was killed, during {command!r}: {printed}")


def follow(document: str, folder: Path, services: Pair) -> None:
    """Execute the document in a shell in this folder, and assert that each command prints what it should."""
    by_name = {service.name: service for service in (services.users, services.products)}
    with Shell(folder) as shell:
        for kind, what in shell_parts(document):
            if kind == "stop":
                by_name[what].stop()
            elif kind == "start":
                by_name[what].start().wait_ready()
            else:
                for command in commands(_with_real_addresses(what, services)):
                    status, printed = shell.run(command.text)
                    last = printed[-1] if printed and command.expected else command.expected
                    story = [command.text, "printed:", *printed, *_last_log_lines(services)]
                    assert (status, last) == (0, command.expected), "\n".join(story)


def _with_real_addresses(block: str, services: Pair) -> str:
    """The block with the ports and folders of these services, instead of the reader's."""
    ports = {"8001": services.users.port, "8002": services.products.port}
    assert not re.search(r"(?<!localhost):800\d|:800[^12]", block), f"a port of neither service:\n{block}"
    python = shlex.quote(sys.executable)
    block = re.sub(
        r"python3 dev\.py manage (user|product)-service\b",
        lambda service: f"env -C {service[1]}-service {python} -m {service[1]}_service",
        block,
    )
    return re.sub(r"localhost:(8001|8002)\b", lambda address: f"localhost:{ports[address[1]]}", block)


def _last_log_lines(services: Pair) -> list[str]:
    return [
        line
        for service in (services.users, services.products)
        for line in (f"log of {service.name}:", *service.log.splitlines()[-3:])
    ]
