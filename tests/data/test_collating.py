"""Conversion of rows to tensors of fixed shape, and unusable videos."""

import io
from pathlib import Path

import pytest
import torch

from support.streamed_data import clip, row
from support.tiny_models import WORDS, tiny_processor
from ts2net.data.collating import check_sizes, text_tensors, video_tensors
from ts2net.data.rows import VideoRow
from ts2net.videos.broken import BrokenVideo

FRAMES = 4


def video_row(number: int, **values) -> VideoRow:
    return VideoRow.from_columns(row(number, **values))


def test_a_video_is_padded_to_the_number_of_frames_and_else_as_the_processor_gives_it():
    """All batches of a run have the same shape, and their pixels equal the processor's output."""
    processor = tiny_processor()
    tensors = video_tensors(video_row(1), processor, FRAMES)
    alone = processor(videos=[clip(1)])
    assert tensors["padding_mask_videos"].tolist() == [True, True, False, False]
    assert tensors["pixel_values_videos"].shape == (FRAMES, 3, 32, 32)
    assert torch.equal(tensors["pixel_values_videos"][:2], alone["pixel_values_videos"][0])
    assert not tensors["pixel_values_videos"][2:].any()


def test_only_the_moment_of_a_row_is_decoded():
    """Frames outside the moment of a row, as in LSMDC and DiDeMo, are not decoded."""
    moment = video_tensors(video_row(2, start=1.0, end=1.9), tiny_processor(), FRAMES)
    whole = video_tensors(video_row(2), tiny_processor(), FRAMES)
    assert moment["padding_mask_videos"].sum() == 1
    assert torch.equal(moment["pixel_values_videos"][0], whole["pixel_values_videos"][1])


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"video": None}, "the video is missing"),
        ({"video": {"bytes": None, "path": None}}, "the video is missing"),
        ({"video": {"bytes": b"", "path": "a.mp4"}}, "empty"),
        ({"video": {"bytes": b"#EXTM3U\n/etc/passwd\n", "path": None}}, "not a video"),
        ({"video": {"bytes": clip(1)[:200], "path": None}}, "not a video"),
        ({"video": {"bytes": None, "path": "/nowhere/a.mp4"}}, "/nowhere/a.mp4: No such file or directory"),
        ({"start": 100.0, "end": 101.0}, "100"),
        ({"start": 1.0, "end": 0.5}, "0.5"),
    ],
)
def test_a_video_that_cannot_be_used_is_named_with_a_reason(values: dict, reason: str):
    """A bad file among a hundred thousand is reported with its ID and reason and does not end the run."""
    broken = video_tensors(video_row(1, **values), tiny_processor(), FRAMES)
    assert isinstance(broken, BrokenVideo)
    assert broken.video_id == "clip1"
    assert reason in broken.reason
    assert "\n" not in broken.reason
    assert "<bytes>" not in broken.reason


def test_a_video_that_there_is_no_memory_for_is_one_broken_video():
    """Running out of memory on one video marks only that video as broken."""

    class TooLarge(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise MemoryError

    broken = video_tensors(video_row(1, video=TooLarge(clip(1))), tiny_processor(), FRAMES)
    assert broken == BrokenVideo("clip1", "MemoryError")


def test_a_video_may_lie_in_a_file(tmp_path: Path):
    """Videos of plain folders, which have no shards, are read from their files."""
    path = tmp_path / "a.mp4"
    path.write_bytes(clip(1))
    tensors = video_tensors(video_row(1, video={"bytes": None, "path": str(path)}), tiny_processor(), FRAMES)
    assert torch.equal(
        tensors["pixel_values_videos"], video_tensors(video_row(1), tiny_processor(), FRAMES)["pixel_values_videos"]
    )


def test_texts_are_padded_and_cut_with_the_end_token_kept():
    """The start and end tokens count as words. Truncation keeps the end token, whose state is the text's embedding."""
    processor = tiny_processor()
    short, long = (text_tensors(text, processor, 8) for text in ("ab c", "abcdefghijkl"))
    assert short["input_ids"].shape == long["input_ids"].shape == (8,)
    assert short["attention_mask"].tolist() == [1, 1, 1, 1, 1, 0, 0, 0]
    assert long["attention_mask"].all()
    assert long["input_ids"][0] == processor.tokenizer.bos_token_id
    assert long["input_ids"][-1] == processor.tokenizer.eos_token_id


@pytest.mark.parametrize(("frames", "words"), [(0, 8), (4, 1), (4, WORDS + 1)])
def test_impossible_sizes_are_refused_before_anything_is_read(frames: int, words: int):
    """Sizes that would fail only inside the first step, such as more words than positions, are errors at once."""
    with pytest.raises(ValueError, match="must"):
        check_sizes(tiny_processor(), frames, words)
