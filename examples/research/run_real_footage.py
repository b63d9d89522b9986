"""
Compares ways of training on real footage: variants x folds x seeds, resumable, with statistics by group.

    python examples/research/run_real_footage.py examples/research/real_footage.json --data FOLDER
    python examples/research/run_real_footage.py examples/research/real_footage.json --report_only

`FOLDER` has videos and `rows.jsonl`: the package's columns and `question_type`, and beside them `source` and `group`,
what a split must keep together. The groups of each source are dealt into folds, so that every question is tested once
with each seed; a run tests a fold, and trains on the rest but for a part that validates. `outputs/pretrained` is what
`make_pretrained_folders.py` writes. A finished run is a line of the results file and is never repeated; a killed one
goes on from its last checkpoint. The report is made from the results file alone, which holds no text and no picture.
"""

import argparse
import json
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import combinations
from pathlib import Path
from typing import Any

import av
import numpy as np
from run_ablation import (
    RESAMPLES,
    keep_answers,
    read_results,
    run_script,
    two_sided_p,
    with_overrides,
)
from tqdm import tqdm


PARTS_OF_FOLD = 3  # parts that the groups of a source are dealt into, for each fold; one part validates
KEY = ("variant", "fold", "seed")  # tells runs apart
Result = dict[str, Any]
Row = dict[str, Any]


# --- rows of the folds -----------------------------------------------------------------------------------------------


def deal_groups(rows: list[Row], parts: int, seed: int) -> dict[tuple[str, str], int]:
    """The part of each group: within each source the largest groups first, each to the part with fewest questions."""
    rng = np.random.default_rng(seed)
    part_of: dict[tuple[str, str], int] = {}
    for source in dict.fromkeys(row["source"] for row in rows):
        of_source = [row["group"] for row in rows if row["source"] == source]
        groups = rng.permutation(list(dict.fromkeys(of_source))).tolist()
        sizes = [0] * parts
        for group in sorted(groups, key=of_source.count, reverse=True):
            part = sizes.index(min(sizes))
            sizes[part] += of_source.count(group)
            part_of[source, group] = part
    return part_of


def split_rows(rows: list[Row], fold: int, folds: int, seed: int) -> dict[str, list[Row]]:
    """The rows of a fold: its own parts test, the part behind them validates, and the others train."""
    parts = PARTS_OF_FOLD * folds
    part_of = deal_groups(rows, parts, seed)
    names = {PARTS_OF_FOLD * fold + place: "test" for place in range(PARTS_OF_FOLD)}
    names[PARTS_OF_FOLD * (fold + 1) % parts] = "validation"
    split: dict[str, list[Row]] = {"train": [], "validation": [], "test": []}
    for row in rows:
        split[names.get(part_of[row["source"], row["group"]], "train")].append(row)
    return split


def write_black_video(path: Path) -> None:
    """A second of nothing: what a model sees that is to answer from the question alone."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=16)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for _ in range(16):
            frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), dtype=np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def write_rows(folder: Path, split: dict[str, list[Row]], data: Path, answers_kept: float, blind: bool) -> None:
    r"""
    Writes the row files of a run.

    Args:
        folder (`Path`): Where to.
        split (`dict[str, list[dict]]`): Rows of training, validation and test.
        data (`Path`): The folder that the rows' videos are in.
        answers_kept (`float`):
            Share of the training rows that keep their answer, see `keep_answers` of `run_ablation.py`.
        blind (`bool`): All rows show a black video.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if blind:
        write_black_video(folder / "black.mp4")
    for name, rows in (split | {"train": keep_answers(split["train"], answers_kept)}).items():
        with open(folder / f"{name}.jsonl", "w", encoding="utf-8") as file:
            for row in rows:
                video = folder / "black.mp4" if blind else data / row["video"]
                written = {key: row[key] for key in row if key not in ("split", "source", "group")}
                written["video"] = str(video.resolve())
                file.write(json.dumps(written, ensure_ascii=False) + "\n")


# --- runs ------------------------------------------------------------------------------------------------------------


