"""The wheel does the whole job outside the clone."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import torch


pytestmark = pytest.mark.end_to_end
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def environment(tmp_path) -> Path:
    """An environment with the wheel, built through the sdist, and with the packages it needs from this one."""
    pytest.importorskip("build", reason="the wheel is built with `build`")
    folder = tmp_path / "release"
    # What is committed, or would be.
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listed.returncode:
        pytest.skip("the tests do not run in a clone, so there is nothing to build from")
    for name in listed.stdout.split("\0"):
        if (ROOT / name).is_file():
            (folder / "clone" / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / "clone" / name).write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(folder / "clone")]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "environment")], check=True)
    python = folder / "environment" / "bin" / "python"
    ask = [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    packages = Path(subprocess.check_output(ask, text=True).strip())
    # A path in a .pth file brings packages along, but not the editable installation of the clone.
    other = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), str(Path(torch.__file__).parents[1])}
    (packages / "others.pth").write_text("\n".join(sorted(other)) + "\n")
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--force-reinstall", "-q"]
    subprocess.run([*command, "--no-index", str(next(folder.glob("*.whl")))], check=True)
    return folder / "environment"


def siasamrea(environment: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Runs the installed command in a folder, without what points to the clone."""
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [environment / "bin" / "siasamrea", *arguments], cwd=folder, capture_output=True, text=True, env=clean
    )


def test_the_wheel_trains_the_quickstart_and_answers(environment, tmp_path):
    data = '{"train_videos": 2, "validation_videos": 2, "test_videos": 2}'
    short = ["--max_steps", "2", "--dataloader_num_workers", "0", "--sample_data", data]
    trained = siasamrea(environment, tmp_path, "train", "quickstart", *short)
    assert trained.returncode == 0, trained.stderr
    folder = tmp_path / "outputs" / "quickstart"
    assert (folder / "metrics.json").is_file() and (folder / "README.md").is_file()
    video = next((tmp_path / "outputs" / "sample_data" / "videos").iterdir())
    answered = siasamrea(
        environment, tmp_path, "ask", str(video), "what color ?", "--task", "open_ended", "--model", str(folder)
    )
    assert answered.returncode == 0 and answered.stdout.strip(), answered.stderr
    program = "from importlib import metadata, util; print(metadata.version('siasamrea'))\n"
    program += "print(util.find_spec('modeling_siasamrea').origin)"
    version, file = subprocess.check_output(
        [environment / "bin" / "python", "-c", program], cwd=tmp_path, text=True
    ).splitlines()
    assert Path(file).is_relative_to(environment)
    assert f'version = "{version}"' in (ROOT / "pyproject.toml").read_text()
