"""How the pages look: in the dark, and on a phone."""

import contextlib
from pathlib import Path

import pytest
from playwright.sync_api import Error, Page

from testkit.processes import Service, Services
from tests.browser.conftest import Complaints, OpenPage
from tests.browser.screenshots import PAGES

UNREADABLE = Path(__file__).with_name("contrast.js").read_text(encoding="utf-8")
WIDTH = 390
WIDER_THAN_THE_SCREEN = "() => document.documentElement.scrollWidth > window.innerWidth"


@pytest.fixture(params=["users", "products"])
def service(request: pytest.FixtureRequest, services: Services) -> Service:
    found: Service = getattr(services, request.param)
    return found


def opened(page: Page, service: Service, name: str) -> Complaints:
    complaints = Complaints(page)
    path, ready = PAGES[name]
    page.goto(service.url + path)
    page.wait_for_selector(ready)
    if name == "docs":
        for method in ("get", "post", "delete"):
            page.locator(f".opblock-{method} .opblock-summary-control").first.click()
        page.wait_for_function("() => document.querySelectorAll('.opblock .execute').length === 3")
    return complaints


@pytest.mark.parametrize("name", PAGES)
def test_a_dark_page_has_readable_text_and_no_bright_frame(service: Service, open_page: OpenPage, name: str) -> None:
    # With reduced motion, no color is measured in the middle of a transition.
    page = open_page(color_scheme="dark", reduced_motion="reduce", viewport={"width": 1400, "height": 900})
    complaints = opened(page, service, name)
    with contextlib.suppress(Error):  # Swagger UI unfolds and colors operations in steps.
        page.wait_for_function(f"() => ({UNREADABLE})().length === 0", timeout=10_000)
    assert page.evaluate(UNREADABLE) == []
    assert (complaints.errors, complaints.refusals) == ([], [])


@pytest.mark.parametrize("name", PAGES)
def test_a_page_follows_the_system_when_it_changes(service: Service, open_page: OpenPage, name: str) -> None:
    page = open_page(color_scheme="light")
    opened(page, service, name)
    background = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(background) == "rgb(255, 255, 255)"
    page.emulate_media(color_scheme="dark")
    page.wait_for_function(f"() => {background} === 'rgb(28, 32, 34)'")
    page.wait_for_selector(PAGES[name][1])


@pytest.mark.parametrize("name", PAGES)
def test_a_page_fits_a_phone(service: Service, open_page: OpenPage, name: str) -> None:
    page = open_page(viewport={"width": WIDTH, "height": 800})
    opened(page, service, name)
    assert not page.evaluate(WIDER_THAN_THE_SCREEN)
