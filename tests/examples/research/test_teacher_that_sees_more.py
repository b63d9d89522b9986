"""The study of a teacher that sees more: its data and clips by hand, one run of each variant, the protocol's files."""

import json
import re

import numpy as np
import pytest
import torch

from modeling_siasamrea.commands import train_vlm
from modeling_siasamrea.video_language import VideoLanguageSettings


pytestmark = pytest.mark.research


@pytest.fixture(scope="module")
def script(example):
    return example("teacher_that_sees_more")


def test_a_teacher_sees_the_moment_that_the_student_misses(script):
    videos = script.make_videos(8, seed=0, wrong=1.0)
    assert videos.kinds == ["color", "color", "color", "bar"] * 2
    assert all((videos.said != videos.right) == [kind == "color" for kind in videos.kinds])
    seen = {"teacher_frames": [], "teacher_span": [], "student": []}
    for first in range(40):
        for variant in ("teacher_frames", "teacher_span"):
            settings = VideoLanguageSettings(frames_per_clip=script.STUDENT, **script.VARIANTS[variant][0])
            student, teacher = script.clips_of(first, settings, 2, np.random.default_rng(first))
            assert set(student) < set(teacher) and len(teacher) == script.TEACHER
            in_moment = [(first <= clip) & (clip < first + script.MOMENT) for clip in (student, teacher)]
            seen[variant].append(in_moment[1].sum())
        seen["student"].append(in_moment[0].any())
    assert np.mean(seen["student"]) < 0.6 and np.mean(np.array(seen["teacher_frames"]) > 0) > 0.95
    assert min(seen["teacher_span"]) >= 12  # six frames, each twice
    first, shown = videos.first[0], videos.frames[0, :, :, 4:12, 4:12].float().mean(dim=(2, 3))  # (frames, 3)
    tint = np.array(list(script.COLORS.values())[videos.right[0]])
    np.testing.assert_allclose(shown[first], tint, atol=6)
    np.testing.assert_allclose(shown[-1], 110 + script.TRACE * (tint - 110), atol=6)


def test_each_variant_is_run_once_and_the_tables_are_made_of_the_lines(script, tmp_path):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- tables -->\nold\n<!-- end of tables -->\nafter\n")
    small = ["--seeds", "1", "--steps", "2", "--videos", "8", "--test_videos", "8", "--start_videos", "8"]
    small += [
        "--start_steps",
        "2",
        "--wrong",
        "0.5",
        "--page",
        str(page),
        "--results",
        str(tmp_path / "results.jsonl"),
    ]
    for _ in range(2):
        script.main([*small, "--start", str(tmp_path / "start.pt")])
    runs = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert [run["variant"] for run in runs] == list(script.VARIANTS)
    assert {run["variant"]: run["steps"] for run in runs}["plain, equal arithmetic (more steps)"] == 5  # 2 * 28 / 12
    assert all({kind: len(line) for kind, line in run["correct"].items()} == {"color": 6, "bar": 2} for run in runs)
    assert [run["teacher_right"] is not None for run in runs] == [False] * 4 + [True] * 3
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text
    assert text.count("| teacher_span |") == 2 and "**8 training videos**" in text


def test_paired_differences_by_hand(script):
    ours, theirs = (
        {seed: {"correct": {"color": "1" * n + "0" * (10 - n)}} for seed, n in enumerate(right)}
        for right in ((5, 7), (4, 4))
    )
    # Differences 0.1 and 0.3: their mean is 0.2, its standard error 0.1, and t with one degree of freedom 12.706.
    table = script.differences({"teacher_span": ours, "plain": theirs})
    assert table.splitlines()[-1] == "| teacher_span | +0.200 ± 1.271 |  |  |"


def test_accuracies_by_hand(script):
    model, family = script.make_model()
    prompts, videos = script.Prompts(family), script.make_videos(8, seed=0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    # All scores are equal, so the first candidate is taken.
    expected = {"color": "", "bar": ""}
    for kind, right in zip(videos.kinds, videos.right):
        expected[kind] += "1" if right == 0 else "0"
    assert script.correct(model, prompts, videos, 4) == expected


@pytest.mark.parametrize("name", ["teacher_smolvlm2_500m", "teacher_qwen3_vl_2b"])
def test_the_protocol_s_configurations_are_read(script, name):
    folder = script.Path(script.__file__).parent
    command = [str(folder / "configs" / f"{name}.json"), "--use_cpu", "--bf16", "false"]
    model, data, training = train_vlm.parse_arguments(command)
    settings = VideoLanguageSettings(**model.method)
    assert settings.teacher_frames == 32 and settings.teacher_span and settings.num_clips == 2
    assert (
        data.train_file == "rows/nextgqa_validation.jsonl"
        and training.do_predict
        and training.questions_per_video == 1
    )
    overrides = re.findall(r"--method '(.*?)'", (folder / "teacher" / "README.md").read_text())
    made = [VideoLanguageSettings(**train_vlm.parse_arguments([*command, "--method", o])[0].method) for o in overrides]
    assert [one.teacher_frames for one in made] == [32, None, 32, 32, None] and made[4].frames_per_clip == 32
    assert [one.siamese_clips_trained for one in made] == [True, True, False, False, True] and made[1].num_clips == 5
