"""The page without a browser: its fields, its sentences, and what its server does not do."""

import json
import re
import signal
import sys
import threading
from importlib import import_module
from socketserver import BaseRequestHandler, TCPServer
from types import ModuleType

import httpx
import pytest
import torch
from tiny_video_language_models import tiny
from transformers import pipeline

from modeling_siasamrea import SiaSamReaForVideoQuestionAnswering, SiaSamReaProcessor, SiaSamReaVideoProcessor
from modeling_siasamrea.commands import demo as command
from modeling_siasamrea.commands.checkpoint import load_answerer
from modeling_siasamrea.commands.process import run_command
from modeling_siasamrea.data.questions import VideoQuestion
from modeling_siasamrea.demo.drawing import STYLE


VOCABULARY = {0: "cat", 1: "dog", 2: "<b>red</b>", 3: "blue"}


@pytest.fixture(scope="module")
def module() -> ModuleType:
    """The page's module; it imports Gradio, which takes seconds, so not while tests are collected."""
    pytest.importorskip("gradio", reason="the page needs Gradio")
    return import_module("modeling_siasamrea.demo.page")


@pytest.fixture
def make_page(tiny_config, tokenizer, module):
    """The page of a model of random weights with heads for `tasks`."""

    def make(*tasks: str, examples: dict[str, VideoQuestion] | None = None):
        torch.manual_seed(0)
        model = SiaSamReaForVideoQuestionAnswering(tiny_config(tasks=list(tasks), id2label=VOCABULARY))
        processor = SiaSamReaProcessor(SiaSamReaVideoProcessor(size={"longest_edge": 64}), tokenizer)
        answerer = pipeline("video-question-answering", model=model, processor=processor)
        return module.Page(answerer, "checkpoint", examples)

    return make


@pytest.fixture
def video(write_video, tmp_path, module):
    return module.Shown(str(write_video(tmp_path / "video.mp4")), None, 5.0)  # 40 frames, 8 a second


def test_the_command_hands_its_options_to_gradio(make_page, monkeypatch, module, capsys):
    launched = {}
    monkeypatch.setattr(command, "load_answerer", lambda *given: make_page("open_ended").answerer)
    monkeypatch.setattr(module.Page, "launch", lambda _, **options: launched.update(options) or (None, "here", None))
    monkeypatch.setattr(signal, "signal", lambda *given: None)
    monkeypatch.setenv("GRADIO_TEMP_DIR", "before")  # which the command sets for its process
    command.main(["--model", "m", "--auth", "me:a:b", "--host", "0.0.0.0", "--share"])
    given = {"share": True, "auth": ("me", "a:b"), "server_name": "0.0.0.0", "server_port": None}
    assert launched == given | {"quiet": True, "prevent_thread_lock": True}
    assert capsys.readouterr().out == "The page is at here. Ctrl+C ends it.\n"


def test_fields_become_a_request(module):
    video = module.Shown("a.mp4", None, 4.96)
    request = module.read_fields(video, " what is it ?\n\nwhat is red ? ", "", "count", 0, 5.0)
    asked = {"video": "a.mp4", "question": ["what is it ?", "what is red ?"], "candidates": None, "task": "count"}
    assert request == asked | {"start": None, "end": None}
    in_a_line = module.read_fields(video, "what ?", "a cat, a dog ,", "count", 1.0, 2.0)
    assert (in_a_line["candidates"], in_a_line["task"]) == (["a cat", "a dog"], "multiple_choice")
    assert (in_a_line["start"], in_a_line["end"]) == (1.0, 2.0)
    lines = module.read_fields(video, "what ?", "red, then blue\nblue, then red\n", None, 0, 5)
    assert lines["candidates"] == ["red, then blue", "blue, then red"]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ((" \n ", "", None, 0, 5), "no question"),
        (("what ?\n" * 17, "", None, 0, 5), "at most 16 questions.*17"),
        (("what ?\n" * 5, "\n".join(map(str, range(65))), None, 0, 5), "questions: 5, candidates of each: 65"),
        (("what ?", "", None, 3, 2), "from 3 s to 2 s does not fit.*5.00 s"),
        (("what ?", "", None, 5.1, 5.2), "does not fit"),
        (("what ?", "", None, -1, 2), "does not fit"),
        (("what ?", "", None, None, 2), "does not fit"),
        (("what ?", "", None, float("nan"), 2), "does not fit"),
    ],
)
def test_fields_that_make_no_sense_get_a_sentence(fields, said, module):
    with pytest.raises(ValueError, match=said):
        module.read_fields(module.Shown("a.mp4", None, 5.0), *fields)