def train_variant(
    config: dict, variant: str, split: dict[str, list[Row]], seed: int, folders: argparse.Namespace, folder: Path
) -> None:
    r"""
    Trains and tests a variant in a process of its own; one that `starts_from` another trains that first.

    Args:
        config (`dict`):
            `base` and `variants`. A variant overrides settings of `base`, and may say `answers_kept` and `blind`, see
            [`write_rows`], and the variant that it `starts_from`.
        variant (`str`): Which of its variants.
        split (`dict[str, list[dict]]`): Rows of training, validation and test.
        seed (`int`): Seed of new layers, order and frames.
        folders (`argparse.Namespace`): `data`, `encoders` and `work`.
        folder (`Path`): The run's folder.

    Raises:
        `RuntimeError`: If the run fails.
    """
    overrides = dict(config["variants"][variant])
    write_rows(folder, split, folders.data, overrides.pop("answers_kept", 1.0), overrides.pop("blind", False))
    settings = config["base"] | {"seed": seed} | {f"{name}_file": str(folder / f"{name}.jsonl") for name in split}
    start = overrides.pop("starts_from", None)
    if start is None:
        settings |= {name: str(folders.encoders / settings[name]) for name in ("vision_model", "text_model")}
    else:
        if not (folder / "start" / "metrics.json").exists():  # written last
            train_variant(config, start, split, seed, folders, folder / "start")
        settings |= {"model_name_or_path": str(folder / "start"), "vision_model": None, "text_model": None}
    if "frame_features_dir" in settings:
        settings["frame_features_dir"] = str(folders.work / settings["frame_features_dir"])
    run_script(with_overrides(settings, overrides), folder, folders.threads)


def run_one(config: dict, variant: str, fold: int, seed: int, rows: list[Row], folders: argparse.Namespace) -> Result:
    """
    One run, see [`train_variant`], to what the results file holds: scores, seconds, and for each kind of question the
    number of each question's group, whether it was answered right, and how many pairs of starts differ.
    """
    folder = folders.work / variant / f"fold{fold}_seed{seed}"
    split = split_rows(rows, fold, config["folds"], config["split_seed"])
    train_variant(config, variant, split, seed, folders, folder)
    report = json.loads((folder / "metrics.json").read_text())
    predictions = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
    groups = list(dict.fromkeys((row["source"], row["group"]) for row in rows))
    kinds: dict[str, dict] = defaultdict(lambda: {"groups": [], "correct": "", "differing_pairs": ""})
    for row, prediction in zip(split["test"], predictions, strict=True):
        kind = kinds[row["question_type"]]
        kind["groups"].append(groups.index((row["source"], row["group"])))
        kind["correct"] += str(int(prediction["correct"]))
        kind["differing_pairs"] += str(sum(a != b for a, b in combinations(prediction["answers"], 2)))
    return {
        "variant": variant,
        "fold": fold,
        "seed": seed,
        "validation": report["validation"]["scores"]["accuracy"],
        "calibration_error": report["test"]["scores"]["open_ended_expected_calibration_error"],
        "accuracy_at_50_coverage": report["test"]["scores"]["open_ended_accuracy_at_50_coverage"],
        "train_seconds": report["train"]["scores"]["train_runtime"],
        "kinds": kinds,
    }


def run_missing(config: dict, folders: argparse.Namespace) -> None:
    """Runs what the results file lacks, `jobs` at once: the studies with one seed in their order, then with two."""
    rows = [json.loads(line) for line in (folders.data / "rows.jsonl").read_text(encoding="utf-8").splitlines()]
    rows = [row for row in rows if row["source"] in config["sources"]]
    done = read_results(folders.results, KEY)
    todo = [
        (variant, fold, seed)
        for seed in range(config["seeds"])
        for study in config["studies"].values()
        for variant in study["variants"]
        for fold in range(config["folds"])
        if (variant, fold, seed) not in done
    ]
    todo = list(dict.fromkeys(todo))
    failures = []
    folders.results.parent.mkdir(parents=True, exist_ok=True)
    with tqdm(total=len(todo), desc="Runs", unit="run") as progress, ThreadPoolExecutor(folders.jobs) as pool:
        for finished in as_completed([pool.submit(run_one, config, *one, rows, folders) for one in todo]):
            progress.update()
            if finished.exception():
                failures.append(str(finished.exception()))
                continue
            with open(folders.results, "a", encoding="utf-8") as file:
                file.write(json.dumps(finished.result()) + "\n")
    if failures:
        raise RuntimeError(f"{len(failures)} of {len(todo)} runs failed: {' '.join(failures)}")


