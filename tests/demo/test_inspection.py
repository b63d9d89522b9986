"""The look inside: which frames, whose answers, and equations 1 to 5 as training computes them."""

import dataclasses
import re

import numpy as np
import pytest
import torch

from modeling_siasamrea import SiaSamReaForVideoQuestionAnswering, SiaSamReaProcessor, SiaSamReaVideoProcessor
from modeling_siasamrea.demo.drawing import draw
from modeling_siasamrea.demo.inspection import anchor_clip, inspect_video, video_film
from modeling_siasamrea.processors.video_decoding import VideoDecodingError


TASKS = ["open_ended", "multiple_choice", "count"]
VOCABULARY = {0: "cat", 1: "dog", 2: "red", 3: "blue"}


@pytest.fixture
def make(tiny_config, tokenizer):
    """A model of random weights with all heads, and its processor; keyword arguments override its configuration."""

    def make(**fields) -> tuple[SiaSamReaForVideoQuestionAnswering, SiaSamReaProcessor]:
        torch.manual_seed(0)
        model = SiaSamReaForVideoQuestionAnswering(tiny_config(tasks=TASKS, id2label=VOCABULARY, **fields)).eval()
        with torch.no_grad():  # large weights, so that the clips of a video answer differently
            for weights in model.parameters():
                weights.mul_(12 if weights.ndim > 1 else 1)
        if model.config.alpha > 0:
            torch.nn.init.normal_(model.siamese_reasoning.w1_logits)
            torch.nn.init.normal_(model.siamese_reasoning.w2_logits)
        video_processor = SiaSamReaVideoProcessor(size={"longest_edge": 64}, frames_per_clip=4)
        return model, SiaSamReaProcessor(video_processor, tokenizer)

    return make


@pytest.fixture
def video(write_video, tmp_path):
    return write_video(tmp_path / "video.mp4")  # 40 frames, 8 a second


def test_the_soft_label_is_what_training_computes(make, video):
    model, processor = make()
    (seen,) = inspect_video(model, processor, video, ["what is it ?"], task="open_ended")
    inputs = processor(videos=video, text="what is it ?", num_eval_clips=3, return_tensors="pt")
    with torch.no_grad():
        trained = model.train()(**inputs, task="open_ended")
    np.testing.assert_allclose(seen.soft_label, trained.soft_labels[0], atol=1e-4)
    np.testing.assert_allclose(seen.affinity, trained.affinity[0], atol=1e-4)
    np.testing.assert_allclose(seen.scores, trained.clip_logits[0].softmax(dim=-1), atol=1e-4)
    assert np.ptp(seen.scores, axis=0).max() > 0.01 and np.ptp(seen.affinity[0, 1:]) > 1e-3
    # Equations 3 to 5 once more, by hand.
    w1, w2 = (weights.detach().numpy() for weights in model.siamese_reasoning.weights(torch.device("cpu")))
    by_hand = 0.5 * w1 @ seen.affinity @ seen.scores + 0.5 * w2 @ seen.scores
    np.testing.assert_allclose(seen.soft_label, by_hand, atol=1e-4)


def test_the_anchor_is_the_one_that_answers(make, video):
    model, processor = make()
    (seen,) = inspect_video(model, processor, video, ["what is it ?"], task="open_ended", start=1.0, end=4.0)
    inputs = processor(videos=video, text="what is it ?", start=1.0, end=4.0, return_tensors="pt")
    with torch.no_grad():
        probabilities = model(**inputs, task="open_ended").logits.softmax(dim=1)[0]
    np.testing.assert_allclose(seen.scores[0], probabilities, atol=1e-4)
    assert seen.anchor_answer == VOCABULARY[int(probabilities.argmax())]
    frames, times = anchor_clip(processor.video_processor, video, 1.0, 4.0)
    np.testing.assert_array_equal(frames, seen.frames[0])
    np.testing.assert_array_equal(times, seen.times[0])


@pytest.mark.parametrize(("start", "end"), [(None, None), (1.0, 4.0)])
def test_pictures_show_the_frames_of_their_times(make, video, start, end):
    model, processor = make()
    (seen,) = inspect_video(model, processor, video, ["what ?"], task="count", start=start, end=end)
    assert seen.frames.shape[:2] == seen.times.shape == (3, 4)
    brightness = 8 + 6 * seen.times * 8
    np.testing.assert_allclose(seen.frames.mean(axis=(2, 3, 4)), brightness, atol=3)
    assert seen.times.min() >= (start or 0) and seen.times.max() < (end or 5)
    assert len(np.unique(seen.times[:, 0])) == 3


