"""Parses and applies pages that tell a reader to write files, change files and run commands.

A path in backticks on a line of its own, followed by a block, is a file and its content. A `diff` block names a file
and shows the lines to add between existing lines. `shell` blocks are commands.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

_BLOCK = re.compile(
    r"(?:^`(?P<path>[\w./-]+)`\n\n)?^```(?P<language>\w+)\n(?P<content>.*?)^```$", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True)
class Step:
    kind: Literal["write", "change", "run"]
    content: str
    path: str = ""
    """Relative to the root of the project."""


def steps(page: str) -> Iterator[Step]:
    """What the page tells its reader to do, in order."""
    for block in _BLOCK.finditer(page):
        if block["path"]:
            yield Step("write", block["content"], block["path"])
        elif block["language"] == "diff":
            head, _, changes = block["content"].partition("@@\n")
            [path] = re.findall(r"^\+\+\+ b/(.+)$", head, re.MULTILINE)
            yield Step("change", changes, path)
        elif block["language"] == "shell":
            yield Step("run", block["content"])


def follow(step: Step, project: Path) -> None:
    """Write or change a file, as the step says."""
    file = project / step.path
    if step.kind == "write":
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(step.content, encoding="utf-8")
        return
    lines = step.content.splitlines(keepends=True)
    before = "".join(line[1:] for line in lines if line[0] in " -")
    after = "".join(line[1:] for line in lines if line[0] in " +")
    content = file.read_text(encoding="utf-8")
    assert content.count(before) == 1, f"{step.path} has these lines {content.count(before)} times:\n{before}"
    file.write_text(content.replace(before, after), encoding="utf-8")
