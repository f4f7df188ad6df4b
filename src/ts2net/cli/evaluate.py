"""`ts2net evaluate`: evaluate a model on a benchmark."""

import contextlib
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .. import __version__
from ..benchmarks import BENCHMARKS, Benchmark
from ..errors import one_line
from ..files import write_whole
from .app import app, hush_loading
from .options import (
    BatchSize,
    Device,
    OptionalRuntime,
    Precision,
    Revision,
    WeightType,
    check_output,
    named_values,
)

if TYPE_CHECKING:
    from accelerate import PartialState

    from ..configuration_ts2net import TS2NetConfig
    from ..data.manifest import Manifest
    from ..evaluation.retrieval import RetrievalResult
    from ..hub import Evaluation
    from ..processing_ts2net import TS2NetProcessor

_DIRECTIONS = ("text-to-video", "video-to-text")
_FIGURES = ("R@1", "R@5", "R@10", "R@50", "MdR", "MnR")
_MOST_LISTED = 10
_DATA_SETTINGS = {
    "folder": ("captions", "follow_links", "skip_empty_captions"),
    "dataset": (
        *("config", "video_column", "caption_column", "id_column", "start_column", "end_column"),
        "skip_empty_captions",
    ),
}
_SWITCHES = {"true": True, "false": False}


