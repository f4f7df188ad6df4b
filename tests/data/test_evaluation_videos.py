"""Videos of a split for evaluation: each once over all processes and workers, and all texts with video indices."""

import pytest
import torch
from datasets import Dataset

from support.streamed_data import FEATURES, clip, row, stream
from support.tiny_models import tiny_processor
from ts2net.data.evaluation_videos import EvaluationVideos
from ts2net.videos.broken import BrokenVideo

pytestmark = pytest.mark.filterwarnings("error:This DataLoader will create:UserWarning")

SETTINGS = {"batch_size": 2, "num_frames": 4}


def split_of_seven():
    rows = [row(number, num_captions=1 + number % 3, group=f"group{number % 2}") for number in range(7)]
    return stream([rows[:3], rows[3:4], rows[4:]])


@pytest.fixture(scope="module")
def expected() -> torch.Tensor:
    return torch.cat(
        [
            batch["pixel_values_videos"]
            for batch in EvaluationVideos(split_of_seven(), tiny_processor(), **SETTINGS).batches()
        ]
    )


@pytest.mark.slow
@pytest.mark.parametrize("num_processes", [1, 2, 3, 9])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_each_video_comes_once_over_all_processes(num_processes: int, num_workers: int, expected: torch.Tensor):
    """No video is repeated or left out when the processes don't divide the split evenly or exceed it."""
    seen: dict[int, tuple[str, torch.Tensor]] = {}
    for process in range(num_processes):
        share = {"process_index": process, "num_processes": num_processes, "num_workers": num_workers}
        for batch in EvaluationVideos(split_of_seven(), tiny_processor(), **SETTINGS, **share).batches():
            assert len(batch["indices"]) <= SETTINGS["batch_size"]
            for index, video_id, pixels in zip(
                batch["indices"].tolist(), batch["video_ids"], batch["pixel_values_videos"], strict=True
            ):
                assert index not in seen
                seen[index] = video_id, pixels
    assert {index: video_id for index, (video_id, _) in seen.items()} == {index: f"clip{index}" for index in range(7)}
    assert torch.equal(torch.stack([seen[index][1] for index in range(7)]), expected)


@pytest.mark.parametrize("read_first", [True, False])
def test_every_process_knows_all_texts_and_their_places(read_first: bool):
    """Every process has all texts of the split and the index of each text's video."""
    videos = EvaluationVideos(split_of_seven(), tiny_processor(), process_index=1, num_processes=2, **SETTINGS)
    if read_first:
        assert [id for batch in videos.batches() for id in batch["video_ids"]] == ["clip1", "clip3", "clip5"]
    assert len(videos.rows) == 7
    assert [row.group for row in videos.rows[:2]] == ["group0", "group1"]
    assert videos.video_of_text.tolist() == [0, 1, 1, 2, 2, 2, 3, 4, 4, 5, 5, 5, 6]
    assert videos.texts[:4] == ["clip 0 text 0", "clip 1 text 0", "clip 1 text 1", "clip 2 text 0"]


def test_rows_of_one_video_are_decoded_once():
    """Rows with one ID but different videos, such as files of one name in two folders, stay separate."""
    rows = [row(0), row(1), row(0, captions=["again"]), row(0, start=0.5), row(1, video=row(2)["video"])]
    videos = EvaluationVideos(stream([rows, rows[:1]]), tiny_processor(), **SETTINGS)
    assert [batch["indices"].tolist() for batch in videos.batches()] == [[0, 1], [2, 3]]
    assert videos.rows[0].captions == ("clip 0 text 0", "again", "clip 0 text 0")
    assert [len(row.captions) for row in videos.rows] == [3, 1, 1, 1]
    assert videos.video_of_text.tolist() == [0, 0, 0, 1, 2, 3]


def test_broken_videos_are_left_out_and_told_by_place():
    """Broken videos are reported by index, since their texts count as misses. A batch of only these is skipped."""
    rows = [row(0), row(1, video=None), *(row(n, video={"bytes": b"no video", "path": None}) for n in (2, 3)), row(4)]
    videos = EvaluationVideos(stream([rows]), tiny_processor(), num_workers=1, **SETTINGS)
    assert [batch["indices"].tolist() for batch in videos.batches()] == [[0], [4]]
    assert sorted(videos.broken) == [1, 2, 3]
    assert videos.broken[1] == BrokenVideo("clip1", "the video is missing")
    assert len(videos.texts) == 5


def test_a_data_set_in_memory_gives_the_same_as_a_stream(expected: torch.Tensor):
    """A `Dataset`, as from `load_benchmark(..., streaming=False)`, gives the same pixels as an `IterableDataset`."""
    dataset = Dataset.from_list(list(split_of_seven()), features=FEATURES)
    batches = list(EvaluationVideos(dataset, tiny_processor(), **SETTINGS).batches())
    assert torch.equal(torch.cat([batch["pixel_values_videos"] for batch in batches]), expected)


def test_evaluating_leaves_the_random_state_alone():
    """An evaluation in the middle of a training run must not change the rest of the run."""
    before = torch.get_rng_state()
    list(EvaluationVideos(split_of_seven(), tiny_processor(), num_workers=1, **SETTINGS).batches())
    assert torch.equal(torch.get_rng_state(), before)


def test_what_is_no_split_is_refused():
    """Invalid data sets and settings are refused with the reason."""
    processor = tiny_processor()
    with pytest.raises(TypeError, match=r"datasets\.IterableDataset or datasets\.Dataset, got list"):
        EvaluationVideos([row(0)], processor, **SETTINGS)
    with pytest.raises(ValueError, match="no column 'captions'; its columns are id, video"):
        EvaluationVideos(stream([[row(0)]]).select_columns(["id", "video"]), processor, **SETTINGS)
    with pytest.raises(ValueError, match="empty"):
        EvaluationVideos(Dataset.from_list([row(0)], features=FEATURES).select([]), processor, **SETTINGS)
    with pytest.raises(ValueError, match="empty"):
        list(EvaluationVideos(stream([[], []]), processor, **SETTINGS).batches())
    with pytest.raises(ValueError, match="process_index must lie from 0 to 1, got 2"):
        EvaluationVideos(stream([[row(0)]]), processor, process_index=2, num_processes=2, **SETTINGS)
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        EvaluationVideos(stream([[row(0)]]), processor, batch_size=0, num_frames=4)


def test_clips_are_different():
    """The clips differ, which the comparisons above depend on."""
    assert len({clip(number) for number in range(7)}) == 7
