"""ClipBERT's weights carried over: against a reference written out by hand, and against official answers."""

import json
import pickle

import numpy as np
import pytest
import torch
from clipbert_weights import (
    COUNT,
    HEADS,
    HIDDEN,
    MULTIPLE_CHOICE,
    OPEN_ENDED,
    PRETRAINING,
    STAGES,
    WORDS,
    official_state,
)
from safetensors.torch import load_file, save_file
from torch.nn import functional as F
from transformers import AutoModelForVisualQuestionAnswering, pipeline

from modeling_siasamrea.commands.convert import main
from modeling_siasamrea.conversion.from_clipbert import (
    clipbert_video_processor,
    convert_clipbert_state,
    read_checkpoint,
)
from modeling_siasamrea.loss_siasamrea import ground_truth_loss
from modeling_siasamrea.modeling_siasamrea import SiaSamReaForPreTraining


def reference(state, pixels, words, stride_in_1x1=True, epsilon=1e-12, gelu="none", segment=0, channels=(2, 1, 0)):
    """ClipBERT's pooled output, `(rows, HIDDEN)`, of RGB frames `(rows, frames, 3, height, width)`."""

    def convolution(x, prefix, stride=1, padding=0):
        x = F.conv2d(x, state[f"{prefix}.weight"], stride=stride, padding=padding)
        norm = [state[f"{prefix}.norm.{name}"] for name in ("running_mean", "running_var", "weight", "bias")]
        return F.batch_norm(x, *norm, eps=1e-5)

    def linear(x, prefix):
        return F.linear(x, state[f"{prefix}.weight"], state[f"{prefix}.bias"])

    def layer_norm(x, prefix):
        return F.layer_norm(x, (HIDDEN,), state[f"{prefix}.weight"], state[f"{prefix}.bias"], eps=epsilon)

    x = pixels.flatten(0, 1)[:, list(channels)]
    backbone = "cnn.feature.backbone"
    x = F.max_pool2d(convolution(x, f"{backbone}.stem.conv1", 2, 3).relu(), 3, 2, 1)
    for stage, (_, layers) in STAGES.items():
        for layer in range(layers):
            prefix = f"{backbone}.res{stage}.{layer}"
            stride = 2 if layer == 0 and stage > 2 else 1
            shortcut = convolution(x, f"{prefix}.shortcut", stride) if layer == 0 else x
            first, second = (stride, 1) if stride_in_1x1 else (1, stride)
            x = convolution(x, f"{prefix}.conv1", first).relu()
            x = convolution(x, f"{prefix}.conv2", second, 1).relu()
            x = (convolution(x, f"{prefix}.conv3") + shortcut).relu()
    x = F.max_pool2d(F.conv2d(x, state["cnn.grid_encoder.0.weight"], padding=1), 2).relu()
    grid = x.unflatten(0, pixels.shape[:2]).mean(1).permute(0, 2, 3, 1)  # (rows, grid rows, grid columns, HIDDEN)
    visual, text = "transformer.bert.visual_embeddings", "transformer.bert.embeddings"
    grid = grid + state[f"{visual}.row_position_embeddings.weight"][: grid.shape[1], None]
    grid = grid + state[f"{visual}.col_position_embeddings.weight"][: grid.shape[2]]
    picture = layer_norm(grid.flatten(1, 2) + state[f"{visual}.token_type_embeddings.weight"], f"{visual}.LayerNorm")
    language = state[f"{text}.word_embeddings.weight"][words]
    language = language + state[f"{text}.position_embeddings.weight"][: words.shape[1]]
    language = layer_norm(language + state[f"{text}.token_type_embeddings.weight"][segment], f"{text}.LayerNorm")
    h = torch.cat([language, picture], 1)
    for layer in range(2):
        prefix = f"transformer.bert.encoder.layer.{layer}"
        query, key, value = (
            linear(h, f"{prefix}.attention.self.{name}").unflatten(2, (HEADS, -1)).transpose(1, 2)
            for name in ("query", "key", "value")
        )
        weights = (query @ key.transpose(2, 3) / (HIDDEN // HEADS) ** 0.5).softmax(-1)
        context = (weights @ value).transpose(1, 2).flatten(2)
        h = layer_norm(linear(context, f"{prefix}.attention.output.dense") + h, f"{prefix}.attention.output.LayerNorm")
        inner = F.gelu(linear(h, f"{prefix}.intermediate.dense"), approximate=gelu)
        h = layer_norm(linear(inner, f"{prefix}.output.dense") + h, f"{prefix}.output.LayerNorm")
    return linear(h[:, 0], "transformer.bert.pooler.dense").tanh()


def classify(state, pooled):
    hidden = F.linear(pooled, state["transformer.classifier.0.weight"], state["transformer.classifier.0.bias"])
    return F.linear(hidden.relu(), state["transformer.classifier.2.weight"], state["transformer.classifier.2.bias"])


@pytest.fixture(scope="module")
def inputs():
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randn(3, 2, 3, 128, 160, generator=generator)  # grid of 2 x 2
    return pixels, torch.randint(5, WORDS, (3, 6), generator=generator)


def ours(model, pixels, words, **kwargs):
    """The converted model sees BGR, which its video processor makes."""
    return model(pixels.flip(2)[:, None], words, **kwargs).logits


@torch.no_grad()
def test_open_ended_answers_are_those_of_the_reference(inputs):
    state = official_state(OPEN_ENDED)
    model, _ = convert_clipbert_state(state, num_attention_heads=HEADS)
    assert model.config.tasks == ["open_ended"] and model.config.num_labels == 7
    torch.testing.assert_close(ours(model, *inputs), classify(state, reference(state, *inputs)), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "trap",
    [
        {"stride_in_1x1": False},
        {"channels": (0, 1, 2)},
        {"epsilon": 1e-2},
        {"gelu": "tanh"},
        {"segment": 1},
    ],
)
@torch.no_grad()
def test_each_trap_would_show(inputs, trap):
    state = official_state(OPEN_ENDED)
    right, wrong = (classify(state, reference(state, *inputs, **kwargs)) for kwargs in ({}, trap))
    assert (right - wrong).abs().max() > 3e-4


@torch.no_grad()
def test_candidates_are_scored_as_one_sequence_each(inputs):
    state = official_state(MULTIPLE_CHOICE)
    model, _ = convert_clipbert_state(state, num_attention_heads=HEADS)
    pixels, words = inputs
    expected = classify(state, reference(state, pixels[:1].expand(3, -1, -1, -1, -1), words)).T
    torch.testing.assert_close(ours(model, pixels[:1], words[None]), expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_the_counting_head_has_elu_and_batch_norm(inputs):
    state = official_state(COUNT)
    model, _ = convert_clipbert_state(state, num_attention_heads=HEADS)
    part = {name.removeprefix("transformer.regressor."): tensor for name, tensor in state.items()}
    hidden = F.elu(F.linear(reference(state, *inputs), part["0.weight"], part["0.bias"]))
    norm = [part[f"2.{name}"] for name in ("running_mean", "running_var", "weight", "bias")]
    expected = F.linear(F.batch_norm(hidden, *norm, eps=1e-5), part["4.weight"], part["4.bias"])
    torch.testing.assert_close(ours(model, *inputs), expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_pretraining_heads_come_along(inputs):
    state = official_state(PRETRAINING)
    state["transformer.cls.predictions.decoder.weight"] = state["transformer.bert.embeddings.word_embeddings.weight"]
    model, _ = convert_clipbert_state(state, num_attention_heads=HEADS)
    assert isinstance(model, SiaSamReaForPreTraining) and model.config.tasks == []
    pixels, words = inputs
    expected = F.linear(
        reference(state, pixels, words),
        state["transformer.cls.seq_relationship.weight"],
        state["transformer.cls.seq_relationship.bias"],
    )
    outputs = model(pixels.flip(2)[:, None], words)
    torch.testing.assert_close(outputs.matching_logits, expected, atol=1e-4, rtol=1e-4)
    assert outputs.prediction_logits.shape == (3, 6, WORDS)
    assert model.cls.predictions.bias is model.cls.predictions.decoder.bias
    torch.testing.assert_close(model.cls.predictions.bias, state["transformer.cls.predictions.bias"])


def test_frames_are_prepared_as_clipbert_does():
    frame = np.random.default_rng(0).integers(0, 256, (30, 47, 3), dtype=np.uint8)
    processor = clipbert_video_processor(longest_edge=64)
    pixels = processor([frame[None]], do_sample_frames=False, return_tensors="pt")["pixel_values_videos"][0, 0, 0]
    # The recipe: longer side to 64, the other truncated (30 * 64 / 47 = 40.85), bilinear without antialiasing, zeros
    # below and to the right, then the mean, then BGR.
    picture = torch.from_numpy(frame).permute(2, 0, 1)[None].float()
    picture = F.interpolate(picture, (40, 64), mode="bilinear", align_corners=False)
    picture = F.pad(picture, (0, 0, 0, 24))[0] - torch.tensor([123.675, 116.28, 103.53])[:, None, None]
    torch.testing.assert_close(pixels, picture[[2, 1, 0]], atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            lambda state: state.pop("transformer.bert.pooler.dense.bias"),
            r"missing: model\.text_model\.pooler\.dense\.bias",
        ),
        (
            lambda state: state.update({"transformer.extra.weight": torch.zeros(1)}),
            r"unexpected: transformer\.extra\.weight",
        ),
        (
            lambda state: state.update({"cnn.grid_encoder.0.weight": torch.zeros(16, 9, 3, 3)}),
            r"grid_encoder\.weight: .*\[16, 9, 3, 3\].*\[16, 32, 3, 3\]",
        ),
        (lambda state: [state.pop(name) for name in list(state) if "classifier" in name], "none of ClipBERT's heads"),
        (lambda state: state.pop("transformer.bert.embeddings.word_embeddings.weight"), "widths .*word_embeddings"),
    ],
)
def test_weights_that_do_not_fit_are_named(change, sentence):
    state = official_state(OPEN_ENDED)
    change(state)
    with pytest.raises(ValueError, match=sentence):
        convert_clipbert_state(state, num_attention_heads=HEADS)


def test_files_are_read_as_tensors_alone(tmp_path):
    class Trap:
        def __reduce__(self):
            return (tmp_path.joinpath("executed").touch, ())

    (tmp_path / "trap.pt").write_bytes(pickle.dumps({"a": Trap()}))
    with pytest.raises(ValueError, match=r"trap\.pt cannot be read as tensors alone"):
        read_checkpoint(tmp_path / "trap.pt")
    assert not (tmp_path / "executed").exists()
    torch.save({"step": 3}, tmp_path / "number.pt")
    with pytest.raises(ValueError, match="must hold tensors by name"):
        read_checkpoint(tmp_path / "number.pt")
    with pytest.raises(ValueError, match=r"none\.pt does not exist"):
        read_checkpoint(tmp_path / "none.pt")


def test_the_command_writes_a_folder_that_the_pipeline_loads(tmp_path, tokenizer, write_video, capsys):
    state = {f"module.{name}": tensor for name, tensor in official_state(OPEN_ENDED).items()}
    torch.save(state, tmp_path / "clipbert.pt")
    save_file(state, tmp_path / "clipbert.safetensors")
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    (tmp_path / "bert.json").write_text(json.dumps({"num_attention_heads": HEADS}))
    (tmp_path / "ans2label.json").write_text(json.dumps({f"answer {label}": label for label in range(7)}))
    folder = tmp_path / "converted"
    command = [str(tmp_path / "clipbert.pt"), str(folder), "--config", str(tmp_path / "bert.json")]
    command += ["--tokenizer", str(tmp_path / "tokenizer"), "--answers", str(tmp_path / "ans2label.json")]
    main([*command, "--longest_edge", "64"])
    printed = capsys.readouterr().out
    assert "Weights left out on purpose (2): cnn.feature.roi_heads.box_head.fc1.weight" in printed
    assert "transformer.bert.visual_embeddings.position_embeddings.weight" in printed

    model = AutoModelForVisualQuestionAnswering.from_pretrained(folder)
    converted, _ = convert_clipbert_state(read_checkpoint(tmp_path / "clipbert.safetensors"), num_attention_heads=2)
    for (name, tensor), expected in zip(model.state_dict().items(), converted.state_dict().values()):
        assert torch.equal(tensor, expected), name
    answers = pipeline("video-question-answering", model=str(folder))(
        video=write_video(tmp_path / "v.mp4"), question="what is it ?"
    )
    assert answers[0]["answer"].startswith("answer ")


def test_the_command_ends_with_a_sentence(tmp_path):
    torch.save(official_state(OPEN_ENDED), tmp_path / "clipbert.pt")
    (tmp_path / "list.json").write_text("[1]")
    for arguments, sentence in (
        (["none.pt"], "does not exist"),
        (["clipbert.pt", "--answers", str(tmp_path / "none.json")], "none.json does not exist"),
        (["clipbert.pt", "--config", str(tmp_path / "list.json")], "list.json must be a JSON object"),
    ):
        with pytest.raises(ValueError, match=sentence):
            main([str(tmp_path / arguments[0]), str(tmp_path / "converted"), *arguments[1:]])


@pytest.fixture
def two_threads():
    """The order of sums depends on the threads, and one of the golden gradients lies on a max-pooling's switch."""
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("task", ["open_ended", "multiple_choice", "count"])
def test_official_answers_are_reproduced(shared, task, two_threads):
    golden = load_file(shared / "golden" / f"{task}_tensors.safetensors")
    official = json.loads((shared / "golden" / f"{task}_config.json").read_text())
    state = read_checkpoint(shared / "golden" / f"{task}_state_dict.safetensors")
    model, _ = convert_clipbert_state(state, official["bert"])
    model.config.ensemble = official["score_agg_func"]

    clip = golden["first_clip"].flip(2)[:, None]  # (videos, 1, frames, 3, height, width), BGR
    words, mask, labels = golden["text_input_ids"], golden["text_input_mask"], golden["labels"]
    if task == "multiple_choice":
        words, mask = words.unflatten(0, (2, 5)), mask.unflatten(0, (2, 5))
    outputs = model(clip, words, mask, labels=labels)
    close = {"atol": 1e-4, "rtol": 0}
    torch.testing.assert_close(
        model.model.image_encoder(clip[:, 0].flatten(0, 1)), golden["grid_features"].flatten(0, 1), **close
    )
    torch.testing.assert_close(outputs.logits, golden["logits"], **close)
    losses = ground_truth_loss(outputs.logits, labels, task, "cross_entropy")
    torch.testing.assert_close(losses, golden["loss"], **close)
    both = golden["visual_inputs"].unflatten(1, (2, 3)).flip(3)
    torch.testing.assert_close(model(both, words, mask).logits, golden["ensemble_logits"], **close)

    model.requires_grad_(True)
    model(clip, words, mask, labels=labels).loss.backward()
    gradients = {name: gradient for name, gradient in golden.items() if name.startswith("grad.")}
    assert len(gradients) == 10
    from modeling_siasamrea.conversion.from_clipbert import new_name

    for name, expected in gradients.items():
        gradient = model.get_parameter(new_name(name.removeprefix("grad."), task)).grad
        assert (gradient - expected).norm() <= 1e-3 * expected.norm(), name
