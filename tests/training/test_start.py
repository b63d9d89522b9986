"""The model a run starts from: new heads, vocabularies, clips, adapters, and what is refused."""

import re
from dataclasses import replace

import pytest
import torch
from transformers import BertConfig

from modeling_siasamrea import SiaSamReaForVideoQuestionAnswering, SiaSamReaProcessor, SiaSamReaVideoProcessor
from modeling_siasamrea.data.questions import load_video_questions
from modeling_siasamrea.training.lora import add_lora
from modeling_siasamrea.training.start import build_model, known_answers, load_model


def open_ended(*answers: str) -> list:
    return load_video_questions([{"video": "v.mp4", "question": "what ?", "answer": answer} for answer in answers])


COUNTS = load_video_questions(
    [{"video": "v.mp4", "question": "how many ?", "answer": count, "task": "count"} for count in (2, 5)]
)


@pytest.fixture
def checkpoint(tiny_config, tokenizer, tmp_path):
    """A checkpoint that knows two answers and no counts."""
    vocabulary = {"id2label": {0: "cat", 1: "dog"}, "label2id": {"cat": 0, "dog": 1}}
    model = SiaSamReaForVideoQuestionAnswering(tiny_config(**vocabulary))
    model.save_pretrained(tmp_path / "checkpoint")
    video_processor = SiaSamReaVideoProcessor(size={"longest_edge": 64}, channel_order="bgr")
    SiaSamReaProcessor(video_processor, tokenizer).save_pretrained(tmp_path / "checkpoint")
    return str(tmp_path / "checkpoint")


def test_without_training_rows_a_checkpoint_is_as_it_was_saved(checkpoint):
    model, processor = load_model(checkpoint)
    saved = SiaSamReaForVideoQuestionAnswering.from_pretrained(checkpoint)
    for name, value in saved.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], value)
    assert model.config.tasks == ["open_ended"] and processor.video_processor.channel_order == "bgr"


def test_a_task_without_a_head_gets_one_that_starts_from_the_mean_count(checkpoint):
    model, _ = load_model(checkpoint, COUNTS)
    assert model.config.tasks == ["open_ended", "count"] and model.config.id2label == {0: "cat", 1: "dog"}
    assert model.heads["count"][-1].bias.item() == pytest.approx(3.5)
    saved = SiaSamReaForVideoQuestionAnswering.from_pretrained(checkpoint)
    torch.testing.assert_close(model.heads["open_ended"].state_dict(), saved.heads["open_ended"].state_dict())


def test_the_number_of_clips_is_the_configuration_s(checkpoint, tiny_config):
    _, processor = load_model(checkpoint, COUNTS, {"num_clips": 5})
    assert processor.video_processor.num_clips == 5
    fields = tiny_config().to_dict()
    fields = {name: fields[name] for name in ("vision_config", "text_config", "num_clips")}
    _, processor = build_model(COUNTS, config=fields)
    assert processor.video_processor.num_clips == 3
    with pytest.raises(ValueError, match="num_clips of the video processor"):
        build_model(COUNTS, config=fields, video_processor={"num_clips": 4})


def test_a_new_vocabulary_replaces_the_old_one_only_where_it_is_asked_for(checkpoint):
    rows = open_ended("owl", "owl", "cow", "ant")
    model, _ = load_model(checkpoint, rows)
    assert model.config.label2id == {"cat": 0, "dog": 1}
    model, _ = load_model(checkpoint, rows, new_vocabulary=True, vocabulary_size=2)
    assert model.config.id2label == {0: "owl", 1: "ant"} and model.heads["open_ended"][-1].out_features == 2
    assert [row.answer for row in known_answers(rows, model.config)] == ["owl", "owl", "ant"]
    with pytest.raises(ValueError, match="--new_vocabulary"):
        known_answers(open_ended("bee"), model.config)
    unlabelled = [replace(rows[0], answer=None)]
    assert known_answers(unlabelled, model.config) == unlabelled  # no answer is outside the vocabulary
    with pytest.raises(ValueError, match="--new_vocabulary"):
        known_answers(open_ended("bee") + unlabelled, model.config)


def test_settings_go_over_the_checkpoint_s(checkpoint):
    model, processor = load_model(
        checkpoint, config={"ensemble": "max"}, video_processor={"size": {"longest_edge": 32}, "num_eval_clips": 3}
    )
    assert model.config.ensemble == "max"
    assert processor.video_processor.size["longest_edge"] == 32 and processor.video_processor.num_eval_clips == 3
    assert processor.video_processor.channel_order == "bgr"


def test_encoders_of_a_checkpoint_stay_as_they_are_and_that_is_said(checkpoint, tiny_config, monkeypatch):
    said = []
    monkeypatch.setattr("modeling_siasamrea.training.start.logger.warning", said.append)
    model, _ = load_model(checkpoint, config={"text_config": {"hidden_dropout_prob": 0.4}})
    assert model.config.text_config.hidden_dropout_prob == tiny_config().text_config.hidden_dropout_prob != 0.4
    assert said == [f"The checkpoint {checkpoint} keeps its own text_config; what is given is not used."]


