"""The benchmarks from official files to a prediction file; rows are written here in the official formats."""

import json
from collections import Counter
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from official_files import GIFS, OFFICIAL, write_json, write_tgif
from tiny_video_language_models import tiny

from modeling_siasamrea import SiaSamReaConfig, SiaSamReaForPreTraining, SiaSamReaProcessor, SiaSamReaVideoProcessor
from modeling_siasamrea.benchmarks import SPLITS, load_benchmark
from modeling_siasamrea.commands import train, train_vlm
from modeling_siasamrea.data.questions import load_video_questions


ROOT = Path(__file__).resolve().parents[2]
CONFIGS, CARDS = ROOT / "examples" / "configs", ROOT / "model_cards"


@pytest.fixture
def benchmark(tmp_path, write_video):
    """Writes a benchmark's files and videos, or files of their names that are empty; returns both folders."""

    def write(name: str, empty: bool = True) -> tuple[Path, Path]:
        annotations, videos = tmp_path / "annotations", tmp_path / "videos"
        annotations.mkdir(exist_ok=True)
        for file in OFFICIAL[name](annotations):
            (videos / file).parent.mkdir(parents=True, exist_ok=True)
            (videos / file).touch()
            if not empty:
                codec = {".gif": "gif", ".avi": "mpeg4"}.get(file[-4:], "libx264")
                write_video(videos / file, frames=16, codec=codec)
        return annotations, videos

    return write


# The split that results are on, where it is not the test split.
REPORTED = dict.fromkeys(("how2qa", "mmvu", "egoschema", "longvideobench", "mlvu"), "validation")


@pytest.mark.parametrize("name", SPLITS)
def test_each_question_of_an_official_file_is_a_row_about_a_video_that_is_found(benchmark, name):
    annotations, videos = benchmark(name)
    rows = load_benchmark(name, annotations, videos, REPORTED.get(name, "test"))
    questions = load_video_questions(rows)
    assert len(questions) == 6 and all(Path(question.video).is_file() for question in questions)
    folder, one = rows[0]["video"], questions[0]
    assert {
        "nextgqa": ("choice 0", ((0.5, 2.0), (4.0, 5.5)), "40_0"),
        "intentqa": ("choice 0", (), "40_0"),
        "tempcompass": ("walking", (), "1_action_0"),
        "tomato": ("0", (), "count_0"),
        "mmvu": ("D", (), "v_0"),  # the letter B, although another option reads "B"
        "egoschema": ("choice 0", (), "uid-0"),
        "mvbench": ("z", (), "action_sequence_0"),
        "longvideobench": ("x", (), "v_0"),
        "mlvu": ("x", (), "1_plotQA_0"),
        "video_mme": ("three.", (), "001-0"),
    }.get(name) in (None, (one.candidates and one.candidates[one.answer], one.evidence, one.question_id))
    if name == "mvbench":
        assert "Charades" in folder and (one.start, one.end) == (1.5, 3.0)
        assert questions[-1].start is None  # a task that asks about the whole video, whatever its rows have
    if name == "mlvu":
        assert len({question.video for question in questions}) == 3  # of one name in three folders


def test_questions_without_public_answers_are_rows_too(benchmark):
    for name, count in (("egoschema", 8), ("longvideobench", 6)):
        rows = load_benchmark(name, benchmark(name)[0], split="test")
        assert len(rows) == count and set(rows["answer"]) == {None}


def test_two_videos_of_one_name_are_refused(benchmark):
    annotations, videos = benchmark("nextqa_mc")
    (videos / "small").mkdir()
    (videos / "small" / "41.webm").touch()
    (videos / "small" / "again").symlink_to(videos)
    with pytest.raises(ValueError, match=r"one file 41; there are .*41\.mp4.*41\.webm"):
        load_benchmark("nextqa_mc", annotations, videos)


