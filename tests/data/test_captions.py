"""Caption files as they are published, and batches of masked and exchanged texts."""

import json

import datasets
import pytest
import torch
from PIL import Image

from modeling_siasamrea import SiaSamReaProcessor, SiaSamReaVideoProcessor
from modeling_siasamrea.data.captions import CaptionDataset, PretrainingCollator, load_captions


@pytest.fixture
def processor(tokenizer):
    return SiaSamReaProcessor(SiaSamReaVideoProcessor(size={"longest_edge": 64}, frames_per_clip=2), tokenizer)


@pytest.fixture
def pictures(tmp_path):
    for number in range(6):
        Image.new("RGB", (64, 48), (40 * number, 0, 0)).save(tmp_path / f"{number}.jpg")
    return tmp_path


def test_coco(pictures):
    content = {
        "images": [{"id": 11, "file_name": "1.jpg"}, {"id": 12, "file_name": "2.jpg"}],
        "annotations": [{"image_id": 12, "caption": "a dog "}, {"image_id": 12, "caption": "a red dog"}],
    }
    (pictures / "captions.json").write_text(json.dumps(content))
    captions = load_captions(pictures / "captions.json", pictures)
    assert captions == [(str(pictures / "2.jpg"), "a dog", "12"), (str(pictures / "2.jpg"), "a red dog", "12")]


def test_visual_genome(pictures):
    content = [
        {"id": 1, "regions": [{"phrase": "a cat"}, {"phrase": "a man"}]},
        {"id": 99, "regions": [{"phrase": "x"}]},
    ]
    (pictures / "region_descriptions.json").write_text(json.dumps(content))
    captions = load_captions(pictures / "region_descriptions.json", pictures)
    assert [caption.text for caption in captions] == ["a cat", "a man", "x"]
    assert captions[0].picture == str(pictures / "1.jpg") and captions[2].picture == str(pictures / "99.jpg")


def test_rows_of_pictures_and_videos(pictures, write_video, processor):
    write_video(pictures / "v.mp4", frames=16)
    rows = [{"image": "1.jpg", "caption": ["a cat", "a red cat"]}, {"video": "v.mp4", "caption": "a man"}]
    (pictures / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    captions = load_captions(pictures / "rows.jsonl", pictures)
    dataset = CaptionDataset(captions, processor)
    assert [tuple(dataset[i]["pixel_values_videos"].shape) for i in (0, 2)] == [(1, 1, 3, 64, 64), (1, 2, 3, 64, 64)]
    batch = PretrainingCollator(processor)([dataset[0], dataset[2]])
    assert batch["pixel_values_videos"].shape == (2, 1, 2, 3, 64, 64)
    assert batch["frame_mask"].tolist() == [[1, 0], [1, 1]]


def test_a_data_set_with_an_image_column(pictures, processor):
    columns = {"image": [str(pictures / "1.jpg"), str(pictures / "5.jpg")], "caption": [["a cat", "a dog"], ["a man"]]}
    dataset = datasets.Dataset.from_dict(columns).cast_column("image", datasets.Image())
    (pictures / "published").mkdir()
    dataset.to_parquet(pictures / "published" / "train.parquet")
    captions = load_captions(pictures / "published")
    assert [(caption.text, caption.picture_id) for caption in captions] == [
        ("a cat", "0"),
        ("a dog", "0"),
        ("a man", "1"),
    ]
    frames = [CaptionDataset(captions, processor)[index]["pixel_values_videos"] for index in range(3)]
    assert torch.equal(frames[0], frames[1]) and not torch.equal(frames[0], frames[2])


def test_a_row_without_a_caption_is_named(pictures):
    (pictures / "rows.jsonl").write_text('{"image": "1.jpg", "caption": "a"}\n{"image": "2.jpg", "caption": ""}\n')
    with pytest.raises(ValueError, match="row 2: a row needs an image or a video, and a caption"):
        load_captions(pictures / "rows.jsonl")


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.jsonl", '{"image": "1.jpg", "caption": "caf\u00e9"}'.encode("latin-1"), "line 1: .*UTF-8"),
        ("a.csv", b"image,caption\n1.jpg,a cat, a dog\n", "row 1: cells: 3"),
        ("a.jsonl", b'{"image": "1.jpg", "caption": NaN}', "row 1: caption"),
        ("a.jsonl", b'{"image": "1.jpg", "caption": true}', "row 1: caption"),
        ("a.jsonl", b'{"image": "1.jpg", "caption": ["a cat", "  "]}', "row 1: caption"),
        ("a.jsonl", b'{"image": ["1.jpg"], "caption": "a cat"}', "row 1: image"),
        ("a.jsonl", b'{"image": "  ", "caption": "a cat"}', "row 1: a row needs an image or a video"),
        ("a.json", b'{"images": [], "annotations": [{"image_id": 7, "caption": "a"}]}', "annotation 1: .* id 7"),
        ("a.json", b'{"annotations": [{"image_id": 7, "caption": "a"}]}', "annotation 1: .* id 7"),
        ("a.json", b'[{"id": 1, "regions": [{"phrase": "a"}, "b"]}]', "image 1, regions, row 2: "),
        ("a.json", b'[{"id": 1, "regions": []}, 3]', "row 2: "),
        ("a.json", b'{"info": 1}', "must be a JSON list"),
        ("a.json", b"[{", "is not JSON"),
        ("none.json", None, "does not exist"),
        ("a.txt", b"a cat", "must be one of"),
    ],
)
def test_bad_captions_are_refused_with_a_sentence(pictures, name, content, sentence):
    if content is not None:
        (pictures / name).write_bytes(content)
    with pytest.raises(ValueError, match=sentence):
        load_captions(pictures / name)


