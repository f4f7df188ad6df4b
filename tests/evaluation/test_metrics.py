"""Retrieval metrics: published definitions, ties, blocks of rows, and invalid inputs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from ts2net.evaluation import (
    Querybank,
    metrics,
    rank_statistics,
    retrieval_metrics,
    text_to_video_ranks,
    video_to_text_ranks,
)

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "metrics.json").read_text())
NAMES = {"R1": "R@1", "R5": "R@5", "R10": "R@10", "R50": "R@50", "MedianR": "MdR", "MeanR": "MnR"}
VIDEO_OF_TEXT = [3, 0, 6, 1, 1, 2, 3, 4, 0, 5, 3, 6, 3, 2, 3]  # 7 videos with 1 to 5 texts, unordered


def brute_force_ranks(scores, video_of_text):
    """Ranks of both directions from the definition, one comparison at a time."""
    num_videos = len(scores[0])
    texts_of = [[text for text, video in enumerate(video_of_text) if video == wanted] for wanted in range(num_videos)]
    text_to_video = [
        1 + sum(scores[text][other] >= scores[text][video] for other in range(num_videos) if other != video)
        for text, video in enumerate(video_of_text)
    ]
    best = [
        [max(scores[text][video] for text in texts_of[of]) for of in range(num_videos)] for video in range(num_videos)
    ]
    video_to_text = [
        1 + sum(best[video][other] >= best[video][video] for other in range(num_videos) if other != video)
        for video in range(num_videos)
    ]
    return text_to_video, video_to_text


def tied_scores(rows, columns, seed, values=6):
    """Random scores with few distinct values, so that many are equal."""
    return np.random.default_rng(seed).integers(-values // 2, values // 2, (rows, columns)).astype(np.float32)


def plain_dual_softmax(scores):
    weights = np.exp(scores.astype(np.float64))
    return scores * weights / weights.sum(axis=0)


@pytest.fixture(params=[1, 20, 50, 2**20], ids="{} entries a block".format)
def block_entries(request, monkeypatch):
    """Block sizes of one row, a few rows, and all rows."""
    monkeypatch.setattr(metrics, "_BLOCK_ENTRIES", request.param)


@pytest.mark.parametrize("dual_softmax", [False, True], ids=["plain", "dual_softmax"])
@pytest.mark.parametrize("case", ["paired", "multi_caption"])
def test_equals_the_golden_figures(case, dual_softmax, block_entries):
    """The figures equal the golden percentages within 1e-6, the precision of the float32 they were computed in."""
    golden = GOLDEN[case]
    expected = {
        f"{direction} {NAMES[name]}": value
        for direction in ("text-to-video", "video-to-text")
        for name, value in golden[("dsl_" if dual_softmax else "") + direction.replace("-", "_")].items()
    }
    actual = retrieval_metrics(golden["logits_per_text"], golden.get("video_of_text"), dual_softmax=dual_softmax)
    assert list(actual) == list(expected)
    assert actual == pytest.approx(expected, rel=1e-6, abs=0)
    assert all(type(value) is float for value in actual.values())


@pytest.mark.parametrize("seed", range(5))
def test_ranks_of_tied_scores_are_those_of_the_definition(seed, block_entries):
    """Ties count against the model. The texts of a video can be in any order and in several blocks."""
    scores = tied_scores(len(VIDEO_OF_TEXT), 7, seed)
    text_to_video, video_to_text = brute_force_ranks(scores.tolist(), VIDEO_OF_TEXT)
    assert text_to_video_ranks(scores, VIDEO_OF_TEXT).tolist() == text_to_video
    assert video_to_text_ranks(scores, VIDEO_OF_TEXT).tolist() == video_to_text


@pytest.mark.parametrize("seed", range(5))
def test_dual_softmax_is_the_formula(seed, block_entries):
    scores = np.random.default_rng(seed).normal(scale=4, size=(len(VIDEO_OF_TEXT), 7))
    text_to_video, video_to_text = brute_force_ranks(plain_dual_softmax(scores).tolist(), VIDEO_OF_TEXT)
    assert text_to_video_ranks(scores, VIDEO_OF_TEXT, dual_softmax=True).tolist() == text_to_video
    assert video_to_text_ranks(scores, VIDEO_OF_TEXT, dual_softmax=True).tolist() == video_to_text
    assert text_to_video != brute_force_ranks(scores.tolist(), VIDEO_OF_TEXT)[0]  # dual softmax matters


def test_dual_softmax_survives_large_similarities():
    """The softmax subtracts the maximum first, because exp(1000) is infinite."""
    scores = np.array([[1000.0, 900.0], [999.0, 901.0]])
    assert text_to_video_ranks(scores, dual_softmax=True).tolist() == [1, 1]
    assert text_to_video_ranks(scores).tolist() == [1, 2]


def constant_querybank(num_videos):
    return Querybank(np.full((333, num_videos), 0.3))


@pytest.mark.parametrize("options", ["plain", "dual_softmax", "querybank"])
def test_constant_matrix_finds_nothing(options, block_entries):
    """Equal scores everywhere give the worst figures. 51 columns don't fill vector registers evenly."""
    chosen = {
        "plain": {},
        "dual_softmax": {"dual_softmax": True},
        "querybank": {"querybank": constant_querybank(51)},
    }[options]
    actual = retrieval_metrics(np.full((51, 51), 0.3), **chosen)
    for direction in {name.split()[0] for name in actual}:
        assert actual[f"{direction} R@1"] == actual[f"{direction} R@50"] == 0
        assert actual[f"{direction} MdR"] == actual[f"{direction} MnR"] == 51


