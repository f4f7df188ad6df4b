"""Evaluation of a whole split: figures as defined, for any batches, blocks and processes."""

import numpy as np
import pytest
import torch
from datasets import Dataset

from support.evaluation_split import CAPTIONS, GROUPS, NUM_TEXTS, NUM_VIDEOS, split
from support.processes import run_in_processes
from support.tiny_models import tiny_model, tiny_processor
from ts2net import TS2NetModel, TS2NetProcessor, TS2NetVideoProcessor
from ts2net.data.evaluation_videos import EvaluationVideos
from ts2net.evaluation import retrieval, retrieval_metrics
from ts2net.evaluation.encoding import encode_split
from ts2net.evaluation.retrieval import RetrievalResult, evaluate_retrieval

pytestmark = pytest.mark.spread

VIDEO_OF_TEXT = [index for index, captions in enumerate(CAPTIONS) for _ in captions]
ALL = range(NUM_VIDEOS)
SETTINGS = {"num_frames": 6, "max_words": 12}


def evaluate(dataset: Dataset, **options) -> RetrievalResult:
    return evaluate_retrieval(tiny_model(), dataset, tiny_processor(), **SETTINGS, **options)


def brute_force_scores(dataset: Dataset) -> np.ndarray:
    """Scores of one model call on the whole split, of shape `(texts, videos)`."""
    inputs = tiny_processor()(
        text=[caption for row in dataset for caption in row["captions"]],
        videos=[row["video"] for row in dataset],
        num_frames=SETTINGS["num_frames"],
    )
    with torch.no_grad():
        return tiny_model()(**inputs).logits_per_text.numpy()


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return split()


@pytest.fixture(scope="module")
def scores(dataset: Dataset) -> np.ndarray:
    return brute_force_scores(dataset)


@pytest.fixture(scope="module")
def result(dataset: Dataset) -> RetrievalResult:
    return evaluate(dataset)


# ----------------------------------------------------------------------------------------------------------------
# Figures
# ----------------------------------------------------------------------------------------------------------------


def test_figures_are_those_of_the_whole_score_matrix(result: RetrievalResult, scores: np.ndarray) -> None:
    assert {name: value for name, value in result.metrics.items() if "group" not in name} == retrieval_metrics(
        scores, VIDEO_OF_TEXT
    )
    assert result.dual_softmax == retrieval_metrics(scores, VIDEO_OF_TEXT, dual_softmax=True)
    assert (result.num_texts, result.num_videos, result.broken) == (NUM_TEXTS, NUM_VIDEOS, [])
    # Otherwise an evaluation that finds nothing, or everything, would pass too.
    assert 0 < result.metrics["text-to-video R@1"] < 100
    assert 0 < result.metrics["video-to-text R@1"] < 100


def test_figures_of_words_are_those_of_the_whole_score_matrix(dataset: Dataset) -> None:
    """Word-token interaction, where a text has one vector per word, gives the figures of the whole score matrix."""
    model, processor = tiny_model(matching_kind="wti"), tiny_processor()
    evaluation = evaluate_retrieval(model, dataset, processor, **SETTINGS)
    inputs = processor(
        text=[caption for row in dataset for caption in row["captions"]],
        videos=[row["video"] for row in dataset],
        num_frames=SETTINGS["num_frames"],
    )
    with torch.no_grad():
        scores = model(**inputs).logits_per_text.numpy()
    assert evaluation.dual_softmax == retrieval_metrics(scores, VIDEO_OF_TEXT, dual_softmax=True)
    assert {name: value for name, value in evaluation.metrics.items() if "group" not in name} == retrieval_metrics(
        scores, VIDEO_OF_TEXT
    )
    assert 0 < evaluation.metrics["text-to-video R@1"] < 100


