"""The product service, except that it dies between the commit of a write and the response if a file tells it to."""

import os
import runpy
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from chassis.database.transactions import Database

ORDER = Path("die-after-the-next-commit")
"""The file, in the current folder; the service deletes it before it dies."""

T = TypeVar("T")

_write = Database.write


async def write_and_die(self: Database[Any], work: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
    result = await _write(self, work, *args, **kwargs)
    if os.path.exists(ORDER):  # noqa: ASYNC240, PTH110 - blocking is harmless here.
        os.unlink(ORDER)  # noqa: PTH108
        os.kill(os.getpid(), signal.SIGKILL)
    return result


if __name__ == "__main__":
    Database.write = write_and_die  # type: ignore[method-assign]
    runpy.run_module("product_service", run_name="__main__")
