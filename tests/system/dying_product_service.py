"""The product service, which dies between the commit of a write and its answer, as often as there is a file for it."""

import os
import runpy
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from chassis.database.transactions import Database

ORDER = Path("die-after-the-next-commit")
"""In the current folder; the order is taken down by being followed."""

T = TypeVar("T")

_write = Database.write


async def write_and_die(self: Database[Any], work: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
    result = await _write(self, work, *args, **kwargs)
    if os.path.exists(ORDER):  # noqa: ASYNC240, PTH110 - what is about to die may block.
        os.unlink(ORDER)  # noqa: PTH108
        os.kill(os.getpid(), signal.SIGKILL)
    return result


if __name__ == "__main__":
    Database.write = write_and_die  # type: ignore[method-assign]
    runpy.run_module("product_service", run_name="__main__")
