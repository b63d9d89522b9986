"""Features of frames on disk: the same numbers as without, a frame encoded once, and nothing old or damaged used."""

import os
from dataclasses import replace
from pathlib import Path

import av
import pytest
import torch
from gloo_pair import preloaded_processes
from other_processes import wait_for
from train_small_data import train

from modeling_siasamrea import SiaSamReaForVideoQuestionAnswering, SiaSamReaProcessor, SiaSamReaVideoProcessor
from modeling_siasamrea.data.dataset import VideoQuestionDataset
from modeling_siasamrea.image_encoder_siasamrea import SiaSamReaImageEncoder
from modeling_siasamrea.processors.video_decoding import VideoDecodingError, decode_frames


FROZEN = {"frozen_image_encoder_modules": ["all"]}


@pytest.fixture
def store(tmp_path) -> Path:
    return tmp_path / "features"


@pytest.fixture
def encoded(monkeypatch) -> list[int]:
    """The number of frames of each call of the image encoder."""
    calls, encode = [], SiaSamReaImageEncoder.encode

    def count(self, frames: torch.Tensor) -> torch.Tensor:
        calls.append(len(frames))
        return encode(self, frames)

    monkeypatch.setattr(SiaSamReaImageEncoder, "encode", count)
    return calls


def losses(trainer) -> list[float]:
    trainer.train()
    return [line["loss"] for line in trainer.state.log_history if "loss" in line]


def stored(store: Path) -> dict[Path, bytes]:
    """The files of features: one for each frame, named by its number."""
    return {path: path.read_bytes() for path in store.rglob("*") if path.name.isdigit()}


def test_a_run_with_features_of_disk_is_one_without(make_trainer, store, encoded):
    arguments = {"config": FROZEN, "max_steps": 2}
    plain = make_trainer(**arguments)
    plain_losses, plain_scores = losses(plain), plain.predict(plain.eval_dataset)
    cold = make_trainer(**arguments, frame_features_dir=str(store), output="cold")
    encoded.clear()
    cold_losses, cold_scores = losses(cold), cold.predict(cold.eval_dataset)
    assert set(encoded) == {1} and len(encoded) == len(stored(store))  # each frame once, by itself
    warm = make_trainer(**arguments, frame_features_dir=str(store), output="warm")
    encoded.clear()
    warm_losses, warm_scores = losses(warm), warm.predict(warm.eval_dataset)
    assert not encoded
    assert cold_losses == pytest.approx(plain_losses, abs=1e-5) and cold_losses == warm_losses
    for name, value in warm.model.state_dict().items():
        assert torch.equal(value, cold.model.state_dict()[name])
    assert cold_scores.predictions == warm_scores.predictions
    assert cold_scores.metrics["test_loss"] == pytest.approx(plain_scores.metrics["test_loss"], abs=1e-5)
    for ours, theirs in zip(cold_scores.predictions, plain_scores.predictions):
        assert ours == pytest.approx(theirs, abs=1e-4)  # AdamW's steps make more of a rounding
    # The damaged video is left out and named, and counts as wrong.
    assert warm_scores.metrics["test_unreadable"] == plain_scores.metrics["test_unreadable"] == 5
    skipped = [Path(trainer.args.output_dir) / "skipped_videos.jsonl" for trainer in (plain, warm)]
    assert skipped[0].read_text() == skipped[1].read_text()


@pytest.mark.end_to_end
def test_answers_from_several_starts_and_workers(make_trainer, store, encoded):
    arguments = {"config": FROZEN, "eval_offsets": 3, "dataloader_num_workers": 1}
    some = lambda row: row.video.endswith(("v0.mp4", "v1.mp4"))  # noqa: E731
    plain = make_trainer(some, **arguments)
    expected = plain.predict(plain.eval_dataset)
    trainer = make_trainer(some, **arguments, frame_features_dir=str(store))
    cold = trainer.predict(trainer.eval_dataset)
    encoded.clear()
    warm = trainer.predict(trainer.eval_dataset)
    assert not encoded and warm.predictions == cold.predictions
    for name, value in expected.metrics.items():
        if not name.endswith(("runtime", "per_second", "preparation_time")):
            assert warm.metrics[name] == pytest.approx(value, abs=1e-5, nan_ok=True), name


