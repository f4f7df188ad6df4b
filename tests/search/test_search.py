"""Search results agree with brute force over the model's scores, with the filters and with the latest commit."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from support.search_indexes import WIDTH, clustered_videos, make_index, random_video, windows_table
from support.tiny_models import tiny_model, tiny_processor
from ts2net import TS2NetModel, TS2NetProcessor
from ts2net.encoding.fingerprint import fingerprint
from ts2net.search import VideoIndex, snapshot
from ts2net.search.matching import Matching, ScoredWindow, Top
from ts2net.search.records import IndexedVideo
from ts2net.search.searching import best_windows
from ts2net.search.store import Store
from ts2net.search.word_matching import matching_of


def brute_force(
    model: TS2NetModel, videos: list[IndexedVideo], queries: np.ndarray
) -> list[list[tuple[float, str, float]]]:
    """Rank all windows for each query by the model's similarity in float64, ties by video and start."""
    rows: list[list[tuple[float, str, float]]] = [[] for _ in queries]
    windows = [(video.video_id, window) for video in videos for window in video.windows]
    for length in {len(window.frames) for _, window in windows}:
        alike = [(name, window) for name, window in windows if len(window.frames) == length]
        frames = torch.from_numpy(np.stack([window.frames for _, window in alike])).double()
        scores = model.similarity(torch.from_numpy(queries).double(), frames).float().tolist()
        for row, of_query in zip(rows, scores, strict=True):
            row += [(-score, name, window.start) for score, (name, window) in zip(of_query, alike, strict=True)]
    return [[(-negated, name, start) for negated, name, start in sorted(row)] for row in rows]


def as_tuples(windows: list[ScoredWindow]) -> list[tuple[float, str, float]]:
    return [(window.score, window.video_id, window.start) for window in windows]


def words_near(queries: np.ndarray) -> np.ndarray:
    """Word embeddings near each query, for texts of one to five words, padded with zeros."""
    words = queries[:, None] + np.random.default_rng(5).normal(size=(len(queries), 5, WIDTH))
    for text, length in enumerate(range(5, 0, -1)):
        words[text, length:] = 0
    return words.astype(np.float32)


def best_of(
    path: str | Path, queries: np.ndarray, count: int, exact: bool | None = None, model: TS2NetModel | None = None
) -> Top:
    store = Store.open(path)
    matching = Matching.of(store.about) if model is None else matching_of(store.about, model)
    return best_windows(store.snapshot(), queries, count, matching, exact)


@pytest.fixture(scope="module")
def model() -> TS2NetModel:
    return tiny_model()


@pytest.fixture(scope="module")
def videos() -> list[IndexedVideo]:
    """Forty videos, and two copies of one of them under other names, so that scores tie."""
    originals = [random_video(f"/clips/{seed:02d}.mp4", seed, metadata={"kind": "ab"[seed % 2]}) for seed in range(40)]
    copies = [random_video(name, 7) for name in ("/other/7b.mp4", "/a/7.mp4")]
    return originals + copies


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory, model: TS2NetModel, videos: list[IndexedVideo]) -> VideoIndex:
    return make_index(tmp_path_factory.mktemp("search") / "index", model, videos)


@pytest.fixture(scope="module")
def queries(videos: list[IndexedVideo]) -> np.ndarray:
    """Five random queries, and one near the video that has two copies."""
    random = np.random.default_rng(99)
    near = videos[7].windows[2].frames.astype(np.float32).mean(axis=0)
    return np.stack([*random.normal(size=(5, WIDTH)), near]).astype(np.float32)


@pytest.mark.parametrize("kind", ["weighted", "mean", "wti"])
def test_exact_search_equals_brute_force(tmp_path, videos, queries, kind):
    """Scores and ranks equal brute force, ties included, for each kind of matching and any number of results."""
    model = tiny_model(matching_kind=kind)
    if kind == "wti":
        queries = words_near(queries)
    make_index(tmp_path / "index", model, videos)
    if model.word_interaction is not None:
        model.word_interaction.double()
    expected = brute_force(model, videos, queries)
    for count in (1, 10, 100, 10_000):
        top = best_of(tmp_path / "index", queries, count, exact=True, model=model)
        assert [as_tuples(windows) for windows in top.windows] == [rows[:count] for rows in expected]


