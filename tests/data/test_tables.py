"""Files and data sets as rows: what is read whole, and what is refused with a sentence."""

import json

import datasets
import pandas
import pytest

from modeling_siasamrea.data.tables import read_jsonl, read_table, rows_of


ROW = {"video": "a.mp4", "question": "what?", "answer": "cat"}
LINE = '{"video": "a.mp4", "question": "what?", "answer": "cat"}'
TABLE = "video,question,answer\na.mp4,what?,cat\n"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.jsonl", LINE),
        ("a.jsonl", f"\n{LINE}\r\n\n"),
        ("A.JSONL", LINE + "\n"),
        ("a.json", f"[{LINE}]"),
        ("a.csv", TABLE),
        ("a.csv", TABLE.replace("\n", "\r\n") + "\r\n   \r\n"),
        ("a.CSV", TABLE.replace("a.mp4,", '"a.mp4",')),
        ("a.tsv", TABLE.replace(",", "\t")),
    ],
)
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_file_is_read_with_and_without_a_byte_order_mark(tmp_path, name, text, mark):
    (tmp_path / name).write_bytes((mark + text).encode())
    assert read_table(tmp_path / name, "train") == [ROW]


@pytest.mark.parametrize("character", ["\u2028", "\u2029", "\u0085", "\x0b", "\x0c", "\x1c"])
def test_only_a_newline_ends_a_line(tmp_path, character):
    question = f"what{character}is it?"
    line = json.dumps({**ROW, "question": question}, ensure_ascii=False)
    (tmp_path / "a.jsonl").write_text(f"{line}\n{LINE}\n", encoding="utf-8")
    (tmp_path / "a.csv").write_text(TABLE.replace("what?", question), encoding="utf-8")
    assert [row["question"] for row in read_table(tmp_path / "a.jsonl", "train")] == [question, "what?"]
    assert [row["question"] for row in read_table(tmp_path / "a.csv", "train")] == [question]


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.jsonl", LINE.replace("cat", "café").encode("latin-1"), r"a\.jsonl, line 1 is not UTF-8 text"),
        ("a.csv", TABLE.encode("utf-16"), r"a\.csv is not UTF-8 text"),
        ("a.csv", TABLE.encode("utf-16-le"), r"a\.csv has zero bytes, as UTF-16 has"),
        ("a.json", f"[{LINE}]".encode("utf-16"), r"a\.json is not UTF-8 text"),
        ("a.csv", TABLE.replace("what?", "what, then?").encode(), r"row 1: it has 4 cells, but there are 3 columns"),
        ("a.csv", (TABLE + "b.mp4,what?\n").encode(), r"row 2: it has 2 cells, but there are 3 columns"),
        ("a.csv", TABLE.replace("what?", '"what?').encode(), r"a\.csv, line 2: unexpected end of data"),
        ("a.csv", TABLE.replace("question", "video").encode(), r"the column video is there twice"),
        ("a.jsonl", f"{LINE}\n[1]\n".encode(), r"line 2: not a JSON object on one line, but \[1\]"),
        ("a.jsonl", b"null", r"line 1: not a JSON object on one line, but null"),
        ("a.jsonl", LINE.replace("question", "video").encode(), r"line 1: .*the key 'video' is there twice"),
        ("a.jsonl", b"[" * 100_000, r"line 1: not a JSON object on one line"),
        ("a.json", f'{{"data": [{LINE}]}}'.encode(), r"must be a list of rows; it is a dict"),
        ("a.json", f"{LINE}\n{LINE}".encode(), r"a\.json is not JSON"),
        ("a.json", f"[{LINE}, 3]".encode(), r"row 2: a row is an object of named cells; got 3"),
        ("a.json", b"", r"a\.json is not JSON"),
        ("a.parquet", b"PAR1", r"must be one of \.jsonl, \.json, \.csv, \.tsv"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path, name, content, sentence):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=sentence):
        read_table(tmp_path / name, "train")


@pytest.mark.parametrize("end", [b'{"video": "b', '{"video": "caf\u00e9'.encode()[:-1], b"{"])
def test_an_unfinished_last_line_is_passed_over_where_that_is_asked_for(tmp_path, end):
    path = tmp_path / "a.jsonl"
    path.write_bytes(LINE.encode() + b"\n" + end)
    assert read_jsonl(path, unfinished_end=True) == [ROW]
    with pytest.raises(ValueError, match="line 2"):
        read_jsonl(path)
    path.write_bytes(end + b"\n" + LINE.encode())
    with pytest.raises(ValueError, match="line 1"):
        read_jsonl(path, unfinished_end=True)
    path.write_bytes(LINE.encode())  # whole, though no newline ends it
    assert read_jsonl(path, unfinished_end=True) == [ROW]


def test_rows_come_from_whatever_holds_some(tmp_path):
    dataset = datasets.Dataset.from_list([ROW, ROW])
    splits = datasets.DatasetDict({"train": dataset})
    frame = pandas.DataFrame([ROW, ROW])
    for source in (dataset, dataset.to_iterable_dataset(), splits, frame, iter([ROW, ROW]), (ROW, ROW)):
        assert rows_of(source, "train") == [ROW, ROW]
    assert rows_of(pandas.DataFrame([ROW, {**ROW, "start": 1.5}]), "train")[0]["start"] is None  # no number, not NaN

    dataset.to_parquet(tmp_path / "published" / "train.parquet")
    assert rows_of(tmp_path / "published", "train") == [ROW, ROW]
    with pytest.raises(ValueError, match=r"split 'test' of the data set .*published cannot be loaded.*train"):
        rows_of(tmp_path / "published", "test")
    with pytest.raises(ValueError, match="no split 'test'; it has train"):
        rows_of(splits, "test")
    with pytest.raises(ValueError, match="cannot be loaded"):
        rows_of(tmp_path / "nowhere", "train")
    for source in (ROW, None, 3, b"rows"):
        with pytest.raises(ValueError, match="Rows are a list of dictionaries"):
            rows_of(source, "train")
    with pytest.raises(ValueError, match="row 1: a row is an object of named cells; got 'a'"):
        rows_of(["a"], "train")


def test_the_videos_of_a_data_set_stay_encoded(tmp_path, write_video):
    path = write_video(tmp_path / "v.mp4", frames=4)
    dataset = datasets.Dataset.from_dict({"video": [str(path)], "question": ["what?"], "answer": ["cat"]})
    dataset = dataset.cast_column("video", datasets.Video())
    for source in (dataset, dataset.to_iterable_dataset()):
        (row,) = rows_of(source, "train")
        assert row["video"] == {"path": str(path), "bytes": None}


def test_a_class_label_is_its_name():
    columns = {"video": ["a.mp4"] * 3, "question": ["what?"] * 3, "answer": [1, 0, None]}
    dataset = datasets.Dataset.from_dict(columns).cast_column("answer", datasets.ClassLabel(names=["cat", "dog"]))
    for source in (dataset, dataset.to_iterable_dataset()):
        assert [row["answer"] for row in rows_of(source, "train")] == ["dog", "cat", None]
