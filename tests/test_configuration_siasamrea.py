"""The configuration: what it refuses, and that it comes back from a folder as it went."""

import pytest

from modeling_siasamrea import SiaSamReaConfig


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"omega": 1.5}, r"omega .* must lie in \[0, 1\]; got 1.5"),
        ({"alpha": -1.0}, "alpha.* must be 0 or more; got -1.0"),
        ({"num_clips": 1}, "at least 2 clips.*got num_clips=1.*alpha=0"),
        ({"tasks": ["captioning"]}, r"tasks must be among .*got \['captioning'\]"),
        ({"tasks": ["count", "count"]}, "each once"),
        ({"affinity_temperature": 0.0}, "affinity_temperature must be above 0"),
        ({"siamese_chunk_size": 0}, "siamese_chunk_size must be 1 or more"),
    ],
)
def test_bad_fields_get_a_sentence(fields, sentence):
    with pytest.raises(ValueError, match=sentence):
        SiaSamReaConfig(**fields)


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