def test_ties_go_by_video_and_start(tmp_path, model, videos, queries):
    """Three copies of a video have the same score and are ordered by their names."""
    make_index(tmp_path / "index", model, videos)
    best = best_of(tmp_path / "index", queries[-1:], 3, exact=True).windows[0]
    assert len({window.score for window in best}) == 1
    assert [window.video_id for window in best] == ["/a/7.mp4", "/clips/07.mp4", "/other/7b.mp4"]


def test_hits_are_moments(index, model, queries, videos):
    """A search returns k hits that don't overlap within a video, each with the fields of the best window there."""
    expected = brute_force(model, videos, queries)
    for rows, hits in zip(expected, index.search_embeds(queries, k=10, exact=True), strict=True):
        kept: list[tuple[float, str, float]] = []
        for score, name, start in rows:
            if not any(name == other and abs(start - at) < 4 for _, other, at in kept):
                kept.append((score, name, start))
        # The last window of a video is 3 s long, not 4; it starts 2 s after the previous one and overlaps no other.
        assert [(hit.score, hit.video_id, hit.start) for hit in hits] == kept[:10]
        for hit in hits:
            video = next(video for video in videos if video.video_id == hit.video_id)
            window = next(window for window in video.windows if window.start == hit.start)
            assert (hit.end, hit.thumbnail, hit.metadata) == (window.end, window.thumbnail, video.metadata)
            assert hit.second in window.frame_times
            assert index.window(hit.window).start == hit.start


def test_texts_and_their_order(index, model):
    """One text gives one list of hits, several give one list each, and no list depends on the other texts."""
    texts = ["a dog catches a frisbee", "rain", "a dog catches a frisbee and runs"]
    together = index.search(texts, k=5)
    assert [index.search(text, k=5) for text in texts] == together
    processor = tiny_processor(model.config)
    with torch.no_grad():
        embeds = [model.get_text_features(**processor(text=text)).pooler_output for text in texts]
    assert index.search_embeds(torch.cat(embeds), k=5) == together


def test_words_and_clips_find_moments(tmp_path, videos):
    """With word-token interaction, a text is matched by its word embeddings and a clip like a text of one word."""
    model = tiny_model(matching_kind="wti")
    processor = tiny_processor(model.config)
    index = make_index(tmp_path / "index", model, videos)
    texts = ["rain", "a dog catches it"]
    together = index.search(texts, k=3)
    assert [index.search(text, k=3) for text in texts] == together
    hit = together[1][0]
    window = next(
        window
        for video in videos
        if video.video_id == hit.video_id
        for window in video.windows
        if window.start == hit.start
    )
    with torch.no_grad():
        words = model.get_text_features(**processor(text=texts[1])).word_embeds
        frames = torch.from_numpy(window.frames.astype(np.float32))[None]
        assert hit.score == pytest.approx(float(model.similarity(words, frames)))
        assert hit.second == window.frame_times[int(model.best_frames(words, frames))]
        clip = torch.zeros(1, 4, 3, 32, 32)
        query = model.get_video_features(clip).pooler_output
    inputs = {"pixel_values_videos": clip, "padding_mask_videos": torch.ones(1, 4, dtype=torch.bool)}
    assert index.search_inputs(inputs, k=3) == index.search_embeds(query[:, None], k=3)[0]
    with pytest.raises(ValueError, match=r"\(queries, words, 32\), got"):
        index.search_embeds(torch.ones(1, 2, 3, 32))


def test_filters(index, queries):
    """Hits are filtered by a path pattern, which may start at any folder, and by metadata; both must match."""
    everything = index.search_embeds(queries[:1], k=1000)[0]
    for settings, fits in [
        ({"path": "/clips/*"}, lambda hit: hit.video_id.startswith("/clips/")),
        ({"path": "clips/1?.mp4"}, lambda hit: hit.video_id.startswith("/clips/1")),
        ({"path": "7.mp4"}, lambda hit: hit.video_id == "/a/7.mp4"),
        ({"metadata": {"kind": "b"}}, lambda hit: hit.metadata.get("kind") == "b"),
        (
            {"path": "/clips/0*", "metadata": {"kind": "a"}},
            lambda hit: hit.video_id[7] == "0" and int(hit.video_id[8]) % 2 == 0,
        ),
    ]:
        assert (
            index.search_embeds(queries[:1], k=1000, **settings)[0] == [hit for hit in everything if fits(hit)] != []
        )


