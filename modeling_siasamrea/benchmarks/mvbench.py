"""
MVBench: 20 temporal tasks made from other data sets.

- Source: K. Li et al., "MVBench: A Comprehensive Multi-modal Video Understanding Benchmark", CVPR 2024;
  https://huggingface.co/datasets/OpenGVLab/MVBench. Files `json/{task}.json`, lists of `video`, `question`,
  `candidates` and `answer` (a text). Five tasks ask about a part of the video, from `start` to `end` in seconds.
- Split: test only, 20 tasks of 200 questions; tasks whose file is not there are named in a warning.
- Seen: no file. Its 20 names are those of the hub's list, 200 questions per task are what the documentation of the
  harness EvalScope counts; columns, folders and the five tasks are those that the harness VLMEvalKit and copies of the
  authors' notebook read.
- Task: multiple choice of 2 to 5.
- Metric: accuracy by task; the published score is the mean over tasks, which is the accuracy because they are equally
  large.
- Videos: `video/{folder}/{video}` of the main branch; those of the branch `video` are cut already and have other
  names. Those of episodic reasoning are folders of frames at 3 per second: make a video of each that has the folder's
  name.
"""

from collections.abc import Iterator
from pathlib import Path

from ..data.folder_files import FolderFiles
from .official_files import annotation_files, choice_row, read_rows


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
IN_A_PART = ("action_sequence", "action_prediction", "object_interaction", "action_localization", "episodic_reasoning")


def load_rows(annotations: Path, folder: FolderFiles, split: str) -> Iterator[dict]:
    """Reads the rows of a split, see [`load_benchmark`]."""
    for path in annotation_files(annotations, "json", FOLDERS):
        task = path.stem
        times = ("start", "end") if task in IN_A_PART else ()
        official = read_rows(path, "video", "question", "candidates", "answer", *times)
        for number, (where, row) in enumerate(official):
            yield {
                "video": folder.find(f"{FOLDERS[task]}/{row['video']}", row["video"]),
                "question_id": f"{task}_{number}",
                "question_type": task,
                **{time: row[time] if times else None for time in ("start", "end")},
                **choice_row(row["question"], row["candidates"], row["answer"], where),
            }
