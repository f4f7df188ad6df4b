"""The last step of the demo, for an existing model and existing videos."""

from pathlib import Path

from rich.console import Console

from ..errors import report_error
from ..hub.loading import check_model_source
from ..tables import score_matrix
from .new_process import score_in_new_process


def score_own_videos(console: Console, out: Path, model: str, videos: list[str], texts: list[str]) -> bool:
    """Score texts against videos in a process that does not import ts2net, and print the table.

    Args:
        console: Console for the output.
        out: Folder for the process's copy of the model's code.
        model: A folder or repository of a TS2-Net with its code.
        videos: Paths or addresses.
        texts: Sentences.

    Returns:
        Whether every video could be scored.

    Raises:
        NotADirectoryError: If `out` is a file.
        ValueError: If the model cannot be loaded with its own code.
        RuntimeError: If the scoring process dies.
    """
    check_model_source(model)
    answer = score_in_new_process(model, texts, videos, modules=out / "cache")
    console.print(f"loaded {model} in a process of its own, as {answer.model_class}", style="dim")
    errors = [row for row in answer.rows if isinstance(row, str)]
    for error in errors:
        report_error(error)
    scored = [(video, row) for video, row in zip(videos, answer.rows, strict=True) if not isinstance(row, str)]
    if scored:
        scores = [[row[index] for _, row in scored] for index in range(len(texts))]  # one row a text
        console.print(score_matrix(console, texts, [video for video, _ in scored], scores))
    return not errors
