"""Convert annotations and a folder of videos to shards that are streamed in training: `ts2net prepare`.

- A run that was stopped in any way can be repeated, and gives the same bytes as an uninterrupted run.
- A repeated run makes only those shards again whose videos have changed, were added or removed, or could not be read
  for a reason that may have been temporary. Changed settings are an error, so that a folder never mixes settings.
- Nothing is dropped silently: the manifest lists missing, broken, damaged and skipped clips with the reason.
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
    """Make the shards, manifests and card of a benchmark or of a user's folder of videos.

    Call it again after an interruption of any kind, or after adding missing videos: finished shards are kept.

    Args:
        benchmark: Name of a benchmark, or `"folder"`.
        out: The output folder.
        annotations: The folder of the benchmark's annotation files; for `"folder"` optionally the file with the
            captions of the only split, see `folder.read_folder`. Not accepted for a rendered benchmark.
        videos: The folder of the videos, which may be in subfolders. Not accepted for a rendered benchmark.
        splits: The splits to make. `None` makes the benchmark's train, val and test, all splits of a rendered
            benchmark, or `"train"` for `"folder"`.
        reencode: Re-encode the videos to small ones (see `reencoding`) that hold only the moment of the clip.
            Otherwise the files are copied unchanged.
        follow_links: Follow links that lead out of the folder of videos, and links to folders.
        prefer: Extensions, such as `"mp4"`, that decide between several files of one id, the most preferred one first.
        skip_empty_captions: Leave out empty captions, and videos that have only empty captions, instead of raising an
            error. The manifest lists them.
        num_shards: Number of shards per split; `None` uses `shards.default_num_shards`.
        num_clips: Number of clips per split of a rendered benchmark; `None` uses the default of the benchmark.
        seed: Seed of the order of the clips, and of rendering.
        workers: Processes that read videos; `None` starts one per core, 0 uses only this process.
        overwrite: Replace splits that were prepared with other settings.
        console: Console for the progress bar; `None` shows no progress.

    Returns:
        The manifest of each split.

    Raises:
        ValueError: If an argument is invalid, an annotation file's content is wrong, all videos of a split are missing
            or unreadable, or several files match the same video.
        FileNotFoundError: If an annotation file is missing.
        NotADirectoryError: If `out` is a file, or the folder of videos doesn't exist.
        FileExistsError: If `out` holds another benchmark, or a split that was prepared with other settings.
        BlockingIOError: If another process is preparing the split in `out`.
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
    # Read all splits before making any, so that an error in the last one is raised right away.
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
    """Return the splits to make, a function that reads the clips of a split, and additional manifest settings."""
    if name == FOLDER:
        splits = splits or (WHOLE_FOLDER,)
        return splits, folder_clips(options, splits), {}
    benchmark = BENCHMARKS[name]
    splits = splits or benchmark.default_splits
    if isinstance(benchmark, RenderedBenchmark):
        return splits, rendered_clips(benchmark, options), {"drawing": benchmark.drawing}
    assert isinstance(benchmark, AnnotatedBenchmark)
    return splits, annotated_clips(benchmark, options), {"prefer": list(options.prefer)} if options.prefer else {}
