"""Annotation files in the official formats of the benchmarks, written for tests."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import datasets

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


def write_csv(path: Path, rows: list[dict]) -> None:
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def nextqa_columns(n: int, answer: int | str, video: str = "video_id") -> dict:
    row = {video: 40 + n, "frame_count": 16, "width": 64, "height": 48, "question": "why, so", "answer": answer}
    return row | {"qid": n, "type": "CW", **{f"a{i}": f"choice {i}" for i in range(5)}}


def nextqa(folder: Path) -> list[str]:
    for split in ("train", "val", "test"):
        write_csv(folder / f"{split}.csv", [nextqa_columns(n, n % 5, "video") for n in NUMBERS])
    return [f"0101/{40 + n}.mp4" for n in NUMBERS]


def nextgqa(folder: Path) -> list[str]:
    for split in ("val", "test"):
        write_csv(folder / f"{split}.csv", [nextqa_columns(n, f"choice {n % 5}") for n in NUMBERS])
        spans = {str(40 + n): {"duration": 9, "location": {str(n): [[0.5, 2], [4, 5.5]]}, "fps": 8} for n in NUMBERS}
        (folder / f"gsub_{split}.json").write_text(json.dumps(spans))
    return [f"0101/{40 + n}.mp4" for n in NUMBERS]


def intentqa(folder: Path) -> list[str]:
    for split in ("train", "val", "test"):
        rows = [nextqa_columns(n, n % 5) | {"action": "go", "lemma": "go", "lemma_id": 1} for n in NUMBERS]
        write_csv(folder / f"{split}.csv", rows)
    return [f"{40 + n}.mp4" for n in NUMBERS]


def subfolder(folder: Path, name: str) -> Path:
    (folder / name).mkdir()
    return folder / name


def tempcompass(folder: Path) -> list[str]:
    question = {"question": "What is the man doing?\nA. running\n B. walking\nC. jumping", "answer": "B. walking"}
    content = {
        f"{n}{end}": {"action": [question], "order": [question, question]} for n, end in ((1, ""), (1, "_reverse"))
    }
    (subfolder(folder, "questions") / "multi-choice.json").write_text(json.dumps(content))
    return ["1.mp4", "1_reverse.mp4"]


def tomato(folder: Path) -> list[str]:
    inner = subfolder(folder, "data")
    for name in ("count", "direction", "rotation", "shape&trend", "velocity&frequency", "visual_cues"):
        row = {"question": "How many?", "options": ["2", "1", "0"], "answer": 2, "key": "0209-03"}
        row |= {"video_source_url": "", "motion_type": name, "demonstration_type": "human", "note": ""}
        row |= {"variation": {"counterfactual": 0, "composite": 0, "zoom": 1, "first_person": 0}}
        (inner / f"{name}.json").write_text(json.dumps({"0": row}))
    return ["human/0209-03.mp4", "object/0209-03.mp4"]


def mmvu(folder: Path) -> list[str]:
    address = "https://huggingface.co/datasets/yale-nlp/MMVU/resolve/main/videos"
    row = {"youtube_url": "", "question": "which?", "choices": dict(zip("ABCDE", "EDCBA")), "answer": "B"}
    row |= {"metadata": {"subject": "Art", "textbook": "", "knowledge": [], "rationale": ""}}
    kinds = ["multiple-choice"] * 6 + ["open-ended"]
    rows = [
        row | {"id": f"v_{n}", "question_type": kind, "video": f"{address}/Art/{n}.mp4"}
        for n, kind in enumerate(kinds)
    ]
    write_json(subfolder(folder, "data") / "validation.json", rows)
    return [*(f"Art/{n}.mp4" for n in NUMBERS), "Law/0.mp4"]


def egoschema(folder: Path) -> list[str]:
    options = {f"option {i}": f"choice {i}" for i in range(5)}
    rows = [{"q_uid": f"uid-{n}", "google_drive_id": "x", "question": "why?", **options} for n in range(8)]
    write_json(folder / "questions.json", rows)
    (folder / "subset_answers.json").write_text(json.dumps({f"uid-{n}": n % 5 for n in NUMBERS}))
    return [f"uid-{n}.mp4" for n in NUMBERS]


def mvbench(folder: Path) -> list[str]:
    inner = subfolder(folder, "json")
    row = {
        "video": "v.mp4",
        "question": "which?",
        "candidates": ["x", "y", "z"],
        "answer": "z",
        "start": 1.5,
        "end": 3,
    }
    for name in ("object_shuffle", "moving_count", "action_sequence"):
        write_json(inner / f"{name}.json", [row] * 2)
    return ["perception/videos/v.mp4", "clevrer/video_validation/v.mp4", "star/Charades_v1_480/v.mp4"]


def longvideobench(folder: Path) -> list[str]:
    row = {"video_id": "v", "question": "At the sea, when?", "question_wo_referring_query": "When?"}
    row |= {"candidates": ["x", "y", "z"], "position": [854, 948], "topic_category": "NP-News-Programs"}
    row |= {"question_category": "TOS", "level": "L2-Relation", "video_path": "v.mp4", "subtitle_path": "v_en.json"}
    row |= {"duration_group": 600, "starting_timestamp_for_subtitles": 0, "duration": 190.16, "view_count": 259852}
    rows = [row | {"id": f"v_{n}"} for n in NUMBERS]
    write_json(folder / "lvb_val.json", [row | {"correct_choice": n % 3} for n, row in enumerate(rows)])
    write_json(folder / "lvb_test_wo_gt.json", rows)
    return ["videos/v.mp4"]


def mlvu(folder: Path) -> list[str]:
    inner = subfolder(folder, "json")
    row = {"video": "v.mp4", "duration": 400.0, "question": "who?", "candidates": list("wxyz"), "answer": "x"}
    for name, kind in (("1_plotQA", "plotQA"), ("2_needle", "findNeedle"), ("7_topic_reasoning", "topic_reasoning")):
        write_json(inner / f"{name}.json", [row | {"question_type": kind}] * 2)
    write_json(inner / "9_summary.json", [{"video": "v.mp4", "question": "what?", "answer": "all"}])
    return ["1_plotQA/v.mp4", "needle/v.mp4", "7_topic_reasoning/v.mp4"]


def video_mme(folder: Path) -> list[str]:
    row = {"video_id": "001", "duration": "short", "domain": "Knowledge", "sub_category": "Humanity & History"}
    row |= {"url": "https://www.youtube.com/watch?v=fFjv93ACGo8", "videoID": "fFjv93ACGo8", "answer": "C"}
    row |= {"task_type": "Counting Problem", "question": "when?"}
    row["options"] = ["A. one.", "B. two.", "C. three.", "D. four."]
    rows = [row | {"question_id": f"001-{n}"} for n in NUMBERS]
    datasets.Dataset.from_list(rows).to_parquet(subfolder(folder, "videomme") / "test-00000-of-00001.parquet")
    return ["fFjv93ACGo8.mp4"]


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
    "nextgqa": nextgqa,
    "intentqa": intentqa,
    "tempcompass": tempcompass,
    "tomato": tomato,
    "mmvu": mmvu,
    "egoschema": egoschema,
    "mvbench": mvbench,
    "longvideobench": longvideobench,
    "mlvu": mlvu,
    "video_mme": video_mme,
}
