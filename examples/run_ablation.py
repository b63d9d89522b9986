"""
Re-runs the paper's ablations on the generated data: variants x seeds, resumable, with statistics.

    python examples/run_ablation.py examples/configs/ablation.json --studies table1
    python examples/run_ablation.py examples/configs/ablation.json --report_only

Every run is `run_videoqa.py` with the same data, steps and settings but for one override. A finished run is a line of
the results file and is never repeated; a killed one goes on from its last checkpoint. Tables (Markdown) and figures
(PNG, SVG) are made from the results file alone.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from make_sample_data import make_sample_data
from modeling_siasamrea import SiaSamReaForVideoQuestionAnswering


SCRIPT = Path(__file__).parent / "run_videoqa.py"
RESAMPLES = 10_000
SCORES = {
    "open-ended": "open_ended_accuracy",
    "action": "multiple_choice_accuracy/action",
    "transition": "multiple_choice_accuracy/transition",
    "count": "count_accuracy",
}
Result = dict[str, object]


# --- runs ------------------------------------------------------------------------------------------------------------


def training_flops(model: SiaSamReaForVideoQuestionAnswering, frames: int, size: int) -> int:
    """FLOPs of one open-ended training question of 10 tokens: forward of all clips, backward of those that train."""
    clips = model.config.num_clips if model.config.siamese_clips_trained else 1
    model.train()
    with FlopCounterMode(display=False) as counter:
        outputs = model(
            torch.zeros(1, clips, frames, 3, size, size),
            torch.ones(1, 10, dtype=torch.long),
            task="open_ended",
            labels=torch.tensor([0]),
        )
        outputs.loss.backward()
    return counter.get_total_flops()


def run_one(config: dict, variant: str, seed: int, work: Path, threads: int) -> Result:
    r"""
    One training run in a process of its own.

    Args:
        config (`dict`): The ablation's configuration: `base`, `sample_data` and `variants`.
        variant (`str`): Which of its variants.
        seed (`int`): Seed of weights, order and frames.
        work (`Path`): Folder of data and checkpoints.
        threads (`int`): Threads of the process.

    Returns:
        `dict`: what the results file holds: scores on validation and test, which test questions were answered right,
        seconds, FLOPs, and the diagnostics that the Trainer logged.

    Raises:
        `RuntimeError`: If the run fails; names its log.
    """
    folder = work / variant / str(seed)
    folder.mkdir(parents=True, exist_ok=True)
    settings = dict(config["base"])
    for name, override in config["variants"][variant].items():
        settings[name] = settings[name] | override
    data = work / "data"
    for split in ("train", "validation", "test"):
        settings[f"{split}_file"] = str(data / f"{split}.jsonl")
    settings |= {"video_folder": str(data), "output_dir": str(folder), "seed": seed}
    (folder / "settings.json").write_text(json.dumps(settings, indent=2))
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, str(SCRIPT), str(folder / "settings.json")]
    start = time.perf_counter()
    with open(folder / "log.txt", "a", encoding="utf-8") as log:
        finished = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, env=environment, check=False)
    if finished.returncode:
        raise RuntimeError(f"The run {variant}, seed {seed}, failed; see {folder / 'log.txt'}.")

    report = json.loads((folder / "metrics.json").read_text())
    predictions = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
    history = json.loads((folder / "trainer_state.json").read_text())["log_history"]
    model = SiaSamReaForVideoQuestionAnswering.from_pretrained(folder)
    processing = settings["video_processor"]
    return {
        "variant": variant,
        "seed": seed,
        "dataset": json.loads((data / "dataset.json").read_text()),
        "validation": report["validation"]["scores"],
        "test": report["test"]["scores"],
        "baselines": report["test"]["baselines"],
        "correct": "".join(str(int(line["correct"])) for line in predictions),
        "seconds": round(time.perf_counter() - start, 1),
        "train_seconds": report["train"]["scores"]["train_runtime"],
        "flops_per_question": training_flops(model, processing["frames_per_clip"], processing["size"]["longest_edge"]),
        "history": [logs for logs in history if "loss" in logs],
    }


def read_results(path: Path) -> dict[tuple[str, int], Result]:
    """The finished runs by variant and seed."""
    if not path.exists():
        return {}
    lines = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
    return {(line["variant"], line["seed"]): line for line in lines}


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
    make_sample_data(work / "data", **config["sample_data"])
    results.parent.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(jobs) as pool:
        running = [pool.submit(run_one, config, variant, seed, work, threads) for variant, seed in todo]
        for run in tqdm(as_completed(running), total=len(running), desc="Runs", unit="run"):
            with open(results, "a", encoding="utf-8") as file:
                file.write(json.dumps(run.result()) + "\n")


# --- statistics ------------------------------------------------------------------------------------------------------


def mean_score(result: Result, split: str = "test") -> float:
    """The mean of the four kinds of questions' scores."""
    return float(np.mean([result[split][name] for name in SCORES.values()]))


def seed_interval(values: list[float]) -> tuple[float, float]:
    """Mean, and half the width of its 95 % interval over seeds (bootstrap)."""
    values = np.asarray(values)
    drawn = np.random.default_rng(0).choice(values, (RESAMPLES, len(values))).mean(axis=1)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return float(values.mean()), float(high - low) / 2


