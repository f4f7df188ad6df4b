"""Create an index, or bring it up to date: add new videos and replace changed ones.

- Only this process writes, and it commits complete videos every few seconds. No list of pending videos is stored: the
  index itself shows which videos are done, so the same command resumes after any interruption.
- The model is loaded last, and only if there is a video to encode or a model to compare, because loading takes seconds
  and most mistakes can be detected without a model.
"""

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from rich.console import Console

from ..videos.broken import BrokenVideo
from .about import About, check_same_model, check_windows
from .calibration import calibrate, is_stale
from .engines.choosing import EngineOptions, check_engine, choose_engine
from .index_plan import Plan, plan
from .location import check_no_writer
from .metadata import MatchedMetadata, read_metadata
from .repairing import repair_index
from .sources import FoundVideos, find_videos, no_video_in, present_files
from .spoken import SPOKEN
from .store import Store
from .store_errors import StoreError
from .windows import WindowChoice, WindowSettings

if TYPE_CHECKING:
    from ..encoding.runtimes import Precision, RuntimeName
    from ..modeling_ts2net import TS2NetModel
    from ..processing_ts2net import TS2NetProcessor
    from .encoding import WindowEncoder


@dataclass
class IndexReport:
    """Changes to an index. Videos are given by their ids.

    Attributes:
        indexed: Videos that were added.
        replaced: Videos that were encoded again, because they had changed.
        relabelled: Unchanged videos that got new metadata.
        moved: New ids of moved or renamed videos by their previous ids. These videos were not decoded.
        unchanged: Videos that were in the index already, including moved ones.
        lost: Videos that a repair found damaged in the index. They are indexed again if their files still exist.
        dropped: Videos that were removed, because their files no longer exist.
        missing: Videos that were not removed, although their files no longer exist.
        broken: Videos that can't be indexed, with reasons.
        damaged: Videos of which only a part can be read and was indexed, with descriptions of the damage.
        spoken: Videos whose subtitles were read.
        damaged_subtitles: Subtitle files that can't be read, with reasons.
        unmatched_metadata: Files in rows of the metadata that match none of the videos.
        hours: Hours of decoded video.
        seconds: Elapsed time in seconds.
    """

    indexed: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    relabelled: list[str] = field(default_factory=list)
    moved: dict[str, str] = field(default_factory=dict)
    unchanged: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    broken: list[BrokenVideo] = field(default_factory=list)
    damaged: dict[str, str] = field(default_factory=dict)
    spoken: list[str] = field(default_factory=list)
    damaged_subtitles: dict[str, str] = field(default_factory=dict)
    unmatched_metadata: list[str] = field(default_factory=list)
    hours: float = 0.0
    seconds: float = 0.0


