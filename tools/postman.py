"""Makes a Postman collection from the OpenAPI documents: a folder for each tag, and a request for each operation.

The requests can be sent in any order, or all of them from top to bottom. Their bodies are the examples of the
documents, with credentials, tokens and ids replaced by variables. Scripts create an account and log in when a request
needs a token, and keep the tokens and ids of the responses.
"""

import itertools
import json
from collections.abc import Mapping
from typing import Any

SCHEMA = "https://schema.getpostman.com/json/collection/v2.1.0/collection.json"
PASSWORD, NEW_PASSWORD = "correct horse battery staple", "a new horse, a new battery"  # those of the examples
# The fields of request bodies that are sent as variables, and those variables.
VARIABLES = {name: name for name in ("username", "password", "new_password", "token", "refresh_token")}
VARIABLES |= {"current_password": "password"}
# By operation, the variables that its response sets, each with the JavaScript expression of its value.
KEPT = {
    "register": {"user_id": "body.id", "token": "undefined"},
    "log_in": {"token": "body.access_token", "refresh_token": "body.refresh_token"},
    "refresh": {"token": "body.access_token", "refresh_token": "body.refresh_token"},
    "me": {"user_id": "body.id"},
    "change_password": {
        "new_password": 'pm.collectionVariables.get("password")',
        "password": "JSON.parse(pm.request.body.raw).new_password",
    },
    "list_sessions": {"session_id": "body.find(session => session.current).id"},
    "end_session": {"token": "undefined"},
    "revoke_token": {"token": "undefined"},
    "log_out": {"token": "undefined"},
    "log_out_everywhere": {"token": "undefined"},
    "delete_account": {"token": "undefined", "username": "undefined", "user_id": "undefined"},
    "close_account": {"token": "undefined", "username": "undefined", "user_id": "undefined"},
    "create_product": {"product_id": "body.id"},
}
# These come last in their folder, in this order, because the others need what they delete.
LAST = (
    *("delete_product", "delete_account", "close_account"),
    *("end_session", "revoke_token", "log_out", "log_out_everywhere"),
)

BEFORE_EVERY_REQUEST = """
// Creates an account and logs in, if the request needs them and there are none yet.
const vars = pm.collectionVariables;
const sent = JSON.stringify(pm.request);
const registers = sent.includes('"register"');

function post(path, done) {
  const account = {username: vars.get("username"), password: vars.get("password")};
  pm.sendRequest({
    url: pm.variables.get("user_service") + path,
    method: "POST",
    header: {"Content-Type": "application/json"},
    body: {mode: "raw", raw: JSON.stringify(account)},
  }, (error, response) => error ? console.error(error) : done(response.json()));
}

function logIn() {
  if (!sent.includes("token}}") || vars.get("token")) return;
  post("/login", tokens => {
    vars.set("token", tokens.access_token);
    vars.set("refresh_token", tokens.refresh_token);
  });
}

if (/{{(username|token|refresh_token|user_id)}}/.test(sent)) {
  if (registers || !vars.get("username")) vars.set("username", "postman-" + Date.now());
  if (registers || vars.get("user_id")) logIn();
  else post("/register", user => {
    vars.set("user_id", user.id);
    logIn();
  });
}
"""
AFTER_EVERY_REQUEST = """
// The token has expired: the next request logs in again.
if (pm.response.code === 401) pm.collectionVariables.unset("token");
"""