@pytest.mark.end_to_end
def test_tgif_tasks_train_together_and_are_answered(benchmark, tmp_path, tiny_config, tokenizer):
    annotations, videos = benchmark("tgif_count", empty=False)
    for task in ("action", "transition", "frameqa"):
        OFFICIAL[f"tgif_{task}"](annotations)
    # A checkpoint without heads to start from, as a converted ClipBERT is.
    SiaSamReaForPreTraining(tiny_config(tasks=[])).save_pretrained(tmp_path / "start")
    SiaSamReaProcessor(SiaSamReaVideoProcessor(), tokenizer).save_pretrained(tmp_path / "start")
    folders = {
        "model": tmp_path / "start",
        "annotations": annotations,
        "videos": videos,
        "output_dir": tmp_path / "run",
    }
    short = {"max_steps": 2, "per_device_train_batch_size": 3, "dataloader_num_workers": 0, "disable_tqdm": True}
    small = {"video_processor": '{"size": {"longest_edge": 64}, "frames_per_clip": 2}', "use_cpu": True}
    small |= {"model_config": '{"num_clips": 3}'}
    options = [text for key, value in (folders | short | small).items() for text in (f"--{key}", str(value))]
    report = train.main([str(CONFIGS / "tgif_joint.json"), *options])
    assert {name for name in report if name.startswith("test_")} == {
        f"test_tgif_{task}" for task in ("action", "transition", "frameqa", "count")
    }
    scores = report["test_tgif_count"]["scores"]
    assert scores["questions"] == 6 and scores["unreadable"] == 0
    predictions = (tmp_path / "run" / "predictions_tgif_action.jsonl").read_text().splitlines()
    rows = load_benchmark("tgif_action", annotations, videos, "test")
    assert [json.loads(line)["question_id"] for line in predictions] == rows["question_id"][:]
    config = SiaSamReaConfig.from_pretrained(tmp_path / "run")
    assert set(config.tasks) == {"open_ended", "multiple_choice", "count"} and config.label2id == {"dog": 0}
    assert config.count_range == [1, 10]


def test_a_recipe_of_a_video_language_model_answers_a_benchmark_by_letters(benchmark, tmp_path):
    annotations, videos = benchmark("tempcompass", empty=False)
    for part in tiny("qwen3_vl"):
        part.save_pretrained(tmp_path / "model")
    overrides = ["--model", tmp_path / "model", "--annotations", annotations, "--videos", videos]
    overrides += ["--output_dir", tmp_path / "run", "--use_cpu", "--bf16", "false", "--dataloader_num_workers", "0"]
    small = '{"size": {"shortest_edge": 2048, "longest_edge": 65536}}'
    recipe = str(CONFIGS / "tempcompass_qwen3_vl_2b.json")
    report = train_vlm.main([recipe, *map(str, overrides), "--family_video_processor", small])
    scores = report["test_tempcompass"]["scores"]
    assert scores["questions"] == 6 and scores["unreadable"] == 0
    line = json.loads((tmp_path / "run" / "predictions_tempcompass.jsonl").read_text().splitlines()[0])
    assert line["prediction"] in (0, 1, 2)


@pytest.mark.parametrize("name", [path.stem for path in CONFIGS.glob("*.json") if "benchmarks" in path.read_text()])
def test_each_recipe_has_a_card(name):
    card = ModelCard.load(CARDS / f"{name}.md")
    assert card.data.license is None and card.data.pipeline_tag == "visual-question-answering"
    assert "not yet trained" in card.text
    for heading in ("Task", "Data", "Metric", "Hyperparameters", "The paper's number"):
        assert f"**{heading}" in card.text or f"## {heading}" in card.text, heading


def test_msvd_videos_are_found_by_either_name(benchmark):
    annotations, videos = benchmark("msvd_qa")
    rows = load_benchmark("msvd_qa", annotations, videos)
    assert [Path(video).name for video in rows["video"]][:2] == ["-4wsuPCj_5_15.avi", "vid2.avi"]
    assert rows[0]["question_id"] == "7" and rows[0]["question_type"] == "what"
    # Without a folder, and where a video is missing, it keeps its official name.
    assert load_benchmark("msvd_qa", annotations)[0]["video"] == "vid1.avi"
    (videos / "vid2.avi").unlink()
    assert load_benchmark("msvd_qa", annotations, videos)[1]["video"] == str(videos / "vid2.avi")


def test_activitynet_types_and_names(benchmark):
    annotations, videos = benchmark("activitynet_qa")
    rows = load_benchmark("activitynet_qa", annotations, videos)
    assert rows["question_type"][:6] == ["motion", "spatial", "temporal", "yes/no", "color", "object"]
    assert [Path(video).name for video in rows["video"]][:2] == ["v_-abc.mp4", "v__def.mkv"]
    answers = json.loads((annotations / "train_a.json").read_text())
    write_json(annotations / "train_a.json", [*answers, answers[0]])
    with pytest.raises(ValueError, match=r"train_a\.json, .*question_id 'v_pqr_1' has an answer already"):
        load_benchmark("activitynet_qa", annotations)
    write_json(annotations / "train_a.json", answers[1:])
    with pytest.raises(ValueError, match="layout of activitynet_qa.*v_pqr_1"):
        load_benchmark("activitynet_qa", annotations)


