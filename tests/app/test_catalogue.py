"""Displayed names of videos, and word filters."""

from pathlib import Path

import pytest

from ts2net.app.catalogue import Catalogue
from ts2net.search.records import StoredVideo


def catalogue(*videos, uploads=None, metadata=None):
    stored = [StoredVideo(video, "1-1", None, 1.0, (metadata or {}).get(video, {})) for video in videos]
    return Catalogue(stored, uploads)


def names(catalogue, filter=""):
    return [video.name for video in catalogue.matching(filter)]


@pytest.mark.parametrize(
    ("videos", "shown"),
    [
        (["/secret/dog.mp4"], ["dog.mp4"]),
        (["/secret/2023/a.mp4", "/secret/2024/x/b.mp4"], ["2023/a.mp4", "2024/x/b.mp4"]),
        (["/home/me/a/b.mp4", "/mnt/disk/c.mp4"], ["a/b.mp4", "disk/c.mp4"]),  # no common folder
        (["/secret/shards/TEST.TAR#dog"], ["dog"]),
        (["/secret/a/train.tar#pets/b.tar#dog", "/secret/c.mp4"], ["a/pets/b.tar#dog", "c.mp4"]),
        (["/secret/\udcff.mp4"], ["\\udcff.mp4"]),
    ],
)
def test_shows_the_folders_below_the_one_that_holds_all(videos, shown):
    assert names(catalogue(*videos)) == shown


def test_added_videos_have_their_own_names():
    """Added videos have their own names and don't change the names of other videos."""
    videos = catalogue("/secret/2023/a.mp4", "/secret/2024/b.mp4", "/up/0123/c.mp4", uploads=Path("/up"))
    assert names(videos) == ["2023/a.mp4", "2024/b.mp4", "c.mp4"]
    assert [video.added for video in videos.videos] == [False, False, True]


@pytest.mark.parametrize(
    ("filter", "expected"),
    [
        ("", ["2023/Goal.mp4", "2024/GOAL 2.mp4", "2024/Straße.mp4"]),
        ("goal", ["2023/Goal.mp4", "2024/GOAL 2.mp4"]),
        ("2024 goal", ["2024/GOAL 2.mp4"]),
        ("*2024/*.mp4", ["2024/GOAL 2.mp4", "2024/Straße.mp4"]),
        ('"goal 2"', ["2024/GOAL 2.mp4"]),
        ("STRASSE", ["2024/Straße.mp4"]),
        ("women", ["2023/Goal.mp4"]),
        ("League=WOMEN goal", ["2023/Goal.mp4"]),
        ("league=men", ["2023/Goal.mp4"]),  # a substring of a word
        ("other=women", []),
        ("secret", []),
    ],
)
def test_filters_by_words(filter, expected):
    videos = ("/secret/2023/Goal.mp4", "/secret/2024/GOAL 2.mp4", "/secret/2024/Straße.mp4")
    metadata = {videos[0]: {"League": "Women"}, videos[1]: {"League": "none"}}
    assert names(catalogue(*videos, metadata=metadata), filter) == expected
