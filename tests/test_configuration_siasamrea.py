"""The configuration: what it refuses, and that it comes back from a folder as it went."""

import json
import re

import pytest
from huggingface_hub.errors import StrictDataclassError

from modeling_siasamrea import SiaSamReaConfig, SiaSamReaForVideoQuestionAnswering


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"omega": 1.5}, r"omega .* must lie in \[0, 1\]; got 1.5"),
        ({"alpha": -1.0}, "alpha.* must be 0 or more; got -1.0"),
        ({"num_clips": 1}, "at least 2 clips.*got num_clips=1.*alpha=0"),
        ({"num_clips": 0, "alpha": 0}, "num_clips must be 1 or more; got 0"),
        ({"tasks": ["captioning"]}, r"tasks must be among .*got \['captioning'\]"),
        ({"tasks": ["count", "count"]}, "each once"),
        ({"affinity_temperature": 0.0}, "affinity_temperature must be above 0"),
        ({"siamese_chunk_size": 0}, "siamese_chunk_size must be 1 or more"),
        ({"pixel_random_sampling_size": 0}, "pixel_random_sampling_size must be 1 or more"),
        ({"alpha": NAN}, "alpha must be a finite number; got nan"),
        ({"omega": NAN}, "omega must be a finite number; got nan"),
        ({"affinity_temperature": INF}, "affinity_temperature must be a finite number; got inf"),
        ({"text_config": {"hidden_dropout_prob": NAN}}, "hidden_dropout_prob of text_config must be a finite number"),
        ({"vision_config": {"model_type": "vit", "layer_norm_eps": INF}}, "layer_norm_eps of vision_config"),
        ({"id2label": {0: "cat", 2: "dog"}}, r"keys of id2label must be 0 to 1.*got \[0, 2\]"),
        ({"id2label": {0: "cat", 1: "cat"}}, "id2label has the answer 'cat' more than once"),
        ({"id2label": {0: "cat", 1: "dog"}, "label2id": {"cat": 1, "dog": 0}}, "label2id must be id2label the other"),
        ({"id2label": {0: "cat", 1: "dog"}, "num_labels": 3}, "num_labels is 3, but id2label has 2 answers"),
        ({"id2label": ["cat", "dog"]}, "id2label must be a dictionary such as"),
        ({"id2label": {"0": "cat", "one": "dog"}}, "id2label must be a dictionary such as"),
        ({"id2label": {0: "cat", 1: NAN}}, "answers of id2label must be texts that are not blank; got nan"),
        ({"id2label": {0: " "}}, "answers of id2label must be texts that are not blank; got ' '"),
        ({"num_labels": 0}, "num_labels must be a whole number from 1; got 0"),
        ({"num_labels": -3}, "num_labels must be a whole number from 1; got -3"),
        ({"num_labels": "5"}, "num_labels must be a whole number from 1; got '5'"),
        ({"alpha": 10**400}, "alpha must be a finite number; got 1000"),
        ({"text_config": {"hidden_size": 0}}, "hidden_size of text_config must be 1 or more; got 0"),
        ({"text_config": {"hidden_dropout_prob": -0.1}}, "hidden_dropout_prob of text_config must be 0 or more"),
        (
            {"vision_config": {"hidden_sizes": [8, -8, 8, 8]}},
            "hidden_sizes of vision_config must be 1 or more; got -8",
        ),
        ({"text_config": {"hidden_act": "gellu"}}, "hidden_act of text_config is 'gellu'.*Did you mean 'gelu'"),
        ({"text_config": {"model_type": "gpt2"}}, "must be of BERT's architecture; a 'gpt2' model"),
        ({"vision_config": {"layer_type": "wide"}}, "An encoder cannot be configured: .*layer_type=wide"),
        ({"affinity": "cosine"}, "affinity must be one of 'knowledge', 'average'; got 'cosine'"),
        ({"alpha": "1"}, "alpha must be a number; got '1'"),
        ({"alpha": True}, "alpha must be a number; got True"),
        ({"num_clips": 2.5}, "num_clips must be a whole number; got 2.5"),
        ({"freeze_batch_norm": "no"}, "freeze_batch_norm must be True or False; got 'no'"),
        ({"tasks": "open_ended"}, "tasks must be a list of texts; got 'open_ended'"),
        ({"vision_config": "resnet"}, "vision_config must be a configuration or a dictionary of its fields"),
    ],
)
def test_bad_fields_get_a_sentence(fields, sentence):
    with pytest.raises(ValueError, match=sentence):
        SiaSamReaConfig(**fields)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"alhpa": 0}, "no field 'alhpa'. Did you mean 'alpha'"),
        ({"clips": 3}, "no field 'clips'. Did you mean 'num_clips'"),
        ({"supervised": "all"}, "no field 'supervised'. Did you mean 'supervised_clips'"),
        ({"text_config": {"hiden_size": 32}}, "text_config has no field 'hiden_size'. Did you mean 'hidden_size'"),
        ({"vision_config": {"depth": [1, 1, 1, 1]}}, "vision_config has no field 'depth'. Did you mean 'depths'"),
    ],
)
def test_unknown_names_are_refused_with_the_nearest_right_one(fields, sentence):
    with pytest.raises(ValueError, match=sentence):
        SiaSamReaConfig(**fields)


