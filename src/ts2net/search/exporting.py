"""Export of hits to files: clips, a CSV table, or an edit decision list for video editors."""

import csv
import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..files import plain_name, write_whole
from ..videos.cutting import cut_video
from .hits import Hit
from .sources import locate

EDL_FPS = 25  # frames per second of the time codes
_COLUMNS = ("text", "rank", "video", "start", "end", "second", "score", "found in", "spoken", "window", "index")


def export_clips(hits: Sequence[tuple[str, Sequence[Hit]]], folder: str | os.PathLike[str]) -> Iterator[Path | str]:
    """Cut moments out of their videos.

    Args:
        hits: Each text and its hits.
        folder: Output folder. It is created if it does not exist.

    Yields:
        The file of each moment, or the reason why it could not be cut.

    Raises:
        OSError: If a file can't be written.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for number, (_, of_a_text) in enumerate(hits, start=1):
        for rank, hit in enumerate(of_a_text, start=1):
            name, suffix = plain_name(os.path.basename(hit.video_id))
            stem = (
                f"{number}-{rank:02}-{name}-{hit.start:.1f}s"
                if len(hits) > 1
                else f"{rank:02}-{name}-{hit.start:.1f}s"
            )
            file = locate(hit.video_id)
            if file is None:
                yield f"{hit.video_id}: its file is gone"
                continue
            with file.open() as source:
                try:
                    yield cut_video(source, folder / f"{stem}{suffix.lower()}", hit.start, hit.end)
                except ValueError as error:
                    yield str(error)


def export_table(hits: Sequence[tuple[str, Sequence[Hit]]], path: str | os.PathLike[str]) -> None:
    """Write moments to a CSV file, one row per moment.

    Args:
        hits: Each text and its hits.
        path: Path of the file.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for text, of_a_text in hits:
        for rank, hit in enumerate(of_a_text, start=1):
            score = "" if hit.score is None else f"{hit.score:.4f}"
            numbers = (f"{hit.start:.3f}", f"{hit.end:.3f}", f"{hit.second:.3f}", score)
            match = (" ".join(hit.found_in), _safe_cell(hit.spoken or ""))
            writer.writerow(
                [_safe_cell(text), rank, _safe_cell(hit.video_id), *numbers, *match, hit.window, _safe_cell(hit.index)]
            )
    write_whole(path, buffer.getvalue().encode("utf-8", "surrogateescape"))


def export_edit_list(hits: Sequence[tuple[str, Sequence[Hit]]], path: str | os.PathLike[str], title: str) -> None:
    """Write moments to an edit decision list (CMX 3600), one after another, at 25 frames per second.

    Args:
        hits: Each text and its hits.
        path: Path of the file.
        title: Title of the list.

    Raises:
        ValueError: If there are more than 999 moments, the maximum of the format.
    """
    edits = [(text, hit) for text, of_a_text in hits for hit in of_a_text]
    if len(edits) > 999:
        raise ValueError(f"{path}: an edit list numbers at most 999 moments, got {len(edits)}: write a .csv file")
    lines = [f"TITLE: {_one_line(title)}", "FCM: NON-DROP FRAME", ""]
    position = 0
    for number, (text, hit) in enumerate(edits, start=1):
        first, last = round(hit.start * EDL_FPS), max(round(hit.end * EDL_FPS), round(hit.start * EDL_FPS) + 1)
        codes = (first, last, position, position + last - first)
        lines += [
            f"{number:03}  AX       V     C        {' '.join(map(_time_code, codes))}",
            f"* FROM CLIP NAME: {_one_line(os.path.basename(hit.video_id))}",
            f"* SOURCE FILE: {_one_line(hit.video_id)}",
            f"* COMMENT: {_one_line(text)}",
            "",
        ]
        position += last - first
    write_whole(path, "\n".join(lines).encode("utf-8", "surrogateescape"))


def _safe_cell(text: str) -> str:
    """Escape the text of a cell that a spreadsheet would interpret as a formula."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def _time_code(frames: int) -> str:
    seconds, rest = divmod(frames, EDL_FPS)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}:{rest:02}"


def _one_line(text: str) -> str:
    return " ".join(text.split())
