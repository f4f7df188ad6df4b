"""Progress of indexing on a terminal: finished and total hours of video, and the remaining time."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from ..videos.broken import BrokenVideo
from .engines import assembling
from .sources import VideoFile


@contextmanager
def indexing_progress(
    console: Console | None, files: Sequence[VideoFile]
) -> Iterator[Callable[[assembling.Outcome], None]]:
    """Show a progress bar that advances by the bytes of the videos, also within a video.

    The total duration is extrapolated from the videos that have begun, by their bytes.

    Yields:
        A function to call with each outcome of the engine.
    """
    sizes = {file.video_id: file.size for file in files}
    fractions: dict[str, float] = {}
    seconds: dict[str, float] = {}
    videos = 0

    with Progress(
        TextColumn("indexing"),
        BarColumn(bar_width=20),
        TextColumn("{task.fields[hours]}, {task.fields[videos]:,} of {task.fields[all]:,} videos done"),
        _TimeToGo(),
        console=console,
        transient=True,
        disable=console is None or not console.is_terminal,
    ) as bar:
        task = bar.add_task("", total=sum(sizes.values()), videos=0, all=len(files), hours="starting")

        def show(outcome: assembling.Outcome) -> None:
            nonlocal videos
            videos += isinstance(outcome, (assembling.Encoded, BrokenVideo))
            video_id = outcome.video.video_id if isinstance(outcome, assembling.Encoded) else outcome.video_id
            before = fractions.get(video_id, 0.0)
            fractions[video_id] = max(before, outcome.fraction if isinstance(outcome, assembling.Progress) else 1.0)
            if isinstance(outcome, assembling.Progress):
                seconds[video_id] = outcome.video_seconds
            bar.update(
                task,
                advance=(fractions[video_id] - before) * sizes[video_id],
                videos=videos,
                hours=_hours(seconds, fractions, sizes),
            )

        yield show


def _hours(seconds: dict[str, float], fractions: dict[str, float], sizes: dict[str, int]) -> str:
    """Format the finished and total hours of video."""
    begun = sum(sizes[video_id] for video_id in seconds)
    if not begun:
        return "starting"
    done = sum(fractions[video_id] * length for video_id, length in seconds.items())
    unusable = sum(sizes[video_id] for video_id in fractions.keys() - seconds.keys())
    everything = sum(seconds.values()) * (sum(sizes.values()) - unusable) / begun
    about = "" if begun + unusable == sum(sizes.values()) else "about "
    return f"{done / 3600:.2f} of {about}{everything / 3600:.2f} hours"


class _TimeToGo(ProgressColumn):
    """Remaining time as text."""

    max_refresh = 1.0

    def render(self, task: Task) -> Text:
        left = task.time_remaining
        if left is None or task.finished:
            return Text("")
        if left < 90:
            return Text(f"{left:.0f} s to go")
        return Text(f"{left / 60:.0f} min to go" if left < 5400 else f"{left / 3600:.1f} hours to go")
