"""Global training steps, read by any number of processes, in a form for comparisons."""

from typing import Any

from support.streamed_data import row, stream
from support.tiny_models import tiny_processor
from ts2net.data.training_batches import TrainingBatches
from ts2net.videos.broken import BrokenVideo

SETTINGS = {"batch_size": 8, "num_frames": 3, "max_words": 12, "seed": 5, "shuffle_buffer": 12}
NO_VIDEO = {"bytes": b"no video", "path": None}
# One global step: the contents of its samples, from all processes.
Step = set[tuple]


def eight_shards(broken: tuple[int, ...] = ()) -> Any:
    """Create 24 videos with 1 to 3 captions each, in shards of 2 to 4 videos."""
    sizes = [2, 3, 4, 3, 2, 4, 3, 3]
    rows = iter([row(n, 1 + n % 3, **({"video": NO_VIDEO} if n in broken else {})) for n in range(sum(sizes))])
    return stream([[next(rows) for _ in range(size)] for size in sizes])


def read(
    num_steps: int, *, num_processes: int = 1, dataset: Any = None, **settings: Any
) -> tuple[list[Step], dict[str, list[int]], list[BrokenVideo]]:
    """Read the next global steps. Returns them, the merged positions after them, and the broken videos."""
    steps: list[Step] = [set() for _ in range(num_steps)]
    positions: dict[str, list[int]] = {}
    broken = []
    for process in range(num_processes):
        share = {"process_index": process, "num_processes": num_processes}
        reader = TrainingBatches(
            eight_shards() if dataset is None else dataset, tiny_processor(), **SETTINGS | settings | share
        )
        for step, batch in zip(steps, reader.batches(num_steps), strict=True):
            step |= set(samples(batch))
            broken += batch["broken"]
        positions |= reader.positions
    return steps, positions, broken


def samples(batch: dict[str, Any]) -> list[tuple]:
    """Return every sample of a batch with all its data, in a form for comparisons."""
    tensors = (
        "input_ids",
        "attention_mask",
        "pixel_values_videos",
        "padding_mask_videos",
        "selection_seeds",
        "video_keys",
    )
    return [
        (video_id, *(batch[name][index].numpy().tobytes() for name in tensors))
        for index, video_id in enumerate(batch["video_ids"])
    ]


def video_ids(step: Step) -> list[str]:
    return sorted(sample[0] for sample in step)
