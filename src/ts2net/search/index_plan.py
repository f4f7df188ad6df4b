"""What has to be done to bring an index up to date with its videos."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ..videos.broken import BrokenVideo
from .sources import FoundVideos, VideoFile, holds_videos, missing_videos
from .store import Store


@dataclass(frozen=True)
class Plan:
    """The difference between an index and some videos.

    Args:
        todo: Videos to decode and encode, with their metadata.
        present: Ids of the videos that are in the index.
        unchanged: Ids of those that need no decoding.
        metadata: New metadata of unchanged videos, by id.
        gone: Ids of videos of the index, indexed or broken, whose files are gone.
        newly_broken: Videos that can't be read, to be noted in the index.
        still_broken: Videos that are noted as broken and whose files haven't changed since.
        previously_broken: All videos that are noted as broken.
    """

    todo: Sequence[VideoFile]
    present: frozenset[str]
    unchanged: Sequence[str]
    metadata: Mapping[str, Mapping[str, str]]
    gone: Sequence[str]
    newly_broken: Sequence[BrokenVideo]
    still_broken: Sequence[BrokenVideo]
    previously_broken: frozenset[BrokenVideo]


def plan(store: Store, found: FoundVideos, metadata: Mapping[str, Mapping[str, str]]) -> Plan:
    """Compare an index with videos.

    Args:
        store: The index.
        found: The videos.
        metadata: New metadata of some of them, by id. Names that it doesn't have keep their values.
    """
    stored = {video.video_id: video for video in store.snapshot().videos()}
    broken = {video.video_id: video for video in store.broken()}
    todo, unchanged, still_broken = [], [], []
    changed: dict[str, Mapping[str, str]] = {}
    for file in found.videos:
        if file.video_id in broken and broken[file.video_id].signature == file.signature:
            still_broken.append(broken[file.video_id])
            continue
        video = stored.get(file.video_id)
        before = {} if video is None else video.metadata
        after = {**file.metadata, **before, **metadata.get(file.video_id, {})}
        if video is None or video.signature != file.signature:
            todo.append(replace(file, metadata=after))
            continue
        unchanged.append(file.video_id)
        if file.video_id in metadata and before != after:
            changed[file.video_id] = after
    listed = {file.video_id for file in found.videos} | {video.video_id for video in found.broken}
    return Plan(
        todo=todo,
        present=frozenset(stored),
        unchanged=unchanged,
        metadata=changed,
        gone=missing_videos((stored.keys() | broken.keys()) - listed),
        # A folder or an archive is no video, and nothing would tell when all of it can be read again.
        newly_broken=[
            video for video in found.broken if broken.get(video.video_id) != video and not holds_videos(video.video_id)
        ],
        still_broken=still_broken,
        previously_broken=frozenset(broken.values()),
    )
