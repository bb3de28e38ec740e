"""The user service with few file handles."""

import resource
import runpy

FILE_HANDLES = 256

if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILE_HANDLES, FILE_HANDLES))
    runpy.run_module("user_service", run_name="__main__")
