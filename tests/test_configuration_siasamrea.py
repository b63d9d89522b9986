"""The configuration: what it refuses, and that it comes back from a folder as it went."""

import json
import os
import pickle

import pytest
from huggingface_hub.errors import StrictDataclassError
from transformers.utils import logging

from modeling_siasamrea import SiaSamReaConfig, SiaSamReaForVideoQuestionAnswering


WRONG = (StrictDataclassError, ValueError)


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({"omega": 1.5}, "omega.* 1.5"),
        ({"omega": float("nan")}, "omega.* nan"),
        ({"alpha": -1.0}, "alpha.* -1.0"),
        ({"alpha": float("inf")}, "alpha.* inf"),
        ({"alpha": "1"}, "alpha"),
        ({"num_clips": 1}, "num_clips=1"),
        ({"num_clips": 0, "alpha": 0}, "num_clips"),
        ({"num_clips": 2.5}, "num_clips"),
        ({"tasks": ["captioning"]}, r"tasks.*\['captioning'\]"),
        ({"tasks": ["count", "count"]}, "tasks"),
        ({"pixel_random_sampling_size": 0}, "pixel_random_sampling_size"),
        ({"id2label": {0: "cat", 2: "dog"}}, r"id2label.*\[0, 2\]"),
        ({"id2label": {0: "cat", 1: "cat"}}, "id2label.*'cat'"),
        ({"id2label": {0: "cat", 1: "dog"}, "label2id": {"cat": 1, "dog": 0}}, "label2id"),
        ({"id2label": ["cat", "dog"]}, "id2label"),
        ({"id2label": {"0": "cat", "one": "dog"}}, "id2label"),
        ({"id2label": {0: " "}}, "id2label.*' '"),
        ({"num_labels": 0}, "id2label"),
        ({"affinity": "cosine"}, "affinity.*cosine"),
        ({"freeze_batch_norm": "no"}, "freeze_batch_norm.*no"),
        ({"text_config": {"model_type": "gpt2"}}, "text model .*'gpt2'"),
        ({"alhpa": 0}, "'alhpa'. Did you mean 'alpha'"),
        ({"clips": 3}, "'clips'. Did you mean 'num_clips'"),
        ({"supervised": "all"}, "'supervised'. Did you mean 'supervised_clips'"),
    ],
)
def test_what_is_wrong_is_named(fields, names):
    with pytest.raises(WRONG, match=f"(?s){names}"):
        SiaSamReaConfig(**fields)


def test_fields_are_checked_wherever_they_come_in(tmp_path, tiny_config):
    config = tiny_config(id2label={0: "cat", 1: "dog"})
    SiaSamReaForVideoQuestionAnswering(config).save_pretrained(tmp_path)
    for loads in (SiaSamReaConfig, SiaSamReaForVideoQuestionAnswering):
        with pytest.raises(WRONG, match="Did you mean 'alpha'"):
            loads.from_pretrained(tmp_path, alhpa=0)
    for name, value in (("tasks", ["captioning"]), ("affinity", "cosine"), ("id2label", {0: "cat", 5: "dog"})):
        with pytest.raises(WRONG, match=name):
            SiaSamReaConfig.from_pretrained(tmp_path, **{name: value})
    with pytest.raises(WRONG, match="alpha"):
        config.alpha = float("nan")
    config.num_clips = 1
    with pytest.raises(WRONG, match="num_clips=1"):
        SiaSamReaForVideoQuestionAnswering(config)
    # A vocabulary that is given over a file's takes its ids along.
    assert SiaSamReaConfig.from_pretrained(tmp_path, id2label={0: "owl", 1: "cat"}).label2id == {"owl": 0, "cat": 1}
    content = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(content | {"omgea": 0.3}))
    with pytest.raises(WRONG, match="Did you mean 'omega'"):
        SiaSamReaConfig.from_pretrained(tmp_path)


