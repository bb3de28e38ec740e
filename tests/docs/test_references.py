"""The documents refer only to existing files, headings, and commands and options of `dev.py`."""

import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.documents import DOCUMENTS, ROOT, anchors, links, prose, read, shell_words
from tests.pages import steps

_PATH = re.compile(r"[\w.-]+(?:/[\w.-]+)*\.(?:py|md|sh|bat|toml|txt|json|example)")


@cache
def help_of(*words: str) -> str:
    command = [sys.executable, str(ROOT / "dev.py"), *words, "--help"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def dev_commands() -> set[str]:
    return set(re.findall(r"^    (\w[\w-]*)", help_of(), re.MULTILINE))


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_relative_link_has_a_target(document: str) -> None:
    for link in links(document):
        if "://" in link:
            continue
        path, _, heading = link.partition("#")
        target = (ROOT / document).parent / path if path else ROOT / document
        assert target.exists(), link
        if heading:
            assert heading in anchors(target.resolve().relative_to(ROOT).as_posix()), link


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_named_file_exists(document: str) -> None:
    folder = (ROOT / document).parent
    written = {step.path for step in steps(read(document)) if step.kind == "write"}
    for word in re.findall(r"`([^`\n]+)`", prose(document)):
        if _PATH.fullmatch(word) and word not in written:
            found = (ROOT / word).exists() or (folder / word).exists() or any(ROOT.glob(f"*/{word}"))
            # A module may be named as imported, `chassis/errors.py`, or within its service, `api/products.py`.
            patterns = (f"{sources}/{word}" for sources in ("*/src", "*/src/*", "libs/*", "libs/*/src", "libs/*/src/*"))
            assert found or any(any(ROOT.glob(pattern)) for pattern in patterns), word


@pytest.mark.parametrize("sources", [*sorted(ROOT.glob("*/src/*_service")), ROOT / "libs/chassis/src/chassis"])
def test_the_readme_of_a_package_names_its_modules(sources: Path) -> None:
    table = (sources.parents[1] / "README.md").read_text(encoding="utf-8").partition("\n## Modules\n")[2]
    named, folder = set(), ""
    for row in re.findall(r"^\| (.*?) \|", table, re.MULTILINE):
        if row.startswith("**"):  # The modules in the rows below are in this folder.
            folder = row.strip("*`")
        else:
            named |= {folder + name for name in re.findall(r"`([^`]+)`", row)}
    for module in sources.rglob("*.py"):
        path = module.relative_to(sources)
        if not path.name.startswith("__"):
            assert named & {path.as_posix(), *(f"{each.as_posix()}/" for each in path.parents)}, path


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_named_command_of_dev_py_exists(document: str) -> None:
    for words in shell_words(document):
        for command, rest in re.findall(r"\bdev\.py +(\w[\w-]*)([^#\n]*)", words):
            assert command in dev_commands(), words
            if command not in ("bench", "test", "test-containers"):  # Their options belong to what they run.
                for option in re.findall(r"(?<= )--[a-z-]+", rest):
                    assert option in help_of(command), words


def test_the_commands_of_dev_py_are_found() -> None:
    assert {"up", "test", "check", "seed"} <= dev_commands()


def test_the_contribution_guide_names_every_command_of_dev_py() -> None:
    guide = " ".join(shell_words("CONTRIBUTING.md"))
    assert not {command for command in dev_commands() if f"dev.py {command}" not in guide}