def test_captions_are_read_with_a_byte_order_mark_and_strange_line_ends(pictures):
    (pictures / "a.jsonl").write_text('\ufeff{"image": "1.jpg", "caption": "a\u2028cat"}\r\n', encoding="utf-8")
    (pictures / "a.csv").write_text('\ufeffimage,caption\n1.jpg,"[""a cat"", ""a dog""]"\n', encoding="utf-8")
    assert [caption.text for caption in load_captions(pictures / "a.jsonl")] == ["a\u2028cat"]
    assert [caption.text for caption in load_captions(pictures / "a.csv")] == ["a cat", "a dog"]


def test_unreadable_pictures_are_replaced_and_named(pictures, processor, caplog):
    (pictures / "2.jpg").write_bytes(b"broken")
    (pictures / "rows.jsonl").write_text("".join(f'{{"image": "{n}.jpg", "caption": "cat {n}"}}\n' for n in range(4)))
    dataset = CaptionDataset(load_captions(pictures / "rows.jsonl", pictures), processor)
    assert dataset[2]["text"] == "cat 3" and caplog.text.count("2.jpg cannot be read") == 1


@pytest.mark.parametrize("training", [True, False])
def test_exchanged_texts_do_not_match_and_only_matching_words_are_masked(pictures, processor, training):
    torch.manual_seed(0)
    words = ["cat", "dog", "red", "blue", "man", "jump"]
    lines = [json.dumps({"image": f"{n}.jpg", "caption": " ".join([word] * 12)}) for n, word in enumerate(words)]
    (pictures / "rows.jsonl").write_text("\n".join(lines))
    dataset = CaptionDataset(load_captions(pictures / "rows.jsonl", pictures), processor)
    collator = PretrainingCollator(processor, training=training)
    batches = [collator([dataset[n] for n in range(6)]) for _ in range(20)]
    ids = [processor.tokenizer.convert_tokens_to_ids(word) for word in words]
    masked = total = 0
    for batch in batches:
        for row in range(6):
            shown = torch.where(batch["labels"][row] != -100, batch["labels"][row], batch["input_ids"][row])
            word = shown[1:13].mode().values.item()
            assert batch["matching_labels"][row] == int(word == ids[row])
            if not batch["matching_labels"][row]:
                assert (batch["labels"][row] == -100).all()
            else:
                masked, total = masked + (batch["labels"][row] != -100).sum().item(), total + 12
    assert 0.08 < masked / total < 0.22
    matching = torch.stack([batch["matching_labels"] for batch in batches]).float()
    assert 0.3 < matching.mean() < 0.7
    equal = [torch.equal(batch["input_ids"], batches[0]["input_ids"]) for batch in batches]
    assert all(equal) != training


def test_pairs_of_one_picture_are_never_exchanged(processor):
    frames = {"pixel_values_videos": torch.zeros(1, 1, 3, 64, 64), "frame_mask": torch.ones(1)}
    items = [{**frames, "text": text, "picture_id": "same", "index": 1} for text in ("a cat", "a dog")]
    assert PretrainingCollator(processor)(items)["matching_labels"].tolist() == [1, 1]
