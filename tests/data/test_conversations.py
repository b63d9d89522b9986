"""Conversations of other tools as rows, and rows as conversations."""

import json

import datasets
import pytest

from modeling_siasamrea.commands.rows import main
from modeling_siasamrea.data.conversations import options_of, rows_of_conversation
from modeling_siasamrea.data.questions import load_video_questions


def llava(*turns: str, **cells: object) -> dict:
    names = ("human", "gpt") * len(turns)
    return {"conversations": [{"from": name, "value": turn} for name, turn in zip(names, turns)], **cells}


def messages(*turns: object, **cells: object) -> dict:
    names = ("user", "assistant") * len(turns)
    return {"messages": [{"role": name, "content": turn} for name, turn in zip(names, turns)], **cells}


def trl(question: object, answer: object, **cells: object) -> dict:
    prompt, completion = messages(question, answer)["messages"]
    return {"prompt": [prompt], "completion": [completion], **cells}


def parts(*content: tuple[str, str | None]) -> list[dict]:
    kinds = {"path": "video"}
    return [{"type": kinds.get(key, key), key: value} if value else {"type": key} for key, value in content]


WHAT, CAT = {"type": "input_text", "text": "What is it?"}, {"type": "output_text", "text": "A cat."}


@pytest.mark.parametrize(
    "row",
    [
        llava("<video>\nWhat is it?", "A cat.", id="7", video="a.mp4"),
        llava("What is it?", "A cat.", id=7, video=["a.mp4"]),
        llava("<image>\nWhat is it?", "A cat.", id="7", video="a.mp4"),
        llava("What is it?<video>", "A cat.", id="7", videos=["a.mp4"], system="Be brief."),
        messages("<video>What is it?", "A cat.", id="7", videos=["a.mp4"]),
        messages(parts(("video", None), ("text", "What is it?")), parts(("text", "A cat.")), id="7", videos=["a.mp4"]),
        messages(parts(("video", "a.mp4"), ("text", "What is it?")), parts(("text", "A cat.")), id="7"),
        messages(parts(("path", "a.mp4"), ("text", "What is it?")), parts(("text", "A cat.")), id="7"),
        trl(parts(("video", None), ("text", "What is it?")), parts(("text", "A cat.")), id="7", videos=["a.mp4"]),
        trl("<video>What is it?", "A cat.", id="7", videos=["a.mp4"]),
        {"prompt": "What is it?", "completion": " A cat.", "id": "7", "video": "a.mp4"},
        {"query": "<video>What is it?", "response": "A cat.", "id": "7", "videos": ["a.mp4"]},
        {"instruction": "<video>What", "input": "is it?", "output": "A cat.", "id": "7", "videos": ["a.mp4"]},
        {"prompt": "What is it?", "chosen": "A cat.", "rejected": "A dog.", "id": "7", "video": "a.mp4"},
        llava("<|vision_start|><|video_pad|><|vision_end|>What is it?", id="7", video="a.mp4")
        | {"chosen": {"from": "gpt", "value": "A cat."}},
        messages([{"type": "video_url", "video_url": {"url": "a.mp4"}}, WHAT], [CAT], id="7"),
        messages([{"type": "input_video", "input_video": "a.mp4"}, WHAT], [CAT], id=7),
        {"QA": [{"i": "Look.", "q": "What is it?", "a": "A cat."}], "id": "7", "video": "a.mp4"},
        {"QA": [{"i": "What is it?", "q": "", "a": "A cat."}], "id": "7", "video": "a.mp4"},
        {
            "messages": [{"role": "system", "content": "Be brief."}, *messages("What is it?", "A cat.")["messages"]],
            "video": "a.mp4",
            "question_id": "7",
        },
    ],
)
def test_a_conversation_of_any_tool_is_a_row(tmp_path, row):
    question = "What\nis it?" if "input" in row else "What is it?"
    (expected,) = load_video_questions(
        [{"video": "a.mp4", "question": question, "answer": "A cat.", "question_id": "7"}], "videos"
    )
    (tmp_path / "a.json").write_text(json.dumps([row]))
    datasets.Dataset.from_list([row]).to_parquet(tmp_path / "a.parquet")
    for source in ([row], tmp_path / "a.json", tmp_path / "a.parquet"):
        assert load_video_questions(source, "videos") == [expected]


def test_a_video_part_has_a_span_and_may_be_the_file_itself():
    part = {"type": "video", "video": "file:///videos/a.mp4", "video_start": 1.0, "video_end": 5.0}
    data = {"type": "video_url", "video_url": {"url": "data:video/mp4;base64,AAEC"}}
    first, second = load_video_questions([messages([part, WHAT], "A cat."), messages([data, WHAT], "A cat.")])
    assert (first.video, first.start, first.end, second.video_bytes) == ("/videos/a.mp4", 1.0, 5.0, b"\0\1\2")