def test_answers_have_bars_and_a_timeline_of_true_times(make_page, video):
    page = make_page("open_ended", "multiple_choice", "count")
    assert list(page.kinds) == ["open_ended", "count"]
    changes = page._answer(video, "what is <i>it</i> ?\nwhat is red ?", "", "open_ended", 1.0, 4.0)
    answers, timeline = changes[page.answers], changes[page.timeline]
    assert answers.count('class="answer"') == 2 and answers.count('class="fill ') == 8 and not changes[page.notice]
    assert "<i>" not in answers and "<b>red" not in answers and "&lt;b&gt;red&lt;/b&gt;" in answers
    # 24 frames in the span, 5 in the clip: one in four, from the middle of the 8 starts there are.
    assert timeline.count("<image ") == 5
    assert "frames at 1.38, 1.88, 2.38, 2.88, 3.38 seconds" in timeline
    (count,) = page.answerer(video=video.path, question=["how many ?"], task="count")
    changes = page._answer(video, "how many " * 40 + "?\nhow many ?", "", "count", 0, 5)
    assert f"The model counts {count[0]['value']:.2f}" in changes[page.answers]
    assert "longer than the model reads" in changes[page.notice]  # of the first question


def test_the_look_inside_draws_every_part(make_page, video, module):
    page = make_page("open_ended", "multiple_choice", "count")
    for candidates, kind in (("", "open_ended"), ("cat, a <dog>", None), ("", "count")):
        drawn = page._look_inside(module.read_fields(video, "what is it ?", candidates, kind, 0, 5))[page.inside]
        assert drawn.count('class="clip') == 3 and drawn.count("<tr>") == 4
        assert "soft label</abbr> Q" in drawn and "change the answer?" in drawn
        assert "<dog>" not in drawn


@pytest.mark.parametrize(
    ("task", "candidates", "said"),
    [
        ("open_ended", "cat, dog", "the model answers tasks"),
        ("multiple_choice", "cat", "candidates"),
        ("multiple_choice", "cat, cat", "candidates must differ"),
        ("multiple_choice", "", "the model answers tasks"),
    ],
)
def test_a_question_without_a_head_gets_a_sentence(make_page, video, task, candidates, said):
    page = make_page(task)
    changes = page._answer(video, "what ?", candidates, None, 0, 5)
    assert said in changes[page.notice] and "alert" in changes[page.notice]


def test_errors_are_beside_what_caused_them_and_old_answers_go(make_page, video, tmp_path):
    page = make_page("count")
    (tmp_path / "broken.avi").write_bytes(b"no video at all" * 100)
    for changes, place, said in (
        (page._answer(None, "what ?", "", None, 0, 5), page.video_notice, "no video to ask about"),
        (page._answer(video, "what ?", "", None, 3, 2), page.video_notice, "does not fit"),
        (page._answer(video, "", "", None, 0, 5), page.notice, "no question"),
        (page._show(str(tmp_path / "broken.avi")), page.video_notice, "The video broken.avi cannot be read: "),
    ):
        assert said in changes[place] and not changes[page.answers] and not changes[page.timeline]
        assert sum("alert" in str(changes[one]) for one in (page.notice, page.video_notice)) == 1
        assert str(tmp_path) not in changes[place]  # nothing of the server's folders


def test_a_word_that_the_model_does_not_know_makes_its_answer_uncertain(make_page, video):
    page = make_page("open_ended")
    answers = page._answer(video, "what is red ?\nwhat coloür ?", "", None, 0, 5)[page.answers]
    assert answers.count("Uncertain") == 1 and "coloür" in answers.split("Uncertain")[1]
    known = [", ".join(VOCABULARY.values()) in str(part.get("props")) for part in page.blocks.config["components"]]
    assert sum(known) == 1


