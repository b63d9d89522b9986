"""Annotation rows, cell by cell: what is read, and what is refused instead of read as something else."""

import json
import math

import datasets
import numpy as np
import pytest

from modeling_siasamrea.data.questions import load_video_questions, read_skip_list
from modeling_siasamrea.processors.video_source import absolute_path


ROW = {"video": "a.mp4", "question": "what?", "answer": "cat"}
CHOICE = {**ROW, "candidates": ["yes", "no"], "answer": "no"}
COUNT = {**ROW, "task": "count", "answer": 3}


BAD_CELLS = {
    "true and false": [
        ({**CHOICE, "answer": True}, "answer"),
        ({**CHOICE, "answer": np.bool_(False)}, "answer"),
        ({**ROW, "answer": True}, "answer"),
        ({**COUNT, "answer": True}, "answer"),
        ({**ROW, "question": False}, "question"),
        ({**ROW, "start": True}, "start"),
        ({**CHOICE, "candidates": [True, False]}, "candidate 0"),
    ],
    "lists and dictionaries": [
        ({**ROW, "question": ["what?"]}, "question"),
        ({**ROW, "video": ["a.mp4"]}, "video"),
        ({**ROW, "video": {"url": "a.mp4"}}, "video"),
        ({**ROW, "answer": {"text": "cat"}}, "answer"),
        ({**ROW, "answer": ["cat", ["dog"]]}, "answer"),
        ({**CHOICE, "answer": ["yes", "no"]}, "answer"),
        ({**COUNT, "answer": [1, 2]}, "answer"),
        ({**CHOICE, "candidates": {"a": 1, "b": 2}}, "candidates"),
        ({**CHOICE, "candidates": ["yes", ["no"]]}, "candidate 1"),
        ({**ROW, "question_type": {"name": "what"}}, "question_type"),
    ],
    "blanks": [
        *(({**ROW, name: blank}, f"{name} is empty") for name in ROW for blank in ("\u00a0", "\u200b", "\t\n", "")),
        ({**ROW, "answer": ["cat", " "]}, "answer"),
        ({**ROW, "answer": []}, "answer"),
        ({**ROW, "answer": "['sofa' 'couch']"}, "answer"),
        ({**CHOICE, "candidates": ["no", "\u00a0"]}, "candidate 1"),
        ({**CHOICE, "candidates": ["no", None]}, "candidate 1"),
    ],
    "numbers": [
        *(({**ROW, name: math.nan}, name) for name in (*ROW, "question_type", "question_id", "task")),
        ({**CHOICE, "candidates": ["no", math.nan]}, "candidate 1"),
        ({**CHOICE, "candidates": math.nan}, "candidates"),
        ({**CHOICE, "answer": math.inf}, "answer"),
        *(
            ({**COUNT, "answer": bad}, "answer")
            for bad in (math.nan, math.inf, "nan", "-inf", -1, 1e9, 10**400, "1_0")
        ),
        *(({**ROW, "start": bad}, "start") for bad in (math.nan, "inf", -0.5, "-1", [1])),
        *(({**ROW, "end": bad}, "end") for bad in (math.nan, math.inf, -1, {"s": 1}, 0)),
        *(({**ROW, "evidence": bad}, "evidence") for bad in (3, [1, 2], [[1]], [[2, 1]], "[[1, 2, 3]]", "[")),
        *(({**CHOICE, "answer": bad}, "answer") for bad in (-1, 0.5, 10**400)),
        *(({**COUNT, "count_range": bad}, "count_range") for bad in (3, [1], "1-10")),
    ],
    "candidates that no answer tells apart": [
        ({**CHOICE, "candidates": ["no", "yes", "no"]}, "candidates"),
        ({**CHOICE, "candidates": ["no", " no "], "answer": 0}, "candidates"),
        ({**CHOICE, "candidates": ["caf\u00e9", "cafe\u0301"], "answer": 0}, "candidates"),
    ],
    "cells that do not fit each other": [
        ({**ROW, "start": 3, "end": 2}, "end"),
        ({**ROW, "task": "riddle"}, "task"),
        ({**ROW, "task": "multiple_choice"}, "candidates"),
        ({**CHOICE, "task": "count"}, "candidates"),
        ({**CHOICE, "answer": "cow"}, "answer"),
        ({**CHOICE, "answer": 2}, "answer"),
        ({**CHOICE, "candidates": ["no"]}, "candidates"),
        ({**CHOICE, "candidates": "yes, no"}, "candidates"),
    ],
    "half a character": [({**ROW, "question": "what \ud83d?"}, "question")],
}