def test_how2qa_candidates_are_shuffled_the_same_way_each_time(benchmark):
    annotations, _ = benchmark("how2qa")
    rows = load_benchmark("how2qa", annotations)
    for number, row in enumerate(rows):
        assert row["candidates"][row["answer"]] == f"right{number}" and "None" in row["candidates"]
        assert (row["start"], row["end"]) == (0.5, 1.75)
    assert len(set(rows["answer"])) > 1
    assert load_benchmark("how2qa", annotations)["candidates"][:] == rows["candidates"][:]
    second = load_benchmark("how2qa", annotations, split="test")
    assert second["answer"][:] == [0, 1, 2, 3, 0, 1] and second[0]["end"] == 2.0


def test_tgif_holds_out_a_tenth_of_the_gifs(tmp_path):
    names = [f"gif{n}" for n in range(2000)]
    columns = ["gif_name", "question", "answer", "vid_id", "key"]
    write_tgif(tmp_path / "Train_count_question.csv", columns, [[name, "How ?", 2, name, 0] for name in names * 2])
    train, validation = (
        load_benchmark("tgif_count", tmp_path, split=split)["video"][:] for split in ("train", "validation")
    )
    assert not set(train) & set(validation) and len(train) + len(validation) == 4000
    assert 160 < len(set(validation)) < 240
    assert set(Counter(validation).values()) == {2}  # all questions about a GIF stay together


def test_clipbert_files_are_read(tmp_path):
    line = {"gif_name": GIFS[0], "question": "what ?", "options": ["a", "b"], "answer": 1, "answer_type": "action"}
    (tmp_path / "action_test.jsonl").write_text(json.dumps(line) + "\n")
    (row,) = load_benchmark("tgif_action", tmp_path, split="test")
    assert row["video"] == f"{GIFS[0]}.gif" and row["candidates"] == ["a", "b"] and row["answer"] == 1
    (tmp_path / "val.jsonl").write_text(
        json.dumps({"video_id": "video9", "question": "who ?", "answer": "man"}) + "\n"
    )
    (row,) = load_benchmark("msrvtt_qa", tmp_path, split="validation")
    assert row["video"] == "video9.mp4" and row["answer"] == "man" and row["question_type"] == "who"


SECOND = {f"a{i}": f"choice {i}" for i in range(4)} | {"answer_idx": 1, "q": "what ?", "qid": 1, "vid_name": "v"}


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("how2QA_test_public_release.csv", "test"),
        ("How2QA-val-release.csv", "validation"),
        ("how2qa_train_release.jsonl", "train"),
        ("how2qa_test_public.jsonl", "test"),
    ],
)
def test_how2qa_files_are_found_by_the_names_that_are_published(tmp_path, name, split):
    lines = {".csv": '"v",[0.5:2],a,b,c,what ?,d\n', ".jsonl": json.dumps({**SECOND, "ts": "0.5-2.0"}) + "\n"}
    (tmp_path / name).write_text("\ufeff" + lines[Path(name).suffix])
    (row,) = load_benchmark("how2qa", tmp_path, split=split)
    assert row["video"] == "v.mp4" and (row["start"], row["end"]) == (0.5, 2.0)


@pytest.mark.parametrize(
    ("name", "file", "written"),
    [
        ("tgif_count", "train_count_question.csv", OFFICIAL["tgif_count"]),
        ("nextqa_mc", "MC_train.csv", OFFICIAL["nextqa_mc"]),
        ("msvd_qa", "Train_QA.json", OFFICIAL["msvd_qa"]),
        ("msrvtt_qa", "train-qa.json", OFFICIAL["msrvtt_qa"]),
    ],
)
def test_capitals_and_hyphens_of_a_file_name_do_not_matter_nor_does_a_byte_order_mark(tmp_path, name, file, written):
    (tmp_path / "as_written").mkdir()
    written(tmp_path / "as_written")
    official = next(path for path in (tmp_path / "as_written").iterdir() if path.name.lower().startswith("train"))
    (tmp_path / file).write_bytes("\ufeff".encode() + official.read_bytes())
    rows = load_benchmark(name, tmp_path)
    assert rows.to_list() == load_benchmark(name, tmp_path / "as_written").to_list()


COLUMNS = ["gif_name", "question", "a1", "a2", "a3", "a4", "a5", "answer", "type", "vid_id", "key"]
OFFICIAL_ROW = dict(zip(COLUMNS, [GIFS[0], "what ?", *"pqrst", "1", "1", "ID", "9"]))