def test_a_history_is_questions_too():
    row = {
        "query": "Which colour?",
        "response": "Black.",
        "history": [["<video>What is it?", "A cat."]],
        "video": "a.mp4",
    }
    assert [(one.question, one.answer) for one in load_video_questions([row])] == [
        ("What is it?", "A cat."),
        ("Which colour?", "Black."),
    ]


def test_a_data_set_with_a_video_column(tmp_path, write_video):
    path = str(write_video(tmp_path / "v.mp4", frames=4))
    for column, value, feature in (
        ("video", path, datasets.Video()),
        ("videos", [path], datasets.List(datasets.Video())),
    ):
        dataset = datasets.Dataset.from_list([messages("What is it?", "A cat.") | {column: value}])
        dataset = dataset.cast_column(column, feature)
        dataset.to_parquet(tmp_path / "rows.parquet")
        for source in (dataset, dataset.to_iterable_dataset(), tmp_path / "rows.parquet"):
            (row,) = load_video_questions(source)
            assert (row.video, row.question, row.answer) == (path, "What is it?", "A cat.")


def test_each_question_of_a_conversation_is_a_row_and_that_is_said(caplog):
    turns = ("<video>What is it?", "A cat.", "Which colour?", "Black.")
    with caplog.at_level("WARNING"):
        rows = load_video_questions([llava(*turns, video="a.mp4", id="c"), llava(*turns, video="b.mp4")])
    assert [(row.question_id, row.answer) for row in rows] == [
        ("c_0", "A cat."),
        ("c_1", "Black."),
        ("2_0", "A cat."),
        ("2_1", "Black."),
    ]
    assert "conversations with several questions: 2, first row 1." in caplog.text


def test_thoughts_are_left_out_of_answers_and_that_is_said(caplog):
    with caplog.at_level("WARNING"):
        rows = load_video_questions([llava("q", '<think>Is it\n"B"?</think>\n<answer>B</answer>', video="a.mp4")])
    assert rows[0].answer == "B" and "Thoughts in answers" in caplog.text
    cut = {
        "video": "a.mp4",
        "messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "<think>B"}],
    }
    reward = {"video": "a.mp4", "messages": cut["messages"][:1], "solution": "<answer>C</answer>"}
    assert [row.answer for row in load_video_questions([cut, reward], require_answers=False)] == [None, "C"]


def test_conversations_of_one_id_are_told_apart():
    rows = [llava("q", "a", video="a.mp4", id="a"), llava("p", "b", video="a.mp4", id="a")]
    assert [row.question_id for row in load_video_questions(rows)] == ["a", "a (row 2)"]


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (llava("q", "a", videos=["a.mp4", "b.mp4"]), "row 1: .*one video alone; got video .2."),
        (llava("q", "a"), "row 1: .*one video alone; got none"),
        (messages([{"type": "video", "video": ["0.jpg", "1.jpg"]}, WHAT], "a"), "row 1: video .*a list of 2"),
        ({"video": ["0.jpg", "1.jpg"], "question": "q", "answer": "a"}, "row 1: video .*a list of 2"),
        ({"video": "a.mp4", "captions": [{"idx": "-1", "content": "a"}]}, "row 1: .*A caption needs a question"),
        ({"QA": [{"q": "q", "a": "a"}], "image": "a.png"}, "row 1: .*image .1."),
        ({"QA": ["q"], "video": "a.mp4"}, "row 1: a turn"),
        (llava("<video><image>q", "a", video="a.mp4"), "mark .2."),
        (llava("<video><audio>q", "a", video="a.mp4"), "audio .1."),
        (
            messages([{"type": "image_url", "image_url": "b.png"}, {"type": "video", "video": "a.mp4"}], "a"),
            "image_url .1.",
        ),
        (llava("q", "a", video="a.mp4", image="a.png"), "image .1."),
        (messages(parts(("video", "a.mp4"), ("image", "b.png")), "a"), "image .1."),
        ({"messages": [{"role": "tool", "content": "q"}], "video": "a.mp4"}, "row 1: a turn"),
        (llava("q", "<tool_call>{}</tool_call>", video="a.mp4"), "row 1: a turn"),
        ({"messages": [{"role": "assistant", "content": "q"}], "video": "a.mp4"}, "row 1: .*alternate"),
        ({"messages": messages("q", "a")["messages"] * 2 + messages("q")["messages"] * 2, "video": "a"}, "alternate"),
        (messages([3], "a", video="a.mp4"), "row 1: a turn"),
        ({"messages": [], "video": "a.mp4"}, "row 1: .*alternate"),
        (llava("q", "a", "q", video="a.mp4"), "row 1: answer is empty"),
        (llava("  ", "a", video="a.mp4"), "row 1: question is empty"),
    ],
)
def test_a_conversation_that_is_no_questions_about_one_video_is_refused(row, says):
    with pytest.raises(ValueError, match=says):
        load_video_questions([row])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("which ? A. red B. blue", ("which ?", ["red", "blue"])),
        ("which ?\n(A) red\n(B) dark blue\n(C) 3.5", ("which ?", ["red", "dark blue", "3.5"])),
        ("which ?\nOptions:\nA) red\n B) blue\nAnswer with the letter.", ("which ?", ["red", "blue"])),
        ("Is A. Smith there? A: yes B: no", ("Is A. Smith there?", ["yes", "no"])),
        ("which of A and B ?", None),
        ("which ? A. red", None),
        ("which ? B. red C. blue", None),
    ],
)
def test_options_in_a_question(text, expected):
    assert options_of(text) == expected