@pytest.mark.parametrize("kind", BAD_CELLS)
def test_a_cell_that_is_not_what_its_column_holds_is_refused(kind):
    for row, field in BAD_CELLS[kind]:
        with pytest.raises(ValueError, match=rf"row 2\b.*{field}"):
            load_video_questions([{**ROW, "question_id": "first"}, row])


def test_numpy_values_are_read_as_python_s_own():
    row = {**CHOICE, "answer": np.int64(1), "start": np.float32(0.5), "question": np.str_("what?")}
    row |= {"candidates": np.array(["yes", "no"]), "evidence": np.array([[0.5, 1.0]])}
    (question,) = load_video_questions([row])
    assert question == load_video_questions([{**CHOICE, "start": 0.5, "evidence": [[0.5, 1]]}])[0]
    assert type(question.answer) is int and type(question.start) is float and type(question.question) is str


def test_texts_that_look_equal_are_equal():
    rows = load_video_questions([{**ROW, "answer": ["caf\u00e9"]}, {**ROW, "answer": "cafe\u0301 "}])
    assert rows[0].answer == rows[1].answer == "caf\u00e9"
    assert load_video_questions([{**ROW, "video": "cafe\u0301.mp4"}])[0].video == "cafe\u0301.mp4"  # a file's name


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (
            [{"answer": "cat", "id": 0, "question": "what?", "video_id": 1}],
            "row 1: the row has no .video.. Did you mean .video_id",
        ),
        ([{"video": 1, "question": "what?", "answer": 0, **{f"a{n}": "b" for n in range(5)}}], "--benchmarks"),
        ([{**ROW, "question_id": "1", "task": "open_ended", "prediction": "dog"}], "predictions"),
        ([{**ROW, "question_id": "1"}, {**ROW, "question_id": "1"}], "row 2: question_id .* row 1"),
        ([ROW, {"video": "a.mp4", "question": "what?"}], "row 2: .*answer"),
        ([], "no rows"),
    ],
)
def test_rows_of_another_kind_of_file_are_named(rows, says):
    with pytest.raises(ValueError, match=says):
        load_video_questions(rows)


def test_a_number_without_a_task_is_a_text_and_that_is_said(caplog):
    with caplog.at_level("WARNING"):
        assert load_video_questions([ROW, {**ROW, "answer": 3}])[1].answer == "3"
        assert "whose answer is a number: 1, first row 2." in caplog.text
        caplog.clear()
        load_video_questions([{**ROW, "answer": 3}], task="open_ended")
        load_video_questions([COUNT])
        options = [{**ROW, "question": "which ? A. cat B. dog", "answer": "A"}] * 2
        load_video_questions(options, options_in_question=True)
        assert not caplog.text
        load_video_questions(options)
        assert caplog.text.count("options in their question: 2, first row 1. --options_in_question makes") == 1


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("anwser", "answer"), ("Answer", "answer"), ("Question Type", "question_type"), ("strat", "start")],
)
def test_a_column_that_looks_misspelt_is_refused_with_the_right_name(name, nearest):
    row = {key: value for key, value in ROW.items() if key != nearest}
    with pytest.raises(ValueError, match=f"row 2: .*'{name}'.*'{nearest}'"):
        load_video_questions([ROW, {**row, name: "cat"}], require_answers=False)
    # A name that is like none of them, or beside the right one, is no matter.
    load_video_questions([{**ROW, "frames": 16, "answers": 3}])


