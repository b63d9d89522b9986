"""Trains on stored frame features: encodes what is missing, and refuses an encoder that is not frozen."""

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import av
import torch
import transformers
from accelerate import Accelerator
from torch import nn

from ..data.dataset import VideoQuestionDataset
from ..data.frame_features import VERSION, ClipFrames, FrameFeatureReader, FrameFeatureStore, digest, frame_settings
from ..image_encoder_siasamrea import SiaSamReaImageEncoder
from ..processors.video_processing_siasamrea import SiaSamReaVideoProcessor, stack_padded
from .arguments import SiaSamReaTrainingArguments


class FrameFeatures:
    r"""
    The stored features of a Trainer's run: lets its data sets read them, and encodes what they did not find.

    Args:
        model (`nn.Module`): The model.
        args ([`SiaSamReaTrainingArguments`]): The training arguments; without `frame_features_dir` nothing is stored.
        video_processor ([`SiaSamReaVideoProcessor`]): Normalises frames.
        accelerator ([`Accelerator`]): Says in which precision the model runs.

    Raises:
        `ValueError`: If features could not stand in for the encoder, see [`check_frame_features`].
    """

    def __init__(
        self,
        model: nn.Module,
        args: SiaSamReaTrainingArguments,
        video_processor: SiaSamReaVideoProcessor,
        accelerator: Accelerator,
    ):
        self.store = None
        if args.frame_features_dir is None:
            return
        self.image_encoder = next(each for each in model.modules() if isinstance(each, SiaSamReaImageEncoder))
        check_frame_features(self.image_encoder, args)
        self.store = FrameFeatureStore(args.frame_features_dir)
        self.args, self.video_processor, self.accelerator = args, video_processor, accelerator

    def attach(self, dataset: VideoQuestionDataset) -> None:
        """Lets a data set read stored features of the encoder as it is now; without a store it reads none."""
        dataset.frame_features = None
        if self.store is not None:
            check_one_size(dataset.video_processor)
            of_encoder = digest_encoder(self.image_encoder)
            numbers = (VERSION, torch.__version__, transformers.__version__, av.__version__)
            numbers += (self.args.device.type, self.args.tf32, self.accelerator.mixed_precision)
            settings = (frame_settings(dataset.video_processor), frame_settings(self.video_processor))
            encoder = digest(of_encoder, *numbers, *settings)
            dataset.frame_features = FrameFeatureReader(self.store, encoder, dataset.video_processor)

    def fill(self, batch: dict[str, Any]) -> dict[str, Any]:
        r"""
        Encodes the frames of a batch that the store lacks, and stores their features.

        Each frame is encoded by itself, so that its features are the same to the bit whichever others are missing.

        Args:
            batch (`dict`): A batch with a list of [`ClipFrames`] as `frame_features`; others stay as they are.

        Returns:
            `dict`: the batch with `frame_features` `(videos, clips, frames, channels, rows, columns)`, on the CPU.
        """
        if not isinstance(batch.get("frame_features"), list):
            return batch
        videos = []
        for clips in batch["frame_features"]:
            stored, others = iter(clips.features), self._features_of_pixels(clips)
            features = torch.stack([next(stored if is_stored else others) for is_stored in clips.is_stored])
            videos.append(features[clips.positions])  # (clips, frames, channels, rows, columns)
        return batch | {"frame_features": stack_padded(videos)}

    def _features_of_pixels(self, clips: ClipFrames) -> Iterator[torch.Tensor]:
        """Encodes the frames that came as pixels, and stores their features."""
        frames = [frame for frame, is_stored in zip(clips.frames, clips.is_stored) if not is_stored]
        for frame, pixels in zip(frames, clips.pixels):
            # A batch is read before the one ahead of it is encoded, so the features may be there by now.
            features = None if clips.source is None else self.store.read(clips.source, frame)
            if features is None:
                features = self._encode(pixels)
                if clips.source is not None:
                    self.store.write(clips.source, frame, features)
            yield features

    @torch.no_grad()
    def _encode(self, pixels: torch.Tensor) -> torch.Tensor:
        """Encodes a frame `(3, height, width)`: features `(channels, rows, columns)` on the CPU."""
        encoder = self.image_encoder.encoder
        frame = self.video_processor.normalize_frames(pixels.to(self.args.device)[None]).to(encoder.dtype)
        with self.accelerator.autocast():
            return self.image_encoder.encode(frame)[0].cpu().contiguous()


def check_frame_features(image_encoder: SiaSamReaImageEncoder, args: SiaSamReaTrainingArguments) -> None:
    """Raises a `ValueError` if a frame's features may change in training, or a process lacks a part of the encoder."""
    if args.fsdp_plugin_args is not None or args.deepspeed:
        raise ValueError(
            "frame_features_dir needs the whole image encoder in each process: leave out fsdp or deepspeed."
        )
    if args.bf16_full_eval or args.fp16_full_eval:
        raise ValueError(
            "frame_features_dir keeps features of one precision: leave out bf16_full_eval and fp16_full_eval."
        )
    if "all" not in image_encoder.config.frozen_image_encoder_modules:
        raise ValueError(
            "frame_features_dir needs an image encoder that stays as it is: set frozen_image_encoder_modules to "
            f'["all"] in the model\'s configuration; got {image_encoder.config.frozen_image_encoder_modules}.'
        )


def check_one_size(video_processor: SiaSamReaVideoProcessor) -> None:
    """Raises a `ValueError` if frames have different sizes: in a batch they would be padded to the largest."""
    size = video_processor.size if video_processor.do_resize else {}
    square = size.get("longest_edge") and video_processor.do_pad
    if not (video_processor.do_center_crop or (size.get("height") and size.get("width")) or square):
        raise ValueError(
            "frame_features_dir needs frames of one size, for a frame's features must not depend on its batch: let "
            "the video processor pad (do_pad) to a longest_edge, crop (do_center_crop), or resize to height and width."
        )


def digest_encoder(image_encoder: SiaSamReaImageEncoder) -> str:
    """Returns a digest of an image encoder: of its configuration, and of names, types and values of its weights."""
    encoder, config = image_encoder.encoder, image_encoder.config
    fields = config.vision_config.to_dict()
    fields = {name: value for name, value in fields.items() if name not in ("_name_or_path", "transformers_version")}
    fields |= {"attention": config.vision_config._attn_implementation}
    digest = hashlib.blake2b(json.dumps(fields, sort_keys=True, default=str).encode(), digest_size=16)
    for name, value in encoder.state_dict().items():
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
