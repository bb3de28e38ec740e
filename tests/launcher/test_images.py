"""`dev.py pin-images`: base images by digest."""

from pathlib import Path

from tests.launcher.launching import ROOT, Terminal, posix_only
from tools.images import pinned

OLD, NEW = (f"sha256:{character * 64}" for character in "01")
FILE = """FROM python:3.13-slim{python} AS build
COPY image: x
FROM python:3.13-slim{python}
  image: registry.example/postgres:16-alpine{postgres}
  image: untagged
"""


def test_images_with_a_tag_get_a_digest_and_keep_the_tag() -> None:
    asked = []

    def digest_of(image: str) -> str:
        asked.append(image)
        return NEW

    expected = FILE.format(python=f"@{NEW}", postgres=f"@{NEW}")
    assert pinned(FILE.format(python="", postgres=""), digest_of) == expected
    assert pinned(FILE.format(python=f"@{OLD}", postgres=f"@{OLD}"), digest_of) == expected
    assert set(asked) == {"python:3.13-slim", "registry.example/postgres:16-alpine"}


def test_the_projects_own_files_have_images_to_pin() -> None:
    dockerfiles = {"user-service/Dockerfile": 2, "product-service/Dockerfile": 2}
    composed = {"docker-compose.yml": 3, "docker-compose.observability.yml": 4, "compose.production.yml": 3}
    for path, number in {**dockerfiles, **composed}.items():
        text = (ROOT / path).read_text(encoding="utf-8")
        assert pinned(text, lambda _: NEW).count(f"@{NEW}") == number


@posix_only
def test_digests_come_from_the_registry_and_nothing_changes_without_them(standin: Path, terminal: Terminal) -> None:
    dockerfiles = ("user-service/Dockerfile", "product-service/Dockerfile")
    composed = ("docker-compose.yml", "docker-compose.observability.yml", "compose.production.yml")
    files = [standin / path for path in (*dockerfiles, *composed)]
    for file in files:
        file.write_text("FROM python:3.13-slim\n")
    programs = terminal.folder / "programs"
    programs.mkdir()
    assert terminal.refused(standin, "pin-images", PATH=programs) == "dev.py: Pinning images needs Docker."
    docker = programs / "docker"
    docker.write_text("#!/bin/sh\necho no such image\n")
    docker.chmod(0o755)
    refusal = "dev.py: The registry gave no digest for python:3.13-slim. Nothing was changed."
    assert terminal.refused(standin, "pin-images", PATH=programs) == refusal
    assert [file.read_text() for file in files] == ["FROM python:3.13-slim\n"] * len(files)
    docker.write_text(f'#!/bin/sh\necho "$*" >> "{terminal.folder}/asked"\necho {NEW}\n')
    assert terminal.dev(standin, "pin-images", PATH=programs).status() == 0
    assert [file.read_text() for file in files] == [f"FROM python:3.13-slim@{NEW}\n"] * len(files)
    assert (terminal.folder / "asked").read_text() == (
        "buildx imagetools inspect python:3.13-slim --format {{.Manifest.Digest}}\n"
    )
