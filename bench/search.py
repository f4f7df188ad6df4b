"""Search in an index of synthetic windows, compared with brute force in torch and FAISS on mean-pooled vectors.

    python bench/search.py --windows 10000 100000
    python bench/search.py --windows 1000000 --work /somewhere/with/40/GB

Embeddings. Each frame embedding is the sum of parts. The list gives each part's share of the squared length. The parts
are drawn from a normal distribution whose standard deviation falls with the dimension as `(1 + i) ** -0.25`, so that
the energy lies in fewer dimensions than there are. The sum is normalized to length 1 and rounded to float16.

    0.45  common to all frames (the cone that contains a CLIP's image embeddings)
    0.20  the topic of the scene, one of 256 topics shared by all films
    0.15  the scene itself; a scene lasts 48 seconds on average, and windows do not align with scene cuts
    0.08  the film, which has 300 windows (half an hour)
    0.07  drift from second to second within a scene (autoregressive, 0.95 per second), which restarts at each cut
    0.03  the frame within its window, because the temporal encoder sees other neighbours in each window
    0.02  the window

A window consists of 12 frames, one per second. A window starts every 6 seconds, so neighbours share half of their
seconds. Frames of one window have a cosine of about 0.93, frames of different films about 0.46.

Queries. A query lies near a randomly drawn window, but across a modality gap. 0.40 of its squared length is a
direction common to all queries, which has a cosine of 0.2 with the common direction of the frames. 0.05 is the
direction of the window's mean, without the common direction. 0.55 is noise. The cosine of a query with the frames of
its own window is about 0.20, with other frames 0.05 with a standard deviation of about 0.05.

Filters. Each film has a `league`, one of 100 (one film in a hundred matches), and a `half`, one of two. Its path has a
`year`, one of 20. The filtered rows search the films of one league, of one half, or of the paths `*/year-7/*`. The
column `of unfiltered` is their median time divided by that of the same search without a filter. For approximate
search, the filtered and the unfiltered search alternate query by query.

Measurement. All data is seeded. Windows are created film by film, and streamed into the index in commits of 3,000 and
into a plain file that brute force and FAISS read. Each way searches in a separate process, one query at a time, after
a few warm-up queries. Approximate search runs first, because exact search and brute force read all frames and evict
its files from the system's cache. Memory is the process's peak resident memory, including libraries. Recall@10 is
relative to exact search, for the ten best windows and for the ten moments that windows are merged into, which a search
returns. Brute force reads the plain file by memory map, which counts as its memory. FAISS holds only the normalized
means, in a float32 IVF index, and its results are not rescored.
"""

import argparse
import json
import math
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import lancedb
import numpy as np
import torch

from ts2net.search.about import About
from ts2net.search.index import VideoIndex
from ts2net.search.matching import Matching
from ts2net.search.options import SearchOptions
from ts2net.search.records import IndexedVideo, IndexedWindow
from ts2net.search.searching import best_windows
from ts2net.search.store import Store
from ts2net.search.windows import WindowSettings

WIDTH, FRAMES, STEP, FILM, SCENE_SECONDS, TOPICS, SCALE = 512, 12, 6, 300, 48, 256, 100.0
WARM_UP = 5
LEAGUES, YEARS = 100, 20
SPECTRUM = (1 + np.arange(WIDTH, dtype=np.float32)) ** -0.25
SPECTRUM /= np.linalg.norm(SPECTRUM)


def draw(random: np.random.Generator, count: int) -> np.ndarray:
    """Draw vectors `(count, WIDTH)` with a mean squared length of 1."""
    return random.standard_normal((count, WIDTH), dtype=np.float32) * SPECTRUM


def unit(values: np.ndarray) -> np.ndarray:
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


