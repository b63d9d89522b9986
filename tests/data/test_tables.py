"""Files and data sets as rows: what is read whole, and what is refused with a sentence."""

import json

import datasets
import pandas
import pytest

from modeling_siasamrea.data.tables import read_jsonl, rows_of


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
        ("a.csv", TABLE.replace(",", ";")),
        ("a.csv", TABLE.replace("\n", "\r\n") + "\r\n   \r\n"),
        ("a.CSV", TABLE.replace("a.mp4,", '"a.mp4",')),
        ("a.tsv", TABLE.replace(",", "\t")),
    ],
)
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_file_is_read_with_and_without_a_byte_order_mark(tmp_path, name, text, mark):
    (tmp_path / name).write_bytes((mark + text).encode())
    assert list(rows_of(tmp_path / name)) == [ROW]


@pytest.mark.parametrize("character", ["\u2028", "\u2029", "\u0085", "\x0b", "\x0c", "\x1c"])
def test_only_a_newline_ends_a_line(tmp_path, character):
    question = f"what{character}is it?"
    line = json.dumps({**ROW, "question": question}, ensure_ascii=False)
    (tmp_path / "a.jsonl").write_text(f"{line}\n{LINE}\n", encoding="utf-8")
    (tmp_path / "a.csv").write_text(TABLE.replace("what?", question), encoding="utf-8")
    assert [row["question"] for row in rows_of(tmp_path / "a.jsonl")] == [question, "what?"]
    assert [row["question"] for row in rows_of(tmp_path / "a.csv")] == [question]


BAD_FILES = [
    ("a.jsonl", LINE.replace("cat", "café").encode("latin-1"), r"a\.jsonl, line 1: .*UTF-8"),
    ("a.csv", TABLE.encode("utf-16"), r"a\.csv.*UTF-8"),
    ("a.csv", TABLE.encode("utf-16-le"), r"a\.csv.*UTF-16"),
    ("a.json", f"[{LINE}]".encode("utf-16"), r"a\.json.*UTF-8"),
    ("a.csv", TABLE.replace("what?", "what, then?").encode(), r"row 1: cells: 4, but columns: 3"),
    ("a.csv", (TABLE + "b.mp4,what?\n").encode(), r"row 2: cells: 2"),
    ("a.csv", TABLE.replace("what?", '"what?').encode(), r"a\.csv, line 2"),
    ("a.csv", TABLE.replace("question", "video").encode(), r"a\.csv: .*video"),
    ("a.jsonl", f"{LINE}\n[1]\n".encode(), r"line 2 must .*\[1\]"),
    ("a.jsonl", b"null", r"line 1 must .*null"),
    ("a.jsonl", LINE.replace("question", "video").encode(), r"line 1 .*'video' is there twice"),
    ("a.jsonl", b"[" * 100_000, r"line 1 "),
    ("a.json", f'{{"data": [{LINE}]}}'.encode(), r"a\.json.*keys data"),
    ("a.json", f"{LINE}\n{LINE}".encode(), r"a\.json is not JSON"),
    ("a.json", f"[{LINE}, 3]".encode(), r"row 2: .*3"),
    ("a.json", b"", r"a\.json is not JSON"),
    ("a.parquet", b"PAR1", r"a\.parquet cannot be loaded"),
    ("a.jsonl.gz", b"", r"a\.jsonl\.gz must be one of \.jsonl"),
]


def test_what_is_wrong_with_a_file_is_said(tmp_path):
    for name, content, says in BAD_FILES:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=says):
            list(rows_of(tmp_path / name))


@pytest.mark.parametrize("end", [b'{"video": "b', '{"video": "caf\u00e9'.encode()[:-1], b"{"])
def test_an_unfinished_last_line_is_left_out_where_that_is_asked_for(tmp_path, end):
    path = tmp_path / "a.jsonl"
    path.write_bytes(LINE.encode() + b"\n" + end)
    assert list(read_jsonl(path, unfinished_end=True)) == [ROW]
    with pytest.raises(ValueError, match="line 2"):
        list(read_jsonl(path))
    path.write_bytes(end + b"\n" + LINE.encode())
    with pytest.raises(ValueError, match="line 1"):
        list(read_jsonl(path, unfinished_end=True))
    path.write_bytes(LINE.encode())  # whole, though no newline ends it
    assert list(read_jsonl(path, unfinished_end=True)) == [ROW]


def test_rows_come_from_whatever_holds_some(tmp_path):
    dataset = datasets.Dataset.from_list([ROW, ROW])
    splits = datasets.DatasetDict({"train": dataset})
    frame = pandas.DataFrame([ROW, ROW])
    dataset.to_parquet(tmp_path / "published" / "train.parquet")
    for source in (dataset, dataset.to_iterable_dataset(), splits, frame, iter([ROW, ROW]), (ROW, ROW)):
        assert list(rows_of(source, "train")) == [ROW, ROW]
    for source in (tmp_path / "published", tmp_path / "published" / "train.parquet"):
        assert list(rows_of(source, "train")) == [ROW, ROW]
    first, _ = rows_of(pandas.DataFrame([ROW, {**ROW, "start": 1.5}]), "train")
    assert first["start"] is None  # no number, not NaN

    for source, split, says in (
        (tmp_path / "published", "test", "'test' .*published cannot be loaded.*train"),
        (splits, "test", "'test'; it has train"),
        (tmp_path / "nowhere", "train", "nowhere cannot be loaded"),
        *((bad, "train", "The rows must be") for bad in (ROW, None, 3, b"rows")),
        (["a"], "train", "row 1: .*a"),
    ):
        with pytest.raises(ValueError, match=says):
            list(rows_of(source, split))


def test_the_videos_of_a_data_set_stay_encoded(tmp_path, write_video):
    path = write_video(tmp_path / "v.mp4", frames=4)
    dataset = datasets.Dataset.from_dict({"video": [str(path)], "question": ["what?"], "answer": ["cat"]})
    dataset = dataset.cast_column("video", datasets.Video())
    for source in (dataset, dataset.to_iterable_dataset()):
        (row,) = rows_of(source, "train")
        assert row["video"] == {"path": str(path), "bytes": None}


def test_a_class_label_is_its_name(tmp_path):
    columns = {"video": ["a.mp4"] * 3, "question": ["what?"] * 3, "answer": [1, 0, None]}
    dataset = datasets.Dataset.from_dict(columns).cast_column("answer", datasets.ClassLabel(names=["cat", "dog"]))
    dataset.to_parquet(tmp_path / "a.parquet")
    for source in (dataset, dataset.to_iterable_dataset(), tmp_path / "a.parquet"):
        assert [row["answer"] for row in rows_of(source, "train")] == ["dog", "cat", None]
