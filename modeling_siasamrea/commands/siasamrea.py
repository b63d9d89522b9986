"""
The command `siasamrea`: a line a subcommand, each imported when it is called, and their arguments.

It is installed as a module of its own, because anything inside `modeling_siasamrea` imports torch and Transformers
with it; so help and bad usage take no time. The arguments of a run are dataclasses over Transformers' own, and stay
with `train`, `train_vlm` and `evaluate`.
"""

import argparse
import difflib
import gc
import importlib
import importlib.metadata
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import NoReturn


# Subcommand: its module, whose `main` gets the rest of the command line, and what it does.
COMMANDS = {
    "train": ("modeling_siasamrea.commands.train", "fine-tune and evaluate; `train quickstart` makes its own data"),
    "train_vlm": ("modeling_siasamrea.commands.train_vlm", "the same for a video-language model, such as Qwen3-VL"),
    "evaluate": ("modeling_siasamrea.commands.evaluate", "answer and score the rows of a file or benchmark"),
    "ask": ("modeling_siasamrea.commands.ask", "ask a checkpoint about a video, or about many"),
    "check": ("modeling_siasamrea.commands.check", "find the videos of a data set that cannot be used"),
    "prepare": ("modeling_siasamrea.commands.prepare", "make small copies of large videos, same frames and times"),
    "demo": ("modeling_siasamrea.commands.demo", "open a page in the browser that shows what a checkpoint sees"),
    "export": ("modeling_siasamrea.commands.export", "write a programme that answers without this package"),
    "convert": ("modeling_siasamrea.convert_clipbert_checkpoint", "turn ClipBERT's weights into a checkpoint"),
}

CHECKPOINT = "outputs/quickstart"
TIMEOUT = 300.0  # seconds that a video may take to be checked


class ArgumentParser(argparse.ArgumentParser):
    """A parser that refuses bad usage in one sentence, without the list of all arguments."""

    def error(self, message: str) -> NoReturn:
        """Exits with code 2."""
        self.exit(2, f"{message}\n")


def parser_for(arguments_of: Callable) -> ArgumentParser:
    """A parser whose help begins with the docstring of the function that reads the arguments."""
    description = inspect.getdoc(arguments_of)
    return ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)


def ask_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """
    Asks a checkpoint about a video, or many questions from a list.

        siasamrea ask cat.mp4 "what does the cat do?" --model my-model
        siasamrea ask cat.mp4 "what is it?" --candidates "a cat" "a dog" --start 2 --end 7.5 --json
        siasamrea ask - < requests.jsonl
        torchrun --nproc_per_node 4 -m modeling_siasamrea ask requests.jsonl --output answers.jsonl

    A request is a JSON object on a line: video, question (or a list of them), and optionally candidates, start, end
    (seconds), task and question_id. Its answer is the same object with `answer`, the best, and `answers`, the best
    --top_k with their scores; or with `error`, which stops nothing. Answers come in the order of the requests.

    With --output several processes share the list, and a job that was killed goes on where it stopped when it is
    started again: each process keeps its answers in a file beside the output, and the output is there when all are.
    Requests in a file that follow each other about one span of a video are answered together, and its frames decoded
    once.
    """
    parser = parser_for(ask_arguments)
    parser.add_argument("video", help="a file or address; a JSONL list of requests; or - for standard input")
    parser.add_argument("question", nargs="?", help="the question about a video")
    parser.add_argument("--candidates", nargs="+", help="answers to choose from")
    parser.add_argument("--model", default=CHECKPOINT, help="checkpoint: folder or hub name; default: %(default)s")
    parser.add_argument("--start", type=float, help="start of the span asked about, in seconds")
    parser.add_argument("--end", type=float, help="its end")
    parser.add_argument("--task", help="open_ended, multiple_choice or count; where the question leaves it open")
    parser.add_argument("--top_k", type=int, default=1, help="the most answers; default: %(default)s")
    parser.add_argument("--json", action="store_true", help="print the request with its answers and scores as JSON")
    parser.add_argument("--output", type=Path, help="for a list: file of the answers, which a killed job goes on with")
    given = parser.parse_args(argv)
    given.is_list = given.video == "-" or (given.question is None and given.video.endswith(".jsonl"))
    in_requests = ("question", "candidates", "start", "end", "task")
    of_one = [name for name in in_requests if getattr(given, name) is not None]
    if given.top_k < 1:
        parser.error(f"--top_k, the number of answers, must be 1 or more; got {given.top_k}.")
    if given.is_list and of_one:
        parser.error(f"A list has {', '.join(of_one)} in its requests, not on the command line.")
    if not given.is_list and given.question is None:
        parser.error("There is no question: siasamrea ask VIDEO QUESTION.")
    if not given.is_list and given.output is not None:
        parser.error("--output is for a list of requests.")
    if given.is_list and given.video != "-" and not Path(given.video).is_file():
        parser.error(f"The list {given.video} does not exist.")
    if given.output is not None and given.output.resolve() == Path(given.video).resolve():
        parser.error("--output is the list itself. Choose another --output.")
    return given


