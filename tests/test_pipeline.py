"""The pipeline returns the model's scores for every form of input and output."""

from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset, Video
from transformers import pipeline
from transformers.pipelines.pt_utils import KeyDataset

from support.tiny_models import tiny_model, tiny_processor
from support.video_files import write_video
from ts2net import TextVideoScoringPipeline

TEXTS = ["a dog runs", "two cats", "rain"]


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Videos of 1, 4 and 3 seconds with different content."""
    folder = tmp_path_factory.mktemp("videos")
    shapes = [(10, (64, 48)), (40, (48, 64)), (30, (80, 40))]
    return [
        str(write_video(folder / f"{index}.mp4", frames=frames, fps=10, size=size))
        for index, (frames, size) in enumerate(shapes)
    ]


@pytest.fixture(scope="module")
def scorer():
    return TextVideoScoringPipeline(model=tiny_model(), processor=tiny_processor(), device="cpu")


@pytest.fixture(scope="module")
def logits(scorer, clips):
    """The scores of the model itself, `(texts, videos)`."""
    with torch.no_grad():
        return scorer.model(**scorer.processor(text=TEXTS, videos=clips)).logits_per_text


def ranking(scores, texts=TEXTS):
    order = scores.argsort(descending=True).tolist()
    return [{"text": texts[index], "score": pytest.approx(scores[index].item(), abs=1e-4)} for index in order]


def video_ranking(scores, names):
    order = scores.argsort(descending=True).tolist()
    return [
        {"index": index, "video": names[index], "score": pytest.approx(scores[index].item(), abs=1e-4)}
        for index in order
    ]


def test_one_video(scorer, clips, logits):
    assert scorer(clips[1], text=TEXTS) == ranking(logits[:, 1])
    assert scorer(clips[1], text="rain") == [{"text": "rain", "score": pytest.approx(logits[2, 1].item(), abs=1e-4)}]


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_many_videos_in_batches(scorer, clips, logits, batch_size):
    expected = [ranking(logits[:, video]) for video in range(3)]
    assert scorer(clips, text=TEXTS, batch_size=batch_size) == expected


def test_streams_without_reading_ahead(scorer, clips, logits):
    """The second video of a generator is not requested before the first result is returned."""
    requested = []

    def videos():
        for clip in clips:
            requested.append(clip)
            yield clip

    answers = scorer(videos(), text=TEXTS)
    assert next(iter(answers)) == ranking(logits[:, 0])
    assert requested == clips[:1]


def test_datasets(scorer, clips, logits):
    dataset = Dataset.from_dict({"video": clips}).cast_column("video", Video(decode=False))
    expected = [ranking(logits[:, video]) for video in range(3)]
    assert list(scorer(KeyDataset(dataset, "video"), text=TEXTS, batch_size=2)) == expected
    assert list(scorer(dataset["video"], text=TEXTS)) == expected


def test_decodes_in_worker_processes(scorer, clips, logits):
    expected = [ranking(logits[:, video]) for video in range(3)]
    assert scorer(clips, text=TEXTS, num_workers=1, batch_size=2) == expected


def test_each_texts_videos(scorer, clips, logits):
    expected = [video_ranking(row, clips) for row in logits]
    assert scorer(clips, text=TEXTS, group_by="text") == expected
    assert scorer(clips, text=TEXTS[0], group_by="text") == expected[0]
    assert scorer((clip for clip in clips), text=TEXTS, group_by="text", top_k=np.int64(1)) == [
        row[:1] for row in expected
    ]
    with open(clips[0], "rb") as file:
        files = [file, Path(clips[1]), {"path": clips[2], "bytes": None}]
        assert scorer(files, text=TEXTS, group_by="text") == expected
    nameless = Path(clips[0]).read_bytes()
    assert scorer(nameless, text="rain", group_by="text")[0]["video"] is None


def test_addresses_of_files_and_numbers_of_numpy(scorer, clips, logits):
    """`file://` addresses in any case, and NumPy integers, are accepted as stored in datasets."""
    addresses = [
        Path(clips[0]).as_uri(),
        Path(clips[1]).as_uri().replace("file:", "FILE:"),
        f"file://localhost{clips[2]}",
    ]
    ranked = scorer(addresses, text=TEXTS, batch_size=np.int64(2), num_frames=np.int32(6))
    assert ranked == [ranking(logits[:, video]) for video in range(3)]
    with pytest.raises(ValueError, match="file://elsewhere/a.mp4: a file:// address names a file of this machine"):
        scorer("file://elsewhere/a.mp4", text=TEXTS)


def test_the_whole_matrix(scorer, clips, logits):
    matrix = scorer(clips, text=TEXTS, group_by="matrix")
    assert set(matrix) == {"scores"}
    torch.testing.assert_close(matrix["scores"], logits, atol=1e-4, rtol=1e-4)


def test_the_best_second_is_that_of_the_frame_that_weighs_most(scorer, clips):
    inputs = scorer.processor(text=TEXTS, videos=clips)
    with torch.no_grad():
        best = scorer.model(**inputs, output_frame_weights=True).frame_weights.argmax(-1).float()
    matrix = scorer(clips, text=TEXTS, group_by="matrix", best_second=True)
    assert torch.equal(matrix["seconds"], best)  # at one frame per second, its index is its time
    assert len(best.unique()) > 1
    by_text = scorer(clips[1], text=TEXTS, best_second=True)
    assert {row["text"]: row["second"] for row in by_text} == dict(zip(TEXTS, best[:, 1].tolist(), strict=True))
    later = scorer(clips[1], text=TEXTS, best_second=True, start=2)
    assert all(row["second"] >= 2 for row in later)


def test_moments_of_many_videos(scorer, clips):
    together = scorer(clips[1:], text=TEXTS, start=[1, 0], end=[2, 1])
    apart = [scorer(clips[1], text=TEXTS, start=1, end=2), scorer(clips[2], text=TEXTS, start=0, end=1)]
    for rows, expected in zip(together, apart, strict=True):
        assert [row["text"] for row in rows] == [row["text"] for row in expected]
        assert [row["score"] for row in rows] == pytest.approx([row["score"] for row in expected], abs=1e-4)
    with pytest.raises(ValueError, match="start has 1 entries for 2 videos"):
        scorer(clips[1:], text=TEXTS, start=[1], end=[2, 3])


def test_settings_of_the_constructor_are_defaults_of_each_call(scorer, clips, logits):
    settled = TextVideoScoringPipeline(
        model=scorer.model, processor=scorer.processor, device="cpu", text=TEXTS, top_k=2, best_second=True
    )
    expected = ranking(logits[:, 1])[:2]
    rows = settled(clips[1])
    assert [{name: row[name] for name in ("text", "score")} for row in rows] == expected
    assert set(rows[0]) == {"text", "score", "second"}
    assert len(settled(clips[1], top_k=3)) == 3
    assert set(settled(clips[1], "rain", best_second=False)[0]) == {"text", "score"}
    for wrong in ({"top_k": 0}, {"group_by": "frame"}, {"on_error": "ignore"}, {"text": []}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            TextVideoScoringPipeline(model=scorer.model, processor=scorer.processor, device="cpu", **wrong)


def test_rows_with_texts_of_their_own(scorer, clips, logits):
    rows = [{"video": clips[0], "text": TEXTS[:2]}, {"video": clips[2], "text": "rain"}]
    expected = [ranking(logits[:2, 0]), ranking(logits[2:, 2], ["rain"])]
    assert scorer(rows) == expected
    assert scorer(rows, batch_size=2) == expected
    assert list(scorer(row for row in rows)) == expected
    assert scorer(rows[1]) == expected[1]
    assert scorer(rows[1], text=TEXTS) == ranking(logits[:, 2])
    moment = {"video": clips[1], "text": TEXTS, "start": 2.0, "end": None}
    assert scorer(moment) == scorer(clips[1], text=TEXTS, start=2)


def test_a_whole_dataset(scorer, clips, logits):
    rows = {"id": ["a", "b", "c"], "video": clips, "text": TEXTS}
    dataset = Dataset.from_dict(rows).cast_column("video", Video(decode=False))
    expected = [ranking(logits[:, video]) for video in range(3)]
    paired = [ranking(logits[video : video + 1, video], TEXTS[video : video + 1]) for video in range(3)]
    for videos in (dataset, dataset.to_iterable_dataset()):
        assert list(scorer(videos, text=TEXTS)) == expected
        assert list(scorer(videos)) == paired


@pytest.mark.parametrize("batch_size", [1, 2, 4])
def test_a_broken_video_costs_only_itself(scorer, clips, logits, tmp_path, batch_size):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"not a video")
    videos = [str(broken), clips[0], str(tmp_path / "missing.mp4"), clips[1]]
    settings = {"text": TEXTS, "on_error": "skip", "batch_size": batch_size}
    for answers in (scorer(videos, **settings), list(scorer(iter(videos), **settings))):
        assert [answers[1], answers[3]] == [ranking(logits[:, 0]), ranking(logits[:, 1])]
        assert "broken.mp4" in answers[0]["error"]
        assert "missing.mp4" in answers[2]["error"]

    matrix = scorer(videos, **settings, group_by="matrix", best_second=True)
    torch.testing.assert_close(matrix["scores"][:, [1, 3]], logits[:, :2], atol=1e-4, rtol=1e-4)
    assert matrix["scores"][:, [0, 2]].isnan().all()
    assert matrix["seconds"].isnan().any(dim=0).tolist() == [True, False, True, False]
    assert set(matrix["errors"]) == {0, 2}
    by_text = scorer(videos, **settings, group_by="text")
    assert [sorted(row["index"] for row in rows) for rows in by_text] == [[1, 3]] * 3
    assert scorer([str(broken)], **settings) == [answers[0]]

    for videos_in in (videos, iter(videos)):
        with pytest.raises(ValueError, match=r"broken\.mp4"):
            list(scorer(videos_in, text=TEXTS, batch_size=batch_size))


def test_errors_reach_from_worker_processes(scorer, clips, tmp_path):
    answers = scorer([clips[0], str(tmp_path / "gone.mp4")], text=TEXTS, on_error="skip", num_workers=1)
    assert "gone.mp4" in answers[1]["error"]


def test_scores_that_are_no_numbers_are_an_error(clips):
    model = tiny_model()
    model.logit_scale.data.fill_(torch.nan)
    broken = TextVideoScoringPipeline(model=model, processor=tiny_processor(), device="cpu")
    with pytest.raises(ValueError, match=r"0\.mp4: the model's scores are not finite numbers"):
        broken(clips[0], text=TEXTS)
    assert "not finite" in broken(clips, text=TEXTS, on_error="skip")[2]["error"]


def test_a_model_fresh_from_training_scores_without_noise(clips):
    fresh = TextVideoScoringPipeline(model=tiny_model().train(), processor=tiny_processor(), device="cpu")
    assert fresh(clips[0], text=TEXTS) == fresh(clips[0], text=TEXTS)
    with pytest.raises(ValueError, match="needs a processor"):
        TextVideoScoringPipeline(model=tiny_model(), device="cpu")


def test_an_empty_stream_and_lists_for_a_stream_are_named(scorer):
    with pytest.raises(ValueError, match="no video to score"):
        scorer(iter([]), text="a", group_by="matrix")
    with pytest.raises(ValueError, match="needs a list of videos"):
        scorer(iter(["a.mp4"]), text="a", start=[1])


def test_loads_by_task_and_in_half_precision(tmp_path, scorer, clips, logits):
    scorer.save_pretrained(tmp_path)
    loaded = pipeline("text-video-scoring", model=str(tmp_path), device="cpu", dtype=torch.bfloat16)
    assert type(loaded) is TextVideoScoringPipeline
    assert loaded.model.dtype == torch.bfloat16
    scores = loaded(clips, text=TEXTS, group_by="matrix")["scores"]
    assert scores.dtype == torch.float32
    assert (scores - logits).abs().max() < 0.5


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, ValueError, "text is missing: give text, or rows"),
        ({"group_by": "text"}, ValueError, "compares videos by the same texts: give text"),
        ({"text": "a", "on_error": "ignore"}, ValueError, "on_error must be 'raise' or 'skip', got 'ignore'"),
        ({"text": "a", "top_k": True}, ValueError, "top_k"),
        ({"text": []}, ValueError, "text must be"),
        ({"text": 3}, ValueError, "text must be"),
        ({"text": ["a", 2]}, ValueError, "text must be"),
        ({"text": "a", "group_by": "frame"}, ValueError, "'frame'"),
        ({"text": "a", "top_k": 0}, ValueError, "top_k"),
        ({"text": "a", "threshold": 1}, TypeError, "'threshold'"),
    ],
)
def test_wrong_arguments_are_named(scorer, clips, arguments, error, message):
    with pytest.raises(error, match=message):
        scorer(clips[0], **arguments)
