"""The losses over a video-language model's answer tokens, against the same worked in full, on five families."""

import copy
import gc

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny_video_language_models import FAMILIES, tiny

from modeling_siasamrea.data.questions import VideoQuestion
from modeling_siasamrea.loss_siasamrea import siamese_loss
from modeling_siasamrea.siamese_reasoning import siamese_knowledge_generation, siamese_knowledge_reasoning
from modeling_siasamrea.video_language import VideoLanguageProcessor, VideoLanguageSettings, modeling
from modeling_siasamrea.video_language.data import VideoLanguageDataCollator
from modeling_siasamrea.video_language.modeling import answer_log_likelihoods, reason_over_clips, run_clip


QUESTIONS = (
    VideoQuestion("v", "what colour is it ?", "red", "open_ended", "1"),
    VideoQuestion("v", "what is it ?", "a blue cat", "open_ended", "2"),
)


def clips_of_noise(num_clips: int = 3, frames: int = 4, seed: int = 0) -> list:
    """Clips as `read_clips` gives them; their times differ in length, so that Qwen3-VL's prompts do too."""
    generator = torch.Generator().manual_seed(seed)
    return [
        (
            torch.randint(256, (frames, 3, 40, 60), dtype=torch.uint8, generator=generator),
            [8.0 * 9**clip + frame for frame in range(frames)],
            1000.0,
        )
        for clip in range(num_clips)
    ]


def batch_of(processor, clips, questions=QUESTIONS) -> dict:
    item = {"rows": tuple(range(len(questions))), "questions": questions, "clips": clips, "training": True}
    (part,) = VideoLanguageDataCollator(processor)([item])["parts"]
    return part


def reason(model, part, settings, **kwargs):
    return reason_over_clips(
        model, model.get_output_embeddings(), part["clips"], part["answer_ids"], settings, **kwargs
    )


def worked_in_full(model, processor, clips, settings) -> dict:
    """Everything from complete logits and hidden states, one question and one clip a pass, P of all clips kept."""
    losses, siamese, soft_labels, affinities = [], [], [], []
    for question in QUESTIONS:
        answer = processor.prompt_and_answer(processor.question_text(question), question.answer)[1]
        ids = processor.tokenizer(answer)["input_ids"]
        scores, features = [], []
        for clip in clips:
            inputs = processor([processor.question_text(question)], [clip], [question.answer])
            assert inputs["input_ids"][0, -len(ids) :].tolist() == ids
            output = model(**inputs, output_hidden_states=True)
            scores.append(output.logits[0, -len(ids) - 1 : -1])  # (tokens, vocabulary)
            features.append(output.hidden_states[-1][0, -len(ids) - 1])
        log_p = torch.stack(scores, dim=1).float().log_softmax(dim=-1)  # (tokens, clips, vocabulary)
        affinity = siamese_knowledge_generation(torch.stack(features).detach(), settings.affinity_temperature)
        even = torch.full((len(clips),), 1 / len(clips))
        soft = siamese_knowledge_reasoning(log_p.exp().detach(), affinity, even, even, settings.omega)
        losses.append(-log_p[torch.arange(len(ids)), 0, ids].mean())
        siamese.append(-(soft * log_p[:, 0]).sum(dim=-1).mean())
        soft_labels.append(soft)
        affinities.append(affinity)
    return {
        "loss": torch.stack(losses).mean(),
        "loss_siamese": torch.stack(siamese).mean(),
        "soft_labels": torch.cat(soft_labels),
        "affinity": torch.stack(affinities),
    }


