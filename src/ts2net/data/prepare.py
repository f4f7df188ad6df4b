"""From annotations and a folder of videos to shards that are streamed in training: `ts2net prepare`.

- A run that was stopped, in whatever way, is repeated, and ends with the bytes of one that was not.
- A repeated run makes only those shards again whose videos have changed or turned up since, or could not be read for a
  reason that may have passed. Changed settings are an error, not half a folder of each.
- Nothing is dropped silently: the manifest names what is missing, broken, damaged or left out, with the reason.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from ..benchmarks import BENCHMARKS, AnnotatedBenchmark, RenderedBenchmark
from .clips import ClipOptions, annotated_clips, folder_clips, rendered_clips
from .dataset_card import read_manifests, write_card
from .folder import FOLDER, WHOLE_FOLDER
from .manifest import Manifest
from .shards import default_num_shards
from .split_preparation import SplitClips, Task, prepare_split

NAMES = (*BENCHMARKS, FOLDER)


def prepare(
    benchmark: str,
    out: str | Path,
    *,
    annotations: str | Path | None = None,
    videos: str | Path | None = None,
    splits: Sequence[str] | None = None,
    reencode: bool = False,
    follow_links: bool = False,
    prefer: Sequence[str] = (),
    skip_empty_captions: bool = False,
    num_shards: int | None = None,
    num_clips: int | None = None,
    seed: int = 0,
    workers: int | None = None,
    overwrite: bool = False,
    console: Console | None = None,
) -> list[Manifest]:
    """Make the shards, manifests and card of a benchmark or of one's own folder of videos.

    Repeat it after it was stopped, in whatever way, or when missing videos have been found: what is done stays.

    Args:
        benchmark: A benchmark, or `"folder"`.
        out: Folder to make.
        annotations: The folder of the benchmark's annotation files; for `"folder"` the file with the captions of the
            one split that is made, or None, see `folder.read_folder`. A rendered benchmark takes none.
        videos: The folder with the videos, in subfolders or not. A rendered benchmark takes none.
        splits: Which to make. None is the benchmark's train, val and test, all splits of a rendered one, and
            `"train"` for `"folder"`.
        reencode: Make the videos small (see `reencoding`) and keep of each only the moment that is used. Otherwise
            their files are taken as they are.
        follow_links: Follow links that lead out of the folder of videos, and links to folders.
        prefer: Extensions, such as `"mp4"`, that decide between several files of one id, the most preferred one first.
        skip_empty_captions: Leave out empty captions, and videos without any other, instead of raising an error. The
            manifest counts them.
        num_shards: Shards a split; None is a sensible number, see `shards.default_num_shards`.
        num_clips: How many clips a split of a rendered benchmark has; None is its own default.
        seed: Of the order of the clips, and of what is rendered.
        workers: Processes that read videos; None is one for each core, 0 is only this one.
        overwrite: Prepare again what was prepared with other settings.
        console: Where to show the progress; None shows none.

    Returns:
        The manifest of each split.

    Raises:
        ValueError: If an argument doesn't fit, an annotation file's content is wrong, no video of a split is there or
            can be read, or several files may be the same video.
        FileNotFoundError: If an annotation file isn't there.
        FileExistsError: If `out` holds something that was prepared with other settings.
        BlockingIOError: If another process is at work in `out`.
    """
    if benchmark not in NAMES:
        raise ValueError(f"there is no benchmark {benchmark!r}, only {', '.join(NAMES)}")
    if num_shards is not None and num_shards < 1:
        raise ValueError(f"num_shards must be at least 1, got {num_shards}")
    if workers is not None and workers < 0:
        raise ValueError(f"workers must be 0 or more, got {workers}")
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(f"{out} is a file; expected a folder to prepare the data in")
    options = ClipOptions(
        annotations, videos, reencode, follow_links, tuple(prefer), skip_empty_captions, num_clips, seed
    )
    splits, read, settings = _reader(benchmark, splits, options)
    # All splits are read before anything is made, so that a mistake in the last one shows now.
    contents = {split: read(split) for split in splits}
    tasks = [
        Task(benchmark, split, content, reencode, num_shards or default_num_shards(len(content.clips)), seed, settings)
        for split, content in contents.items()
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


def _reader(
    name: str, splits: Sequence[str] | None, options: ClipOptions
) -> tuple[Sequence[str], Callable[[str], SplitClips], dict[str, object]]:
    """Which splits are made, what reads the clips of one, and the settings that the manifest has beside the usual."""
    if name == FOLDER:
        splits = splits or (WHOLE_FOLDER,)
        return splits, folder_clips(options, splits), {}
    benchmark = BENCHMARKS[name]
    splits = splits or benchmark.default_splits
    if isinstance(benchmark, RenderedBenchmark):
        return splits, rendered_clips(benchmark, options), {"drawing": benchmark.drawing}
    assert isinstance(benchmark, AnnotatedBenchmark)
    return splits, annotated_clips(benchmark, options), {"prefer": list(options.prefer)} if options.prefer else {}