def test_tgif_numbers_outside_their_range_are_named(tmp_path):
    bad = [(task, "answer", value) for task in ("action", "transition") for value in ("5", "-1", "1.5", "b", "")]
    bad += [("frameqa", "type", value) for value in ("4", "-1", "color")]
    bad += [("count", "answer", value) for value in ("11", "-2", "nan", "inf")]
    for task, column, value in bad:
        path = tmp_path / f"Test_{task}_question.csv"
        write_tgif(path, COLUMNS, [list(row.values()) for row in (OFFICIAL_ROW, OFFICIAL_ROW | {column: value})])
        with pytest.raises(ValueError, match=rf"Test_{task}_question\.csv, row 2: {column} "):
            load_benchmark(f"tgif_{task}", tmp_path, split="test")


def test_numbers_and_spans_of_the_other_benchmarks_are_checked_too(benchmark):
    annotations, _ = benchmark("activitynet_qa")
    answers = json.loads((annotations / "train_a.json").read_text())
    for bad in (9, -1, None, True):
        write_json(annotations / "train_a.json", [*answers[:-1], {**answers[-1], "type": bad}])
        with pytest.raises(ValueError, match="type"):
            load_benchmark("activitynet_qa", annotations)
    benchmark("nextqa_mc")
    text = (annotations / "train.csv").read_text()
    (annotations / "train.csv").write_text(text.replace('"why, so",1,', '"why, so",5,'))
    with pytest.raises(ValueError, match=r"train\.csv, row 2: answer must be a whole number from 0 to 4; got '5'"):
        load_benchmark("nextqa_mc", annotations)
    (annotations / "train.csv").write_text(text.replace('"why, so",1,', "why, so,1,"))
    with pytest.raises(ValueError, match=r"train\.csv, row 2: cells: 14"):
        load_benchmark("nextqa_mc", annotations)
    benchmark("how2qa")
    for bad in ("1.2.3-4", "-1-4", "a-b", [1, "x"], 7):
        (annotations / "how2qa_test_public.jsonl").write_text(json.dumps({**SECOND, "ts": bad}))
        with pytest.raises(ValueError, match="row 1: .* is no span"):
            load_benchmark("how2qa", annotations, split="test")
    (annotations / "how2qa_test_public.jsonl").write_text(json.dumps({**SECOND, "ts": "1-4", "answer_idx": 4}))
    with pytest.raises(ValueError, match="row 1: answer_idx must be a whole number from 0 to 3"):
        load_benchmark("how2qa", annotations, split="test")


def test_candidates_stay_as_their_authors_publish_them(tmp_path):
    (tmp_path / "how2QA_val_release.csv").write_text(
        "v,[0.5:2],blue,green,blue,what ?,red\nv,[0:2],10,12,16,how ?,1\n"
    )
    rows = load_video_questions(load_benchmark("how2qa", tmp_path, split="validation"))
    assert [row.candidates[row.answer] for row in rows] == ["red", "1"] and rows[0].candidates.count("blue") == 2


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("msvd", "."), "no benchmark 'msvd'; choose from msvd_qa"),
        (("msvd_qa", ".", None, "val"), "no split 'val'"),
        (("tomato", "."), "tomato has no split 'train'; choose from test"),
        (("tomato", str(Path(__file__).parent), None, "test"), r"none of count\.json, direction\.json"),
        (("msvd_qa", "nowhere"), "nowhere do not exist"),
        (("msvd_qa", str(Path(__file__).parent)), r"has no train_qa\.json"),
        (("intentqa", str(Path(__file__).parent)), r"has no train\.csv"),
        (("msvd_qa", __file__), r"must be one of \.jsonl"),
    ],
)
def test_what_is_wrong_is_said(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        load_benchmark(*arguments)


@pytest.mark.parametrize(
    ("name", "source", "split", "count"),
    [
        ("msvd_qa", "msvd_qa", "validation", 6415),
        ("how2qa", "how2qa", "validation", 2852),
        ("tgif_action", "tgif_qa", "test", 2274),
        ("nextqa_mc", "nextqa", "validation", 4996),
        ("nextgqa", "nextgqa", "validation", 3358),
        ("intentqa", "intentqa", "validation", 2044),
        ("tempcompass", "tempcompass", "test", 1580),
        ("tomato", "tomato", "test", 292 + 403),  # two of its six files
        ("mmvu", "mmvu", "validation", 625),
    ],
)
def test_published_files_lose_no_row(shared, name, source, split, count):
    assert len(load_video_questions(load_benchmark(name, shared / "annotations" / source, split=split))) == count
