"""
Every code block of the README and the pages is run, in the order in which a reader meets it.

Commands run as they are written, in a folder with what the pages presuppose: videos, rows, small encoders under the
hub names that the pages use, and a checkpoint where the quickstart leaves one. Trainings are shortened by `SHORTER`.
"""

import contextlib
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.commands.config.config_args import load_config_from_file
from clipbert_weights import OPEN_ENDED, official_state
from official_files import OFFICIAL
from other_processes import transformers_server
from tiny_video_language_models import tiny
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    BertConfig,
    BertModel,
    ResNetConfig,
    ResNetModel,
)

from modeling_siasamrea import SiaSamReaForVideoQuestionAnswering, SiaSamReaProcessor, SiaSamReaVideoProcessor
from modeling_siasamrea.commands import siasamrea_command
from modeling_siasamrea.commands.ask import ask_arguments
from modeling_siasamrea.commands.demo import demo_arguments


pytestmark = pytest.mark.end_to_end
ROOT = Path(__file__).resolve().parents[1]
# In the order in which a reader meets them.
PAGES = ("README.md", "examples/own_data.md", "examples/video_language_models.md", "examples/README.md")
PAGES += tuple(f"examples/{name}.md" for name in ("speed", "several_machines", "troubleshooting", "glossary", "api"))
PAGES += ("examples/configs/README.md",)
PAGES += ("examples/research/ablation/README.md", "model_cards/README.md", "CONTRIBUTING.md", "CHANGELOG.md")
VIDEO_LANGUAGE_MODELS = {"qwen3_vl": "Qwen/Qwen3-VL-2B-Instruct", "smolvlm": "HuggingFaceTB/SmolVLM2-2.2B-Instruct"}
# Commands that set a machine up, among them those that this test runs under.
SET_UP = ("pip ", "python -m venv", "source ", "python -m pytest", "ruff ", "mkdocs ")
CPU = "--use_cpu --report_to none"
SHORT_RUN = f"--max_steps 2 --save_strategy no {CPU}"
SMALL_METHOD = '{"num_clips": 2, "frames_per_clip": 4, "max_new_tokens": 4}'
SMALL_FRAMES = """--video_processor '{"size": {"longest_edge": 64}, "frames_per_clip": 2}'"""
SHORT_VLM = f"""{SHORT_RUN} --dataloader_num_workers 0 --bf16 false --gradient_checkpointing false --lora_rank 2
    --method '{SMALL_METHOD}'"""
SHORT_QUICKSTART = f"""{SHORT_RUN} --dataloader_num_workers 0 --sample_data
    '{{"train_videos": 4, "validation_videos": 2, "test_videos": 2}}' --output_dir outputs/short
    --train_file outputs/short_data/train.jsonl --validation_file outputs/short_data/validation.jsonl
    --test_file outputs/short_data/test.jsonl --video_folder outputs/short_data"""
COMMAND_OF_SCRIPT = {"examples/run_videoqa.py": "train", "examples/run_videoqa_vlm.py": "train-vlm"}
# What is added to a command that has these words, so that it ends within seconds.
SHORTER = {
    "examples/configs/quickstart.json": SHORT_QUICKSTART,
    "siasamrea train quickstart": SHORT_QUICKSTART,
    "train-vlm qwen3_vl_2b": f"""{SHORT_VLM}
        --family_video_processor '{{"size": {{"shortest_edge": 2048, "longest_edge": 65536}}}}'""",
    "examples/configs/smolvlm2_2b.json": SHORT_VLM,
    "evaluate Qwen": f"{CPU} --bf16 false --dataloader_num_workers 0 --method '{SMALL_METHOD}'",
    "examples/configs/msvd_qa.json": f"""{SHORT_RUN} --eval_strategy no --load_best_model_at_end false
        --model outputs/quickstart --dataloader_num_workers 0 --image_encoder_learning_rate 1e-5 {SMALL_FRAMES}""",
    "evaluate llava-adapter": f"{CPU} --bf16 false --dataloader_num_workers 0",
    "siasamrea train own_videos": f"{SHORT_RUN} --eval_strategy no --load_best_model_at_end false {SMALL_FRAMES}",
    "siasamrea train": f"{SHORT_RUN} {SMALL_FRAMES}",
    "siasamrea convert": "--num_attention_heads 2 --longest_edge 64",
}


