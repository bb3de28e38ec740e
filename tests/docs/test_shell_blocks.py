"""The shell blocks of the documentation, pasted by a test as a reader would paste them.

The convention of the documents: what a line prints last stands behind it as a comment, `# 201` say; a line with curl
and without such a comment uses `-fsS`, so that an error ends it with a status that is not 0. All blocks of a document
run in one shell, so that variables carry on, against two services that are as empty as a reader's first start.
"""

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Timer
from typing import Self

import pytest
from docs_support import DOCUMENTS, shell_parts
from system_support import Service, running_services

_EXPECTED = re.compile(r"  # (?P<text>.+)$")
_WHOLE_DOCUMENT = 120.0
"""Seconds after which a shell that hangs is ended."""

EXECUTED = [document for document in DOCUMENTS if any(kind == "run" for kind, _ in shell_parts(document))]


@dataclass(frozen=True)
class Command:
    """One command of a block, which may span several lines, and what its last line of output has to be, if told."""

    text: str
    expected: str | None


def commands(block: str) -> list[Command]:
    """The block's commands, one by one: a command ends with the line at which the shell finds it whole."""
    found: list[Command] = []
    lines: list[str] = []
    for line in block.splitlines():
        lines.append(line)
        text = "\n".join(lines)
        if not line.endswith("\\") and _is_whole(text):
            code = [each for each in lines if each.strip() and not each.lstrip().startswith("#")]
            if code:
                comment = _EXPECTED.search(line)
                found.append(Command(text, comment["text"] if comment else None))
            lines = []
    assert not lines, f"the block ends within a command: {lines}"
    return found


def _is_whole(text: str) -> bool:
    # A here-document without its end is only a warning.
    look = subprocess.run(["bash", "-n"], input=text + "\n", capture_output=True, text=True, check=False)
    return look.returncode == 0 and not look.stderr


class Shell:
    """One bash, which is given a command at a time and asked what it printed."""

    _END = "=== end of command:"

    def __init__(self, folder: Path) -> None:
        # Neither a proxy nor a ~/.curlrc may come between.
        environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
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
        """The exit status of the command, and the lines that it printed, blank ones left out."""
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
        raise AssertionError(f"the shell ended, or was ended, during {command!r}: {printed}")


@contextmanager
def reader(folder: Path) -> Iterator[tuple[Shell, dict[str, Service]]]:
    """A reader's shell in an empty copy of the project that both services run in."""
    with running_services(folder) as services, Shell(folder) as shell:
        yield shell, {"user-service": services.users, "product-service": services.products}


def addressed(block: str, services: dict[str, Service]) -> str:
    """The block with the addresses of these services, instead of those that a reader's have."""
    ports = {"8001": services["user-service"].port, "8002": services["product-service"].port}
    assert not re.search(r"(?<!localhost):800\d|:800[^12]", block), (
        f"an address that is not of these services:\n{block}"
    )
    return re.sub(r"localhost:(8001|8002)\b", lambda address: f"localhost:{ports[address[1]]}", block)


def _last_words(services: dict[str, Service]) -> list[str]:
    return [line for name, service in services.items() for line in (f"log of {name}:", *service.log.splitlines()[-3:])]


@pytest.mark.parametrize("document", EXECUTED)
def test_what_a_reader_pastes_prints_what_the_document_says(document: str, tmp_path: Path) -> None:
    with reader(tmp_path) as (shell, services):
        for kind, what in shell_parts(document):
            if kind == "stop":
                services[what].stop()
            elif kind == "start":
                services[what].start().wait_ready()
            else:
                for command in commands(addressed(what, services)):
                    status, printed = shell.run(command.text)
                    last = printed[-1] if printed and command.expected else command.expected
                    story = [command.text, "printed:", *printed, *_last_words(services)]
                    assert (status, last) == (0, command.expected), "\n".join(story)


@pytest.mark.parametrize("document", EXECUTED)
def test_every_line_with_curl_would_be_noticed_if_it_failed(document: str) -> None:
    for kind, block in shell_parts(document):
        if kind == "run":
            for command in commands(block):
                if "%{http_code}" in command.text and "<<" not in command.text:
                    assert command.expected, f"nothing looks at the status of {command.text}"
                for line in command.text.replace("\\\n", " ").splitlines():
                    if re.search(r"\bcurl -", line):
                        assert "-fsS" in line or "%{http_code}" in line or command.expected, line


def test_the_documents_that_lead_a_reader_are_executed() -> None:
    assert {"README.md", "TESTING.md", "user-service/README.md", "product-service/README.md"} <= set(EXECUTED)


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        ("curl a  # 201\ncurl b\n", [("curl a  # 201", "201"), ("curl b", None)]),
        ("curl a \\\n  -d b  # 201\n", [("curl a \\\n  -d b  # 201", "201")]),
        ("curl 'a\nb'  # 3 4\n", [("curl 'a\nb'  # 3 4", "3 4")]),
        ("f() {\n  a\n}\n\n# only a comment\n", [("f() {\n  a\n}", None)]),
        ("cat <<'END'\na  # 1\nEND\n", [("cat <<'END'\na  # 1\nEND", None)]),
    ],
)
def test_a_block_is_taken_apart_into_commands(block: str, expected: list[tuple[str, str | None]]) -> None:
    assert [(command.text, command.expected) for command in commands(block)] == expected


def test_the_shell_keeps_variables_and_tells_status_and_output(tmp_path: Path) -> None:
    with Shell(tmp_path) as shell:
        assert shell.run("a=1") == (0, [])
        assert shell.run("echo $a; false | cat") == (1, ["1"])
        assert shell.run("printf 'no line break'") == (0, ["no line break"])
        assert shell.run("cat") == (0, [])
        with pytest.raises(AssertionError, match="unbound variable"):
            shell.run("echo $unknown")
