"""Annotation rows, cell by cell: what is read, and what is refused instead of read as something else."""

import json
import math

import datasets
import numpy as np
import pytest

from modeling_siasamrea.data.questions import load_video_questions, read_skip_list


ROW = {"video": "a.mp4", "question": "what?", "answer": "cat"}
CHOICE = {**ROW, "candidates": ["yes", "no"], "answer": "no"}
COUNT = {**ROW, "task": "count", "answer": 3}


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        # true and false
        ({**CHOICE, "answer": True}, "answer must be a text or a number; got the bool True"),
        ({**CHOICE, "answer": np.bool_(False)}, "got the bool False"),
        ({**ROW, "answer": True}, "answer must be a text or a number; got the bool True"),
        ({**COUNT, "answer": True}, "answer must be a number; got True"),
        ({**ROW, "question": False}, "question must be a text"),
        ({**ROW, "start": True}, "start must be a time"),
        ({**CHOICE, "candidates": [True, False]}, "candidate 0 must be a text"),
        # lists and dictionaries
        ({**ROW, "question": ["what?"]}, "question must be a text or a number; got the list"),
        ({**ROW, "video": ["a.mp4"]}, "video must be a text or a number; got the list"),
        ({**ROW, "video": {"url": "a.mp4"}}, "video must be a text or a number; got the dict"),
        ({**ROW, "answer": {"text": "cat"}}, "answer must be a text or a number; got the dict"),
        ({**ROW, "answer": ["cat", ["dog"]]}, "answer must be a text or a number; got the list"),
        ({**CHOICE, "answer": ["yes", "no"]}, "only open-ended questions have several right answers"),
        ({**COUNT, "answer": [1, 2]}, "only open-ended questions have several right answers"),
        ({**CHOICE, "candidates": {"a": 1, "b": 2}}, "candidates must be a list"),
        ({**CHOICE, "candidates": ["yes", ["no"]]}, "candidate 1 must be a text"),
        ({**ROW, "question_type": {"name": "what"}}, "question_type must be a text"),
        # blanks
        *(
            ({**ROW, name: blank}, f"{name} is empty")
            for name in ROW
            for blank in ("  ", "\u00a0", "\u200b", "\t\n", "")
        ),
        ({**ROW, "answer": ["cat", " "]}, "answer has an empty text among"),
        ({**ROW, "answer": []}, "answer is empty"),
        ({**ROW, "answer": "['sofa', 'couch']"}, "a list of texts is written in JSON"),
        ({**ROW, "answer": "['sofa' 'couch']"}, "a list of texts is written in JSON"),
        ({**CHOICE, "candidates": ["no", "\u00a0"]}, "candidate 1 is empty"),
        ({**CHOICE, "candidates": ["no", None]}, "candidate 1 is empty"),
        # numbers that are none, and out of range
        *(({**ROW, name: math.nan}, f"{name} is nan") for name in (*ROW, "question_type", "question_id", "task")),
        ({**CHOICE, "candidates": ["no", math.nan]}, "candidate 1 is nan"),
        ({**CHOICE, "candidates": math.nan}, "candidates must be a list"),
        ({**CHOICE, "answer": math.inf}, "answer is inf"),
        *(
            ({**COUNT, "answer": bad}, "answer must be a number")
            for bad in (math.nan, math.inf, "nan", "-inf", -1, 1e9)
        ),
        ({**COUNT, "answer": 10**400}, "answer must be a number"),
        ({**COUNT, "answer": "1_0"}, "answer must be a number"),
        *(({**ROW, "start": bad}, "start must be a time in seconds") for bad in (math.nan, "inf", -0.5, "-1", [1])),
        *(({**ROW, "end": bad}, "end must be a time in seconds") for bad in (math.nan, math.inf, -1, {"s": 1})),
        ({**ROW, "end": 0}, "end must be after start"),
        ({**CHOICE, "answer": -1}, "neither one of the candidates"),
        ({**CHOICE, "answer": 0.5}, "neither one of the candidates"),
        ({**CHOICE, "answer": 10**400}, "neither one of the candidates"),
        # candidates that no answer tells apart
        ({**CHOICE, "candidates": ["no", "yes", "no"]}, "the candidate 'no' is there twice"),
        ({**CHOICE, "candidates": ["no", " no "], "answer": 0}, "the candidate 'no' is there twice"),
        # half a character
        ({**ROW, "question": "what \ud83d?"}, "half of a character"),
    ],
)
def test_a_cell_that_is_not_what_its_column_holds_is_refused(row, sentence):
    with pytest.raises(ValueError, match=f"row 2: .*{sentence}"):
        load_video_questions([{**ROW, "question_id": "first"}, row])


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("anwser", "answer"),
        ("Answer", "answer"),
        ("answers", "answer"),
        ("candidate", "candidates"),
        ("Question Type", "question_type"),
        ("question-id", "question_id"),
        ("strat", "start"),
    ],
)
def test_a_column_that_looks_misspelt_is_refused_with_the_right_name(name, nearest):
    row = {key: value for key, value in ROW.items() if key != nearest}
    with pytest.raises(ValueError, match=f"row 2: there is a column '{name}' but none named '{nearest}'"):
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


