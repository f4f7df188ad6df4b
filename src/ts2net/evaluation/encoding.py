"""Encode a whole split: every video and every text once, with any number of processes.

The processes share the work. The main process (rank 0) gathers the result in the order of the split, on the CPU in
float32. It uses a gloo group, which needs no GPU memory and lets a process wait for a slower one without a timeout.
"""

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.distributed as dist
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ..data.evaluation_videos import EvaluationRow, EvaluationVideos
from ..encoding.long_texts import LongTexts, split_texts
from ..encoding.texts import encode_texts
from ..modeling_ts2net import TS2NetModel
from ..parallel.distributed import Part, gather_dicts, gather_rows
from ..processing_ts2net import TS2NetProcessor
from ..videos.broken import BrokenVideo


@dataclass(frozen=True)
class EncodedSplit:
    """Embeddings of a split of `V` videos, including broken videos, and `Q` texts.

    Attributes:
        rows: Id, captions and group of each video, in the order of the split.
        text_embeds: Embeddings of the `P` pieces of the texts, in order; a text is one piece unless it was split.
            `(P, D)`, or with word-token interaction `(P, words, D)`, float32, not normalised.
        text_of_piece: `(P,)`: the index of each piece's text.
        video_of_text: `(Q,)`: the index of each text's video.
        video_embeds: `(V, T, D)`, float32, not normalised; zeros for a broken video.
        padding_mask: `(V, T)`: True for real frames; all False for a broken video.
        broken: The videos that can't be used, by index.
    """

    rows: list[EvaluationRow]
    text_embeds: torch.Tensor
    text_of_piece: torch.Tensor
    video_of_text: torch.Tensor
    video_embeds: torch.Tensor
    padding_mask: torch.Tensor
    broken: dict[int, BrokenVideo]

    def check(self) -> None:
        """Check that the split can be ranked.

        Raises:
            ValueError: If no video can be used, a video has no caption, or an embedding is not finite.
        """
        if len(self.broken) == len(self.rows):
            first = next(iter(self.broken.values()))
            raise ValueError(
                f"none of the {len(self.rows)} videos can be used, such as {first.video_id!r}: {first.reason}"
            )
        without_caption = [row.video_id for row in self.rows if not row.captions]
        if without_caption:
            raise ValueError(
                f"{len(without_caption)} of {len(self.rows)} videos have no caption, such as {without_caption[0]!r}"
            )
        _check_finite(self.video_embeds, "videos", [row.video_id for row in self.rows])
        captions = [caption for row in self.rows for caption in row.captions]
        _check_finite(self.text_embeds, "texts", [captions[text] for text in self.text_of_piece.tolist()])


def encode_split(
    model: TS2NetModel,
    processor: TS2NetProcessor,
    videos: EvaluationVideos,
    *,
    max_words: int,
    long_texts: LongTexts = "truncate",
    group: dist.ProcessGroup | None = None,
    num_videos: int | None = None,
    progress: bool = False,
) -> EncodedSplit | None:
    """Encode the videos and texts of a split.

    The model is in evaluation mode during the call. Autocast is not changed.

    Args:
        model: The model, unsharded on each process.
        processor: The model's processor.
        videos: This process's videos of the split.
        max_words: Number of tokens to which texts are truncated or padded.
        long_texts: Whether longer texts are truncated or split.
        group: From [`~ts2net.parallel.distributed.cpu_group`].
        num_videos: Number of videos of the split, for the progress bar; `None` if unknown.
        progress: Show a progress bar for this process's videos on standard error.

    Returns:
        The split on the main process, `None` on the other processes.

    Raises:
        ValueError: If the split has no rows.
    """
    video_parts: list[Part] = []
    text_parts: list[Part] = []
    with _evaluating(model), torch.inference_mode(), _progress_bar(progress, num_videos, group) as advance:
        for batch in videos.batches():
            mask = batch["padding_mask_videos"]
            pixels = batch["pixel_values_videos"].to(model.device)
            frames = model.get_video_features(pixels, mask.to(model.device)).frame_embeds  # (n, T, D)
            video_parts.append((batch["indices"], frames.float().cpu(), mask))
            advance(len(mask))

        pieces, text_of_piece = list(videos.texts), list(range(len(videos.texts)))
        if long_texts == "split":
            pieces, text_of_piece = split_texts(videos.texts, processor, max_words)
        rank, num_processes = (0, 1) if group is None else (group.rank(), group.size())
        numbers = torch.arange(rank, len(pieces), num_processes)
        if len(numbers):
            local_pieces = [pieces[number] for number in numbers.tolist()]
            text_parts.append((numbers, encode_texts(model, processor, local_pieces, max_words=max_words)))

    rows = videos.rows
    gathered_videos = gather_rows(video_parts, len(rows), group)
    gathered_texts = gather_rows(text_parts, len(pieces), group)
    broken = gather_dicts(videos.broken, group)
    if rank:
        return None
    video_embeds, padding_mask = gathered_videos or (torch.empty(0, 0, 0), torch.empty(0, 0, dtype=torch.bool))
    (text_embeds,) = gathered_texts or (torch.empty(0, 0),)
    return EncodedSplit(
        rows,
        text_embeds,
        torch.tensor(text_of_piece, dtype=torch.int64),
        videos.video_of_text,
        video_embeds,
        padding_mask,
        broken,
    )


@contextlib.contextmanager
def _evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Set evaluation mode and restore the mode of each module afterwards, because modules may differ in mode."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


@contextlib.contextmanager
def _progress_bar(
    shown: bool, num_videos: int | None, group: dist.ProcessGroup | None
) -> Iterator[Callable[[int], None]]:
    """Show a progress bar for the videos of the main process. Yields the function that advances the bar."""
    console = Console(stderr=True)
    rank, num_processes = (0, 1) if group is None else (group.rank(), group.size())
    columns = [TextColumn("encoding videos"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()]
    disable = not shown or rank > 0 or not console.is_terminal
    # No refresh thread, because forked workers would inherit a lock that the thread holds.
    with Progress(*columns, console=console, transient=True, disable=disable, auto_refresh=False) as bar:
        num_local_videos = None if num_videos is None else math.ceil(num_videos / num_processes)
        task = bar.add_task("", total=num_local_videos)
        yield lambda count: bar.update(task, advance=count, refresh=True)


def _check_finite(embeds: torch.Tensor, what: str, names: list[str]) -> None:
    wrong = (~torch.isfinite(embeds.flatten(1)).all(dim=1)).nonzero()
    if len(wrong):
        raise ValueError(
            f"the model gives {len(wrong)} of {len(names)} {what} an embedding that is not finite, such as "
            f"{names[int(wrong[0])]!r}: try another dtype"
        )
