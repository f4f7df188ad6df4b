"""The whole way once, with no network: clips, shards, a CLIP, training, recalls, a Hub folder, answers, a page.

Notable here: the answers come from a second process that loads the folder as a stranger would, with the code beside
the weights (`score_folder.py`). If the folder lacked anything, the demo would fail. Every step leaves its result in
the demo's folder and is not done again, so a demo that was stopped goes on where it was.
"""

import os
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from ..data.loading import load_benchmark
from ..data.prepare import prepare
from ..files import write_whole
from ..hub import save_hub_folder
from ..parallel.pool import available_cores
from ..tables import rankings
from .answers import Clip, find_clips
from .bar import TrainingBar
from .checkpoint import make_clip_checkpoint, start_from_clip
from .new_process import score_in_new_process
from .page import render_demo_page
from .pretraining import train_on_photos
from .record import Record
from .training import make_trainer

_TOP_K = 3
_SUMMARY = "A small TS2-Net, trained on this computer a moment ago, searches clips that it has never seen."
_OWN_WORDS = ("a red circle moves left", "a blue square grows", "a triangle turns")


def run_demo(
    console: Console,
    out: Path,
    texts: Sequence[str] | None = None,
    *,
    training_clips: int = 2000,
    test_clips: int = 200,
    photos: int = 10_000,
    photo_steps: int = 450,
    workers: int | None = None,
    **training: Any,
) -> Path:
    """Train a small model on motion shapes, and search clips with it that it has never seen.

    Args:
        console: Where to print.
        out: Folder for what is made: `data` (shards), `clips` (the test clips), `new-clip` and `clip` (a CLIP,
            before and after its training), `start`, `training` and `model` (a TS2-Net before, in and after its
            training), and the page, `index.html`.
        texts: Queries; a few captions and a few other sentences if not given.
        training_clips: How many clips to train on.
        test_clips: How many clips to search.
        photos: How many photos to train the CLIP on.
        photo_steps: In how many steps.
        workers: Processes that render; one a core if not given, 0 is only this one.
        training: Options of `python -m ts2net.training` that differ from the recipe's.

    Returns:
        The page.

    Raises:
        NotADirectoryError: If `out` is a file.
        ValueError: If `out` holds a demo that was made with other settings.
        RuntimeError: If the process that scores dies.
    """
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(f"{out} is a file; expected a folder for what the demo makes")
    out.mkdir(parents=True, exist_ok=True)
    sizes = {"training_clips": training_clips, "test_clips": test_clips, "photos": photos, "photo_steps": photo_steps}
    record = Record(out, sizes | {"training": training})

    data, model = out / "data", out / "model"
    if not record.figures:
        with record.timed("rendering"):
            for split, count in (("train", training_clips), ("test", test_clips)):
                prepare("motion_shapes", data, splits=[split], num_clips=count, workers=workers, console=console)
        _say(console, f"{training_clips} clips to train on and {test_clips} to search are in {data}")
        if not (out / "clip").exists():
            with record.timed("training the CLIP"):
                _make_clip(console, out, photos, photo_steps, available_cores() if workers is None else workers)
        _say(console, f"a CLIP that was trained on {photos} photos of shapes is in {out / 'clip'}")
        with _one_thread():
            _train(console, out, record, training)
    _say(console, f"a TS2-Net is in {model}, with its code and its card")
    for name, figures in _figures(record):
        console.print(f"{name} among {test_clips} clips: {figures}", soft_wrap=True)

    clips = _unpack(data, out / "clips")
    texts = list(texts or [*(clip.caption for clip in clips[: len(_OWN_WORDS)]), *_OWN_WORDS])
    answer = score_in_new_process(
        str(model), texts, [str(clip.path) for clip in clips], modules=out / "cache", offline=True
    )
    _say(console, f"a process that knows nothing of ts2net loaded it as {answer.model_class}")
    scores = answer.one_row_a_text()
    console.print(rankings(texts, [f"{clip.name}: {clip.caption}" for clip in clips], scores, top_k=_TOP_K))

    facts = _facts(record, photos, training_clips, test_clips, answer.model_class)
    queries = find_clips(model, clips, texts, scores, _TOP_K)
    page = out / "index.html"
    write_whole(page, render_demo_page("Clips found by a TS2-Net", _SUMMARY, facts, queries, len(clips)))
    console.print(f"where the model looked, and the clips playing:\n  {page.resolve().as_uri()}", soft_wrap=True)
    console.print(f"next, try:\n  {_next_command(out)}", soft_wrap=True)
    return page


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute with one thread: operations this small cost more to share than to do, and the others decode."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _say(console: Console, what: str) -> None:
    console.print(what, style="dim", soft_wrap=True)


