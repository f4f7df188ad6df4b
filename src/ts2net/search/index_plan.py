"""Plan of the changes that bring an index up to date with its videos."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ..videos.broken import BrokenVideo
from .records import StoredVideo
from .sources import FoundVideos, VideoFile, content_digest, holds_videos, missing_videos, size_of_file
from .store import Store


@dataclass(frozen=True)
class Plan:
    """The difference between an index and some videos.

    Args:
        todo: Videos to decode and encode, with their metadata.
        present: Ids of the videos that are in the index.
        moved: Videos that are in the index under another path or with another modification time. Maps the previous id
            to the new id, the signature of the file and the digest of its content.
        unchanged: Ids of the videos that need no decoding, including moved ones.
        metadata: New metadata of unchanged videos, by id.
        missing: Ids of videos in the index, indexed or broken, whose files no longer exist.
        newly_broken: Videos that can't be read, to be recorded in the index.
        still_broken: Videos that are recorded as broken and whose files haven't changed since.
        previously_broken: All videos that are recorded as broken.
    """

    todo: Sequence[VideoFile]
    present: frozenset[str]
    moved: Mapping[str, tuple[str, str, str]]
    unchanged: Sequence[str]
    metadata: Mapping[str, Mapping[str, str]]
    missing: Sequence[str]
    newly_broken: Sequence[BrokenVideo]
    still_broken: Sequence[BrokenVideo]
    previously_broken: frozenset[BrokenVideo]


def plan(store: Store, listing: FoundVideos, metadata: Mapping[str, Mapping[str, str]]) -> Plan:
    """Compare an index with videos.

    Args:
        store: The index.
        listing: The videos.
        metadata: New metadata of some of the videos, by id. Other metadata of these videos keep their values.
    """
    stored = {video.video_id: video for video in store.snapshot().videos()}
    broken = {video.video_id: video for video in store.broken()}
    todo, unchanged, still_broken = [], [], []
    changed: dict[str, Mapping[str, str]] = {}
    listed = {file.video_id for file in listing.videos} | {video.video_id for video in listing.broken}
    missing = missing_videos((stored.keys() | broken.keys()) - listed)
    by_content = _VideosByContent([*(stored[video_id] for video_id in missing if video_id in stored)])
    moved: dict[str, tuple[str, str, str]] = {}
    for file in listing.videos:
        if file.video_id in broken and broken[file.video_id].signature == file.signature:
            still_broken.append(broken[file.video_id])
            continue
        video = stored.get(file.video_id)
        before = {} if video is None else video.metadata
        after = {**file.metadata, **before, **metadata.get(file.video_id, {})}
        if video is None or video.signature != file.signature:
            original = by_content.take(file, video)
            if original is None or original.content is None:
                todo.append(replace(file, metadata=after))
                continue
            moved[original.video_id] = (file.video_id, file.signature, original.content)
            before = original.metadata
            after = {**file.metadata, **before, **metadata.get(file.video_id, {})}
        unchanged.append(file.video_id)
        if file.video_id in metadata and before != after:
            changed[file.video_id] = after
    return Plan(
        todo=todo,
        present=frozenset(stored),
        moved=moved,
        unchanged=unchanged,
        metadata=changed,
        missing=[video_id for video_id in missing if video_id not in moved],
        # Folders and archives are not recorded, because nothing would show that they can be read again.
        newly_broken=[
            video
            for video in listing.broken
            if broken.get(video.video_id) != video and not holds_videos(video.video_id)
        ],
        still_broken=still_broken,
        previously_broken=frozenset(broken.values()),
    )


class _VideosByContent:
    """Indexed videos by their content. A file is read only if a video of the same size is searched for.

    Args:
        missing: The indexed videos whose files no longer exist.
    """

    def __init__(self, missing: Sequence[StoredVideo]) -> None:
        self._by_size: defaultdict[int | None, list[StoredVideo]] = defaultdict(list)
        for video in missing:
            if video.content is not None:
                self._by_size[size_of_file(video.signature)].append(video)

    def take(self, file: VideoFile, present: StoredVideo | None) -> StoredVideo | None:
        """Return the indexed video with the content of a file, or `None`. A missing video is returned only once.

        Args:
            file: The file.
            present: The video that is indexed under the same id with another signature, if any.
        """
        if file.member is not None:
            return None
        candidates = self._by_size[file.size]
        if present is not None and present.content is not None and size_of_file(present.signature) == file.size:
            candidates = [present, *candidates]
        if not candidates:
            return None
        try:
            content = content_digest(file)
        except OSError:  # decoding reports the error later
            return None
        video = next((video for video in candidates if video.content == content), None)
        if video is not None and video is not present:
            self._by_size[file.size].remove(video)
        return video
