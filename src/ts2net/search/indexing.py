"""An index made, or brought up to date: what is new is added, what has changed is replaced, and nothing else touched.

Notable here: only this process writes, and it commits whole videos every few seconds. There is no list of what is
left to do: the index itself tells what is done, so the same command goes on wherever it was stopped.
"""

import json
import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from ..hub.loading import load_model
from ..modeling_ts2net import TS2NetModel
from ..parallel.pool import available_cores
from ..processing_ts2net import TS2NetProcessor
from ..videos.broken import BrokenVideo
from .decoding_workers import ISOLATION
from .encoding import WindowEncoder
from .engines import assembling, local
from .fingerprint import fingerprint
from .records import IndexedVideo
from .sources import Found, VideoFile, find_videos, holds_videos, missing_names, read_metadata, rows_of
from .store import About, Store, StoreError, name_from_text, only_writer, video_key
from .vector_index import update_vector_index
from .windows import WindowSettings

_COMMIT_SECONDS = 5.0
_COMMIT_WINDOWS = 4096  # about 50 MB


@dataclass
class IndexReport:
    """What became of an index.

    Attributes:
        indexed: Videos that are new in it, by name, as in the next five.
        replaced: Videos that have changed.
        relabelled: Videos of which only the metadata has changed.
        unchanged: Videos that were in it already.
        dropped: Videos that were taken out, because their files are gone.
        missing: Videos whose files are gone, and that stay until they are to be dropped.
        broken: Videos that can't be used, and why.
        damaged: For videos that are in it as far as they can be read, what can't be.
        hours: Of video that were decoded.
        seconds: That it took.
    """

    indexed: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    relabelled: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    broken: list[BrokenVideo] = field(default_factory=list)
    damaged: dict[str, str] = field(default_factory=dict)
    hours: float = 0.0
    seconds: float = 0.0


