"""Arguments of a run: JSON and command line, and a sentence for each that makes no sense."""

import json
from collections.abc import Callable

import pytest

from modeling_siasamrea.commands.arguments import fits, refuse_unknown
from modeling_siasamrea.commands.train import parse_arguments


@pytest.fixture
def write(tmp_path) -> Callable[..., str]:
    """Writes a configuration; keyword arguments are its content."""

    def write(**content) -> str:
        (tmp_path / "config.json").write_text(json.dumps(content))
        return str(tmp_path / "config.json")

    return write


@pytest.fixture
def refusal(capsys) -> Callable[..., str]:
    """The one sentence that a command line is refused with."""

    def refusal(*argv: str) -> str:
        with pytest.raises(SystemExit) as stopped:
            parse_arguments(list(argv))
        assert stopped.value.code == 2
        out, err = capsys.readouterr()
        assert not out and len(err.splitlines()) == 1
        return err

    return refusal


def test_the_command_line_goes_over_the_file_and_dictionaries_are_merged(write):
    config = write(
        learning_rate=0.1, benchmarks=["how2qa"], annotations="folder", model_config={"alpha": 1, "num_clips": 3}
    )
    model, data, training = parse_arguments(
        [config, "--learning_rate", "0.5", "--model_config", '{"alpha": 0}', "--vocabulary_size", "2"]
    )
    assert training.learning_rate == 0.5 and data.benchmarks == ["how2qa"] and data.vocabulary_size == 2
    assert model.model_config == {"alpha": 0, "num_clips": 3} and model.video_processor is None


def test_a_recipe_is_known_by_its_name():
    model, data, training = parse_arguments(["quickstart", "--max_steps", "3"])
    assert training.max_steps == 3 and training.output_dir == "outputs/quickstart"
    assert data.sample_data == {} and model.model_config["num_clips"] == 3


def test_what_only_the_encoders_or_transformers_know_is_left_to_them():
    changes = {"vision_config": {"layerscale_value": 0.5}}  # DINOv2 has it, ResNet has not
    changes |= {"attn_implementation": {"text_config": "eager"}}
    (model, *_) = parse_arguments(["--train_file", "t.jsonl", "--model_config", json.dumps(changes)])
    assert model.model_config == changes


@pytest.mark.parametrize(
    ("argument", "value", "sentence"),
    [
        ("model_config", {"alhpa": 0}, "model_config has fields that do not exist: alhpa (did you mean alpha?)."),
        (
            "model_config",
            {"text_config": {"model_type": "bert", "hiden_size": 8}},
            "text_config has fields that do not exist: hiden_size",
        ),
        ("model_config", {"vision_config": {"model_type": "resnt"}}, "model types that do not exist: resnt (did you"),
        ("model_config", {"attn_implementation": {"text": "eager"}}, "attn_implementation has encoders that do not"),
        ("model_config", {"attn_implementation": 3}, "attn_implementation must be a name such as eager; got 3"),
        ("model_config", {"vision_config": 3}, "vision_config must be a JSON object; got 3"),
        ("video_processor", {"frames_per_clp": 4}, "frames_per_clp (did you mean frames_per_clip?)"),
        ("video_processor", {"seed": 4}, "video_processor has settings that do not exist: seed"),
        ("sample_data", {"train_video": 4}, "train_video (did you mean train_videos?)"),
        ("sample_data", {"size": "64"}, "size must be of type int; got '64'"),
        ("model_config", [1], "--model_config must be a JSON object; got [1]"),
        ("video_processor", 3, "--video_processor must be a JSON object; got 3"),
    ],
)
def test_names_in_dictionaries_are_known_wherever_they_come_from(write, refusal, argument, value, sentence):
    assert sentence in refusal("--train_file", "t.jsonl", f"--{argument}", json.dumps(value))
    # A file may hold the same; a value of another type than a dictionary is refused as any other.
    in_file = refusal(write(**{argument: value}), "--train_file", "t.jsonl")
    assert sentence in in_file or f"{argument} cannot be {value!r}" in in_file


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"lerning_rate": 1}, "has arguments that do not exist: lerning_rate (did you mean learning_rate?)"),
        ({"vocabulary_size": -1}, "--vocabulary_size must be 0 (all answers) or more; got -1"),
        ({"vocabulary_size": 10.5}, "vocabulary_size cannot be 10.5"),
        ({"vocabulary_size": "many"}, "invalid int value: 'many'"),
        ({"lora_rank": 0}, "--lora_rank must be 1 or more; got 0"),
        ({"lora_rank": True}, "lora_rank cannot be True"),
        ({"task": "open-ended"}, "--task has tasks that do not exist: open-ended (did you mean open_ended?)"),
        ({"benchmarks": "msvd_qa"}, "benchmarks cannot be 'msvd_qa'"),
        ({"benchmarks": ["msvd_qa"]}, "--benchmarks needs --annotations"),
        ({"sample_data": {}}, "--sample_data needs --train_file"),
        ({"train_file": ["a.jsonl"]}, "train_file cannot be ['a.jsonl']"),
        ({"do_train": 1}, "do_train cannot be 1"),
        ({"seed": None}, "seed cannot be None"),
        ({"save_strategy": "sometimes"}, "sometimes is not a valid"),
        ({"model_name_or_path": "m", "vision_model": "v"}, "Give --model_name_or_path or two encoders, not both"),
    ],
)
def test_values_that_make_no_sense_are_refused(write, refusal, content, sentence):
    assert sentence in refusal(write(**content))


def test_files_that_hold_no_arguments_are_refused(tmp_path, refusal):
    assert "none.json cannot be read" in refusal("none.json")
    for text in ("[1, 2]", "3", "null", '"text"'):
        (tmp_path / "c.json").write_text(text)
        assert "must be a JSON object of arguments" in refusal(str(tmp_path / "c.json"))
    (tmp_path / "c.json").write_text("{'a': 1}")
    assert "c.json cannot be read" in refusal(str(tmp_path / "c.json"))
    (tmp_path / "c.json").write_bytes(b"\xff\xfe")
    assert "c.json cannot be read" in refusal(str(tmp_path / "c.json"))
    assert "cannot be read" in refusal(str(tmp_path))


def test_a_command_line_with_unknown_words_is_refused(refusal):
    assert "--lerning_rate (did you mean --learning_rate?)" in refusal("--lerning_rate", "1")
    assert "--learning_rat (did you mean --learning_rate?)" in refusal("--learning_rat", "1")  # no abbreviations
    assert "'else', which belongs to no argument" in refusal("quickstart", "else")
    assert "--model_config must be a JSON object; '{alpha}' is not JSON" in refusal("--model_config", "{alpha}")


def test_the_nearest_name_is_named_only_where_one_is_near():
    with pytest.raises(ValueError, match=r"^X has names that do not exist: abx \(did you mean abc\?\), zzz\.$"):
        refuse_unknown(["abc", "abx", "zzz"], ["abc", "def"], "X", "names")


def test_types_of_json_values():
    assert fits(1, float) and fits("1", float) and not fits(True, float) and not fits([1], float)
    assert fits(None, str | None) and not fits(None, str)
    assert fits(["a"], None | str | list[str]) and not fits([1], list[str] | None)
    assert fits({"a": 1}, dict | str | None) and not fits("a", dict[str, bool] | None)
