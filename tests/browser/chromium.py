"""Chromium as installed on this machine, driven by Playwright."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright

from tools.testing import CHROMIUM


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser without windows."""
    executable = next(filter(None, map(shutil.which, CHROMIUM)), None)
    assert executable is not None, "install the package chromium"
    # Chromium's sandbox does not start as root, as in most containers. Only our own pages are loaded.
    sandbox = not hasattr(os, "geteuid") or os.geteuid() != 0
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, chromium_sandbox=sandbox)
        try:
            yield browser
        finally:
            browser.close()
