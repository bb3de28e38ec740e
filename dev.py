#!/usr/bin/env python3
"""Runs, tests and maintains the services. It needs Python 3.11 or newer, and installs the rest in `.venv`.

    python3 dev.py up        start the services, at http://localhost:8001/docs, http://localhost:8002/docs and so on
    python3 dev.py test      run the test suite, except the tests that need Docker or take minutes
    python3 dev.py --help    list all commands

The commands are in tools/. The exit status is 0 on success, 1 after an error, which one line on stderr describes, 2 for
a wrong command line, and 128 plus the number of the signal that stopped it: 130 after Ctrl-C, 143 after SIGTERM.
"""

import sys
from importlib.util import find_spec

# This check comes first, and an older Python must be able to parse this file to reach it.
if sys.version_info < (3, 11):  # noqa: UP036 - this is what an older Python runs.
    message = "dev.py needs Python 3.11 or newer, and this is Python {}.{}: start it with a newer Python."
    sys.exit(message.format(*sys.version_info[:2]))

# Debian packages the first two separately, and venv would fail halfway without them. Importing all takes a third of the
# start, and most commands need none of them.
for module in ("ensurepip", "venv", "_sqlite3"):
    if find_spec(module) is None:
        sys.exit(f"dev.py: this Python has no module {module} (on Debian and Ubuntu: apt install python3-venv).")

from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # PYTHONSAFEPATH would leave it out.

from tools.command_line import main

if __name__ == "__main__":
    sys.exit(main())
