"""Indexing with faults: 10,000 clips with broken files among them, killed processes, two writers and a full disk.

    python bench/index_faults.py
    mount -t tmpfs -o size=64m tmpfs /mnt/small
    python bench/index_faults.py --small-disk /mnt/small

The clips are different moving-things clips of 4 seconds in mp4 files. The model is small and untrained, because the
content of the results is not checked. Indexing always runs the command `ts2net index` in separate processes.

- Load: indexes `--clips` files. `--broken` of them are no videos, in five kinds. All other files have to be in the
  index, and the broken ones in its list of broken videos.
- Kills: indexes the first `--kill-clips` files. The command is killed (SIGKILL) `--kills` times at random moments
  spread over the whole run, and restarted. After each kill, every indexed video has to be complete and present once.
  At the end, the index has to equal an index that was created without kills.
- Writers: runs two commands on one index at once. One has to be refused, and the index has to equal that of one run.
- Full disk (`--small-disk`, a folder on a small file system): fills it until 1 MB is left, so that the command fails.
  After the space is freed, the command has to complete the index.
"""

import argparse
import random
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import lancedb
import numpy as np
import pyarrow as pa

from ts2net import TS2NetModel, TS2NetProcessor
from ts2net.benchmarks.moving_things import render_mp4, scenes
from ts2net.hub import save_hub_folder
from ts2net.search.columns import CHECKSUM
from ts2net.search.store import Store
from ts2net.small_clip import small_clip_folder

DISTINCT = 250  # rendered clips; the others are copies that differ in bytes that players ignore
WINDOWS = ["--window", "2", "--step", "1", "--fps", "2"]  # three per clip, so that partial clips would be noticed
EMBEDDINGS = ("frames", "mean")
ROUNDING = 2e-3  # of float16, and of batches with other windows


