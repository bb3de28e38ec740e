"""Swagger UI, operated as a user does."""

import json
from typing import Any

from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import Complaints


class SwaggerPage:
    def __init__(self, page: Page, url: str) -> None:
        self._page = page
        self.complaints = Complaints(page)
        page.goto(f"{url}/docs")

    def authorize(self, username: str, password: str) -> None:
        self._page.locator(".auth-wrapper > .authorize").click()
        form = self._page.locator(".auth-container", has_text="OAuth2, password")
        form.locator("#oauth_username").fill(username)
        form.locator("#oauth_password").fill(password)
        form.locator("button.authorize").click()
        expect(form.locator("button", has_text="Logout")).to_be_visible()
        form.locator(".btn-done").click()

    def execute(self, method: str, path: str, body: object = None, **parameters: str) -> tuple[int, Any]:
        """Fill in an operation and execute it; returns the status and the decoded body."""
        operation = self._page.locator(
            f".opblock-{method.lower()}", has=self._page.locator(f'.opblock-summary-path[data-path="{path}"]')
        )
        if operation.locator(".execute").count() == 0:
            operation.locator(".opblock-summary-control").click()
        for name, value in parameters.items():
            operation.locator(f'tr[data-param-name="{name.replace("_header_", "-")}"] input[type=text]').fill(value)
        if body is not None:
            operation.locator("textarea").first.fill(json.dumps(body))
        clear = operation.locator(".btn-clear")
        if clear.count():
            clear.click()
        operation.locator(".execute").click()
        return self._result(operation)

    @staticmethod
    def _result(operation: Locator) -> tuple[int, Any]:
        live = operation.locator(".live-responses-table .response").first
        status = int(live.locator(".response-col_status").inner_text().split()[0])
        content = live.locator(".response-col_description .highlight-code pre").first
        return status, json.loads(content.inner_text()) if content.count() and status != 204 else None