@pytest.mark.parametrize("family", FAMILIES)
def test_losses_and_gradients_equal_those_worked_in_full(family):
    model, processor = tiny(family)
    settings = VideoLanguageSettings(num_clips=3, omega=0.3, affinity_temperature=1e-3)  # clips of noise are alike
    processor = VideoLanguageProcessor(processor, settings)
    clips = clips_of_noise()
    output = reason(model, batch_of(processor, clips), settings)
    expected = worked_in_full(model, processor, clips, settings)
    torch.testing.assert_close(output.soft_labels.sum(dim=1), torch.ones(len(output.labels)))
    torch.testing.assert_close(output.affinity.sum(dim=2), torch.ones(2, 3))
    torch.testing.assert_close(output.affinity, expected["affinity"], rtol=1e-3, atol=1e-3)
    assert (output.affinity[0] - output.affinity[1]).abs().max() > 0.005  # so that it matters whose is whose
    torch.testing.assert_close(output.soft_labels, expected["soft_labels"], rtol=1e-5, atol=1e-7)
    for name in ("loss", "loss_siamese"):
        torch.testing.assert_close(getattr(output, name), expected[name], rtol=1e-4, atol=1e-5)
    assert not output.soft_labels.requires_grad
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    total = (output.loss + 0.7 * output.loss_siamese, expected["loss"] + 0.7 * expected["loss_siamese"])
    of_both = [torch.autograd.grad(loss, parameters, allow_unused=True) for loss in total]
    assert any(gradient is not None and gradient.abs().max() > 1e-3 for gradient in of_both[0])
    for gradient, other in zip(*of_both):
        assert (gradient is None) == (other is None)
        if gradient is not None:
            torch.testing.assert_close(gradient, other, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_kept_logits_equal_full_logits(family):
    model, processor = tiny(family)
    part = batch_of(VideoLanguageProcessor(processor, VideoLanguageSettings()), clips_of_noise(1))
    with torch.no_grad():
        kept, states = run_clip(model, model.get_output_embeddings(), part["clips"][0], 7)
        full = model(**part["clips"][0]).logits
    torch.testing.assert_close(kept, full[:, -7:])
    torch.testing.assert_close(model.get_output_embeddings()(states), kept)


@pytest.mark.parametrize("family", FAMILIES)
def test_copies_of_the_anchor_teach_it_its_own_prediction(family):
    model, processor = tiny(family)
    settings = VideoLanguageSettings(num_clips=4)
    part = batch_of(VideoLanguageProcessor(processor, settings), clips_of_noise(1) * 4)
    output = reason(model, part, settings)
    torch.testing.assert_close(output.soft_labels, output.logits.softmax(dim=1))
    assert (output.clip_predictions == output.clip_predictions[:, :1]).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_siamese_clips_have_no_gradient_unless_they_are_supervised(family):
    model, processor = tiny(family)
    for supervised, expected in (("anchor", [True, False, False]), ("all", [True, True, True])):
        settings = VideoLanguageSettings(num_clips=3, supervised_clips=supervised)
        part = batch_of(VideoLanguageProcessor(processor, settings), clips_of_noise())
        for clip in part["clips"]:
            name = next(name for name in clip if name.startswith("pixel_values"))
            clip[name].requires_grad_()
        output = reason(model, part, settings)
        (output.loss + output.loss_siamese).backward()
        pixels = [next(value for name, value in clip.items() if name.startswith("pixel_v")) for clip in part["clips"]]
        assert [value.grad is not None and bool(value.grad.abs().max() > 0) for value in pixels] == expected


@pytest.mark.parametrize("family", FAMILIES)
def test_padding_and_order_change_nothing(family):
    model, processor = tiny(family)
    settings = VideoLanguageSettings(num_clips=3)
    processor = VideoLanguageProcessor(processor, settings)
    clips = clips_of_noise()
    together = reason(model, batch_of(processor, clips), settings)
    reversed_ = reason(model, batch_of(processor, clips, QUESTIONS[::-1]), settings)
    alone = [reason(model, batch_of(processor, clips, (question,)), settings) for question in QUESTIONS]
    for name in ("loss", "loss_siamese"):
        torch.testing.assert_close(getattr(reversed_, name), getattr(together, name), rtol=1e-4, atol=1e-5)
        mean = (getattr(alone[0], name) + getattr(alone[1], name)) / 2
        torch.testing.assert_close(mean, getattr(together, name), rtol=1e-4, atol=1e-5)
    soft_labels = torch.cat([output.soft_labels for output in alone])
    torch.testing.assert_close(soft_labels, together.soft_labels, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_lora_layers_take_part(family):
    model, processor = tiny(family)
    settings = VideoLanguageSettings(num_clips=3)
    part = batch_of(VideoLanguageProcessor(processor, settings), clips_of_noise())
    plain = reason(model, part, settings)
    config = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    adapted = get_peft_model(copy.deepcopy(model), config).eval()
    output = reason(adapted, part, settings)
    assert not torch.allclose(output.loss, plain.loss) and not torch.allclose(output.soft_labels, plain.soft_labels)
    output.loss.backward()
    assert all(
        parameter.grad is not None
        for name, parameter in adapted.named_parameters()
        if "language" in name and "lora" in name
    )
    with adapted.disable_adapter():
        torch.testing.assert_close(reason(adapted, part, settings).loss, plain.loss)


def test_baselines():
    model, processor = tiny("qwen3_vl")
    part = batch_of(VideoLanguageProcessor(processor, VideoLanguageSettings()), clips_of_noise())
    anchor_alone = reason(model, part | {"clips": part["clips"][:1]}, VideoLanguageSettings(alpha=0))
    assert anchor_alone.loss_siamese is None and anchor_alone.soft_labels is None
    each = [reason(model, part | {"clips": [clip]}, VideoLanguageSettings(alpha=0)).loss for clip in part["clips"]]
    every = reason(model, part, VideoLanguageSettings(alpha=0, supervised_clips="all"))
    torch.testing.assert_close(every.loss, torch.stack(each).mean())
    average = reason(model, part, VideoLanguageSettings(num_clips=3, affinity="average"))
    torch.testing.assert_close(average.affinity, (1 - torch.eye(3)).expand(2, 3, 3) / 2)
    one_hot = reason(model, part, VideoLanguageSettings(num_clips=3, omega=0.0, reasoning_weights="anchor"))
    torch.testing.assert_close(one_hot.soft_labels, one_hot.logits.softmax(dim=1))
    with pytest.raises(ValueError, match="num_clips=4, but the batch has 3 clips"):
        reason(model, part, VideoLanguageSettings())


def test_smoothed_labels():
    model, processor = tiny("qwen3_vl")
    part = batch_of(VideoLanguageProcessor(processor, VideoLanguageSettings()), clips_of_noise(1), QUESTIONS[:1])
    settings = VideoLanguageSettings(alpha=0)
    log_p = reason(model, part, settings).logits.log_softmax(dim=1)
    smoothed = reason(model, part, settings, label_smoothing=0.2).loss
    right = log_p.gather(1, part["answer_ids"][part["answer_ids"] != -100][:, None])
    torch.testing.assert_close(smoothed, -(0.8 * right.mean() + 0.2 * log_p.mean()))


def test_memory_of_the_soft_label_does_not_grow_with_the_clips(monkeypatch):
    model, processor = tiny("qwen3_vl")
    vocabulary = model.get_output_embeddings().out_features
    rows = []

    def count_rows(*args):
        """When all clips have been run and Q is whole: rows of all tensors as wide as the vocabulary."""
        alive = [thing for thing in gc.get_objects() if type(thing) is torch.Tensor and thing.ndim > 1]
        rows.append(sum(thing.numel() // vocabulary for thing in alive if thing.shape[-1] == vocabulary))
        return siamese_loss(*args)

    monkeypatch.setattr(modeling, "siamese_loss", count_rows)
    for num_clips in (2, 8):
        settings = VideoLanguageSettings(num_clips=num_clips)
        reason(model, batch_of(VideoLanguageProcessor(processor, settings), clips_of_noise(num_clips)), settings)
    assert 0 < rows[1] <= rows[0]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_likelihood_of_an_answer_is_the_product_over_its_tokens(family):
    model, processor = tiny(family)
    processor = VideoLanguageProcessor(processor, VideoLanguageSettings())
    (clip,) = clips_of_noise(1)
    text, answers = "what is it ?", ["cat", "a longer one"]
    inputs = processor([text] * 2, [clip] * 2, answers)
    log_p, lengths = answer_log_likelihoods(
        model, model.get_output_embeddings(), inputs, processor.answer_ids(inputs, [text] * 2, answers)
    )
    for row, answer in enumerate(answers):
        inputs = processor([text], [clip], [answer])
        ids = processor.tokenizer(processor.prompt_and_answer(text, answer)[1])["input_ids"]
        with torch.no_grad():
            full = model(**inputs).logits[0].log_softmax(dim=-1)
        expected = sum(full[len(full) - len(ids) + place - 1, token] for place, token in enumerate(ids))
        torch.testing.assert_close(log_p[row], expected, rtol=1e-4, atol=1e-4)
        assert lengths[row] == len(ids)