def check_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """
    Checks the videos of a benchmark, or of your own rows, before a run needs them at night.

        siasamrea check msvd_qa --annotations annotations/msvd_qa --videos videos/msvd
        siasamrea check train.jsonl --videos videos --output report

    Each video is opened, and its first, middle and last frame are decoded, in a process that may die of it.
    `report.jsonl` has a line for each fault, `skip_list.jsonl` the videos that cannot be used, which a training run
    with `--skip_list` leaves out.
    """
    splits = ("train", "validation", "test")
    parser = parser_for(check_arguments)
    parser.add_argument(
        "name",
        help="msvd_qa, msrvtt_qa, activitynet_qa, how2qa, tgif_action, tgif_transition, tgif_frameqa, tgif_count, "
        "nextqa_mc, or a JSONL or CSV file of rows",
    )
    parser.add_argument("--annotations", help="folder of the benchmark's annotation files")
    parser.add_argument("--videos", help="folder of the videos")
    parser.add_argument("--splits", nargs="+", choices=splits, default=splits, help="default: all that are there")
    parser.add_argument("--output", type=Path, default=Path("data_check"), help="folder of the report")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes; default: one a core")
    parser.add_argument("--timeout", type=float, default=TIMEOUT, help="seconds a video; default: %(default)s")
    given = parser.parse_args(argv)
    if given.workers < 1 or not given.timeout > 0:
        parser.error(f"--workers and --timeout must be above 0; got {given.workers} and {given.timeout}.")
    if given.videos is not None and not Path(given.videos).is_dir():
        parser.error(f"The video folder {given.videos} does not exist.")
    return given


def prepare_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """
    Makes a fast copy of a folder of videos: smaller pictures, short groups of pictures, no audio.

        siasamrea prepare videos fast_videos --short_side 256

    Decoding costs most of a training step on large videos. The copy keeps names, the frames that are shown, turned as
    they are shown, and their times, so annotation rows and the frames that are sampled stay the same; pixels change by
    what resizing and H.264 change. It can be stopped and started again: what is finished is never done twice, and a
    video is there whole or not at all. Videos that cannot be read are listed in `failures.jsonl` in the new folder.
    """
    parser = parser_for(prepare_arguments)
    parser.add_argument("source", type=Path, help="folder of videos")
    parser.add_argument("target", type=Path, help="folder for the copies")
    parser.add_argument("--short_side", type=int, default=256, help="pixels; default: %(default)s")
    parser.add_argument("--group", type=int, default=8, help="frames between key frames; default: %(default)s")
    parser.add_argument("--crf", type=int, default=20, help="H.264 quality, lower is better; default: %(default)s")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes; default: one a core")
    given = parser.parse_args(argv)
    if min(given.short_side, given.group, given.workers) < 1 or not 0 <= given.crf <= 51:
        parser.error("--short_side, --group and --workers must be above 0, and --crf from 0 to 51.")
    return given


