"""Fixtures of the browser tests."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from tests.browser.chromium import chromium

OpenPage = Callable[..., Page]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


class Complaints:
    """What went wrong in a page: errors in its console, failed requests, and responses with an error status."""

    def __init__(self, page: Page) -> None:
        self.errors: list[str] = []
        self.refusals: list[tuple[str, str, int]] = []
        """Method, path and status."""
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("requestfailed", lambda request: self.errors.append(f"{request.method} {request.url} failed"))
        page.on("console", lambda message: self._console(message.type, message.text))
        page.on("response", self._response)

    def _console(self, kind: str, text: str) -> None:
        # The browser also reports each response with an error status; those are in `refusals`.
        if kind in ("error", "warning") and not text.startswith("Failed to load resource: the server responded"):
            self.errors.append(text)

    def _response(self, response: Any) -> None:
        if response.status >= 400:
            path = "/" + response.url.split("/", 3)[3]
            self.refusals.append((response.request.method, path, response.status))


@pytest.fixture
def open_page(browser: Browser) -> Iterator[OpenPage]:
    """Opens pages in contexts of their own, which are closed after the test."""
    contexts = []

    def open_page(**options: Any) -> Page:
        context = browser.new_context(**options)
        contexts.append(context)
        return context.new_page()

    yield open_page
    for context in contexts:
        context.close()
