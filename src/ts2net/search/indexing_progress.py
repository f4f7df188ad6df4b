"""The progress of indexing on a terminal."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from ..videos.broken import BrokenVideo
from .engines import assembling
from .sources import VideoFile


@contextmanager
def indexing_progress(
    console: Console | None, files: Sequence[VideoFile]
) -> Iterator[Callable[[assembling.Outcome], None]]:
    """Show a bar that advances by the bytes of the videos, since their number says little of the time that is left.

    Yields:
        What has to be called with each outcome of the engine.
    """
    sizes = {file.video_id: file.size for file in files}
    fractions: dict[str, float] = {}
    videos, hours = 0, 0.0

    with Progress(
        TextColumn("indexing"),
        BarColumn(),
        TextColumn("{task.fields[videos]:,} of {task.fields[all]:,} videos, {task.fields[hours]:.2f} hours"),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=console is None or not console.is_terminal,
    ) as bar:
        task: Any = bar.add_task("", total=sum(sizes.values()), videos=0, all=len(files), hours=0.0)

        def show(outcome: assembling.Outcome) -> None:
            nonlocal videos, hours
            if isinstance(outcome, assembling.Encoded):
                hours += outcome.video.duration / 3600
            videos += isinstance(outcome, (assembling.Encoded, BrokenVideo))
            video_id = outcome.video.video_id if isinstance(outcome, assembling.Encoded) else outcome.video_id
            before = fractions.get(video_id, 0.0)
            fractions[video_id] = max(before, outcome.fraction if isinstance(outcome, assembling.Progress) else 1.0)
            bar.update(task, advance=(fractions[video_id] - before) * sizes[video_id], videos=videos, hours=hours)

        yield show