@pytest.mark.parametrize("options", ["plain", "dual_softmax", "querybank"])
def test_copies_of_a_video_stay_tied(options):
    """Equal columns are bit-identical at any position. A plain sum over rows fails this for 200 by 50 scores."""
    column = np.random.default_rng(0).normal(scale=30, size=(200, 1))
    chosen = {
        "plain": {},
        "dual_softmax": {"dual_softmax": True},
        "querybank": {"querybank": Querybank(column[::-1].repeat(50, axis=1))},
    }[options]
    ranks = text_to_video_ranks(column.repeat(50, axis=1), np.arange(200) % 50, **chosen)
    assert ranks.tolist() == [50] * 200


def test_dual_softmax_keeps_copies_of_a_text_tied():
    """Copies of a text, one for the right and one for a wrong video, tie, so the right one is never ranked first."""
    scores = np.random.default_rng(0).normal(scale=30, size=(25, 50)).repeat(2, axis=0)
    ranks = video_to_text_ranks(scores, dual_softmax=True)
    assert (ranks > 1).all()


@pytest.mark.parametrize("seed", range(5))
def test_querybank_is_the_dynamic_inverted_softmax(seed, block_entries):
    """Ranks equal those from the published formula, with some rows normalised and some not."""
    generator = np.random.default_rng(seed)
    bank, scores = generator.normal(size=(5, 9)), generator.normal(size=(40, 9))
    video_of_text, beta = generator.integers(0, 9, 40), 1.5
    often_found = {int(row.argmax()) for row in bank}
    expected = scores.copy()
    normalised = [row for row in range(40) if int(scores[row].argmax()) in often_found]
    expected[normalised] = np.exp(beta * scores[normalised]) / np.exp(beta * bank).sum(axis=0)
    assert 0 < len(normalised) < 40

    ranks = text_to_video_ranks(scores, video_of_text, querybank=Querybank(bank, beta))
    assert ranks.tolist() == brute_force_text_to_video(expected.tolist(), video_of_text.tolist())
    assert ranks.tolist() != brute_force_text_to_video(scores.tolist(), video_of_text.tolist())


def brute_force_text_to_video(scores, video_of_text):
    return [sum(other >= row[video] for other in row) for row, video in zip(scores, video_of_text, strict=True)]