def index_videos(
    videos: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    model: "str | os.PathLike[str] | TS2NetModel | None",
    out: str | os.PathLike[str],
    *,
    processor: "TS2NetProcessor | None" = None,
    settings: WindowSettings | WindowChoice | None = None,
    metadata: str | os.PathLike[str] | None = None,
    repair: bool = False,
    drop_missing: bool = False,
    follow_links: bool = False,
    workers: int | None = None,
    batch_size: int = 16,
    device: str | None = None,
    dtype: str | None = None,
    revision: str | None = None,
    runtime: "RuntimeName | None" = None,
    precision: "Precision | None" = None,
    engine: Literal["local", "ray"] = "local",
    ray_address: str | None = None,
    console: Console | None = None,
) -> IndexReport:
    """Create an index of videos, or bring an index up to date.

    Args:
        videos: Files, folders, patterns, or shards of `ts2net prepare`. An empty list adds no videos, but still
            converts an index of an older format.
        model: Folder or repository of a model, or a model with its `processor`. `None` is the model of the index.
        out: Location of the index: a folder, or an address that LanceDB accepts.
        processor: Processor of `model`, if that is loaded already.
        settings: Window settings. Settings that are `None` are taken from the index. By default, a new index has
            windows of 12 s, or of the maximum length of the model, every half a window at one frame per second.
        metadata: A CSV file with a column `file` and a column for each name. A row replaces values of its video and
            adds new ones. Videos without a row keep their metadata.
        repair: First read all of the index to find damage, and index the lost videos again.
        drop_missing: Remove videos whose files no longer exist.
        follow_links: Same as in [`sources.find_videos`].
        workers: Number of decoding processes. 0 decodes in this process, which a malicious video may then block or
            crash; `None` is one per core.
        batch_size: Number of windows that are encoded at a time.
        device: Device of the model, such as `"cuda:1"`; `None` is a GPU if there is one.
        dtype: Type of the weights; `"auto"` is the type of the checkpoint. `None` is that of the index, or `"auto"`.
        revision: Branch, tag or commit of the model's repository.
        runtime: `"torch"` or `"onnx"`, which return the same hits. `None` is `"onnx"` for int8, and without Ray also
            for a large float32 model on the CPU if ONNX Runtime is installed.
        precision: `"int8"` is faster, on ONNX Runtime, but less exact. `None` is that of the index, or `"float32"`.
        engine: `"local"` decodes and encodes on this machine, `"ray"` on a cluster, whose machines need access to the
            videos under the same paths. Ray determines `workers` and `device` itself.
        ray_address: Address of the cluster, as for `ray.init`; `None` starts Ray on this machine only.
        console: Console for the progress; `None` shows none.

    Returns:
        The changes. A video that can't be used is listed there and raises no error. It is tried again if its file has
        changed, or if the cause may be temporary, for example if the file couldn't be opened.

    Raises:
        FileNotFoundError: If a source or the model does not exist.
        ValueError: If the index was made with another model or other settings, a new index would have no videos, or an
            argument is out of range.
        BlockingIOError: If another process is writing to the index.
        DamageError: If files of the index are missing or damaged, without `repair`.
        StoreError: If the index can't be written. It remains intact, and a repeated call resumes.
        ImportError: If the library of the engine isn't installed.
        ClusterError: If there is no such cluster, or it fails repeatedly; see `engines.ray`.
    """
    begun = time.monotonic()
    if engine == "ray" and precision is None and (model is None or isinstance(model, (str, os.PathLike))):
        runtime = runtime or "torch"  # a cluster may have GPUs
    engine_options: EngineOptions = {
        "batch_size": batch_size,
        "workers": workers,
        "device": device,
        "ray_address": ray_address,
    }
    check_engine(engine, **engine_options)
    if runtime is not None or precision is not None:
        from ..encoding.runtimes import check_runtime

        check_runtime(runtime, precision)
    path = os.fspath(out)
    damage = repair_index(path) if repair else None
    present = Store.read_about(path)
    sources = [videos] if isinstance(videos, (str, os.PathLike)) else list(videos)
    if damage is not None:
        of_all = present is not None and SPOKEN in damage.tables
        sources += present_files(Store.open(path).snapshot().video_ids() if of_all else ())
        sources += present_files(damage.lost)
    listing = find_videos(sources, follow_links=follow_links) if sources or present is None else FoundVideos([], [])
    rows = MatchedMetadata({}, []) if metadata is None else read_metadata(metadata, listing.videos)
    new_metadata = rows.rows if damage is None else {**damage.lost, **rows.rows}
    if present is None and not listing.videos and not listing.broken:
        raise ValueError(no_video_in(sources))
    if present is not None:
        check_windows(path, present, settings)
    check_no_writer(path)

    def load(about: About | None) -> "tuple[WindowEncoder, About]":
        from .index_model import prepare_encoder

        chosen = choose_engine(engine, **engine_options)
        chosen.start()  # while the model is loaded
        return prepare_encoder(
            path,
            about,
            model,
            processor,
            settings,
            device=chosen.model_device,
            dtype=dtype,
            revision=revision,
            runtime=runtime,
            precision=precision,
        )

    encoder, about = load(present) if present is None or model is not None else (None, None)
    with Store.write(path, about) as store:
        if about is not None:
            check_same_model(path, store.about, about)  # another process may have just created the index
        difference = plan(store, listing, new_metadata)
        report = _carry_out(difference, store, drop_missing)
        report.broken += listing.broken
        report.unmatched_metadata = list(rows.unmatched)
        report.lost = [] if damage is None else list(damage.lost)
        if difference.todo:
            if encoder is None:
                encoder, _ = load(store.about)
            from .index_writing import write_videos

            outcomes = choose_engine(engine, **engine_options).encode(difference.todo, store.about.windows, encoder)
            write_videos(store, outcomes, difference, report, console)
        from .spoken_writing import write_spoken

        write_spoken(store, listing.videos, report, workers, console)
        try:
            store.compact()
            store.update_vector_index()
            store.update_spoken()
            may_calibrate = encoder is not None or damage is not None  # which may have removed the calibration
            if may_calibrate and is_stale(store):
                if encoder is None:
                    encoder, _ = load(store.about)
                calibrate(store, encoder.model, encoder.processor)
        except StoreError as error:
            raise StoreError(f"{error}. All videos are in the index; the same command completes it") from error
    report.seconds = time.monotonic() - begun
    return report


def _carry_out(difference: Plan, store: Store, drop_missing: bool) -> IndexReport:
    """Make the changes that need no decoding."""
    store.rename(difference.moved)
    store.set_metadata(difference.metadata)
    store.mark_broken(difference.newly_broken)
    report = IndexReport(
        relabelled=list(difference.metadata),
        moved={old: new for old, (new, *_) in difference.moved.items() if old != new},
        unchanged=list(difference.unchanged),
        broken=list(difference.still_broken),
    )
    if drop_missing:
        store.drop(difference.missing)
        report.dropped = list(difference.missing)
    else:
        report.missing = [video_id for video_id in difference.missing if video_id in difference.present]
    return report