def write_clips(folder: Path, clips: int, broken: int) -> None:
    """Write numbered videos, with broken files among them."""
    folder.mkdir()
    with ProcessPoolExecutor() as pool:
        drawn = list(pool.map(render_mp4, scenes("train", min(DISTINCT, clips)), chunksize=16))
    every = clips // broken if broken else clips + 1
    noise = np.random.default_rng(0)
    for number in range(clips):
        video = drawn[number % len(drawn)]
        content = video + struct.pack(">I4sQ", 16, b"free", number)  # a box that every reader skips
        if number % every == every - 1 and number // every < broken:
            content = (
                b"",
                b"this is no video\n",
                video[: len(video) // 2],
                noise.bytes(5000),
                b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile:///etc/passwd\n",
            )[number // every % 5]
        (folder / f"{number:05d}.mp4").write_bytes(content)


def command(model: Path, videos: list[Path], out: Path) -> list[str]:
    names = map(str, [*videos, "--model", model, "--out", out])
    return [sys.executable, "-m", "ts2net", "index", *names, *WINDOWS]


def index(model: Path, videos: list[Path], out: Path) -> float:
    """Index without disturbance, and return the seconds."""
    begun = time.perf_counter()
    done = subprocess.run(command(model, videos, out), capture_output=True, text=True)
    assert succeeded(done.returncode, done.stderr), done.stderr
    return time.perf_counter() - begun


def succeeded(code: int, errors: str) -> bool:
    """Whether the command completed. With broken videos it exits with 1 and reports no error."""
    return code == 0 or (code == 1 and "error:" not in errors)


def rows(path: Path) -> pa.Table:
    return lancedb.connect(path).open_table("windows").to_arrow().sort_by("window")


def windows_of_each(path: Path) -> Counter[str]:
    """Count the windows of each video."""
    table = rows(path).select(["window", "video"])
    assert len(set(table["window"].to_pylist())) == len(table), "a window is there twice"
    return Counter(table["video"].to_pylist())


def check_same(path: Path, other: Path) -> None:
    """Check that two indexes have the same rows and the same broken videos."""
    table, expected = rows(path), rows(other)
    others = [name for name in expected.column_names if name not in (*EMBEDDINGS, CHECKSUM)]
    assert table.select(others) == expected.select(others), "the indexes differ"
    for name in EMBEDDINGS:
        values, wanted = (pa.compute.list_flatten(each[name], recursive=True).to_numpy() for each in (table, expected))
        assert np.abs(values.astype(np.float32) - wanted.astype(np.float32)).max() <= ROUNDING, "embeddings differ"
    assert Store.open(path).broken() == Store.open(other).broken(), "other videos are broken"


def load(model: Path, clips: Path, work: Path, count: int, broken: int) -> None:
    seconds = index(model, [clips], work / "load")
    each = windows_of_each(work / "load")
    broken_videos = Store.open(work / "load").broken()
    assert len(each) == count - broken, f"{len(each)} videos are in the index, expected {count - broken}"
    assert set(each.values()) == {3}, "a video is there in part"
    assert len(broken_videos) == broken, f"{len(broken_videos)} videos are listed as broken, expected {broken}"
    reasons = Counter(video.reason for video in broken_videos)
    print(f"load: {count:,} clips in {seconds:.0f} s: {len(each):,} indexed, {len(broken_videos)} listed as broken")
    for reason, times in reasons.most_common():
        print(f"    {times} x {reason}")
    again = index(model, [clips], work / "load")
    print(f"    run again: {again / seconds:.2f} of the time, with nothing to do")


def kills(model: Path, videos: list[Path], work: Path, times: int) -> None:
    undisturbed, killed = work / "undisturbed", work / "killed"
    index(model, videos[:1], work / "nothing")  # loads the programs into memory
    starting = index(model, videos[:1], work / "nothing")  # with nothing to do
    whole_run = index(model, videos, undisturbed)
    whole = windows_of_each(undisturbed)
    moments, share = random.Random(0), max(1.0, (whole_run - starting) / times)
    seen: list[int] = []
    while len(seen) < times:
        process = subprocess.Popen(
            command(model, videos, killed), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        try:
            process.wait(moments.uniform(0.3, 1) * starting + moments.uniform(0, 2) * share)
        except subprocess.TimeoutExpired:
            process.kill()
        errors = process.communicate()[1]
        if succeeded(process.returncode, errors):  # it completed before the kill: start again
            check_same(killed, undisturbed)
            shutil.rmtree(killed)
            continue
        assert process.returncode == -signal.SIGKILL, f"the command failed with {process.returncode}: {errors}"
        indexed = windows_of_each(killed) if Store.exists(killed) else Counter()
        assert indexed.items() <= whole.items(), "a video is there in part"
        seen.append(len(indexed))
    seconds = index(model, videos, killed)
    check_same(killed, undisturbed)
    print(
        f"kills: {times}, after which there were {', '.join(map(str, seen))} of {len(whole):,} videos, each whole; "
        f"then {seconds:.0f} s more, where a whole run takes {whole_run:.0f}: the same index",
        flush=True,
    )


def writers(model: Path, videos: list[Path], work: Path) -> None:
    both = [
        subprocess.Popen(command(model, videos, work / "writers"), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    errors = [process.communicate()[1].decode().strip() for process in both]
    failed = [not succeeded(process.returncode, text) for process, text in zip(both, errors, strict=True)]
    assert sorted(failed) == [False, True], f"the writers ended with {errors}"
    check_same(work / "writers", work / "undisturbed")
    print(f"writers: one did it all, the other was told: {errors[failed.index(True)]}", flush=True)


def full_disk(model: Path, videos: list[Path], work: Path, small: Path) -> None:
    out, filler = small / "index", small / "filler"
    shutil.rmtree(out, ignore_errors=True)
    filler.write_bytes(bytes(max(0, shutil.disk_usage(small).free - 2**20)))
    try:
        done = subprocess.run(command(model, videos, out), capture_output=True, text=True)
        assert not succeeded(done.returncode, done.stderr), "the disk wasn't full"
        indexed = windows_of_each(out) if Store.exists(out) else Counter()
        assert indexed.items() <= windows_of_each(work / "undisturbed").items(), "a video is there in part"
    finally:
        filler.unlink()
    index(model, videos, out)
    check_same(out, work / "undisturbed")
    print(f"full disk: {len(indexed)} videos were in, each whole; then the same index. It said: {done.stderr.strip()}")
    shutil.rmtree(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=10_000)
    parser.add_argument("--broken", type=int, default=100)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--kill-clips", type=int, default=2000)
    parser.add_argument("--small-disk", type=Path, help="a folder on a file system of a few dozen MB")
    args = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        model = TS2NetModel.from_clip(small_clip_folder(), num_frames=4, temporal_num_layers=2)
        save_hub_folder(model, TS2NetProcessor.from_clip(small_clip_folder(), model.config), work / "model")
        write_clips(work / "clips", args.clips, args.broken)
        some = sorted((work / "clips").iterdir())[: args.kill_clips]
        (work / "some").mkdir()
        for file in some:
            shutil.copy2(file, work / "some")
        load(work / "model", work / "clips", work, args.clips, args.broken)
        kills(work / "model", [work / "some"], work, args.kills)
        writers(work / "model", [work / "some"], work)
        if args.small_disk is not None:
            full_disk(work / "model", [work / "some"], work, args.small_disk)


if __name__ == "__main__":
    main()