def test_querybank_takes_a_hub_off_its_place():
    """The querybank lowers the rank of video 0, a hub that is similar to every query."""
    scores = np.array([[0.9, 0.1, 0.1], [0.8, 0.7, 0.1], [0.8, 0.1, 0.7]])
    bank = Querybank(np.array([[0.8, 0.2, 0.1], [0.9, 0.1, 0.2], [0.7, 0.1, 0.1]]), beta=20)
    assert text_to_video_ranks(scores).tolist() == [1, 2, 2]
    actual = retrieval_metrics(scores, querybank=bank)
    assert actual["text-to-video MdR"] == 1
    assert set(actual) == {f"text-to-video {name}" for name in NAMES.values()}  # a bank of texts is for text-to-video


@pytest.mark.parametrize("dual_softmax", [False, True])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64", "int64", "int8"])
def test_torch_and_numpy_agree(dtype, dual_softmax):
    scores = torch.from_numpy(tied_scores(len(VIDEO_OF_TEXT), 7, seed=1)).to(getattr(torch, dtype))
    expected = retrieval_metrics(scores.double().numpy(), np.array(VIDEO_OF_TEXT), dual_softmax=dual_softmax)
    assert retrieval_metrics(scores, torch.tensor(VIDEO_OF_TEXT), dual_softmax=dual_softmax) == expected
    if dtype != "bfloat16":  # NumPy has no bfloat16
        assert retrieval_metrics(scores.numpy(), VIDEO_OF_TEXT, dual_softmax=dual_softmax) == expected


