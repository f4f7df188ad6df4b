"""All steps of the demo, offline: clips, shards, training, evaluation, model folder, index, scores and a page.

The training starts from the small CLIP that comes with the package. The scores come from a second process that loads
the model folder as any user would, with the code beside the weights (`score_folder.py`), so an incomplete folder makes
the demo fail. The data, the model and the index are stored in the demo's folder and are not made again, so an
interrupted demo continues where it was stopped.
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

from ..benchmarks.moving_things import GROUP_SIZE
from ..data.loading import load_benchmark
from ..data.prepare import prepare
from ..files import write_whole
from ..parallel.pool import available_cores
from ..search.indexing import index_videos
from ..tables import rankings
from .answers import Share, answer, draw_captions, found_first, groups, look_at, share_on_things
from .bar import TrainingBar
from .clips import unpack
from .new_process import score_in_new_process
from .page import Findings, render_demo_page
from .phrases import phrases
from .record import Record
from .training import make_trainer

_TOP_K = 3
_SUGGESTIONS = 4
_CAPTIONS_SHOWN, _GROUPS_SHOWN, _SMALL_THINGS_SHOWN = 20, 3, 4


def run_demo(
    console: Console,
    out: Path,
    texts: Sequence[str] | None = None,
    *,
    training_clips: int = 6000,
    test_clips: int = 200,
    group_clips: int = 200,
    workers: int | None = None,
    **training: Any,
) -> Path:
    """Train a small model on moving things, and search unseen clips with it.

    Args:
        console: Console for the output.
        out: Output folder for `data` (shards), `clips`, `motion` and `small_object` (clips to search), `training`
            (checkpoints), `model` (the trained TS2-Net), `index`, and the page, `index.html`.
        texts: Queries to print results for; by default the captions of the first clips.
        training_clips: Number of clips to train on.
        test_clips: Number of clips to search.
        group_clips: Number of clips in groups of four that differ only in their motion, and the same number of clips
            in groups that differ only in a small thing.
        workers: Number of rendering processes; `None` starts one per core, 0 uses only this process.
        training: Options of `python -m ts2net.training` that differ from the recipe's.

    Returns:
        The path of the page.

    Raises:
        NotADirectoryError: If `out` is a file.
        ValueError: If `out` holds a demo that was made with other settings.
        RuntimeError: If the scoring process dies.
    """
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(f"{out} is a file; expected a folder for what the demo makes")
    out.mkdir(parents=True, exist_ok=True)
    counts = {"train": training_clips, "test": test_clips, "motion": group_clips, "small_object": group_clips}
    record = Record(out, counts | {"training": training})

    data, model = out / "data", out / "model"
    if not record.figures:
        with record.timed("rendering"):
            for split, count in counts.items():
                prepare("moving_things", data, splits=[split], num_clips=count, workers=workers, console=console)
        _say(console, f"{training_clips} clips to train on and {test_clips} to search are in {data}")
        with _one_thread():
            _train(console, out, record, training)
    clips = unpack(data, "test", out / "clips", test_clips)
    motion = unpack(data, "motion", out / "motion", group_clips)
    small = unpack(data, "small_object", out / "small_object", group_clips)
    if "selected_on_things" not in record.figures:
        share = share_on_things(model, small)
        record.keep_figures(record.figures | {"selected_on_things": share.selected, "things_of_all": share.all})
    with record.timed("indexing"):
        index_videos([out / "clips"], str(model), out / "index", workers=0, console=console)
    _say(console, f"a TS2-Net is in {model}, with its code and its card; an index of the clips is in {out / 'index'}")
    for name, figures in _figures(record, test_clips):
        console.print(f"{name}: {figures}", soft_wrap=True)

    shown_motion = groups(motion, _GROUPS_SHOWN)
    shown_small = groups(small, _SMALL_THINGS_SHOWN)
    grouped = [clip for group in (*shown_motion, *shown_small) for clip in group]
    search_phrases = phrases([clip.scene for clip in clips], texts or ())
    every_text = list(dict.fromkeys([*search_phrases, *(clip.scene.caption for clip in grouped)]))
    scored = [*clips, *grouped]
    answers = score_in_new_process(
        str(model), every_text, [str(clip.path) for clip in scored], modules=out / "cache", offline=True
    )
    _say(console, f"a process without ts2net loaded it as {answers.model_class}")
    ids = [clip.scene.video_id for clip in scored]
    rows = answers.one_row_a_text()
    scores = {text: dict(zip(ids, row, strict=True)) for text, row in zip(every_text, rows, strict=True)}
    printed = list(texts or [clip.scene.caption for clip in clips[:_TOP_K]])
    names = [f"{clip.scene.video_id}: {clip.scene.caption}" for clip in clips]
    console.print(
        rankings(printed, names, [list(scores[text].values())[: len(clips)] for text in printed], top_k=_TOP_K)
    )

    first = found_first(clips, scores)
    suggestions = list(dict.fromkeys([*(texts or ()), *(first or search_phrases)]))[:_SUGGESTIONS]
    page = out / "index.html"
    findings = Findings(
        clips=clips,
        phrases=search_phrases,
        suggestions=suggestions,
        found_first=len(first),
        scores=scores,
        captions=draw_captions(clips, scores, _CAPTIONS_SHOWN),
        motions=[[answer(clip.scene, group, scores) for clip in group] for group in shown_motion],
        small_things=look_at(model, shown_small, scores),
        share=Share(record.figures["selected_on_things"], record.figures["things_of_all"]),
        facts=_facts(record, training_clips, test_clips, answers.model_class),
        search_command=shlex.join([_program(), "search", str(out / "index")]),
        next_commands=_next_commands(out, suggestions[0]),
    )
    write_whole(page, render_demo_page(findings))
    console.print(f"the clips playing, and where the model looked:\n  {page.resolve().as_uri()}", soft_wrap=True)
    console.print("next, try:", *(f"  {command}" for _, command in findings.next_commands), sep="\n", soft_wrap=True)
    return page


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute in one thread: small operations are slower in several threads, and the other cores decode videos."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _say(console: Console, what: str) -> None:
    console.print(what, style="dim", soft_wrap=True)


def _train(console: Console, out: Path, record: Record, changes: dict[str, Any]) -> None:
    """Train and evaluate `out/model`, starting from the last checkpoint of an interrupted run if there is one."""
    data, cache = out / "data", out / "trunk-cache"
    trainer = make_trainer(data, out / "training", {"trunk_cache": cache} | changes)
    with record.timed("training"), TrainingBar(console, "a TS2-Net") as bar:
        trainer.add_callback(bar)
        trainer.train(resume_from_checkpoint="auto")
    with record.timed("evaluation"):
        figures: dict[str, float] = {}
        for split in ("motion", "small_object", "test"):  # the model card reports the last evaluation
            prefix = "eval" if split == "test" else split
            figures |= trainer.evaluate(load_benchmark("moving_things", data, split), metric_key_prefix=prefix)
    trainer.save_model(str(out / "model"))
    record.keep_figures(figures)
    shutil.rmtree(cache, ignore_errors=True)  # hundreds of megabytes, not needed after training


def _figures(record: Record, test_clips: int) -> list[tuple[str, str]]:
    rows = []
    for direction in ("text-to-video", "video-to-text"):
        name = f"eval_{direction.replace('-', '_')}"
        recalls = " · ".join(f"R@{k} {record.figures[f'{name}_R@{k}']:.1f} %" for k in (1, 5, 10))
        rows.append((f"{direction} among {test_clips} clips", recalls))
    guess = f"by guessing {100 / GROUP_SIZE:.0f} %"
    for split, alone in (("motion", "their motion"), ("small_object", "a small thing")):
        name = f"among {GROUP_SIZE} that differ in {alone} alone"
        rows.append((name, f"R@1 {record.figures[f'{split}_text_to_video_group_R@1']:.1f} %, {guess}"))
    selected, every = record.figures["selected_on_things"], record.figures["things_of_all"]
    rows.append(("selected patches that show a thing", f"{selected:.1f} %, of all patches {every:.1f} %"))
    return rows


def _facts(record: Record, training_clips: int, test_clips: int, model_class: str) -> list[tuple[str, str]]:
    cores = available_cores()
    took = ", ".join(f"{step} {seconds:.0f} s" for step, seconds in record.seconds.items())
    return [
        *_figures(record, test_clips),
        ("trained on", f"{training_clips:,} clips of moving things, from the small CLIP that comes with ts2net"),
        ("it took", f"{took}; on {cores} core{'s' * (cores > 1)}"),
        ("loaded as", f"{model_class}, in a process without ts2net"),
    ]


def _program() -> str:
    # `make demo` runs in its own environment, whose programs are not on the shell's path.
    return "ts2net" if shutil.which("ts2net") else os.path.relpath(Path(sys.executable).with_name("ts2net"))


def _next_commands(out: Path, text: str) -> list[tuple[str, str]]:
    program, index = _program(), str(out / "index")
    clip = "openai/clip-vit-base-patch32"
    commands = [
        ("search these clips", [program, "search", index, text]),
        ("the same on a web page", [program, "app", index]),
        (
            "search your own videos, with any CLIP",
            [program, "index", "my-videos", "--model", clip, "--out", "my-index"],
        ),
    ]
    return [(what, shlex.join(command)) for what, command in commands]
