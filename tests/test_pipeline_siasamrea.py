"""The pipeline on small models and videos: what it answers, and how often it decodes and encodes."""

import copy
import io
import multiprocessing
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModelForVisualQuestionAnswering, pipeline
from transformers.pipelines.pt_utils import KeyDataset

from modeling_siasamrea import (
    SiaSamReaForVideoQuestionAnswering,
    SiaSamReaProcessor,
    SiaSamReaVideoProcessor,
    VideoQuestionAnsweringPipeline,
)
from modeling_siasamrea.processors import video_processing_siasamrea
from modeling_siasamrea.processors.video_decoding import VideoDecodingError


@pytest.fixture(scope="module")
def folder(tiny_config, tokenizer, tmp_path_factory):
    """A checkpoint with all heads."""
    torch.manual_seed(0)
    config = tiny_config(
        tasks=["open_ended", "multiple_choice", "count"], id2label={0: "cat", 1: "dog", 2: "red", 3: "blue"}
    )
    processor = SiaSamReaProcessor(SiaSamReaVideoProcessor(size={"longest_edge": 64}, frames_per_clip=3), tokenizer)
    checkpoint = tmp_path_factory.mktemp("pipeline") / "checkpoint"
    SiaSamReaForVideoQuestionAnswering(config).save_pretrained(checkpoint)
    processor.save_pretrained(checkpoint)
    return checkpoint


@pytest.fixture(scope="module")
def answer(folder) -> VideoQuestionAnsweringPipeline:
    return pipeline("video-question-answering", model=str(folder))


