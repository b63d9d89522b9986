"""
Runs the paper's ablations again on the generated data: variants x seeds, resumable, with statistics.

    python examples/research/run_ablation.py examples/research/ablation.json --studies table1
    python examples/research/run_ablation.py examples/research/ablation.json --report_only

Each run is `run_videoqa.py` from one checkpoint, `start` in the work folder, with the same data, steps and settings
but for one override. A finished run is a line of the results file and is not repeated. A killed run continues from its
last checkpoint. Tables and figures are made from the results file and `data.json` beside it.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from modeling_siasamrea import SiaSamReaForVideoQuestionAnswering, SiaSamReaVideoProcessor
from modeling_siasamrea.preparation.sample_data import (
    COLORS,
    DIGITS,
    MAX_REPEATS,
    NUM_CANDIDATES,
    SHAPES,
    SampleData,
    make_sample_data,
    write_story,
)


SCRIPT = Path(__file__).resolve().parents[1] / "run_videoqa.py"
RESAMPLES = 10_000
# Question types of the generated data and their scores.
SCORES = {
    "what": "open_ended_accuracy",
    "action": "multiple_choice_accuracy/action",
    "transition": "multiple_choice_accuracy/transition",
    "count": "count_accuracy",
}
# What the Trainer logs about teacher and student.
LOGGED = ("soft_label_accuracy", "anchor_accuracy", "soft_label_entropy", "clip_agreement", "affinity_deviation")
Result = dict[str, Any]


# --- runs ------------------------------------------------------------------------------------------------------------


def training_flops(model: SiaSamReaForVideoQuestionAnswering, frames: int, size: int) -> int:
    """FLOPs of one open-ended training question of 10 tokens: forward of all clips, backward of those that train."""
    clips = model.config.num_clips if model.config.siamese_clips_trained else 1
    model.train()
    question = {"task": "open_ended", "labels": torch.tensor([0])}
    inputs = torch.zeros(1, clips, frames, 3, size, size), torch.ones(1, 10, dtype=torch.long)
    # PyTorch does not count the operations of oneDNN's tensors.
    with FlopCounterMode(display=False) as counter, torch.backends.mkldnn.flags(enabled=False):
        model(*inputs, **question).loss.backward()
    return counter.get_total_flops()


def with_overrides(settings: dict, overrides: dict) -> dict:
    """Settings with those of a variant over them; dictionaries are merged key by key."""
    return settings | {
        name: settings[name] | override if isinstance(override, dict) else override
        for name, override in overrides.items()
    }


def run_script(settings: dict, folder: Path, threads: int) -> None:
    """Runs `run_videoqa.py` in a process of its own; a `RuntimeError` names its log if it fails."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "settings.json").write_text(json.dumps(settings | {"output_dir": str(folder)}, indent=2))
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, str(SCRIPT), str(folder / "settings.json")]
    with open(folder / "log.txt", "a", encoding="utf-8") as log:
        finished = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
    if finished.returncode:
        raise RuntimeError(f"A run failed; its log is {folder / 'log.txt'}.")


def keep_answers(rows: list[dict], share: float) -> list[dict]:
    """The rows with a share of their answers, drawn by question: a larger share keeps those of a smaller one."""
    kept = set(np.random.default_rng(0).permutation(len(rows))[: round(share * len(rows))].tolist())
    return [
        row if number in kept else {name: cell for name, cell in row.items() if name != "answer"}
        for number, row in enumerate(rows)
    ]


def answer_wrongly(rows: list[dict], share: float, seed: int) -> list[dict]:
    """The rows of a video, by chance each with another answer of its kind."""
    rng = np.random.default_rng(seed + 2)
    changed = []
    for row in rows:
        kinds = (tuple(COLORS), SHAPES, DIGITS, tuple(range(2, MAX_REPEATS + 1)))
        if row["task"] == "multiple_choice":
            kinds = (tuple(range(NUM_CANDIDATES)),)
        others = [answer for kind in kinds if row["answer"] in kind for answer in kind if answer != row["answer"]]
        wrong, other = rng.random() < share, others[rng.integers(len(others))]
        changed.append(row | {"answer": other} if wrong else row)
    return changed


