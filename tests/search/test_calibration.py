"""Calibration with the scores of unrelated texts, and the threshold derived from it."""

import math
from pathlib import Path

import numpy as np
import pytest

from support.search_indexes import make_index, random_video
from support.tiny_models import tiny_model, tiny_processor
from ts2net.search import VideoIndex
from ts2net.search.calibration import Calibration, calibrate, is_stale, read_bank, read_calibration
from ts2net.search.store import Store


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> VideoIndex:
    model = tiny_model()
    path = tmp_path_factory.mktemp("calibrated") / "index"
    make_index(path, model, [random_video(f"/clips/{seed}.mp4", seed) for seed in range(12)])
    with Store.write(path) as store:
        assert is_stale(store)
        calibrate(store, model, tiny_processor(model.config))
        assert not is_stale(store)
    return VideoIndex.open(path, model=model, processor=tiny_processor(model.config))


def test_the_bank_has_a_few_hundred_different_captions():
    bank = read_bank()
    assert len(bank) == len(set(bank)) > 200
    assert all(caption.strip() == caption != "" for caption in bank)


def test_each_caption_has_its_best_score_in_the_index(index: VideoIndex):
    calibration = index.calibration()
    assert calibration is not None
    best = [hits[0].score for hits in index.search(read_bank(), k=1, min_score=-math.inf)]
    np.testing.assert_allclose(calibration.scores, sorted(best), rtol=1e-6)
    assert calibration.num_windows == len(index)


@pytest.mark.slow
def test_what_is_no_better_than_chance_is_left_out_after_ranking(index: VideoIndex):
    """Hits below the threshold are removed and the others are unchanged; one unrelated caption in ten has hits."""
    calibration = index.calibration()
    assert calibration is not None
    texts = read_bank()
    everything = index.search(texts, k=5, min_score=-math.inf)
    kept = index.search(texts, k=5)
    for hits, all_hits in zip(kept, everything, strict=True):
        assert hits == [hit for hit in all_hits if hit.score >= calibration.threshold]
        assert all(hit.chance == calibration.chance(hit.score) <= 0.11 for hit in hits)
    assert 0.08 <= sum(map(bool, kept)) / len(texts) <= 0.12
    score = everything[0][0].score
    assert index.search(texts[0], min_score=score)[0].score == score
    assert index.search(texts[0], min_score=score + 1e-3) == []


def test_a_clip_is_not_held_against_texts(index: VideoIndex):
    """Hits of a clip have no chance and no threshold, because the calibration is based on texts."""
    embeds = index.encode_texts(["a"])
    (hits,) = index.search_embeds(embeds, k=3)
    assert len(hits) == 3
    assert {hit.chance for hit in hits} == {None}


def test_an_index_is_calibrated_anew_once_it_has_grown(index: VideoIndex):
    with Store.write(index.path) as store:
        store.add([random_video("/clips/new.mp4", 50)])  # 5 windows in addition to 60
        assert not is_stale(store)
        store.add([random_video("/clips/newer.mp4", 51)])
        assert is_stale(store)
        store.drop(["/clips/new.mp4", "/clips/newer.mp4"])
        assert not is_stale(store)
        assert read_calibration(store) is not None


def test_the_chance_of_a_score_counts_what_reaches_it():
    calibration = Calibration(tuple(float(score) for score in range(99)), 10)
    assert calibration.chance(1000.0) == 0.01
    assert calibration.chance(90.0) == 0.1  # nine higher or equal scores, and the score itself
    assert calibration.chance(-1.0) == 1.0
    assert calibration.threshold == pytest.approx(88.2)


@pytest.mark.slow
def test_nothing_fits_is_said_with_the_best_score(index: VideoIndex, tmp_path: Path, capsys, monkeypatch):
    from ts2net.cli import main

    model = tmp_path / "model"
    tiny_model().save_pretrained(model)
    tiny_processor(tiny_model().config).save_pretrained(model)
    texts = [text for text, hits in zip(read_bank(), index.search(read_bank()), strict=True) if not hits]
    with pytest.raises(SystemExit) as end:
        main(["search", index.path, texts[0], "--model", str(model), "--device", "cpu"])
    assert not end.value.code
    captured = capsys.readouterr()
    assert "nothing fits" in captured.out
    assert f"nothing fits {texts[0]!r}: the best score is " in captured.err
    assert "of unrelated sentences reach as much; --min-score=-inf lists all" in captured.err
