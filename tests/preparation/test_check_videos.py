"""Checking a folder of videos: each fault is found and named, and training leaves out what cannot be used."""

import json
import multiprocessing
import os
import signal
import sys
import threading
import time
from multiprocessing.connection import Connection

import pytest
from other_processes import lives, wait_for

from modeling_siasamrea.commands import check as check_command
from modeling_siasamrea.data.questions import load_video_questions, read_skip_list
from modeling_siasamrea.preparation import check_videos as check
from modeling_siasamrea.processors.video_source import absolute_path


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
    rows[-1] |= {"start": 1.0, "end": 3.5, "answer": ""}
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def test_each_fault_is_found_and_named(data, capsys):
    command = [str(data / "rows.jsonl"), "--videos", str(data / "videos"), "--output", str(data / "report")]
    counts = check_command.main([*command, "--workers", "2"])
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
    printed = capsys.readouterr().out
    assert "Videos: 6, questions: 7\nrows without an answer: 1 of 7 (1 open_ended; the first: '6').\n" in printed

    skipped = read_skip_list(data / "report" / "skip_list.jsonl", data / "videos")
    rows = load_video_questions(data / "rows.jsonl", data / "videos", require_answers=False)
    kept = {row.video for row in rows if absolute_path(row.video) not in skipped}
    assert {path.rsplit("/", 1)[1] for path in kept} == {"good.mp4", "single.gif", "wide.mp4"}


def test_bad_usage_gets_a_sentence(capsys):
    with pytest.raises(ValueError, match="needs --annotations"):
        check_command.main(["msvd_qa"])
    with pytest.raises(ValueError, match="'msvdqa'. Did you mean 'msvd_qa'"):
        check_command.main(["msvdqa"])
    with pytest.raises(ValueError, match="^The annotations nowhere do not exist.$"):
        check_command.main(["msvd_qa", "--annotations", "nowhere"])
    for wrong in (["--workers", "0"], ["--videos", "nowhere"]):
        with pytest.raises(SystemExit, match="2"):
            check_command.main(["msvd_qa", *wrong])
        assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_folder_of_videos_is_checked(data, capsys):
    counts = check_command.main([str(data / "videos"), "--output", str(data / "report"), "--workers", "2"])
    assert counts == {"unreadable": 2, "one frame": 1, "extreme aspect ratio": 1}
    skipped = [json.loads(line)["video"] for line in (data / "report" / "skip_list.jsonl").read_text().splitlines()]
    assert sorted(skipped) == ["broken.mp4", "empty.mp4"] and "\nVideos: 5\n" in f"\n{capsys.readouterr().out}"


def test_shares_of_the_work_make_the_whole(data):
    command = [str(data / "rows.jsonl"), "--videos", str(data / "videos"), "--workers", "1"]
    whole = check_command.main([*command, "--output", str(data / "report")])
    shares = [check_command.main([*command, "--output", str(data / n), "--shard", f"{n}/4"]) for n in "1234"]
    assert sum(shares, start=type(whole)()) == whole
    joined = "".join((data / n / "report.jsonl").read_text() for n in "1234")
    assert sorted(joined.splitlines()) == sorted((data / "report" / "report.jsonl").read_text().splitlines())
    with pytest.raises(SystemExit, match="2"):
        check_command.main([*command, "--shard", "5/4"])


def test_the_home_folder_is_understood(data, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(data))
    assert check.check_video("~/videos/good.mp4", None) == []
    (data / "rows.jsonl").write_text(json.dumps({"video": "good.mp4", "question": "what ?", "answer": "cat"}))
    assert check_command.main(["~/rows.jsonl", "--videos", "~/videos", "--output", "~/report", "--workers", "1"]) == {}
    assert (data / "report" / "skip_list.jsonl").read_text() == ""


def dies_of_some(path: str, *_) -> list[check.Fault]:
    """Stands in for a decoder: it is killed, exits, raises or never ends on files of these names."""
    if "killed" in path:
        os.kill(os.getpid(), signal.SIGKILL)
    if "exit" in path:
        os._exit(3)
    if "forever" in path:
        time.sleep(1000)
    if "memory" in path:
        raise MemoryError("no memory is left")
    return []


@pytest.mark.skipif(sys.platform != "linux", reason="workers are forked, so that they see the stand-in")
def test_files_that_kill_a_worker_or_never_end_are_named_and_the_rest_is_checked(monkeypatch):
    monkeypatch.setattr(check, "check_video", dies_of_some)
    running = set(multiprocessing.active_children())
    names = [
        "a.mp4",
        "killed.mp4",
        "b.mp4",
        "forever.mp4",
        "c.mp4",
        "exit.mp4",
        "killed2.mp4",
        "memory.mp4",
        *"defghijk",
    ]
    found = list(check.check_videos([check.Video(name, None) for name in names], workers=2, timeout=3.0))
    assert len(found) == len(names)
    faults = {fault.video: (fault.fault, fault.detail) for of_video in found for fault in of_video}
    assert faults == {
        "killed.mp4": ("kills its decoder", "the process that read it ended by SIGKILL"),
        "killed2.mp4": ("kills its decoder", "the process that read it ended by SIGKILL"),
        "exit.mp4": ("kills its decoder", "the process that read it ended with exit code 3"),
        "memory.mp4": ("kills its decoder", "the process that read it raised MemoryError (no memory is left)"),
        "forever.mp4": ("takes too long", "it was not read within 3 s"),
    }
    assert {"kills its decoder", "takes too long"} <= set(check.UNUSABLE)
    assert set(multiprocessing.active_children()) <= running


def check_for_ever(started: Connection) -> None:
    check.check_video = dies_of_some
    videos = [check.Video(f"forever{number}.mp4", None) for number in range(2)]

    def report() -> None:
        wait_for(lambda: len(multiprocessing.active_children()) == 2, 60)
        started.send([child.pid for child in multiprocessing.active_children()])

    threading.Thread(target=report).start()
    list(check.check_videos(videos, workers=2))


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells which processes live")
def test_a_killed_check_leaves_no_orphans():
    ours, theirs = multiprocessing.Pipe()
    checking = multiprocessing.Process(target=check_for_ever, args=(theirs,))
    checking.start()
    workers = ours.recv()
    assert len(workers) == 2
    checking.kill()
    checking.join()
    assert wait_for(lambda: not any(map(lives, workers)), 10)
