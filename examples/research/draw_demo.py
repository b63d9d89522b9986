"""
Draws the pictures of the page: opens it in Chromium, asks a question and looks inside.

    python examples/research/draw_demo.py outputs/quickstart --examples outputs/sample_data/test.jsonl

Needs Chromium and its driver (Debian: apt-get install chromium chromium-driver). Pictures are for publication: give
videos that may be published, as the sample data are.
"""

import argparse
import io
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from modeling_siasamrea.commands.checkpoint import load_answerer
from modeling_siasamrea.demo.page import Page, load_examples


BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --hide-scrollbars"
)
WIDTH = 1200
FILM_HEIGHT = 1150
MILLISECONDS = (1500, 2500, 3500, 4500)  # how long each picture of the animation is shown


def find_browser() -> tuple[str, str] | None:
    """The programs of Chromium and its driver; `None` where one is missing."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    driver = shutil.which("chromedriver")
    return (browser, driver) if browser and driver else None


@contextmanager
def open_browser(address: str) -> Iterator[webdriver.Chrome]:
    """Chromium with a profile of its own, at `address`; it keeps what it logs and asks for."""
    programs = find_browser()
    if programs is None:
        raise ValueError("There is no Chromium with its driver; Debian: apt-get install chromium chromium-driver.")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = programs[0]
        for flag in (*FLAGS.split(), f"--user-data-dir={profile}", f"--window-size={WIDTH},900"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(programs[1]))
        try:
            browser.get(address)
            yield browser
        finally:
            browser.quit()


def wait_for(browser: webdriver.Chrome, selector: str, text: str = "", seconds: float = 60) -> WebElement:
    """The first element of a CSS selector, once it is there and shows `text`."""

    def there(browser: webdriver.Chrome) -> WebElement | None:
        elements = browser.find_elements(By.CSS_SELECTOR, selector)
        return next((element for element in elements if text in element.text), None)

    return WebDriverWait(browser, seconds, ignored_exceptions=[Exception]).until(
        there, f"the page does not show {text!r} at {selector}"
    )


def set_height(browser: webdriver.Chrome, height: int) -> None:
    """Resizes the page and waits until nothing on it moves."""
    browser.execute_script("document.activeElement.blur()")
    size = {"width": WIDTH, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    WebDriverWait(browser, 10).until(
        lambda browser: browser.execute_script(
            "return document.getAnimations().every(animation => animation.playState !== 'running')"
        )
    )


def photograph(browser: webdriver.Chrome, selector: str) -> Image.Image:
    """Returns a picture of the page, scrolled to an element; two thirds as large."""
    set_height(browser, FILM_HEIGHT)
    browser.execute_script(f"document.querySelector('{selector}').scrollIntoView({{behavior: 'instant'}})")
    picture = Image.open(io.BytesIO(browser.get_screenshot_as_png())).convert("RGB")
    return picture.resize((WIDTH * 2 // 3, FILM_HEIGHT * 2 // 3), Image.Resampling.LANCZOS)


def draw_demo(checkpoint: str, examples: Path, output: Path) -> None:
    """
    Saves `demo.webp`, an animation of a question that is answered, and `demo_inside.png`, the page at the end.

    Args:
        checkpoint (`str`): Hub name or folder.
        examples (`Path`): A file of questions; the first one is asked.
        output (`Path`): Folder of the pictures.
    """
    page = Page(load_answerer(checkpoint), Path(checkpoint).name, load_examples(examples))
    _, address, _ = page.launch(prevent_thread_lock=True, quiet=True)
    output.mkdir(parents=True, exist_ok=True)
    with open_browser(f"{address}?__theme=light") as browser:
        example = wait_for(browser, "#examples button")
        film = [photograph(browser, "h1")]
        example.click()
        wait_for(browser, "#timeline svg")
        film += [photograph(browser, "h1"), photograph(browser, "#timeline")]
        wait_for(browser, "#look button").click()
        wait_for(browser, "#inside table")
        film.append(photograph(browser, "#inside"))
        film[0].save(output / "demo.webp", save_all=True, append_images=film[1:], duration=MILLISECONDS, loop=0)
        set_height(browser, browser.execute_script("return document.querySelector('.gradio-container').scrollHeight"))
        browser.save_screenshot(str(output / "demo_inside.png"))
    page.blocks.close()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", help="hub name or folder")
    parser.add_argument("--examples", type=Path, required=True, help="file of questions; the first one is asked")
    parser.add_argument(
        "--output", type=Path, default=Path(__file__).parents[1] / "pictures", help="default: %(default)s"
    )
    arguments = parser.parse_args()
    draw_demo(**vars(arguments))


if __name__ == "__main__":
    main()
