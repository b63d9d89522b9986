"""The answers of an evaluation as one HTML file."""

import json
import re

import pytest

from modeling_siasamrea import SiaSamReaVideoProcessor
from modeling_siasamrea.commands.review import main
from modeling_siasamrea.demo.inspection import frames_at
from modeling_siasamrea.demo.review import by_error, draw_review


def line(number: int, prediction, **more) -> dict:
    names = {"question_id": f"q{number}", "video": "v.mp4", "question": f"question <{number}> ?", "task": "open_ended"}
    return names | {"prediction": prediction} | more


LINES = [
    line(0, "cat", answer="cat", correct=True, score=0.9),
    line(1, "dog", answer="cat", correct=False, score=0.4, answers=["dog", "cat", "dog"], frame_times=[0.5, 1.25]),
    line(2, "red", answer=["dog", "puppy"], correct=False, score=0.8),
    line(3, "red"),
]


def test_wrong_answers_come_first_and_the_surest_of_them_at_the_top():
    assert [one["question_id"] for one in by_error(LINES)] == ["q2", "q1", "q3", "q0"]


def test_the_page_shows_each_answer_with_its_frames(write_video, tmp_path):
    write_video(tmp_path / "v.mp4", frames=16)  # 8 frames per second
    (tmp_path / "predictions.jsonl").write_text("".join(json.dumps(one) + "\n" for one in LINES))
    page = draw_review(tmp_path / "predictions.jsonl", tmp_path, most=3)
    assert page.count('<div class="card"') == 3 and "1 of 3 answers are right" in page
    assert "0.50 s" in page and "1.25 s" in page and "name the model by --model" in page and "<1>" not in page
    assert "the same answer from 2 of 3 starts" in page and "dog or puppy" in page


@pytest.mark.parametrize(
    ("lines", "row", "colors"),
    [
        (LINES, "cat", {"strong": 40, "other": 40}),  # one right, one taken for dog
        ([line(number, "woman", answer=f"a{number}") for number in range(14)], "a1", {"other": 80}),
        ([line(number, f"b{number}", answer=f"a{number}") for number in range(14)], "(other)", {"other": 80}),
    ],
)
def test_the_confusion_table_marks_right_answers_and_wrong_ones(lines, row, colors, tmp_path):
    (tmp_path / "predictions.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    rows = draw_review(tmp_path / "predictions.jsonl", tmp_path).split("<tr>")
    (drawn,) = [one for one in rows if one.startswith(f"<th>{row}</th>")]
    shares = re.findall(r"var\(--(\w+)\) (\d+)%", drawn)
    assert {color: int(share) for color, share in shares if share != "0"} == colors


def test_videos_are_found_by_the_path_of_the_evaluation_or_by_its_end_in_the_folder(
    write_video, tmp_path, monkeypatch
):
    (tmp_path / "videos" / "a").mkdir(parents=True)
    write_video(tmp_path / "videos" / "a" / "v.mp4", frames=16)
    monkeypatch.chdir(tmp_path)
    for video, folder in (
        ("videos/a/v.mp4", "videos"),
        ("a/v.mp4", "videos"),
        ("old/a/v.mp4", "videos"),
        ("v.mp4", "videos/a"),
    ):
        one = line(0, "cat", answer="cat", correct=True, frame_times=[0.5]) | {"video": video}
        (tmp_path / "predictions.jsonl").write_text(json.dumps(one) + "\n")
        assert "0.50 s" in draw_review(tmp_path / "predictions.jsonl", tmp_path / folder)


def test_the_command_draws_the_anchor_clip_or_the_recorded_times(write_video, tmp_path, capsys):
    write_video(tmp_path / "v.mp4", frames=16)  # 8 frames per second
    lines = [
        LINES[0],
        line(5, "cat", answer="dog", correct=False, frame_times=[0.125, 1.0]),
        line(6, None, video="no.mp4"),
    ]
    (tmp_path / "predictions.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    SiaSamReaVideoProcessor(frames_per_clip=2, num_clips=3).save_pretrained(tmp_path)
    page = main([str(tmp_path / "predictions.jsonl"), "--videos", str(tmp_path)]).read_text()
    assert page.count("<figure") == 4 and "0.12 s" in page and "no.mp4" in page
    (tmp_path / "predictions.jsonl").write_text('{"video": "v.mp4"}\n')
    with pytest.raises(ValueError, match="question"):
        main([str(tmp_path / "predictions.jsonl")])


def test_a_recorded_time_finds_its_frame(write_video, tmp_path):
    write_video(tmp_path / "v.mp4", frames=16)
    pictures, times = frames_at(tmp_path / "v.mp4", [0.125, 0.3749, 1.875])
    assert times.tolist() == [0.125, 0.3749, 1.875]
    assert [round((float(one.mean()) - 8) / 6) for one in pictures] == [1, 3, 15]  # see `numbered_frame`
