"""Make an index, or bring it up to date: new videos are added, changed ones replaced, and nothing else touched.

Notable here:
- Only this process writes, and it commits whole videos every few seconds. There is no list of what is left to do: the
  index itself shows what is done, so the same command goes on wherever it was stopped.
- The model is loaded last, and only if there is a video to encode or a model to compare, since loading takes seconds
  and most mistakes need no model to be found.
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
    """What was done to an index.

    Attributes:
        indexed: Ids of videos that are new in it, as are the next six.
        replaced: Videos that had changed.
        relabelled: Videos of which only the metadata had changed.
        moved: Videos that were in it under another path or time of change, by the id until now; nothing was decoded.
        unchanged: Videos that were in it already.
        lost: Videos that were damaged in the index, by a repair. Those whose files are still there are indexed again.
        dropped: Videos that were removed, since their files are gone.
        missing: Videos whose files are gone, and that were not removed.
        broken: Videos that can't be indexed, with reasons.
        damaged: For videos that are indexed as far as they can be read, what can't be.
        spoken: Videos of which the subtitles were read.
        damaged_subtitles: Files with subtitles that can't be read, with reasons.
        unmatched_metadata: Files of metadata rows that are about none of the videos.
        hours: Hours of video that were decoded.
        seconds: Seconds that it took.
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
    """Make an index of videos, or bring one up to date.

    Args:
        videos: Files, folders, patterns, or shards that `ts2net prepare` made. An empty list adds none; an index of
            an older format is converted all the same.
        model: A model's folder or repository, or a model with its `processor`. `None` is the index's own.
        out: The index: a folder, or an address that LanceDB takes.
        processor: The processor of a loaded model.
        settings: How videos are cut. What is `None` is as in the index; in a new one windows are 12 s long, or as
            long as the model takes, every half a window at one frame a second.
        metadata: A CSV file with a column `file` and a column for each name. A row replaces the values of its video
            and adds new ones; videos without a row keep what they have.
        repair: First find out what is damaged in the index, which reads all of it, and index the lost videos again.
        drop_missing: Remove videos whose files are gone.
        follow_links: As in [`sources.find_videos`].
        workers: Processes that decode. 0 is this one alone, which a hostile video may then hold up or crash; `None`
            is one for each core.
        batch_size: Windows encoded at a time.
        device: Such as `"cuda:1"`; `None` is a GPU if there is one.
        dtype: Type of the weights; `"auto"` is the checkpoint's own. `None` is as in the index, or `"auto"`.
        revision: Branch, tag or commit of the model's repository.
        runtime: What computes: `"torch"` or `"onnx"`. `None` is `"onnx"` for a large model in float32 on the CPU if
            ONNX Runtime is installed, and not with Ray; both give the same hits.
        precision: `"int8"` is faster on ONNX Runtime and not quite equal. `None` is as in the index, or `"float32"`.
        engine: `"local"` decodes and encodes on this machine, `"ray"` on a cluster, whose machines have to see the
            videos under the same paths. There Ray decides `workers` and `device`.
        ray_address: Of the cluster, as `ray.init` takes it; `None` is a Ray of this machine alone.
        console: Where to show the progress; `None` shows none.

    Returns:
        What was done. A video that can't be used is listed there and raises no error. It is tried again when its file
        has changed, or when the cause may have passed, for instance if it couldn't be opened.

    Raises:
        FileNotFoundError: If there is no such source or model.
        ValueError: If the index was made with another model or other settings, or an argument is out of range.
        BlockingIOError: If another process is writing to the index.
        DamageError: If files of the index are missing or damaged, and `repair` is not asked for.
        StoreError: If the index can't be written. What it holds is whole, and a repeated call goes on.
        ImportError: If the engine's library isn't installed.
        ClusterError: If there is no such cluster, or it fails again and again; see `engines.ray`.
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
            check_same_model(path, store.about, about)  # another process may have made the index a moment ago
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
            may_calibrate = encoder is not None or damage is not None  # which may have been the calibration's
            if may_calibrate and is_stale(store):
                if encoder is None:
                    encoder, _ = load(store.about)
                calibrate(store, encoder.model, encoder.processor)
        except StoreError as error:
            raise StoreError(f"{error}. All videos are in the index; the same command completes it") from error
    report.seconds = time.monotonic() - begun
    return report


def _carry_out(difference: Plan, store: Store, drop_missing: bool) -> IndexReport:
    """Do what needs no decoding."""
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