def test_attention_is_chosen_for_all_encoders_or_for_one(checkpoint, tiny_dinov2):
    for chosen, expected in (("eager", ("eager", "eager")), ({"text_config": "eager"}, ("sdpa", "eager"))):
        config = {"attn_implementation": chosen}
        model, _ = build_model(COUNTS, config=config | {"vision_config": tiny_dinov2})
        encoders = model.model.image_encoder.encoder, model.model.text_model
        assert tuple(encoder.config._attn_implementation for encoder in encoders) == expected
        model, _ = load_model(checkpoint, config=config)
        assert model.model.text_model.config._attn_implementation == expected[1]
    with pytest.raises(ValueError, match='The model cannot be built: .*"egar"'):
        build_model(COUNTS, config={"attn_implementation": "egar"})


def test_an_adapter_answers_and_is_not_trained_on(checkpoint, tmp_path):
    pytest.importorskip("peft")
    base, processor = load_model(checkpoint)
    base.name_or_path = checkpoint
    adapter = str(tmp_path / "adapter")
    add_lora(base, 2).save_pretrained(adapter)
    base.config.save_pretrained(adapter)
    processor.save_pretrained(adapter)
    model, _ = load_model(adapter)
    assert type(model) is SiaSamReaForVideoQuestionAnswering and model.name_or_path == adapter
    with pytest.raises(ValueError, match="is a LoRA adapter, which only answers"):
        load_model(adapter, COUNTS)


def test_what_cannot_be_loaded_gets_a_sentence(checkpoint, tmp_path):
    with pytest.raises(ValueError, match="The checkpoint .*nowhere cannot be loaded"):
        load_model(str(tmp_path / "nowhere"))
    with pytest.raises(
        ValueError, match="cannot be loaded: the folder .* has no 'chekpoint'. Did you mean 'checkpoint'"
    ):
        load_model(str(tmp_path / "chekpoint"))
    with pytest.raises(ValueError, match="The encoders .* cannot be loaded"):
        build_model(COUNTS, str(tmp_path / "nowhere"), str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="not a SiaSamRea checkpoint: its model type is 'bert'"):
        BertConfig().save_pretrained(tmp_path / "bert")
        load_model(str(tmp_path / "bert"))
    with pytest.raises(ValueError, match="The weights of .* cannot be loaded"):
        (tmp_path / "checkpoint" / "model.safetensors").write_bytes(b"cut")
        load_model(checkpoint)
    for settings, sentence in (
        (
            {"config": {"affinity": "none"}},
            "of the model are wrong: affinity must be 'knowledge' or 'average'; got none.",
        ),
        ({"config": {"alpha": "x"}}, "of the model are wrong: alpha must be a number; got 'x'."),
        ({"config": {"num_clips": "3"}}, "of the model are wrong: num_clips must be a whole number; got '3'."),
        (
            {"config": {"omega": 2}},
            "of the model are wrong: omega must be greater or equal to 0 and smaller .*, got 2.",
        ),
        ({"config": {"num_clips": 1}}, "of the model are wrong: Siamese reasoning needs 2 or more clips"),
        ({"video_processor": {"fps": "x"}}, "of the video processor are wrong: fps must be a number; got 'x'."),
        (
            {"video_processor": {"frames_per_clip": "x"}},
            "frames_per_clip must be a whole number or 'adaptive'; got 'x'.",
        ),
        ({"video_processor": {"image_mean": "x"}}, "image_mean must be a number or a list; got 'x'."),
        ({"video_processor": {"image_mean": ["x"]}}, "image_mean has an item of a wrong kind; got "),
        ({"video_processor": {"size": {"longest_edge": "x"}}}, "size must be one edge"),
        ({"video_processor": {"size": "x"}}, "of the video processor are wrong: .*size"),
    ):
        with pytest.raises(ValueError, match=f"The settings .*{sentence}"):
            build_model(COUNTS, **settings)
    with pytest.raises(ValueError, match="The settings of the video processor are wrong: window must be a number"):
        load_model(checkpoint, video_processor={"window": "x"})
    for encoder, sentence in (
        ({"vision_config": {"depth": [1]}}, "The 'resnet' model has no 'depth'. Did you mean 'depths'?"),
        ({"text_config": {"model_type": "brt"}}, "The list of model types has no 'brt'. Did you mean 'bert'?"),
        ({"text_config": "bert"}, "text_config must be a dictionary; got 'bert'."),
    ):
        with pytest.raises(ValueError, match=f"The model cannot be built: {re.escape(sentence)}"):
            build_model(COUNTS, config=encoder)
    with pytest.raises(ValueError, match="The model cannot be built: The hidden size"):
        build_model(COUNTS, config={"text_config": {"hidden_size": 30, "num_attention_heads": 4}})