def index_videos(
    videos: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    model: str | os.PathLike[str] | TS2NetModel | None,
    out: str | os.PathLike[str],
    *,
    processor: TS2NetProcessor | None = None,
    settings: WindowSettings | None = None,
    metadata: str | os.PathLike[str] | None = None,
    drop_missing: bool = False,
    workers: int | None = None,
    batch_size: int = 16,
    device: str | None = None,
    dtype: str | None = None,
    revision: str | None = None,
    engine: Literal["local", "ray"] = "local",
    ray_address: str | None = None,
    console: Console | None = None,
) -> IndexReport:
    """Make an index of videos, or bring one up to date.

    Args:
        videos: Files, folders, patterns, or shards that `ts2net prepare` made.
        model: A model's folder or repository, or a model with its `processor`. `None` is the one that the index was
            made with.
        out: The index: a folder, or an address that LanceDB takes.
        processor: Of a model that is loaded.
        settings: How videos are cut. `None` is as the index has it, or the defaults.
        metadata: A CSV file with a column `file` and others that are to be searched by. A row adds to what is known
            of its video and goes before it; videos without a row keep what they have.
        drop_missing: Take out videos whose files are gone.
        workers: Processes that decode. 0 is this one alone, which a hostile video may then hold up or crash; `None`
            is one for each core.
        batch_size: Windows encoded at a time.
        device: Such as `"cuda:1"`; `None` is a GPU if there is one.
        dtype: Type of the weights: `"auto"` is the checkpoint's own. `None` is as the index has it, or that.
        revision: Branch, tag or commit of the model's repository.
        engine: `"local"` decodes and encodes on this machine, `"ray"` on a cluster, whose machines have to see the
            videos under the same paths. There `workers` and `device` are for Ray to decide.
        ray_address: Of the cluster, as `ray.init` takes it; `None` is a Ray of this machine alone.
        console: Where to show the progress; `None` shows none.

    Returns:
        What was done. A video that can't be used is in it, and is no error; it is tried again when its file has
        changed, or what failed may pass, such as that it can't be opened.

    Raises:
        FileNotFoundError: If a source or the model isn't there.
        ValueError: If the index was made with another model or other settings, or an argument is out of range.
        BlockingIOError: If another process is writing to the index.
        StoreError: If the index can't be written. What it holds is whole, and a repeated call goes on.
        ImportError: If the engine's library isn't installed.
        ClusterError: If there is no such cluster, or it fails again and again; see `engines.ray`.
    """
    begun = time.monotonic()
    _check_engine(engine, ray_address, workers, device)
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if workers is not None and workers < 0:
        raise ValueError(f"workers must be at least 0, got {workers}")
    sources = [videos] if isinstance(videos, (str, os.PathLike)) else list(videos)
    found = find_videos(sources)
    labels: Mapping[str, Mapping[str, str]] = {}
    if metadata is not None:
        labels = rows_of(found.videos, read_metadata(metadata), Path(metadata).absolute().parent)

    if engine == "ray":
        device = "cpu"  # of this process, which only hands the model on
    elif workers != 0:
        ISOLATION.start_server()  # while the model is loaded

    store = Store.open(out) if Store.exists(out) else None
    if store is None and not found.videos and not found.broken:
        raise ValueError(f"there is no video in {', '.join(os.fspath(source) for source in sources)}")
    encoder, about = _encoder_for(store, model, processor, settings, device, dtype, revision)
    with only_writer(out):
        # Another process may have made it, or written to it, until a moment ago.
        store = Store.open(out) if Store.exists(out) else Store.create(out, about)
        _check_same(store, about)
        report = IndexReport()
        todo = _plan(store, found, report, drop_missing, labels)
        outcomes: Generator[assembling.Outcome, None, None]
        if engine == "ray":
            from .engines import ray

            outcomes = ray.encode_videos(
                todo, store.about.windows, encoder, batch_size=batch_size, address=ray_address
            )
        else:
            count = min(available_cores() if workers is None else workers, len(todo))
            outcomes = local.encode_videos(
                todo,
                store.about.windows,
                encoder,
                workers=count,
                batch_size=batch_size,
                num_threads=max(1, available_cores() // max(1, count)),
            )
        with closing(outcomes), _progress(console, todo) as show:
            _write(store, outcomes, report, show)
        try:
            store.compact()
            update_vector_index(store)
        except StoreError as error:
            raise StoreError(
                f"{error}. The videos are all in; the same command makes what is left, which only speeds up searching"
            ) from error
    report.seconds = time.monotonic() - begun
    return report


# ---------------------------------------------------------------------------------------------------------------------
# With what


def _check_engine(engine: str, ray_address: str | None, workers: int | None, device: str | None) -> None:
    if engine == "ray":
        for name, value in (("workers", workers), ("device", device)):
            if value is not None:
                raise ValueError(f"{name}={value!r} is for the local engine; Ray decides it by what its cluster has")
        from .engines import ray  # noqa: F401  says what to install, before a model is loaded
    elif engine != "local":
        raise ValueError(f"engine must be 'local' or 'ray', got {engine!r}")
    elif ray_address is not None:
        raise ValueError(f"ray_address={ray_address!r} is for engine='ray', got engine='local'")


def _encoder_for(
    store: Store | None,
    model: str | os.PathLike[str] | TS2NetModel | None,
    processor: TS2NetProcessor | None,
    settings: WindowSettings | None,
    device: str | None,
    dtype: str | None,
    revision: str | None,
) -> tuple[WindowEncoder, About]:
    """The model, and what an index made with it has to say of itself."""
    known = None if store is None else store.about
    if model is None:
        if known is None:
            raise ValueError("there is no index yet, so it has to be said which model is to make it")
        model, revision = known.model, revision or known.revision
    if isinstance(model, TS2NetModel):
        if processor is None:
            raise ValueError("a model that is loaded has to come with its processor")
        name = model.name_or_path
    else:
        name = os.fspath(model)
        dtype = dtype or (known.dtype if known is not None else "auto")
        model, processor = load_model(name, revision=revision, dtype=dtype, device=device)
    settings = settings or (known.windows if known is not None else WindowSettings())
    assert processor is not None
    about = _about(model.eval(), processor, name, settings)
    if store is not None:
        _check_same(store, about)
    _check_positions(model, settings)
    return WindowEncoder(model, processor), about


def _about(model: TS2NetModel, processor: TS2NetProcessor, name: str, settings: WindowSettings) -> About:
    config = model.config
    return About(
        model=os.path.abspath(name) if os.path.isdir(name) else name,
        revision=getattr(config, "_commit_hash", None),
        fingerprint=fingerprint(model, processor),
        dtype=str(model.dtype).removeprefix("torch."),
        dim=config.projection_dim,
        windows=settings,
        matching_kind=config.matching_kind,
        temperature=float(config.matching_temperature),
        padding_mode=config.padding_mode,
        logit_scale=float(model.logit_scale.detach().float().exp()),  # in float32, as the model has it
    )


def _check_same(store: Store, about: About) -> None:
    """Refuse to mix what can't be compared."""
    there = store.about
    if there.windows != about.windows:
        raise ValueError(f"{store.path} has windows of {_say(there.windows)}, not {_say(about.windows)}")
    # The same weights may have moved.
    if replace(there, model=about.model, revision=about.revision) != about:
        at = f" at {there.revision}" if there.revision else ""
        if there.dtype != about.dtype:
            raise ValueError(f"{store.path} was made in {there.dtype}, and the model is loaded in {about.dtype}")
        raise ValueError(
            f"{store.path} was made with {there.model}{at}, whose weights, settings or processor differ from those of "
            f"{about.model}: give that model, or another folder for the index"
        )


def _say(settings: WindowSettings) -> str:
    return f"{settings.length:g} s every {settings.step:g} s at {settings.fps:g} frames a second"


def _check_positions(model: TS2NetModel, settings: WindowSettings) -> None:
    encoder = model.temporal_encoder
    if encoder is None:
        return
    most = encoder.position_embedding.num_embeddings // model.config.tokens_per_frame
    if settings.num_frames > most:
        raise ValueError(
            f"windows of {_say(settings)} have {settings.num_frames} frames, and the model takes at most {most}"
        )


# ---------------------------------------------------------------------------------------------------------------------
# What is to be done


def _plan(
    store: Store,
    found: Found,
    report: IndexReport,
    drop_missing: bool,
    labels: Mapping[str, Mapping[str, str]],
) -> list[VideoFile]:
    """Compare the index with the videos that there are; do what needs no decoding, and say what does."""
    columns = store.first_windows("key", "video", "signature", "metadata").to_pylist()
    there = {row["key"]: row for row in columns}
    broken_there = {video.video_id: video for video in store.broken()}
    todo: list[VideoFile] = []
    relabelled: dict[str, Mapping[str, str]] = {}
    for file in found.videos:
        before = broken_there.get(file.video_id)
        if before is not None and before.signature == file.signature:
            report.broken.append(before)
            continue
        row = there.get(video_key(file.video_id))
        known = {} if row is None else json.loads(row["metadata"])
        metadata = {**file.metadata, **known, **labels.get(file.video_id, {})}
        if row is None or row["signature"] != file.signature:
            todo.append(replace(file, metadata=metadata))
            continue
        report.unchanged.append(file.video_id)
        if file.video_id in labels and known != metadata:
            relabelled[row["key"]] = metadata
            report.relabelled.append(file.video_id)
    store.relabel(relabelled)

    given = {file.video_id for file in found.videos} | {video.video_id for video in found.broken}
    names = {name_from_text(row["video"]) for row in columns} | broken_there.keys()
    gone = missing_names(names - given)
    if drop_missing:
        store.drop(video_key(name) for name in gone)
        report.dropped = gone
    else:
        report.missing = [name for name in gone if name not in broken_there]
    # A folder or an archive is no video, and nothing would tell when all of it can be read again.
    new = [
        video
        for video in found.broken
        if broken_there.get(video.video_id) != video and not holds_videos(video.video_id)
    ]
    store.mark_broken(new)
    report.broken += found.broken
    return todo


# ---------------------------------------------------------------------------------------------------------------------
# Doing it


def _write(
    store: Store,
    outcomes: Iterator[assembling.Outcome],
    report: IndexReport,
    show: Callable[[assembling.Outcome, IndexReport], None],
) -> None:
    """Commit what the engine gives, every few seconds, and whatever is done when it fails or is stopped."""
    before = store.signatures()
    broken_before = {video.video_id: video for video in store.broken()}
    done: list[IndexedVideo] = []
    broken: list[BrokenVideo] = []

    def commit() -> None:
        store.add(done)
        store.mark_broken([video for video in broken if broken_before.get(video.video_id) != video])
        for video in done:
            (report.replaced if video_key(video.video_id) in before else report.indexed).append(video.video_id)
        report.broken += broken
        done.clear()
        broken.clear()

    last = time.monotonic()
    try:
        for outcome in outcomes:
            if isinstance(outcome, assembling.Encoded):
                done.append(outcome.video)
                report.hours += outcome.video.duration / 3600
                if outcome.damage is not None:
                    report.damaged[outcome.video.video_id] = outcome.damage
            elif isinstance(outcome, BrokenVideo):
                broken.append(outcome)
            show(outcome, report)
            windows = sum(len(video.windows) for video in done)
            if windows >= _COMMIT_WINDOWS or time.monotonic() - last >= _COMMIT_SECONDS:
                commit()
                last = time.monotonic()
    finally:
        commit()


@contextmanager
def _progress(
    console: Console | None, files: list[VideoFile]
) -> Iterator[Callable[[assembling.Outcome, IndexReport], None]]:
    """A bar of the bytes of all videos, for their number says little of the time that is left."""
    sizes = {file.video_id: file.size for file in files}
    seen: dict[str, float] = {}
    counts = {"videos": 0}

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

        def show(outcome: assembling.Outcome, report: IndexReport) -> None:
            is_end = isinstance(outcome, (assembling.Encoded, BrokenVideo))
            name = outcome.video.video_id if isinstance(outcome, assembling.Encoded) else outcome.video_id
            fraction = outcome.fraction if isinstance(outcome, assembling.Progress) else 1.0
            advance = max(0.0, fraction - seen.get(name, 0.0)) * sizes[name]
            seen[name] = max(fraction, seen.get(name, 0.0))
            counts["videos"] += is_end
            bar.update(task, advance=advance, videos=counts["videos"], hours=report.hours)

        yield show
