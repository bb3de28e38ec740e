"""Entity tags and conditional requests (RFC 9110, sections 8.8.3 and 13.1).

The entity tag of a row is its version number: `"3"`. It is a strong tag.
"""

import re
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Depends, Header, Request
from pydantic import AfterValidator, Field

from chassis.preconditions import Precondition

_TAG = r'(W/)?"[!#-~]*"'
_TAGS = rf"^(\*|{_TAG}([ \t]*,[ \t]*{_TAG})*)$"
_VERSIONS = re.compile(r'(W/)?"([1-9][0-9]{0,9})"')


def format_etag(version: int) -> str:
    """The entity tag of this version."""
    return f'"{version}"'


def _check(condition: str) -> str:
    if not re.fullmatch(_TAGS, condition.strip(" \t")):
        raise ValueError('Expected a list of entity tags, such as "3", or *')
    return condition


_Condition = Annotated[str, AfterValidator(_check), Field(json_schema_extra={"pattern": _TAGS})]
# Swagger UI sends the first one unless another is chosen: that of a new product, which shows a 412 the second time.
_IF_MATCH_EXAMPLES: dict[str, Any] = {"version 1": {"value": '"1"'}, "any version": {"value": "*"}}


async def _precondition(
    request: Request,
    _if_match: Annotated[
        _Condition | None,
        Header(
            alias="If-Match",
            description='Entity tags of versions, such as `"1"`. If none of them is current, nothing changes and the '
            "status is 412.",
            openapi_examples=_IF_MATCH_EXAMPLES,
        ),
    ] = None,
    _if_none_match: Annotated[
        _Condition | None,
        Header(
            alias="If-None-Match",
            description='Entity tags of versions, such as `"1"`, or `*`. If one of them is current, nothing changes '
            "and the status is 412.",
        ),
    ] = None,
) -> Precondition:
    match, none_match = _all_lines(request, "if-match"), _all_lines(request, "if-none-match")
    return Precondition(
        match=_versions(match, weak=False) if match and not _is_any(match) else None,
        weak=_versions(match, weak=True),
        none_match=None if _is_any(none_match) else _versions(none_match),
    )


async def _if_none_match(
    request: Request,
    _: Annotated[
        _Condition | None,
        Header(
            alias="If-None-Match",
            description='Entity tags of versions that the client has, such as `"1"`. If one of them is current, the '
            "status is 304.",
        ),
    ] = None,
) -> Callable[[int], bool]:
    condition = _all_lines(request, "if-none-match")
    versions = _versions(condition)
    return lambda version: _is_any(condition) or version in versions


def _all_lines(request: Request, header: str) -> str:
    """All lines of a header (RFC 9110, section 5.3); the framework passes only the first one."""
    return ", ".join(request.headers.getlist(header))


def _is_any(condition: str) -> bool:
    return condition.strip() == "*"


def _versions(condition: str, *, weak: bool | None = None) -> set[int]:
    """The versions in a condition: those with weak tags, with strong ones, or with either."""
    return {int(version) for prefix, version in _VERSIONS.findall(condition) if weak is None or weak == bool(prefix)}


ChangePrecondition = Annotated[Precondition, Depends(_precondition)]
"""The versions that a request may change."""

IfNoneMatch = Annotated[Callable[[int], bool], Depends(_if_none_match)]
"""Tells whether the client has this version."""
