"""Frames at given indices, from every kind of source, by each decoder; and what is said of unreadable files."""

import gc
import http.server
import importlib
import multiprocessing
import os
import pickle
import sys
import threading

import av
import numpy as np
import pytest
import torch
from PIL import Image

from modeling_siasamrea.processors.frame_index import LENIENT
from modeling_siasamrea.processors.video_decoding import VideoDecodingError, decode_frames


def numbers(frames: torch.Tensor) -> list[int]:
    """The indices that numbered frames show."""
    return ((frames.float().mean(dim=(1, 2, 3)) - 8) / 6).round().int().tolist()


def test_frames_come_in_the_order_asked_for_with_repeats(write_video, tmp_path):
    video = write_video(tmp_path / "video.mp4")
    frames, metadata = decode_frames(video, [30, 3, 3, 39, 0])
    assert frames.dtype == torch.uint8 and frames.shape == (5, 3, 48, 64)
    assert numbers(frames) == [30, 3, 3, 39, 0]
    assert (metadata.total_num_frames, metadata.fps, metadata.duration) == (40, 8, 5.0)


@pytest.fixture(scope="session")
def torchcodec() -> None:
    try:
        importlib.import_module("torchcodec.decoders")
    except (ImportError, RuntimeError) as error:  # it is not installed, or finds no FFmpeg libraries
        pytest.skip(f"torchcodec cannot be used here: {error!s:.80}")


def test_torchcodec_gives_the_same_frames(torchcodec, footage):
    indices = [0, 1, 17, 50, 51, 90, 119]
    half = lambda frames: frames[..., ::2, ::2]  # noqa: E731
    frames, metadata = decode_frames(footage, indices, backend="torchcodec", transform=half)
    reference, reference_metadata = decode_frames(footage, indices, transform=half)
    assert metadata.total_num_frames == reference_metadata.total_num_frames
    assert (frames.float() - reference.float()).abs().mean() < 1


