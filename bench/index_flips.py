"""Flipped bits in an index: which ones a check detects, what the undetected ones change, and whether a repair works.

    python bench/index_flips.py

The index contains clips of 4 seconds with subtitles and metadata, broken videos, a removed video and a relocated
folder. The model is small and untrained, because the content of the results does not matter. Each flip changes a
random bit of a random file in a copy of the index; all files are equally likely. Detection is measured with the
checksums of the files, and without them, with the checksums of the windows alone. If the check without file checksums
does not detect the flip, these results are compared with those of the undamaged index:

- the hits of captions in the picture and of words in speech, with scores, thumbnails and filters;
- the list of videos with their metadata, the list of broken videos, and the summary.

The comparison runs in a separate process, because a damaged index may crash it.
"""

import argparse
import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np

from ts2net.benchmarks.moving_things import render_mp4, scenes
from ts2net.parallel.isolated import Failure, Isolation
from ts2net.search import VideoIndex, WindowSettings, index_videos
from ts2net.search.calibration import read_bank
from ts2net.search.file_checksums import check_files
from ts2net.search.options import SearchOptions
from ts2net.search.relocating import relocate
from ts2net.search.repairing import check_index, repair_index
from ts2net.search.store import Store
from ts2net.search.summary import summarize

CAPTIONS = 20
CHECKSUMS = "checksums.json"
ISOLATION = Isolation(preload=("ts2net.search.index",), memory=8 * 2**30)


def make_index(work: Path, clips: int) -> Path:
    """Create an index with rows in each of its tables."""
    # Imported here, because each process of a check imports this module, and PyTorch would take most of its time.
    from ts2net import TS2NetModel, TS2NetProcessor
    from ts2net.hub import save_hub_folder
    from ts2net.small_clip import small_clip_folder

    model = TS2NetModel.from_clip(small_clip_folder(), num_frames=4, temporal_num_layers=2)
    save_hub_folder(model, TS2NetProcessor.from_clip(small_clip_folder(), model.config), work / "model")
    videos, moved, out = work / "videos", work / "moved", work / "index"
    videos.mkdir()
    (work / "about.csv").write_text("file,kind\n" + "".join(f"{n}.mp4,kind {n % 3}\n" for n in range(clips)))
    drawn = [(scene.caption, render_mp4(scene)) for scene in scenes("train", clips)]
    for half in (range(clips // 2), range(clips // 2, clips)):
        for number in half:
            caption, content = drawn[number]
            (videos / f"{number}.mp4").write_bytes(content)
            (videos / f"{number}.srt").write_text(f"1\n00:00:01,000 --> 00:00:03,000\n{caption}\n")
        (videos / f"broken {half[0]}.mp4").write_bytes(b"this is no video\n")
        settings = WindowSettings(2, 1, 2)
        index_videos(
            videos, work / "model", out, metadata=work / "about.csv", settings=settings, workers=0, device="cpu"
        )
    with Store.write(out) as store:
        store.drop([str(videos / "0.mp4")])
    videos.rename(moved)
    relocate(out, moved)
    return out


def answers(job: tuple[str, str, tuple[str, ...]]) -> Iterator[list[str]]:
    """Yield everything that an index returns, for an exact comparison.

    Args:
        job: The index, a file with the embeddings of captions, and spoken words.
    """
    path, file, words = job
    index, embeds, captions = VideoIndex.open(path, model="/nowhere"), np.load(file), read_bank()[:CAPTIONS]
    lines = []
    for options in (
        SearchOptions(k=20),
        SearchOptions(k=20, min_score=-1e9, fold=True),
        SearchOptions(k=20, min_score=-1e9, metadata={"kind": "kind 1"}, path="*.mp4"),
    ):
        lines += [_hit_text(hit) for hits in index.search_text_embeds(embeds, options, captions) for hit in hits]
    for hits in index.search(list(words), search_in="speech", k=20):
        lines += [_hit_text(hit) for hit in hits]
    snapshot = Store.open(path).snapshot()
    lines += [repr((video.video_id, video.duration, sorted(video.metadata.items()))) for video in snapshot.videos()]
    lines += map(repr, index.broken())
    lines.append(
        repr({name: value for name, value in asdict(summarize(path)).items() if name not in ("index", "bytes")})
    )
    yield lines


def _hit_text(hit) -> str:
    return repr({**asdict(hit), "index": None})


def is_noticed(index: Path) -> bool:
    """Whether a check reports damage, or reports that the index can't be opened."""
    try:
        return bool(check_index(index))
    except (OSError, ValueError):
        return True


def flip_a_bit(index: Path, chance: random.Random) -> str:
    """Flip a random bit, and return the file that contains it."""
    files = sorted(file for file in index.glob("*.lance/**/*") if file.is_file())
    file = chance.choice(files)
    content = bytearray(file.read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    file.write_bytes(content)
    return file.relative_to(index).as_posix()


def is_repaired(index: Path) -> bool:
    """Whether an index passes the check after a repair."""
    try:
        repair_index(index)
    except OSError as error:
        print(f"    no repair: {error}")
        return False
    return not check_index(index)


def main() -> None:
    """Flip bits, and print the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=12)
    parser.add_argument("--flips", type=int, default=100)
    args = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        work, chance = Path(folder), random.Random(0)
        index = make_index(work, args.clips)
        opened = VideoIndex.open(index, device="cpu")
        np.save(work / "embeds.npy", np.asarray(opened.encode_texts(read_bank()[:CAPTIONS])))
        words = tuple({scene.caption.split()[1] for scene in scenes("train", args.clips)})
        assert not check_index(index), "the index is damaged before a bit is flipped"

        def job(path: Path) -> tuple[str, str, tuple[str, ...]]:
            return str(path), str(work / "embeds.npy"), words

        flipped: dict[Path, str] = {}
        noticed: Counter[str] = Counter()
        seconds = 0.0
        for number in range(args.flips):
            copy = work / f"flip {number}"
            shutil.copytree(index, copy)
            file = flip_a_bit(copy, chance)
            noticed["files"] += bool(check_files(copy).changed)
            noticed["repaired"] += is_repaired(shutil.copytree(copy, work / "repaired"))
            shutil.rmtree(work / "repaired")
            (copy / CHECKSUMS).unlink()
            begun = time.perf_counter()
            if is_noticed(copy):
                noticed["windows"] += 1
            else:
                flipped[copy] = file
            seconds += time.perf_counter() - begun

        outcomes: Counter[str] = Counter()
        silent: list[str] = []
        jobs = [job(path) for path in (index, *flipped)]
        results = ISOLATION.run_each(jobs, answers, workers=1, patience=lambda _: 120.0)
        expected: list[str] = []
        for (path, *_), result in results:
            if path == str(index):
                assert not isinstance(result, Failure), result.error
                expected = result
            elif isinstance(result, Failure):
                outcomes["an error"] += 1
            elif result == expected:
                outcomes["nothing"] += 1
            else:
                outcomes["what is found or told"] += 1
                silent.append(flipped[Path(path)])

    kinds = ", ".join(f"{kind}: {count}" for kind, count in outcomes.most_common())
    print(f"{args.flips} flipped bits in an index of {args.clips} clips; a check takes {seconds / args.flips:.1f} s")
    print(f"    noticed: {noticed['files']} by the checksums of files, {noticed['windows']} without these")
    print(f"    sound after a repair: {noticed['repaired']}")
    print(f"    what the others change that are not noticed without these: {kinds}")
    for file in silent:
        print(f"        {file}")


if __name__ == "__main__":
    main()
