"""Screenshots of the pages of the product service for docs/images: light, dark and on a phone."""

import base64
import tempfile
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, Page

from testkit.processes import running_services
from tests.browser.chromium import chromium

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "images"
DESKTOP, PHONE = (1280, 800), (390, 800)
Scheme = Literal["light", "dark"]
VARIANTS: dict[str, tuple[Scheme, tuple[int, int]]] = {
    "light": ("light", DESKTOP),
    "dark": ("dark", DESKTOP),
    "phone": ("light", PHONE),
}
PAGES = {"home": ("/", "text=ok"), "docs": ("/docs", ".opblock"), "redoc": ("/redoc", "#redoc h1")}
"""Each page, and what is visible once it is complete."""


def take(browser: Browser, url: str, ready: str, scheme: Scheme, size: tuple[int, int]) -> bytes:
    width, height = size
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme, device_scale_factor=2)
    try:
        page.goto(url)
        page.wait_for_selector(ready)
        page.wait_for_load_state("networkidle")
        return _webp(page)
    finally:
        page.close()


def _webp(page: Page) -> bytes:
    # Playwright itself writes only PNG and JPEG, which are larger.
    answer = page.context.new_cdp_session(page).send("Page.captureScreenshot", {"format": "webp", "quality": 60})
    return base64.b64decode(answer["data"])


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as data,
        running_services(Path(data), USER_SERVICE_PUBLIC_URL="http://localhost:8001") as services,
        chromium() as browser,
    ):
        for name, (path, ready) in PAGES.items():
            for variant, (scheme, size) in VARIANTS.items():
                file = folder / f"{name}-{variant}.webp"
                file.write_bytes(take(browser, services.products.url + path, ready, scheme, size))
                print(f"Wrote {file.name}, {file.stat().st_size // 1024} KiB.")


if __name__ == "__main__":
    main(FOLDER)
