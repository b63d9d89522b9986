"""
MVBench: 20 temporal tasks made from other data sets.

- Source: K. Li et al., "MVBench: A Comprehensive Multi-modal Video Understanding Benchmark", CVPR 2024;
  https://huggingface.co/datasets/OpenGVLab/MVBench. Files `json/{task}.json`, lists of `video`, `question`,
  `candidates` and `answer` (a text), with `start` and `end` in seconds where a part of the video is asked about.
- Split: test only, 20 tasks of 200 questions; tasks whose file is not there are named in a warning.
- Task: multiple choice of 2 to 5.
- Metric: accuracy by task; the published score is the mean over tasks, which is the accuracy because they are equally
  large.
- Videos: `video/{folder}/{video}`. Those of episodic reasoning are folders of frames at 3 a second: make a video of
  each that bears the folder's name.
"""

from pathlib import Path

from transformers.utils import logging

from .official_files import VideoFolder, choice_row, one_of_splits, read_rows, without_suffix


logger = logging.get_logger(__name__)

STAR, CLEVRER, PERCEPTION = "star/Charades_v1_480", "clevrer/video_validation", "perception/videos"
FOLDERS = {
    "action_sequence": STAR,
    "action_prediction": STAR,
    "action_antonym": "ssv2_video",
    "fine_grained_action": "Moments_in_Time_Raw/videos",
    "unexpected_action": "FunQA_test/test",
    "object_existence": CLEVRER,
    "object_interaction": STAR,
    "object_shuffle": PERCEPTION,
    "moving_direction": CLEVRER,
    "action_localization": "sta/sta_video",
    "scene_transition": "scene_qa/video",
    "action_count": PERCEPTION,
    "moving_count": CLEVRER,
    "moving_attribute": CLEVRER,
    "state_change": PERCEPTION,
    "fine_grained_pose": "nturgbd",
    "character_order": PERCEPTION,
    "egocentric_navigation": "vlnqa",
    "episodic_reasoning": "tvqa/frames_fps3_hq",
    "counterfactual_inference": CLEVRER,
}


def load_rows(annotations: Path, videos: Path | None, split: str) -> list[dict]:
    """Reads the rows of a split, see [`load_benchmark`]."""
    one_of_splits("mvbench", split, "test")
    parent = annotations / "json" if (annotations / "json").is_dir() else annotations
    paths = [parent] if parent.is_file() else [parent / f"{task}.json" for task in FOLDERS]
    missing = [path.name for path in paths if not path.is_file() or path.stem not in FOLDERS]
    if len(missing) == len(paths):
        raise ValueError(f"MVBench: {annotations} must have files such as {missing[0]}.")
    if missing:
        logger.warning(f"MVBench: {parent} has no {', '.join(missing)}.")
    folder, rows = VideoFolder(videos), []
    for path in (path for path in paths if path.name not in missing):
        for number, row in enumerate(read_rows(path, "video", "question", "candidates", "answer"), start=1):
            name, stem = f"{FOLDERS[path.stem]}/{row['video']}", without_suffix(row["video"])
            choice = choice_row(row["question"], row["candidates"], row["answer"], f"{path}, row {number}")
            rows.append({"video": folder.find([without_suffix(name), stem], name), **choice})
            rows[-1] |= {"question_id": f"{path.stem}_{number - 1}", "question_type": path.stem}
            rows[-1] |= {"start": row.get("start"), "end": row.get("end")}
    return rows
