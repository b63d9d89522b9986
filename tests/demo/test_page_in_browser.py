"""The page in Chromium: a video is uploaded, asked about and looked into; nothing leaves the machine."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from PIL import Image

from modeling_siasamrea import SiaSamReaForVideoQuestionAnswering, SiaSamReaProcessor, SiaSamReaVideoProcessor


PREDICTION = {"video": "v0.mp4", "question": "what colour ?", "task": "open_ended", "prediction": "dog"}
PREDICTION |= {"answer": "cat", "correct": False, "score": 0.75}

pytestmark = pytest.mark.browser
pytest.importorskip("gradio", reason="the page needs Gradio")
keys = pytest.importorskip("selenium.webdriver", reason="the test drives a browser with Selenium").Keys


@pytest.fixture
def drawing(example):
    script = example("draw_demo")
    if script.find_browser() is None:
        pytest.skip("there is no Chromium with its driver on this machine")
    return script


@pytest.fixture
def checkpoint(tiny_config, tokenizer, tmp_path) -> Path:
    """A tiny checkpoint of random weights."""
    torch.manual_seed(0)
    config = tiny_config(tasks=["open_ended", "count"], id2label={0: "cat", 1: "dog", 2: "red", 3: "blue"})
    folder = tmp_path / "checkpoint"
    SiaSamReaForVideoQuestionAnswering(config).save_pretrained(folder)
    SiaSamReaProcessor(SiaSamReaVideoProcessor(size={"longest_edge": 64}), tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture
def address(checkpoint, small_data) -> Iterator[str]:
    """Where the checkpoint's page is served, with uploads of at most 1 MB."""
    from modeling_siasamrea.commands.checkpoint import load_answerer
    from modeling_siasamrea.demo.page import Page, load_examples
    from modeling_siasamrea.demo.review import draw_review

    (checkpoint / "predictions.jsonl").write_text(json.dumps(PREDICTION) + "\n")
    answerer = load_answerer(checkpoint)
    review = partial(draw_review, checkpoint / "predictions.jsonl", small_data, answerer.processor.video_processor)
    page = Page(answerer, "tiny", load_examples(small_data / "rows.jsonl"), review)
    _, local, _ = page.launch(prevent_thread_lock=True, quiet=True, max_file_size="1mb")
    yield local
    page.blocks.close()


@pytest.fixture
def browser(drawing, address):
    with drawing.open_browser(address) as browser:
        yield browser


def write(box, text: str) -> None:
    box.clear()
    box.send_keys(text)