def test_some_videos_only(index, queries):
    """A search can be limited to given video ids, also together with other filters."""
    some = ["/clips/07.mp4", "/a/7.mp4", "/clips/08.mp4", "/no/such.mp4"]
    assert {hit.video_id for hit in index.search_embeds(queries, videos=some, k=50)[0]} == set(some[:3])
    assert {hit.video_id for hit in index.search_embeds(queries, videos=some, path="*clips*", k=50)[0]} == {
        "/clips/07.mp4",
        "/clips/08.mp4",
    }
    assert index.search_embeds(queries, videos=[]) == [[]] * len(queries)
    with pytest.raises(ValueError, match="videos must be several ids"):
        index.search_embeds(queries, videos="/clips/07.mp4")


@pytest.mark.parametrize("settings", [{"path": "nowhere/*"}, {"metadata": {"kind": "' OR 1=1 --"}}, {"path": ""}])
def test_a_filter_that_fits_nothing_finds_nothing(index, queries, settings):
    assert index.search_embeds(queries[:2], k=3, **settings) == [[], []]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda index: index.search("dog", k=0), "k must be a whole number of at least 1, got 0"),
        (lambda index: index.search([]), "texts is an empty list"),
        (lambda index: index.search(["dog", " "]), "expected texts with words in them, got ' '"),
        (lambda index: index.search("dog", exact=False), "no vector index"),
        (lambda index: index.search_embeds(np.ones((1, 5))), r"shape \(queries, 32\), got \(1, 5\)"),
        (lambda index: index.search_embeds(np.zeros((1, WIDTH))), "not all of a query 0"),
        (lambda index: index.search_embeds(np.full((1, WIDTH), np.nan)), "finite"),
    ],
)
def test_what_cannot_be_asked_is_refused(index, call, message):
    with pytest.raises(ValueError, match=message):
        call(index)


def test_an_empty_index_finds_nothing(tmp_path, model):
    assert make_index(tmp_path / "index", model, []).search("dog") == []


def test_another_model_is_refused(tmp_path, model, videos):
    """Embeddings of another model are not comparable, even if they have the same shape."""
    make_index(tmp_path / "index", model, videos[:1])
    other = tiny_model(seed=1)
    with pytest.raises(ValueError, match="was made with tiny in float32, and .* is another model"):
        VideoIndex.open(tmp_path / "index", model=other, processor=tiny_processor())
    with pytest.raises(ValueError, match="cannot load the model 'tiny': there is no folder tiny"):
        VideoIndex.open(tmp_path / "index").search("dog")


@pytest.mark.parametrize("other", [{"shift_kind": "none"}, {"shift_stride": 7}, {"num_selected_tokens": 2}])
def test_the_same_weights_with_other_settings_are_another_model(tmp_path, model, videos, other):
    """The fingerprint covers settings that leave the weights unchanged, such as the shift and the selected patches."""
    make_index(tmp_path / "index", model, videos[:1])
    same_weights = tiny_model(temporal_num_positions=model.config.temporal_num_positions, **other)
    same_weights.load_state_dict(model.state_dict())
    with pytest.raises(ValueError, match="is another model or has another processor"):
        VideoIndex.open(tmp_path / "index", model=same_weights, processor=tiny_processor(model.config))


def test_another_processor_makes_another_model_and_the_same_one_saved_does_not(tmp_path, model):
    """The fingerprint depends on pixel normalisation, size and tokens, but not on how frames are sampled."""

    def with_changes(**changes):
        processor = tiny_processor(model.config)
        for name, value in changes.items():
            setattr(processor.video_processor, name, value)
        return fingerprint(model, processor)

    processor = tiny_processor(model.config)
    original = fingerprint(model, processor)
    processor(text="a dog")
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    assert fingerprint(model, processor) == original
    saved = TS2NetProcessor.from_pretrained(tmp_path)
    assert fingerprint(TS2NetModel.from_pretrained(tmp_path), saved) == original
    assert with_changes(num_frames=3, sampling="first") == original
    others = [with_changes(image_mean=[0.5, 0.5, 0.5]), with_changes(size={"shortest_edge": 40}), original]
    saved.tokenizer.add_tokens(["rain"])
    others.append(fingerprint(model, saved))
    assert len(set(others)) == 4


