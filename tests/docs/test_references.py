"""The documents refer only to existing files, headings, and commands and options of `dev.py`."""

import re
import subprocess
import sys
from functools import cache

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