RANK = """
import sys
from pathlib import Path
import numpy as np
from ts2net.evaluation import Querybank, retrieval_metrics

def peak():
    return next(1024 * int(line.split()[1]) for line in Path("/proc/self/status").open() if line.startswith("VmHWM"))

def rank(texts, videos):
    scores = np.memmap(sys.argv[1], dtype=np.float32, mode="r", shape=(texts, videos))
    places = np.arange(texts) % videos
    retrieval_metrics(scores, places)
    retrieval_metrics(scores, places, dual_softmax=True)
    retrieval_metrics(scores, places, querybank=Querybank(scores))
    return scores.nbytes

rank(100, 50)  # what a first call costs
before = peak()
size = rank(10_000, 4_000)
print(size, peak() - before - size)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="Linux keeps the peak of a process's memory")
def test_memory_beside_the_scores_does_not_grow_with_them(tmp_path):
    """The metrics never copy all scores, which take 4 GB for 50,000 texts and 20,000 videos.

    The scores are read from a sparse file. Its mapped pages count as memory of the process.
    """
    (tmp_path / "scores").touch()
    os.truncate(tmp_path / "scores", 10_000 * 4_000 * 4)
    command = [sys.executable, "-c", RANK, str(tmp_path / "scores")]
    one_core = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=one_core, capture_output=True, text=True, check=True)
    size, extra = map(int, done.stdout.split())
    assert size == 160_000_000
    assert extra < 128_000_000


def test_precision_is_not_lost():
    """Scores stay float64; in float32 these two would tie."""
    scores = [[1.0 + 1e-12, 1.0], [0.0, 1.0]]
    assert text_to_video_ranks(scores).tolist() == text_to_video_ranks(np.array(scores)).tolist() == [1, 1]


def test_takes_what_evaluation_hands_over(tmp_path):
    """Accepts a read-only memory map, views of any stride or byte order, and a tensor that requires a gradient."""
    scores = tied_scores(len(VIDEO_OF_TEXT), 7, seed=2)
    expected = retrieval_metrics(scores, VIDEO_OF_TEXT)
    np.save(tmp_path / "scores.npy", scores)
    reversed_twice = scores[::-1, ::-1].copy()[::-1, ::-1]
    leaf = torch.from_numpy(scores).requires_grad_()
    score_matrices = [
        np.load(tmp_path / "scores.npy", mmap_mode="r"),
        reversed_twice,
        scores.astype(">f4"),
        leaf,
        leaf.T.clone().T,
    ]
    assert [retrieval_metrics(each, VIDEO_OF_TEXT) for each in score_matrices] == [expected] * len(score_matrices)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("measure", [retrieval_metrics, text_to_video_ranks, video_to_text_ranks])
def test_refuses_what_is_not_finite_and_says_where(measure, value, block_entries):
    scores = tied_scores(len(VIDEO_OF_TEXT), 7, seed=3)
    scores[11, 4] = value
    with pytest.raises(ValueError, match=rf"logits_per_text\[11, 4\] is {value}: similarities must be finite"):
        measure(scores, VIDEO_OF_TEXT)
    with pytest.raises(ValueError, match=rf"querybank's logits_per_text\[11, 4\] is {value}"):
        Querybank(scores)


@pytest.mark.parametrize(
    ("scores", "video_of_text", "error", "message"),
    [
        (np.zeros(4), None, ValueError, r"shape \(texts, videos\).* got \(4,\)"),
        (np.zeros((2, 2, 2)), None, ValueError, r"got \(2, 2, 2\)"),
        (np.zeros((0, 3)), [], ValueError, r"at least one of each, got \(0, 3\)"),
        ([[1.0, 2.0], [3.0]], None, ValueError, r"logits_per_text must have the shape \(texts, videos\)"),
        (np.zeros((3, 4)), None, ValueError, "3 texts and 4 videos: give video_of_text"),
        (np.zeros((3, 2)), [0, 1], ValueError, "video_of_text has 2 entries, but logits_per_text 3 texts"),
        (np.zeros((3, 2)), [0, 1, 2], ValueError, r"video_of_text\[2\] is 2: expected a column, 0 to 1"),
        (np.zeros((3, 2)), [0, -1, 1], ValueError, r"video_of_text\[1\] is -1"),
        (np.zeros((3, 2)), [[0, 1, 1]], ValueError, r"video_of_text must have one axis, got the shape \(1, 3\)"),
        (np.zeros((3, 2)), [0.0, 1.0, 1.0], TypeError, "video_of_text must be made of integers, got float64"),
        (np.zeros((3, 3)), [0, 2, 2], ValueError, "1 of 3 videos have no text in video_of_text, the first is 1"),
        (
            np.zeros((2, 2), dtype=complex),
            None,
            TypeError,
            "logits_per_text must be made of real numbers, got complex",
        ),
        (np.zeros((2, 2), dtype=bool), None, TypeError, "real numbers, got bool"),
        (torch.zeros(2, 2, dtype=torch.bool), None, TypeError, "real numbers, got torch.bool"),
        ([["a", "b"], ["c", "d"]], None, TypeError, "real numbers, got <U1"),
    ],
)
def test_refuses_what_does_not_fit(scores, video_of_text, error, message):
    with pytest.raises(error, match=message):
        retrieval_metrics(scores, video_of_text)


def test_text_to_video_takes_distractors():
    """Videos without texts are accepted as distractors."""
    assert text_to_video_ranks(np.array([[2.0, 3.0, 1.0], [2.0, 3.0, 4.0]]), [0, 2]).tolist() == [2, 1]


def test_refuses_a_querybank_that_does_not_fit():
    scores = np.zeros((3, 3))
    with pytest.raises(ValueError, match="the querybank has 4 videos, but logits_per_text 3"):
        retrieval_metrics(scores, querybank=Querybank(np.zeros((2, 4))))
    with pytest.raises(ValueError, match="exclude each other"):
        retrieval_metrics(scores, dual_softmax=True, querybank=Querybank(scores))
    for beta in (0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=f"beta must be a positive number, got {beta}"):
            Querybank(scores, beta)


def test_rank_statistics():
    """The median of an even number of ranks is the mean of the middle two."""
    expected = {"R@1": 25.0, "R@5": 50.0, "R@10": 75.0, "R@50": 75.0, "MdR": 7.5, "MnR": 19.25}
    assert rank_statistics([1, 5, 10, 61]) == rank_statistics(torch.tensor([61, 5, 10, 1])) == expected


@pytest.mark.parametrize(
    ("ranks", "error", "message"),
    [
        ([], ValueError, "ranks is empty"),
        ([2, 0], ValueError, r"ranks\[1\] is 0: ranks count from 1"),
        ([1.5], TypeError, "ranks must be made of integers"),
        ([[1]], ValueError, "ranks must have one axis"),
    ],
)
def test_refuses_ranks_that_are_none(ranks, error, message):
    with pytest.raises(error, match=message):
        rank_statistics(ranks)
