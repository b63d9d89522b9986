"""Checking a folder of videos: each fault is found and named, and training leaves out what cannot be used."""

import json

import pytest

from modeling_siasamrea.annotations_siasamrea import load_video_questions, read_skip_list


@pytest.fixture(scope="module")
def script(example):
    return example("check_data")


@pytest.fixture
def data(tmp_path, write_video):
    folder = tmp_path / "videos"
    write_video(folder / "good.mp4", frames=16)  # 2 s
    write_video(folder / "single.gif", frames=1, codec="gif")
    write_video(folder / "wide.mp4", height=32, width=256)
    (folder / "broken.mp4").write_bytes(b"not a video")
    (folder / "empty.mp4").touch()
    names = ["good.mp4", "single.gif", "wide.mp4", "broken.mp4", "empty.mp4", "absent.mp4", "good.mp4"]
    rows = [{"video": name, "question": "what ?", "answer": "cat"} for name in names]
    rows[-1] |= {"start": 1.0, "end": 3.5}
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def test_each_fault_is_found_and_named(script, data, capsys):
    command = [str(data / "rows.jsonl"), "--videos", str(data / "videos"), "--output", str(data / "report")]
    counts = script.main([*command, "--workers", "2"])
    assert counts == {
        "unreadable": 2,
        "missing": 1,
        "one frame": 1,
        "shorter than a span": 1,
        "extreme aspect ratio": 1,
    }
    faults = {}
    for line in (data / "report" / "report.jsonl").read_text().splitlines():
        fault = json.loads(line)
        faults[fault["video"]] = (fault["fault"], fault["detail"])
    assert faults["good.mp4"] == ("shorter than a span", "it lasts 2.00 s, a question asks about 3.50 s")
    assert faults["wide.mp4"] == ("extreme aspect ratio", "256 x 32 pixels")
    assert faults["empty.mp4"] == ("unreadable", "the file is empty")
    assert "7 questions about 6 videos" in capsys.readouterr().out

    skipped = read_skip_list(data / "report" / "skip_list.jsonl", data / "videos")
    rows = load_video_questions(data / "rows.jsonl", data / "videos")
    kept = {row.video for row in rows if row.video not in skipped}
    assert {path.rsplit("/", 1)[1] for path in kept} == {"good.mp4", "single.gif", "wide.mp4"}


def test_a_benchmark_without_annotations_gets_a_sentence(script, capsys):
    with pytest.raises(SystemExit):
        script.main(["msvd_qa"])
    assert "needs --annotations" in capsys.readouterr().err
