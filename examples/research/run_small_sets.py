"""
Trains the recipe own_videos on three small sets with several seeds and prints a table of the test scores.

    python examples/research/run_small_sets.py --data FOLDER

The sets are generated videos, and the clips of Weizmann and of UT-Interaction in `FOLDER`, which has videos and
`rows.jsonl`: the package's columns, `source` and `split`; no person (Weizmann) or sequence (UT-Interaction) is in two
splits. Two open-ended questions are asked about each video. So that a run takes minutes on a CPU, the encoders are the
small ones that `make_pretrained_folders.py` writes, frames are small and four per clip, and a step has 8 questions;
everything else is the recipe's. A run that is finished is not repeated.
"""

import argparse
import json
import statistics
import subprocess
from pathlib import Path

from modeling_siasamrea.data.tables import read_jsonl
from modeling_siasamrea.preparation.sample_data import make_sample_data


SPLITS = ("train", "validation", "test")
KINDS = {
    "generated": ("color", "shape"),
    "weizmann": ("weizmann_action", "weizmann_motion"),
    "ut_interaction": ("ut_action", "ut_place"),
}


def write_set(name: str, data: Path, work: Path) -> Path:
    """Writes the rows of a set into the folder of its name; returns the folder of its videos."""
    videos = data
    if name == "generated":
        videos = make_sample_data(work / "sample_data", train_videos=60, validation_videos=20, test_videos=40)
    for split in SPLITS:
        rows = read_jsonl(videos / ("rows.jsonl" if videos == data else f"{split}.jsonl"))
        rows = [row for row in rows if row["question_type"] in KINDS[name] and row.get("split", split) == split]
        kept = [{cell: row[cell] for cell in row if cell not in ("source", "split", "group")} for row in rows]
        (work / name).mkdir(parents=True, exist_ok=True)
        (work / name / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in kept))
    return videos


def train(name: str, videos: Path, seed: int, encoders: Path, work: Path) -> dict:
    """Trains on a set, unless that is done; returns the content of metrics.json."""
    output = work / f"{name}_{seed}"
    if not (output / "metrics.json").exists():
        command = ["siasamrea", "train", "own_videos", f"--output_dir={output}", f"--seed={seed}"]
        command += [f"--{split}_file={work / name / split}.jsonl" for split in SPLITS] + [f"--videos={videos}"]
        command += [f"--vision_model={encoders / 'mobilenet_v2'}", f"--text_model={encoders / 'minilm'}", "--use_cpu"]
        command += ["--video_processor", '{"size": {"longest_edge": 112}, "frames_per_clip": 4}']
        subprocess.run([*command, "--per_device_train_batch_size=8", "--report_to=none"], check=True)
    return json.loads((output / "metrics.json").read_text())


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="Folder of the clips and of rows.jsonl.")
    parser.add_argument("--encoders", type=Path, default="outputs/pretrained", help="Folder of the encoders.")
    parser.add_argument("--work", type=Path, default="outputs/small_sets", help="Folder of rows and runs.")
    parser.add_argument("--seeds", type=int, default=3, help="Runs per set.")
    arguments = parser.parse_args()
    table = [
        "| set | test questions | accuracy by seed | mean | majority | question only |",
        "|---|---|---|---|---|---|",
    ]
    for name in KINDS:
        videos = write_set(name, arguments.data, arguments.work)
        seeds = range(arguments.seeds)
        reports = [train(name, videos, seed, arguments.encoders, arguments.work)["test"] for seed in seeds]
        scores = [report["scores"]["accuracy"] for report in reports]
        baselines = [reports[0]["baselines"][baseline]["accuracy"] for baseline in ("majority", "question only")]
        cells = [name, str(reports[0]["scores"]["questions"]), ", ".join(f"{score:.3f}" for score in scores)]
        table.append(
            "| " + " | ".join(cells + [f"{score:.3f}" for score in (statistics.mean(scores), *baselines)]) + " |"
        )
    print("\n".join(table))


if __name__ == "__main__":
    main()
