"""The visual side of SiaSamRea: frames to a grid of features, a clip's grid to visual tokens (ClipBERT)."""

import inspect

import torch
from torch import nn
from transformers import MODEL_FOR_BACKBONE_MAPPING, AutoBackbone, AutoModel

from .configuration_siasamrea import SiaSamReaConfig


BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def given_clips(
    pixel_values_videos: torch.Tensor | None, frame_features: torch.Tensor | None
) -> tuple[str, torch.Tensor]:
    """Returns the name and the value of the form in which clips are given, pixels or features."""
    clips = {"pixel_values_videos": pixel_values_videos, "frame_features": frame_features}
    given = [(name, value) for name, value in clips.items() if value is not None]
    if len(given) != 1:
        raise ValueError("Clips must be given either as pixel_values_videos or as frame_features.")
    return given[0]


def frames_of(clips: torch.Tensor, name: str) -> torch.Tensor:
    """Flattens clips `(videos, clips, frames, channels, height, width)` to `(videos * clips * frames, ...)`."""
    if clips.ndim != 6:
        shape = "channels, rows, columns" if name == "frame_features" else "3, height, width"
        raise ValueError(f"{name} must have the shape (videos, clips, frames, {shape}); got {tuple(clips.shape)}.")
    return clips.flatten(0, 2)