def make_data(folder: Path, answers_kept: float = 1.0, wrong_answers: float = 0.0, **parameters) -> None:
    """Makes a generated data set, and a file of its training rows with wrong answers and with a share of them."""
    make_sample_data(folder, **parameters)
    rows = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    changed = []
    for index, (_, of_video) in enumerate(groupby(rows, lambda row: row["video"])):
        seed = write_story(SampleData(**parameters), "train", index).seed
        changed += answer_wrongly(list(of_video), wrong_answers, seed)
    lines = [json.dumps(row) + "\n" for row in keep_answers(changed, answers_kept)]
    (folder / "train_changed.jsonl").write_text("".join(lines))


def data_files(folder: Path) -> dict[str, str]:
    """The settings that name a generated data set."""
    names = {"train": "train_changed", "validation": "validation", "test": "test"}
    files = {f"{split}_file": str(folder / f"{name}.jsonl") for split, name in names.items()}
    return files | {"video_folder": str(folder)}


def describe_data(folder: Path, parameters: dict) -> tuple[str, dict]:
    """The first digits of a data set's digest, and its generator's version and parameters."""
    files = [path for name, path in data_files(folder).items() if name.endswith("_file")]
    digest = hashlib.sha256(b"".join(Path(file).read_bytes() for file in files)).hexdigest()
    dataset = json.loads((folder / "dataset.json").read_text())
    parameters = dataset["parameters"] | parameters
    return digest[:8], {"generator_version": dataset["generator_version"], "parameters": parameters}