def test_other_starts_are_distinct_and_never_the_anchors(make, video):
    model, processor = make()
    (seen,) = inspect_video(model, processor, video, ["what is it ?"], task="open_ended", num_starts=4)
    assert len(set(seen.start_times)) == len(seen.start_scores) == 4
    assert seen.times[0, 0] not in seen.start_times
    answers = [VOCABULARY[int(scores.argmax())] for scores in seen.start_scores]
    assert seen.agreeing_starts == answers.count(seen.anchor_answer)


def test_a_video_of_one_frame_has_one_way_to_be_seen(make, write_video, tmp_path):
    model, processor = make()
    video = write_video(tmp_path / "still.gif", frames=1, codec="gif")
    (seen,) = inspect_video(model, processor, video, ["what is it ?"], task="open_ended")
    assert len(seen.start_times) == 0 and len(seen.scores) == 3
    assert "in one way only" in draw.inspections([seen])


def test_affinity_is_drawn_on_a_fixed_scale(make, video):
    """Half of a per mille is not drawn as the difference between nothing and everything."""
    model, processor = make()
    (seen,) = inspect_video(model, processor, video, ["what is it ?"], task="open_ended")
    affinity = np.array([[1, 0.4999, 0.5001], [0.5, 1, 0.5], [0.9, 0.1, 1]])
    shares = re.findall(r"--strong\) (\d+)%", draw.inspections([dataclasses.replace(seen, affinity=affinity)]))
    assert shares == ["0", "35", "35", "35", "0", "35", "63", "7", "0"]


def test_candidates_and_counts(make, video):
    model, processor = make()
    questions = ["what is it ?", "what is red ?"]
    seen = inspect_video(model, processor, video, questions, candidates=["cat", "red dog"], task="multiple_choice")
    assert [one.question for one in seen] == questions
    assert seen[0].classes == ["cat", "red dog"] and seen[0].scores.shape == (3, 2)
    np.testing.assert_allclose(seen[1].soft_label.sum(), 1, atol=1e-4)
    assert seen[1].anchor_answer == seen[1].classes[int(seen[1].scores[0].argmax())]
    (count,) = inspect_video(model, processor, video, ["how many ?"], task="count")
    assert count.classes == [] and count.scores.shape == (3, 1)
    assert count.anchor_answer == max(round(float(count.scores[0, 0])), 0)


def test_nothing_is_left_to_chance(make, video):
    text = {"model_type": "bert", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    text |= {"intermediate_size": 48, "vocab_size": 200, "max_position_embeddings": 64, "hidden_dropout_prob": 0.5}
    model, processor = make(text_config=text)
    looks = []
    for _ in range(2):
        (seen,) = inspect_video(model.train(), processor, video, ["what ?"], task="open_ended")
        looks.append(seen.scores)
    np.testing.assert_array_equal(*looks)


@pytest.mark.parametrize(("num_clips", "affinity"), [(3, "knowledge"), (1, "average")])
def test_a_checkpoint_without_siamese_loss_gets_uniform_weights(make, video, num_clips, affinity):
    model, processor = make(alpha=0, num_clips=num_clips, affinity=affinity)
    (seen,) = inspect_video(model, processor, video, ["what is it ?"], task="open_ended")
    clips = max(2, num_clips)
    even = np.full(clips, 1 / clips)
    by_hand = 0.5 * even @ seen.affinity @ seen.scores + 0.5 * even @ seen.scores
    np.testing.assert_allclose(seen.soft_label, by_hand, atol=1e-4)
    assert model.config.num_clips == num_clips


def test_a_broken_video_is_named(make, tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    with pytest.raises(VideoDecodingError, match=r"broken\.mp4"):
        inspect_video(*make(), tmp_path / "broken.mp4", ["what ?"], task="count")


def test_a_film_goes_from_the_first_frame_to_the_last(video):
    film, seconds = video_film(video, 5)
    assert seconds == pytest.approx(5.0)
    np.testing.assert_allclose(film.mean(axis=(1, 2, 3)), 8 + 6 * np.array([0, 10, 20, 29, 39]), atol=3)