class SiaSamReaImageEncoder(nn.Module):
    """
    Encodes frames as a grid of features of the text model's width: an image encoder of Transformers, a 3x3
    convolution, 2x2 max-pooling and a ReLU (ClipBERT).

    The image encoder's output may be a feature map or a sequence of patches, with or without leading class tokens.
    """

    def __init__(self, config: SiaSamReaConfig):
        super().__init__()
        self.config = config
        # A backbone gives a feature map; the other image encoders have a base model only.
        auto_class = AutoBackbone if type(config.vision_config) in MODEL_FOR_BACKBONE_MAPPING else AutoModel
        try:
            self.encoder = auto_class.from_config(config.vision_config)
        except ValueError:
            # A convolutional encoder has no attention; the implementation that is asked for concerns the text model.
            self.encoder = auto_class.from_config(config.vision_config, attn_implementation="eager")
        children = dict(getattr(self.encoder, "timm_model", self.encoder).named_children())
        if config.vision_config.model_type == "timm_wrapper" and "patch_embed" in children:
            raise ValueError(
                f"{config.vision_config.architecture!r} is a model with patches, which needs "
                'vision_config={"model_type": "timm_backbone", "backbone": ...}.'
            )
        # Sizes other than the one a vision transformer was trained at need its positions interpolated.
        interpolates = "interpolate_pos_encoding" in inspect.signature(self.encoder.forward).parameters
        self.encoder_kwargs = {"interpolate_pos_encoding": True} if interpolates else {}
        if config.grid_channels is None:
            config.grid_channels = self._measure_channels()
        width = config.text_config.hidden_size
        self.grid_encoder = nn.Conv2d(config.grid_channels, width, kernel_size=3, padding=1, bias=False)
        self.train()

    @torch.no_grad()
    def _measure_channels(self) -> int:
        self.encoder.eval()
        image = torch.zeros(1, 3, 64, 64, dtype=self.encoder.dtype, device=self.encoder.device)
        channels = self.feature_map(image).shape[1]
        self.encoder.train()
        return channels

    def train(self, mode: bool = True) -> "SiaSamReaImageEncoder":
        """
        Sets the mode. Frozen batch norms stay in evaluation mode, so that their statistics never move, and so does an
        encoder that is frozen as a whole.
        """
        super().train(mode)
        frozen = []  # here, because from_pretrained makes new parameters after __init__
        if self.config.freeze_batch_norm:
            frozen = [module.eval() for module in self.encoder.modules() if isinstance(module, BATCH_NORMS)]
        for name in self.config.frozen_image_encoder_modules:
            try:
                frozen.append(self.encoder.get_submodule("" if name == "all" else name))
            except AttributeError:
                names = [child for child, module in self.encoder.named_modules() if child and child.count(".") < 3]
                raise ValueError(
                    f"frozen_image_encoder_modules names {name!r}; the image encoder has {', '.join(names)}, or all."
                ) from None
        for module in frozen:
            module.requires_grad_(False)
        if "all" in self.config.frozen_image_encoder_modules:
            self.encoder.eval()
        return self

    def feature_map(self, frames: torch.Tensor) -> torch.Tensor:
        """Encodes frames `(frames, 3, height, width)` as a map of features `(frames, channels, rows, columns)`."""
        frames = frames.contiguous(memory_format=torch.channels_last)  # faster convolutions, same numbers
        outputs = self.encoder(frames, **self.encoder_kwargs)
        features = outputs.feature_maps[-1] if "feature_maps" in outputs else outputs.last_hidden_state
        if features.ndim == 4:
            return features
        # (frames, class tokens + patches, channels); a class token, where there is one, comes first.
        patch_size = self.config.vision_config.patch_size
        patch_height, patch_width = (patch_size, patch_size) if isinstance(patch_size, int) else patch_size
        rows, columns = frames.shape[-2] // patch_height, frames.shape[-1] // patch_width
        patches = features[:, features.shape[1] - rows * columns :]
        return patches.transpose(1, 2).unflatten(2, (rows, columns))

    def encode(self, frames: torch.Tensor) -> torch.Tensor:
        """Returns [`~SiaSamReaImageEncoder.feature_map`], which must be large enough for a grid."""
        features = self.feature_map(frames)
        if min(features.shape[-2:]) < 2:
            height, width = frames.shape[-2:]
            raise ValueError(f"Frames of {height} x {width} pixels give less than 2 x 2 features; use larger ones.")
        return features

    def grid(self, features: torch.Tensor) -> torch.Tensor:
        """Turns features `(frames, channels, rows, columns)` into a grid `(frames, rows, columns, hidden_size)`."""
        features = features.contiguous(memory_format=torch.channels_last)  # as encoders give them
        return nn.functional.max_pool2d(self.grid_encoder(features), 2).relu().permute(0, 2, 3, 1)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Turns frames `(frames, 3, height, width)` into a grid `(frames, rows, columns, hidden_size)`."""
        return self.grid(self.encode(frames))


class SiaSamReaVisualEmbeddings(nn.Module):
    """Embeds a clip's grid: the mean over its frames, row, column and type embeddings, LayerNorm (ClipBERT)."""

    def __init__(self, config: SiaSamReaConfig):
        super().__init__()
        self.config, hidden_size = config, config.text_config.hidden_size
        self.row_position_embeddings = nn.Embedding(config.max_grid_rows, hidden_size)
        self.column_position_embeddings = nn.Embedding(config.max_grid_columns, hidden_size)
        self.token_type_embeddings = nn.Embedding(1, hidden_size)
        self.LayerNorm = nn.LayerNorm(hidden_size, eps=config.text_config.layer_norm_eps)
        self.dropout = nn.Dropout(config.text_config.hidden_dropout_prob)

    def forward(self, grid: torch.Tensor, frame_mask: torch.Tensor | None) -> torch.Tensor:
        """
        Embeds the grid of each clip.

        Args:
            grid (`torch.Tensor` of shape `(videos, clips, frames, rows, columns, hidden_size)`): Features of frames.
            frame_mask (`torch.Tensor` of shape `(videos, frames)`, *optional*): 1 for frames, 0 for padding.

        Returns:
            `torch.Tensor` of shape `(videos, clips, rows * columns, hidden_size)`: the visual tokens.
        """
        if frame_mask is None:
            grid = grid.mean(dim=2)
        else:
            weights = frame_mask.to(grid.dtype) / frame_mask.sum(dim=1, keepdim=True)
            grid = torch.einsum("vcfrwh,vf->vcrwh", grid, weights)
        rows, columns = grid.shape[2:4]
        most = (self.config.max_grid_rows, self.config.max_grid_columns)
        if rows > most[0] or columns > most[1]:
            raise ValueError(f"The grid is {rows} x {columns}; max_grid_rows and max_grid_columns are {most}.")
        grid = grid + self.row_position_embeddings.weight[:rows, None]
        grid = grid + self.column_position_embeddings.weight[:columns]
        tokens = grid.flatten(2, 3) + self.token_type_embeddings.weight  # (videos, clips, rows * columns, hidden_size)
        return self.dropout(self.LayerNorm(tokens))