@pytest.fixture(scope="module")
def videos(write_video, tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    return [write_video(folder / f"{name}.mp4", frames=frames) for name, frames in (("one", 40), ("two", 24))]


@pytest.fixture
def decoded(monkeypatch) -> list:
    """The videos that were decoded, in order."""
    record, decode = [], video_processing_siasamrea.decode_frames
    monkeypatch.setattr(
        video_processing_siasamrea,
        "decode_frames",
        lambda video, *arguments: record.append(video) or decode(video, *arguments),
    )
    return record


def test_open_ended_answers_are_the_models(answer, videos, folder):
    best = answer(video=videos[0], question="what is it?", task="open_ended")
    model = SiaSamReaForVideoQuestionAnswering.from_pretrained(folder)
    inputs = answer.processor(videos=videos[0], text="what is it?", return_tensors="pt")
    probabilities = model(**inputs, task="open_ended").logits.softmax(dim=1)[0]
    assert [one["score"] for one in best] == pytest.approx(probabilities.sort(descending=True).values.tolist())
    assert best[0]["answer"] == model.config.id2label[int(probabilities.argmax())]
    assert len(answer(video=videos[0], question="what is it?", task="open_ended", top_k=2)) == 2


def test_candidates_are_ranked_whatever_their_order(answer, videos):
    candidates = ["a cat", "a red dog", "blue"]
    ranked = answer(video=str(videos[0]), question="what is it?", candidates=candidates)
    assert sorted(one["answer"] for one in ranked) == sorted(candidates)
    assert sum(one["score"] for one in ranked) == pytest.approx(1)
    turned = answer(video=videos[0], question="what is it?", candidates=candidates[::-1])
    assert [one["answer"] for one in turned] == [one["answer"] for one in ranked]


def test_a_count_is_a_number(answer, videos):
    (count,) = answer(video=videos[0], question="how many times does it jump?", task="count")
    assert count["answer"] == max(round(count["value"]), 0)


def test_a_mixed_list_gets_the_answers_each_gets_alone(answer, videos):
    requests = [
        {"video": videos[0], "question": "what is it?", "task": "open_ended"},
        {"video": videos[1], "question": "what is it?", "candidates": ["cat", "dog"]},
        {"video": videos[1], "question": ["what is red?", "what is it?"], "task": "open_ended"},
        {"video": videos[0], "question": "what does it do?", "start": 1.0, "end": 3.0, "task": "open_ended"},
    ]
    alone = [answer(request) for request in requests]
    for batch_size in (1, 4):
        together = answer(requests, batch_size=batch_size)
        flat = [[two for one in (each if isinstance(each[0], list) else [each]) for two in one] for each in together]
        expected = [[two for one in (each if isinstance(each[0], list) else [each]) for two in one] for each in alone]
        for ours, theirs in zip(flat, expected):
            assert [one["answer"] for one in ours] == [one["answer"] for one in theirs]
            assert [one["score"] for one in ours] == pytest.approx([one["score"] for one in theirs], abs=1e-5)
    assert answer([requests[0]])[0] == alone[0]
    parts = [{"type": "video", "video": videos[0]}, {"type": "text", "text": "what is it?"}]
    chat = [{"role": "user", "content": parts}]
    assert answer(chat, task="open_ended") == answer([chat], task="open_ended")[0] == alone[0]


def test_questions_about_a_video_decode_and_encode_it_once(answer, videos, decoded):
    encoded = []
    encoder = answer.model.model.image_encoder
    with encoder.register_forward_hook(lambda module, args, output: encoded.append(len(args[0]))):
        answer(video=videos[0], question=["what is it?", "what is red?", "what does it do?"], task="open_ended")
        assert len(decoded) == 1 and encoded == [3]  # one clip of three frames
        answer([{"video": video, "question": "what?", "task": "open_ended"} for video in videos * 2], batch_size=2)
        assert len(decoded) == 3 and encoded == [3, 6]


def test_requests_of_a_list_share_a_video_wherever_they_stand_and_whatever_they_ask(answer, videos, decoded):
    asked = [
        {"video": videos[0], "question": "what is it?", "task": "open_ended"},
        {"video": videos[1], "question": "what is it?", "task": "count"},
        {"video": str(videos[0]), "question": "what is it?", "candidates": ["cat", "dog"]},
        {"video": videos[0], "question": "what is it?", "candidates": ["cat", "dog", "red"]},
    ]
    together = answer(asked)
    assert decoded == videos
    for ours, alone in zip(together, map(answer, asked)):
        assert [one["answer"] for one in ours] == [one["answer"] for one in alone]


OPEN = {"question": "what is it?", "task": "open_ended"}


class MapStyle(torch.utils.data.Dataset):
    """As in PyTorch's documentation: without `__iter__`, and no IndexError at the end."""

    def __init__(self, requests):
        self.requests = requests

    def __len__(self):
        return len(self.requests)

    def __getitem__(self, index):
        return self.requests[index % len(self.requests)]


class IterableStyle(torch.utils.data.IterableDataset):
    def __init__(self, requests):
        self.requests = requests

    def __iter__(self):
        return iter(self.requests)


@pytest.mark.parametrize(
    "source",
    [
        list,
        tuple,
        iter,
        lambda requests: (request for request in requests),
        lambda requests: map(dict, requests),
        lambda requests: dict(enumerate(requests)).values(),
        MapStyle,
        IterableStyle,
        lambda requests: KeyDataset([{"request": request} for request in requests], "request"),
        lambda requests: torch.utils.data.DataLoader(MapStyle(requests), batch_size=None),
        lambda requests: datasets.Dataset.from_list(
            [request | {"video": str(request["video"])} for request in requests]
        ),
        lambda requests: datasets.IterableDataset.from_generator(lambda: iter(requests)),
    ],
)
def test_every_collection_gets_an_answer_each(answer, videos, source):
    requests = [OPEN | {"video": video, "start": start} for start in (None, 1.0) for video in videos]
    expected = [answer(request)[0]["score"] for request in requests]
    answers = answer(source(requests), batch_size=2)
    assert isinstance(answers, list) == (source in (list, tuple))
    assert [best["score"] for best, *_ in answers] == pytest.approx(expected, abs=1e-5)


def test_a_generator_is_read_as_answers_are_asked_for(answer, videos):
    taken = []

    def requests():
        for number in range(5):
            taken.append(number)
            yield OPEN | {"video": videos[number % 2]}
        yield OPEN | {"video": videos[0], "start": "soon"}

    answers = answer(requests())
    assert taken == []
    first = next(answers)
    assert taken == [0] and first == answer(OPEN, video=videos[0])
    assert [next(answers) for _ in range(4)] and taken == list(range(5))
    with pytest.raises(ValueError, match="^Request 5 .from 0. is not right: start must be a finite number"):
        next(answers)
    taken.clear()
    next(answer(requests(), batch_size=2))
    assert taken == [0, 1]


def test_nothing(answer):
    assert answer([]) == [] and answer(()) == []
    assert list(answer(iter([]))) == [] and list(answer(MapStyle([]))) == []


def test_a_worker_process_decodes(answer, videos):
    requests = [OPEN | {"video": video} for video in videos]
    expected = answer(requests)
    assert answer(requests, num_workers=2) == expected
    assert list(answer(iter(requests), num_workers=1)) == expected


@pytest.mark.end_to_end
def test_a_worker_that_inherits_nothing_answers(answer, videos, capfd):
    """macOS and Windows start processes by spawn, and Python 3.14 by forkserver, which inherits nothing either."""
    requests = [OPEN | {"video": video} for video in videos]
    expected, method = answer(requests), multiprocessing.get_start_method()
    multiprocessing.set_start_method("spawn", force=True)
    try:
        assert answer(requests, num_workers=1) == expected
    finally:
        multiprocessing.set_start_method(method, force=True)
    assert "to instantiate a model of type" not in "".join(capfd.readouterr())


def best_scores(answers) -> list[float]:
    return [best["score"] for best, *_ in answers]


def test_pickled_copied_and_in_threads_the_answers_stay(answer, videos):
    requests = [OPEN | {"video": video} for video in videos]
    expected = pytest.approx(best_scores(answer(requests)), abs=1e-6)
    for again in (pickle.loads(pickle.dumps(answer)), copy.deepcopy(answer)):
        assert best_scores(again(requests)) == expected
    with ThreadPoolExecutor(4) as threads:
        for answers in threads.map(lambda _: answer(requests), range(8)):
            assert best_scores(answers) == expected


def test_a_model_in_training_mode_answers_in_evaluation_mode(answer, videos):
    request, answer = OPEN | {"video": videos[0]}, copy.deepcopy(answer)
    expected = answer(request)
    for module in answer.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.5
    answer.model.train()
    with ThreadPoolExecutor(4) as threads:  # none leaves the model in training mode for another
        assert all(answers == expected for answers in threads.map(lambda _: answer(request), range(8)))
    assert answer.model.training


def test_numpy_scalars_are_numbers_and_texts(answer, videos):
    expected = answer(video=videos[0], question="what?", candidates=["cat", "dog"], start=1.0, top_k=1)
    given = {"question": np.str_("what?"), "candidates": np.array(["cat", "dog"]), "start": np.array(1.0)}
    assert answer(video=videos[0], **given, top_k=np.int64(1), batch_size=np.int64(1)) == expected


def test_what_is_given_at_construction_counts_and_may_be_overridden(folder, videos):
    answer = pipeline(
        "video-question-answering",
        model=str(folder),
        top_k=2,
        batch_size=2,
        start=1.0,
        end=3.0,
        question="what is it?",
    )
    plain = pipeline("video-question-answering", model=str(folder))
    expected = plain(OPEN | {"video": videos[0], "start": 1.0, "end": 3.0})
    ours = answer(video=videos[0], task="open_ended")
    assert ours == expected[:2] and len(expected) == 4
    assert answer(video=videos[0], task="open_ended", top_k=3) == expected[:3]
    whole = answer([{"video": videos[0], "start": 0.0, "end": 5.0}], task="open_ended", top_k=1)
    assert whole == [plain(OPEN | {"video": videos[0], "start": 0.0, "end": 5.0})[:1]]
    with pytest.raises(ValueError, match="top_k, the number of answers, must be 1 or more; got -1"):
        pipeline("video-question-answering", model=str(folder), top_k=-1)
    with pytest.raises(ValueError, match="top_p"):
        pipeline("video-question-answering", model=str(folder), top_p=1)


def test_arguments_by_position(answer, videos):
    frames, _ = video_processing_siasamrea.decode_frames(videos[0], range(40))
    expected = answer(video=videos[0], question="what is it?", candidates=["cat", "dog"])
    for video in (videos[0], str(videos[0]), frames, videos[0].read_bytes(), io.BytesIO(videos[0].read_bytes())):
        assert answer(video, "what is it?", ["cat", "dog"]) == expected
    assert answer(videos, "what is it?", ["cat", "dog"])[0] == expected
    assert answer(KeyDataset([{"v": videos[0]}], "v"), "what is it?", candidates=["cat", "dog"]).__next__() == expected


def test_every_form_of_a_video(answer, videos, tmp_path):
    expected = answer(OPEN | {"video": videos[0]})
    content = videos[0].read_bytes()
    with open(videos[0], "rb") as file:
        for video in (content, bytearray(content), file, {"path": None, "bytes": content}, {"path": str(videos[0])}):
            assert answer(OPEN | {"video": video}) == expected
    frames, _ = video_processing_siasamrea.decode_frames(videos[0], range(40))
    paths = [tmp_path / f"{number:02d}.png" for number in range(40)]
    for path, frame in zip(paths, frames):
        Image.fromarray(frame.permute(1, 2, 0).numpy()).save(path)
    for video in (paths, tuple(map(str, paths)), list(map(Image.open, paths))):
        assert answer(OPEN | {"video": video}) == expected
    of_paths = datasets.Dataset.from_dict({"video": [str(videos[0])]})
    for decode in (False, True):  # the pipeline decodes, whatever the column would do
        column = of_paths.cast_column("video", datasets.Video(decode=decode))
        assert list(answer(column, **OPEN)) == [expected]
        assert list(answer(column.to_iterable_dataset(), **OPEN)) == [expected]


def test_limits_of_downloads(folder, answer):
    careful = pipeline("video-question-answering", model=str(folder), download_limits={"public_only": True})
    request = OPEN | {"video": "http://127.0.0.1:1/film.mp4"}
    with pytest.raises(VideoDecodingError, match="only public addresses are allowed"):
        careful(request)
    with pytest.raises(VideoDecodingError, match="127.0.0.1:1.*the download failed"):
        careful(request, download_limits={"max_seconds": 5})
    with pytest.raises(VideoDecodingError, match="127.0.0.1:1.*the download failed"):
        answer(request)


def test_save_and_load(answer, videos, tmp_path):
    answer.save_pretrained(tmp_path / "again")
    again = pipeline("video-question-answering", model=str(tmp_path / "again"))
    request = {"video": videos[0], "question": "what is it?", "candidates": ["cat", "dog"]}
    assert again(request) == answer(request)


def test_adapter_folders(answer, folder, videos, tmp_path):
    peft = pytest.importorskip("peft")
    model = SiaSamReaForVideoQuestionAnswering.from_pretrained(folder)
    torch.manual_seed(0)
    lora = peft.LoraConfig(target_modules=["query", "value"], init_lora_weights=False, lora_alpha=40000)
    adapted = peft.get_peft_model(model, lora)
    adapted.save_pretrained(tmp_path / "adapter")
    answer.processor.save_pretrained(tmp_path / "adapter")
    with_adapter = pipeline("video-question-answering", model=str(tmp_path / "adapter"))
    inputs = answer.processor(videos=videos[0], text="what is it?", return_tensors="pt")
    expected = adapted.eval()(**inputs, task="open_ended").logits.softmax(dim=1).max().item()
    request = {"video": videos[0], "question": "what is it?", "task": "open_ended"}
    assert with_adapter(request)[0]["score"] == pytest.approx(expected, abs=1e-5)
    assert answer(request)[0]["score"] != pytest.approx(expected, abs=1e-4)


def test_adapters_with_heads_of_another_shape(answer, folder, tmp_path, videos, tiny_config):
    """What `run_videoqa.py` writes: the adapter, its own configuration and the processor in one folder."""
    pytest.importorskip("peft")
    from modeling_siasamrea.adapter_siasamrea import load_adapter
    from modeling_siasamrea.training.lora import add_lora

    torch.manual_seed(1)
    config = tiny_config(tasks=["open_ended", "multiple_choice"], id2label=dict(enumerate("abcdef")))
    config.freeze_batch_norm = True
    folder = shutil.copytree(folder, tmp_path / "checkpoint")
    model = SiaSamReaForVideoQuestionAnswering.from_pretrained(folder, config=config, ignore_mismatched_sizes=True)
    adapted = add_lora(model, rank=2)
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.2)
    run = tmp_path / "run"
    adapted.save_pretrained(run)
    config.save_pretrained(run)
    answer.processor.save_pretrained(run)

    asked = [OPEN | {"video": videos[0]}, {"video": videos[0], "question": "what?", "candidates": ["cat", "dog"]}]
    from_folder = pipeline("video-question-answering", model=str(run))
    assert type(from_folder.model) is SiaSamReaForVideoQuestionAnswering
    beside = load_adapter(SiaSamReaForVideoQuestionAnswering, run)
    apart = VideoQuestionAnsweringPipeline(beside, processor=answer.processor, device="cpu")
    for ours, theirs in zip(from_folder(asked), apart(asked)):
        assert [one["answer"] for one in ours] == [one["answer"] for one in theirs]
        assert [one["score"] for one in ours] == pytest.approx([one["score"] for one in theirs], abs=1e-5)
    assert {one["answer"] for one in from_folder(asked[0], top_k=6)} == set("abcdef")

    loaded = AutoModelForVisualQuestionAnswering.from_pretrained(run)
    assert loaded.name_or_path == str(run)
    assert not loaded.training and loaded.config.id2label == config.id2label
    from_folder.save_pretrained(tmp_path / "whole")
    whole = pipeline("video-question-answering", model=str(tmp_path / "whole"))
    assert whole(asked[0])[0]["score"] == pytest.approx(from_folder(asked[0])[0]["score"], abs=1e-6)

    folder.rename(run / "checkpoint")  # moved into the run
    assert pipeline("video-question-answering", model=str(run))(asked[0]) == from_folder(asked[0])
    (run / "checkpoint").rename(tmp_path / "elsewhere")
    with pytest.raises(OSError, match=f"base model of the adapter {run} is gone; put it in {run}/"):
        load_adapter(SiaSamReaForVideoQuestionAnswering, run)


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        ({"question": "what?"}, "no video"),
        ({"video": "a.mp4", "quetsion": "what?"}, "quetsion.*Did you mean 'question'"),
        ({"video": "a.mp4", "question": "what?"}, r"without candidates needs a task, open_ended or"),
        ({"video": "a.mp4", "question": "what?", "task": "caption"}, "the model has no 'caption'"),
        ({"video": "a.mp4", "question": "what?", "task": "multiple_choice"}, "without candidates needs a task"),
        ({"video": "a.mp4", "question": "what?", "task": "count", "top_k": 0}, "top_k.*must be 1 or more; got 0"),
        ({"video": "a.mp4", "question": "what?", "batch_size": 1.5}, "batch_size.*must be 1 or more; got 1.5"),
        ({"video": [], "question": "what?", "task": "count"}, "it has no frames"),
        ({"video": ["a.png"], "question": "what?", "task": "count"}, "a.png: there is no such file"),
    ],
)
def test_bad_requests_get_a_sentence(answer, request_, sentence):
    with pytest.raises(ValueError, match=sentence):
        answer(**request_)
