"""Entity tags and the conditions made of them (RFC 9110, sections 8.8.3 and 13.1).

A row that counts its changes has a strong tag, which is the count: `"3"`.
"""

import re
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from typing import Annotated

from fastapi import Depends, Header, Request
from pydantic import AfterValidator, Field

_TAG = r'(W/)?"[!#-~]*"'
_TAGS = rf"^[ \t]*(\*|{_TAG}([ \t]*,[ \t]*{_TAG})*)[ \t]*$"
_VERSIONS = re.compile(r'(W/)?"([1-9][0-9]{0,9})"')


def format_etag(version: int) -> str:
    """The tag of this version."""
    return f'"{version}"'


def _check(condition: str) -> str:
    if not re.fullmatch(_TAGS, condition):
        raise ValueError('This is no list of entity tags: it looks like "3", or *')
    return condition


_Condition = Annotated[str, AfterValidator(_check), Field(json_schema_extra={"pattern": _TAGS})]


async def _if_match(
    request: Request,
    _: Annotated[
        _Condition | None,
        Header(
            alias="If-Match",
            description="Tags of versions; with any other version the call changes nothing and answers 412.",
        ),
    ] = None,
) -> AbstractSet[int] | None:
    condition = _all_lines(request, "if-match")
    if condition is None or condition.strip() == "*":
        return None
    # A weak tag never matches here: it does not say that two states are the same to the last byte.
    return {int(version) for weak, version in _VERSIONS.findall(condition) if not weak}


async def _if_none_match(
    request: Request,
    _: Annotated[
        _Condition | None,
        Header(
            alias="If-None-Match",
            description="Tags of versions that the client has; where one of them is current, the answer is 304.",
        ),
    ] = None,
) -> Callable[[int], bool]:
    condition = _all_lines(request, "if-none-match") or ""
    versions = {int(version) for _, version in _VERSIONS.findall(condition)}
    return lambda version: condition.strip() == "*" or version in versions


def _all_lines(request: Request, header: str) -> str | None:
    """All of a list, which may be spread over several lines (RFC 9110, section 5.3); the framework gives the first."""
    return ", ".join(request.headers.getlist(header)) or None


IfMatch = Annotated[AbstractSet[int] | None, Depends(_if_match)]
"""The versions that a change may be made to; None where any will do."""

IfNoneMatch = Annotated[Callable[[int], bool], Depends(_if_none_match)]
"""Whether the client has this version."""
