"""Annotation files in the official formats of the benchmarks, written for tests."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

from modeling_siasamrea.benchmarks.tgif_qa import held_out


NUMBERS = range(6)
GIFS = [name for name in (f"tumblr_{i}_250" for i in range(200)) if not held_out(name)][:6]
HELD_OUT = [name for name in (f"tumblr_{i}_250" for i in range(200)) if held_out(name)][:2]


def write_json(path: Path, rows: list[dict]) -> None:
    path.write_text(json.dumps(rows))


def write_tgif(path: Path, columns: list[str], rows: list[list]) -> None:
    lines = ["\t".join(map(str, line)) for line in [columns, *rows]]
    path.write_bytes("".join(line + "\r\n" for line in lines).encode())


def msvd(folder: Path) -> list[str]:
    rows = [{"answer": f"cat{n % 2}", "id": 7 + n, "question": "What eats ?", "video_id": n + 1} for n in NUMBERS]
    for split in ("train", "val", "test"):
        write_json(folder / f"{split}_qa.json", rows)
    (folder / "youtube_mapping.txt").write_text("-4wsuPCj_5_15 vid1\nabc_1_2 vid2\n")
    return ["-4wsuPCj_5_15.avi", *(f"vid{n}.avi" for n in range(2, 7))]


def msrvtt(folder: Path) -> list[str]:
    rows = [{"answer": "cat", "category_id": 3, "id": n, "question": "who eats?", "video_id": n} for n in NUMBERS]
    for split in ("train", "val", "test"):
        write_json(folder / f"{split}_qa.json", rows)
    return [f"{'TestVideo' if n > 2 else 'TrainValVideo'}/video{n}.mp4" for n in NUMBERS]


def activitynet(folder: Path) -> list[str]:
    names = ["-abc", "_def", "ghi", "jkl", "mno", "pqr"]
    questions = [{"video_name": v, "question": "is it indoor", "question_id": f"v_{v}_1"} for v in names]
    answers = [{"answer": "yes", "type": n, "question_id": f"v_{v}_1"} for n, v in enumerate(names)]
    for split in ("train", "val", "test"):
        write_json(folder / f"{split}_q.json", questions)
        write_json(folder / f"{split}_a.json", answers[::-1])
    return ["v_-abc.mp4", "v__def.mkv", "v_ghi.mp4", "v_jkl.mp4", "v_mno.mp4", "v_pqr.mp4"]


def how2qa(folder: Path) -> list[str]:
    for split in ("train", "val"):
        with open(folder / f"how2QA_{split}_release.csv", "w", newline="") as file:
            for n in NUMBERS:
                csv.writer(file).writerow([f"-v{n}", "[0.5:1.75]", "None", "a, b", "c", "what is it?", f"right{n}"])
    second = [
        {f"a{i}": f"choice {i}" for i in range(4)}
        | {"answer_idx": n % 4, "q": "what ?", "qid": n, "ts": "0.25-2.0", "vid_name": f"-v{n}"}
        for n in NUMBERS
    ]
    (folder / "how2qa_test_public.jsonl").write_text("".join(json.dumps(row) + "\n" for row in second))
    return [f"-v{n}.mp4" for n in NUMBERS]


def tgif(task: str) -> Callable[[Path], list[str]]:
    def write(folder: Path) -> list[str]:
        # A quotation mark opens no quoted field here.
        question = 'What does the "cat do ?'
        for split, names in (("Train", [*GIFS, *HELD_OUT]), ("Test", GIFS)):
            path = folder / f"{split}_{task}_question.csv"
            ids = [f"{task.upper()}{n}" for n in range(len(names))]
            if task in ("action", "transition"):
                columns = ["gif_name", "question", "a1", "a2", "a3", "a4", "a5", "answer", "vid_id", "key"]
                rows = [[v, question, *"pqrst", n % 5, ids[n], n] for n, v in enumerate(names)]
            elif task == "frameqa":
                columns = ["gif_name", "question", "answer", "type", "vid_id", "key", "description"]
                rows = [[v, question, "dog", n % 4, ids[n], n, "text"] for n, v in enumerate(names)]
            else:
                columns = ["gif_name", "question", "answer", "vid_id", "key"]
                rows = [[v, question, (0, 2, 10)[n % 3], ids[n], n] for n, v in enumerate(names)]
            write_tgif(path, columns, rows)
        return [f"{name}.gif" for name in [*GIFS, *HELD_OUT]]

    return write


def nextqa(folder: Path) -> list[str]:
    columns = [
        "video",
        "frame_count",
        "width",
        "height",
        "question",
        "answer",
        "qid",
        "type",
        *(f"a{i}" for i in range(5)),
    ]
    for split in ("train", "val", "test"):
        with open(folder / f"{split}.csv", "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            for n in NUMBERS:
                writer.writerow([40 + n, 16, 64, 48, "why, so", n % 5, n, "CW", "None", "b", "c", "d", "e"])
    return [f"0101/{40 + n}.mp4" for n in NUMBERS]


OFFICIAL = {
    "msvd_qa": msvd,
    "msrvtt_qa": msrvtt,
    "activitynet_qa": activitynet,
    "how2qa": how2qa,
    "tgif_action": tgif("action"),
    "tgif_transition": tgif("transition"),
    "tgif_frameqa": tgif("frameqa"),
    "tgif_count": tgif("count"),
    "nextqa_mc": nextqa,
}
