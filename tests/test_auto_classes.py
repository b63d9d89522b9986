"""What `import modeling_siasamrea` does and leaves alone, and checkpoints of before and without the package."""

import ast
import importlib.util
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForVisualQuestionAnswering,
    AutoProcessor,
    AutoVideoProcessor,
    configuration_utils,
    pipeline,
)

import modeling_siasamrea
from modeling_siasamrea import SiaSamReaForVideoQuestionAnswering, SiaSamReaProcessor, SiaSamReaVideoProcessor


OLD = Path(__file__).with_name("checkpoint_0_2_0")  # saved by version 0.2.0, with the numbers it gave


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


IMPORT = """
import ctypes, logging, os, sys
import av, torch, torchvision, transformers
from transformers import AutoProcessor, BertModel, Pipeline

made = []

def recorded(name, function):
    def call(*args, **kwargs):
        made.append((name, sys._getframe(1).f_globals["__name__"]))
        return function(*args, **kwargs)
    return call

def state():
    loggers = {name: logging.getLogger(name).level for name in logging.root.manager.loggerDict}
    return dict(os.environ), av.logging.get_level(), {n: v for n, v in loggers.items() if v}

os.register_at_fork = recorded("register_at_fork", os.register_at_fork)
ctypes.CDLL = recorded("CDLL", ctypes.CDLL)
before = state()
import modeling_siasamrea
assert state() == before, (state(), before)
assert not [call for call in made if "siasamrea" in call[1]], made
heavy = ("datasets", "peft", "evaluate", "matplotlib")
heavy += ("modeling_siasamrea.training", "modeling_siasamrea.video_language")
assert not [name for name in heavy if name in sys.modules]
"""


@pytest.mark.end_to_end
def test_importing_the_package_changes_nothing_of_the_process():
    output = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True)
    assert output.returncode == 0, output.stderr


@pytest.fixture(scope="module")
def expected():
    return json.loads((OLD / "expected.json").read_text())


@pytest.fixture(scope="module")
def old_checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("old") / "checkpoint_of_0_2_0"
    with zipfile.ZipFile(OLD / "checkpoint.zip") as archive:
        archive.extractall(folder)
    return folder


def assert_equal_numbers(numbers, expected):
    """Compares nested lists and dictionaries of numbers and texts."""
    if isinstance(expected, (dict, list)):
        assert type(numbers) is type(expected) and len(numbers) == len(expected)
        for key in expected if isinstance(expected, dict) else range(len(expected)):
            assert_equal_numbers(numbers[key], expected[key])
    else:
        assert numbers == (pytest.approx(expected, abs=1e-5) if isinstance(expected, float) else expected)


def test_a_checkpoint_of_version_0_2_0_answers_as_before(old_checkpoint, expected):
    specification = importlib.util.spec_from_file_location("answers", OLD / "answers.py")
    script = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(script)
    assert_equal_numbers(script.answers(str(old_checkpoint)), expected)


@pytest.mark.end_to_end
def test_checkpoints_answer_where_the_package_is_not_installed(old_checkpoint, expected, tmp_path):
    """The old checkpoint by the old code in its folder, and the same one saved again, by today's."""
    answerer = pipeline("video-question-answering", model=str(old_checkpoint))
    answerer.save_pretrained(tmp_path / "saved_again")
    folders = [tmp_path / "saved_again"]
    if hasattr(configuration_utils, "SubConfigSpec"):  # the old code needs Transformers 5.20
        folders.append(old_checkpoint)
    output = subprocess.run(
        [sys.executable, OLD / "answers.py", "--without-package", *folders],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": str(tmp_path / "modules")},
    )
    assert output.returncode == 0, output.stderr
    assert_equal_numbers(json.loads(output.stdout.splitlines()[-1]), [expected] * len(folders))


def test_saved_code_imports_its_neighbours_only(folder):
    """Transformers copies the files of a folder flat: other relative imports, and the package, are not there."""
    names = {path.stem for path in folder.glob("*.py")}
    assert {"pipeline_siasamrea", "modeling_siasamrea", "processing_siasamrea"} <= names
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level:
                assert node.level == 1 and node.module in names, (path.name, node.module)
            elif isinstance(node, ast.Import | ast.ImportFrom):
                modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module]
                assert not any(module.startswith("modeling_siasamrea") for module in modules), path.name