@app.command()
def evaluate(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="A TS2-Net or a CLIP: its folder, or a repository on the Hub.", show_default=False
        ),
    ],
    benchmark: Annotated[
        str,
        typer.Argument(
            metavar="BENCHMARK",
            help=f"{', '.join(BENCHMARKS)}; or folder or dataset for your own data.",
            show_default=False,
        ),
    ],
    path: Annotated[
        str,
        typer.Argument(
            metavar="PATH",
            help="A folder or dataset repository that ts2net prepare wrote, or your own data.",
            show_default=False,
        ),
    ],
    split: Annotated[
        str | None, typer.Option(help="Name of the split.", show_default="the one that is reported")
    ] = None,
    batch_size: BatchSize = 16,
    workers: Annotated[int, typer.Option(min=0, help="Processes that decode, for each process that encodes.")] = 2,
    num_frames: Annotated[
        int | None, typer.Option(min=1, help="Maximum number of frames of a video.", show_default="the model's own")
    ] = None,
    max_words: Annotated[
        int | None,
        typer.Option(
            min=2,
            help="Maximum number of tokens of a text.",
            show_default="those of its training, or else the benchmark's",
        ),
    ] = None,
    long_texts: Annotated[
        Literal["truncate", "split"],
        typer.Option(help="A text of more tokens is cut off, or split into sentences whose scores are averaged."),
    ] = "truncate",
    clock: Annotated[
        Literal["seconds", "released"] | None,
        typer.Option(
            help="How seconds of a video are counted: as players do, or as the released code does.",
            show_default="that of its training, or else the benchmark's",
        ),
    ] = None,
    leave_out_missing: Annotated[
        bool,
        typer.Option(
            "--leave-out-missing",
            help="Leave out videos that are missing or broken, as the released loaders do, instead of counting their "
            "queries as missed.",
        ),
    ] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Also write the results to this file.")
    ] = None,
    update_card: Annotated[
        bool,
        typer.Option(
            "--update-card", help="Also write the figures into the model's card, in its folder or on the Hub."
        ),
    ] = False,
    data: Annotated[
        list[str] | None,
        typer.Option("--data", metavar="NAME=VALUE", help="A setting of your own data, see above; may be repeated."),
    ] = None,
    device: Device = None,
    dtype: WeightType = "auto",
    runtime: OptionalRuntime = None,
    precision: Precision = None,
    revision: Revision = None,
) -> None:
    """Search a benchmark's videos with its captions, and its captions with its videos.

    Gives recalls and ranks in both directions, plain and with the dual softmax. Every video is decoded and encoded
    once, and processes share the work: the figures are the same for any number of them. A video that is missing or
    cannot be used is reported, its queries count as missed, also if it was so when the data was prepared, and the exit
    code is 0 as long as one video can be used. Scores of more than 1 GiB are kept in a temporary file: where /tmp is
    in memory, let TMPDIR name a folder on a disk.

    **Examples**

        ts2net evaluate me/my-ts2net msrvtt data/msrvtt --json msrvtt.json

        ts2net evaluate my-ts2net folder clips --split test --data captions=test.csv

        ts2net evaluate my-ts2net dataset me/clips --split test --data video_column=clip --data caption_column=text

        accelerate launch -m ts2net evaluate my-ts2net didemo me/didemo --update-card

    **Your own data**

    For a *folder* of videos, `--data captions=FILE` names the file with their captions, and `follow_links=true`
    follows links out of it. For any *dataset* on the Hub or on disk there are `config`, `video_column`,
    `caption_column`, `id_column`, `start_column` and `end_column`. For both, `skip_empty_captions=true` leaves out
    empty captions.

    **JSON**

        {
          "model": str, "benchmark": str, "path": str, "split": str, "num_frames": int, "max_words": int,
          "long_texts": "truncate" | "split", "clock": str,
          "num_texts": int, "num_videos": int, "num_missing": int, "num_left_out": int, "num_groups": int,
          "metrics": {"text-to-video R@1": float, ...}, "dual_softmax": {"text-to-video R@1": float, ...},
          "broken": [{"video_id": str, "reason": str}]
        }
    """
    user_data = _parse_data(benchmark, data)
    if json_file is not None:
        check_output("--json", json_file, "a file for the results")
    spec = BENCHMARKS.get(benchmark)
    with contextlib.redirect_stdout(sys.stderr):  # output of libraries must not mix with the results
        import accelerate  # noqa: F401  else a missing library is noticed only after the model is loaded

        from ..data.loading import NAMES, load_benchmark, read_manifest
        from ..encoding.runtimes import load_on_runtime
        from ..evaluation.retrieval import evaluate_retrieval
        from ..parallel.distributed import MainProcessError
        from ..parallel.failing import fail_in_silence

        if benchmark not in NAMES:
            raise typer.BadParameter(f"there is no {benchmark!r}, only {', '.join(NAMES)}", param_hint="BENCHMARK")
        split = split or (spec.evaluation_split if spec else "test")
        hush_loading()
        manifest = None if benchmark == "dataset" else read_manifest(path, split)
        # An unprepared folder is not streamed, because its rows are paths, so loading copies no videos.
        streaming = manifest is not None or benchmark != "folder"
        dataset = load_benchmark(benchmark, path, split, streaming, with_missing=True, **user_data)
        with _processes(device) as state:
            device = str(state.device) if state.num_processes > 1 else device
            loaded, processor = load_on_runtime(
                model, runtime=runtime, precision=precision, revision=revision, dtype=dtype, device=device
            )
            if clock is not None:
                processor.video_processor.clock = clock
            elif spec and processor.max_words is None:  # not trained by this package, so use the benchmark's clock
                processor.video_processor.clock = spec.clock
            num_frames = num_frames or processor.video_processor.num_frames
            max_words = max_words or _max_words(processor, spec)
            try:
                result = evaluate_retrieval(
                    loaded,
                    dataset,
                    processor,
                    num_frames=num_frames,
                    max_words=max_words,
                    long_texts=long_texts,
                    batch_size=batch_size,
                    num_workers=workers,
                    num_videos=None if manifest is None else manifest.videos + len(manifest.left_out),
                    leave_out_missing=leave_out_missing,
                    progress=True,
                )
            except MainProcessError:  # the main process reports the reason
                raise typer.Exit(fail_in_silence()) from None
    if not state.is_main_process:
        return

    if manifest is not None:
        result = _with_manifest(result, manifest)
    title = spec.title if spec else Path(path).name or path
    _report_broken(result)
    Console(highlight=False).print(_table(f"{title}, {split}", result, num_frames, max_words))
    if json_file is not None:
        about: dict[str, Any] = {"model": model, "benchmark": benchmark, "path": path, "split": split}
        about |= {"num_frames": num_frames, "max_words": max_words, "long_texts": long_texts}
        about["clock"] = processor.video_processor.clock
        write_whole(json_file, json.dumps(about | result.to_dict(), indent=2) + "\n")
    if update_card:
        from ..hub import Evaluation

        dataset_type = path if benchmark == "dataset" and not Path(path).exists() else benchmark
        dual_softmax = {f"{name} with dual softmax": value for name, value in result.dual_softmax.items()}
        suffix = " with split texts" if long_texts == "split" else ""  # keeps the figures of truncated texts
        evaluation = Evaluation(
            title,
            dataset_type,
            split,
            {f"{name}{suffix}": value for name, value in (result.metrics | dual_softmax).items()},
            num_frames=num_frames,
            max_words=max_words,
            num_videos=result.num_videos,
            num_queries=result.num_texts,
            num_missing=result.num_missing,
            num_left_out=result.num_left_out,
        )
        try:
            _update_card(model, revision, loaded.config, evaluation)
        except Exception as error:
            raise RuntimeError(f"the card of {model!r} is unchanged: {one_line(error)}") from error


def _max_words(processor: "TS2NetProcessor", benchmark: Benchmark | None) -> int:
    """Return the tokens per text: the value from training, or else the benchmark's, up to the tokenizer's limit."""
    longest: int = processor.tokenizer.model_max_length
    if processor.max_words is not None:
        return processor.max_words
    return longest if benchmark is None else min(benchmark.max_words, longest)