def late_values(history: list[dict]) -> dict[str, dict[str, float]]:
    """By task, the mean of what was logged about teacher and student in the last quarter of training."""
    late = {}
    for task in ("open_ended", "multiple_choice"):
        curves = [[logs[f"{name}/{task}"] for logs in history if f"{name}/{task}" in logs] for name in LOGGED]
        if all(curves):
            means = [np.mean(curve[-max(1, len(curve) // 4) :]) for curve in curves]
            late[task] = {name: float(f"{mean:.8g}") for name, mean in zip(LOGGED, means)}
    return late


def note_data(path: Path, digest: str, description: dict, baselines: dict) -> None:
    """Adds a data set and the scores of its baselines to `data.json`."""
    known = json.loads(path.read_text()) if path.exists() else {}
    scores = SCORES | {"count MSE": "count_mse"}
    by_kind = {name: {kind: of[score] for kind, score in scores.items()} for name, of in baselines.items()}
    known[digest] = description | {"baselines": by_kind}
    path.write_text(json.dumps(known, indent=1) + "\n")


def prepare(config: dict, start: Path, work: Path, threads: int) -> None:
    """Makes the data sets, and trains on the largest the checkpoint that all runs start from, where there is none."""
    for name, parameters in config["data"].items():
        make_data(work / "data" / name, **parameters)
    if not (start / "metrics.json").exists():
        make_data(work / "start_data", **config["start_data"])
        run_script(config["start"] | data_files(work / "start_data"), start, threads)


def run_one(config: dict, variant: str, seed: int, start: Path, work: Path, threads: int) -> Result:
    r"""
    One training run in a process of its own.

    Args:
        config (`dict`): The ablation's configuration: `data`, `base` and `variants`. A data set has the parameters of
            its generator, and may have `wrong_answers`, the share of its training rows with a wrong answer, and
            `answers_kept`, the share that keeps its answer. A variant overrides settings of `base`. It may name its
            `data`, by default the first; and a variant that it evaluates instead of training.
        variant (`str`): Which of its variants.
        seed (`int`): Seed of new heads, order and frames.
        start (`Path`): Folder of the checkpoint that all runs start from.
        work (`Path`): Folder of data and checkpoints.
        threads (`int`): Threads of the process.

    Returns:
        `dict`: the line of the results file (the mean validation score, which test questions were answered right,
        seconds, FLOPs, what was logged late in training), and under `dataset` the description of the data.

    Raises:
        `RuntimeError`: If the run fails.
    """
    overrides = dict(config["variants"][variant])
    evaluated = overrides.pop("evaluates", None)
    data = overrides.pop("data", next(iter(config["data"])))
    data, parameters = work / "data" / data, config["data"][data]
    settings = config["base"] | data_files(data) | {"seed": seed, "model_name_or_path": str(start)}
    settings = with_overrides(settings, overrides)
    folder = work / variant / str(seed)
    trained = folder if evaluated is None else work / evaluated / str(seed)
    if evaluated is not None:
        settings |= {"do_train": False, "model_name_or_path": str(trained), "model_config": None}
    run_script(settings, folder, threads)

    report = json.loads((folder / "metrics.json").read_text())
    training = json.loads((trained / "metrics.json").read_text())["train"]["scores"]
    correct = defaultdict(str)
    for line in (folder / "predictions.jsonl").read_text().splitlines():
        prediction = json.loads(line)
        correct[prediction["question_type"]] += str(int(prediction["correct"]))
    history = json.loads((trained / "trainer_state.json").read_text())["log_history"]
    model = SiaSamReaForVideoQuestionAnswering.from_pretrained(trained)
    video_processor = SiaSamReaVideoProcessor.from_pretrained(trained)
    frames, size = video_processor.frames_per_clip, video_processor.size["longest_edge"]
    digest, description = describe_data(data, parameters)
    return {
        "variant": variant,
        "seed": seed,
        "data": digest,
        "start": hashlib.sha256((start / "model.safetensors").read_bytes()).hexdigest()[:8],
        "validation": float(np.mean([report["validation"]["scores"][name] for name in SCORES.values()])),
        "count_mse": report["test"]["scores"]["count_mse"],
        "steps": history[-1]["step"],
        "train_seconds": training["train_runtime"],
        "test_seconds": report["test"]["scores"]["runtime"],
        "flops_per_question": training_flops(model, frames, size),
        "correct": correct,
        "late": late_values(history) if evaluated is None else {},
        "dataset": (digest, description, report["test"]["baselines"]),
    }


def read_results(path: Path, key: tuple[str, ...] = ("variant", "seed")) -> dict[tuple, Result]:
    """The finished runs by what tells them apart."""
    if not path.exists():
        return {}
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    return {tuple(line[name] for name in key): line for line in lines}


def run_missing(config: dict, studies: list[str], results: Path, work: Path, jobs: int, threads: int) -> None:
    """Runs what the results file lacks, `jobs` at once, seed by seed, so that every variant has as many."""
    wanted = [
        (seed, variant)
        for study in studies
        for seed in range(config["studies"][study]["seeds"])
        for variant in config["studies"][study]["variants"]
    ]
    done = read_results(results)
    todo = [(variant, seed) for seed, variant in dict.fromkeys(wanted) if (variant, seed) not in done]
    start = work / "start"
    prepare(config, start, work, jobs * threads)
    results.parent.mkdir(parents=True, exist_ok=True)
    failures = []
    # Trained variants first: the others evaluate their checkpoints, trained anew where only the results are here.
    stages = ([], [])
    for variant, seed in todo:
        evaluated = config["variants"][variant].get("evaluates")
        stages[evaluated is not None].append((variant, seed))
        if evaluated and not (work / evaluated / str(seed) / "metrics.json").exists():
            stages[0].append((evaluated, seed))
    stages[0][:] = dict.fromkeys(stages[0])
    with tqdm(total=sum(map(len, stages)), desc="Runs", unit="run") as progress, ThreadPoolExecutor(jobs) as pool:
        for stage in stages:
            running = [pool.submit(run_one, config, variant, seed, start, work, threads) for variant, seed in stage]
            for finished in as_completed(running):
                progress.update()
                if finished.exception():
                    failures.append(str(finished.exception()))
                    continue
                result = finished.result()
                note_data(results.parent / "data.json", *result.pop("dataset"))
                if (result["variant"], result["seed"]) not in done:
                    with open(results, "a", encoding="utf-8") as file:
                        file.write(json.dumps(result) + "\n")
    if failures:
        raise RuntimeError(f"{len(failures)} of {sum(map(len, stages))} runs failed: {' '.join(failures)}")


# --- statistics ------------------------------------------------------------------------------------------------------


def test_scores(result: Result) -> list[float]:
    """The accuracy of each of the four kinds of test questions."""
    return [result["correct"][kind].count("1") / len(result["correct"][kind]) for kind in SCORES]


def mean_score(result: Result) -> float:
    """The mean accuracy of the four kinds of test questions."""
    return float(np.mean(test_scores(result)))


def seed_interval(values: list[float]) -> tuple[float, float]:
    """Mean, and half the width of its 95 % interval over seeds (bootstrap)."""
    values = np.asarray(values)
    drawn = np.random.default_rng(0).choice(values, (RESAMPLES, len(values))).mean(axis=1)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return float(values.mean()), float(high - low) / 2


def two_sided_p(differences: np.ndarray) -> float:
    """The p-value of a difference by its bootstrap's draws `(draws,)`."""
    below = min((differences <= 0).mean(), (differences >= 0).mean())
    return float(min(1.0, 2 * max(below, 1 / RESAMPLES)))


def paired_difference(ours: list[Result], theirs: list[Result]) -> tuple[float, float, float, float]:
    r"""
    How much better one variant answers, paired by seed and by test question.

    Args:
        ours (`list[dict]`): Runs of a variant, by seed.
        theirs (`list[dict]`): Runs of the variant it is compared with, of the same seeds.

    Returns:
        `tuple[float, float, float, float]`: the difference of the mean accuracy of the kinds of questions, its 95 %
        interval's ends, and the two-sided p-value: a bootstrap that draws seeds, and questions within each kind.
    """
    kinds = sorted(ours[0]["correct"])
    by_kind = []
    for kind in kinds:
        a, b = (np.array([[int(c) for c in run["correct"][kind]] for run in runs]) for runs in (ours, theirs))
        by_kind.append((a - b).astype(float))  # (seeds, questions)
    rng = np.random.default_rng(0)
    drawn = np.empty(RESAMPLES)
    for resample in range(RESAMPLES):
        seeds = rng.integers(len(ours), size=len(ours))
        drawn[resample] = np.mean(
            [
                difference[seeds].mean(axis=0)[rng.integers(difference.shape[1], size=difference.shape[1])].mean()
                for difference in by_kind
            ]
        )
    low, high = np.quantile(drawn, (0.025, 0.975))
    mean = float(np.mean([difference.mean() for difference in by_kind]))
    return mean, float(low), float(high), two_sided_p(drawn)


Runs = dict[str, dict[int, Result]]  # by variant and seed


def difference_cells(runs: Runs, ours: str, theirs: str) -> list[str]:
    """The paired difference of two variants and its p-value, as cells of a table."""
    shared = sorted(set(runs[ours]) & set(runs.get(theirs, {})))
    # Runs on other data or from another start are not paired.
    like = [all(runs[ours][seed][name] == runs[theirs][seed][name] for name in ("data", "start")) for seed in shared]
    if ours == theirs or not shared or not all(like):
        return ["–", "–"]
    mean, low, high, p = paired_difference(*([runs[variant][seed] for seed in shared] for variant in (ours, theirs)))
    return [f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]", f"{p:.2g}"]


def markdown_table(variants: list[str], runs: Runs, reference: str) -> str:
    """A study as a table: scores, the paired difference from `reference`, and what training cost."""
    titles = ["variant", "data", "seeds", *SCORES, "count MSE", "mean", "validation", f"mean, minus {reference}", "p"]
    titles += ["steps", "training s", "test s", "GFLOP per question"]
    lines = ["| " + " | ".join(titles) + " |", "|---" * len(titles) + "|"]
    for variant in variants:
        of_variant = list(runs[variant].values())
        columns = [[*test_scores(run), run["count_mse"], mean_score(run), run["validation"]] for run in of_variant]
        cells = [variant, of_variant[0]["data"], str(len(of_variant))]
        cells += ["{:.3f} ± {:.3f}".format(*seed_interval(values)) for values in zip(*columns)]
        cells += difference_cells(runs, variant, reference)
        cells.append(str(of_variant[0]["steps"]))
        seconds = [(run["train_seconds"], run["test_seconds"]) for run in of_variant]
        cells += [f"{median:.0f}" for median in np.median(seconds, axis=0)]
        cells.append(f"{of_variant[0]['flops_per_question'] / 1e9:.2f}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def claims_table(claims: list[list[str]], runs: Runs) -> str:
    """Paired differences of the mean accuracy that the conclusions rest on."""
    lines = ["| claim | seeds | difference | p |", "|---|---|---|---|"]
    for ours, theirs in claims:
        if ours in runs and theirs in runs:
            cells = [f"{ours} minus {theirs}", str(len(set(runs[ours]) & set(runs[theirs])))]
            lines.append("| " + " | ".join(cells + difference_cells(runs, ours, theirs)) + " |")
    return "\n".join(lines)


def diagnostics_table(runs: Runs) -> str:
    """Teacher and student in the last quarter of training: is the soft label right more often than the anchor?"""
    lines = ["| variant | task | soft label right | anchor right | entropy | agreement | affinity from even |"]
    lines.append("|---" * 7 + "|")
    for variant, of_variant in runs.items():
        for task in ("open_ended", "multiple_choice"):
            late = [run["late"][task] for run in of_variant.values() if task in run["late"]]
            if late:
                means = [np.mean([values[name] for values in late]) for name in LOGGED]
                lines.append(f"| {variant} | {task} | " + " | ".join(f"{mean:.3f}" for mean in means) + " |")
    return "\n".join(lines)


def draw_study(path: Path, title: str, variants: list[str], runs: Runs) -> None:
    """A study's mean score by variant with its interval over seeds, and by what a run cost."""
    from matplotlib.figure import Figure

    score = "mean accuracy of the four kinds"
    figure = Figure(figsize=(11, max(3.8, 1.2 + 0.35 * len(variants))))
    by_variant, by_cost = figure.subplots(1, 2, width_ratios=(3, 2))
    for variant in variants:
        mean, half = seed_interval([mean_score(run) for run in runs[variant].values()])
        run = next(iter(runs[variant].values()))
        by_variant.errorbar([mean], [variant], xerr=[half], fmt="o", capsize=4)
        by_cost.errorbar([run["flops_per_question"] * run["steps"] / 1e9], [mean], [half], fmt="o", capsize=4)
    figure.suptitle(title, wrap=True)
    by_variant.invert_yaxis()  # the first variant on top
    by_variant.set(xlabel=score)
    by_cost.set(xlabel="GFLOP per question x steps", ylabel=score)
    figure.tight_layout()
    figure.savefig(path, dpi=150)


def write_report(config: dict, results: Path) -> str:
    """
    Writes `report.md` with the studies whose variants all have runs, and the figures of those that ask for one.

    Returns:
        `str`: the report.
    """
    runs: Runs = defaultdict(dict)
    for (variant, seed), result in sorted(read_results(results).items()):
        runs[variant][seed] = result
    if not runs:
        return f"{results} has no runs."
    parts = ["# Ablations on generated data", ""]
    data = json.loads((results.parent / "data.json").read_text())
    for digest in dict.fromkeys(run["data"] for of_variant in runs.values() for run in of_variant.values()):
        made = data[digest]
        parts.append(f"- Data {digest}: generator version {made['generator_version']}, {made['parameters']}.")
        for name, scores in made["baselines"].items():
            listed = ", ".join(f"{kind} {score:.3f}" for kind, score in scores.items())
            parts.append(f'  Baseline "{name}": {listed}.')
    parts.append("")
    parts.append("Means over seeds ± half a 95 % interval; differences are paired by seed and by test question.")
    for study, description in config["studies"].items():
        variants = [variant for variant in description["variants"] if variant in runs]
        if len(variants) == len(description["variants"]):
            parts += ["", f"## {description['title']}", "", markdown_table(variants, runs, description["variants"][0])]
            if description.get("figure"):
                draw_study(results.parent / f"{study}.png", description["title"], variants, runs)
    parts += ["", "## Claims", "", claims_table(config["claims"], runs)]
    parts += ["", "## Teacher and student, last quarter of training", "", diagnostics_table(runs), ""]
    report = "\n".join(parts)
    (results.parent / "report.md").write_text(report)
    return report


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path, help="JSON file with the data, start, base, variants, studies and claims")
    parser.add_argument("--studies", nargs="+", help="which studies to run; default: all")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "ablation" / "results.jsonl")
    parser.add_argument("--work", type=Path, default=Path("outputs/ablation"), help="folder of data and checkpoints")
    parser.add_argument("--jobs", type=int, default=2, help="runs at once; default: %(default)s")
    parser.add_argument("--threads", type=int, default=1, help="threads of a run; default: %(default)s")
    parser.add_argument("--report_only", action="store_true", help="make tables and figures from the results")
    arguments = parser.parse_args(argv)
    config = json.loads(arguments.config.read_text(encoding="utf-8"))
    studies = arguments.studies or list(config["studies"])
    unknown = [study for study in studies if study not in config["studies"]]
    if unknown:
        parser.error(f"there is no study {', '.join(unknown)}; choose from {', '.join(config['studies'])}")
    if not arguments.report_only:
        run_missing(config, studies, arguments.results, arguments.work, arguments.jobs, arguments.threads)
    print(write_report(config, arguments.results))


if __name__ == "__main__":
    main()