@pytest.mark.parametrize("matching_kind", ["weighted", "wti"])
def test_a_split_text_scores_the_mean_of_its_sentences(matching_kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A split text scores the mean of its pieces, also over several blocks and with a broken video left out."""
    monkeypatch.setattr(retrieval, "_TEXTS_A_BLOCK", 2)
    captions = [["a red cat. one two", "b"], ["c"], ["d; e. f ghijkl mno"], ["e f"], ["h"], ["j k"], ["l m n o"]]
    model, processor = tiny_model(matching_kind=matching_kind), tiny_processor()
    evaluation = evaluate_retrieval(
        model, split(broken=(1,), captions=captions), processor, num_frames=6, max_words=10, long_texts="split",
        leave_out_missing=True,
    )  # fmt: skip
    pieces = ["a red cat.", "one two", "b", "d;", "e.", "f ghijkl", "mno", "e f", "h", "j k", "l m n o"]
    text_of_piece = [0, 0, 1, 2, 2, 2, 2, 3, 4, 5, 6]
    videos = [row["video"] for index, row in enumerate(split(captions=captions)) if index != 1]
    with torch.no_grad():
        scores = model(**processor(text=pieces, videos=videos, num_frames=6)).logits_per_text
    texts = torch.stack([scores[torch.tensor(text_of_piece) == text].mean(dim=0) for text in range(7)])
    assert evaluation.dual_softmax == retrieval_metrics(texts.numpy(), [0, 0, 1, 2, 3, 4, 5], dual_softmax=True)
    plain = retrieval_metrics(texts.numpy(), [0, 0, 1, 2, 3, 4, 5])
    assert {name: evaluation.metrics[name] for name in plain} == plain


def test_groups_are_ranked_among_themselves(result: RetrievalResult, scores: np.ndarray) -> None:
    """Group figures follow the definition and ignore groups of one and videos without a group."""
    hits: dict[str, list[bool]] = {"text-to-video": [], "video-to-text": []}
    for video, group in enumerate(GROUPS):
        rivals = [other for other in ALL if other != video and GROUPS[other] == group]
        if group is None or not rivals:
            continue
        texts = [text for text in range(NUM_TEXTS) if VIDEO_OF_TEXT[text] == video]
        hits["text-to-video"] += [all(scores[text, video] > scores[text, other] for other in rivals) for text in texts]
        best = max(scores[text, video] for text in texts)
        rival_scores = [scores[text, video] for text in range(NUM_TEXTS) if VIDEO_OF_TEXT[text] in rivals]
        hits["video-to-text"].append(best > max(rival_scores))
    assert result.num_groups == 2
    for direction, right in hits.items():
        assert sum(right) > 0
        assert result.metrics[f"{direction} group R@1"] == pytest.approx(100 * sum(right) / len(right))
    assert result.metrics["text-to-video group R@1"] > result.metrics["text-to-video R@1"]


def test_a_row_a_caption_gives_the_figures_of_a_row_a_video(dataset: Dataset, result: RetrievalResult) -> None:
    """Data sets with one row per caption give the same figures; repeated videos would tie and never be found."""
    first = [row | {"captions": row["captions"][:1]} for row in dataset]
    others = [row | {"captions": [caption]} for row in dataset for caption in row["captions"][1:]]
    assert evaluate(Dataset.from_list([*first, *others], features=dataset.features)) == result


def test_a_split_without_groups_has_no_figures_for_them(dataset: Dataset) -> None:
    evaluation = evaluate(dataset.remove_columns("group"))
    assert evaluation.num_groups == 0
    assert not [name for name in evaluation.metrics if "group" in name]


@pytest.mark.parametrize("options", [{"batch_size": 1}, {"batch_size": 3}, {"num_workers": 2}], ids=str)
def test_batches_and_workers_change_nothing(dataset: Dataset, result: RetrievalResult, options: dict) -> None:
    assert evaluate(dataset, **options) == result


def test_a_terminal_shows_how_far_it_is(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Progress is shown only with `progress=True` and only on a terminal."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    evaluate(dataset, num_videos=7, batch_size=5, progress=True)
    shown = capsys.readouterr()
    assert "encoding videos" in shown.err
    assert "5/7" in shown.err
    evaluate(dataset)
    monkeypatch.delenv("FORCE_COLOR")
    evaluate(dataset, progress=True)
    assert "encoding" not in capsys.readouterr().err


@pytest.mark.parametrize(("cosines", "texts"), [(1, 1), (30, 2), (120, 5)])
def test_blocks_change_nothing(
    dataset: Dataset, result: RetrievalResult, cosines: int, texts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Figures don't depend on block sizes, including uneven ones, or on scores in a file instead of in memory."""
    monkeypatch.setattr(retrieval, "_BLOCK_COSINES", cosines)
    monkeypatch.setattr(retrieval, "_TEXTS_A_BLOCK", texts)
    monkeypatch.setattr(retrieval, "_MOST_BYTES_IN_MEMORY", 0)
    assert isinstance(retrieval._room_for(3, 2), np.memmap)
    assert evaluate(dataset) == result


def test_a_stream_is_evaluated_alike(dataset: Dataset, result: RetrievalResult) -> None:
    assert evaluate(dataset.to_iterable_dataset(num_shards=3)) == result


def test_every_video_is_decoded_and_encoded_once(dataset: Dataset) -> None:
    """A video with several captions is decoded and encoded once."""
    decoded: list[int] = []

    class CountingProcessor(TS2NetVideoProcessor):
        def preprocess(self, videos, **kwargs):
            decoded.append(len(videos))
            return super().preprocess(videos, **kwargs)

    settings = tiny_processor().video_processor.to_dict()
    settings.pop("video_processor_type", None)
    processor = TS2NetProcessor(tiny_processor().tokenizer, CountingProcessor(**settings))
    model = tiny_model()
    frames, texts = [], []
    model.visual_projection.register_forward_hook(lambda module, inputs, output: frames.append(len(output)))
    model.text_projection.register_forward_hook(lambda module, inputs, output: texts.append(len(output)))
    evaluate_retrieval(model, dataset, processor, batch_size=2, **SETTINGS)
    assert sum(decoded) == NUM_VIDEOS
    assert sum(frames) == NUM_VIDEOS * SETTINGS["num_frames"]
    assert sum(texts) == NUM_TEXTS


def test_the_model_is_left_as_it_was(dataset: Dataset, result: RetrievalResult) -> None:
    """The training mode of each module and the random state are restored, and gradients can still be computed."""
    model = tiny_model().train()
    model.text_model.eval()
    modes = [module.training for module in model.modules()]
    state = torch.get_rng_state()
    assert evaluate_retrieval(model, dataset, tiny_processor(), **SETTINGS) == result
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)
    model(
        **{"input_ids": torch.tensor([[0, 5, 1]]), "pixel_values_videos": torch.randn(1, 6, 3, 32, 32)},
        return_loss=True,
    ).loss.backward()


