"""What the launcher prints."""

import contextlib
import sys

PROGRAM = "py dev.py" if sys.platform == "win32" else "python3 dev.py"
"""How users start this program."""


class CommandError(Exception):
    """A command can't be carried out; the message is one line that says what is wrong and what to do."""


def say(line: str) -> None:
    """Print a whole line; neither a narrow encoding nor a closed terminal may keep the services from being stopped."""
    with contextlib.suppress(OSError):
        sys.stdout.buffer.write((line + "\n").encode(sys.stdout.encoding, "replace"))
        sys.stdout.buffer.flush()
