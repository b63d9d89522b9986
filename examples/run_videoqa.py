"""
Fine-tunes and evaluates SiaSamRea for video question answering.

    python examples/run_videoqa.py examples/configs/quickstart.json
    python examples/run_videoqa.py config.json --learning_rate 1e-4 --model_config '{"alpha": 0}'

The JSON file holds any of the arguments below; what follows it on the command line takes precedence (the dictionaries
`model_config`, `video_processor` and `sample_data` are merged key by key).
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from transformers import AutoTokenizer, HfArgumentParser, set_seed
from transformers.trainer_utils import get_last_checkpoint

from modeling_siasamrea import SiaSamReaConfig, SiaSamReaForVideoQuestionAnswering
from modeling_siasamrea.annotations_siasamrea import VideoQuestion, load_video_questions, read_skip_list
from modeling_siasamrea.data_siasamrea import VideoQuestionDataset
from modeling_siasamrea.evaluation_siasamrea import majority_baseline, question_only_baseline, score_predictions
from modeling_siasamrea.lora_siasamrea import add_lora, load_lora
from modeling_siasamrea.model_card_siasamrea import write_model_card
from modeling_siasamrea.processors.processing_siasamrea import SiaSamReaProcessor
from modeling_siasamrea.processors.video_decoding import VideoDecodingError
from modeling_siasamrea.processors.video_processing_siasamrea import SiaSamReaVideoProcessor
from modeling_siasamrea.trainer_siasamrea import SiaSamReaTrainer, SiaSamReaTrainingArguments
from modeling_siasamrea.vocabulary_siasamrea import answer_vocabulary, build_tokenizer, vocabulary_coverage


logger = logging.getLogger(__name__)

CARD_TEMPLATE = Path(__file__).resolve().parents[1] / "model_cards" / "template.md"
DICTIONARIES = ("model_config", "video_processor", "sample_data")
Rows = list[VideoQuestion]


@dataclass
class ModelArguments:
    """What is trained or evaluated: a checkpoint, two pretrained encoders, or (with neither) random weights."""

    model_name_or_path: str | None = field(
        default=None, metadata={"help": "A SiaSamRea checkpoint or LoRA adapter: hub name or folder."}
    )
    vision_model: str | None = field(
        default=None, metadata={"help": "A pretrained image encoder, with --text_model: hub name or folder."}
    )
    text_model: str | None = field(
        default=None, metadata={"help": "A pretrained BERT and its tokenizer: hub name or folder."}
    )
    model_config: dict | str | None = field(
        default=None,
        metadata={
            "help": "Fields of SiaSamReaConfig as JSON; over a checkpoint's, except its vision_config and text_config."
        },
    )
    video_processor: dict | str | None = field(
        default=None, metadata={"help": "Settings of SiaSamReaVideoProcessor as JSON; over a checkpoint's."}
    )
    new_vocabulary: bool = field(
        default=False,
        metadata={"help": "Whether the training rows' answers replace a checkpoint's, with a new head."},
    )
    lora_rank: int | None = field(default=None, metadata={"help": "Train LoRA layers of this rank only."})
    lora_target_modules: list[str] | None = field(
        default=None, metadata={"help": "Endings of the names of linear layers that get one. Default: query value."}
    )


@dataclass
class DataArguments:
    """
    The questions: JSONL or CSV files, a data set known to `datasets`, or benchmarks in their official files. Columns:
    video, question, answer, and optionally candidates, task, start, end, question_type and question_id.
    """

    train_file: str | None = field(default=None, metadata={"help": "Training rows."})
    validation_file: str | None = field(default=None, metadata={"help": "Rows for --do_eval."})
    test_file: str | None = field(default=None, metadata={"help": "Rows for --do_predict; answers may be missing."})
    dataset_name: str | None = field(
        default=None, metadata={"help": "A data set for datasets.load_dataset, with splits train, validation, test."}
    )
    benchmarks: list[str] | None = field(
        default=None,
        metadata={"help": "Names that modeling_siasamrea.benchmarks.load_benchmark knows; trained together."},
    )
    annotations: str | None = field(default=None, metadata={"help": "Folder of the benchmarks' annotation files."})
    video_folder: str | None = field(default=None, metadata={"help": "Folder that relative video paths start from."})
    task: str | None = field(
        default=None, metadata={"help": "Task of rows that name none: open_ended, multiple_choice or count."}
    )
    vocabulary_size: int = field(
        default=1000, metadata={"help": "Commonest training answers in the vocabulary; 0 for all. Paper: 1000."}
    )
    skip_list: str | None = field(
        default=None, metadata={"help": "JSONL file whose column video names videos to leave out in training."}
    )
    sample_data: dict | str | None = field(
        default=None,
        metadata={
            "help": "Arguments of make_sample_data as JSON: it makes the data in train_file's folder if it is missing."
        },
    )
    show_example: bool = field(
        default=False, metadata={"help": "Whether to answer one test question at the end and draw the clips."}
    )


def parse_arguments(argv: Sequence[str] | None) -> tuple[ModelArguments, DataArguments, SiaSamReaTrainingArguments]:
    """The arguments of a JSON file, where one comes first, and of the command line over it."""
    parser = HfArgumentParser(
        (ModelArguments, DataArguments, SiaSamReaTrainingArguments), description=__doc__.split("\n\n")[0].strip()
    )
    parser.add_argument("config", nargs="?", help="A JSON file of arguments; it must come first.")
    config_path = parser.parse_known_args(argv)[0].config
    from_file = {}
    if config_path is not None:
        try:
            from_file = json.loads(Path(config_path).read_text(encoding="utf-8"))
        except (OSError, json.JSONDecodeError) as error:
            parser.error(f"The configuration {config_path} cannot be read: {error}.")
        unknown = sorted(set(from_file) - {action.dest for action in parser._actions})
        if unknown:
            parser.error(f"The configuration {config_path} has arguments that do not exist: {', '.join(unknown)}.")
        parser.set_defaults(**from_file)
    model, data, training, _ = parser.parse_args_into_dataclasses(argv, look_for_args_file=False)
    for arguments in (model, data):
        for name in DICTIONARIES:
            value = getattr(arguments, name, None)
            if isinstance(value, str):
                setattr(arguments, name, (from_file.get(name) or {}) | json.loads(value))
    if data.benchmarks and not data.annotations:
        parser.error("--benchmarks needs --annotations, the folder of their annotation files.")
    return model, data, training


# Data


def load_split(arguments: DataArguments, split: str, require_answers: bool = True) -> dict[str, Rows]:
    """The rows of a split, by benchmark name (or by "" for other data); empty where there are none."""
    if arguments.benchmarks:
        from modeling_siasamrea.benchmarks import load_benchmark

        return {
            name: load_video_questions(load_benchmark(name, arguments.annotations, arguments.video_folder, split))
            for name in arguments.benchmarks
        }
    source = arguments.dataset_name or getattr(arguments, f"{split}_file")
    if source is None:
        return {}
    return {"": load_video_questions(source, arguments.video_folder, split, arguments.task, require_answers)}


def make_missing_sample_data(arguments: DataArguments) -> None:
    """Writes the sample data set into the folder of the training file, unless it is there."""
    if arguments.sample_data is not None:
        from make_sample_data import make_sample_data

        make_sample_data(Path(arguments.train_file).parent, **arguments.sample_data)


def check_sources(data: DataArguments, training: SiaSamReaTrainingArguments) -> None:
    """Raises a `ValueError` if something is to be done with rows that no argument names."""
    if data.dataset_name or data.benchmarks:
        return
    for wanted, name in (
        (training.do_train, "train"),
        (training.do_eval, "validation"),
        (training.do_predict, "test"),
    ):
        if wanted and getattr(data, f"{name}_file") is None:
            raise ValueError(f"There are no {name} rows: give --{name}_file, --dataset_name or --benchmarks.")


def training_rows(arguments: DataArguments) -> Rows:
    """All training rows but those of videos in the skip list."""
    rows = [row for of_source in load_split(arguments, "train").values() for row in of_source]
    if arguments.skip_list is None:
        return rows
    skipped = read_skip_list(arguments.skip_list, arguments.video_folder)
    kept = [row for row in rows if row.video not in skipped]
    logger.warning(f"{len(rows) - len(kept)} training rows are left out: {arguments.skip_list} names their videos.")
    return kept


def known_answers(rows: Rows, config: SiaSamReaConfig) -> Rows:
    """Training rows whose answer the model can learn: open-ended ones must have it in the vocabulary."""
    known = config.label2id.keys()
    kept = [row for row in rows if row.task != "open_ended" or not known.isdisjoint(row.right_answers)]
    if len(kept) < len(rows):
        logger.warning(f"{len(rows) - len(kept)} training rows have answers outside the vocabulary and are left out.")
    if not kept:
        raise ValueError(
            "No training answer is in the checkpoint's answer vocabulary. Use --new_vocabulary to build it anew from "
            "the training answers."
        )
    return kept


# Model


def config_fields(model: ModelArguments, rows: Rows, vocabulary: list[str] | None, tasks: list[str]) -> dict:
    """Fields of the configuration that the arguments and the training rows settle."""
    fields = dict(model.model_config or {})
    if rows:
        fields["tasks"] = tasks + [task for task in dict.fromkeys(row.task for row in rows) if task not in tasks]
    if vocabulary:
        fields["id2label"] = dict(enumerate(vocabulary))
        fields["label2id"] = {answer: index for index, answer in enumerate(vocabulary)}
    return fields


def load_checkpoint(
    arguments: ModelArguments, rows: Rows, vocabulary: list[str]
) -> tuple[SiaSamReaForVideoQuestionAnswering, SiaSamReaProcessor]:
    """A SiaSamRea checkpoint; training on other tasks or with a new vocabulary gives it new heads."""
    folder = arguments.model_name_or_path
    processor = SiaSamReaProcessor.from_pretrained(folder)
    for name, value in (arguments.video_processor or {}).items():
        setattr(processor.video_processor, name, value)
    if (Path(folder) / "adapter_config.json").is_file():
        return load_lora(folder), processor
    old = SiaSamReaConfig.from_pretrained(folder)
    new_vocabulary = arguments.new_vocabulary or "open_ended" not in old.tasks
    fields = config_fields(arguments, rows, vocabulary if new_vocabulary else None, old.tasks)
    encoders = {"vision_config": old.vision_config, "text_config": old.text_config}
    config = SiaSamReaConfig(**{**old.to_dict(), **fields, **encoders})
    new_heads = [task for task in config.tasks if task not in old.tasks]
    if new_heads:
        logger.warning(f"The checkpoint has no head for {', '.join(new_heads)}: training starts new ones.")
    new_clips = config.num_clips != old.num_clips
    if new_clips and min(config.alpha, old.alpha) > 0:
        logger.warning(
            f"The checkpoint reasons over {old.num_clips} clips, not {config.num_clips}: W1 and W2 start anew."
        )
    model = SiaSamReaForVideoQuestionAnswering.from_pretrained(
        folder, config=config, ignore_mismatched_sizes=new_vocabulary or new_clips
    )
    if "count" in new_heads:
        start_counts_at_mean(model, rows)
    return model, processor


def build_model(
    arguments: ModelArguments, rows: Rows, vocabulary: list[str]
) -> tuple[SiaSamReaForVideoQuestionAnswering, SiaSamReaProcessor]:
    """A new model, from two pretrained encoders or from random weights, and its processor."""
    if not rows:
        raise ValueError("Evaluation needs a trained model: give --model_name_or_path, or train one with --do_train.")
    if (arguments.vision_model is None) != (arguments.text_model is None):
        raise ValueError("Give --vision_model and --text_model together: the model is built from both encoders.")
    fields = config_fields(arguments, rows, vocabulary, [])
    settings = dict(arguments.video_processor or {})
    if arguments.vision_model is not None:
        model = SiaSamReaForVideoQuestionAnswering.from_vision_text_pretrained(
            arguments.vision_model, arguments.text_model, **fields
        )
        tokenizer = AutoTokenizer.from_pretrained(arguments.text_model)
        make_video_processor = partial(SiaSamReaVideoProcessor.from_image_encoder, arguments.vision_model)
    else:
        logger.warning("The model starts from random weights, its tokenizer from the words of the training questions.")
        tokenizer = build_tokenizer(rows)
        text_config = {"model_type": "bert", **fields.pop("text_config", {}), "vocab_size": len(tokenizer)}
        model = SiaSamReaForVideoQuestionAnswering(SiaSamReaConfig(text_config=text_config, **fields))
        make_video_processor = SiaSamReaVideoProcessor
    start_counts_at_mean(model, rows)
    settings.setdefault("num_clips", model.config.num_clips)
    return model, SiaSamReaProcessor(make_video_processor(**settings), tokenizer)


def start_counts_at_mean(model: SiaSamReaForVideoQuestionAnswering, rows: Rows) -> None:
    """Lets a new counting head start from the mean training count (decision): from 0, its bias would take long."""
    counts = [row.answer for row in rows if row.task == "count"]
    if counts:
        torch.nn.init.constant_(model.heads["count"][-1].bias, sum(counts) / len(counts))


def prepare_model(
    arguments: ModelArguments, rows: Rows, vocabulary_size: int, output_dir: str
) -> tuple[SiaSamReaForVideoQuestionAnswering, SiaSamReaProcessor]:
    """The model, with LoRA layers if asked for, and its processor."""
    vocabulary = answer_vocabulary(rows, vocabulary_size or None)
    if arguments.model_name_or_path is None:
        model, processor = build_model(arguments, rows, vocabulary)
    else:
        model, processor = load_checkpoint(arguments, rows, vocabulary)
    if arguments.lora_rank is not None:
        if arguments.model_name_or_path is None:
            # An adapter is loaded over the weights it was trained with, so they must lie somewhere.
            model.name_or_path = str(Path(output_dir).resolve() / "base_model")
            model.save_pretrained(model.name_or_path)
        model = add_lora(model, arguments.lora_rank, arguments.lora_target_modules)
    return model, processor


# Reports


def write_predictions(path: Path, predictions: list[dict]) -> None:
    """One line a row of the data, in its order."""
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in predictions), encoding="utf-8")


def baseline_scores(train: Rows, evaluated: Rows) -> dict[str, dict[str, float]]:
    """Scores of the two baselines that look at no video, where there are training rows to learn them from."""
    known = {row.task for row in train}
    answered = [row for row in evaluated if row.task in known and row.answer is not None]
    if not answered:
        return {}
    return {
        "majority": score_predictions(answered, majority_baseline(train, answered)),
        "question only": score_predictions(answered, question_only_baseline(train, answered)),
    }


def print_scores(title: str, scores: dict[str, float], baselines: dict[str, dict[str, float]]) -> None:
    """A table of the scores beside those of the baselines."""
    columns = {"model": scores, **baselines}
    width = max(map(len, (title, *scores)))
    print(f"\n{title:{width}s}" + "".join(f"{name:>16s}" for name in columns))
    for name in scores:
        values = [column.get(name) for column in columns.values()]
        if values[0] is not None and not name.endswith(("runtime", "per_second", "preparation_time")):
            print(
                f"{name:{width}s}" + "".join(f"{'':>16s}" if value is None else f"{value:16.4f}" for value in values)
            )


def evaluate(
    trainer: SiaSamReaTrainer, rows: dict[str, Rows], processor: SiaSamReaProcessor, train: Rows, split: str
) -> dict[str, dict]:
    """Answers the rows, writes the answers beside the checkpoint, and returns scores and those of the baselines."""
    report = {}
    for name, of_source in rows.items():
        output = trainer.predict(VideoQuestionDataset(of_source, processor), metric_key_prefix=split)
        scores = {key.removeprefix(f"{split}_"): value for key, value in output.metrics.items()}
        title = f"{split}_{name}" if name else split
        report[title] = {"scores": scores, "baselines": baseline_scores(train, of_source)}
        if trainer.is_world_process_zero():
            file_name = "predictions" if split == "test" else f"{split}_predictions"
            file_name += f"_{name}.jsonl" if name else ".jsonl"
            write_predictions(Path(trainer.args.output_dir) / file_name, output.predictions)
            print_scores(title, scores, report[title]["baselines"])
    return report


def main(argv: Sequence[str] | None = None) -> dict[str, dict]:
    """Runs what the arguments ask for; returns what metrics.json holds."""
    model_arguments, data, training = parse_arguments(argv)
    logging.basicConfig(level=logging.INFO if training.should_log else logging.WARNING, format="%(message)s")
    set_seed(training.seed)
    output_dir = Path(training.output_dir)

    check_sources(data, training)
    with training.main_process_first(desc="sample data"):
        make_missing_sample_data(data)
    train = training_rows(data) if training.do_train or data.train_file else []
    validation = load_split(data, "validation") if training.do_eval else {}
    test = load_split(data, "test", require_answers=False) if training.do_predict else {}

    model, processor = prepare_model(
        model_arguments, train if training.do_train else [], data.vocabulary_size, training.output_dir
    )
    report: dict[str, dict] = {}
    for name, rows in (("train", {"": train}), ("validation", validation), ("test", test)):
        answered = [row for of_source in rows.values() for row in of_source if row.answer is not None]
        if any(row.task == "open_ended" for row in answered):
            coverage = vocabulary_coverage(answered, model.config.label2id)
            logger.info(
                f"The vocabulary of {model.config.num_labels} answers covers {coverage:.1%} of {name} answers."
            )

    evaluation = {name: VideoQuestionDataset(rows, processor) for name, rows in validation.items()}
    trainer = SiaSamReaTrainer(
        model=model,
        args=training,
        train_dataset=VideoQuestionDataset(known_answers(train, model.config), processor)
        if training.do_train
        else None,
        eval_dataset=evaluation.get("", evaluation) or None,
        processing_class=processor,
    )
    if training.do_train:
        last = get_last_checkpoint(output_dir) if output_dir.is_dir() else None
        result = trainer.train(resume_from_checkpoint=training.resume_from_checkpoint or last)
        trainer.save_model()
        model.config.save_pretrained(output_dir)  # beside a LoRA adapter too, which has none of its own
        trainer.save_state()
        report["train"] = {"scores": result.metrics}
    report |= evaluate(trainer, validation, processor, train, "validation")
    report |= evaluate(trainer, test, processor, train, "test")

    if trainer.is_world_process_zero():
        output_dir.mkdir(parents=True, exist_ok=True)
        (output_dir / "metrics.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        if training.do_train:
            split, last_report = list(report.items())[-1]
            write_model_card(
                CARD_TEMPLATE,
                output_dir / "README.md",
                config=model.config,
                arguments=training,
                dataset=", ".join(
                    data.benchmarks or [data.dataset_name or Path(data.train_file).resolve().parent.name]
                ),
                split=split,
                scores=last_report["scores"] if split != "train" else {},
                baselines=last_report.get("baselines", {}),
                base_model=model_arguments.model_name_or_path or model_arguments.vision_model,
            )
        if data.show_example:
            show_example(output_dir, next(iter((test or validation).values())))
    if training.push_to_hub:
        trainer.push_to_hub()
    return report


def show_example(folder: Path, rows: Rows) -> None:
    """Asks the saved checkpoint about the first readable held-out video through the pipeline, and draws its clips."""
    from draw_answer import draw_answer
    from transformers import pipeline

    answerer = pipeline("video-question-answering", model=str(folder))
    for row in rows:
        request = {"video": row.video, "question": row.question, "task": row.task, "start": row.start, "end": row.end}
        if row.candidates is not None:
            request["candidates"] = list(row.candidates)
        try:
            answer = str(answerer(**request)[0]["answer"])
        except VideoDecodingError:
            continue
        annotated = row.answer if row.candidates is None else row.candidates[row.answer]
        print(f"\n{row.video}\nQ: {row.question}\nA: {answer} (annotated: {annotated})")
        path = draw_answer(row, answer, SiaSamReaProcessor.from_pretrained(folder), folder / "example.png")
        print(f"Its clips with the answer: {path}")
        return


if __name__ == "__main__":
    main()
