"""The command `siasamrea`: its names at once, its help on one screen, and the other name of the package."""

import subprocess
import sys
from pathlib import Path

import pytest

import modeling_siasamrea
from modeling_siasamrea.commands import siasamrea_command


LIGHT = """
import sys
sys.path.insert(0, sys.argv[1])
from siasamrea_command import main
print([main(argv) for argv in (["--help"], ["--version"], ["trian"], [])])
print([name for name in ("torch", "transformers", "modeling_siasamrea") if name in sys.modules])
"""


def test_names_and_misspelt_names_import_nothing_heavy():
    folder = str(Path(siasamrea_command.__file__).parent)
    ran = subprocess.run([sys.executable, "-c", LIGHT, folder], capture_output=True, text=True, check=True)
    *_, codes, imported = ran.stdout.splitlines()
    assert codes == "[0, 0, 2, 2]" and imported == "[]" and "did you mean train?" in ran.stderr
    assert all(f"\n  {name} " in ran.stdout for name in siasamrea_command.COMMANDS)


@pytest.mark.parametrize("name", [*siasamrea_command.COMMANDS, "train_vlm"])
def test_each_command_has_help_on_a_screen_and_refuses_bad_usage_in_one_sentence(name, capsys):
    for argv, code in (([name, "--help"], 0), ([name, "--nonsense", "1"], 2)):
        try:
            assert siasamrea_command.main(argv) == code
        except SystemExit as stopped:
            assert stopped.code == code
        out, err = capsys.readouterr()
        assert (
            (out.startswith("usage: siasamrea") and out.count("\n") <= 40) if not code else len(err.splitlines()) == 1
        )


def test_the_package_has_the_name_of_its_distribution_too():
    import siasamrea

    for name in ("SiaSamReaConfig", "VideoLanguageSettings", "__version__"):
        assert getattr(siasamrea, name) is getattr(modeling_siasamrea, name)
    assert set(modeling_siasamrea.__all__) < set(siasamrea.__all__)
    with pytest.raises(AttributeError):
        siasamrea.no_such_name  # noqa: B018
