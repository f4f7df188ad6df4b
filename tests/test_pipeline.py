"""The pipeline: its answers are the model's, in every form of input and output."""

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
    """Videos of 1, 4 and 3 seconds that look different."""
    folder = tmp_path_factory.mktemp("videos")
    shapes = [(10, (64, 48)), (40, (48, 64)), (30, (80, 40))]
    return [
        str(write_video(folder / f"{place}.mp4", frames=frames, fps=10, size=size))
        for place, (frames, size) in enumerate(shapes)
    ]


@pytest.fixture(scope="module")
def scorer():
    return TextVideoScoringPipeline(model=tiny_model(), processor=tiny_processor(), device="cpu")


@pytest.fixture(scope="module")
def logits(scorer, clips):
    """The model's own answer, `(texts, videos)`."""
    with torch.no_grad():
        return scorer.model(**scorer.processor(text=TEXTS, videos=clips)).logits_per_text


def ranking(scores, name, entries):
    order = scores.argsort(descending=True).tolist()
    return [{name: entries[place], "score": pytest.approx(scores[place].item(), abs=1e-4)} for place in order]


def test_one_video(scorer, clips, logits):
    assert scorer(clips[1], text=TEXTS) == ranking(logits[:, 1], "text", TEXTS)
    assert scorer(clips[1], text="rain") == [{"text": "rain", "score": pytest.approx(logits[2, 1].item(), abs=1e-4)}]


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_many_videos_in_batches(scorer, clips, logits, batch_size):
    expected = [ranking(logits[:, video], "text", TEXTS) for video in range(3)]
    assert scorer(clips, text=TEXTS, batch_size=batch_size) == expected


def test_streams_without_reading_ahead(scorer, clips, logits):
    """A generator's second video is not asked for before the first is answered."""
    asked = []

    def videos():
        for clip in clips:
            asked.append(clip)
            yield clip

    answers = scorer(videos(), text=TEXTS)
    assert next(iter(answers)) == ranking(logits[:, 0], "text", TEXTS)
    assert asked == clips[:1]


def test_datasets(scorer, clips, logits):
    dataset = Dataset.from_dict({"video": clips}).cast_column("video", Video(decode=False))
    expected = [ranking(logits[:, video], "text", TEXTS) for video in range(3)]
    assert list(scorer(KeyDataset(dataset, "video"), text=TEXTS, batch_size=2)) == expected
    assert list(scorer(dataset["video"], text=TEXTS)) == expected


def test_decodes_in_worker_processes(scorer, clips, logits):
    expected = [ranking(logits[:, video], "text", TEXTS) for video in range(3)]
    assert scorer(clips, text=TEXTS, num_workers=1, batch_size=2) == expected


def test_each_texts_videos(scorer, clips, logits):
    expected = [ranking(row, "video", [0, 1, 2]) for row in logits]
    assert scorer(clips, text=TEXTS, group_by="text") == expected
    assert scorer(clips, text=TEXTS[0], group_by="text") == expected[0]
    assert scorer((clip for clip in clips), text=TEXTS, group_by="text", top_k=1) == [row[:1] for row in expected]


def test_the_whole_matrix(scorer, clips, logits):
    matrix = scorer(clips, text=TEXTS, group_by="matrix")
    assert set(matrix) == {"scores"}
    torch.testing.assert_close(matrix["scores"], logits, atol=1e-4, rtol=1e-4)


def test_the_best_second_is_that_of_the_frame_that_weighs_most(scorer, clips):
    inputs = scorer.processor(text=TEXTS, videos=clips)
    with torch.no_grad():
        best = scorer.model(**inputs, output_frame_weights=True).frame_weights.argmax(-1).float()
    matrix = scorer(clips, text=TEXTS, group_by="matrix", best_second=True)
    assert torch.equal(matrix["seconds"], best)  # one frame a second, so its place is its time
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
        ({}, ValueError, "text must be"),
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
