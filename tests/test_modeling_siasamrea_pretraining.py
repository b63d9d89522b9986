"""ClipBERT's pretraining: the heads, the sampling of pixels, and a checkpoint that fine-tuning starts from."""

import pytest
import torch
from torch import nn
from transformers import AutoModelForPreTraining

from modeling_siasamrea import SiaSamReaForPreTraining, SiaSamReaForVideoQuestionAnswering


@pytest.fixture
def model(tiny_config) -> SiaSamReaForPreTraining:
    torch.manual_seed(0)
    return SiaSamReaForPreTraining(tiny_config(tasks=[], pixel_random_sampling_size=2)).eval()


def batch() -> dict:
    generator = torch.Generator().manual_seed(1)
    labels = torch.full((2, 6), -100)
    labels[0, 2], labels[1, 3] = 7, 9
    return {
        "pixel_values_videos": torch.randn(2, 1, 1, 3, 128, 128, generator=generator),  # a grid of 2 x 2
        "input_ids": torch.randint(1, 200, (2, 6), generator=generator),
        "labels": labels,
        "matching_labels": torch.tensor([1, 0]),
    }


def test_losses_are_those_of_the_masked_words_and_of_the_match(model):
    outputs = model(**batch())
    words, matches = outputs.prediction_logits.log_softmax(-1), outputs.matching_logits.log_softmax(-1)
    torch.testing.assert_close(outputs.masked_words_loss, -(words[0, 2, 7] + words[1, 3, 9]) / 2)
    torch.testing.assert_close(outputs.matching_loss, -(matches[0, 1] + matches[1, 0]) / 2)
    torch.testing.assert_close(outputs.loss, outputs.masked_words_loss + outputs.matching_loss)


def test_a_batch_without_masked_words_has_no_such_loss(model):
    inputs = batch()
    assert model(**(inputs | {"labels": torch.full((2, 6), -100)})).masked_words_loss == 0


def test_random_pixels_are_seen_in_training_alone(model):
    seen = []
    model.model.text_model.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[1]))
    model(**batch())
    model.train()(**batch())
    assert seen == [6 + 4, 6 + 2]


def test_the_decoder_is_the_word_embeddings_also_after_loading(model, tmp_path):
    model.save_pretrained(tmp_path)
    loaded = AutoModelForPreTraining.from_pretrained(tmp_path)
    assert type(loaded) is SiaSamReaForPreTraining
    assert loaded.cls.predictions.decoder.weight is loaded.get_input_embeddings().weight
    torch.testing.assert_close(loaded(**batch()).loss, model(**batch()).loss)
    loaded.resize_token_embeddings(210)
    assert loaded(**batch()).prediction_logits.shape == (2, 6, 210)


def test_fine_tuning_starts_from_its_weights(model, tmp_path):
    model.save_pretrained(tmp_path)
    start = SiaSamReaForVideoQuestionAnswering.from_pretrained(tmp_path, tasks=["count"])
    for name, tensor in model.model.state_dict().items():
        assert torch.equal(start.model.state_dict()[name], tensor), name
    assert isinstance(start.heads["count"][-1], nn.Linear)


def test_pretraining_starts_from_a_model_that_answers(tiny_config, tmp_path, memory_as_it_was):
    SiaSamReaForVideoQuestionAnswering(tiny_config()).save_pretrained(tmp_path)
    model = SiaSamReaForPreTraining.from_pretrained(tmp_path)
    assert all(parameter.isfinite().all() for parameter in model.parameters())


def test_several_clips_are_refused(model):
    with pytest.raises(ValueError, match="one clip per video; got 2"):
        model(**(batch() | {"pixel_values_videos": torch.zeros(2, 2, 1, 3, 64, 64)}))
