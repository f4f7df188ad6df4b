"""A whole split as embeddings: every video decoded and encoded once, every text once, by any number of processes.

Notable here:
- Processes share the work and the main one (rank 0) gets all of it, in the order of the split, on the CPU in float32.
- What they exchange goes over a gloo group of its own, whatever the backend of the run: nothing needs room on a GPU,
  and a process may wait for a slower one as long as it takes.
"""

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from operator import itemgetter
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ..data.evaluation_videos import EvaluationRow, EvaluationVideos
from ..errors import one_line
from ..modeling_ts2net import TS2NetModel
from ..processing_ts2net import TS2NetProcessor
from ..videos.broken import BrokenVideo

_TEXTS_A_BATCH = 256
_PATIENCE = timedelta(days=7)  # a process that dies closes its connections, which the others see at once

Part = tuple[torch.Tensor, ...]
T = TypeVar("T")


class MainProcessError(RuntimeError):
    """The main process had to stop, and says why itself."""


@dataclass(frozen=True)
class EncodedSplit:
    """The embeddings of a split of `V` videos, broken ones included, and `Q` texts.

    Attributes:
        rows: Id, captions and group of each video, in the order of the split.
        text_embeds: `(Q, D)`, float32, not normalised.
        text_places: `(Q,)`: the place of each text's video.
        video_embeds: `(V, T, D)`, float32, not normalised; zeros for a broken video.
        padding_mask: `(V, T)`: True for real frames, so nowhere for a broken video.
        broken: The videos that can't be used by their places, and why.
    """

    rows: list[EvaluationRow]
    text_embeds: torch.Tensor
    text_places: torch.Tensor
    video_embeds: torch.Tensor
    padding_mask: torch.Tensor
    broken: dict[int, BrokenVideo]

    def check(self) -> None:
        """Check that it can be ranked.

        Raises:
            ValueError: If no video can be used, one has no caption, or an embedding is not finite.
        """
        if len(self.broken) == len(self.rows):
            first = next(iter(self.broken.values()))
            raise ValueError(
                f"none of the {len(self.rows)} videos can be used; {first.video_id!r}, for one: {first.reason}"
            )
        mute = [row.video_id for row in self.rows if not row.captions]
        if mute:
            raise ValueError(f"{len(mute)} of {len(self.rows)} videos have no caption, {mute[0]!r} for one")
        _check_finite(self.video_embeds, "videos", [row.video_id for row in self.rows])
        _check_finite(self.text_embeds, "texts", [caption for row in self.rows for caption in row.captions])


@contextlib.contextmanager
def process_group() -> Iterator[dist.ProcessGroup | None]:
    """What all processes of the run exchange tensors on the CPU over; `None` where there is only one process.

    Every process has to enter it.
    """
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        yield None
        return
    group = dist.new_group(backend="gloo", timeout=_PATIENCE)
    try:
        yield group
    finally:
        dist.destroy_process_group(group)


def encode_split(
    model: TS2NetModel,
    processor: TS2NetProcessor,
    videos: EvaluationVideos,
    *,
    max_words: int,
    group: dist.ProcessGroup | None = None,
    num_videos: int | None = None,
    progress: bool = False,
) -> EncodedSplit | None:
    """Encode the videos and texts of a split.

    The model is in evaluation mode meanwhile. Autocast is left to the caller.

    Args:
        model: The model, whole on each process.
        processor: Its processor.
        videos: This process's videos of the split.
        max_words: Tokens that texts are cut or padded to.
        group: From [`process_group`].
        num_videos: How many videos the split has, if it is known, for the time left in the progress bar.
        progress: Show a bar for this process's videos on standard error.

    Returns:
        The split on the main process, `None` on the others.

    Raises:
        ValueError: If the split has no rows.
    """
    video_parts: list[Part] = []
    text_parts: list[Part] = []
    with _evaluating(model), torch.inference_mode(), _progress_bar(progress, num_videos, group) as advance:
        for batch in videos.batches():
            mask = batch["padding_mask_videos"]
            pixels = batch["pixel_values_videos"].to(model.device)
            frames = model.get_video_features(pixels, mask.to(model.device)).pooler_output  # (n, T, D)
            video_parts.append((batch["places"], frames.float().cpu(), mask))
            advance(len(mask))

        texts = videos.texts
        rank, num_processes = (0, 1) if group is None else (group.rank(), group.size())
        for numbers in torch.arange(rank, len(texts), num_processes).split(_TEXTS_A_BATCH):
            tokens = processor.tokenizer(
                [texts[number] for number in numbers.tolist()],
                padding="max_length",
                truncation=True,
                max_length=max_words,
                return_tensors="pt",
            ).to(model.device)
            embeds = model.get_text_features(tokens["input_ids"], tokens["attention_mask"]).pooler_output  # (n, D)
            text_parts.append((numbers, embeds.float().cpu()))

    rows = videos.rows
    gathered_videos = _gather_rows(video_parts, len(rows), group)
    gathered_texts = _gather_rows(text_parts, len(texts), group)
    broken = _gather_dicts(videos.broken, group)
    if rank:
        return None
    video_embeds, padding_mask = gathered_videos or (torch.empty(0, 0, 0), torch.empty(0, 0, dtype=torch.bool))
    (text_embeds,) = gathered_texts or (torch.empty(0, 0),)
    return EncodedSplit(rows, text_embeds, videos.text_places, video_embeds, padding_mask, broken)