def shared_parts(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the direction that all frames have in common, and the topics."""
    random = np.random.default_rng(seed)
    return unit(draw(random, 1))[0], draw(random, TOPICS)


def film(number: int, windows: int, seed: int) -> np.ndarray:
    """Create the frames of a film's windows, float16 of shape `(windows, FRAMES, WIDTH)`."""
    common, topics = shared_parts(seed)
    random = np.random.default_rng([seed, number])
    seconds = (windows - 1) * STEP + FRAMES
    cuts = random.random(seconds) < 1 / SCENE_SECONDS
    cuts[0] = True
    scene = np.cumsum(cuts) - 1
    own_topics = topics[random.integers(TOPICS, size=scene[-1] + 1)]
    scenes = math.sqrt(0.20) * own_topics + math.sqrt(0.15) * draw(random, scene[-1] + 1)
    drift = draw(random, seconds)
    for second in np.flatnonzero(~cuts):
        drift[second] = 0.95 * drift[second - 1] + math.sqrt(1 - 0.95**2) * drift[second]
    frames = math.sqrt(0.45) * common + math.sqrt(0.08) * draw(random, 1) + scenes[scene] + math.sqrt(0.07) * drift
    seen = frames[(np.arange(windows) * STEP)[:, None] + np.arange(FRAMES)]
    seen += math.sqrt(0.03) * draw(random, windows * FRAMES).reshape(seen.shape)
    seen += math.sqrt(0.02) * draw(random, windows)[:, None]
    return unit(seen).astype(np.float16)


def films(windows: int, seed: int) -> Iterator[np.ndarray]:
    for number, first in enumerate(range(0, windows, FILM)):
        yield film(number, min(FILM, windows - first), seed)


def make_queries(frames: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Create queries near some of the windows, float32 of shape `(count, WIDTH)`."""
    common, _ = shared_parts(seed)
    random = np.random.default_rng([seed, 2**31])
    means = frames[np.sort(random.choice(len(frames), count))].astype(np.float32).mean(axis=1)
    content = unit(means - (means @ common)[:, None] * common)
    texts = 0.2 * common + math.sqrt(1 - 0.2**2) * unit(draw(random, 1))
    return unit(math.sqrt(0.40) * texts + math.sqrt(0.05) * content + math.sqrt(0.55) * draw(random, count))


def as_video(number: int, frames: np.ndarray) -> IndexedVideo:
    picture = bytes(1000)
    windows = []
    for window_number, window in enumerate(frames):
        start = float(STEP * window_number)
        times = [start + second for second in range(FRAMES)]
        windows.append(IndexedWindow(start, start + FRAMES, times, window, picture))
    metadata = {"league": f"league {number % LEAGUES}", "half": str(number % 2)}
    video_id = f"/data/archive/year-{number % YEARS}/films of the family/{number:06d}.mp4"
    return IndexedVideo(video_id, "1", windows[-1].end, metadata, windows)


def prepare(folder: Path, windows: int, queries: int, seed: int) -> None:
    """Write the index and the plain file, and print the time for the index without creating the embeddings."""
    about = About(
        model="synthetic",
        revision=None,
        fingerprint="",
        dtype="float32",
        dim=WIDTH,
        windows=WindowSettings(FRAMES, STEP, 1.0),
        matching_kind="weighted",
        temperature=4.0,
        padding_mode="masked",
        logit_scale=SCALE,
    )
    plain = np.lib.format.open_memmap(folder / "frames.npy", "w+", np.float16, (windows, FRAMES, WIDTH))
    writing, first, waiting = 0.0, 0, []
    with Store.write(folder / "index", about) as store:
        for number, frames in enumerate(films(windows, seed)):
            plain[first : first + len(frames)] = frames
            first += len(frames)
            waiting.append(as_video(number, frames))
            if len(waiting) == 10 or first == windows:
                begun = time.perf_counter()
                store.add(waiting)
                writing += time.perf_counter() - begun
                waiting = []
        begun = time.perf_counter()
        store.compact()
        writing += time.perf_counter() - begun
        begun = time.perf_counter()
        store.update_vector_index()
        indexing = time.perf_counter() - begun
        has_index = store.snapshot().has_vector_index()
        warnings.simplefilter("ignore")  # no other process reads the old versions, which would stay for ten minutes
        table = lancedb.connect(folder / "index").open_table("windows")
        table.optimize(cleanup_older_than=timedelta(0), delete_unverified=True)
    np.save(folder / "queries.npy", make_queries(plain, queries + WARM_UP, seed))
    size = sum(file.stat().st_size for file in (folder / "index").rglob("*") if file.is_file())
    print(json.dumps({"writing": writing, "indexing": indexing, "has_index": has_index, "bytes": size}))


WindowNumbers = list[list[int]]  # numbers of the best windows of each query


@dataclass(frozen=True)
class Way:
    """A way to search.

    Args:
        search: Function to time, which maps a query to its hits.
        best: Function that maps queries to the ten best windows of each, and the share of pairs scored in full.
        moments: Function that maps queries to the windows of the ten best moments of each.
    """

    search: Callable[[np.ndarray], object]
    best: Callable[[np.ndarray], tuple[WindowNumbers, float]]
    moments: Callable[[np.ndarray], WindowNumbers] | None = None


def ours(folder: Path, options: SearchOptions) -> Way:
    store = Store.open(folder / "index")
    index = VideoIndex.open(folder / "index")

    def best(queries: np.ndarray) -> tuple[WindowNumbers, float]:
        snapshot = store.snapshot()
        chosen = snapshot.choose(options.path, options.metadata)
        # By default, ten hits are merged from thirty windows.
        top = best_windows(snapshot, queries, 30, Matching.of(store.about), options.exact, chosen)
        numbers = [[number_of_window(row.video_id, row.start) for row in rows[:10]] for rows in top.windows]
        return numbers, top.scored_in_full / top.pairs

    def moments(queries: np.ndarray) -> WindowNumbers:
        return [
            [number_of_window(hit.video_id, hit.start) for hit in hits]
            for hits in index.search_embeds(queries, options)
        ]

    return Way(lambda query: index.search_embeds(query[None], options), best, moments)


def number_of_window(video_id: str, start: float) -> int:
    """Return the number of a window among all windows."""
    return FILM * int(Path(video_id).stem) + int(start) // STEP


def brute_force(folder: Path) -> Way:
    """Match in float32 as the model does, over every frame, a few windows at a time."""
    from ts2net.modeling_ts2net import match

    frames = np.load(folder / "frames.npy", mmap_mode="c")

    @torch.inference_mode()
    def best(queries: np.ndarray) -> tuple[WindowNumbers, float]:
        texts, scores = torch.from_numpy(queries), []
        for first in range(0, len(frames), 1024):
            some = torch.nn.functional.normalize(torch.from_numpy(frames[first : first + 1024]).float(), dim=-1)
            scores.append(match(texts, some, torch.ones(some.shape[:2], dtype=torch.bool), 4.0))
        return torch.cat(scores, dim=1).topk(10).indices.tolist(), 1.0

    return Way(lambda query: best(query[None]), best)


def faiss_means(folder: Path) -> Way:
    import faiss

    index = faiss.read_index(str(folder / "faiss"))
    faiss.extract_index_ivf(index).nprobe = 64

    def best(queries: np.ndarray) -> tuple[WindowNumbers, float]:
        return index.search(queries, 10)[1].tolist(), 0.0

    return Way(lambda query: best(query[None]), best)


def build_faiss(folder: Path) -> None:
    """Build the FAISS index, and print its time without computing the means."""
    import faiss

    frames = np.load(folder / "frames.npy", mmap_mode="r")
    means = np.concatenate(
        [unit(frames[first : first + FILM].astype(np.float32).mean(axis=1)) for first in range(0, len(frames), FILM)]
    )
    begun = time.perf_counter()
    index = faiss.index_factory(WIDTH, f"IVF{max(1, int(math.sqrt(len(means))))},Flat", faiss.METRIC_INNER_PRODUCT)
    index.train(means[:: max(1, len(means) // 50_000)])
    index.add(means)
    seconds = time.perf_counter() - begun
    faiss.write_index(index, str(folder / "faiss"))
    print(json.dumps({"indexing": seconds, "bytes": (folder / "faiss").stat().st_size}))


FILTERS: dict[str, dict[str, Any]] = {
    "league": {"metadata": {"league": "league 7"}},
    "half": {"metadata": {"half": "1"}},
    "path": {"path": "*/year-7/*"},
}
OPTIONS = {
    **{"approximate": SearchOptions(exact=False), "exact": SearchOptions(exact=True)},
    **{f"approximate, {name}": SearchOptions(exact=False, **options) for name, options in FILTERS.items()},
    **{f"exact, {name}": SearchOptions(exact=True, **options) for name, options in FILTERS.items()},
}
WAYS: dict[str, Callable[[Path], Way]] = {
    **{name: partial(ours, options=options) for name, options in sorted(OPTIONS.items())},
    "brute force": brute_force,
    "FAISS means": faiss_means,
}


def measure(name: str, folder: Path, count: int) -> None:
    """Print the seconds of each query, the peak memory of these searches, and the results of all queries."""
    way = WAYS[name](folder)
    # The cost of a filter is small compared with the changes of a machine's speed from one minute to the next.
    unfiltered = WAYS["approximate"](folder) if name.startswith("approximate,") else None
    queries = np.load(folder / "queries.npy")
    seconds, unfiltered_seconds = [], []
    for query in queries[: WARM_UP + count]:
        seconds.append(timed(way, query))
        if unfiltered is not None:
            unfiltered_seconds.append(timed(unfiltered, query))
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    best, share = way.best(queries)
    moments = way.moments(queries) if way.moments else None
    results = {"peak": peak, "found": best, "share": share, "moments": moments}
    print(json.dumps(results | {"seconds": seconds[WARM_UP:], "unfiltered": unfiltered_seconds[WARM_UP:]}))


def timed(way: Way, query: np.ndarray) -> float:
    begun = time.perf_counter()
    way.search(query)
    return time.perf_counter() - begun


def in_process(step: str, *args: object) -> dict:
    command = [sys.executable, __file__, "--step", step, *map(str, args)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])


def recall(actual: WindowNumbers, expected: WindowNumbers) -> float:
    """Compute the share of the expected windows that were found."""
    return float(
        np.mean([len(set(some) & set(best)) / len(best) for some, best in zip(actual, expected, strict=True)])
    )


def report(windows: int, folder: Path, args: argparse.Namespace) -> None:
    preparation = in_process("prepare", folder, windows, args.queries, args.seed)
    means = in_process("faiss", folder)
    gigabytes = 2**30
    built = {
        **{
            way: (preparation["writing"] + preparation["indexing"] * (not OPTIONS[way].exact), preparation["bytes"])
            for way in OPTIONS
        },
        "brute force": (math.nan, (folder / "frames.npy").stat().st_size),
        "FAISS means": (means["indexing"], means["bytes"]),
    }
    slow_queries = max(10, min(20, args.queries, 200_000 // windows))  # reading every frame is slow
    # Small indexes have no vector index.
    ways = [way for way in WAYS if preparation["has_index"] or not way.startswith("approximate")]
    runs = {}
    for way in ways:
        runs[way] = in_process(
            "measure", way, folder, slow_queries if way.startswith(("exact", "brute")) else args.queries
        )
    base = np.median(runs["brute force"]["seconds"])
    print(
        f"\n{windows} windows of {FRAMES} frames, {os.cpu_count()} cores, {torch.get_num_threads()} threads in torch"
    )
    print(
        f"{'':20}{'build s':>9}{'disk GiB':>10}{'memory MiB':>12}{'median ms':>11}{'p95 ms':>9}{'recall@10':>11}"
        f"{'of moments':>12}{'in full':>10}{'of brute force':>16}{'of unfiltered':>15}{'queries':>9}"
    )
    for way, run in runs.items():
        median, late = np.percentile(run["seconds"], [50, 95])
        exact = runs[way.replace("approximate", "exact") if way in OPTIONS else "exact"]
        window_recall = recall(run["found"], exact["found"])
        moment_recall = recall(run["moments"], exact["moments"]) if run["moments"] else math.nan
        unfiltered = median / np.median(run["unfiltered"] or runs[way.partition(",")[0]]["seconds"])
        seconds, size = built[way]
        print(
            f"{way:20}{seconds:9.1f}{size / gigabytes:10.2f}{run['peak'] / 2**20:12.0f}{1000 * median:11.1f}"
            f"{1000 * late:9.1f}{window_recall:11.3f}{moment_recall:12.3f}{run['share']:10.3%}{median / base:16.3f}"
            f"{unfiltered:15.2f}{len(run['seconds']):9}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--windows", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--work", type=Path, help="Folder for 28 KiB a window, made if it does not exist; a temporary one by default."
    )
    parser.add_argument("--step", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.step:
        step, *rest = args.step
        if step == "prepare":
            prepare(Path(rest[0]), *map(int, rest[1:]))
        elif step == "faiss":
            build_faiss(Path(rest[0]))
        else:
            measure(rest[0], Path(rest[1]), int(rest[2]))
        return
    if args.work is not None:
        args.work.mkdir(parents=True, exist_ok=True)
    for windows in args.windows:
        folder = Path(tempfile.mkdtemp(dir=args.work))
        try:
            report(windows, folder, args)
        finally:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