def test_embeddings_are_float32_on_the_cpu_under_autocast(dataset: Dataset) -> None:
    """Encoding uses the caller's autocast, and the stored embeddings are float32."""
    videos = EvaluationVideos(dataset, tiny_processor(), batch_size=4, num_frames=6)
    plain = encode_split(tiny_model(), tiny_processor(), videos, max_words=12)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = encode_split(tiny_model(), tiny_processor(), videos, max_words=12)
    assert plain is not None
    assert mixed is not None
    for name in ("text_embeds", "video_embeds"):
        one, other = getattr(plain, name), getattr(mixed, name)
        assert (other.dtype, other.device.type) == (torch.float32, "cpu")
        assert not torch.equal(one, other)
        assert torch.nn.functional.cosine_similarity(one, other, dim=-1).min() > 0.99


# ----------------------------------------------------------------------------------------------------------------
# Broken videos
# ----------------------------------------------------------------------------------------------------------------


def test_a_broken_video_is_reported_and_its_queries_are_misses(scores: np.ndarray) -> None:
    """A broken video counts as the lowest score: its queries are misses, and its texts still compete with others."""
    evaluation = evaluate(split(broken=(2, 5)))
    assert [video.video_id for video in evaluation.broken] == ["video2", "video5"]
    assert all(video.reason for video in evaluation.broken)
    assert (evaluation.num_texts, evaluation.num_videos) == (NUM_TEXTS, NUM_VIDEOS)
    below = scores.copy()
    below[:, [2, 5]] = scores.min() - 1
    expected = retrieval_metrics(below, VIDEO_OF_TEXT)
    for name in ("MdR", "MnR", "R@1"):
        assert evaluation.metrics[f"text-to-video {name}"] == expected[f"text-to-video {name}"]
        assert evaluation.metrics[f"video-to-text {name}"] == expected[f"video-to-text {name}"]
    # With seven candidates, R@50 counts every query that can be found.
    for figures in (evaluation.metrics, evaluation.dual_softmax):
        assert figures["text-to-video R@50"] == pytest.approx(100 * (NUM_TEXTS - 4) / NUM_TEXTS)
        assert figures["video-to-text R@50"] == pytest.approx(100 * (NUM_VIDEOS - 2) / NUM_VIDEOS)


