"""The network, its heads, and what siamese clips cost in training and at inference."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModel, BertModel, CLIPConfig, ResNetModel

from modeling_siasamrea import SiaSamReaForVideoQuestionAnswering, SiaSamReaModel
from modeling_siasamrea.loss_siasamrea import ground_truth_loss


TASKS = ["open_ended", "multiple_choice", "count"]


@pytest.fixture
def make_model(tiny_config):
    def make(seed: int = 0, **fields) -> SiaSamReaForVideoQuestionAnswering:
        torch.manual_seed(seed)
        return SiaSamReaForVideoQuestionAnswering(tiny_config(**({"tasks": TASKS, "num_labels": 5} | fields)))

    return make


def batch(clips: int = 3, task: str = "open_ended", videos: int = 2, frames: int = 2, seed: int = 1) -> dict:
    """Three questions about `videos` videos, the first two of them about video 0."""
    generator = torch.Generator().manual_seed(seed)
    shape = (3, 4, 6) if task == "multiple_choice" else (3, 6)
    return {
        "pixel_values_videos": torch.randn(videos, clips, frames, 3, 64, 64, generator=generator),
        "input_ids": torch.randint(1, 200, shape, generator=generator),
        "video_index": torch.tensor([0, 0, 1]),
        "task": task,
    }


@pytest.mark.parametrize(("task", "classes"), [("open_ended", 5), ("multiple_choice", 4), ("count", 1)])
def test_training_returns_what_the_loss_needs(make_model, task, classes):
    labels = torch.tensor([2.0, 3.0, 7.0]) if task == "count" else torch.tensor([0, 3, 1])
    outputs = make_model().train()(**batch(task=task), labels=labels)
    assert outputs.logits.shape == outputs.soft_labels.shape == (3, classes)
    assert outputs.clip_logits.shape == (3, 3, classes)
    assert outputs.clip_features.shape == (3, 3, 32) and outputs.affinity.shape == (3, 3, 3)
    torch.testing.assert_close(outputs.logits, outputs.clip_logits[:, 0])
    torch.testing.assert_close(outputs.loss, ground_truth_loss(outputs.logits, labels, task).mean())


def test_questions_that_share_a_video_get_what_they_get_alone(make_model):
    model, shared = make_model().eval(), batch(clips=1)
    alone = shared | {"pixel_values_videos": shared["pixel_values_videos"][shared["video_index"]], "video_index": None}
    torch.testing.assert_close(model(**shared).logits, model(**alone).logits)


def test_padding_frames_and_text_changes_no_number(make_model):
    model, short = make_model().eval(), batch(clips=1, videos=2)
    padded = dict(short)
    frames = short["pixel_values_videos"]
    padded["pixel_values_videos"] = torch.cat([frames, torch.full_like(frames, 9.0)], dim=2)
    padded["frame_mask"] = torch.tensor([[1, 1, 0, 0]] * 2)
    padded["input_ids"] = torch.cat([short["input_ids"], torch.full((3, 5), 7)], dim=1)
    padded["attention_mask"] = torch.cat([torch.ones(3, 6), torch.zeros(3, 5)], dim=1).long()
    torch.testing.assert_close(model(**padded).logits, model(**short).logits, atol=1e-5, rtol=1e-4)


def test_candidates_are_scored_each_for_itself(make_model):
    model, inputs = make_model().eval(), batch(clips=1, task="multiple_choice")
    logits = model(**inputs).logits
    inputs["input_ids"] = inputs["input_ids"].flip(1)
    torch.testing.assert_close(model(**inputs).logits, logits.flip(1), atol=1e-5, rtol=1e-4)


def saved_elements(model, inputs) -> int:
    """Numbers that autograd keeps of one training forward."""
    elements = 0

    def pack(tensor):
        nonlocal elements
        elements += tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(**inputs)
    return elements


def test_memory_of_the_graph_does_not_grow_with_siamese_clips(make_model):
    few = saved_elements(make_model(num_clips=2).train(), batch(clips=2))
    many = saved_elements(make_model(num_clips=9).train(), batch(clips=9))
    assert many < 1.01 * few  # what is left is the reasoning itself, a few numbers a clip
    with_gradient = saved_elements(make_model(num_clips=9, detach="none").train(), batch(clips=9))
    assert with_gradient > 3 * many


def test_without_gradient_the_siamese_clips_give_the_same_numbers(make_model):
    reference = make_model(detach="none").train()(**batch())
    model = make_model().train()
    outputs = model(**batch())
    torch.testing.assert_close(outputs.soft_labels, reference.soft_labels, atol=1e-5, rtol=1e-4)
    assert outputs.clip_logits[:, 0].requires_grad and reference.clip_logits[:, 1:].requires_grad


def test_soft_label_trains_w1_and_w2_but_not_the_siamese_clips(make_model):
    model = make_model().train()
    outputs = model(**batch())
    outputs.soft_labels[:, 0].sum().backward()
    assert model.siamese_reasoning.w1_logits.grad.abs().sum() > 0
    assert all(p.grad is None or not p.grad.any() for p in model.model.parameters())


def measure(model, inputs) -> tuple[int, list, set[str]]:
    """FLOPs, shapes of all activations, and names of the parameters used in one forward."""
    shapes, used = [], set()

    def record(module, args, output):
        tensors = output if isinstance(output, tuple) else output.values() if isinstance(output, dict) else [output]
        shapes.extend(tuple(tensor.shape) for tensor in tensors if isinstance(tensor, torch.Tensor))
        used.update(names[id(parameter)] for parameter in module.parameters(recurse=False))

    names = {id(parameter): name for name, parameter in model.named_parameters()}
    hooks = [module.register_forward_hook(record) for module in model.modules()]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(**inputs)
    for hook in hooks:
        hook.remove()
    return counter.get_total_flops(), shapes, used


@pytest.mark.parametrize("task", TASKS)
def test_inference_costs_what_the_baseline_costs(make_model, task):
    siamese = measure(make_model().eval(), batch(clips=1, task=task))
    baseline = measure(make_model(alpha=0.0, num_clips=1).eval(), batch(clips=1, task=task))
    assert siamese == baseline and siamese[0] > 0


def test_the_baseline_trains_on_the_anchor_alone(make_model):
    flops = [measure(make_model(alpha=0.0).train(), batch(clips=clips))[0] for clips in (1, 3)]
    assert flops[0] == flops[1]
    assert measure(make_model().train(), batch(clips=3))[0] > 2.9 * flops[0]


def test_running_statistics_move_as_far_with_siamese_clips_as_without(make_model):
    """All clips alike: whether they pass once or five times, a step leaves the same statistics."""
    fields = {"freeze_batch_norm": False, "tasks": ["count"]}
    inputs = batch(clips=1, task="count")
    one, five = make_model(alpha=0.0, num_clips=1, **fields), make_model(num_clips=5, **fields)
    five.load_state_dict(one.state_dict(), strict=False)
    one.train()(**inputs)
    clips = inputs["pixel_values_videos"].expand(-1, 5, -1, -1, -1, -1)
    five.train()(**(inputs | {"pixel_values_videos": clips}))
    moved = {name: value for name, value in one.state_dict().items() if "running_" in name}
    assert any("heads.count" in name for name in moved) and any("image_encoder" in name for name in moved)
    for name, value in moved.items():
        torch.testing.assert_close(five.state_dict()[name], value, rtol=1e-4, atol=1e-5)


def test_equal_compute_baseline_supervises_every_clip(make_model):
    model, labels = make_model(alpha=0.0, supervised_clips="all").train(), torch.tensor([1, 2, 3])
    outputs = model(**batch(), labels=labels)
    each = [ground_truth_loss(outputs.clip_logits[:, clip], labels, "open_ended").mean() for clip in range(3)]
    torch.testing.assert_close(outputs.loss, sum(each) / 3)
    outputs.loss.backward()
    assert outputs.clip_logits.requires_grad and outputs.soft_labels is None


def test_the_baseline_is_a_start_for_siamese_reasoning(make_model, tmp_path, memory_as_it_was):
    make_model(alpha=0.0, num_clips=1).save_pretrained(tmp_path)
    model = SiaSamReaForVideoQuestionAnswering.from_pretrained(tmp_path, alpha=1.0, num_clips=3)
    for weights in model.siamese_reasoning.weights():
        assert weights.tolist() == pytest.approx([1 / 3] * 3)


@pytest.mark.parametrize("how", ["mean", "max", "lse"])
def test_clipbert_trains_on_aggregated_logits(make_model, how):
    labels = torch.tensor([1, 2, 3])
    outputs = make_model(alpha=0.0, supervised_clips=how).train()(**batch(), labels=labels)
    joined = {"mean": lambda x: x.mean(1), "max": lambda x: x.amax(1), "lse": lambda x: x.logsumexp(1)}[how]
    expected = torch.nn.functional.cross_entropy(joined(outputs.clip_logits), labels)
    torch.testing.assert_close(outputs.loss, expected)


def test_several_clips_at_inference_are_an_ensemble(make_model):
    inputs = batch(clips=4)
    model = make_model(ensemble="max").eval()
    alone = [
        model(**(inputs | {"pixel_values_videos": inputs["pixel_values_videos"][:, [clip]]})) for clip in range(4)
    ]
    expected = torch.stack([outputs.logits for outputs in alone]).amax(dim=0)
    torch.testing.assert_close(model(**inputs).logits, expected, atol=1e-5, rtol=1e-4)


VISION = {
    "resnet": {"embedding_size": 8, "hidden_sizes": [8, 8, 16, 24], "depths": [1, 1, 1, 1]},
    "convnext": {"hidden_sizes": [8, 8, 16, 24], "depths": [1, 1, 1, 1]},
    "swin": {"embed_dim": 8, "depths": [1, 1], "num_heads": [1, 1], "window_size": 4, "image_size": 64},
    "mobilenet_v2": {"depth_multiplier": 0.1},
    "vit": {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 32, "patch_size": 16},
    "clip_vision_model": {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 32},
    "siglip_vision_model": {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 32},
    "dinov2": {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 32, "patch_size": 8},
}


@pytest.mark.parametrize("model_type", VISION)
def test_image_encoders(make_model, model_type):
    vision_config = VISION[model_type] | {"model_type": model_type}
    if "vision_model" in model_type:
        vision_config |= {"patch_size": 16, "intermediate_size": 32}
    model = make_model(vision_config=vision_config, tasks=["open_ended"]).train()
    outputs = model(
        **(batch() | {"pixel_values_videos": torch.randn(2, 3, 2, 3, 64, 128)}), labels=torch.tensor([0, 1, 2])
    )
    outputs.loss.backward()
    assert model.model.image_encoder.grid_encoder.weight.grad.abs().sum() > 0
    grid = model.model.image_encoder(torch.randn(2, 3, 64, 128))
    assert grid.shape[2] == 2 * grid.shape[1] and grid.shape[3] == 32  # wide frames give wide grids


def test_patches_become_a_map_without_the_class_token(make_model):
    vision_config = VISION["vit"] | {"model_type": "vit"}
    encoder = make_model(vision_config=vision_config, tasks=["open_ended"]).eval().model.image_encoder
    frames = torch.randn(2, 3, 32, 64)
    sequence = encoder.encoder(frames, interpolate_pos_encoding=True).last_hidden_state  # (2, 1 + 2 * 4, 16)
    feature_map = encoder.feature_map(frames)
    assert feature_map.shape == (2, 16, 2, 4)
    torch.testing.assert_close(feature_map[:, :, 1, 3], sequence[:, -1])
    torch.testing.assert_close(feature_map[:, :, 0, 1], sequence[:, 2])


def test_frozen_batch_norms_and_stages_do_not_move(make_model):
    model = make_model(frozen_image_encoder_modules=["embedder", "encoder.stages.0"]).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    model(**batch(), labels=torch.tensor([0, 1, 2])).loss.backward()
    optimizer.step()
    encoder = "model.image_encoder.encoder."
    moved = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert not [name for name in moved if "normalization" in name]
    assert not [name for name in moved if name.startswith((encoder + "embedder", encoder + "encoder.stages.0"))]
    assert [name for name in moved if name.startswith(encoder + "encoder.stages.1")]


def test_batch_norms_can_train(make_model):
    model = make_model(freeze_batch_norm=False).train()
    before = model.model.image_encoder.encoder.embedder.embedder.normalization.running_mean.clone()
    model(**batch())
    assert not torch.equal(before, model.model.image_encoder.encoder.embedder.embedder.normalization.running_mean)


def test_a_stage_that_is_not_there_is_named(make_model):
    with pytest.raises(ValueError, match=r"names 'stage9'; the image encoder has .* encoder.stages.0"):
        make_model(frozen_image_encoder_modules=["stage9"])


def test_save_and_load(make_model, tmp_path):
    model = make_model(frozen_image_encoder_modules=["embedder"]).eval()
    with torch.no_grad():
        model.siamese_reasoning.w1_logits.copy_(torch.tensor([1.0, 2.0, 3.0]))
    model.save_pretrained(tmp_path)
    loaded = SiaSamReaForVideoQuestionAnswering.from_pretrained(tmp_path)
    torch.testing.assert_close(loaded.siamese_reasoning.weights(), model.siamese_reasoning.weights())
    torch.testing.assert_close(loaded(**batch(clips=1)).logits, model(**batch(clips=1)).logits)
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert frozen == {name for name, parameter in loaded.named_parameters() if not parameter.requires_grad}
    base = AutoModel.from_pretrained(tmp_path)
    assert type(base) is SiaSamReaModel
    torch.testing.assert_close(base.text_model.state_dict(), model.model.text_model.state_dict())


def test_from_vision_text_pretrained(tiny_config, tmp_path):
    config = tiny_config()
    vision, text = ResNetModel(config.vision_config), BertModel(config.text_config)
    vision.save_pretrained(tmp_path / "vision")
    text.save_pretrained(tmp_path / "text")
    model = SiaSamReaForVideoQuestionAnswering.from_vision_text_pretrained(
        str(tmp_path / "vision"), str(tmp_path / "text"), tasks=["count"], num_clips=5
    )
    assert model.config.num_clips == 5 and list(model.heads) == ["count"]
    torch.testing.assert_close(dict(model.model.text_model.state_dict()), dict(text.state_dict()))
    frames = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(model.model.image_encoder.feature_map(frames), vision.eval()(frames).last_hidden_state)


def test_fields_of_pretrained_encoders_are_changed(tiny_config, tmp_path):
    config = tiny_config()
    ResNetModel(config.vision_config).save_pretrained(tmp_path / "vision")
    text = BertModel(config.text_config)
    text.save_pretrained(tmp_path / "text")
    encoders = str(tmp_path / "vision"), str(tmp_path / "text")
    build = SiaSamReaForVideoQuestionAnswering.from_vision_text_pretrained
    layers = config.text_config.num_hidden_layers - 1
    model = build(
        *encoders,
        text_config={"num_hidden_layers": layers, "hidden_dropout_prob": 0.0},
        vision_config={"model_type": "resnet", "hidden_act": "gelu"},
    )
    assert model.config.vision_config.hidden_act == "gelu" and len(model.model.text_model.encoder.layer) == layers
    assert {m.p for name, m in model.named_modules() if "attention.output.dropout" in name} == {0.0}
    kept = model.model.text_model.state_dict()
    torch.testing.assert_close(dict(kept), {name: text.state_dict()[name] for name in kept})
    with pytest.raises(ValueError, match="no 'num_layer'. Did you mean 'num_hidden_layers'"):
        build(*encoders, text_config={"num_layer": 1})
    with pytest.raises(ValueError, match="is a 'bert' model; its model type cannot be 'resnet'"):
        build(*encoders, text_config={"model_type": "resnet"})


def test_from_vision_text_pretrained_takes_the_vision_tower_of_clip(tiny_config, tmp_path):
    vision = VISION["clip_vision_model"] | {"patch_size": 16, "intermediate_size": 32}
    text = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "vocab_size": 99,
    }
    clip = AutoModel.from_config(CLIPConfig(vision_config=vision, text_config=text, projection_dim=8))
    clip.save_pretrained(tmp_path / "clip")
    BertModel(tiny_config().text_config).save_pretrained(tmp_path / "text")
    model = SiaSamReaForVideoQuestionAnswering.from_vision_text_pretrained(
        str(tmp_path / "clip"), str(tmp_path / "text")
    )
    encoder = model.model.image_encoder.encoder.state_dict()
    key = next(name for name in encoder if "q_proj.weight" in name)
    torch.testing.assert_close(encoder[key], clip.vision_model.encoder.layers[0].self_attn.q_proj.weight.data)


def test_a_batch_of_one_question_can_train_to_count(make_model):
    model = make_model(alpha=0.0, num_clips=1).train()
    one = batch(clips=1, task="count")
    one |= {
        "pixel_values_videos": one["pixel_values_videos"][:1],
        "input_ids": one["input_ids"][:1],
        "video_index": None,
    }
    outputs = model(**one, labels=torch.tensor([3.0]))
    torch.testing.assert_close(outputs.logits, model.eval()(**one).logits)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"task": None}, "heads for .*, but no task was given"),
        ({"task": "captioning"}, "but the task is 'captioning'"),
        ({"task": "multiple_choice"}, r"takes input_ids of shape \(questions, candidates, length\)"),
        ({"video_index": None}, "the video of each question; questions: 3, videos: 2"),
        ({"pixel_values_videos": torch.zeros(2, 2, 3, 64, 64)}, r"got \(2, 1, 3, 64, 64\)"),
        ({"pixel_values_videos": torch.zeros(2, 1, 2, 3, 32, 32)}, "32 x 32 pixels give less than 2 x 2 features"),
    ],
)
def test_bad_inputs_get_a_sentence(make_model, change, sentence):
    with pytest.raises(ValueError, match=sentence):
        make_model().eval()(**(batch(clips=1) | change))


def test_frames_larger_than_the_position_embeddings_are_refused(make_model):
    with pytest.raises(ValueError, match=r"grid is 1 x 2; .* are .100, 1."):
        frames = torch.zeros(2, 1, 1, 3, 64, 128)
        make_model(max_grid_columns=1).eval()(**(batch(clips=1) | {"pixel_values_videos": frames}))