def test_numbers_that_may_be_indices_or_texts_are_not_guessed_silently(tmp_path, caplog):
    candidates = ["1", "2", "3"]
    rows = [{**CHOICE, "candidates": candidates, "answer": answer} for answer in (1, 2)]
    with caplog.at_level("WARNING"):
        assert [row.answer for row in load_video_questions(rows)] == [1, 2]
    assert "answer 1 of row 1 is an index and also the text of another candidate, as in 2 rows" in caplog.text
    with pytest.raises(
        ValueError, match="answer 1 of row 1 is an index and also the text of another candidate.*row 3"
    ):
        load_video_questions([*rows, {**rows[0], "answer": 3}])
    assert [row.answer for row in load_video_questions([{**row, "answer": str(row["answer"])} for row in rows])] == [
        0,
        1,
    ]


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
    with pytest.raises(ValueError, match="candidate 1 is empty"):
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


@pytest.mark.parametrize("folder", ["videos", "./videos", "absolute", None])
def test_a_skip_list_is_a_run_s_own_or_one_of_check_data(tmp_path, monkeypatch, folder):
    monkeypatch.chdir(tmp_path)
    folder = str(tmp_path / "videos") if folder == "absolute" else folder
    names = ["a.mp4", "deep/b.mp4", "line\u2028break \u00e9.mp4", "https://host/c.mp4"]
    rows = load_video_questions([{**ROW, "video": name} for name in names], folder)
    of_run = [{"question_id": row.question_id, "video": row.video, "error": "empty"} for row in rows]
    relative = [{"video": name, "error": "empty"} for name in names]
    for lines in (of_run, relative):
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        (tmp_path / "skip.jsonl").write_text(text + '{"question_id": "9", "vid', encoding="utf-8")
        assert read_skip_list(tmp_path / "skip.jsonl", folder) == {row.video for row in rows}


def test_a_skip_list_of_a_run_that_named_its_folder_otherwise(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "skip.jsonl").write_text('{"question_id": "0", "video": "videos/a.mp4", "error": "empty"}\n')
    assert read_skip_list("skip.jsonl", tmp_path / "videos") == {str(tmp_path / "videos" / "a.mp4")}
    (tmp_path / "skip.jsonl").write_text(json.dumps({"question_id": "0", "video": str(tmp_path / "videos" / "a.mp4")}))
    assert read_skip_list("skip.jsonl", "videos") == {"videos/a.mp4"}
    # A folder of the same name inside: check_data's paths start from the outer one.
    (tmp_path / "videos" / "videos").mkdir(parents=True)
    (tmp_path / "videos" / "videos" / "a.mp4").touch()
    (tmp_path / "skip.jsonl").write_text('{"video": "videos/a.mp4", "error": "empty"}\n')
    assert read_skip_list("skip.jsonl", "videos") == {"videos/videos/a.mp4"}
    (tmp_path / "skip.jsonl").write_text('{"error": "empty"}\n')
    with pytest.raises(ValueError, match="row 1: video is empty"):
        read_skip_list("skip.jsonl")
    (tmp_path / "skip.jsonl").write_text("")
    assert read_skip_list("skip.jsonl") == set()
