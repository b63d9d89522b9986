"""ClipBERT's image-text pretraining, which the paper starts from: masked words, and whether text and picture match."""

from dataclasses import dataclass

import torch
from torch import nn
from transformers.models.bert.modeling_bert import BertPreTrainingHeads
from transformers.utils import ModelOutput
from transformers.utils.generic import can_return_tuple

from .configuration_siasamrea import SiaSamReaConfig
from .modeling_siasamrea import SiaSamReaModel, SiaSamReaPreTrainedModel


@dataclass
class SiaSamReaForPreTrainingOutput(ModelOutput):
    """
    Output of [`SiaSamReaForPreTraining`].

    Args:
        loss (`torch.FloatTensor`, *optional*): The sum of the losses whose labels are given (ClipBERT).
        masked_words_loss (`torch.FloatTensor`, *optional*): Cross-entropy of the masked words.
        matching_loss (`torch.FloatTensor`, *optional*): Cross-entropy of the match.
        prediction_logits (`torch.FloatTensor` of shape `(texts, length, vocab_size)`): Scores of the words.
        matching_logits (`torch.FloatTensor` of shape `(texts, 2)`): Scores of "does not match" and "matches".
    """

    loss: torch.FloatTensor | None = None
    masked_words_loss: torch.FloatTensor | None = None
    matching_loss: torch.FloatTensor | None = None
    prediction_logits: torch.FloatTensor | None = None
    matching_logits: torch.FloatTensor | None = None


class SiaSamReaForPreTraining(SiaSamReaPreTrainedModel):
    """
    The ClipBERT network with BERT's two pretraining heads, for pairs of a picture (or one clip of a video) and a text.

    Its checkpoints start a [`SiaSamReaForVideoQuestionAnswering`].

    Args:
        config ([`SiaSamReaConfig`]): The configuration; `pixel_random_sampling_size` applies in training.
    """

    _tied_weights_keys = {
        "cls.predictions.decoder.weight": "model.text_model.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    }

    def __init__(self, config: SiaSamReaConfig):
        super().__init__(config)
        self.model = SiaSamReaModel(config)
        self.cls = BertPreTrainingHeads(config.text_config)
        self.post_init()

    def get_output_embeddings(self) -> nn.Module:
        """The masked-language head's decoder."""
        return self.cls.predictions.decoder

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        """Replaces the masked-language head's decoder."""
        self.cls.predictions.decoder = new_embeddings
        self.cls.predictions.bias = new_embeddings.bias

    @can_return_tuple
    def forward(
        self,
        pixel_values_videos: torch.Tensor,
        input_ids: torch.LongTensor,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.LongTensor | None = None,
        frame_mask: torch.Tensor | None = None,
        video_index: torch.LongTensor | None = None,
        labels: torch.LongTensor | None = None,
        matching_labels: torch.LongTensor | None = None,
        **kwargs,
    ) -> SiaSamReaForPreTrainingOutput:
        r"""
        Args:
            pixel_values_videos (`torch.Tensor` of shape `(videos, 1, frames, 3, height, width)`):
                Normalised frames of one clip; a picture is a video of one frame.
            input_ids (`torch.LongTensor` of shape `(texts, length)`): The texts, with masked words.
            attention_mask (`torch.Tensor` of the shape of `input_ids`, *optional*): 1 for tokens, 0 for padding.
            token_type_ids (`torch.LongTensor` of the shape of `input_ids`, *optional*): Segments; all 0 by default.
            frame_mask (`torch.Tensor` of shape `(videos, frames)`, *optional*): 1 for frames, 0 for padding.
            video_index (`torch.LongTensor` of shape `(texts,)`, *optional*):
                The picture each text is paired with; by default text i with picture i.
            labels (`torch.LongTensor` of the shape of `input_ids`, *optional*):
                The word behind each mask, -100 elsewhere and for texts that do not match (ClipBERT).
            matching_labels (`torch.LongTensor` of shape `(texts,)`, *optional*): 1 where text and picture match, or 0.

        Returns:
            [`SiaSamReaForPreTrainingOutput`]

        Raises:
            `ValueError`: If there is more than one clip.
        """
        if pixel_values_videos.shape[1] != 1:
            raise ValueError(f"Pretraining looks at one clip of a video; got {pixel_values_videos.shape[1]}.")
        outputs = self.model(
            pixel_values_videos,
            input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            frame_mask=frame_mask,
            video_index=video_index,
            pixel_sampling_size=self.config.pixel_random_sampling_size if self.training else None,
            **kwargs,
        )
        words = outputs.last_hidden_state[:, : input_ids.shape[1]]  # (texts, length, hidden_size)
        prediction_logits, matching_logits = self.cls(words, outputs.pooler_output[:, 0])
        masked_words_loss = matching_loss = None
        if labels is not None:
            losses = nn.functional.cross_entropy(
                prediction_logits.float().flatten(0, 1), labels.flatten(), ignore_index=-100, reduction="sum"
            )
            masked_words_loss = losses / (labels != -100).sum().clamp(min=1)
        if matching_labels is not None:
            matching_loss = nn.functional.cross_entropy(matching_logits.float(), matching_labels)
        losses = [loss for loss in (masked_words_loss, matching_loss) if loss is not None]
        return SiaSamReaForPreTrainingOutput(
            loss=sum(losses) if losses else None,
            masked_words_loss=masked_words_loss,
            matching_loss=matching_loss,
            prediction_logits=prediction_logits,
            matching_logits=matching_logits,
        )


__all__ = ["SiaSamReaForPreTraining", "SiaSamReaForPreTrainingOutput"]