def test_the_model_is_loaded_from_where_the_index_says(tmp_path, model, videos):
    """An index can be searched without passing a model, which is loaded from the recorded location."""
    model.save_pretrained(tmp_path / "model")
    tiny_processor(model.config).save_pretrained(tmp_path / "model")
    index = make_index(tmp_path / "index", model, videos, kept_in=str(tmp_path / "model"))
    hits = VideoIndex.open(tmp_path / "index", device="cpu").search("a dog", k=3)
    expected = index.search("a dog", k=3)
    assert [hit.window for hit in hits] == [hit.window for hit in expected]
    # The memory alignment of the weights can change the last bit of a text embedding.
    assert [hit.score for hit in hits] == pytest.approx([hit.score for hit in expected], rel=1e-5)


def test_a_search_sees_the_latest_commit(tmp_path, model, videos, queries):
    """An open index finds videos that are added later, and no longer finds dropped ones."""
    index = make_index(tmp_path / "index", model, videos[:2])
    assert index.videos() == [video.video_id for video in videos[:2]]
    with Store.write(tmp_path / "index") as store:
        store.add(videos[7:8])
        store.drop([index.search_embeds(queries, k=1)[0][0].video_id])
    assert len(index.videos()) == 2
    assert index.search_embeds(queries[-1:], k=1)[0][0].video_id == videos[7].video_id


@pytest.mark.parametrize("name", ["", "x", "' OR 1=1 --", "0123456789abcdef-000000", "0123456789abcdef-' OR ''='"])
def test_only_windows_of_the_index_are_known(index, name):
    with pytest.raises(LookupError, match="there is no window"):
        index.window(name)


def test_only_videos_of_the_index_are_opened(tmp_path, model, videos):
    """Opening a file that isn't in the index is refused, and a file that has changed is reported as changed."""
    film, secret = tmp_path / "film.mp4", tmp_path / "secret.txt"
    film.write_bytes(b"not the film that was indexed")
    secret.write_text("secret")
    index = make_index(tmp_path / "index", model, [random_video(str(film), 0)])
    with pytest.raises(LookupError, match="is not in"):
        index.open_video(str(secret))
    with pytest.raises(FileNotFoundError, match="has changed since it was indexed"):
        index.open_video(str(film))


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory, model: TS2NetModel) -> VideoIndex:
    """An index whose vector index covers 3,000 windows, and 200 windows that were added later."""
    folder = tmp_path_factory.mktemp("large") / "index"
    index = make_index(folder, model, clustered_videos(150))
    with Store.write(folder) as store:
        assert not store.update_vector_index()  # by default only a large index gets one
        assert store.update_vector_index(min_windows=1000)
        store.add(clustered_videos(10, first=150))
        assert not store.update_vector_index(min_windows=1000)  # a few new rows don't need a new vector index
    return index


@pytest.mark.slow
def test_approximate_search_finds_what_exact_search_finds(large):
    """By default, approximate search finds at least 99 % of the exact top 10 moments, with identical scores."""
    # LanceDB quantizes vectors at random and accepts no seed, so the recall over few queries may be low by chance.
    queries = np.random.default_rng(5).normal(size=(200, WIDTH)).astype(np.float32)
    exact, picked = (large.search_embeds(queries, k=10, exact=exact) for exact in (True, None))
    pairs = [
        ({(hit.window, hit.score) for hit in some}, {(hit.window, hit.score) for hit in others})
        for some, others in zip(exact, picked, strict=True)
    ]
    assert sum(len(some & others) for some, others in pairs) >= 0.99 * 2000
    top = best_of(large.path, queries, 30)
    assert top.scored_in_full < top.pairs == 200 * len(large)


def test_new_rows_are_found_before_they_are_in_the_vector_index(large):
    for video in clustered_videos(10, first=150):
        query = video.windows[3].frames.astype(np.float32).mean(axis=0, keepdims=True)
        assert large.search_embeds(query, k=1, exact=False)[0][0].video_id == video.video_id


def test_approximate_search_keeps_to_filters(large):
    """Candidates are chosen among the matching videos, not filtered afterwards."""
    queries = np.random.default_rng(6).normal(size=(3, WIDTH)).astype(np.float32)
    settings = {"path": "/large/0001*.mp4"}
    assert large.search_embeds(queries, k=20, exact=False, **settings) == large.search_embeds(
        queries, k=20, exact=True, **settings
    )
    assert large.search_embeds(queries[:1], k=20, exact=False, path="nothing") == [[]]