def _unpack(data: Path, folder: Path) -> list[Clip]:
    """Write the test clips to files of their own, to be looked at and to be named on a command line."""
    folder.mkdir(exist_ok=True)
    clips = []
    for row in load_benchmark("motion_shapes", data, "test"):
        path = folder / f"{row['id']}.mp4"
        path.write_bytes(row["video"]["bytes"])
        clips.append(Clip(row["id"], path, row["captions"][0]))
    return sorted(clips, key=lambda clip: clip.name)


def _make_clip(console: Console, out: Path, num_photos: int, steps: int, workers: int) -> None:
    """Make `out/clip`."""
    train = load_benchmark("motion_shapes", out / "data", "train")
    make_clip_checkpoint(out / "new-clip", (caption for row in train for caption in row["captions"]))
    train_on_photos(out / "new-clip", out / "clip", console, num_photos=num_photos, steps=steps, workers=workers)


def _train(console: Console, out: Path, record: Record, changes: dict[str, Any]) -> None:
    """Make `out/model`, or go on from the last checkpoint of a run that was to make it."""
    start, data = out / "start", out / "data"
    save_hub_folder(*start_from_clip(out / "clip"), start)
    trainer = make_trainer(start, data, out / "training", changes)
    with record.timed("training the TS2-Net"), TrainingBar(console, "a TS2-Net") as bar:
        trainer.add_callback(bar)
        trainer.train(resume_from_checkpoint="auto")
    with record.timed("evaluation"):
        figures = trainer.evaluate(load_benchmark("motion_shapes", data, "test"))
    trainer.save_model(str(out / "model"))
    record.keep_figures(figures)


def _figures(record: Record) -> list[tuple[str, str]]:
    rows = []
    for direction in ("text-to-video", "video-to-text"):
        name = f"eval_{direction.replace('-', '_')}"
        rows.append((direction, " · ".join(f"R@{k} {record.figures[f'{name}_R@{k}']:.1f} %" for k in (1, 5, 10))))
    return rows


def _facts(
    record: Record, photos: int, training_clips: int, test_clips: int, model_class: str
) -> list[tuple[str, str]]:
    cores = available_cores()
    took = ", ".join(f"{step} {seconds:.0f} s" for step, seconds in record.seconds.items())
    return [
        ("trained on", f"{photos:,} photos and {training_clips:,} clips of motion shapes; from random weights"),
        ("it took", f"{took}; on {cores} core{'s' * (cores > 1)}"),
        ("searched", f"{test_clips} clips that it had never seen; by guessing, R@1 is {100 / test_clips:.1f} %"),
        *_figures(record),
        ("loaded as", f"{model_class}, in a process that knows nothing of ts2net"),
    ]


def _next_command(out: Path) -> str:
    # `make demo` runs in an environment of its own, whose programs a shell does not find by name.
    program = "ts2net" if shutil.which("ts2net") else os.path.relpath(Path(sys.executable).with_name("ts2net"))
    given = [] if out == Path("demo") else ["--out", str(out)]
    return shlex.join([program, "demo", *given, "--text", "a white circle moves up", "a purple cross turns"])
