"""Executes the shell blocks of the documentation.

The convention of the documents: a comment after a command, such as `# 201`, is the last line that it prints. A line
with curl and without such a comment uses `-fsS`, so an error ends it with a non-zero status. All blocks of a document
run in one shell, so variables are kept, against two new services.
"""

import re
from pathlib import Path

import pytest

from testkit.processes import running_services
from tests.documents import DOCUMENTS, Shell, commands, follow, shell_parts

# These change the project, so that their own tests in tests/installation follow them on a copy of it.
CHANGING = {"docs/add-a-field.md", "docs/add-a-service.md"}
EXECUTED = [
    document
    for document in DOCUMENTS
    if document not in CHANGING and any(kind == "run" for kind, _ in shell_parts(document))
]


@pytest.mark.parametrize("document", EXECUTED)
def test_the_shell_blocks_print_what_the_document_says(document: str, tmp_path: Path) -> None:
    with running_services(tmp_path, RATE_LIMIT_LOGIN="10/minute") as services:
        follow(document, tmp_path, services)


@pytest.mark.parametrize("document", EXECUTED)
def test_every_failing_curl_would_be_noticed(document: str) -> None:
    for kind, block in shell_parts(document):
        if kind == "run":
            for command in commands(block):
                if "%{http_code}" in command.text and "<<" not in command.text:
                    assert command.expected, f"the status of this command is not checked: {command.text}"
                for line in command.text.replace("\\\n", " ").splitlines():
                    if re.search(r"\bcurl -", line):
                        assert "-fsS" in line or "%{http_code}" in line or command.expected, line


def test_the_guides_are_executed() -> None:
    services = {"user-service/README.md", "product-service/README.md"}
    assert services | {"README.md", "TESTING.md", "docs/tour.md", "docs/validate-a-token.md"} <= set(EXECUTED)


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
def test_a_block_is_split_into_commands(block: str, expected: list[tuple[str, str | None]]) -> None:
    assert [(command.text, command.expected) for command in commands(block)] == expected


def test_the_shell_keeps_variables_and_returns_status_and_output(tmp_path: Path) -> None:
    with Shell(tmp_path) as shell:
        assert shell.run("a=1") == (0, [])
        assert shell.run("echo $a; false | cat") == (1, ["1"])
        assert shell.run("printf 'no line break'") == (0, ["no line break"])
        assert shell.run("cat") == (0, [])
        with pytest.raises(AssertionError, match="unbound variable"):
            shell.run("echo $unknown")
