"""One split made: its videos read side by side, its shards written one after the other.

Notable here: which clip goes into which shard is fixed before any work starts, and results are taken in the order of
the clips. So neither the number of workers nor a kill, after which the run is repeated, changes a byte.
"""

import hashlib
import json
import shutil
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
from huggingface_hub.utils import WeakFileLock
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ..benchmarks import Row
from ..errors import may_pass, one_line
from ..files import write_whole
from ..parallel.pool import Died, available_cores, run_in_order
from ..video_decoding_ts2net import decode_video
from ..videos.reencoding import FRAMES_PER_SECOND, QUALITY, SHORT_SIDE, reencode_video
from .finished_shards import FinishedShard, Notes, shards_of_manifest
from .shards import (
    Manifest,
    Remark,
    Shard,
    ShardWriter,
    annotation,
    assign_to_shards,
    check_split,
    manifest_name,
    shard_name,
)

if TYPE_CHECKING:
    from ..benchmarks.motion_shapes import Scene

_FORMAT = 1  # to be raised when the same clips give other bytes


@dataclass(frozen=True)
class Clip:
    """A row, and what its video is made from: a file, a scene to render, or the reason why there is neither."""

    row: Row
    source: "Path | Scene | str"


@dataclass(frozen=True)
class Task:
    """All that decides the bytes of a split."""

    benchmark: str
    split: str
    clips: Sequence[Clip]
    reencode: bool
    num_shards: int
    seed: int
    drawing: int | None = None  # which version of the drawing, where scenes are rendered

    @property
    def settings(self) -> dict[str, Any]:
        """What the manifest keeps, to tell later whether a shard is one of these."""
        rows = json.dumps([annotation(clip.row) for clip in self.clips]).encode()
        video = {"short_side": SHORT_SIDE, "frames_per_second": FRAMES_PER_SECOND, "quality": QUALITY}
        settings = {
            "format": _FORMAT,
            "benchmark": self.benchmark,
            "rows": hashlib.sha256(rows).hexdigest(),
            "num_shards": self.num_shards,
            "seed": self.seed,
            "reencode": video if self.reencode else None,
        }
        return settings if self.drawing is None else settings | {"drawing": self.drawing}

    def shard_names(self) -> list[str]:
        """What the shards are called, in order."""
        return [shard_name(self.split, number) for number in range(self.num_shards)]


def prepare_split(
    task: Task, out: Path, *, workers: int | None = None, overwrite: bool = False, console: Console | None = None
) -> Manifest:
    """Makes the shards and the manifest of a split, or those of them that are not there yet.

    Args:
        task: what to make.
        out: the folder, which exists.
        workers: processes that read videos; None is one a core, 0 is only this one.
        overwrite: make anew what was made with other settings.
        console: where to show the progress; None shows none.

    Raises:
        FileExistsError: the split is there with other settings.
        BlockingIOError: another process is making it.
        ValueError: not one of its videos can be used.
    """
    with _notes(task, out) as notes:
        _check_settings(task, out, notes, overwrite)
        places = assign_to_shards([clip.row.video_id for clip in task.clips], task.num_shards, task.seed)
        contents = [[task.clips[place] for place in shard] for shard in places]
        finished = _finished(task, out, notes, contents)
        notes.write_settings(task.settings)
        for number, shard in finished.items():
            notes.write_shard(number, shard)
        manifest_path = out / manifest_name(task.split)
        if len(finished) < task.num_shards:
            manifest_path.unlink(missing_ok=True)  # from here on the notes say what is done
            count = sum(len(contents[number]) for number in finished)
            todo = {number: clips for number, clips in enumerate(contents) if number not in finished}
            with _progress(console, task, count) as advance:
                for number, shard in _make_shards(task, out, todo, workers, advance):
                    notes.write_shard(number, shard)
                    finished[number] = shard
        manifest = _manifest(task, [finished[number] for number in range(task.num_shards)])
        if manifest.videos == 0:
            notes.clear()
            example = [*manifest.missing, *manifest.broken][0]
            raise ValueError(
                f"none of the {len(task.clips)} videos of {task.split!r} can be used, such as {example.id!r}: "
                f"{example.reason}"
            )
        write_whole(manifest_path, manifest.to_json(), locked=True)
        notes.clear()
    return manifest


@contextmanager
def _notes(task: Task, out: Path) -> Iterator[Notes]:
    """The folder for notes, kept to this process alone; it goes when nothing is left to be done."""
    folder = out / f".{check_split(task.split)}.preparing"
    folder.mkdir(exist_ok=True)
    try:
        with WeakFileLock(folder / "lock", timeout=1):
            try:
                yield Notes(folder)
            finally:
                if not any(folder.glob("*.json")):
                    shutil.rmtree(folder, ignore_errors=True)
    except TimeoutError:
        raise BlockingIOError(f"{out}: another process is preparing {task.split!r} there") from None


def _check_settings(task: Task, out: Path, notes: Notes, overwrite: bool) -> None:
    """Sees that what is there already is of the same kind, or removes it."""
    manifest_path, wanted = out / manifest_name(task.split), task.settings
    shards = list(out.glob(f"{task.split}-?????.tar"))
    found: Mapping[str, Any] | None
    if manifest_path.exists():
        found = Manifest.from_json(manifest_path.read_text(encoding="utf-8"), str(manifest_path)).settings
    else:
        found = notes.settings() or ({} if shards else None)
    if found is None or found == wanted:
        return
    if not overwrite:
        name = next((name for name in wanted if found.get(name) != wanted[name]), "others")
        differs = "other annotations" if name == "rows" else f"{name}={found.get(name)!r}, not {wanted.get(name)!r}"
        raise FileExistsError(
            f"{out}: {task.split!r} was prepared with {differs}; give another folder, or --overwrite to make it anew"
        )
    manifest_path.unlink(missing_ok=True)
    notes.clear()
    for path in [*shards, *out.glob(f".{task.split}-*.part")]:
        path.unlink()


