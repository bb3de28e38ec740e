"""Finds the changes of an OpenAPI document that break clients of an earlier version.

It knows the parts of OpenAPI and JSON Schema that the documents of this project use.
"""

import json
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tools.processes import run

Schema = dict[str, Any]
_UPPER_LIMITS = ("maximum", "exclusiveMaximum", "maxLength", "maxItems")
_LOWER_LIMITS = ("minimum", "exclusiveMinimum", "minLength", "minItems")
_EXACT = ("pattern", "uniqueItems", "contains", "not")
PROBLEM = "application/problem+json"


def last_release(root: Path) -> str | None:
    """The newest tag v* before this commit, by version, without pre-releases; None if there is none, or no git."""
    try:
        tags = run(
            ["git", "tag", "--merged", "HEAD", "--list", "v*", "--sort=-version:refname"], root, capture_output=True
        )
    except FileNotFoundError:
        return None
    return next((tag for tag in tags.stdout.split() if "-" not in tag), None)


def document_of(root: Path, release: str, path: str) -> dict[str, Any] | None:
    """The document at this path in a release; None if the release has none."""
    shown = run(["git", "show", f"{release}:{path}"], root, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    document: dict[str, Any] | None = json.loads(shown.stdout) if shown.returncode == 0 else None
    return document


def is_new_major_version(old: dict[str, Any], new: dict[str, Any]) -> bool:
    """Whether the version allows breaking changes."""
    before, after = (int(document["info"]["version"].partition(".")[0]) for document in (old, new))
    return after > before


def breaking_changes(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What a client of the old document can't do, or must not expect, with the new one; a sentence for each."""
    found = []
    for path, operations in old["paths"].items():
        for method, operation in operations.items():
            name = f"{method.upper()} {path}"
            changed = new["paths"].get(path, {}).get(method)
            if changed is None:
                found.append(f"{name} was removed.")
                continue
            comparison = _Comparison(old, new)
            changes = [*comparison.of_requests(operation, changed), *comparison.of_responses(operation, changed)]
            found += [f"{name}: {change}." for change in changes]
    return found


class _Comparison:
    """Compares the operations of two documents."""

    def __init__(self, old: dict[str, Any], new: dict[str, Any]) -> None:
        self.old = old
        self.new = new

    def of_requests(self, old: dict[str, Any], new: dict[str, Any]) -> Iterator[str]:
        before, after = (
            {(each["in"], each["name"]): each for each in operation.get("parameters", ())} for operation in (old, new)
        )
        for key in before.keys() - after.keys():
            yield f"the parameter {key[1]} was removed"
        for key, parameter in after.items():
            if parameter["required"] and not before.get(key, {"required": False})["required"]:
                yield f"the parameter {key[1]} is required"
            elif key in before:
                schemas = before[key]["schema"], parameter["schema"]
                yield from self._accepted(f"the parameter {key[1]}", *schemas)
        body, changed = old.get("requestBody", {}), new.get("requestBody", {})
        if changed.get("required") and not body.get("required"):
            yield "a body is required"
        for media_type, content in body.get("content", {}).items():
            if media_type not in changed.get("content", {}):
                yield f"a body of {media_type} is not documented any more"
            else:
                yield from self._accepted("the body", content["schema"], changed["content"][media_type]["schema"])

    def of_responses(self, old: dict[str, Any], new: dict[str, Any]) -> Iterator[str]:
        for status, response in old["responses"].items():
            changed = new["responses"].get(status)
            if changed is None:
                yield f"the status {status} was removed"
                continue
            for header in response.get("headers", {}).keys() - changed.get("headers", {}).keys():
                yield f"the header {header} of {status} was removed"
            for media_type, content in response.get("content", {}).items():
                after = changed.get("content", {}).get(media_type)
                if after is None:
                    yield f"{media_type} of {status} was removed"
                    continue
                if media_type == PROBLEM:
                    for code in content["examples"].keys() - after["examples"].keys():
                        yield f"the code {code} of {status} was removed"
                where = f"the response {status}"
                yield from self._returned(where, content["schema"], after["schema"])

    def _accepted(self, where: str, old: Schema, new: Schema) -> list[str]:
        """What the old schema accepts and the new one doesn't."""
        return _Subset(self.old, self.new, required="is required").differences(where, old, new)

    def _returned(self, where: str, old: Schema, new: Schema) -> list[str]:
        """What the new schema returns and the old one doesn't."""
        return _Subset(self.new, self.old, required="may be absent").differences(where, new, old)


class _Subset:
    """Finds out why a value may be valid by the inner schema, but not by the outer one."""

    def __init__(self, inner_document: dict[str, Any], outer_document: dict[str, Any], required: str) -> None:
        self.inner_document = inner_document
        self.outer_document = outer_document
        self.required = required
        self.compared: set[tuple[int, int]] = set()  # Ends the recursion of schemas that contain themselves.

    def differences(self, where: str, inner: Schema, outer: Schema) -> list[str]:
        """The reasons, or nothing if the inner schema is a subset of the outer one."""
        outer_choices = _choices(outer, self.outer_document)
        found = []
        for choice in _choices(inner, self.inner_document):
            reasons = [self._differences_of_choice(where, choice, each) for each in outer_choices]
            if all(reasons):
                fewest: list[str] = min(reasons, key=len)
                found += fewest
        return found

    def _differences_of_choice(self, where: str, inner: Schema, outer: Schema) -> list[str]:
        if (id(inner), id(outer)) in self.compared:
            return []
        self.compared.add((id(inner), id(outer)))
        kind, allowed_kind = inner.get("type"), outer.get("type")
        if allowed_kind not in (None, kind) and (kind, allowed_kind) != ("integer", "number"):
            return [f"{where} has another type, {kind} or {allowed_kind}"]
        found = []
        values, allowed = _values(inner), _values(outer)
        if allowed is not None and (values is None or not values <= allowed):
            found.append(f"{where} has other values")
        if values is None:
            found += [f"{where} has another {name}" for name in _differing_limits(inner, outer)]
        for name in sorted({*outer.get("required", ())} - {*inner.get("required", ())}):
            found.append(f"{where}/{name} {self.required}")
        fields = outer.get("properties", {})
        for name, field in inner.get("properties", {}).items():
            if name in fields:
                found += self.differences(f"{where}/{name}", field, fields[name])
            elif outer.get("additionalProperties") is False:
                found.append(f"{where}/{name} was removed")
        for name in ("items", "additionalProperties"):
            part, allowed_part = inner.get(name), outer.get(name)
            if isinstance(part, dict) and isinstance(allowed_part, dict):
                found += self.differences(f"{where}/*", part, allowed_part)
        return found


def _choices(schema: Schema, document: dict[str, Any]) -> Sequence[Schema]:
    if "$ref" in schema:
        return _choices(document["components"]["schemas"][schema["$ref"].rpartition("/")[2]], document)
    if "anyOf" in schema:
        return [choice for each in schema["anyOf"] for choice in _choices(each, document)]
    return [schema]


def _values(schema: Schema) -> set[Any] | None:
    if "const" in schema:
        return {schema["const"]}
    return set(schema["enum"]) if "enum" in schema else None


def _differing_limits(inner: Schema, outer: Schema) -> Iterator[str]:
    for name in _UPPER_LIMITS:
        if name in outer and not (name in inner and inner[name] <= outer[name]):
            yield name
    for name in _LOWER_LIMITS:
        if name in outer and not (name in inner and inner[name] >= outer[name]):
            yield name
    for name in _EXACT:
        if name in outer and inner.get(name) != outer[name]:
            yield name
