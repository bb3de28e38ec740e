"""A service with few file handles. `python -m testkit.few_file_handles product_service` runs it."""

import resource
import runpy
import sys
from typing import Self

from testkit.processes import Service

FILE_HANDLES = 256


class FewFileHandles(Service):
    """A service that can open only a few files."""

    @property
    def module(self) -> str:
        return __name__

    def start(self, *arguments: str) -> Self:
        return super().start(super().module, *arguments)


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILE_HANDLES, FILE_HANDLES))
    runpy.run_module(sys.argv.pop(1), run_name="__main__")
