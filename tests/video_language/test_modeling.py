"""The losses over a video-language model's answer tokens, against the same worked in full, on each family."""

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny_video_language_models import FAMILIES, ODD_FAMILIES, tiny

from modeling_siasamrea.data.questions import VideoQuestion
from modeling_siasamrea.siamese_reasoning import siamese_knowledge_generation, siamese_knowledge_reasoning
from modeling_siasamrea.video_language import VideoLanguageProcessor, VideoLanguageSettings
from modeling_siasamrea.video_language.data import VideoLanguageDataCollator
from modeling_siasamrea.video_language.modeling import reason_over_clips


QUESTIONS = (
    VideoQuestion("v", "what colour is it ?", "red", "open_ended", "1"),
    VideoQuestion("v", "what is it ?", "a blue cat", "open_ended", "2"),
)


def clips_of_noise(num_clips: int = 3, frames: int = 4) -> list:
    """Clips as `read_clips` gives them; their times differ in length, so that Qwen3-VL's prompts do too."""
    generator = torch.Generator().manual_seed(0)
    return [
        (
            torch.randint(256, (frames, 3, 40, 60), dtype=torch.uint8, generator=generator),
            [8.0 * 9**clip + frame for frame in range(frames)],
            1000.0,
        )
        for clip in range(num_clips)
    ]


def batch_of(processor, clips, questions=QUESTIONS, share=True) -> dict:
    item = {"rows": tuple(range(len(questions))), "questions": questions, "clips": clips, "training": True}
    (part,) = VideoLanguageDataCollator(processor, share)([item])["parts"]
    return part


def reason(model, part, settings, **kwargs):
    return reason_over_clips(model, part["clips"], part["labels"], settings, **kwargs)


def forward_with_states(model, inputs) -> tuple:
    """The model's output, and what its output layer is given."""
    states = []
    handle = model.get_output_embeddings().register_forward_pre_hook(lambda module, given: states.append(given[0]))
    output = model(**inputs)
    handle.remove()
    return output, states[0]


def worked_in_full(model, processor, clips, settings) -> dict:
    """Everything from complete logits and hidden states, one question and one clip per pass, P of all clips kept."""
    losses, siamese, soft_labels, affinities = [], [], [], []
    for question in QUESTIONS:
        text = processor.question_text(question)
        answer = processor.chat(text, question.answer).removeprefix(processor.chat(text))
        ids = processor.tokenizer(answer, add_special_tokens=False)["input_ids"]
        scores, features = [], []
        for clip in clips:
            inputs = processor([processor.question_text(question)], [clip], [question.answer])
            assert inputs["input_ids"][0, -len(ids) :].tolist() == ids
            output, states = forward_with_states(model, inputs)
            scores.append(output.logits[0, -len(ids) - 1 : -1])  # (tokens, vocabulary)
            features.append(states[0, -len(ids) - 1])
        log_p = torch.stack(scores, dim=1).float().log_softmax(dim=-1)  # (tokens, clips, vocabulary)
        affinity = siamese_knowledge_generation(torch.stack(features).detach())
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


