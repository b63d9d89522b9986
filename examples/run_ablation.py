"""
Re-runs the paper's ablations on the generated data: variants x seeds, resumable, with statistics.

    python examples/run_ablation.py examples/configs/ablation.json --studies table1
    python examples/run_ablation.py examples/configs/ablation.json --report_only

Every run is `run_videoqa.py` from one checkpoint, the folder `start` beside the results file, with the same data,
steps and settings but for one override. A finished run is a line of the results file and is never repeated; a killed
one goes on from its last checkpoint. Tables (Markdown) and figures (PNG, SVG) are made from the results file alone.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from benchmark_parts.measuring import operations_of
from tqdm import tqdm

from modeling_siasamrea import SiaSamReaForVideoQuestionAnswering, SiaSamReaVideoProcessor
from modeling_siasamrea.data.workers import end_with_launcher
from modeling_siasamrea.preparation.sample_data import make_sample_data


if TYPE_CHECKING:
    from matplotlib.figure import Figure

SCRIPT = Path(__file__).parent / "run_videoqa.py"
RESAMPLES = 10_000
# Question types of the generated data and their scores.
SCORES = {
    "what": "open_ended_accuracy",
    "action": "multiple_choice_accuracy/action",
    "transition": "multiple_choice_accuracy/transition",
    "count": "count_accuracy",
}
Result = dict[str, Any]


# --- runs ------------------------------------------------------------------------------------------------------------


def training_flops(model: SiaSamReaForVideoQuestionAnswering, frames: int, size: int) -> int:
    """FLOPs of one open-ended training question of 10 tokens: forward of all clips, backward of those that train."""
    clips = model.config.num_clips if model.config.siamese_clips_trained else 1
    model.train()
    question = {"task": "open_ended", "labels": torch.tensor([0])}
    inputs = torch.zeros(1, clips, frames, 3, size, size), torch.ones(1, 10, dtype=torch.long)
    return operations_of(lambda: model(*inputs, **question).loss.backward())


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
        # It ends with this script: else, started again, two runs would write into one folder.
        ended = {"preexec_fn": end_with_launcher} if sys.platform == "linux" else {}
        finished = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, env=environment, **ended)
    if finished.returncode:
        raise RuntimeError(f"A run failed; its log is {folder / 'log.txt'}.")


def keep_answers(rows: list[dict], share: float) -> list[dict]:
    """The rows with a share of their answers, drawn by question: a larger share keeps those of a smaller one."""
    kept = set(np.random.default_rng(0).permutation(len(rows))[: round(share * len(rows))].tolist())
    return [
        row if number in kept else {name: cell for name, cell in row.items() if name != "answer"}
        for number, row in enumerate(rows)
    ]


def make_data(folder: Path, answers_kept: float = 1.0, **parameters) -> None:
    """Makes a generated data set, and of its training rows a file with a share of their answers."""
    make_sample_data(folder, **parameters)
    if answers_kept < 1:
        rows = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
        lines = [json.dumps(row) + "\n" for row in keep_answers(rows, answers_kept)]
        (folder / "partly_answered.jsonl").write_text("".join(lines))


def data_files(folder: Path, answers_kept: float = 1.0) -> dict[str, str]:
    """The settings that name a generated data set."""
    names = {"train": "train" if answers_kept == 1 else "partly_answered", "validation": "validation", "test": "test"}
    files = {f"{split}_file": str(folder / f"{name}.jsonl") for split, name in names.items()}
    return files | {"video_folder": str(folder)}


def describe_data(folder: Path, answers_kept: float = 1.0) -> dict:
    """What the results say of a data set: its `dataset.json`, and which share of the answers was kept."""
    dataset = json.loads((folder / "dataset.json").read_text())
    if answers_kept < 1:
        files = [path for name, path in data_files(folder, answers_kept).items() if name.endswith("_file")]
        dataset["annotations_sha256"] = hashlib.sha256(b"".join(Path(file).read_bytes() for file in files)).hexdigest()
        dataset["parameters"]["answers_kept"] = answers_kept
    return dataset


def prepare(config: dict, start: Path, work: Path, threads: int) -> None:
    """Makes the data sets, and trains on the largest the checkpoint that all runs start from, where there is none."""
    for name, parameters in config["data"].items():
        make_data(work / "data" / name, **parameters)
    if not (start / "metrics.json").exists():
        make_sample_data(work / "start_data", **config["start_data"])
        run_script(config["start"] | data_files(work / "start_data"), start, threads)


def run_one(config: dict, variant: str, seed: int, start: Path, work: Path, threads: int) -> Result:
    r"""
    One training run in a process of its own.

    Args:
        config (`dict`): The ablation's configuration: `data`, `base` and `variants`. A data set has the parameters of
            its generator, and may have `answers_kept`, the share of its training rows that keep their answers. A
            variant overrides settings of `base`. It may name its `data`, by default the first; and a variant that it
            evaluates instead of training.
        variant (`str`): Which of its variants.
        seed (`int`): Seed of new heads, order and frames.
        start (`Path`): Folder of the checkpoint that all runs start from.
        work (`Path`): Folder of data and checkpoints.
        threads (`int`): Threads of the process.

    Returns:
        `dict`: what the results file holds: scores on validation and test, which test questions were answered right,
        seconds, FLOPs, and the diagnostics that the Trainer logged.

    Raises:
        `RuntimeError`: If the run fails.
    """
    overrides = dict(config["variants"][variant])
    evaluated = overrides.pop("evaluates", None)
    data = overrides.pop("data", next(iter(config["data"])))
    data = work / "data" / data, config["data"][data].get("answers_kept", 1.0)
    settings = config["base"] | data_files(*data) | {"seed": seed, "model_name_or_path": str(start)}
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
    return {
        "variant": variant,
        "seed": seed,
        "dataset": describe_data(*data),
        "start": hashlib.sha256((start / "model.safetensors").read_bytes()).hexdigest(),
        "validation": report["validation"]["scores"],
        "test": report["test"]["scores"],
        "baselines": report["test"]["baselines"],
        "correct": correct,
        "steps": history[-1]["step"],
        "train_seconds": training["train_runtime"],
        "flops_per_question": training_flops(model, frames, size),
        "history": [
            {name: float(f"{value:.4g}") for name, value in logs.items()} for logs in history if "loss" in logs
        ],
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
    # Beside the results, which go on only from the same start: trained anew on another machine, it is another.
    start = results.parent / "start"
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
                if (result["variant"], result["seed"]) not in done:
                    with open(results, "a", encoding="utf-8") as file:
                        file.write(json.dumps(result) + "\n")
    if failures:
        raise RuntimeError(f"{len(failures)} of {sum(map(len, stages))} runs failed: {' '.join(failures)}")


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
    like = [
        all(runs[ours][seed][name] == runs[theirs][seed][name] for name in ("dataset", "start")) for seed in shared
    ]
    if ours == theirs or not shared or not all(like):
        return ["–", "–"]
    mean, low, high, p = paired_difference(*([runs[variant][seed] for seed in shared] for variant in (ours, theirs)))
    return [f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]", f"{p:.2g}"]


def markdown_table(variants: list[str], runs: Runs, reference: str) -> str:
    """A study as a table: scores, the paired difference from `reference`, and what training cost."""
    titles = ["variant", "data", "seeds", *SCORES, "count MSE", "mean", "validation", f"mean, minus {reference}", "p"]
    titles += ["steps", "training s", "test s", "GFLOP a question"]
    lines = ["| " + " | ".join(titles) + " |", "|---" * len(titles) + "|"]
    for variant in variants:
        of_variant = list(runs[variant].values())
        columns = [[run["test"][name] for run in of_variant] for name in (*SCORES.values(), "count_mse")]
        columns += [[mean_score(run, split) for run in of_variant] for split in ("test", "validation")]
        cells = [variant, of_variant[0]["dataset"]["annotations_sha256"][:8], str(len(of_variant))]
        cells += ["{:.3f} ± {:.3f}".format(*seed_interval(values)) for values in columns]
        cells += difference_cells(runs, variant, reference)
        cells.append(str(of_variant[0]["steps"]))
        seconds = [(run["train_seconds"], run["test"]["runtime"]) for run in of_variant]
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


def logged(runs: dict[int, Result], name: str) -> tuple[list[int], list[float]]:
    """The steps at which a quantity was logged, and its mean over the seeds there; empty if it never was."""
    values = defaultdict(list)
    for run in runs.values():
        for logs in run["history"]:
            if name in logs:
                values[logs["step"]].append(logs[name])
    steps = sorted(values)
    return steps, [float(np.mean(values[step])) for step in steps]


def diagnostics_table(runs: Runs) -> str:
    """Teacher and student in the last quarter of training: is the soft label right more often than the anchor?"""
    names = ("soft_label_accuracy", "anchor_accuracy", "soft_label_entropy", "clip_agreement", "affinity_deviation")
    lines = ["| variant | task | soft label right | anchor right | entropy | agreement | affinity from even |"]
    lines.append("|---" * 7 + "|")
    for variant, of_variant in runs.items():
        for task in ("open_ended", "multiple_choice"):
            curves = [logged(of_variant, f"{name}/{task}")[1] for name in names]
            if all(curves):
                late = [np.mean(curve[-max(1, len(curve) // 4) :]) for curve in curves]
                lines.append(f"| {variant} | {task} | " + " | ".join(f"{value:.3f}" for value in late) + " |")
    return "\n".join(lines)


def save_figure(figure: "Figure", path: Path) -> None:
    """Writes a figure as PNG and SVG; the SVG without date or chance, so that the same results give the same file."""
    from matplotlib import rc_context

    figure.tight_layout()
    figure.savefig(path.with_suffix(".png"), dpi=150)
    with rc_context({"svg.hashsalt": path.stem}):
        figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})


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
    by_cost.set(xlabel="GFLOP a question x steps", ylabel=score)
    save_figure(figure, path)


def draw_training(path: Path, variant: str, runs: dict[int, Result]) -> None:
    """Over training: how often teacher and student are right, the teacher's entropy, and the weights of the anchor."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3.6))
    accuracy, entropy, weights = figure.subplots(1, 3)
    for color, task in (("C0", "open_ended"), ("C1", "multiple_choice")):
        accuracy.plot(*logged(runs, f"soft_label_accuracy/{task}"), color=color, label=f"soft label, {task}")
        accuracy.plot(*logged(runs, f"anchor_accuracy/{task}"), color=color, ls="--", label=f"anchor, {task}")
        entropy.plot(*logged(runs, f"soft_label_entropy/{task}"), color=color, label=task)
    for weight in ("w1", "w2"):
        weights.plot(*logged(runs, f"{weight}/0"), label=f"{weight.upper()} of the anchor")
    titles = (f"{variant}: training questions answered right", "entropy of the soft label", "reasoning weights")
    for axes, title in zip((accuracy, entropy, weights), titles):
        axes.set(title=title, xlabel="step")
        axes.legend(fontsize="small")
    save_figure(figure, path)


