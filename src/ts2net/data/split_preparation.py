"""Prepare one split: read its videos in several processes, and write its shards one after another.

The shard of each clip is fixed before any work starts, and results are written in the order of the clips. So the bytes
depend neither on the number of workers nor on interruptions, after which the run is repeated.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from huggingface_hub.utils import WeakFileLock
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ..benchmarks import Row
from ..files import write_whole
from ..parallel.pool import Died, available_cores, run_in_order
from ..videos.reencoding import FPS, QUALITY, SHORT_SIDE
from .clip_videos import ClipVideo, make_video
from .finished_shards import FinishedShard, Notes, shards_of_manifest
from .manifest import Manifest, Remark, Shard, check_split, manifest_name
from .shards import ShardWriter, assign_to_shards, shard_name

_FORMAT = 2  # raise it when the same clips give other bytes


@dataclass(frozen=True)
class Clip:
    """A row and the source of its video.

    Attributes:
        row: The row.
        source: The video's file, a function that renders the video, or the reason why the video is missing.
    """

    row: Row
    source: Path | Callable[[], bytes] | str

    @property
    def is_missing(self) -> bool:
        """Whether the clip has no video."""
        return isinstance(self.source, str)


@dataclass(frozen=True)
class SplitClips:
    """The clips of a split, and remarks on their selection.

    Attributes:
        clips: The clips.
        preferred: Remarks on the clips for which one of several files was chosen.
        skipped_captions: Locations of empty captions that were left out.
        without_captions: Ids of videos that were left out because all their captions are empty.
    """

    clips: Sequence[Clip]
    preferred: Sequence[Remark] = ()
    skipped_captions: Sequence[str] = ()
    without_captions: Sequence[str] = ()


@dataclass(frozen=True)
class Task:
    """Everything that determines the bytes of a split.

    Attributes:
        benchmark: Name of the benchmark.
        split: Name of the split.
        content: The clips of the split.
        reencode: Whether to re-encode the videos to small ones.
        num_shards: Number of shards.
        seed: Seed of the order of the clips.
        options: Additional settings to record in the manifest.
    """

    benchmark: str
    split: str
    content: SplitClips
    reencode: bool
    num_shards: int
    seed: int
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def clips(self) -> Sequence[Clip]:
        """The clips, in the order of the annotations."""
        return self.content.clips

    @property
    def settings(self) -> dict[str, Any]:
        """The settings recorded in the manifest. A shard that was made with other settings is outdated."""
        rows = json.dumps([clip.row.to_columns() for clip in self.clips]).encode()
        video = {"short_side": SHORT_SIDE, "fps": FPS, "quality": QUALITY}
        return {
            "format": _FORMAT,
            "benchmark": self.benchmark,
            "rows": hashlib.sha256(rows).hexdigest(),
            "num_shards": self.num_shards,
            "seed": self.seed,
            "reencode": video if self.reencode else None,
            **self.options,
        }

    def shard_names(self) -> list[str]:
        """Return the file names of the shards, in order."""
        return [shard_name(self.split, number) for number in range(self.num_shards)]


def prepare_split(
    task: Task, out: Path, *, workers: int | None = None, overwrite: bool = False, console: Console | None = None
) -> Manifest:
    """Make the missing and outdated shards of a split, and its manifest.

    Args:
        task: The split to make.
        out: The output folder, which must exist.
        workers: Processes that read videos; `None` starts one per core, 0 uses only this process.
        overwrite: Replace a split that was made with other settings.
        console: Console for the progress bar; `None` shows no progress.

    Raises:
        FileExistsError: If the split was made with other settings.
        BlockingIOError: If another process is making the split.
        ValueError: If none of the videos can be used.
    """
    with _notes(task, out) as notes:
        _check_settings(task, out, notes, overwrite)
        indices = assign_to_shards(
            [clip.row.group or clip.row.video_id for clip in task.clips], task.num_shards, task.seed
        )
        contents = [[task.clips[index] for index in shard] for shard in indices]
        finished = _current_shards(task, out, notes, contents)
        notes.write_settings(task.settings)
        for number, shard in finished.items():
            notes.write_shard(number, shard)
        manifest_path = out / manifest_name(task.split)
        if len(finished) < task.num_shards:
            manifest_path.unlink(missing_ok=True)  # from here on the notes record the finished shards
            count = sum(len(contents[number]) for number in finished)
            todo = {number: clips for number, clips in enumerate(contents) if number not in finished}
            with _progress(console, task, count) as advance:
                for number, shard in _make_shards(task, out, todo, workers, advance):
                    notes.write_shard(number, shard)
                    finished[number] = shard
        manifest = _manifest(task, [finished[number] for number in range(task.num_shards)])
        if manifest.videos == 0:
            notes.clear()
            example = manifest.left_out[0]
            raise ValueError(
                f"none of the {len(task.clips)} videos of {task.split!r} can be used, such as {example.video_id!r}: "
                f"{example.reason}"
            )
        write_whole(manifest_path, manifest.to_json(), locked=True)
        notes.clear()
    return manifest


@contextmanager
def _notes(task: Task, out: Path) -> Iterator[Notes]:
    """Lock the folder for notes for this process, and remove it at the end if it has no notes."""
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
    """Check that existing shards were made with the same settings, or remove them if `overwrite` is set."""
    manifest_path, expected = out / manifest_name(task.split), task.settings
    shards = list(out.glob(f"{task.split}-?????.tar"))
    existing: Mapping[str, Any] | None
    if manifest_path.exists():
        existing = Manifest.from_json(manifest_path.read_text(encoding="utf-8"), str(manifest_path)).settings
    else:
        existing = notes.settings() or ({} if shards else None)
    if existing is None or existing == expected:
        return
    if not overwrite:
        names = [*expected, *(name for name in existing if name not in expected)]
        name = next(name for name in names if existing.get(name) != expected.get(name))
        difference = f"{name}={existing.get(name)!r}, not {expected.get(name)!r}"
        raise FileExistsError(
            f"{out}: {task.split!r} was prepared with {'other annotations' if name == 'rows' else difference}; give "
            "another folder, or --overwrite to make it anew"
        )
    manifest_path.unlink(missing_ok=True)
    notes.clear()
    for path in [*shards, *out.glob(f".{task.split}-*.part")]:
        path.unlink()


def _current_shards(
    task: Task, out: Path, notes: Notes, contents: Sequence[Sequence[Clip]]
) -> dict[int, FinishedShard]:
    """Return the shards that are up to date, by number."""
    manifest_path, names = out / manifest_name(task.split), task.shard_names()
    if manifest_path.exists():
        manifest = Manifest.from_json(manifest_path.read_text(encoding="utf-8"), str(manifest_path))
        shard_of_clip = {clip.row.video_id: number for number, clips in enumerate(contents) for clip in clips}
        existing = dict(enumerate(shards_of_manifest(manifest, names, shard_of_clip)))
    else:
        existing = notes.shards(task.num_shards)
    current = {}
    for number, shard in existing.items():
        missing = [clip.row.video_id for clip in contents[number] if clip.is_missing]
        sources = [clip.source for clip in contents[number] if isinstance(clip.source, Path)]
        if shard.is_current(out / names[number], missing, sources):
            current[number] = shard
    return current


def _make_shards(
    task: Task,
    out: Path,
    todo: Mapping[int, Sequence[Clip]],
    workers: int | None,
    advance: Callable[[], None],
) -> Iterator[tuple[int, FinishedShard]]:
    jobs = (
        partial(make_video, clip.row, clip.source, task.reencode)
        for clips in todo.values()
        for clip in clips
        if not isinstance(clip.source, str)
    )
    workers = available_cores() if workers is None else workers
    results = run_in_order(jobs, workers, preload=(make_video.__module__,))
    with closing(results):  # stops the workers if the loop is left early
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


def _add(
    writer: ShardWriter, clip: Clip, results: "Iterator[ClipVideo | Died[ClipVideo]]", finished: FinishedShard
) -> None:
    """Add a clip to its shard, or to the shard's result the reason why it was left out."""
    video_id = clip.row.video_id
    if isinstance(clip.source, str):
        finished.missing.append(Remark(video_id, clip.source))
        return
    result = next(results)
    if isinstance(result, Died):
        # The video may not be the cause, because a system that is short of memory kills processes.
        finished.broken.append(Remark(video_id, "the process that read it crashed, twice", may_pass=True))
    elif result.broken is not None:
        finished.broken.append(Remark(video_id, result.broken, result.may_pass))
    else:
        if result.damage is not None:
            finished.damaged.append(Remark(video_id, result.damage))
        # A re-encoded file holds only the moment.
        row = clip.row if result.is_whole else replace(clip.row, start=None, end=None)
        writer.add(row, result.video)


def _manifest(task: Task, finished: Sequence[FinishedShard]) -> Manifest:
    shards = tuple(outcome.shard for outcome in finished if outcome.shard)
    index_of = {clip.row.video_id: index for index, clip in enumerate(task.clips)}

    def in_order(remarks: Iterable[Remark]) -> list[Remark]:
        return sorted(remarks, key=lambda remark: index_of[remark.video_id])

    def with_captions(remarks: Iterable[Remark]) -> tuple[Remark, ...]:
        rows = [(remark, task.clips[index_of[remark.video_id]].row) for remark in in_order(remarks)]
        return tuple(replace(remark, captions=row.captions, group=row.group) for remark, row in rows)

    return Manifest(
        benchmark=task.benchmark,
        split=task.split,
        videos=sum(shard.videos for shard in shards),
        captions=sum(shard.captions for shard in shards),
        shards=shards,
        missing=with_captions(remark for outcome in finished for remark in outcome.missing),
        broken=with_captions(remark for outcome in finished for remark in outcome.broken),
        damaged=tuple(in_order(remark for outcome in finished for remark in outcome.damaged)),
        preferred=tuple(task.content.preferred),
        skipped_captions=tuple(task.content.skipped_captions),
        without_captions=tuple(task.content.without_captions),
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
