"""The commands of docs/clients.md, with the packages that are installed already."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from testkit.processes import Services
from tests.clients.packages import NODE, NODE_MODULES, NPM
from tests.documents import ROOT, read

PROGRAMS: dict[str, list[object]] = {
    "node": [NODE],
    "npm": [NODE, NPM],
    "npx": [NODE, NPM.with_name("npx-cli.js")],
    "python": [sys.executable],
    "openapi-python-client": [sys.executable, "-m", "openapi_python_client"],
}
INSTALLATION = re.compile(r"^(npm install|pip install|python3 -m venv).*\n", re.MULTILINE)


def test_the_commands_generate_clients_that_work(services: Services, tmp_path: Path) -> None:
    programs, folder = tmp_path / "bin", tmp_path / "a frontend"
    programs.mkdir()
    folder.mkdir()
    for name, words in PROGRAMS.items():
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec {shlex.join(map(str, words))} "$@"\n', encoding="utf-8")
        program.chmod(0o755)
    (folder / "node_modules").symlink_to(NODE_MODULES, target_is_directory=True)
    (tmp_path / "twinlatch").symlink_to(ROOT, target_is_directory=True)
    text, installed = INSTALLATION.subn("", read("docs/clients.md"))
    assert installed == 4
    script = "".join(re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))
    script = script.replace("http://localhost:8001", services.users.url)
    script = script.replace("http://localhost:8002", services.products.url)
    run = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env={**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=240,
        check=False,
    )
    assert run.returncode == 0, run.stdout
    assert re.findall(r"^done$", run.stdout, re.MULTILINE) == ["done", "done"], run.stdout
