"""From annotations and a folder of videos to shards that are streamed in training: `ts2net prepare`.

Notable here:
- A run that was stopped, in whatever way, is simply repeated, and ends with the bytes of one that wasn't.
- A repeated run makes only those shards again whose videos have changed or turned up since, or could not be read for a
  reason that may have passed. Settings that were changed are an error, not half a folder of each.
- Nothing is dropped silently: what is missing, broken or damaged is in the manifest, by name and with the reason.
"""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from ..benchmarks import BENCHMARKS
from ..videos.finding import VideoFiles, match_files
from .dataset_card import read_manifests, write_card
from .shards import Manifest, default_num_shards
from .split_preparation import Clip, Task, prepare_split
from .user_data import WHOLE_FOLDER, read_folder

NAMES = (*BENCHMARKS, "motion_shapes", "folder")

_USUAL_SPLITS = ("train", "val", "test")  # others, such as MSR-VTT's train_7k, are made when they are asked for


def prepare(
    benchmark: str,
    out: str | Path,
    *,
    annotations: str | Path | None = None,
    videos: str | Path | None = None,
    splits: Sequence[str] | None = None,
    reencode: bool = False,
    num_shards: int | None = None,
    num_clips: int | None = None,
    seed: int = 0,
    workers: int | None = None,
    overwrite: bool = False,
    console: Console | None = None,
) -> list[Manifest]:
    """Makes the shards, manifests and card of a benchmark, of motion shapes or of one's own folder of videos.

    Repeat it after it was stopped, in whatever way, or when missing videos have been found: what is done stays.

    Args:
        benchmark: a benchmark, `"motion_shapes"`, or `"folder"`.
        out: folder to make.
        annotations: the folder of the benchmark's annotation files; for `"folder"` the file with the captions of the
            one split that is made, or None, see `user_data.read_folder`.
        videos: the folder with the videos, in subfolders or not.
        splits: which to make. None is those of train, val and test that the benchmark has, all splits of motion
            shapes, and `"train"` for `"folder"`.
        reencode: make the videos small (see `reencoding`) and keep of each only the moment that is used. Otherwise
            their files are taken as they are.
        num_shards: shards a split; None is a sensible number, see `shards.default_num_shards`.
        num_clips: how many clips a split of motion shapes has; None is its own default.
        seed: of the order of the clips, and of motion shapes.
        workers: processes that read videos; None is one a core, 0 is only this one.
        overwrite: make anew what was prepared with other settings.
        console: where to show the progress; None shows none.

    Returns:
        The manifest of each split.

    Raises:
        ValueError: an argument doesn't fit, an annotation file doesn't hold what it should, no video of a split is
            there or can be read, or several files may be the same video.
        FileNotFoundError: an annotation file isn't there.
        FileExistsError: `out` holds something that was prepared with other settings.
        BlockingIOError: another process is at work in `out`.
    """
    if num_shards is not None and num_shards < 1:
        raise ValueError(f"num_shards must be at least 1, got {num_shards}")
    if workers is not None and workers < 0:
        raise ValueError(f"workers must be 0 or more, got {workers}")
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(f"{out} is a file; expected a folder to prepare the data in")
    # All is read before anything is made, so that a mistake in the last split shows now.
    drawing = _drawing(benchmark)
    tasks = [
        Task(benchmark, split, clips, reencode, num_shards or default_num_shards(len(clips)), seed, drawing)
        for split, clips in _read_clips(benchmark, annotations, videos, splits, reencode, num_clips, seed).items()
    ]
    out.mkdir(parents=True, exist_ok=True)
    others = sorted({manifest.benchmark for manifest in read_manifests(out)} - {benchmark})
    if others:
        raise FileExistsError(f"{out}: holds {' and '.join(others)}; {benchmark} needs a folder of its own")
    manifests = []
    for task in tasks:
        manifests.append(prepare_split(task, out, workers=workers, overwrite=overwrite, console=console))
        write_card(out)
    return manifests


def _drawing(benchmark: str) -> int | None:
    if benchmark != "motion_shapes":
        return None
    from ..benchmarks.motion_shapes import DRAWING

    return DRAWING


def _read_clips(
    benchmark: str,
    annotations: str | Path | None,
    videos: str | Path | None,
    splits: Sequence[str] | None,
    reencode: bool,
    num_clips: int | None,
    seed: int,
) -> dict[str, list[Clip]]:
    if benchmark not in NAMES:
        raise ValueError(f"there is no benchmark {benchmark!r}, only {', '.join(NAMES)}")
    if benchmark == "motion_shapes":
        from ..benchmarks.motion_shapes import DEFAULT_COUNTS, scenes

        if annotations is not None or videos is not None or reencode:
            raise ValueError("motion_shapes is rendered: it takes no annotations and no videos, and isn't re-encoded")
        return {
            split: [Clip(scene.row, scene) for scene in scenes(split, num_clips, seed)]
            for split in splits or DEFAULT_COUNTS
        }
    if num_clips is not None:
        raise ValueError(f"the number of clips can be chosen for motion_shapes only, not for {benchmark}")
    if videos is None:
        raise ValueError(f"{benchmark} needs the folder with the videos")
    if benchmark == "folder":
        splits = splits or (WHOLE_FOLDER,)
        if annotations is not None and len(splits) > 1:
            raise ValueError(f"one file of captions is one split, got {', '.join(splits)}")
        return {
            split: [
                Clip(video.row, video.file if video.file.is_file() else "no such file")
                for video in read_folder(videos, split, annotations)
            ]
            for split in splits
        }
    if annotations is None:
        raise ValueError(f"{benchmark} needs the folder with the annotation files")
    known = BENCHMARKS[benchmark]
    splits = splits or [split for split in _USUAL_SPLITS if split in known.splits]
    rows = {split: list(known.rows(annotations, split)) for split in splits}
    files = VideoFiles(videos)
    clips = {}
    for split, rows_of_split in rows.items():
        matched = match_files([row.video_id for row in rows_of_split], files, benchmark)
        clips[split] = [
            Clip(row, matched[row.video_id] or files.why_missing(row.video_id, benchmark)) for row in rows_of_split
        ]
    return clips
