"""Clips of a split for `prepare`: rows with the source of each video, for each kind of benchmark."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..benchmarks import BENCHMARKS, AnnotatedBenchmark, CaptionReader, RenderedBenchmark
from ..videos.finding import VideoFiles, match_files
from .folder import FOLDER, read_folder
from .manifest import Remark
from .split_preparation import Clip, SplitClips


@dataclass(frozen=True)
class ClipOptions:
    """The arguments of `prepare` that determine the clips of a split and the sources of their videos."""

    annotations: str | Path | None
    videos: str | Path | None
    reencode: bool
    follow_links: bool
    prefer: tuple[str, ...]
    skip_empty_captions: bool
    num_clips: int | None
    seed: int


def rendered_clips(benchmark: RenderedBenchmark, options: ClipOptions) -> Callable[[str], SplitClips]:
    """Return a function that lists the clips of a split of a rendered benchmark.

    Raises:
        ValueError: If an option is set that applies to video files only.
    """
    for_files = (options.reencode, options.follow_links, options.prefer, options.skip_empty_captions)
    if options.annotations is not None or options.videos is not None or any(for_files):
        raise ValueError(
            f"{benchmark.name} is rendered: it takes no annotations and no videos, nor what is said of these "
            "(--reencode, --follow-links, --prefer, --skip-empty-captions)"
        )
    return lambda split: SplitClips(
        [Clip(clip.row, clip.render) for clip in benchmark.clips(split, options.num_clips, options.seed)]
    )


def folder_clips(options: ClipOptions, splits: Sequence[str]) -> Callable[[str], SplitClips]:
    """Return a function that reads the clips of a split of a user's folder of videos.

    Raises:
        ValueError: If an option is missing or does not apply to a folder.
    """
    videos = _videos_folder(FOLDER, options)
    if options.annotations is not None and len(splits) > 1:
        raise ValueError(f"one file of captions is one split, got {', '.join(splits)}")
    if options.prefer:
        raise ValueError("--prefer is for benchmarks: the captions of a folder name the files themselves")

    def read(split: str) -> SplitClips:
        captions = CaptionReader(options.skip_empty_captions)
        rows = read_folder(videos, split, options.annotations, captions=captions, follow_links=options.follow_links)
        clips = [Clip(video.row, video.file if video.file.is_file() else "no such file") for video in rows]
        return _split_clips(clips, captions, Path(videos))

    return read


def annotated_clips(benchmark: AnnotatedBenchmark, options: ClipOptions) -> Callable[[str], SplitClips]:
    """Return a function that reads the clips of a split of a benchmark with annotation files.

    Raises:
        ValueError: If an option is missing or does not apply to the benchmark.
    """
    videos = _videos_folder(benchmark.name, options)
    annotations = options.annotations
    if annotations is None:
        raise ValueError(f"{benchmark.name} needs the folder with the annotation files")

    @functools.cache
    def video_files() -> VideoFiles:
        return VideoFiles(videos, follow_links=options.follow_links)

    def read(split: str) -> SplitClips:
        captions = CaptionReader(options.skip_empty_captions)
        rows = list(benchmark.rows(annotations, split, captions))
        files = video_files()  # cached for later splits; after the annotations, so that their errors come first
        matched = match_files([row.video_id for row in rows], files, benchmark.file_names, options.prefer)
        clips = [
            Clip(row, matched.files[row.video_id] or files.why_missing(benchmark.file_names(row.video_id)))
            for row in rows
        ]
        preferred = [
            Remark(video_id, f"{_name(matched.files[video_id])} rather than {', '.join(path.name for path in others)}")
            for video_id, others in matched.preferred.items()
        ]
        return _split_clips(clips, captions, Path(annotations), preferred)

    return read


def _videos_folder(name: str, options: ClipOptions) -> str | Path:
    if options.num_clips is not None:
        rendered = [benchmark.name for benchmark in BENCHMARKS.values() if isinstance(benchmark, RenderedBenchmark)]
        raise ValueError(f"the number of clips can be chosen for {' and '.join(rendered)} only, not for {name}")
    if options.videos is None:
        raise ValueError(f"{name} needs the folder with the videos")
    return options.videos


def _split_clips(
    clips: Sequence[Clip], captions: CaptionReader, folder: Path, preferred: Sequence[Remark] = ()
) -> SplitClips:
    if not clips:
        raise ValueError(f"{folder}: all captions of the split are empty")
    # A manifest may be published, so it must not contain local folders.
    skipped = [location.removeprefix(f"{folder}/") for location in captions.skipped]
    return SplitClips(clips, preferred, skipped, captions.videos_without)


def _name(path: Path | None) -> str:
    return path.name if path else ""