def test_what_torchcodec_reads_otherwise_is_read_by_pyav(torchcodec, write_video, tmp_path, monkeypatch):
    """Its frame is taken by its time: of another time, it is another frame."""
    video = write_video(tmp_path / "video.mp4")
    decoder = sys.modules["torchcodec.decoders"].VideoDecoder
    right = decoder.get_frames_at
    monkeypatch.setattr(decoder, "get_frames_at", lambda self, few: right(self, [number // 2 for number in few]))
    assert numbers(decode_frames(video, [30, 3], backend="torchcodec")[0]) == [30, 3]


@pytest.mark.parametrize("extension", ["webm", "mkv", "avi"])
def test_containers_that_do_not_tell_their_length(write_video, tmp_path, extension):
    codec = {"webm": "libvpx-vp9", "mkv": "libx264", "avi": "mpeg4"}[extension]
    frames, metadata = decode_frames(write_video(tmp_path / f"video.{extension}", codec=codec), [0, 20, 39])
    assert metadata.total_num_frames == 40 and numbers(frames) == [0, 20, 39]


def test_a_span_is_cut_by_its_seconds(write_video, tmp_path):
    video = write_video(tmp_path / "video.mp4")
    frames, metadata = decode_frames(video, [0, 15], start=1.0, end=3.0)
    assert metadata.total_num_frames == 16 and numbers(frames) == [8, 23]
    assert decode_frames(video, [0], start=4.0, end=100.0)[1].total_num_frames == 8
    with pytest.raises(VideoDecodingError, match=r"span starts at 7.0 s, but the video is 5.00 s long"):
        decode_frames(video, [0], start=7.0)
    with pytest.raises(VideoDecodingError, match="ends at 2 s, which is not after its start at 3 s"):
        decode_frames(video, [0], start=3, end=2)


def test_indices_may_depend_on_the_metadata(write_video, tmp_path):
    frames, _ = decode_frames(write_video(tmp_path / "v.mp4"), lambda metadata: [metadata.total_num_frames - 1])
    assert numbers(frames) == [39]
    with pytest.raises(ValueError, match="has 40 frames in this span, not the indices from 0 to 40"):
        decode_frames(tmp_path / "v.mp4", [40])


def test_a_backend_that_is_not_there(write_video, tmp_path, monkeypatch):
    video = write_video(tmp_path / "v.mp4")
    with pytest.raises(ValueError, match="must be pyav or torchcodec; got 'ffmpeg'"):
        decode_frames(video, [0], backend="ffmpeg")
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", None)
    with pytest.raises(ValueError, match="needs torchcodec and FFmpeg's libraries"):
        decode_frames(video, [0], backend="torchcodec")


def test_animated_and_one_frame_gifs(tmp_path):
    images = [Image.new("RGB", (32, 24), (40 * index, 0, 0)) for index in range(5)]
    images[0].save(tmp_path / "many.gif", save_all=True, append_images=images[1:], duration=[50, 300, 50, 100, 100])
    images[3].save(tmp_path / "one.gif")
    frames, metadata = decode_frames(tmp_path / "many.gif", [4, 1])
    assert metadata.total_num_frames == 5
    assert [round(red / 40) for red in frames[:, 0].float().mean(dim=(1, 2)).tolist()] == [4, 1]
    assert decode_frames(tmp_path / "one.gif", [0, 0])[0].shape == (2, 3, 24, 32)


def test_frames_in_memory():
    frames = np.stack([np.full((8, 10, 3), index, dtype=np.uint8) for index in range(6)])
    images = [Image.fromarray(frame) for frame in frames]
    for video in (frames, frames.transpose(0, 3, 1, 2), torch.from_numpy(frames), images, list(frames)):
        decoded, metadata = decode_frames(video, [5, 2])
        assert decoded.shape == (2, 3, 8, 10) and decoded[:, 0, 0, 0].tolist() == [5, 2]
        assert metadata.total_num_frames == 6 and metadata.fps is None
    with pytest.raises(ValueError, match=r"must be uint8, from 0 to 255; got float64"):
        decode_frames(frames / 255, [0])
    with pytest.raises(ValueError, match=r"must have the shape .* got \(8, 10, 3\)"):
        decode_frames(frames[0], [0])


def test_an_address_is_downloaded(write_video, tmp_path):
    write_video(tmp_path / "video.mp4")

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=tmp_path)

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    assert numbers(decode_frames(f"{address}/video.mp4?version=2", [7])[0]) == [7]
    with pytest.raises(VideoDecodingError, match="none.mp4"):
        decode_frames(f"{address}/none.mp4", [0])
    server.shutdown()
    server.server_close()


def audio_only(path):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), dtype=np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        for _ in range(20):
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def test_every_unreadable_file_gets_one_sentence(write_video, tmp_path):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("this is no video" * 100)
    audio_only(tmp_path / "audio.mp4")
    whole = write_video(tmp_path / "whole.mp4").read_bytes()
    (tmp_path / "half.mp4").write_bytes(whole[: len(whole) // 2])
    for name, reason in {
        "none.mp4": "there is no such file",
        "empty.mp4": "the file is empty",
        "text.mp4": "it is damaged or no video",
        "audio.mp4": "it has no video stream",
        "half.mp4": "it is damaged or no video",
        ".": "it is a folder",
    }.items():
        with pytest.raises(VideoDecodingError, match=reason) as caught:
            decode_frames(tmp_path / name, [0])
        assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_stream_that_breaks_off_is_no_shorter_video(write_video, tmp_path):
    """An AVI can be cut anywhere: its frames up to there are given, later ones are not made up."""
    whole = write_video(tmp_path / "whole.mpg", frames=80, codec="mpeg1video", fps=25).read_bytes()
    (tmp_path / "cut.mpg").write_bytes(whole[: len(whole) * 2 // 3])
    _, metadata = decode_frames(tmp_path / "whole.mpg", [0])
    _, cut = decode_frames(tmp_path / "cut.mpg", [0])
    assert cut.total_num_frames < metadata.total_num_frames == 80


def test_the_error_survives_the_way_back_from_a_worker():
    error = pickle.loads(pickle.dumps(VideoDecodingError("cat.mp4", "the file is empty")))
    assert str(error) == "Cannot read the video cat.mp4: the file is empty." and error.video == "cat.mp4"


@pytest.mark.parametrize(
    ("name", "frames"),
    [
        ("R6llTwEh07w.mp4", 303),
        ("v_SoccerJuggling_g23_c01.avi", 240),
        ("RATRACE_wave_f_nm_np1_fr_goo_37.avi", 72),  # its last packet carries no frame
        ("hmdb51_Turnk_r_Pippi_Michel_cartwheel_f_cm_np2_le_med_6.avi", 83),  # metadata that are not UTF-8
        ("tree.avi", 68),
        ("cityCC0.mpg", 190),
        ("cube.mpeg", 79),  # declares 0.04 s
        ("camshift_face.gif", 16),
        ("morph12.gif", 1),
    ],
)
def test_files_of_many_kinds_give_what_a_decode_from_the_start_gives(shared, name, frames):
    path = shared / "videos" / name
    with av.open(str(path), **LENIENT) as container:
        reference = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(reference) == frames
    indices = sorted({0, frames // 3, frames // 2, frames - 1})
    decoded, metadata = decode_frames(path, lambda metadata: [*indices[:-1], metadata.total_num_frames - 1])
    assert metadata.total_num_frames == frames
    for index, frame in zip(indices, decoded):
        assert np.abs(frame.permute(1, 2, 0).numpy().astype(int) - reference[index]).mean() < 1


def decode_often_with_the_log_on(path) -> None:
    av.logging.set_level(av.logging.ERROR)
    for _ in range(20):
        assert decode_frames(path, [0, 5])[0].shape == (2, 3, 240, 320)


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
def test_a_damaged_file_never_stops_the_process_that_logs(tmp_path):
    generator = np.random.default_rng(0)
    with av.open(str(tmp_path / "noise.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"g": "50", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for _ in range(30):
            pixels = generator.integers(0, 255, (240, 320, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    damaged = bytearray((tmp_path / "noise.mp4").read_bytes())
    damaged[5000:-5000:2000] = bytes(byte ^ 255 for byte in damaged[5000:-5000:2000])
    (tmp_path / "damaged.mp4").write_bytes(damaged)
    process = multiprocessing.get_context("fork").Process(
        target=decode_often_with_the_log_on, args=(tmp_path / "damaged.mp4",)
    )
    process.start()
    process.join(60)
    stopped = process.is_alive()
    process.kill()
    assert not stopped and process.exitcode == 0


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells how many threads there are")
def test_no_decoder_outlives_the_call_that_made_it(write_video, tmp_path):
    """A forked process that freed a decoder of its parent would wait for threads that it does not have."""
    video = write_video(tmp_path / "video.mp4")
    gc.disable()
    try:
        threads = os.listdir("/proc/self/task")
        decode_frames(video, [0, 20])
        assert os.listdir("/proc/self/task") == threads
    finally:
        gc.enable()
