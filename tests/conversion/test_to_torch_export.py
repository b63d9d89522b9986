"""The exported program answers as the model does, for other numbers of everything that is free."""

import pytest
import torch

from modeling_siasamrea import SiaSamReaForVideoQuestionAnswering, SiaSamReaProcessor, SiaSamReaVideoProcessor
from modeling_siasamrea.conversion.to_torch_export import export_model, save_exported_model


@pytest.fixture
def model(tiny_config) -> SiaSamReaForVideoQuestionAnswering:
    torch.manual_seed(0)
    return SiaSamReaForVideoQuestionAnswering(
        tiny_config(tasks=["open_ended", "multiple_choice", "count"], num_labels=5)
    ).eval()


@pytest.fixture
def processor(tokenizer) -> SiaSamReaProcessor:
    return SiaSamReaProcessor(SiaSamReaVideoProcessor(size={"longest_edge": 64}), tokenizer)


@pytest.mark.parametrize("task", ["open_ended", "multiple_choice"])
@pytest.mark.end_to_end
def test_the_saved_program_answers_as_the_model(model, processor, write_video, tmp_path, task):
    program = torch.export.load(save_exported_model(tmp_path / "exported", model, processor, task)).module()
    paths = [write_video(tmp_path / f"{index}.mp4", frames=48 + 24 * index) for index in range(3)]
    for videos, questions in ((3, 4), (1, 1)):
        inputs = SiaSamReaProcessor.from_pretrained(tmp_path / "exported")(
            videos=paths[:videos],
            text=["what is the man doing ?", "what colour ?", "what ?", "a cat or a dog ?"][:questions],
            candidates=[["a cat", "a dog"]] * questions if task == "multiple_choice" else None,
            video_index=[index % videos for index in range(questions)],
            return_tensors="pt",
        )
        torch.testing.assert_close(program(**inputs), model(**inputs, task=task).logits, atol=1e-6, rtol=1e-5)


def test_a_head_that_is_missing_or_not_named_is_refused(model, processor):
    with pytest.raises(ValueError, match="task must be one of .*; got None"):
        export_model(model, processor)
    with pytest.raises(ValueError, match="task must be one of .*; got caption"):
        export_model(model, processor, "caption")