def collection(services: Mapping[str, tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    """The collection of these services: by name, each one's URL and OpenAPI document."""
    passwords = {"password": PASSWORD, "new_password": NEW_PASSWORD}
    variables: dict[str, Any] = {"username": "", **passwords, "token": "", "refresh_token": "", "user_id": ""}
    folders = []
    for name, (url, document) in services.items():
        variable = name.replace("-", "_")
        variables = {variable: url, **variables}
        requests: dict[str, list[tuple[str, dict[str, Any]]]] = {tag["name"]: [] for tag in document.get("tags", ())}
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                for parameter in operation.get("parameters", ()):
                    if parameter["in"] == "path":
                        variables.setdefault(parameter["name"], parameter.get("example", 1))
                request = _request(f"{{{{{variable}}}}}", method.upper(), path, operation, document)
                tag = operation.get("tags", ["other"])[0]
                requests.setdefault(tag, []).append((operation["operationId"], request))
        for tag, found in requests.items():
            found.sort(key=lambda each: LAST.index(each[0]) if each[0] in LAST else -1)
            folders.append({"name": f"{name}: {tag}", "item": [request for _, request in found]})
    return {
        "info": {"name": "Twinlatch", "schema": SCHEMA, "description": "Send any request, or run the collection."},
        "variable": [{"key": key, "value": str(value)} for key, value in variables.items()],
        "event": [_event("prerequest", BEFORE_EVERY_REQUEST), _event("test", AFTER_EVERY_REQUEST)],
        "item": folders,
    }


def _request(base: str, method: str, path: str, operation: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
    parameters = operation.get("parameters", ())
    query = [_parameter(each) for each in parameters if each["in"] == "query"]
    headers = [_parameter(each) for each in parameters if each["in"] == "header"]
    request: dict[str, Any] = {
        "method": method,
        "description": operation.get("description", ""),
        "auth": {"type": "bearer", "bearer": [{"key": "token", "value": "{{token}}"}]}
        if operation["security"]
        else {"type": "noauth"},
    }
    for media_type, content in itertools.islice(operation.get("requestBody", {"content": {}})["content"].items(), 1):
        example = _with_variables(_example(content, document))
        headers.append({"key": "Content-Type", "value": media_type})
        if media_type == "application/x-www-form-urlencoded":
            fields = [{"key": key, "value": value} for key, value in example.items()]
            request["body"] = {"mode": "urlencoded", "urlencoded": fields}
        else:
            text = example if isinstance(example, str) else json.dumps(example, indent=2)
            request["body"] = {"mode": "raw", "raw": text}
    path = path.replace("{", "{{").replace("}", "}}")
    sent = "&".join(f"{each['key']}={each['value']}" for each in query if not each.get("disabled"))
    request["url"] = {
        "raw": f"{base}{path}" + (f"?{sent}" if sent else ""),
        "host": [base],
        "path": path.strip("/").split("/"),
        "query": query,
    }
    request["header"] = headers
    return {"name": operation["summary"], "request": request, "event": [_event("test", _check(operation))]}


def _parameter(parameter: dict[str, Any]) -> dict[str, Any]:
    """A query parameter or a header; an optional one is only sent after it has been switched on."""
    examples = [each["value"] for each in parameter.get("examples", {}).values()]
    value = parameter.get("example", next(iter(examples), parameter["schema"].get("default", "")))
    optional = {} if parameter["required"] else {"disabled": True}
    return {"key": parameter["name"], "value": str(value), "description": parameter.get("description", ""), **optional}


def _check(operation: dict[str, Any]) -> str:
    """The test of a response, and what is kept of it."""
    responses = operation["responses"]
    expected = [int(status) for status in responses if status.startswith("2")]
    problems = responses.get("403", {}).get("content", {}).get("application/problem+json", {}).get("examples", {})
    if "forbidden" in problems:
        expected.append(403)  # The account of the collection is not an admin.
    lines = [f'pm.test("Status", () => pm.expect(pm.response.code).to.be.oneOf({expected}));']
    kept = KEPT.get(operation["operationId"], {})
    if kept:
        lines.append(f"if (pm.response.code === {expected[0]}) {{")
        if any(expression.startswith("body.") for expression in kept.values()):
            lines.append("  const body = pm.response.json();")
        for variable, expression in kept.items():
            change = f'unset("{variable}")' if expression == "undefined" else f'set("{variable}", {expression})'
            lines.append(f"  pm.collectionVariables.{change};")
        lines.append("}")
    return "\n".join(lines)


def _example(content: dict[str, Any], document: dict[str, Any]) -> Any:
    schema = content["schema"]
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return content.get("example", next(iter(schema.get("examples", ())), {}))


def _with_variables(example: Any) -> Any:
    if not isinstance(example, dict):
        return example
    return {key: f"{{{{{VARIABLES[key]}}}}}" if key in VARIABLES else value for key, value in example.items()}


def _event(listen: str, script: str) -> dict[str, Any]:
    return {"listen": listen, "script": {"type": "text/javascript", "exec": script.strip().splitlines()}}