def _finished(task: Task, out: Path, notes: Notes, contents: Sequence[Sequence[Clip]]) -> dict[int, FinishedShard]:
    """The shards that need not be made again, by number."""
    manifest_path, names = out / manifest_name(task.split), task.shard_names()
    if manifest_path.exists():
        manifest = Manifest.from_json(manifest_path.read_text(encoding="utf-8"), str(manifest_path))
        number_of = {clip.row.video_id: number for number, clips in enumerate(contents) for clip in clips}
        there = dict(enumerate(shards_of_manifest(manifest, names, number_of)))
    else:
        there = notes.shards(task.num_shards)
    finished = {}
    for number, shard in there.items():
        missing = [clip.row.video_id for clip in contents[number] if isinstance(clip.source, str)]
        sources = [clip.source for clip in contents[number] if isinstance(clip.source, Path)]
        if shard.is_current(out / names[number], missing, sources):
            finished[number] = shard
    return finished


def _make_shards(
    task: Task,
    out: Path,
    todo: Mapping[int, Sequence[Clip]],
    workers: int | None,
    advance: Callable[[], None],
) -> Iterator[tuple[int, FinishedShard]]:
    jobs = (
        partial(_make, clip.row, clip.source, task.reencode)
        for clips in todo.values()
        for clip in clips
        if not isinstance(clip.source, str)
    )
    results = run_in_order(jobs, available_cores() if workers is None else workers)
    with closing(results):  # ends the workers when the loop is left early
        for number, clips in todo.items():
            finished = FinishedShard()
            path = out / shard_name(task.split, number)
            with ShardWriter(path) as writer:
                for clip in clips:
                    _add(writer, clip, results, finished)
                    advance()
            if writer.videos:
                finished.shard = Shard(path.name, writer.videos, writer.captions, path.stat().st_size)
            yield number, finished


def _add(writer: ShardWriter, clip: Clip, results: "Iterator[_Made | Died[_Made]]", finished: FinishedShard) -> None:
    """Adds a clip to its shard, or the reason why it isn't there to what is said of the shard."""
    video_id = clip.row.video_id
    if isinstance(clip.source, str):
        finished.missing.append(Remark(video_id, clip.source))
        return
    made = next(results)
    if isinstance(made, Died):
        # Perhaps not over the video: a system that is short of memory ends processes.
        finished.broken.append(Remark(video_id, "the process that read it crashed, twice", may_pass=True))
    elif made.broken is not None:
        finished.broken.append(Remark(video_id, made.broken, made.may_pass))
    else:
        if made.damage is not None:
            finished.damaged.append(Remark(video_id, made.damage))
        # A re-encoded file holds the moment and nothing else.
        row = clip.row if made.is_whole else replace(clip.row, start=None, end=None)
        writer.add(row, made.video)


# ---------------------------------------------------------------------------------------------------------------------
# One video, in a worker


@dataclass(frozen=True)
class _Made:
    """What became of a clip's video.

    Attributes:
        video: its bytes, or the file that has them.
        is_whole: whether it is more than the moment.
        damage: what can't be read of it.
        broken: why it can't be used.
        may_pass: whether it may be readable another time.
    """

    video: bytes | Path = b""
    is_whole: bool = True
    damage: str | None = None
    broken: str | None = None
    may_pass: bool = False


def _make(row: Row, source: "Path | Scene", reencode: bool) -> _Made:
    if not isinstance(source, Path):
        from ..benchmarks.motion_shapes import render_mp4

        return _Made(render_mp4(source))
    try:
        if reencode:
            small = reencode_video(source, row.start, row.end)
            return _Made(small.video, is_whole=False, damage=small.damage)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            decode_video(source, num_frames=1, start=row.start, end=row.end, num_threads=1)
        return _Made(source, damage=_without_folder(str(caught[0].message), source) if caught else None)
    except (ValueError, OSError, MemoryError, av.FFmpegError) as error:
        return _Made(broken=_without_folder(one_line(error), source), may_pass=may_pass(error))


def _without_folder(message: str, source: Path) -> str:
    """A manifest may be published: the folders of this machine have no place in it."""
    return message.removeprefix(f"{source}: ").replace(str(source), source.name)


# ---------------------------------------------------------------------------------------------------------------------
# What is said of it all


def _manifest(task: Task, finished: Sequence[FinishedShard]) -> Manifest:
    shards = tuple(each.shard for each in finished if each.shard)
    place = {clip.row.video_id: number for number, clip in enumerate(task.clips)}

    def in_order(remarks: Iterator[Remark]) -> tuple[Remark, ...]:
        return tuple(sorted(remarks, key=lambda remark: place[remark.id]))

    return Manifest(
        benchmark=task.benchmark,
        split=task.split,
        videos=sum(shard.videos for shard in shards),
        captions=sum(shard.captions for shard in shards),
        shards=shards,
        missing=in_order(remark for each in finished for remark in each.missing),
        broken=in_order(remark for each in finished for remark in each.broken),
        damaged=in_order(remark for each in finished for remark in each.damaged),
        settings=task.settings,
    )


@contextmanager
def _progress(console: Console | None, task: Task, done: int) -> Generator[Callable[[], None]]:
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=console is None or not console.is_terminal,
    ) as progress:
        bar = progress.add_task(task.split, total=len(task.clips), completed=done)
        yield lambda: progress.advance(bar)
