"""An adapter merged into its base model answers as before, with plain Transformers too."""

import shutil

import pytest
import torch
from tiny_video_language_models import FAMILIES, ODD_FAMILIES, tiny
from transformers import AutoModelForImageTextToText, AutoProcessor, pipeline

from modeling_siasamrea import (
    SiaSamReaForVideoQuestionAnswering,
    SiaSamReaProcessor,
    VideoLanguageSettings,
    add_lora,
)
from modeling_siasamrea.commands.merge import main


CANDIDATES = ["cat", "dog", "red"]


def random_adapter(model):
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.3)
    return model


@pytest.fixture
def adapter(tmp_path):
    """Writes a tiny family's base model and an adapter over it."""

    def write(family: str) -> str:
        model, processor = tiny(family)
        model.save_pretrained(tmp_path / "base")
        processor.save_pretrained(tmp_path / "base")
        model = AutoModelForImageTextToText.from_pretrained(tmp_path / "base")
        random_adapter(add_lora(model, 2)).save_pretrained(tmp_path / "adapter")
        processor.save_pretrained(tmp_path / "adapter")
        VideoLanguageSettings(frames_per_clip=4).save_pretrained(tmp_path / "adapter")
        return str(tmp_path / "adapter")

    return write


@pytest.mark.parametrize("family", [*FAMILIES, *ODD_FAMILIES])
def test_a_merged_model_of_each_family_answers_as_its_adapter(family, adapter, write_video, tmp_path):
    folder, merged = adapter(family), str(tmp_path / "merged")
    main([folder, merged])
    video = str(write_video(tmp_path / "v.mp4", frames=16))
    asked = {"video": video, "question": "which ?", "candidates": CANDIDATES}
    before, after, base = (
        pipeline("video-question-answering", model=name) for name in (folder, merged, str(tmp_path / "base"))
    )
    assert after.processor.settings == before.processor.settings and not hasattr(after.model, "peft_config")
    scores, expected = ({one["answer"]: one["score"] for one in answer(**asked)} for answer in (after, before))
    assert scores == pytest.approx(expected, rel=1e-3)
    assert scores != pytest.approx({one["answer"]: one["score"] for one in base(**asked)}, rel=1e-3)
    # Transformers alone gives the same logits to the same inputs.
    plain = AutoModelForImageTextToText.from_pretrained(merged)
    inputs = AutoProcessor.from_pretrained(merged)(text="cat", return_tensors="pt")
    with torch.no_grad():
        torch.testing.assert_close(plain(**inputs).logits, before.model(**inputs).logits, rtol=1e-4, atol=1e-5)


def test_an_adapter_of_the_own_network_and_what_is_none(tmp_path, tiny_config, processor):
    model = SiaSamReaForVideoQuestionAnswering(tiny_config(num_labels=3))
    model.save_pretrained(tmp_path / "base")
    processor.save_pretrained(tmp_path / "base")
    model = SiaSamReaForVideoQuestionAnswering.from_pretrained(tmp_path / "base")
    random_adapter(add_lora(model, 2)).save_pretrained(tmp_path / "adapter")
    model.config.save_pretrained(tmp_path / "adapter")
    processor.save_pretrained(tmp_path / "adapter")
    copy = shutil.copytree(tmp_path / "base", tmp_path / "copy")
    main([str(tmp_path / "adapter"), str(tmp_path / "merged"), "--base_model", str(copy)])
    merged, adapted = (SiaSamReaForVideoQuestionAnswering.from_pretrained(tmp_path / n) for n in ("merged", "adapter"))
    torch.testing.assert_close(dict(merged.named_parameters()), dict(adapted.named_parameters()))
    assert not (tmp_path / "merged" / "adapter_config.json").exists()
    assert (
        SiaSamReaProcessor.from_pretrained(tmp_path / "merged").tokenizer.vocab_size == processor.tokenizer.vocab_size
    )
    with pytest.raises(ValueError, match="base"):
        main([str(tmp_path / "base"), str(tmp_path / "elsewhere")])
    with pytest.raises(SystemExit, match="2"):
        main([str(tmp_path / "adapter"), str(tmp_path / "merged")])