# --- statistics ------------------------------------------------------------------------------------------------------

Runs = dict[tuple[int, int], Result]  # of a variant, by fold and seed


def values_of_groups(runs: Runs, kind: str, name: str, number_of_pairs: int) -> tuple[np.ndarray, ...]:
    """Groups, the sum over the questions of each and all runs of a value, and how many these are; `(groups,)` each."""
    sums, counts = defaultdict(float), defaultdict(int)
    for run in runs.values():
        of_kind = run["kinds"][kind]
        for group, digit in zip(of_kind["groups"], of_kind[name], strict=True):
            sums[group] += int(digit) / (1 if name == "correct" else number_of_pairs)
            counts[group] += 1
    groups = sorted(counts)
    return tuple(np.array(column) for column in zip(*((group, sums[group], counts[group]) for group in groups)))


class Comparison:
    r"""
    Means of a variant over the kinds of questions that count, and how sure they are: a bootstrap that draws the groups
    of each kind's source again, the same for all variants, so that differences are paired.

    Args:
        config (`dict`): `primary`, the kinds whose mean is compared, and the number of starts in `base`.
    """

    def __init__(self, config: dict):
        self.kinds = config["primary"]
        starts = config["base"]["eval_offsets"]
        self.number_of_pairs = starts * (starts - 1) // 2

    def drawn(self, runs: Runs, name: str) -> tuple[float, np.ndarray]:
        """The mean over kinds of a value, and what it is in each of the draws `(draws,)`."""
        means, draws = [], []
        for kind in self.kinds:
            groups, sums, counts = values_of_groups(runs, kind, name, self.number_of_pairs)
            rng = np.random.default_rng(groups[0])  # kinds of a source have the same groups, and so the same draws
            weights = rng.multinomial(len(counts), np.full(len(counts), 1 / len(counts)), RESAMPLES)
            means.append(sums.sum() / counts.sum())
            draws.append(weights @ sums / (weights @ counts))
        return float(np.mean(means)), np.mean(draws, axis=0)

    def interval(self, runs: Runs, name: str) -> str:
        """The mean and its 95 % interval."""
        mean, draws = self.drawn(runs, name)
        low, high = np.quantile(draws, (0.025, 0.975))
        return f"{mean:.3f} [{low:.3f}, {high:.3f}]"

    def difference(self, ours: Runs, theirs: Runs, name: str) -> str:
        """The difference of two variants over the runs that both have, its 95 % interval and two-sided p-value."""
        shared = ours.keys() & theirs.keys()
        (mean, draws), (other, other_draws) = (
            self.drawn({run: runs[run] for run in sorted(shared)}, name) for runs in (ours, theirs)
        )
        differences = draws - other_draws
        low, high = np.quantile(differences, (0.025, 0.975))
        return f"{mean - other:+.3f} [{low:+.3f}, {high:+.3f}] | {two_sided_p(differences):.2g}"


def kinds_table(variants: list[str], runs: dict[str, Runs], kinds: list[str]) -> str:
    """Accuracy of each kind of question."""
    lines = ["| variant | runs | " + " | ".join(kinds) + " |", "|---" * (len(kinds) + 2) + "|"]
    for variant in variants:
        accuracies = []
        for kind in kinds:
            _, sums, counts = values_of_groups(runs[variant], kind, "correct", 1)
            accuracies.append(f"{sums.sum() / counts.sum():.3f}")
        lines.append(f"| {variant} | {len(runs[variant])} | " + " | ".join(accuracies) + " |")
    return "\n".join(lines)


