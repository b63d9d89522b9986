"""
Fine-tunes a video classifier of Transformers (VideoMAE, TimeSformer, ViViT, V-JEPA 2) with siamese reasoning.

    python examples/siamese_video_classification.py MCG-NJU/videomae-base --rows train.jsonl --video_folder videos

The rows are those of run_videoqa.py; their answers are the classes. What is saved is a classifier of Transformers.
"""

import argparse

import torch
from torch import nn
from transformers import AutoModelForVideoClassification, AutoVideoProcessor, PreTrainedModel

from modeling_siasamrea import SiaSamReaConfig
from modeling_siasamrea.data.questions import load_video_questions
from modeling_siasamrea.loss_siasamrea import ground_truth_loss, siamese_loss
from modeling_siasamrea.processors.video_processing_siasamrea import SiaSamReaVideoProcessor
from modeling_siasamrea.siamese_reasoning import SiameseReasoning


def score_clip(model: PreTrainedModel, pixel_values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns what the classifier gets, and the logits, for a clip per video `(videos, frames, 3, height, width)`."""
    features = []
    handle = model.classifier.register_forward_pre_hook(lambda layer, pooled: features.append(pooled[0]))
    logits = model(**{model.main_input_name: pixel_values}).logits
    handle.remove()
    return features[0], logits


def siamese_step(
    model: PreTrainedModel, reasoning: SiameseReasoning, clips: torch.Tensor, labels: torch.Tensor
) -> torch.Tensor:
    r"""
    Equation 8: L_gt + alpha L_siamese, mean over videos.

    Args:
        model ([`PreTrainedModel`]): A model of `AutoModelForVideoClassification` with a `classifier`.
        reasoning ([`SiameseReasoning`]): Equations 1 to 5; owns W1 and W2, which train.
        clips (`torch.Tensor` of shape `(videos, clips, frames, 3, height, width)`): Normalised, the anchor first.
        labels (`torch.LongTensor` of shape `(videos,)`): The classes.
    """
    with torch.no_grad():
        siamese = [score_clip(model, clip) for clip in clips[:, 1:].unbind(dim=1)]
    torch.clear_autocast_cache()  # under autocast: weights cast without gradient are not for the anchor
    anchor = score_clip(model, clips[:, 0])
    features, logits = (torch.stack(parts, dim=1) for parts in zip(anchor, *siamese))  # (videos, clips, ...)
    soft_labels, _ = reasoning(features, logits)
    losses = ground_truth_loss(anchor[1], labels, "open_ended")
    losses = losses + reasoning.config.alpha * siamese_loss(anchor[1], soft_labels, "open_ended")
    return losses.mean()


def main() -> None:
    """Trains on all rows and saves the classifier."""
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("model", help="Hub name or folder of the classifier or its encoder.")
    parser.add_argument("--rows", required=True, help="JSONL or CSV file of rows.")
    parser.add_argument("--video_folder", help="Folder that relative video paths start from.")
    parser.add_argument("--output", default="siamese-classifier")
    parser.add_argument("--num_clips", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch_size", type=int, default=4)
    parser.add_argument("--learning_rate", type=float, default=5e-5)
    options = parser.parse_args()

    rows = load_video_questions(options.rows, options.video_folder)
    classes = sorted({row.answer for row in rows})
    model = AutoModelForVideoClassification.from_pretrained(
        options.model,
        id2label=dict(enumerate(classes)),
        label2id={name: index for index, name in enumerate(classes)},
        ignore_mismatched_sizes=True,  # a classifier of other classes starts anew
    ).train()
    video_processor = AutoVideoProcessor.from_pretrained(options.model)
    frames = getattr(model.config, "num_frames", None) or model.config.frames_per_clip  # V-JEPA 2's name
    sampler = SiaSamReaVideoProcessor(num_clips=options.num_clips, frames_per_clip=frames)
    reasoning = SiameseReasoning(SiaSamReaConfig(num_clips=options.num_clips))
    weights = nn.ModuleList([model, reasoning]).parameters()
    optimizer = torch.optim.AdamW(weights, lr=options.learning_rate)
    for epoch in range(options.epochs):
        for step, batch in enumerate(torch.randperm(len(rows)).split(options.batch_size)):
            chosen = [rows[index] for index in batch]
            clips = []
            for index, row in zip(batch.tolist(), chosen):
                sampled = sampler.sample_clips_of(row.video, training=True, seed=epoch * len(rows) + index)
                clips += [sampled.frames[of_clip] for of_clip in sampled.positions]
            pixels = video_processor(clips, return_tensors="pt")[model.main_input_name]
            labels = torch.tensor([classes.index(row.answer) for row in chosen])
            loss = siamese_step(model, reasoning, pixels.unflatten(0, (len(batch), -1)), labels)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            print(f"epoch {epoch + 1}, step {step + 1}: loss {loss.item():.3f}")
    model.save_pretrained(options.output)
    video_processor.save_pretrained(options.output)


if __name__ == "__main__":
    main()
