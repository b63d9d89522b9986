"""Arguments of a run: a JSON file, the command line over it, and a sentence for each that makes no sense."""

import json
from collections.abc import Callable

import pytest

from modeling_siasamrea.commands.evaluate import as_named
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


def test_the_command_line_goes_over_the_file_and_json_objects_are_merged(write):
    config = write(
        learning_rate=0.1,
        benchmarks=["how2qa", "msvd_qa"],
        annotations="folder",
        model_config={"alpha": 1, "num_clips": 3},
        bf16=False,
        max_steps=-1,
        skip_list=None,
        lr_scheduler_kwargs={"num_cycles": 2},
    )
    model, data, training = parse_arguments(
        [config, "--learning_rate", "0.5", "--model_config", '{"alpha": 0}', "--videos", "v", "--model", "m"]
    )
    assert training.learning_rate == 0.5 and data.benchmarks == ["how2qa", "msvd_qa"] and data.skip_list is None
    assert training.max_steps == -1 and training.bf16 is False and training.lr_scheduler_kwargs == {"num_cycles": 2}
    assert model.model_config == {"alpha": 0, "num_clips": 3} and model.video_processor is None
    assert data.video_folder == "v" and model.model_name_or_path == "m"


def test_a_recipe_is_known_by_its_name():
    model, data, training = parse_arguments(["quickstart", "--max_steps", "3"])
    assert training.max_steps == 3 and training.output_dir == "outputs/quickstart"
    assert data.sample_data == {} and model.model_config["num_clips"] == 3


def test_training_trains_and_evaluates_the_rows_that_are_given():
    def work(*argv):
        training = parse_arguments(list(argv))[2]
        return training.do_train, training.do_eval, training.do_predict

    assert work("--train_file", "t") == (True, False, False)
    assert work("--train_file", "t", "--validation_file", "v", "--test-file=x") == (True, True, True)
    assert work("--train_file", "t", "--validation_file", "v", "--do_train") == (True, False, False)
    assert work("--test_file", "t", "--do_train=false", "--do_predict") == (False, False, True)
    assert work("--train_file", "t", "--test_file", "t", "--do_predict") == (True, False, True)
    assert work("--model", "m", "--test_file", "t", "--do_predict") == (False, False, True)


def test_a_model_and_a_file_of_rows_come_by_position_in_either_order(write):
    rows = write()
    for argv in (["my-model", rows, "--videos", "v"], [rows, "my-model", "--videos", "v"]):
        assert sorted(as_named(argv)) == sorted(["--model=my-model", f"--test_file={rows}", "--videos", "v"])


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"lerning_rate": 1}, "'--lerning_rate'. Did you mean '--learning_rate'?"),
        ({"vocabulary_size": -1}, "--vocabulary_size must be 0 (all answers) or more; got -1"),
        ({"vocabulary_size": "many"}, "config.json: --vocabulary_size must be a whole number; "),
        ({"learning_rate": [1, 2]}, "config.json: --learning_rate takes one value; got [1, 2]"),
        ({"lora_rank": 0}, "--lora_rank must be 1 or more; got 0"),
        ({"lora_rank": True}, "--lora_rank must be a whole number; got 'True'"),
        ({"task": "open-ended"}, "invalid choice: 'open-ended'"),
        ({"benchmarks": ["msvd_qa"]}, "--benchmarks needs --annotations"),
        ({"sample_data": {}}, "--sample_data needs --train_file"),
        ({"do_train": "perhaps"}, "--do_train must be true or false; got 'perhaps'"),
        ({"model_config": [1]}, "--model_config"),
        ({"video_processor": 3}, "--video_processor must be a JSON object; got 3"),
        ({"model_name_or_path": "m", "vision_model": "v"}, "Give --model_name_or_path or two encoders, not both"),
    ],
)
def test_values_that_make_no_sense_are_refused(write, refusal, content, sentence):
    assert sentence in refusal(write(**content))


def test_files_that_hold_no_arguments_are_refused(tmp_path, refusal):
    assert "none.json does not exist" in refusal("none.json")
    for content in (b"[1, 2]", b"null", b"{'a': 1}", b"\xff\xfe", b"[" * 100000):
        (tmp_path / "c.json").write_bytes(content)
        assert "c.json" in refusal(str(tmp_path / "c.json"))


def test_a_command_line_with_unknown_words_is_refused(refusal):
    assert "Did you mean '--learning_rate'?" in refusal("--learning_rat", "1")  # no abbreviations
    assert "Did you mean '--videos'?" in refusal("--video", "v")
    assert "Did you mean 'own_videos'?" in refusal("own_vidoes")
    assert "unrecognized arguments: else" in refusal("quickstart", "else")
    assert "is not JSON" in refusal("--model_config", "{alpha}")


def test_all_arguments_are_listed_where_that_is_asked_for(capsys):
    with pytest.raises(SystemExit) as stopped:
        parse_arguments(["--help-all"])
    assert stopped.value.code == 0 and "--gradient_checkpointing" in capsys.readouterr().out
