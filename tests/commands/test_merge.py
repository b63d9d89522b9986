"""An adapter merged into its base model answers as before, with plain Transformers too."""

import json
import shutil
import urllib.request

import pytest
import torch
from other_processes import transformers_server
from tiny_video_language_models import FAMILIES, tiny
from transformers import AutoModelForImageTextToText, AutoProcessor, pipeline

from modeling_siasamrea import (
    SiaSamReaForVideoQuestionAnswering,
    SiaSamReaProcessor,
    VideoLanguageSettings,
    add_lora,
    decode_frames,
)
from modeling_siasamrea.commands.merge import main
from modeling_siasamrea.demo.drawing import picture


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


@pytest.mark.parametrize("family", FAMILIES)
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


@pytest.mark.end_to_end
def test_transformers_serve_gives_the_first_token_of_the_merged_model(adapter, write_video, tmp_path):
    pytest.importorskip("openai", reason="`transformers serve` needs transformers[serving]")
    merged = str(tmp_path / "merged")
    main([adapter("qwen2_5_vl"), merged])
    processor = AutoProcessor.from_pretrained(merged)  # the tiny template knows no pictures
    written = "{%- elif part['type'] == 'image' -%}<|vision_start|><|image_pad|><|vision_end|>{%- else -%}"
    processor.chat_template = processor.chat_template.replace("{%- else -%}", written, 1)
    processor.save_pretrained(merged)
    # Frames as pictures: of a video this server reads the sound, too, which needs torchcodec and a track of it.
    frames, _ = decode_frames(write_video(tmp_path / "v.mp4", frames=16), [0, 8])
    addresses = [picture(frame) for frame in frames.permute(0, 2, 3, 1).numpy()]
    content = [{"type": "image_url", "image_url": {"url": address}} for address in addresses]
    content.append({"type": "text", "text": "which ?"})
    body = {"model": merged, "messages": [{"role": "user", "content": content}], "max_tokens": 1, "temperature": 0}
    with transformers_server(merged, tmp_path / "log") as port:
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/v1/chat/completions",
            json.dumps(body | {"stream": False}).encode(),
            {"Content-Type": "application/json"},
        )
        served = json.loads(urllib.request.urlopen(request, timeout=120).read())["choices"][0]["message"]["content"]
    content = [*({"type": "image", "url": address} for address in addresses), content[-1]]
    chat = [{"role": "user", "content": content}]
    inputs = processor.apply_chat_template(
        chat, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
    model = AutoModelForImageTextToText.from_pretrained(merged)
    token = model.generate(**inputs, max_new_tokens=1, do_sample=False)[:, -1]
    assert served == processor.decode(token, skip_special_tokens=True)