@contextlib.contextmanager
def _evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode, and afterwards for each module the mode that it was in: some may be frozen in training."""
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
    """A bar for the videos of the main process; gives what counts them."""
    console = Console(stderr=True)
    rank, num_processes = (0, 1) if group is None else (group.rank(), group.size())
    columns = [TextColumn("encoding videos"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()]
    disable = not shown or rank > 0 or not console.is_terminal
    # No thread to redraw it: the workers that decode are forked, and a lock that a thread holds would stay held.
    with Progress(*columns, console=console, transient=True, disable=disable, auto_refresh=False) as bar:
        own = None if num_videos is None else math.ceil(num_videos / num_processes)
        task = bar.add_task("", total=own)
        yield lambda count: bar.update(task, advance=count, refresh=True)


def _gather_rows(parts: list[Part], num_rows: int, group: dist.ProcessGroup | None) -> list[torch.Tensor]:
    """Join parts of tensors, each with the numbers of its rows before it, on the main process.

    Rows that no part has are zero. Empty on the other processes, and where no process has a part.
    """
    joined: list[torch.Tensor] = []
    for numbers, *tensors in _gather_parts(parts, group):
        joined = joined or [tensor.new_zeros(num_rows, *tensor.shape[1:]) for tensor in tensors]
        for whole, tensor in zip(joined, tensors, strict=True):
            whole[numbers] = tensor
    return joined


def _gather_parts(parts: list[Part], group: dist.ProcessGroup | None) -> Iterator[Part]:
    """On the main process its own parts and then those of the others, one at a time; on the others nothing."""
    if group is None:
        yield from parts
        return
    # Point to point, for a collective would want parts of one size.
    shapes = _gather_objects([[(tensor.shape, tensor.dtype) for tensor in part] for part in parts], group)
    if group.rank():
        for part in parts:
            for tensor in part:
                dist.send(tensor.contiguous(), dst=0, group=group)
        return
    yield from parts
    for source in range(1, group.size()):
        for shapes_of_part in shapes[source]:
            received = tuple(torch.empty(shape, dtype=dtype) for shape, dtype in shapes_of_part)
            for tensor in received:
                dist.recv(tensor, src=source, group=group)
            yield received


def _gather_objects(own: object, group: dist.ProcessGroup) -> list[Any]:
    """What each process has, on the main one; nothing on the others."""
    everyones = [None] * group.size() if group.rank() == 0 else None
    dist.gather_object(own, everyones, dst=0, group=group)
    return everyones or []


def _gather_dicts(own: dict[int, T], group: dist.ProcessGroup | None) -> dict[int, T]:
    """The entries of all processes in the order of their keys, on the main one."""
    everyones = [own] if group is None else _gather_objects(own, group)
    return dict(sorted((item for entries in everyones for item in entries.items()), key=itemgetter(0)))


def _check_finite(embeds: torch.Tensor, what: str, names: list[str]) -> None:
    wrong = (~torch.isfinite(embeds.flatten(1)).all(dim=1)).nonzero()
    if len(wrong):
        raise ValueError(
            f"the model gives {len(wrong)} of {len(names)} {what} an embedding that is not finite, "
            f"{names[int(wrong[0])]!r} for one: try another dtype"
        )


def on_main_process(work: Callable[[], T], group: dist.ProcessGroup | None) -> T:
    """Do something on the main process alone, and give its result to all.

    Raises:
        MainProcessError: On the other processes, if it fails; on the main one, the error itself.
    """
    if group is None:
        return work()
    result, failure = None, None
    if group.rank() == 0:
        try:
            result = work()
        except Exception as error:
            failure = error
    outcome = [result, None if failure is None else one_line(failure)]
    dist.broadcast_object_list(outcome, src=0, group=group)
    if failure is not None:
        raise failure
    if outcome[1] is not None:
        raise MainProcessError(f"the main process had to stop: {outcome[1]}")
    return cast(T, outcome[0])
