"""Runs a service with few file handles: `python -m tests.attack.few_handles product_service`."""

import resource
import runpy
import sys

FILE_HANDLES = 256

if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILE_HANDLES, FILE_HANDLES))
    module = sys.argv.pop(1)
    runpy.run_module(module, run_name="__main__")