def test_examples_are_shown_with_their_question_and_answered(make_page, small_data, module):
    page = make_page("count", "open_ended", "multiple_choice")
    assert [one.task for one in page.examples.values()] == ["open_ended", "count", "multiple_choice"]
    changes = page._show_example(2)
    assert changes[page.questions] == "what does the cat do?" and changes[page.candidates] == "it sleeps\nit jumps"
    assert page.notice in page._answer_example(None, "what ?") and [*make_page("count").examples] == [
        "how many times does the cat jump?"
    ]
    page = make_page("count", examples=module.load_examples(small_data / "rows.jsonl"))
    changes = page._show_example([*page.examples].index("v1.mp4: how many times ?"))
    assert changes[page.shown].path.endswith("v1.mp4") and changes[page.kind] == "count"
    answered = page._answer_example(changes[page.shown], changes[page.questions], "", "count", 0, 5)
    assert "The model counts" in answered[page.answers]


def test_a_format_that_browsers_do_not_play_is_shown_by_a_copy(make_page, write_video, tmp_path):
    page = make_page("count")
    changes = page._show(str(write_video(tmp_path / "film.avi", codec="mpeg4")))
    assert "copy.mp4" in changes[page.player]


def luminance(color: str) -> float:
    """Relative luminance of `#rrggbb` by WCAG 2."""
    parts = (int(color[place : place + 2], 16) / 255 for place in (1, 3, 5))
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear))


def mixed(color: str, share: float, ground: str) -> str:
    """What CSS makes of a color that is partly transparent over another."""
    parts = [(int(color[i : i + 2], 16), int(ground[i : i + 2], 16)) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(share * over + (1 - share) * under):02x}" for over, under in parts)


def contrast(*colors: str) -> float:
    dark, light = sorted(map(luminance, colors))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("mode", ["", "_dark"])
def test_texts_stand_out_from_what_is_behind_them(mode, module):
    def color(name: str) -> str:
        value = f"*{name}"
        while value.startswith("*"):
            value = getattr(module.THEME, value[1:] + mode, None) or getattr(module.THEME, value[1:])
        return {"white": "#ffffff", "black": "#000000"}.get(value, value)

    ground, ink = color("body_background_fill"), color("body_text_color")
    faint = mixed(ink, 0.75, ground)  # --faint of drawing.css
    (strong,) = re.findall(r"--strong: (#\w+)", STYLE.read_text())
    (other,) = re.findall(r"--other: (#\w+)", STYLE.read_text())
    pairs = [(ink, ground), (faint, ground), (ink, mixed(strong, 0.7, ground))]  # the last: the strongest affinity
    pairs += [(color("button_primary_text_color"), color("button_primary_background_fill"))]
    pairs += [(color("button_secondary_text_color"), color("button_secondary_background_fill"))]
    pairs += [(color("body_text_color_subdued"), ground), (color("block_info_text_color"), ground)]
    pairs += [(color("block_label_text_color"), color("block_label_background_fill"))]
    pairs += [(color("block_title_text_color"), color("block_background_fill"))]
    assert [pair for pair in pairs if contrast(*pair) < 4.5] == []
    assert min(contrast(bar, ground) for bar in (strong, other)) >= 3  # of graphics


def test_other_failures_keep_their_trace_on_the_server(caplog, module):
    said = module.sentence(KeyError("/etc/secret"))
    assert "KeyError" in said and "secret" not in said
    assert "secret" in caplog.text


def test_examples_come_from_a_folder_or_from_questions(small_data, tmp_path, module):
    (small_data / "again").mkdir()
    (small_data / "again" / "v0.mp4").write_bytes((small_data / "v0.mp4").read_bytes())
    (small_data / "._v0.mp4").write_bytes(b"of a file manager")
    assert sorted(module.load_examples(small_data)) == ["again/v0.mp4", *(f"v{number}.mp4" for number in range(4))]
    rows = module.load_examples(small_data / "rows.jsonl")
    assert rows["v0.mp4: what colour ?"].video == str(small_data / "v0.mp4")
    choice = next(row.candidates for row in rows.values() if row.task == "multiple_choice")
    assert choice == ("cat", "dog", "jump") and module.load_examples(None) == {}
    (tmp_path / "empty").mkdir()
    for source, said in ((tmp_path / "empty", "no video in"), (tmp_path / "nowhere", "no folder or file of examples")):
        with pytest.raises(ValueError, match=said):
            module.load_examples(source)


def test_the_look_inside_of_an_adapter(make_page, video, module):
    pytest.importorskip("peft")
    from modeling_siasamrea.training.lora import add_lora

    page = make_page("open_ended")
    request = module.read_fields(video, "what is it ?", "", "open_ended", 0, 5)
    page.answerer.model = add_lora(page.answerer.model, rank=2)
    assert "soft label</abbr> Q" in page._look_inside(request)[page.inside]


