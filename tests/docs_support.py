"""The project's Markdown files, taken apart: shell blocks, links and headings, for the tests of the documentation."""

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted(
    {
        path.relative_to(ROOT).as_posix()
        for pattern in ("*.md", "[!.]*/*.md", "docs/**/*.md")
        for path in ROOT.glob(pattern)
    }
)
"""Every document, as a path from the root of the project."""

_PART = re.compile(
    r"^<!-- (?P<action>start|stop) (?P<service>user-service|product-service) -->$"
    r"|^```\w*\n(?P<block>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_HEADING = re.compile(r"^#{1,6} +(.+?) *$", re.MULTILINE)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def read(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def prose(document: str) -> str:
    """The document without its fenced blocks."""
    return _PART.sub("", read(document))


def shell_parts(document: str) -> list[tuple[str, str]]:
    """What a test has to do with this document, in order.

    `("run", block)` for each fenced block with curl in it, and `("stop", service)` or `("start", service)` where the
    text asks the reader to do that by hand, which a comment that is not shown repeats for the test.
    """
    parts: list[tuple[str, str]] = []
    for part in _PART.finditer(read(document)):
        if part["action"]:
            parts.append((part["action"], part["service"]))
        elif "curl" in part["block"]:
            parts.append(("run", part["block"]))
    return parts


def links(document: str) -> list[str]:
    """The targets of the document's links, as they are written."""
    return _LINK.findall(prose(document))


def anchors(document: str) -> set[str]:
    """The names under which the document's headings can be linked to, as forges make them."""
    names: set[str] = set()
    for heading in _HEADING.findall(prose(document)):
        words = re.sub(r"[^\w\- ]", "", heading.lower())
        names.add(words.replace(" ", "-"))
    return names


def shell_words(document: str) -> Iterator[str]:
    """Every place where a command may be named: the lines of all fenced blocks, and what stands between backticks."""
    for part in _PART.finditer(read(document)):
        if part["block"]:
            yield from part["block"].splitlines()
    yield from re.findall(r"`([^`\n]+)`", prose(document))