def test_numbers_are_read_as_their_digits():
    rows = [{**ROW, "answer": answer} for answer in (3, 3.0, np.int64(3), np.float32(3), "3", 2.5)]
    assert [row.answer for row in load_video_questions(rows)] == ["3"] * 5 + ["2.5"]
    (row,) = load_video_questions([{**ROW, "video": 40, "question_id": 7.0, "question_type": 2}])
    assert (row.video, row.question_id, row.question_type) == ("40", "7", "2")
    counts = [{**COUNT, "answer": answer} for answer in (3, "3", 0, 2.5)]
    assert [row.answer for row in load_video_questions(counts)] == [3.0, 3.0, 0.0, 2.5]


@pytest.mark.parametrize("answer", [0, 1, 2, 3, "cat"])
@pytest.mark.parametrize("candidates", [["1", "2", "3", "cat"], ["cat", "dog", "owl", "cow"]])
def test_an_index_is_the_same_in_csv_and_json(tmp_path, answer, candidates):
    (tmp_path / "a.jsonl").write_text(json.dumps({**CHOICE, "candidates": candidates, "answer": answer}))
    cell = json.dumps(candidates).replace('"', '""')
    (tmp_path / "a.csv").write_text(f'video,question,answer,candidates\na.mp4,what?,{answer},"{cell}"\n')
    rows = [load_video_questions(tmp_path / name) for name in ("a.jsonl", "a.csv")]
    assert rows[0] == rows[1]
    assert rows[0][0].answer == (candidates.index("cat") if answer == "cat" else answer)


def test_numbers_that_may_be_indices_or_texts_are_not_guessed_silently(caplog):
    rows = [{**CHOICE, "candidates": ["1", "2", "3"], "answer": answer} for answer in (1, 2)]
    with caplog.at_level("WARNING"):
        assert [row.answer for row in load_video_questions(rows)] == [1, 2]
    assert "an index and another candidate's text: 2, first row 1." in caplog.text
    with pytest.raises(ValueError, match="row 1 is an index and also the text of another candidate.*row 3"):
        load_video_questions([*rows, {**rows[0], "answer": 3}])
    texts = [{**row, "answer": str(row["answer"])} for row in rows]
    assert [row.answer for row in load_video_questions(texts)] == [0, 1]


def test_several_right_answers(tmp_path):
    answers = ["sofa", "couch", "sofa", " settee "]
    (tmp_path / "a.jsonl").write_text(json.dumps({**ROW, "answer": answers}))
    cell = json.dumps(answers).replace('"', '""')
    (tmp_path / "a.csv").write_text(f'video,question,answer\na.mp4,what?,"{cell}"\n')
    dataset = datasets.Dataset.from_list([{**ROW, "answer": answers}])
    for source in (tmp_path / "a.jsonl", tmp_path / "a.csv", dataset, dataset.to_pandas()):
        (row,) = load_video_questions(source)
        assert row.answer == "sofa" and row.right_answers == ("sofa", "couch", "settee")
    # One answer in a list is one answer, and a text in brackets that is no list of texts is a text.
    one, brackets = load_video_questions([{**ROW, "answer": ["cat"]}, {**ROW, "answer": "[1, 2]"}])
    assert one.right_answers == ("cat",) and brackets.right_answers == ("[1, 2]",)


def test_files_of_different_numbers_of_candidates_are_read():
    rows = load_video_questions([CHOICE, {**CHOICE, "candidates": ["yes", "no", "maybe"]}, ROW])
    assert [row.kind for row in rows] == [("multiple_choice", 2), ("multiple_choice", 3), ("open_ended", 0)]
    assert len({row.video_group for row in rows}) == 3


def test_repeated_candidates_stay_where_the_authors_publish_them():
    row = {**CHOICE, "candidates": ["red", "", "red"], "answer": 2, "as_published": True}
    (question,) = load_video_questions(datasets.Dataset.from_list([row]))
    assert question.candidates == ("red", "", "red") and question.answer == 2
    with pytest.raises(ValueError, match="candidate 1"):
        load_video_questions([{**row, "as_published": False}])