def paired_difference(ours: list[Result], theirs: list[Result]) -> tuple[float, float, float, float]:
    r"""
    How much more questions one variant answers right, paired by seed and by test question.

    Args:
        ours (`list[dict]`): Runs of a variant, by seed.
        theirs (`list[dict]`): Runs of the variant it is compared with, of the same seeds.

    Returns:
        `tuple[float, float, float, float]`: the difference in accuracy over all test questions, its 95 % interval's
        ends, and the two-sided p-value: a bootstrap that draws seeds and questions.
    """
    correct = [np.array([[int(c) for c in run["correct"]] for run in runs]) for runs in (ours, theirs)]
    difference = (correct[0] - correct[1]).astype(float)  # (seeds, questions)
    rng = np.random.default_rng(0)
    seeds, questions = difference.shape
    drawn = np.empty(RESAMPLES)
    for resample in range(RESAMPLES):
        rows = difference[rng.integers(seeds, size=seeds)].mean(axis=0)
        drawn[resample] = rows[rng.integers(questions, size=questions)].mean()
    below = min((drawn <= 0).mean(), (drawn >= 0).mean())
    low, high = np.quantile(drawn, (0.025, 0.975))
    return float(difference.mean()), float(low), float(high), float(min(1.0, 2 * max(below, 1 / RESAMPLES)))


def markdown_table(variants: list[str], by_variant: dict[str, dict[int, Result]], reference: str) -> str:
    """A study as a table: scores, the paired difference from `reference`, and what training cost."""
    titles = ["variant", "seeds", *SCORES, "count MSE", f"all, minus {reference}", "p", "s", "GFLOP a question"]
    lines = ["| " + " | ".join(titles) + " |", "|---" * len(titles) + "|"]
    for variant in variants:
        runs = by_variant.get(variant, {})
        if not runs:
            continue
        cells = [variant, str(len(runs))]
        for name in (*SCORES.values(), "count_mse"):
            mean, half = seed_interval([run["test"][name] for run in runs.values()])
            cells.append(f"{mean:.3f} ± {half:.3f}")
        shared = sorted(set(runs) & set(by_variant.get(reference, {})))
        if variant != reference and shared:
            others = by_variant[reference]
            mean, low, high, p = paired_difference([runs[s] for s in shared], [others[s] for s in shared])
            cells += [f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]", f"{p:.3g}"]
        else:
            cells += ["–", "–"]
        cells.append(f"{np.mean([run['train_seconds'] for run in runs.values()]):.0f}")
        cells.append(f"{next(iter(runs.values()))['flops_per_question'] / 1e9:.2f}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def diagnostics_table(by_variant: dict[str, dict[int, Result]]) -> str:
    """Teacher and student late in training: is the soft label right more often than the anchor's own answer?"""
    lines = ["| variant | task | soft label right | anchor right | entropy | agreement | affinity from even |"]
    lines.append("|---" * 7 + "|")
    for variant, runs in by_variant.items():
        for task in ("open_ended", "multiple_choice"):
            names = ("soft_label_accuracy", "anchor_accuracy", "soft_label_entropy", "clip_agreement")
            late = [logs for run in runs.values() for logs in run["history"][-3:]]
            values = [
                np.mean([logs[f"{name}/{task}"] for logs in late if f"{name}/{task}" in logs] or [np.nan])
                for name in (*names, "affinity_deviation")
            ]
            if not np.isnan(values[0]):
                lines.append(f"| {variant} | {task} | " + " | ".join(f"{value:.3f}" for value in values) + " |")
    return "\n".join(lines)


def draw_study(path: Path, title: str, variants: list[str], by_variant: dict[str, dict[int, Result]]) -> None:
    """A study's mean score by variant with its interval over seeds, as PNG and SVG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    present = [variant for variant in variants if by_variant.get(variant)]
    points = [seed_interval([mean_score(run) for run in by_variant[variant].values()]) for variant in present]
    figure, axes = plt.subplots(figsize=(1.2 + 1.1 * len(present), 3.6))
    axes.errorbar(present, [mean for mean, _ in points], [half for _, half in points], fmt="o", capsize=4)
    axes.set(title=title, ylabel="mean accuracy of the four kinds")
    axes.tick_params(axis="x", rotation=30)
    figure.tight_layout()
    for suffix in (".png", ".svg"):
        figure.savefig(path.with_suffix(suffix), dpi=150)
    plt.close(figure)


def write_report(config: dict, results: Path) -> str:
    """Writes `report.md` and the figures beside the results file; returns the report."""
    by_variant: dict[str, dict[int, Result]] = defaultdict(dict)
    for (variant, seed), result in read_results(results).items():
        by_variant[variant][seed] = result
    parts = ["# Ablations on generated data", ""]
    if by_variant:
        any_run = next(iter(next(iter(by_variant.values())).values()))
        dataset, baselines = any_run["dataset"], any_run["baselines"]
        parts.append(
            f"Generator version {dataset['generator_version']}, annotations {dataset['annotations_sha256'][:16]}."
        )
        for name, scores in baselines.items():
            listed = ", ".join(f"{kind} {scores[score]:.3f}" for kind, score in SCORES.items())
            parts.append(f'Baseline "{name}": {listed}, count MSE {scores["count_mse"]:.3f}.')
    for study, description in config["studies"].items():
        variants = description["variants"]
        if not any(by_variant.get(variant) for variant in variants):
            continue
        parts += ["", f"## {description['title']}", "", markdown_table(variants, by_variant, variants[0])]
        draw_study(results.parent / study, description["title"], variants, by_variant)
    parts += ["", "## Teacher and student", "", diagnostics_table(by_variant), ""]
    report = "\n".join(parts)
    (results.parent / "report.md").write_text(report)
    return report


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path, help="JSON file with base, sample_data, variants and studies")
    parser.add_argument("--studies", nargs="+", help="which studies to run; default: all")
    parser.add_argument("--results", type=Path, default=Path("examples/ablation/results.jsonl"))
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