def write_report(config: dict, results: Path) -> str:
    """Writes `report.md` and figures of the studies that every variant has runs of; returns the report."""
    runs: Runs = defaultdict(dict)
    for (variant, seed), result in sorted(read_results(results).items()):
        runs[variant][seed] = result
    if not runs:
        return f"{results} has no runs."
    parts = ["# Ablations on generated data", ""]
    datasets = {
        run["dataset"]["annotations_sha256"]: run for of_variant in runs.values() for run in of_variant.values()
    }
    for digest, run in datasets.items():
        data = run["dataset"]
        parts.append(f"- Data {digest[:8]}: generator version {data['generator_version']}, {data['parameters']}.")
        for name, scores in run["baselines"].items():
            listed = ", ".join(f"{kind} {scores[score]:.3f}" for kind, score in SCORES.items())
            parts.append(f'  Baseline "{name}": {listed}, count MSE {scores["count_mse"]:.3f}.')
    parts.append("")
    parts.append("Means over seeds ± half a 95 % interval; differences are paired by seed and by test question.")
    for study, description in config["studies"].items():
        variants = [variant for variant in description["variants"] if variant in runs]
        if len(variants) == len(description["variants"]):
            parts += ["", f"## {description['title']}", "", markdown_table(variants, runs, description["variants"][0])]
            draw_study(results.parent / study, description["title"], variants, runs)
    parts += ["", "## Claims", "", claims_table(config["claims"], runs)]
    trained = {name: of_variant for name, of_variant in runs.items() if "evaluates" not in config["variants"][name]}
    parts += ["", "## Teacher and student, last quarter of training", "", diagnostics_table(trained), ""]
    taught = config["claims"][0][0]
    if taught in runs:
        draw_training(results.parent / "training", taught, runs[taught])
    report = "\n".join(parts)
    (results.parent / "report.md").write_text(report)
    return report


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path, help="JSON file with the data, start, base, variants, studies and claims")
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