def test_a_checkpoint_that_is_not_there_gets_a_sentence(tmp_path):
    with pytest.raises(ValueError, match="The checkpoint .*nowhere cannot be loaded: "):
        load_answerer(tmp_path / "nowhere")


def test_the_model_comes_by_position_or_by_name(tmp_path):
    assert command.demo_arguments(["mine"]).model == command.demo_arguments(["--model", "mine"]).model == "mine"
    with pytest.raises(SystemExit):
        command.demo_arguments(["mine", "--predictions", str(tmp_path / "none.jsonl")])


def test_the_command_explains_what_is_missing(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.delitem(sys.modules, "modeling_siasamrea.demo.page", raising=False)
    assert run_command(command.main, ["nowhere"]) == 2
    assert 'pip install "siasamrea[demo]"' in capsys.readouterr().err


@pytest.fixture
def address(make_page):
    """Where the page is served, with uploads of at most 20 kB."""
    page = make_page("open_ended")
    _, local, _ = page.launch(prevent_thread_lock=True, quiet=True, max_file_size="20kb")
    yield local.rstrip("/")
    page.blocks.close()


def test_the_server_limits_uploads_hands_out_nothing_else_and_fetches_nothing_for_a_user(address, tmp_path):
    for size, status in ((1_000, 200), (100_000, 413)):
        sent = httpx.post(f"{address}/gradio_api/upload", files={"files": ("video.mp4", b"0" * size)})
        assert sent.status_code == status

    (tmp_path / "other.mp4").write_bytes(b"not for the page")
    for path in ("/etc/passwd", tmp_path / "other.mp4"):
        assert httpx.get(f"{address}/gradio_api/file={path}").status_code in (403, 404)

    asked = []

    class Inner(BaseRequestHandler):
        def handle(self):
            asked.append(self.client_address)

    with TCPServer(("127.0.0.1", 0), Inner) as inner:
        threading.Thread(target=inner.serve_forever, daemon=True).start()
        within = f"http://127.0.0.1:{inner.server_address[1]}/secret.mp4"
        config = httpx.get(f"{address}/config").json()
        upload = next(part["id"] for part in config["components"] if part["type"] == "file")
        (event,) = (one for one in config["dependencies"] if [upload, "upload"] in one["targets"] and one["inputs"])
        for file in ({"path": within}, {"path": within, "url": within}, {"path": "x.mp4", "url": within}):
            data = {"data": [file | {"meta": {"_type": "gradio.FileData"}}], "fn_index": event["id"]}
            answer = httpx.post(f"{address}/gradio_api/queue/join", json=data | {"session_hash": "s"})
            assert answer.status_code == 200
            events = [json.loads(line[5:]) for line in _events(address) if line.startswith("data:")]
            said = next(one for one in events if one["msg"] == "process_completed")
            assert said["success"] is False and "Traceback" not in json.dumps(said)
        inner.shutdown()
    assert asked == []


def _events(address: str) -> list[str]:
    """What the server tells a session, to the end of its request."""
    with httpx.stream("GET", f"{address}/gradio_api/queue/data", params={"session_hash": "s"}, timeout=30) as stream:
        lines = []
        for line in stream.iter_lines():
            lines.append(line)
            if "close_stream" in line:
                return lines
    return lines


def test_a_video_language_model_answers_and_says_what_is_not_shown(video, tmp_path, module):
    model, processor = tiny("smolvlm")
    model.save_pretrained(tmp_path / "checkpoint")
    processor.save_pretrained(tmp_path / "checkpoint")
    page = module.Page(load_answerer(tmp_path / "checkpoint"), "checkpoint")
    assert page.kinds == {"open_ended": "in its own words", "count": "with a number"}
    changes = page._answer(video, "what ?", "cat, dog", None, 0, 5.0)
    assert "cat" in changes[page.answers] and "dog" in changes[page.answers] and "<image" in changes[page.timeline]
    inside = page._look_inside(changes[page.request])[page.inside]
    assert inside.count("<div>from ") > 2 and inside.count("cat") >= 3
    assert re.search(r"(Yes|No): \d of \d other\s+starts give", inside)
    assert "how many ?" in page._answer(video, "how many ?", "", "count", 0, 5.0)[page.answers]