def test_the_page(drawing, browser, address, write_video, tmp_path):
    def see(selector: str, text: str = ""):
        return drawing.wait_for(browser, selector, text, seconds=30)

    def upload(path: Path) -> None:
        see("#upload input[type=file]").send_keys(str(path))

    # A question before there is a video: the sentence is beside the video. The keyboard's place is seen.
    see("#questions textarea").send_keys(keys.CONTROL, keys.ENTER)
    see("#video-notice [role=alert]", "There is no video to ask about")
    see("#questions textarea").send_keys(keys.TAB)
    outline = "const style = getComputedStyle(document.activeElement); return [style.outlineStyle, style.outlineWidth]"
    assert browser.execute_script(outline) == ["solid", "3px"]

    # A broken file, then one that is too large.
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video" * 100)
    upload(broken)
    see("#video-notice [role=alert]", "The video broken.mp4 cannot be read: ")
    see("#upload button[aria-label=Clear]").click()
    large = tmp_path / "large.mp4"
    large.write_bytes(b"0" * 2_000_000)
    upload(large)
    see(".toast-body", "maximum allowed size")
    see(".toast-close").click()

    # A video: its film with the span, then its answers, bars and timeline.
    upload(write_video(tmp_path / "video.mp4"))  # 40 frames, 8 a second
    see("#span .ends", "to 5.00 s")
    see("#ask").click()
    see("#notice [role=alert]", "There is no question")
    write(see("#questions textarea"), "what is it ?\nwhat is red ?")
    see("#questions textarea").send_keys(keys.CONTROL, keys.ENTER)
    see("#timeline svg")
    see("#answers .question", "what is it ?")
    questions = [one.text for one in browser.find_elements("css selector", "#answers .question")]
    assert questions == ["what is it ?", "what is red ?"]
    answers = [one.text for one in browser.find_elements("css selector", "#answers .answer")]
    assert len(browser.find_elements("css selector", "#answers .fill")) == 8
    times = [one.text for one in browser.find_elements("css selector", "#timeline .time")]
    assert times == ["0.38 s", "1.38 s", "2.38 s", "3.38 s", "4.38 s"]
    assert not browser.find_elements("css selector", "#notice [role=alert]")

    # The look inside.
    see("#look button").click()
    see("#inside table")
    inside = [one.text for one in browser.find_elements("css selector", "#inside .card > .answer")]
    assert inside == answers
    assert len(browser.find_elements("css selector", "#inside .clip")) == 2 * 3
    assert len(browser.find_elements("css selector", "#inside .pair")) == 2 * 4
    see("#inside", "other starts give the same answer")
    assert "based on" in see("#inside abbr", "anchor clip").get_attribute("title")

    # A telephone: nothing but the wide drawings, which scroll by themselves, is wider than the page.
    size = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
    drawings = browser.find_elements("css selector", ".wide")
    assert drawings and all(one.get_property("tabIndex") == 0 for one in drawings)  # the keyboard scrolls them, too
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})

    # A span of the video.
    write(see("#start input[type=number]"), "2")
    see("#questions textarea").click()
    see("#span .ends", "from 2.00 s")
    see("#ask").click()
    see("#timeline .time", "2.")
    # A span that makes no sense.
    write(see("#end input[type=number]"), "1")
    see("#questions textarea").click()
    see("#ask").click()
    see("#video-notice [role=alert]", "The span from 2 s to 1 s does not fit")
    drawing.WebDriverWait(browser, 30).until(lambda _: not browser.find_elements("css selector", "#answers .answer"))

    # Candidates, which the checkpoint has no head for.
    write(see("#end input[type=number]"), "5")
    write(see("#candidates textarea"), "cat, dog")
    see("#ask").click()
    see("#notice [role=alert]", "the model answers tasks")

    # An example brings its question along, and is answered.
    see("#examples button", "v0.mp4: how many").click()
    see("#span .ends", "to 1.25 s")
    assert see("#questions textarea").get_attribute("value") == "how many times ?"
    see("#answers", "The model counts")

    # The answers of an evaluation, in a frame of its own whose filter works.
    tabs = browser.find_elements("css selector", "[role=tab]")
    next(tab for tab in tabs if "Review" in tab.text).click()
    browser.switch_to.frame(see("iframe"))
    assert "1 of 1 shown" in see("output").text and "given: dog" in see(".card .facts").text
    assert len(browser.find_elements("css selector", ".card figure img")) == 5
    write(see("input[name=low]"), "0.8")
    see("output", "0 of 1 shown")
    browser.switch_to.default_content()

    assert "Traceback" not in browser.page_source
    # The refused upload is an error to the browser too: the two requests, and the answer that Gradio prints.
    refused = ("/gradio_api/upload", " Response")
    errors = [line["message"] for line in browser.get_log("browser") if line["level"] == "SEVERE"]
    assert [message for message in errors if not any(part in message for part in refused)] == []
    asked = [json.loads(line["message"])["message"] for line in browser.get_log("performance")]
    asked = [one["params"]["request"]["url"] for one in asked if one["method"] == "Network.requestWillBeSent"]
    ours = (address, "data:", "blob:", "chrome")
    assert [url for url in asked if not url.startswith(ours)] == []
    assert any(url.startswith(address) for url in asked)


def test_pictures_of_the_page(drawing, checkpoint, small_data, tmp_path):
    drawing.draw_demo(str(checkpoint), small_data / "rows.jsonl", tmp_path / "pictures")
    film, inside = (Image.open(tmp_path / "pictures" / name) for name in ("demo.webp", "demo_inside.png"))
    assert film.n_frames == len(drawing.MILLISECONDS)
    assert inside.width == drawing.WIDTH
    assert inside.height > drawing.FILM_HEIGHT