def test_names_and_values_are_checked_wherever_they_come_in(tmp_path, tiny_config):
    config = tiny_config(id2label={0: "cat", 1: "dog"})
    with pytest.raises(ValueError, match="Did you mean 'omega'"):
        config.omgea = 0.3
    with pytest.raises(ValueError, match="alpha must be a finite number"):
        config.alpha = NAN
    SiaSamReaForVideoQuestionAnswering(config).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="Did you mean 'alpha'"):
        SiaSamReaConfig.from_pretrained(tmp_path, alhpa=0)
    with pytest.raises(ValueError, match="Did you mean 'alpha'"):
        SiaSamReaForVideoQuestionAnswering.from_pretrained(tmp_path, alhpa=0)
    for name, value in (
        ("tasks", ["captioning"]),
        ("affinity", "cosine"),
        ("id2label", {0: "cat", 5: "dog"}),
        ("num_labels", -2),
    ):
        with pytest.raises(ValueError, match=name):
            setattr(config, name, value)
        with pytest.raises(ValueError, match=name):
            SiaSamReaConfig.from_pretrained(tmp_path, **{name: value})
    with pytest.raises(ValueError, match="at least 2 clips"):
        SiaSamReaConfig.from_pretrained(tmp_path, num_clips=1)
    with pytest.raises(ValueError, match="Did you mean 'hidden_size'"):
        SiaSamReaConfig.from_pretrained(tmp_path, text_config={"hiden_size": 8})
    config.num_clips = 1
    with pytest.raises(ValueError, match="at least 2 clips"):
        SiaSamReaForVideoQuestionAnswering(config)
    # A vocabulary that is set later takes its ids along.
    assert SiaSamReaConfig.from_pretrained(tmp_path, id2label={0: "owl", 1: "cat"}).label2id == {"owl": 0, "cat": 1}


def test_what_transformers_writes_beside_the_fields_is_read(tmp_path, tiny_config):
    tiny_config().save_pretrained(tmp_path)
    content = json.loads((tmp_path / "config.json").read_text())
    content |= {"torch_dtype": "float32", "_name_or_path": "somewhere", "use_cache": True, "pad_token_id": 0}
    content["text_config"] |= {"gradient_checkpointing": False, "classifier_dropout": None}
    (tmp_path / "config.json").write_text(json.dumps(content))
    assert SiaSamReaConfig.from_pretrained(tmp_path, attn_implementation="eager").text_config.hidden_size == 32


@pytest.mark.parametrize("content", ["[1]", "null", "3", '"siasamrea"'])
def test_a_file_must_hold_an_object(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    for loads in (SiaSamReaConfig, SiaSamReaForVideoQuestionAnswering):
        with pytest.raises(ValueError, match=r"config\.json must be a JSON object of fields; it is"):
            loads.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("dtype", "advice"), [("flot32", "Did you mean 'float32'?"), ("nn", "Give one of float32,"), (7, "Give one of")]
)
def test_a_dtype_must_exist(tmp_path, tiny_config, dtype, advice):
    sentence = re.escape(f"There is no dtype {dtype!r}. {advice}")
    with pytest.raises(ValueError, match=sentence):
        tiny_config(dtype=dtype)
    SiaSamReaForVideoQuestionAnswering(tiny_config()).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=sentence):
        SiaSamReaForVideoQuestionAnswering.from_pretrained(tmp_path, dtype=dtype)
    settings = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(settings | {"dtype": dtype}))
    with pytest.raises(ValueError, match=sentence):
        SiaSamReaForVideoQuestionAnswering.from_pretrained(tmp_path)


@pytest.mark.parametrize("kept", [0, 5, 20_000])
def test_weights_that_are_not_whole_get_a_sentence(tmp_path, tiny_config, kept):
    SiaSamReaForVideoQuestionAnswering(tiny_config()).save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:kept])
    with pytest.raises(ValueError, match=f"The weights of {tmp_path} are damaged or not whole"):
        SiaSamReaForVideoQuestionAnswering.from_pretrained(tmp_path)


def test_a_type_error_is_also_what_strict_configurations_raise():
    with pytest.raises(StrictDataclassError):
        SiaSamReaConfig(affinity="cosine")


def test_the_other_half_of_a_vocabulary_is_enough():
    assert SiaSamReaConfig(label2id={"dog": 1, "cat": 0}).id2label == {0: "cat", 1: "dog"}


def test_another_models_configuration_is_refused(tmp_path, tiny_config):
    tiny_config().save_pretrained(tmp_path)
    content = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(content | {"model_type": "bert"}))
    with pytest.raises(ValueError, match="configuration of a 'bert' model, not of a 'siasamrea' model"):
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