def test_options_become_candidates_where_that_is_asked_for():
    row = {"video": "a.mp4", "question": "which ? A. red B. blue"}
    for answer, place in (("B", 1), ("(A)", 0), ("B. blue", 1), ("blue", 1), ("A. ", 0), ("Answer: (B) blue", 1)):
        (question,) = load_video_questions([{**row, "answer": answer}], options_in_question=True)
        assert (question.question, question.candidates, question.answer) == ("which ?", ("red", "blue"), place)
    assert load_video_questions([{**row, "answer": "B"}])[0].answer == "B"
    for answer in ("C", "green", "A. blue"):
        with pytest.raises(ValueError, match="row 1: answer"):
            load_video_questions([{**row, "answer": answer}], options_in_question=True)


def test_rows_are_written_for_other_trainers_and_read_again(tmp_path, capsys):
    rows = [
        {"video": "a.mp4", "question": "what ?", "answer": ["cat", "kitten"]},
        {"video": "a.mp4", "question": "which ?", "answer": "blue", "candidates": ["red", "blue"]},
        {"video": "b.mp4", "question": "how many ?", "answer": 12, "task": "count"},
        {"video": "b.mp4", "question": "what ?", "answer": "cat", "start": 1.5},
        {"video": "b.mp4", "question": "what ?"},
    ]
    source, target = tmp_path / "rows.jsonl", tmp_path / "out.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main([str(source), str(target), "--format", "messages"]) == 3
    out, err = capsys.readouterr()
    assert "rows: 3, left out: 2" in out and "row '3'" in err and "row '4'" in err
    written = [json.loads(line) for line in target.read_text().splitlines()]
    assert written[1] == {
        "id": "1",
        "messages": [
            {"role": "user", "content": "<video>which ?\nA. red\nB. blue"},
            {"role": "assistant", "content": "B"},
        ],
        "videos": ["a.mp4"],
    }
    first, second, third = load_video_questions(target, options_in_question=True)
    assert (first.answer, second.candidates, second.answer, third.answer) == ("cat", ("red", "blue"), 1, "12")
    assert rows_of_conversation(written[2], "row")[0]["video"] == "b.mp4"
    # This package's own format holds all of them.
    assert main([str(source), str(target)]) == 5
    assert load_video_questions(target, require_answers=False) == load_video_questions(source, require_answers=False)
    with pytest.raises(ValueError, match="must differ"):
        main([str(source), str(source)])


def test_conversations_that_make_no_rows_are_left_out_and_counted(tmp_path, capsys):
    rows = [llava("q", "a", video="a.mp4", id="0"), llava("q", "a", image="a.png"), llava("q", "a", videos=["a", "b"])]
    rows += [llava("q", "a", videos=[["0.jpg", "1.jpg"]])] * 3 + [llava("p", "b", video="b.mp4", id="8")]
    (tmp_path / "llava.json").write_text(json.dumps(rows))
    assert main([str(tmp_path / "llava.json"), str(tmp_path / "rows.jsonl")]) == 2
    out, err = capsys.readouterr()
    assert "rows: 2, left out: 5" in out and "row 2" in err and "row 3" in err and "2 more" in err
    assert [row.question_id for row in load_video_questions(tmp_path / "rows.jsonl")] == ["0", "8"]
    (tmp_path / "llava.json").write_text(json.dumps(rows[1:3]))
    with pytest.raises(ValueError, match="row 1: .*image .1."):
        main([str(tmp_path / "llava.json"), str(tmp_path / "rows.jsonl")])