@pytest.mark.parametrize("most_in_sql", [0, 10_000])
@pytest.mark.parametrize("path", ["/large/0001*.mp4", "/large/*[02468].mp4", "*", "nothing"])
def test_approximate_search_among_some_videos_finds_what_exact_search_finds(large, path, most_in_sql, monkeypatch):
    """Filtered search agrees with exact search for few or many matching videos, like or unlike the query."""
    monkeypatch.setattr(snapshot, "_MOST_VIDEOS_IN_SQL", most_in_sql)
    alike = clustered_videos(1, first=11)[0].windows[2].frames[0]
    queries = np.stack([alike, *np.random.default_rng(6).normal(size=(3, WIDTH))]).astype(np.float32)
    videos = [name for name in large.videos() if name != "/large/00011.mp4"]
    for settings in ({"path": path}, {"path": path, "videos": videos}):
        exact, picked = (large.search_embeds(queries, k=20, exact=exact, **settings) for exact in (True, False))
        assert [len(hits) for hits in picked] == [0 if path == "nothing" else 20] * 4
        for some, others in zip(exact, picked, strict=True):
            assert len({hit.window for hit in some} & {hit.window for hit in others}) >= 0.9 * len(some)
            scores = {hit.window: hit.score for hit in some}
            assert all(scores.get(hit.window, hit.score) == hit.score for hit in others)


def test_candidates_are_of_the_chosen_videos_however_unlike_the_query_they_are(large, monkeypatch):
    """Candidates come from the chosen videos even if the nearest thousand windows belong to other videos."""
    index = Store.open(large.path).snapshot()
    query = clustered_videos(1)[0].windows[0].frames.astype(np.float32).mean(axis=0)
    query /= np.linalg.norm(query)
    table = windows_table(large.path).search().select(["video", "mean"]).with_row_id(True).limit(None).to_arrow()
    products = np.stack(table["mean"].to_numpy()).astype(np.float32) @ query
    order = np.argsort(-products)
    names = np.array(table["video"].to_pylist())[order]
    near = set(names[:1000].tolist())
    far = [name not in near for name in names]
    # The vector index quantizes its vectors, so it may return other windows that are about as near.
    nearest = set(table["_rowid"].to_numpy()[order][far][:200].tolist())
    chosen = index.choose(videos=set(names[far].tolist()))
    for most_in_sql in (0, 10_000):
        monkeypatch.setattr(snapshot, "_MOST_VIDEOS_IN_SQL", most_in_sql)
        rows = index.candidates(query, 50, chosen).tolist()
        assert len(set(rows)) == 50
        assert set(rows) <= nearest
        assert chosen.num_rows > 400


def test_metadata_is_what_was_stored(tmp_path, model):
    """Metadata with quotes, backslashes and non-ASCII text is returned unchanged."""
    metadata = {"title": 'a "quoted" \\ name', "ö": "雨"}
    index = make_index(tmp_path / "index", model, [random_video("/x.mp4", 0, metadata=metadata)])
    hit = index.search("rain", k=1, metadata=metadata)[0]
    assert hit.metadata == metadata
    assert json.loads(json.dumps(hit.metadata)) == metadata


def test_one_video_does_not_crowd_out_the_others_and_copies_are_one_hit(tmp_path, model):
    """A hit lists the 25 copies of its clip, and a long film gives at most `per_video` moments."""
    copies = [replace(random_video("/a/00.mp4", 1), video_id=f"/a/{number:02}.mp4") for number in range(26)]
    film = random_video("/film.mp4", 2, windows=60, spread=0.2)
    others = [random_video(f"/other/{seed}.mp4", seed) for seed in range(10, 14)]
    index = make_index(tmp_path / "index", model, [*copies, film, *others])
    query = np.asarray(film.windows[30].frames, np.float32).mean(axis=0) + np.asarray(copies[0].windows[2].frames[0])
    plain = index.search_embeds(query[None], k=12, exact=True)[0]
    assert len({hit.video_id for hit in plain}) < 12
    (hits,) = index.search_embeds(query[None], k=12, per_video=2, fold=True)
    assert len(hits) == 12
    of_video = Counter(hit.video_id for hit in hits)
    assert max(of_video.values()) == 2
    assert {"/film.mp4", "/a/00.mp4"} <= of_video.keys()
    assert not any(video.startswith("/a/") for video in of_video if video != "/a/00.mp4")
    for hit in hits:
        copy_spans = [(copy.video_id, copy.start, copy.end) for copy in hit.copies if copy.video_id.startswith("/a/")]
        if hit.video_id == "/a/00.mp4":
            assert copy_spans == [(f"/a/{number:02}.mp4", hit.start, hit.end) for number in range(1, 26)]
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
