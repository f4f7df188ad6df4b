"""The metric folder for `evaluate.load`, which gives the figures of `retrieval_metrics`."""

import shutil
import sys
from pathlib import Path

import evaluate
import numpy as np
import pytest
import torch

from ts2net.evaluation import METRIC_PATH, retrieval_metrics

VIDEO_OF_TEXT = np.array([3, 0, 2, 1, 1, 2, 3, 4, 0])
SCORES = np.random.default_rng(0).normal(size=(len(VIDEO_OF_TEXT), 5))


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`evaluate.load`, offline and with its files in the test's folder."""
    monkeypatch.setattr(evaluate.config, "HF_MODULES_CACHE", tmp_path / "modules")
    monkeypatch.setattr(evaluate.config, "HF_EVALUATE_OFFLINE", True)
    monkeypatch.setattr("sys.path", [*sys.path])  # restored after the test, since the library adds an entry
    return lambda path=METRIC_PATH: evaluate.load(str(path), cache_dir=str(tmp_path / "cache"))


@pytest.mark.parametrize("dual_softmax", [False, True])
@pytest.mark.parametrize("convert", [np.asarray, np.ndarray.tolist, torch.from_numpy])
def test_figures_are_those_of_the_package(load, convert, dual_softmax):
    """Arrays, lists and tensors give the figures of `retrieval_metrics`."""
    metrics = load().compute(predictions=convert(SCORES), references=convert(VIDEO_OF_TEXT), dual_softmax=dual_softmax)
    assert metrics == retrieval_metrics(SCORES, VIDEO_OF_TEXT, dual_softmax=dual_softmax)


def test_rows_may_be_added_in_batches_and_one_by_one(load):
    """Rows can be added singly or in batches, and `compute` resets the metric for reuse."""
    metric = load()
    for _ in range(2):
        metric.add(prediction=SCORES[0], reference=VIDEO_OF_TEXT[0])
        for rows in np.array_split(np.arange(1, len(SCORES)), 3):
            metric.add_batch(predictions=SCORES[rows], references=VIDEO_OF_TEXT[rows])
        assert metric.compute() == retrieval_metrics(SCORES, VIDEO_OF_TEXT)


def test_precision_is_not_lost(load):
    """In float32 the two videos would be tied for the first text."""
    scores = [[1.0 + 1e-12, 1.0], [0.0, 1.0]]
    assert load().compute(predictions=scores, references=[0, 1])["text-to-video R@1"] == 100


def test_a_copy_of_the_folder_is_enough(load, tmp_path: Path):
    """A copy of the folder works by itself, as after an upload to the Hub."""
    copy = shutil.copytree(METRIC_PATH, tmp_path / "elsewhere" / "text_video_retrieval")
    assert [path.name for path in copy.iterdir() if path.is_file()] == ["text_video_retrieval.py"]
    metric = load(copy)
    assert metric.compute(predictions=SCORES, references=VIDEO_OF_TEXT) == retrieval_metrics(SCORES, VIDEO_OF_TEXT)
    assert "R@1" in metric.inputs_description
    assert set(metric.features) == {"predictions", "references"}


@pytest.mark.parametrize(
    ("predictions", "references", "message"),
    [
        ([[1.0, 2.0], [1.0]], [0, 1], r"predictions must have the shape \(texts, videos\)"),
        ([[1.0, 2.0], [1.0, 2.0]], [0, 2], r"references\[1\] is 2: expected a column, 0 to 1"),
        ([[1.0, 2.0], [1.0, 2.0]], [1, 1], r"1 of 2 videos have no text in references, the first is 0"),
        ([[1.0, 2.0], [1.0, float("nan")]], [0, 1], r"predictions\[1, 1\] is nan"),
        ([[1.0, 2.0], [1.0, 2.0]], [0], r"Mismatch in the number of predictions \(2\) and references \(1\)"),
    ],
)
def test_refuses_what_does_not_fit_in_its_own_words(load, predictions, references, message):
    with pytest.raises(ValueError, match=message):
        load().compute(predictions=predictions, references=references)


def test_refuses_an_unknown_setting(load):
    with pytest.raises(TypeError, match="dualsoftmax"):
        load().compute(predictions=SCORES, references=VIDEO_OF_TEXT, dualsoftmax=True)