def _with_manifest(result: "RetrievalResult", manifest: "Manifest") -> "RetrievalResult":
    """Add the reasons why videos are missing, and the number of videos whose captions were not kept."""
    reasons = {remark.video_id: remark.reason for remark in manifest.left_out}
    broken = [replace(video, reason=reasons.get(video.video_id, video.reason)) for video in result.broken]
    if manifest.num_uncounted:
        print(
            f"warning: {manifest.num_uncounted} videos were missing or broken when an earlier version of ts2net "
            "prepared the split, and are left out, because their captions were not kept; the same `ts2net prepare` "
            "once more adds them",
            file=sys.stderr,
        )
    return replace(result, broken=broken, num_left_out=result.num_left_out + manifest.num_uncounted)


def _parse_data(benchmark: str, data: list[str] | None) -> dict[str, Any]:
    """Parse the values of `--data`. The accepted names depend on the benchmark."""
    names = _DATA_SETTINGS.get(benchmark, ())
    form = f"NAME=VALUE with one of {', '.join(names)}" if names else f"none for {benchmark}"
    values: dict[str, Any] = dict(named_values("--data", data, form))
    for name, value in values.items():
        if name not in names:
            raise typer.BadParameter(f"expected {form}, got {f'{name}={value}'!r}", param_hint="--data")
        if name in ("follow_links", "skip_empty_captions"):
            if value not in _SWITCHES:
                raise typer.BadParameter(f"expected {name}=true or {name}=false, got {value!r}", param_hint="--data")
            values[name] = _SWITCHES[value]
    return values


@contextlib.contextmanager
def _processes(device: str | None) -> Iterator["PartialState"]:
    """Join the processes that a launcher started, or use only this process."""
    import torch
    from accelerate import PartialState

    # Without a GPU, Accelerate joins processes only with `cpu=True`.
    has_gpu = torch.accelerator.current_accelerator(check_available=True) is not None
    state = PartialState(cpu=not has_gpu or device == "cpu")
    if state.num_processes > 1 and device not in (None, state.device.type):
        raise typer.BadParameter(
            f"each process gets its own: give cpu or nothing, not {device}", param_hint="--device"
        )
    try:
        yield state
    finally:
        state.destroy_process_group()


def _report_broken(result: "RetrievalResult") -> None:
    if not result.broken:
        return
    count = f"{len(result.broken)} of {result.num_videos} videos"
    print(f"warning: {count} can't be used, and their queries count as missed:", file=sys.stderr)
    for video in result.broken[:_MOST_LISTED]:
        print(f"  {video.video_id}: {video.reason}", file=sys.stderr)
    if len(result.broken) > _MOST_LISTED:
        print(f"  and {len(result.broken) - _MOST_LISTED} more, all of which --json lists", file=sys.stderr)


def _table(title: str, result: "RetrievalResult", num_frames: int, max_words: int) -> Table:
    """Return a table with a row for each direction and way of ranking."""
    counts = f"{result.num_texts} texts, {result.num_videos} videos"
    if result.num_missing:
        counts += f", of which {result.num_missing} missing"
    if result.num_left_out:
        counts += f"; {result.num_left_out} more left out"
    counts += f"; {num_frames} frames, {max_words} words"
    table = Table(
        box=box.SIMPLE_HEAD, show_edge=False, title=Text(f"{title}: {counts}", style="bold"), title_justify="left"
    )
    table.add_column("")
    for figure in _FIGURES:
        table.add_column(figure, justify="right")
    for figures, suffix in ((result.metrics, ""), (result.dual_softmax, ", dual softmax")):
        for direction in _DIRECTIONS:
            table.add_row(f"{direction}{suffix}", *(f"{figures[f'{direction} {figure}']:.1f}" for figure in _FIGURES))
    if result.num_groups:
        for direction in _DIRECTIONS:
            table.add_row(f"{direction}, inside its group", f"{result.metrics[f'{direction} group R@1']:.1f}")
    return table


def _update_card(model: str, revision: str | None, config: "TS2NetConfig", evaluation: "Evaluation") -> None:
    """Add the figures to the model card, in a folder or by a commit on the Hub. Create the card if it is missing."""
    from huggingface_hub import HfApi, ModelCard
    from huggingface_hub.errors import RemoteEntryNotFoundError

    from ..hub import add_evaluation, make_model_card

    if Path(model).is_dir():
        file = Path(model) / "README.md"
        card = ModelCard.load(file) if file.exists() else make_model_card(config)
        write_whole(file, str(add_evaluation(card, evaluation)))
        return
    api = HfApi(library_name="ts2net", library_version=__version__)
    # Read the card of the newest commit, not of the cache. The Hub refuses the upload if another commit comes first.
    commit = api.model_info(model, revision=revision).sha
    try:
        card = ModelCard.load(Path(api.hf_hub_download(model, "README.md", revision=commit)))
    except RemoteEntryNotFoundError:  # there is no card; an unreachable Hub raises another error
        card = make_model_card(config, model)
    api.upload_file(
        path_or_fileobj=str(add_evaluation(card, evaluation)).encode(),
        path_in_repo="README.md",
        repo_id=model,
        revision=revision,
        parent_commit=commit,
        commit_message=f"Add the figures on {evaluation.dataset_name}, {evaluation.dataset_split}",
    )