def demo_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Opens a page in the browser: ask a checkpoint about a video, and see what the model sees."""
    sample_questions = Path("outputs/sample_data/test.jsonl")
    parser = parser_for(demo_arguments)
    parser.add_argument(
        "checkpoint",
        nargs="?",
        default=os.environ.get("SIASAMREA_CHECKPOINT", CHECKPOINT),
        help="a SiaSamRea checkpoint or LoRA adapter: hub name or folder; default: the environment's "
        "SIASAMREA_CHECKPOINT, or the quickstart's",
    )
    parser.add_argument(
        "--examples",
        default=sample_questions if sample_questions.is_file() else None,
        help="what can be picked: a folder of videos, or a JSONL or CSV file of questions about videos beside it; "
        "default: the quickstart's test questions, where they are",
    )
    parser.add_argument("--host", help="address to serve on; 0.0.0.0 for other machines too; default: 127.0.0.1")
    parser.add_argument("--port", type=int, help="port to serve on; default: the first free one from 7860")
    return parser.parse_args(argv)


def export_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """
    Exports a checkpoint as a programme of `torch.export`, for machines that run no Python of this package.

        siasamrea export my-model exported
        siasamrea export my-model exported --task multiple_choice

    The folder gets `model.pt2`, which takes what the processor beside it makes and gives the scores of one task, and
    the configuration that names the answers; see [`save_exported_model`].
    """
    parser = parser_for(export_arguments)
    parser.add_argument("checkpoint", help="a SiaSamRea checkpoint or LoRA adapter: folder or hub name")
    parser.add_argument("output", type=Path, help="folder to write")
    parser.add_argument("--task", help="the head that answers; may be left out where the model has one")
    given = parser.parse_args(argv)
    if given.output.exists() and not given.output.is_dir():
        parser.error(f"{given.output} is a file; the programme needs a folder.")
    if given.output.resolve() == Path(given.checkpoint).resolve():
        parser.error("The programme needs a folder of its own, beside the checkpoint's.")
    return given


def convert_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """
    Carries ClipBERT's weights over: a checkpoint under its official names becomes a folder that `from_pretrained`
    loads.

        siasamrea convert clipbert_image_text_pretrained.pt --output clipbert --tokenizer google-bert/bert-base-uncased
        siasamrea train config.json --model_name_or_path clipbert

    Widths, depths, vocabulary and task are read from the shapes of the weights.
    """
    parser = parser_for(convert_arguments)
    parser.add_argument("checkpoint", type=Path, help="a .pt or .safetensors file under ClipBERT's names")
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    parser.add_argument("--config", type=Path, help="ClipBERT's BERT configuration, for what shapes cannot tell")
    parser.add_argument("--num_attention_heads", type=int, help="default: of --config, or one for 64 features")
    parser.add_argument("--tokenizer", help="hub name or folder; saved with the model, which the pipeline needs")
    parser.add_argument("--answers", type=Path, help="JSON object from answer to label, ClipBERT's ans2label")
    parser.add_argument("--longest_edge", type=int, default=448, help="of the frames; ClipBERT: 448, TGIF-QA 768")
    return parser.parse_args(argv)


# What reads the arguments of a subcommand, where nothing heavy is needed for it.
ARGUMENTS = {
    "ask": ask_arguments,
    "check": check_arguments,
    "prepare": prepare_arguments,
    "demo": demo_arguments,
    "export": export_arguments,
    "convert": convert_arguments,
}


def is_sentence(error: Exception, script: str) -> bool:
    """Whether this package or the script raised an error, which then is a sentence about the input, and no bug."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return frames[-1].f_globals.get("__name__", "").startswith(("modeling_siasamrea", script))


def run_command(main: Callable[[Sequence[str] | None], object], argv: Sequence[str] | None = None) -> int:
    r"""
    Runs a command as a shell expects it.

    Args:
        main (`Callable`): The command; it gets the command line.
        argv (`Sequence[str]`, *optional*): The command line; that of the process by default.

    Returns:
        `int`: the exit code. 0; 1 if a video cannot be read; 2 if other input makes no sense. Both come with one
        sentence on standard error; any other error is a bug and keeps its traceback.
    """
    try:
        main(argv)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody reads on; nothing is left to flush
        return 0
    except ValueError as error:
        if not is_sentence(error, main.__module__):
            raise
        print(" ".join(str(error).split()), file=sys.stderr)
        return 1 if type(error).__name__ in ("VideoDecodingError", "UnreadableVideoError") else 2
    return 0


def help_text() -> str:
    """The subcommands."""
    lines = [f"  {name:10s}{does}" for name, (_, does) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: siasamrea COMMAND ...",
            "",
            "Video question answering with siamese sampling and reasoning.",
            "",
            *lines,
            "",
            "`siasamrea COMMAND --help` tells its arguments.",
        ]
    )


def import_command(module: str) -> ModuleType:
    """Imports a command. What torch and Transformers make is there to stay: to look for garbage in it takes long."""
    gc.disable()
    command = importlib.import_module(module)
    gc.freeze()
    gc.enable()
    return command


def main(argv: Sequence[str] | None = None) -> int:
    """The entry point; returns the exit code."""
    argv = sys.argv[1:] if argv is None else list(argv)
    if not argv:
        print(f"There is no command; choose from {', '.join(COMMANDS)}.", file=sys.stderr)
        return 2
    name, rest = argv[0], argv[1:]
    if name in ("-h", "--help"):
        return run_command(lambda _: print(help_text()))
    if name == "--version":
        print(importlib.metadata.version("siasamrea"))
        return 0
    if name not in COMMANDS:
        nearest = difflib.get_close_matches(name, COMMANDS, n=1)
        advice = f"did you mean {nearest[0]}?" if nearest else f"choose from {', '.join(COMMANDS)}."
        print(f"There is no command {name!r}; {advice}", file=sys.stderr)
        return 2
    sys.argv[0] = f"siasamrea {name}"  # what the command's own help calls it
    if name in ARGUMENTS:
        ARGUMENTS[name](rest)  # help and bad usage end here; what is right the command itself reads again
    return run_command(import_command(COMMANDS[name][0]).main, rest)


if __name__ == "__main__":
    sys.exit(main())
