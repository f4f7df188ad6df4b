"""Window scores are bit-exact, and bounds avoid computing most of them."""

import numpy as np

from support.search_indexes import WIDTH, unit
from support.tiny_models import tiny_model
from ts2net.search.matching import Matching, exact_scores, half_to_single, top_windows
from ts2net.search.records import WindowBatch
from ts2net.search.word_matching import TokenScorer, WordMatching


def batches_of(frames: list[np.ndarray], sizes: list[int]) -> list[WindowBatch]:
    """Make batches of the given sizes, with one window per video."""
    batches = []
    for first, size in zip(np.cumsum([0, *sizes[:-1]]), sizes, strict=True):
        rows = np.arange(first, first + size)
        batches.append(
            WindowBatch(
                rows=rows,
                lengths=np.array([len(frames[row]) for row in rows]),
                frames=np.concatenate([frames[row] for row in rows]),
                moments=lambda positions, first=first: [(f"v{first + n:04d}", 0.0, 1.0) for n in positions],
            )
        )
    return batches


def word_matching(scale: float = 100.0) -> WordMatching:
    networks = tiny_model(matching_kind="wti").word_interaction
    return WordMatching(None, scale, TokenScorer.of(networks.word_scorer), TokenScorer.of(networks.frame_scorer))


def test_few_windows_are_scored_in_full_with_words_too():
    """Word scores are bit-identical for any batch size and padding, and most windows are not scored in full."""
    random = np.random.default_rng(0)
    matching = word_matching()
    frames = [unit(random.normal(size=WIDTH) + 0.2 * random.normal(size=(6, WIDTH))) for _ in range(2000)]
    texts = [random.normal(size=(length, WIDTH)).astype(np.float32) for length in (1, 4, 9)]
    padded = np.stack([np.pad(text, ((0, 9 - len(text)), (0, 0))) for text in texts])
    top = top_windows(batches_of(frames, [500] * 4), padded, 10, matching)
    for text, windows in zip(texts, top.windows, strict=True):
        scores = [float(matching.scores(window[None], text)[0][0]) for window in frames]
        best = sorted((-score, row) for row, score in enumerate(scores))[:10]
        assert [(window.negated_score, window.row) for window in windows] == best
    assert top.scored_in_full < 0.1 * top.pairs


def test_bounds_of_words_hold():
    """Word bounds hold for any network output, also for negative cosines and for an outlier frame or word."""
    random = np.random.default_rng(2)
    matching = word_matching(scale=1.0)
    frames = list(unit(random.normal(size=(300, 5, WIDTH)) + 3 * random.normal(size=(300, 5, 1))))
    queries = (random.normal(size=(4, 7, WIDTH)) + 3 * random.normal(size=(4, 7, 1))).astype(np.float32)
    (batch,) = batches_of(frames, [300])
    lower, upper = matching.bounds(batch, queries)
    assert (upper - lower).max() > 0.1
    for number, query in enumerate(queries):
        scores = matching.scores(np.stack(frames), query)[0]
        assert (scores >= lower[:, number] - 1e-6).all()
        assert (scores <= upper[:, number] + 1e-6).all()


def test_few_windows_are_scored_in_full():
    """Bounds skip most windows with similar frames without changing the result."""
    random = np.random.default_rng(0)
    frames = [unit(random.normal(size=WIDTH) + 0.2 * random.normal(size=(6, WIDTH))) for _ in range(4000)]
    queries = random.normal(size=(3, WIDTH)).astype(np.float32)
    matching = Matching(4.0, 100.0)
    top = top_windows(batches_of(frames, [1000] * 4), queries, 10, matching)
    for query, windows in zip(queries, top.windows, strict=True):
        scores, _ = exact_scores(np.stack(frames), query, matching)
        best = sorted((-score, row) for row, score in enumerate(scores.tolist()))[:10]
        assert [(window.negated_score, window.row) for window in windows] == best
    assert top.pairs == 3 * 4000
    assert top.scored_in_full < 0.05 * top.pairs


def test_scores_do_not_depend_on_the_batch():
    """Scores are bit-identical for single windows, any batch size and batches with windows of other lengths."""
    random = np.random.default_rng(1)
    frames = [unit(random.normal(size=(length, WIDTH))) for length in random.integers(1, 20, 60)]
    query = random.normal(size=(1, WIDTH)).astype(np.float32)
    matching = Matching(4.0, 100.0)
    alone = {row: exact_scores(f[None], query[0], matching)[0][0] for row, f in enumerate(frames)}
    for sizes in ([60], [1] * 60, [7, 40, 13]):
        top = top_windows(batches_of(frames, sizes), query, 60, matching)
        assert {window.row: window.score for window in top.windows[0]} == alone


def test_bounds_hold_for_negative_and_opposed_cosines():
    """A score lies between the mean and the maximum cosine, also for negative cosines and an outlier frame."""
    random = np.random.default_rng(2)
    frames = unit(random.normal(size=(500, 5, WIDTH)) + 3 * random.normal(size=(500, 5, 1)))
    query = random.normal(size=WIDTH)
    scores, best = exact_scores(frames, query, Matching(4.0, 1.0))
    wide = frames.astype(np.float64)
    cosines = wide @ query / np.linalg.norm(query) / np.linalg.norm(wide, axis=-1)
    assert (scores >= cosines.mean(axis=1) - 1e-6).all()
    assert (scores <= cosines.max(axis=1) + 1e-6).all()
    assert (best == cosines.argmax(axis=1)).all()


def test_every_half_precision_number_is_converted_as_numpy_does():
    numbers = np.arange(2**16, dtype=np.uint16).view(np.float16)
    finite = numbers[np.isfinite(numbers)][:, None]
    converted = half_to_single(finite)
    assert converted.dtype == np.float32
    assert converted.tobytes() == finite.astype(np.float32).tobytes()  # including the sign of zero