def test_a_stored_video_is_not_opened_and_a_changed_one_is_read_anew(make_trainer, store, small_data, write_video):
    def answer(**arguments) -> list[float]:
        trainer = make_trainer(lambda row: row.video.endswith("v0.mp4"), config=FROZEN, **arguments)
        return [line["score"] for line in trainer.predict(trainer.eval_dataset).predictions if "score" in line]

    before = answer(frame_features_dir=str(store))
    video = small_data / "v0.mp4"
    status, content = video.stat(), video.read_bytes()
    video.write_bytes(bytes(len(content)))  # damaged, but nothing tells of it
    os.utime(video, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert answer(frame_features_dir=str(store)) == before
    kept = stored(store)
    write_video(video, frames=30, height=64)
    assert answer(frame_features_dir=str(store)) == pytest.approx(answer(), abs=1e-5)
    assert len(stored(store)) == 2 * len(kept)


def test_a_video_is_known_by_its_content_and_addresses_are_not_stored(
    make_trainer, store, small_data, processor, encoded, tmp_path, monkeypatch
):
    content = (small_data / "v0.mp4").read_bytes()

    def evaluate(**fields) -> float:
        trainer = make_trainer(lambda row: row.question_id == "open0-0", config=FROZEN, frame_features_dir=str(store))
        question = replace(trainer.eval_dataset.questions[0], **fields)
        encoded.clear()
        return trainer.evaluate(VideoQuestionDataset([question], processor))["eval_loss"]

    loss, kept = evaluate(), stored(store)
    (tmp_path / "moved.mp4").write_bytes(content)
    assert evaluate(video=str(tmp_path / "moved.mp4")) == loss and not encoded
    assert evaluate(video="b.mp4", video_bytes=content) == loss and not encoded
    monkeypatch.setattr(
        "modeling_siasamrea.processors.video_source.download", lambda address, file: file.write(content)
    )
    for _ in range(2):
        assert evaluate(video="https://host/a.mp4") == loss and encoded
    assert stored(store) == kept
    part = {"start": 0.25, "end": 0.75}
    assert evaluate(**part, video="https://host/a.mp4") == evaluate(**part) != loss


@pytest.mark.parametrize(
    "change",
    [
        {"weights": True},
        {"video": {"size": {"longest_edge": 96}}},
    ],
)
def test_other_weights_and_settings_never_get_old_features(make_trainer, store, processor, encoded, change):
    def loss(**arguments) -> float:
        trainer = make_trainer(config=FROZEN, **arguments)
        if "weights" in change and started:
            with torch.no_grad():
                next(trainer.model.model.image_encoder.encoder.parameters())[0] += 0.1
        return trainer.evaluate()["eval_loss"]

    started = False
    loss(frame_features_dir=str(store))
    kept, started = stored(store), True
    for name, value in change.get("video", {}).items():
        setattr(processor.video_processor, name, value)
    encoded.clear()
    assert loss(frame_features_dir=str(store)) == pytest.approx(loss(), abs=1e-5)
    assert encoded.count(1) == len(kept) and len(stored(store)) == 2 * len(kept)
    assert stored(store).items() >= kept.items()


def test_sampling_and_other_spans_share_frames(make_trainer, store, processor, encoded):
    make_trainer(config=FROZEN, frame_features_dir=str(store)).evaluate()
    processor.video_processor.frames_per_clip = 6
    encoded.clear()
    make_trainer(config=FROZEN, frame_features_dir=str(store)).evaluate()
    frames = len(stored(store))
    assert 0 < len(encoded) < frames


@pytest.mark.parametrize("frozen", [[], ["embedder"]])
def test_an_encoder_that_may_change_is_refused(make_trainer, store, frozen):
    with pytest.raises(ValueError, match="frozen_image_encoder_modules"):
        make_trainer(config={"frozen_image_encoder_modules": frozen}, frame_features_dir=str(store))
    assert not store.exists()


def test_frames_of_several_sizes_and_evaluation_in_half_precision_are_refused(make_trainer, store, processor):
    with pytest.raises(ValueError, match="leave out bf16_full_eval"):
        make_trainer(config=FROZEN, frame_features_dir=str(store), bf16_full_eval=True)
    processor.video_processor.do_pad = False
    with pytest.raises(ValueError, match="needs frames of one size"):
        make_trainer(config=FROZEN, frame_features_dir=str(store)).evaluate()


def test_a_damaged_feature_is_computed_again(make_trainer, store):
    def loss() -> float:
        return make_trainer(config=FROZEN, frame_features_dir=str(store)).evaluate()["eval_loss"]

    expected, kept = loss(), stored(store)
    for place, damaged in ((-1, lambda content: content[:-8] + bytes(8)), (0, lambda content: content[:20])):
        file = list(kept)[place]
        file.write_bytes(damaged(kept[file]))
        assert loss() == expected and stored(store) == kept


def test_a_damaged_part_is_read_as_without_a_store(make_trainer, store, small_data, write_video, processor):
    """Frames of a damaged part depend on what else is read, so they are never taken from or put into the store."""
    video = write_video(small_data / "v3.mp4", frames=24, codec="mpeg4")
    content = bytearray(video.read_bytes())
    with av.open(str(video)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][14]
    content[packet.pos : packet.pos + packet.size] = bytes(packet.size)
    video.write_bytes(content)

    def is_intact(frame: int) -> bool:
        try:
            return decode_frames(str(video), [frame])[1].intact
        except VideoDecodingError:
            return False

    intact = [is_intact(frame) for frame in range(24)]
    assert any(intact) and not all(intact)

    def answer(**arguments):
        trainer = make_trainer(lambda row: row.video.endswith("v3.mp4"), config=FROZEN, **arguments)
        output = trainer.predict(trainer.eval_dataset)
        return output.metrics["test_unreadable"] if "test_unreadable" in output.metrics else 0, [
            line.get("score") for line in output.predictions
        ]

    for frames in (1, 16):
        processor.video_processor.frames_per_clip = frames
        expected = answer()
        for _ in range(2):
            unreadable, scores = answer(frame_features_dir=str(store))
            assert unreadable == expected[0] and scores == pytest.approx(expected[1], abs=1e-5)
    assert 0 < len(stored(store)) < sum(intact) + 1


@pytest.fixture
def settings(tmp_path, small_data, tokenizer, tiny_config, store) -> dict:
    """Settings of the script that trains on the small data, with a store."""
    video_processor = SiaSamReaVideoProcessor(size={"longest_edge": 64}, num_clips=3, frames_per_clip=2)
    torch.manual_seed(0)
    config = tiny_config(tasks=["open_ended", "multiple_choice", "count"], id2label=dict(enumerate(["cat", "dog"])))
    config.frozen_image_encoder_modules = ["all"]
    SiaSamReaForVideoQuestionAnswering(config).save_pretrained(tmp_path / "start")
    SiaSamReaProcessor(video_processor, tokenizer).save_pretrained(tmp_path / "start")
    arguments = {"max_steps": 4, "per_device_train_batch_size": 4, "frame_features_dir": str(store)}
    return {"start": str(tmp_path / "start"), "rows": str(small_data / "rows.jsonl"), "arguments": arguments}


def test_two_processes_share_a_store(settings, tmp_path, store, gloo_pair):
    arguments = {"output_dir": str(tmp_path / "two"), "per_device_train_batch_size": 2}
    two, _ = gloo_pair.run("train_small_data", "train", settings | {"arguments": settings["arguments"] | arguments})
    kept = stored(store)
    one = train(settings | {"arguments": settings["arguments"] | {"output_dir": str(tmp_path / "one")}})
    assert stored(store) == kept  # two processes sample as one does
    for ours, theirs in zip(two["log"], one["log"]):
        if "loss" in theirs:
            assert ours["loss"] == pytest.approx(theirs["loss"], abs=1e-5)
    assert two["metrics"]["test_loss"] == pytest.approx(one["metrics"]["test_loss"], abs=1e-4)


def test_a_killed_run_leaves_a_store_that_another_goes_on_with(settings, tmp_path, store):
    endless = settings["arguments"] | {"output_dir": str(tmp_path / "killed"), "max_steps": 400}
    process = preloaded_processes().Process(target=train, args=(settings | {"arguments": endless},))
    process.start()
    assert wait_for(lambda: stored(store), 120) and process.is_alive()
    process.kill()
    process.join()
    kept = stored(store)
    train(settings | {"arguments": settings["arguments"] | {"output_dir": str(tmp_path / "after")}})
    assert stored(store).items() > kept.items()