def study_table(variants: list[str], runs: dict[str, Runs], comparison: Comparison) -> str:
    """A study: accuracy, flips, calibration and coverage of each variant, its validation accuracy, and its cost."""
    lines = ["| variant | runs | accuracy | flip rate | calibration error | accuracy at 50 % | validation | seconds |"]
    lines.append("|---" * 8 + "|")
    for variant in variants:
        of_variant = list(runs[variant].values())
        names = ("calibration_error", "accuracy_at_50_coverage", "validation")
        means = [np.mean([run[name] for run in of_variant]) for name in names]
        cells = [variant, str(len(of_variant))]
        cells += [comparison.interval(runs[variant], name) for name in ("correct", "differing_pairs")]
        cells += [f"{mean:.3f}" for mean in means]
        cells.append(f"{np.median([run['train_seconds'] for run in of_variant]):.0f}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def claims_table(claims: list[list[str]], runs: dict[str, Runs], comparison: Comparison) -> str:
    """Paired differences that the conclusions rest on, over the folds and seeds that both variants have."""
    lines = ["| claim | runs | accuracy | p | flip rate | p |", "|---|---|---|---|---|---|"]
    for ours, theirs in claims:
        shared = runs.get(ours, {}).keys() & runs.get(theirs, {}).keys()
        if shared:
            cells = [comparison.difference(runs[ours], runs[theirs], name) for name in ("correct", "differing_pairs")]
            lines.append(f"| {ours} minus {theirs} | {len(shared)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def draw_consistency(path: Path, variants: list[str], runs: dict[str, Runs], comparison: Comparison) -> None:
    """Accuracy against flip rate: down and to the right is better."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.4, 4.2))
    axes = figure.subplots()
    for number, variant in enumerate(variants):
        (accuracy, accuracies), (flips, flip_draws) = (
            comparison.drawn(runs[variant], name) for name in ("correct", "differing_pairs")
        )
        look = {"fmt": "os^"[number // 10 % 3], "color": f"C{number % 10}", "capsize": 3, "label": variant}
        axes.errorbar([accuracy], [flips], flip_draws.std(), accuracies.std(), **look)
    axes.set(xlabel="accuracy, mean over kinds (bars: standard error by group)", ylabel="flip rate between two starts")
    axes.legend(loc="center left", bbox_to_anchor=(1.02, 0.5), fontsize="small")
    figure.tight_layout()
    figure.savefig(path, dpi=150)


def write_report(config: dict, results: Path) -> str:
    """
    Writes the tables, of variants that have a run, and the figure, of those that have all folds, beside the results
    file; returns the tables.
    """
    runs: dict[str, Runs] = defaultdict(dict)
    for (variant, fold, seed), result in sorted(read_results(results, KEY).items()):
        runs[variant][fold, seed] = result
    if not runs:
        return f"{results} has no runs."
    comparison = Comparison(config)
    kinds = list(next(iter(next(iter(runs.values())).values()))["kinds"])
    parts = ["# Real footage", "", config["protocol"], ""]
    parts.append(
        f"Accuracy and flip rate are means over {', '.join(config['primary'])}; intervals are of 95 %, by group."
    )
    for study in config["studies"].values():
        variants = [variant for variant in study["variants"] if variant in runs]
        if variants:
            parts += ["", f"## {study['title']}", "", study_table(variants, runs, comparison)]
            parts += ["", kinds_table(variants, runs, kinds)]
    parts += ["", "## Claims", "", claims_table(config["claims"], runs, comparison), ""]
    folds = set(range(config["folds"]))
    whole = [variant for variant in runs if {fold for fold, _ in runs[variant]} == folds]
    draw_consistency(results.with_suffix(".png"), whole, runs, comparison)
    report = "\n".join(parts)
    results.with_suffix(".md").write_text(report, encoding="utf-8")
    return report


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path, help="JSON file with the protocol, base, variants, studies and claims")
    parser.add_argument("--data", type=Path, help="folder of the videos and rows.jsonl")
    parser.add_argument("--encoders", type=Path, default=Path("outputs/pretrained"), help="folder of the encoders")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "ablation" / "real_footage.jsonl")
    parser.add_argument("--work", type=Path, default=Path("outputs/real_footage"), help="folder of checkpoints")
    parser.add_argument("--jobs", type=int, default=2, help="runs at once; default: %(default)s")
    parser.add_argument("--threads", type=int, default=1, help="threads of a run; default: %(default)s")
    parser.add_argument("--report_only", action="store_true", help="make tables and the figure from the results")
    arguments = parser.parse_args(argv)
    config = json.loads(arguments.config.read_text(encoding="utf-8"))
    if not arguments.report_only:
        if arguments.data is None or not (arguments.data / "rows.jsonl").exists():
            parser.error("--data must be a folder with rows.jsonl and the videos that it names")
        run_missing(config, arguments)
    print(write_report(config, arguments.results))


if __name__ == "__main__":
    main()
