"""Entity tags and conditional requests (RFC 9110, sections 8.8.3 and 13.1).

The entity tag of a row is its version number: `"3"`. It is a strong tag.
"""

import re
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from typing import Annotated, Any

from fastapi import Depends, Header, Request
from pydantic import AfterValidator, Field

_TAG = r'(W/)?"[!#-~]*"'
_TAGS = rf"^[ \t]*(\*|{_TAG}([ \t]*,[ \t]*{_TAG})*)[ \t]*$"
_VERSIONS = re.compile(r'(W/)?"([1-9][0-9]{0,9})"')


def format_etag(version: int) -> str:
    """The entity tag of this version."""
    return f'"{version}"'


def _check(condition: str) -> str:
    if not re.fullmatch(_TAGS, condition):
        raise ValueError('Expected a list of entity tags, such as "3", or *')
    return condition


_Condition = Annotated[str, AfterValidator(_check), Field(json_schema_extra={"pattern": _TAGS})]
# Swagger UI sends the first one unless another is chosen, and a request has to work more than once.
_IF_MATCH_EXAMPLES: dict[str, Any] = {"any version": {"value": "*"}, "version 1": {"value": '"1"'}}


async def _if_match(
    request: Request,
    _: Annotated[
        _Condition | None,
        Header(
            alias="If-Match",
            description='Entity tags of versions, such as `"1"`. If none of them is current, nothing changes and the '
            "status is 412.",
            openapi_examples=_IF_MATCH_EXAMPLES,
        ),
    ] = None,
) -> AbstractSet[int] | None:
    condition = _all_lines(request, "if-match")
    if condition is None or condition.strip() == "*":
        return None
    # A weak tag never matches here: it does not promise that two versions are identical.
    return {int(version) for weak, version in _VERSIONS.findall(condition) if not weak}


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
    condition = _all_lines(request, "if-none-match") or ""
    versions = {int(version) for _, version in _VERSIONS.findall(condition)}
    return lambda version: condition.strip() == "*" or version in versions


def _all_lines(request: Request, header: str) -> str | None:
    """All lines of a header (RFC 9110, section 5.3); the framework passes only the first one."""
    return ", ".join(request.headers.getlist(header)) or None


IfMatch = Annotated[AbstractSet[int] | None, Depends(_if_match)]
"""The versions that may be changed; None if any version may."""

IfNoneMatch = Annotated[Callable[[int], bool], Depends(_if_none_match)]
"""Tells whether the client has this version."""