def test_videos_come_as_paths_and_as_bytes(tmp_path):
    data = b"the same file" * 10
    rows = [
        {**ROW, "video": {"path": "x/a.mp4", "bytes": None}},
        {**ROW, "video": {"path": "a.mp4", "bytes": data}},
        {**ROW, "video": {"path": "a.mp4", "bytes": bytes(bytearray(data))}},
        {**ROW, "video": {"path": "a.mp4", "bytes": b"another file of this name"}},
        {**ROW, "video": data},
        {**ROW, "video": tmp_path / "a.mp4"},
    ]
    path, first, same, other, nameless, absolute = load_video_questions(rows, "videos")
    assert path.video == "videos/x/a.mp4" and path.video_bytes is None
    assert first.video == "a.mp4" and first.video_bytes is same.video_bytes
    assert first.video_group == same.video_group != other.video_group
    assert nameless.video.startswith("bytes-") and "the same file" not in repr(nameless)
    assert absolute.video == str(tmp_path / "a.mp4")
    for empty in (b"", {"path": None, "bytes": None}, {"path": "", "bytes": b""}):
        with pytest.raises(ValueError, match="video is empty"):
            load_video_questions([{**ROW, "video": empty}])


def test_csv_jsonl_and_datasets_give_the_same_rows(tmp_path):
    spans = {"candidates": ["cat", "None"], "answer": "None", "start": 1, "end": 2.5}
    rows = [{**ROW, "candidates": None, "start": None, "end": None}, {**ROW, **spans}]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    (tmp_path / "rows.csv").write_text(
        "video,question,answer,candidates,start,end\n"
        'a.mp4,what?,cat,,,\na.mp4,what?,None,"[""cat"", ""None""]",1,2.5\n'
    )
    from_jsonl = load_video_questions(tmp_path / "rows.jsonl", "videos")
    assert load_video_questions(tmp_path / "rows.csv", "videos") == from_jsonl
    assert load_video_questions(datasets.Dataset.from_list(rows), "videos") == from_jsonl
    assert [row.task for row in from_jsonl] == ["open_ended", "multiple_choice"]
    assert from_jsonl[1].answer == 1 and from_jsonl[1].candidates == ("cat", "None") and from_jsonl[1].end == 2.5
    assert [row.question_id for row in from_jsonl] == ["0", "1"]


def test_relative_paths_start_from_the_folder_and_others_stay():
    names = ["a.mp4", "https://host/a.mp4", "/x/a.mp4"]
    rows = load_video_questions([{**ROW, "video": name} for name in names], "videos")
    assert [row.video for row in rows] == ["videos/a.mp4", "https://host/a.mp4", "/x/a.mp4"]


@pytest.mark.parametrize("folder", ["videos", "./videos", "absolute", None])
def test_a_skip_list_is_a_run_s_own_or_one_of_check(tmp_path, monkeypatch, folder):
    monkeypatch.chdir(tmp_path)
    folder = str(tmp_path / "videos") if folder == "absolute" else folder
    names = ["a.mp4", "videos/a.mp4", "line\u2028break \u00e9.mp4", "https://host/c.mp4"]
    rows = load_video_questions([{**ROW, "video": name} for name in names], folder)
    of_run = [{"question_id": row.question_id, "video": row.video, "error": "empty"} for row in rows]
    of_check = [{"video": name, "error": "empty"} for name in names]
    for lines in (of_run, of_check):
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        (tmp_path / "skip.jsonl").write_text(text + '{"question_id": "9", "vid', encoding="utf-8")
        assert read_skip_list("skip.jsonl", folder) == {absolute_path(row.video) for row in rows}
    # Another run may have named the same folder otherwise.
    skipped = read_skip_list("skip.jsonl", tmp_path / "videos")
    assert len(skipped) == 4 and str(tmp_path / "videos" / "a.mp4") in skipped


def test_a_skip_list_that_names_no_video_is_refused_and_an_empty_one_is_empty(tmp_path):
    (tmp_path / "skip.jsonl").write_text('{"error": "empty"}\n')
    with pytest.raises(ValueError, match="row 1: video is empty"):
        read_skip_list(tmp_path / "skip.jsonl")
    (tmp_path / "skip.jsonl").write_text("")
    assert read_skip_list(tmp_path / "skip.jsonl") == set()
