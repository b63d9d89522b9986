"""What `import modeling_siasamrea` makes Transformers know, and a checkpoint where the package is not installed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoModelForVisualQuestionAnswering, AutoProcessor, AutoVideoProcessor

import modeling_siasamrea
from modeling_siasamrea import SiaSamReaForVideoQuestionAnswering, SiaSamReaProcessor, SiaSamReaVideoProcessor


@pytest.fixture
def folder(tiny_config, tokenizer, tmp_path):
    torch.manual_seed(0)
    config = tiny_config(tasks=["open_ended"], id2label={0: "cat", 1: "dog"})
    SiaSamReaForVideoQuestionAnswering(config).save_pretrained(tmp_path / "checkpoint")
    processor = SiaSamReaProcessor(SiaSamReaVideoProcessor(size={"longest_edge": 64}, frames_per_clip=3), tokenizer)
    processor.save_pretrained(tmp_path / "checkpoint")
    return tmp_path / "checkpoint"


@pytest.mark.parametrize("trust_remote_code", [False, True])
def test_auto_classes(folder, trust_remote_code):
    for auto_class, name in {
        AutoConfig: "SiaSamReaConfig",
        AutoModel: "SiaSamReaModel",
        AutoModelForVisualQuestionAnswering: "SiaSamReaForVideoQuestionAnswering",
        AutoProcessor: "SiaSamReaProcessor",
        AutoVideoProcessor: "SiaSamReaVideoProcessor",
    }.items():
        loaded = auto_class.from_pretrained(folder, trust_remote_code=trust_remote_code)
        assert type(loaded) is getattr(modeling_siasamrea, name)  # the installed package, not the folder's copy


def test_importing_the_package_leaves_heavy_optional_packages_alone():
    code = (
        "import sys, modeling_siasamrea; print([m for m in ('decord', 'datasets', 'peft', 'evaluate', 'matplotlib') "
    )
    output = subprocess.run([sys.executable, "-c", code + "if m in sys.modules])"], capture_output=True, text=True)
    assert output.stdout.strip() == "[]", output.stderr


REMOTE = """
import importlib.util, json, sys
assert importlib.util.find_spec("modeling_siasamrea") is None
from transformers import AutoModel, AutoModelForVisualQuestionAnswering, AutoProcessor, AutoVideoProcessor, pipeline
folder, video = sys.argv[1:]
known = dict(trust_remote_code=True)
names = [type(c.from_pretrained(folder, **known)).__name__ for c in (AutoModel, AutoProcessor, AutoVideoProcessor)]
model = AutoModelForVisualQuestionAnswering.from_pretrained(folder, **known).eval()
processor = AutoProcessor.from_pretrained(folder, **known)
inputs = processor(videos=video, text="what is it?", return_tensors="pt")
score = model(**inputs).logits.softmax(dim=1).max().item()
answer = pipeline("video-question-answering", model=folder, **known)
answers = answer(video=video, question="what is it?")
again = folder + "-again"
answer.save_pretrained(again)
answers_again = pipeline("video-question-answering", model=again, **known)(video=video, question="what is it?")
print(json.dumps([names, score, answers, answers_again]))
"""


def test_a_checkpoint_works_where_the_package_is_not_installed(folder, write_video, tmp_path):
    """A virtual environment that sees this one's packages, except this package."""
    video = write_video(tmp_path / "video.mp4")
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    site = next((environment / "lib").glob("python*")) / "site-packages"
    for package in Path(torch.__file__).parents[1].iterdir():
        if "siasamrea" not in package.name and package.suffix != ".pth":
            (site / package.name).symlink_to(package)
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    output = subprocess.run(
        [environment / "bin" / "python", "-c", REMOTE, str(folder), str(video)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=variables | {"HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": str(tmp_path / "modules")},
    )
    assert output.returncode == 0, output.stderr
    names, score, answers, answers_again = json.loads(output.stdout.splitlines()[-1])
    assert names == ["SiaSamReaModel", "SiaSamReaProcessor", "SiaSamReaVideoProcessor"]

    model = SiaSamReaForVideoQuestionAnswering.from_pretrained(folder)
    inputs = SiaSamReaProcessor.from_pretrained(folder)(videos=video, text="what is it?", return_tensors="pt")
    best = model(**inputs).logits.softmax(dim=1).max().item()
    assert score == pytest.approx(best, abs=1e-6)
    assert answers[0]["score"] == pytest.approx(best, abs=1e-6) and answers_again == answers
