"""`siasamrea export`: the program gives the model's scores."""

import pytest
import torch

from modeling_siasamrea import SiaSamReaForVideoQuestionAnswering, SiaSamReaProcessor
from modeling_siasamrea.commands import siasamrea_command


@pytest.mark.end_to_end
def test_an_exported_program_answers_as_the_model(capsys, tiny_config, processor, small_data, tmp_path):
    model, exported = str(tmp_path / "model"), tmp_path / "exported"
    SiaSamReaForVideoQuestionAnswering(tiny_config(tasks=["open_ended", "count"])).save_pretrained(model)
    processor.save_pretrained(model)
    assert siasamrea_command.main(["export", "--model", model, "--task", "count", str(exported)]) == 0
    out = capsys.readouterr().out
    assert out == f"{exported / 'model.pt2'}\n"
    inputs = SiaSamReaProcessor.from_pretrained(exported)(
        videos=str(small_data / "v0.mp4"),
        text=["what is it ?"],
        video_index=[0],
        return_tensors="pt",
    )
    logits = SiaSamReaForVideoQuestionAnswering.from_pretrained(model)(**inputs, task="count").logits
    torch.testing.assert_close(torch.export.load(out.strip()).module()(**inputs), logits, atol=1e-6, rtol=1e-5)
    for wrong, sentence in (
        ([model, str(exported)], "task must be one of"),
        ([model, model], "folder of its own"),
        ([str(tmp_path / "none"), str(exported)], "none cannot be loaded: there is no such folder"),
    ):
        try:
            code = siasamrea_command.main(["export", *wrong])
        except SystemExit as stopped:
            code = stopped.code
        out, err = capsys.readouterr()
        assert code == 2 and not out and len(err.splitlines()) == 1 and sentence in err, (wrong, err)