def test_what_transformers_and_version_0_2_0_wrote_beside_the_fields_is_read(tmp_path, tiny_config, caplog):
    tiny_config().save_pretrained(tmp_path)
    content = json.loads((tmp_path / "config.json").read_text())
    content |= {"torch_dtype": "float32", "_name_or_path": "somewhere"}
    content |= {"fold_batch_norm": True, "siamese_chunk_size": 4, "siamese_bfloat16": False}
    content["text_config"] |= {"gradient_checkpointing": False, "classifier_dropout": None}
    (tmp_path / "config.json").write_text(json.dumps(content | {"affinity_temperature": 0.3}))
    with caplog.at_level("WARNING"):
        logging.enable_propagation()
        config = SiaSamReaConfig.from_pretrained(tmp_path, attn_implementation="eager")
        logging.disable_propagation()
    assert config.text_config.hidden_size == 32 and not hasattr(config, "fold_batch_norm")
    assert [record.getMessage() for record in caplog.records if "affinity_temperature=0.3" in record.getMessage()]


@pytest.mark.parametrize("kept", [0, 5, 20_000])
def test_weights_that_are_not_whole_get_a_sentence(tmp_path, tiny_config, kept):
    SiaSamReaForVideoQuestionAnswering(tiny_config()).save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:kept])
    with pytest.raises(ValueError, match=f"The weights of {tmp_path} are damaged or not whole"):
        SiaSamReaForVideoQuestionAnswering.from_pretrained(tmp_path)


def test_the_other_half_of_a_vocabulary_is_enough():
    assert SiaSamReaConfig(label2id={"dog": 1, "cat": 0}).id2label == {0: "cat", 1: "dog"}


def test_another_models_configuration_is_refused(tmp_path, tiny_config):
    tiny_config().save_pretrained(tmp_path)
    content = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(content | {"model_type": "bert"}))
    with pytest.raises(ValueError, match="is of a 'bert' model, not of a 'siasamrea' model"):
        SiaSamReaConfig.from_pretrained(tmp_path)


def test_the_baseline_may_have_one_clip():
    assert not SiaSamReaConfig(num_clips=1, alpha=0.0).siamese_clips_trained


def test_round_trip(tmp_path):
    config = SiaSamReaConfig(
        vision_config={"model_type": "vit", "patch_size": 8},
        tasks=["count", "open_ended"],
        id2label={0: "cat", 1: "dog", 2: "owl"},
        omega=0.25,
        frozen_image_encoder_modules=["embeddings"],
    )
    config.save_pretrained(tmp_path)
    loaded = SiaSamReaConfig.from_pretrained(tmp_path)
    assert loaded.to_dict() == config.to_dict()
    assert loaded.vision_config.model_type == "vit" and loaded.vision_config.patch_size == 8
    assert loaded.text_config.model_type == "bert" and loaded.num_labels == 3 and loaded.id2label[2] == "owl"


def test_the_default_is_clipberts_resnet_and_the_papers_numbers():
    config = SiaSamReaConfig()
    assert config.vision_config.downsample_in_bottleneck
    assert (config.num_clips, config.alpha, config.omega) == (9, 1.0, 0.5)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("pytorch_model.bin", pickle.dumps({"weight": os.system})),
        ("model.safetensors.index.json", b'{"metadata": {}, "weight_map": {"a": "../../../etc/passwd"}}'),
        ("model.safetensors.index.json", b"[]"),
        ("model.safetensors.index.json", b'{"metadata": {}, "weight_map": {"a": null}}'),
        ("model.safetensors.index.json", b'{"metadata": null, "weight_map": {"a": "b.safetensors"}}'),
        ("config.json", b"null"),
        ("adapter_config.json", b'{"peft_type": "LORA", "base_model_name_or_path": null}'),
    ],
)
def test_hostile_files_get_a_sentence(tmp_path, tiny_config, name, content):
    SiaSamReaForVideoQuestionAnswering(tiny_config()).save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / name).write_bytes(content)
    named = tmp_path / name if name.endswith((".index.json", "config.json")) and "adapter" not in name else tmp_path
    with pytest.raises((ValueError, OSError), match=str(named)):
        SiaSamReaForVideoQuestionAnswering.from_pretrained(tmp_path)