@pytest.mark.parametrize("family", [*FAMILIES, *ODD_FAMILIES])
def test_losses_and_gradients_equal_those_worked_in_full(family):
    model, processor = tiny(family)
    number = 2 if family in ODD_FAMILIES else 3
    settings = VideoLanguageSettings(num_clips=number, omega=0.3)
    processor = VideoLanguageProcessor(processor, settings)
    clips = clips_of_noise(number, frames=number)
    expected = worked_in_full(model, processor, clips, settings)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    total = expected["loss"] + 0.7 * expected["loss_siamese"]
    gradients = torch.autograd.grad(total, parameters, allow_unused=True)
    assert any(gradient is not None and gradient.abs().max() > 1e-3 for gradient in gradients)
    for share in (True, False):  # the video's beginning read once for both questions, and each row as a whole
        part = batch_of(processor, clips, share=share)
        assert ("tails" in part["clips"][0]) == share
        output = reason(model, part, settings)
        assert not output.soft_labels.requires_grad
        torch.testing.assert_close(output.affinity, expected["affinity"], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(output.soft_labels, expected["soft_labels"], rtol=1e-4, atol=1e-7)
        for name in ("loss", "loss_siamese"):
            torch.testing.assert_close(getattr(output, name), expected[name], rtol=1e-4, atol=1e-5)
        ours = torch.autograd.grad(output.loss + 0.7 * output.loss_siamese, parameters, allow_unused=True)
        for gradient, other in zip(ours, gradients):
            if other is None or gradient is None:  # what only the video's last positions use has no effect
                assert not any(one is not None and one.any() for one in (gradient, other))
            else:
                torch.testing.assert_close(gradient, other, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("share", [True, False])
def test_siamese_clips_have_no_gradient_unless_they_are_supervised(share):
    model, processor = tiny("qwen3_vl")
    for supervised, expected in (("anchor", [True, False, False]), ("all", [True, True, True])):
        settings = VideoLanguageSettings(num_clips=3, supervised_clips=supervised)
        part = batch_of(VideoLanguageProcessor(processor, settings), clips_of_noise(), share=share)
        pixels = [clip["pixel_values_videos"].requires_grad_() for clip in part["clips"]]
        output = reason(model, part, settings)
        (output.loss + output.loss_siamese).backward()
        assert [value.grad is not None and bool(value.grad.abs().max() > 0) for value in pixels] == expected


@pytest.mark.parametrize("family, share", [("qwen3_vl", True), ("smolvlm", False)])
def test_q_is_that_of_teachers_that_see_more_and_only_the_student_is_trained(family, share):
    model, processor = tiny(family)
    teacher = {"frames_per_clip": 2, "teacher_frames": 6, "reasoning_weights": "siamese"}
    settings = VideoLanguageSettings(num_clips=3, omega=0.3, **teacher)
    student, *teachers = [*clips_of_noise(1, 2), *clips_of_noise(2, 6)]
    processor = VideoLanguageProcessor(processor, settings)
    part = batch_of(processor, [student, *teachers], share=share)
    name = next(name for name in part["clips"][0] if name.startswith("pixel_values"))
    pixels = [clip[name].requires_grad_() for clip in part["clips"]]
    graphs = []
    handle = model.get_output_embeddings().register_forward_hook(
        lambda layer, given, output: graphs.append(output.requires_grad)
    )
    output = reason(model, part, settings)
    handle.remove()
    assert graphs[-1] and (share or graphs == [False, False, True])  # the teachers first, and none keeps a graph
    output.loss_siamese.backward()
    assert [value.grad is not None and bool(value.grad.any()) for value in pixels] == [True, False, False]

    alone = VideoLanguageSettings(alpha=0)
    p = [
        reason(model, batch_of(processor, [clip], share=share), alone).logits.float().softmax(dim=-1)
        for clip in (student, *teachers)
    ]
    near = output.affinity[:, 0, 1:][output.tokens.question]  # (tokens, teachers)
    q = sum((0.3 * near[:, place, None] + 0.35) * of_teacher for place, of_teacher in enumerate(p[1:]))
    torch.testing.assert_close(output.soft_labels, q, rtol=1e-4, atol=1e-6)
    expected = output.tokens.mean(-(q * p[0].log()).sum(dim=-1))
    torch.testing.assert_close(output.loss_siamese, expected, rtol=1e-4, atol=1e-5)


def test_lora_layers_take_part():
    model, processor = tiny("qwen3_vl")
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
    with pytest.raises(ValueError, match="num_clips=4; got 3"):
        reason(model, part, VideoLanguageSettings())


def test_smoothed_labels():
    model, processor = tiny("qwen3_vl")
    part = batch_of(VideoLanguageProcessor(processor, VideoLanguageSettings()), clips_of_noise(1), QUESTIONS[:1])
    settings = VideoLanguageSettings(alpha=0)
    log_p = reason(model, part, settings).logits.log_softmax(dim=1)
    smoothed = reason(model, part, settings, label_smoothing=0.2).loss
    right = log_p.gather(1, part["labels"][part["labels"] != -100][:, None])
    torch.testing.assert_close(smoothed, -(0.8 * right.mean() + 0.2 * log_p.mean()))
