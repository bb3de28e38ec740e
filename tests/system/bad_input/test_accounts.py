"""Bad input for registration, login and token validation: the documented error for each, and nothing stored."""

import json

import httpx
import pytest

from testkit.processes import Account, problem
from tests.system.bad_input.drafts import JSON, with_field

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
INVALID_REGISTRATION_VALUES = {
    "username": [
        *("null", "1", "true", "1e400", "[]", '["adaa"]', "{}", '""', '"ab"', '"' + "x" * 51 + '"', '"a b c"', '"äöü"'),
        *(
            r'"ada\n"',
            r'"ada\u0000"',
            r'"\u0000ada"',
            '" ada"',
            '"ada "',
            '"a/da"',
            '"ada@x"',
            r'"\u0430\u0434\u0430"',
            r'"\uff41\uff44\uff41"',
        ),
    ],
    "password": [
        *("null", "1", "12345678", "true", "[]", "{}", '""', '"1234567"', '"' + "x" * 257 + '"'),
        *(r'"12345678\u0000"', r'"1234\n5678"', r'"\u001b12345678"', r'"12345678\u0080"'),
    ],
    "is_active": ["true"],
    "roles": ['["admin"]'],
    "id": ["1"],
    "Username": ['"ada"'],
}


@pytest.mark.parametrize("field", INVALID_REGISTRATION_VALUES)
def test_an_invalid_field_of_a_registration_is_a_422_that_points_to_it(users: httpx.Client, field: str) -> None:
    draft = {"username": "never-stored", "password": "correct horse battery staple"}
    for value in INVALID_REGISTRATION_VALUES[field]:
        answer = users.post("/register", content=with_field(draft, field, value), headers=JSON)
        errors = problem(answer, 422, "validation-failed")["errors"]
        assert {error["pointer"] for error in errors} == {f"/{field}"}, value
        assert json.loads(value) in (True, 1, []) or "never-stored" not in answer.text


def test_usernames_are_case_insensitive(users: httpx.Client, owner: Account) -> None:
    for name in (owner.username, owner.username.upper(), owner.username.title()):
        answer = users.post("/register", json={"username": name, "password": "another long password"})
        problem(answer, 409, "username-taken")


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"username=ada", "invalid_request"),
        (b"password=x", "invalid_request"),
        (b"username=&password=", "invalid_request"),
        (b"username=a%00b&password=x", "invalid_request"),
        (b"username=ada&password=x%00", "invalid_request"),
        (b"username=ada&password=" + b"x" * 257, "invalid_request"),
        (b"username=ada&password=x&password=y", "invalid_request"),
        (b"username=%FF&password=x", "invalid_request"),
        (b"username=%ED%A0%80&password=x", "invalid_request"),
        (b"username=\xff&password=x", "invalid_request"),
        (b"username", "invalid_request"),
        (b'{"username": "ada", "password": "x"}', "invalid_request"),
        (b"a=1&" * 200 + b"username=ada&password=x", "invalid_request"),
        (b"username=ada&password=nobodys-password", "invalid_grant"),
        (b"username=ada&password=nobodys-password&remember=1", "invalid_grant"),
    ],
)
def test_an_invalid_login_form_is_rejected(users: httpx.Client, body: bytes, error: str) -> None:
    answer = users.post("/login", content=body, headers=FORM)
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/json")
    assert answer.json()["error"] == error


@pytest.mark.parametrize(
    "value", ['"username": 1', '"username": true', r'"username": "a\u0000"', '"password": 1e400', '"remember": true']
)
def test_an_invalid_json_login_is_rejected(users: httpx.Client, value: str) -> None:
    name, _, given = value.partition(": ")
    body = with_field({"username": "ada", "password": "x"}, name.strip('"'), given)
    problem(users.post("/login", content=body, headers=JSON), 422, "validation-failed")


@pytest.mark.parametrize(
    "body", [b'{"token": 1}', b'{"token": null}', b'{"token": true}', b'{"token": ["a"]}', b'{"token": "a", "x": 1}']
)
def test_an_invalid_validation_request_is_a_422(users: httpx.Client, body: bytes) -> None:
    problem(users.post("/validate-token", content=body, headers=JSON), 422, "validation-failed")