def blocks() -> list:
    """The fenced blocks of the pages with their language, as parameters of the test."""
    found = []
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8") if (ROOT / page).is_file() else ""
        for number, match in enumerate(re.finditer(r"^```(\w*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)):
            found.append(pytest.param(match[1], match[2], id=f"{page}-{number}-{match[1]}"))
    return found


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Path:
    """A folder for a reader who has done what the pages presuppose."""
    return tmp_path_factory.mktemp("reader")


@pytest.fixture
def reader(workspace, tiny_config, tokenizer, write_video, monkeypatch) -> Path:
    """The workspace as the current folder."""
    monkeypatch.chdir(workspace)
    if (workspace / "examples").exists():
        return workspace
    (workspace / "examples").symlink_to(ROOT / "examples")
    torch.manual_seed(0)
    answers = {0: "onion", 1: "circle", 2: "cat1"}
    config = tiny_config(tasks=["open_ended", "multiple_choice", "count"], id2label=answers)
    SiaSamReaForVideoQuestionAnswering(config).save_pretrained("outputs/quickstart")
    SiaSamReaProcessor(
        SiaSamReaVideoProcessor(size={"longest_edge": 64}, frames_per_clip=2, num_clips=3), tokenizer
    ).save_pretrained("outputs/quickstart")
    ResNetModel(ResNetConfig(**config.vision_config.to_diff_dict())).save_pretrained("microsoft/resnet-50")
    text = config.text_config.to_diff_dict() | {"vocab_size": len(tokenizer)}
    BertModel(BertConfig(**text)).save_pretrained("google-bert/bert-base-uncased")
    tokenizer.save_pretrained("google-bert/bert-base-uncased")
    for family, name in VIDEO_LANGUAGE_MODELS.items():
        model, processor = tiny(family)
        if family == "qwen3_vl":  # whose tiny template knows no pictures
            pictures = "{%- elif part['type'] == 'image' -%}<|vision_start|><|image_pad|><|vision_end|>{%- else -%}"
            processor.chat_template = processor.chat_template.replace("{%- else -%}", pictures, 1)
        model.save_pretrained(name)
        processor.save_pretrained(name)
    torch.save(official_state(OPEN_ENDED), "clipbert_image_text_pretrained.pt")
    for video in ("outputs/sample_data/videos/test_00000.mp4", "cat.mp4", "videos/cooking/0001.mp4"):
        write_video(workspace / video, frames=80)
    write_video(workspace / "videos/cooking/0002.mp4", frames=400)
    (workspace / "requests.jsonl").touch()
    (workspace / "data").mkdir()
    (workspace / "data/videos").symlink_to(workspace / "videos")
    (workspace / "annotations/msvd_qa").mkdir(parents=True)
    for video in OFFICIAL["msvd_qa"](workspace / "annotations/msvd_qa"):
        write_video(workspace / "videos/msvd" / video, frames=16, codec="mpeg4")
    (workspace / "annotations/nextgqa").mkdir()
    for video in OFFICIAL["nextgqa"](workspace / "annotations/nextgqa"):
        write_video(workspace / "videos/nextqa" / video, frames=16)
    return workspace


@pytest.fixture(scope="module")
def server() -> Iterator[dict[str, Any]]:
    """What pages start: the `port` of a model server, which `stack` ends, and the command of the `page`."""
    with contextlib.ExitStack() as stack:
        yield {"stack": stack}


def commands(block: str) -> list[list[str]]:
    """The commands of a shell block but for those that set a machine up, split into words and shortened."""
    lines = [line for line in block.replace("\\\n", " ").splitlines() if line.strip()]
    found = []
    for command in (part.strip() for line in lines for part in line.split("&&")):
        if command.startswith(SET_UP) or command.startswith("#"):
            continue
        words = shlex.split(command, comments=True)
        for cause, added in SHORTER.items():
            if cause in command:
                words += shlex.split(added)
                break
        found.append(words)
    return found


def serves(words: list[str]) -> bool:
    """Whether a command that goes on until it is stopped says where its page is."""
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    process = subprocess.Popen(
        [sys.executable, "-m", "modeling_siasamrea", *words[1:]],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    )
    try:
        return any("http://127.0.0.1" in line for line in process.stdout)
    finally:
        process.terminate()
        process.wait()


def run(words: list[str], example: Callable, server: dict[str, Any]) -> None:
    """Runs a command of the package or a script of `examples/` in this process, as one process where several share."""
    if words[:2] == ["transformers", "serve"]:
        pytest.importorskip("openai", reason="`transformers serve` needs transformers[serving]")
        server["port"] = server["stack"].enter_context(transformers_server(words[2], Path("server.log")))
        return
    if words[0] == "accelerate" or "--nnodes" in words:  # of several machines: all is read, nothing is started
        if "--config_file" in words:
            load_config_from_file(words[words.index("--config_file") + 1])
        place = next(place for place, word in enumerate(words) if word in COMMAND_OF_SCRIPT)
        module = f"modeling_siasamrea.commands.{COMMAND_OF_SCRIPT[words[place]].replace('-', '_')}"
        assert import_module(module).parse_arguments(words[place + 1 :])
        return
    if words[:2] == ["torchrun", "--nproc_per_node"]:
        words = ["python", *words[3:]]
    if words[:2] == ["siasamrea", "demo"]:
        pytest.importorskip("gradio", reason="the page needs Gradio")
        # The first is started, which takes seconds; the others are read.
        assert serves(words) if server.setdefault("page", words) is words else demo_arguments(words[2:])
    elif "--engine" in words:  # Ray has tests of its own
        assert ask_arguments(words[2:])
    elif words[0] == "siasamrea":
        assert siasamrea_command.main(words[1:]) in (0, None), shlex.join(words)
    else:
        assert words[0] == "python" and words[1].startswith("examples/"), f"unknown command: {shlex.join(words)}"
        if words[1] in COMMAND_OF_SCRIPT:
            assert siasamrea_command.main([COMMAND_OF_SCRIPT[words[1]], *words[2:]]) in (0, None), shlex.join(words)
        else:
            example(Path(words[1]).stem).main(words[2:])


def own_answer(body: dict[str, Any]) -> str:
    """What plain Transformers answers to a request for a model server, greedily."""
    processor = AutoProcessor.from_pretrained(body["model"])
    model = AutoModelForImageTextToText.from_pretrained(body["model"])
    content = body["messages"][0]["content"]
    pictures = [{"type": "image", "url": part["image_url"]["url"]} for part in content if "image_url" in part]
    inputs = processor.apply_chat_template(
        [{"role": "user", "content": [*pictures, content[-1]]}],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
    )
    tokens = model.generate(**inputs, max_new_tokens=body["max_tokens"], do_sample=False)
    return processor.decode(tokens[0, inputs["input_ids"].shape[1] :])


@pytest.mark.parametrize(("language", "block"), blocks())
def test_code_blocks_run(language, block, reader, example, server, capsys):
    if language == "json":
        rows = [json.loads(line) for line in block.splitlines()]
        files = ("train.jsonl", "validation.jsonl", "data/train.jsonl", "data/validation.jsonl")
        for file in ("llava.jsonl",) if "conversations" in rows[0] else files:
            Path(file).write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif language == "python":
        asks = "localhost:8000" in block
        if asks and "port" not in server:
            pytest.skip("the server that this block asks was not started")
        block = block.replace("localhost:8000", f"127.0.0.1:{server.get('port')}")
        short = block.replace("learning_rate=", 'max_steps=2, save_strategy="no", report_to="none", learning_rate=')
        names = {"__name__": "__main__"}
        exec(compile(short, "block", "exec"), names)
        if asks:
            assert capsys.readouterr().out == own_answer(names["body"]) + "\n"
    elif language == "bash":
        for words in commands(block):
            run(words, example, server)
    else:
        assert not language, f"a block in {language} is not run by anything"


@pytest.mark.parametrize("page", PAGES)
def test_pages_link_to_files_and_import_from_the_root(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert (ROOT / page).parent.joinpath(target).exists(), f"{page} links to {target}, which is not there"
    assert not re.search(r"(from|import) modeling_siasamrea\.", text)


def test_the_site_builds(tmp_path):
    pytest.importorskip("material", reason="the site needs MkDocs Material, extra docs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    api = (tmp_path / "site" / "examples" / "api" / "index.html").read_text(encoding="utf-8")
    assert "load_video_questions" in api and "[<code>" not in api
