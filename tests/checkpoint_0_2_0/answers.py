"""Answers with a checkpoint of three heads about fixed inputs; prints the numbers when it is run with a folder."""

import json
import sys

import numpy as np
import torch
from transformers import AutoModel, AutoModelForVisualQuestionAnswering, pipeline


def answers(folder: str, **how) -> dict:
    """The numbers of the model, its network and the pipeline; `how` are arguments of `from_pretrained`."""
    model = AutoModelForVisualQuestionAnswering.from_pretrained(folder, **how)
    frames = torch.linspace(-2, 2, 2 * 2 * 3 * 64 * 64).sin().reshape(1, 2, 2, 3, 64, 64)
    question, choices = torch.tensor([[2, 5, 6, 7, 3]]), torch.tensor([[[2, 5, 3], [2, 9, 3], [2, 12, 3]]])
    inputs = {"open_ended": question, "count": question, "multiple_choice": choices}
    network = AutoModel.from_pretrained(folder, **how)
    answerer = pipeline("video-question-answering", model=folder, **how)
    video = (np.linspace(0, 1, 8 * 48 * 64 * 3).reshape(8, 48, 64, 3) ** 2 * 255).astype(np.uint8)
    with torch.no_grad():
        return {
            "logits": {task: model(frames, ids, task=task).logits[0].tolist() for task, ids in inputs.items()},
            "pooled": network(frames, question).pooler_output[0].tolist(),
            "answers": [
                answerer(video=video, question="what is it doing ?", task="open_ended"),
                answerer(video=video, question="what is it ?", candidates=["a cat", "a dog", "red"]),
                answerer(video=video, question="how many times ?", task="count"),
            ],
        }


if __name__ == "__main__":
    if sys.argv[1:2] == ["--without-package"]:
        sys.modules["modeling_siasamrea"] = None  # as if it were not installed
        print(json.dumps([answers(folder, trust_remote_code=True) for folder in sys.argv[2:]]))
    else:
        import modeling_siasamrea  # noqa: F401

        print(json.dumps(answers(sys.argv[1]), indent=1))
