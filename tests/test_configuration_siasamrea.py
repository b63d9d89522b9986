"""The configuration: what it refuses, and that it comes back from a folder as it went."""

import json

import pytest

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
    # A vocabulary that is set later takes its ids along.
    assert SiaSamReaConfig.from_pretrained(tmp_path, id2label={0: "owl", 1: "cat"}).label2id == {"owl": 0, "cat": 1}


def test_what_transformers_writes_beside_the_fields_is_read(tmp_path, tiny_config):
    tiny_config().save_pretrained(tmp_path)
    content = json.loads((tmp_path / "config.json").read_text())
    content |= {"torch_dtype": "float32", "_name_or_path": "somewhere", "use_cache": True, "pad_token_id": 0}
    content["text_config"] |= {"gradient_checkpointing": False, "classifier_dropout": None}
    (tmp_path / "config.json").write_text(json.dumps(content))
    assert SiaSamReaConfig.from_pretrained(tmp_path, attn_implementation="eager").text_config.hidden_size == 32


def test_a_word_that_is_no_option_is_refused():
    with pytest.raises(Exception, match="affinity"):
        SiaSamReaConfig(affinity="cosine")


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
