"""
EgoSchema, the subset with public answers: long-term questions about three minutes of egocentric video.

- Source: K. Mangalam et al., "EgoSchema: A Diagnostic Benchmark for Very Long-form Video Language Understanding",
  NeurIPS 2023; https://github.com/egoschema/EgoSchema. Files `questions.json`, a list with `q_uid`, `question` and
  `option 0` to `option 4`, and `subset_answers.json`, from `q_uid` to the answer's index.
- Splits: validation is the subset of 500 questions with public answers, which results here are on; test is all
  5 031 questions, without answers, for the authors' server.
- Task: multiple choice of 5.
- Metric: accuracy.
- Videos: `{q_uid}.mp4`.
"""

from pathlib import Path

from .official_files import VideoFolder, annotation_file, choice_row, one_of_splits, read_object, read_rows


def load_rows(annotations: Path, videos: Path | None, split: str) -> list[dict]:
    """Reads the rows of a split, see [`load_benchmark`]."""
    one_of_splits("egoschema", split, "validation", "test")
    path, folder = annotation_file(annotations, "questions.json"), VideoFolder(videos)
    official = read_rows(path, "q_uid", "question", *(f"option {place}" for place in range(5)))
    answers = {}
    if split == "validation":
        answer_path = annotation_file(path.parent, "subset_answers.json")
        answers = read_object(answer_path)
        missing = answers.keys() - {row["q_uid"] for row in official}
        if missing:
            raise ValueError(f"{path} has no question {sorted(missing)[0]}, which {answer_path.name} answers.")
    return [
        {
            "video": folder.find([row["q_uid"]], f"{row['q_uid']}.mp4"),
            "question_id": row["q_uid"],
            **choice_row(
                row["question"],
                [row[f"option {place}"] for place in range(5)],
                answers.get(row["q_uid"]),
                f"{path}, row {number}",
            ),
        }
        for number, row in enumerate(official, start=1)
        if split == "test" or row["q_uid"] in answers
    ]