def test_a_broken_video_misses_in_its_group(scores: np.ndarray) -> None:
    """Broken video 5 in a group of two: its queries miss, and its rival is found unless its text scores higher."""
    evaluation = evaluate(split(broken=(5,)).select([1, 5]))
    assert evaluation.metrics["text-to-video group R@1"] == 50
    matching_score, rival_score = scores[VIDEO_OF_TEXT.index(1), 1], scores[VIDEO_OF_TEXT.index(5), 1]
    assert evaluation.metrics["video-to-text group R@1"] == (50 if matching_score > rival_score else 0)


def test_refuses_a_split_that_has_no_usable_video() -> None:
    with pytest.raises(ValueError, match="none of the 7 videos can be used, such as 'video0': .+"):
        evaluate(split(broken=tuple(ALL)))


def test_refuses_videos_without_captions() -> None:
    captions = [[], *CAPTIONS[1:]]
    with pytest.raises(ValueError, match="1 of 7 videos have no caption, such as 'video0'"):
        evaluate(split(captions=captions))


def test_refuses_embeddings_that_are_no_numbers(dataset: Dataset) -> None:
    model: TS2NetModel = tiny_model()
    with torch.no_grad():
        model.visual_projection.weight.fill_(float("nan"))
    with pytest.raises(ValueError, match="7 of 7 videos an embedding that is not finite, such as 'video0'"):
        evaluate_retrieval(model, dataset, tiny_processor(), **SETTINGS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_words": 40}, "max_words must lie between 2 .* and 16.* got 40"),
        ({"num_frames": 0}, "num_frames must be at least 1, got 0"),
        ({"num_frames": 8}, "the frames have 32 tokens and the temporal encoder 24 positions"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
    ],
)
def test_refuses_numbers_out_of_range(dataset: Dataset, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate_retrieval(tiny_model(), dataset, tiny_processor(), **SETTINGS | options)


# ----------------------------------------------------------------------------------------------------------------
# Several processes
# ----------------------------------------------------------------------------------------------------------------


SOME = (0, 2, 4, 6)  # all videos of process 0 of 2


def evaluate_in_process() -> dict:
    """All results that the tests below check, from one start of the processes, which takes seconds."""
    outcomes = {"whole": evaluate(split()).to_dict(), "some broken": evaluate(split(broken=SOME)).to_dict()}
    try:
        evaluate(split(broken=tuple(ALL)))
    except Exception as error:
        outcomes["all broken"] = f"{type(error).__name__}: {error}"
    return outcomes


@pytest.fixture(scope="module")
def in_two_processes(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    return run_in_processes(evaluate_in_process, 2, tmp_path_factory.mktemp("processes"))


def test_processes_share_the_work_and_get_the_same_figures(in_two_processes: list, result: RetrievalResult) -> None:
    """An odd number of videos over two processes is evaluated completely, and every process gets the result."""
    assert [outcomes["whole"] for outcomes in in_two_processes] == [result.to_dict()] * 2


def test_processes_report_broken_videos_in_order(in_two_processes: list) -> None:
    """Broken videos are reported in order, also if all videos of one process are broken."""
    assert [outcomes["some broken"] for outcomes in in_two_processes] == [evaluate(split(broken=SOME)).to_dict()] * 2


def test_no_process_waits_for_a_main_one_that_stops(in_two_processes: list) -> None:
    main, other = (outcomes["all broken"] for outcomes in in_two_processes)
    assert main.startswith("ValueError: none of the 7 videos can be used, such as 'video0': ")
    assert other == "MainProcessError: the main process had to stop: " + main.removeprefix("ValueError: ")
