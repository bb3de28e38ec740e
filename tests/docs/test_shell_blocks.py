"""The shell blocks of the documentation, pasted by a test as a reader would paste them.

The convention of the documents: what a line prints last stands behind it as a comment, `# 201` say; a line with curl
and without such a comment uses `-fsS`, so that an error ends it with a status that is not 0. All blocks of a document
run in one shell, so that variables carry on, against two services that are as empty as a reader's first start.
"""

import re
from pathlib import Path

import pytest

from testkit.processes import running_services
from tests.documents import DOCUMENTS, Shell, commands, follow, shell_parts

EXECUTED = [document for document in DOCUMENTS if any(kind == "run" for kind, _ in shell_parts(document))]


@pytest.mark.parametrize("document", EXECUTED)
def test_what_a_reader_pastes_prints_what_the_document_says(document: str, tmp_path: Path) -> None:
    with running_services(tmp_path, RATE_LIMIT_LOGIN="10/minute") as services:
        follow(document, tmp_path, services)


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
    services = {"user-service/README.md", "product-service/README.md"}
    assert services | {"README.md", "TESTING.md", "docs/validate-a-token.md"} <= set(EXECUTED)


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
