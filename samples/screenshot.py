"""An image of the first screens of a page, for the documentation: python -m samples.screenshot."""

import os
import shutil
import sys
from pathlib import Path

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WIDTH, HEIGHT = 1240, 1290


def screenshot(page_path: str, image_path: str) -> None:
    """The page in headless Chromium, as PNG. SystemExit where there is no Chromium."""
    from playwright.sync_api import sync_playwright

    browser_path = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser_path is None:
        sys.exit("no Chromium on this machine (Debian: apt-get install chromium)")
    Path(image_path).parent.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as driver:
        # Chromium refuses root its sandbox; the page is our own.
        sandbox = [] if os.getuid() else ["--no-sandbox"]
        browser = driver.chromium.launch(executable_path=browser_path, args=sandbox)
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        page.goto(Path(page_path).resolve().as_uri())
        page.screenshot(path=image_path)
        browser.close()


if __name__ == "__main__":
    screenshot(*sys.argv[1:])
