"""Data preparation: the file of each ID, shards that don't depend on interruptions, and equivalent small videos."""

import errno
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import pytest
import torch
from huggingface_hub.utils import WeakFileLock

from support.forked_python import ForkedPython
from support.loopback_hub import LoopbackHub
from support.video_files import decode_from_start, encoded, write_streams, write_video
from ts2net.benchmarks import BENCHMARKS, Row, activitynet, didemo, moving_things
from ts2net.cli import main
from ts2net.cli import prepare as _registers_the_command  # noqa: F401
from ts2net.data import clip_videos, split_preparation
from ts2net.data.clip_videos import make_video
from ts2net.data.dataset_card import push_prepared
from ts2net.data.manifest import Manifest
from ts2net.data.prepare import prepare
from ts2net.data.shards import assign_to_shards, default_num_shards
from ts2net.errors import one_line
from ts2net.parallel.pool import Died
from ts2net.video_decoding_ts2net import decode_video
from ts2net.video_sampling_ts2net import FrameSampling
from ts2net.videos.finding import VideoFiles, match_files
from ts2net.videos.reencoding import Reencoded, reencode_video

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

FILM = "1006_Slumdog_Millionaire_01.25.49.077-01.25.54.718"
NUM_CLIPS = 24


def lsmdc(folder: Path, ids: list[str]) -> Path:
    """Annotations of an LSMDC test split."""
    folder.mkdir(exist_ok=True)
    lines = [f"{video_id}\t0\t1\t0\t1\tSOMEONE does number {number}." for number, video_id in enumerate(ids)]
    (folder / "LSMDC16_challenge_1000_publictect.csv").write_text("\n".join(lines) + "\n")
    return folder


def contents(folder: Path) -> dict[str, str]:
    """SHA-256 hash of every file of a folder, by relative path."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def members(folder: Path) -> dict[str, tuple[dict, bytes]]:
    """Annotation and video of every clip of a prepared folder, by id."""
    clips = {}
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as tar:
            files = {member.name: tar.extractfile(member).read() for member in tar.getmembers()}
        for name, data in files.items():
            if name.endswith(".json"):
                annotation = json.loads(data)
                clips[annotation["id"]] = (annotation, files[name.removesuffix(".json") + ".mp4"])
    return clips


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """LSMDC annotations and videos, of which one is missing, one is broken and one is a playlist."""
    folder = tmp_path_factory.mktemp("lsmdc")
    ids = [f"{FILM}.{number:03d}" for number in range(NUM_CLIPS)]
    lsmdc(folder / "annotations", ids)
    (folder / "videos" / "film").mkdir(parents=True)
    for number, video_id in enumerate(ids):
        write_video(folder / "videos" / "film" / f"{video_id}.avi", frames=12 + number, fps=12, container="mp4")
    (folder / "videos" / "film" / f"{ids[3]}.avi").unlink()
    (folder / "videos" / "film" / f"{ids[4]}.avi").write_bytes(b"not a video")
    playlist = ["#EXTM3U", "#EXT-X-TARGETDURATION:1", "#EXTINF:1,", f"{ids[0]}.avi", "#EXT-X-ENDLIST", ""]
    (folder / "videos" / "film" / f"{ids[5]}.avi").write_text("\n".join(playlist))
    return folder


def prepare_lsmdc(source: Path, out: Path, **options: object) -> Manifest:
    options = {"splits": ["test"], "num_shards": 6, "workers": 0, "reencode": True} | options
    return prepare("lsmdc", out, annotations=source / "annotations", videos=source / "videos", **options)[0]


@pytest.fixture(scope="module")
def prepared(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("prepared") / "lsmdc"
    prepare_lsmdc(source, out)
    return out


# ----------------------------------------------------------------------------------------------------------------
# Matching of files to videos
# ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("benchmark", "video_id", "file"),
    [
        ("msrvtt", "video0", "video0.mp4"),
        ("msrvtt", "video0", "TrainVal/video0.MP4"),
        ("vatex", "-abc_DEF_000010_000020", "-abc_DEF_000010_000020.webm"),
        ("lsmdc", FILM, f"1006_Slumdog_Millionaire/{FILM}.avi"),
        ("activitynet", "v_QOlSCBRmfWY", "v_QOlSCBRmfWY.mkv"),
        ("activitynet", "v_QOlSCBRmfWY", "QOlSCBRmfWY.mp4"),
        ("activitynet", "QOlSCBRmfWY", "v_QOlSCBRmfWY.mp4"),
        ("didemo", "12@N02_34_ef.mov", "12@N02_34_ef.mov"),
        ("didemo", "12@N02_34_ef.mov", "12@N02_34_ef.mov.mp4"),
        ("didemo", "12@N02_34_ef.mov", "12@N02_34_ef.mp4"),
        ("didemo", "12@N02_34_ef.", "12@N02_34_ef."),
        ("didemo", "12@N02_34_ef.", "12@N02_34_ef..mp4"),
        ("didemo", "12@N02_34_ef.", "12@N02_34_ef.mp4"),
    ],
)
def test_a_video_is_found_under_its_usual_names(tmp_path: Path, benchmark: str, video_id: str, file: str) -> None:
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).touch()
    (tmp_path / f"{video_id}.txt").touch()  # not a video
    (tmp_path / f"{video_id}x.mp4").touch()  # another video's file
    assert match_files([video_id, "other"], VideoFiles(tmp_path), BENCHMARKS[benchmark].file_names).files == {
        video_id: tmp_path / file,
        "other": None,
    }


def test_the_full_name_and_the_own_spelling_come_first(tmp_path: Path) -> None:
    for name in ("a.mov", "a.mov.mp4", "v_b.mp4", "b.mp4"):
        (tmp_path / name).touch()
    files = VideoFiles(tmp_path)
    assert match_files(["a.mov"], files, didemo.file_names).files == {"a.mov": tmp_path / "a.mov"}
    assert match_files(["v_b"], files, activitynet.file_names).files == {"v_b": tmp_path / "v_b.mp4"}


def test_two_files_for_one_video_are_an_error(tmp_path: Path) -> None:
    """Two files that match one video are an error, because the choice would be arbitrary."""
    (tmp_path / "small").mkdir()
    (tmp_path / "video0.mp4").touch()
    (tmp_path / "small" / "video0.webm").touch()
    with pytest.raises(ValueError, match=r"'video0': .*video0\.mp4 and .*small/video0\.webm; keep one"):
        match_files(["video0"], VideoFiles(tmp_path), BENCHMARKS["msrvtt"].file_names)


def test_a_file_is_one_videos_only(tmp_path: Path) -> None:
    """A file with the exact name of one ID is not used for another; a file that could belong to two is an error."""
    (tmp_path / "a.mov").touch()
    files, names = VideoFiles(tmp_path), BENCHMARKS["didemo"].file_names
    assert match_files(["a.avi", "a.mov"], files, names).files == {"a.avi": None, "a.mov": tmp_path / "a.mov"}
    (tmp_path / "a.mov").rename(tmp_path / "a.mp4")
    with pytest.raises(ValueError, match=r"a\.mp4: may be the video of 'a\.avi' or of 'a\.mov'"):
        match_files(["a.avi", "a.mov"], VideoFiles(tmp_path), names)


def test_a_preferred_extension_decides_between_files(tmp_path: Path) -> None:
    """`prefer` selects the first listed extension among several files of a video; two files with it are an error."""
    for name in ("video0.mp4", "video0.webm", "video0.mkv", "video1.avi"):
        (tmp_path / name).touch()
    files, names = VideoFiles(tmp_path), BENCHMARKS["msrvtt"].file_names
    matches = match_files(["video0", "video1"], files, names, prefer=["MOV", ".webm", "mp4"])
    assert matches.files == {"video0": tmp_path / "video0.webm", "video1": tmp_path / "video1.avi"}
    assert matches.preferred == {"video0": [tmp_path / "video0.mkv", tmp_path / "video0.mp4"]}
    (tmp_path / "small").mkdir()
    (tmp_path / "small" / "video0.webm").touch()
    with pytest.raises(ValueError, match=r"1 videos have several files.*--prefer"):
        match_files(["video0"], VideoFiles(tmp_path), names, prefer=["webm"])


def test_links_are_followed_on_request(tmp_path: Path) -> None:
    """Links to folders and files are followed with `follow_links`, and a loop of links ends."""
    (tmp_path / "archive" / "deep").mkdir(parents=True)
    (tmp_path / "archive" / "deep" / "video0.mp4").touch()
    (tmp_path / "one.mp4").touch()
    videos = tmp_path / "videos"
    videos.mkdir()
    (videos / "linked").symlink_to(tmp_path / "archive")
    (tmp_path / "archive" / "back").symlink_to(videos)
    (videos / "video1.mp4").symlink_to(tmp_path / "one.mp4")
    names = BENCHMARKS["msrvtt"].file_names
    paths = match_files(["video0", "video1"], VideoFiles(videos, follow_links=True), names).files
    assert paths == {"video0": videos / "linked" / "deep" / "video0.mp4", "video1": videos / "video1.mp4"}
    with pytest.raises(ValueError, match=r"none of the 1 videos is there, such as 'video1': its file is a link that"):
        match_files(["video1"], VideoFiles(videos), names)
    with pytest.raises(
        ValueError, match=r"'video0': the folder has 1 links to folders, such as linked; --follow-links"
    ):
        match_files(["video0"], VideoFiles(videos), names)


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ([], "there is no file in the folder"),
        (["list.txt"], "none of the 1 files in the folder is a video, such as list.txt"),
        (["x.mp4", "y.avi"], "the folder has 2 videos of other names, such as x.mp4; expected a name like video7.mp4"),
    ],
)
def test_a_wrong_folder_is_told_from_a_wrong_name(tmp_path: Path, files: list[str], why: str) -> None:
    for name in files:
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match=f"none of the 2 videos is there, such as 'video7': {why}"):
        match_files(["video7", "video8"], VideoFiles(tmp_path), BENCHMARKS["msrvtt"].file_names)


def test_no_link_leads_out_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    (tmp_path / "secret.mp4").touch()
    (tmp_path / "videos" / "video0.mp4").symlink_to(tmp_path / "secret.mp4")
    (tmp_path / "videos" / "video1.mp4").touch()
    (tmp_path / "videos" / "video2.mp4").symlink_to(tmp_path / "videos" / "video1.mp4")
    files = VideoFiles(tmp_path / "videos")
    matches = match_files(["video0", "video2"], files, BENCHMARKS["msrvtt"].file_names)
    assert matches.files == {"video0": None, "video2": tmp_path / "videos" / "video2.mp4"}
    assert "leads out" in files.why_missing(["video0"])
    assert "no file" in files.why_missing(["video3"])


def test_a_folder_without_any_of_the_videos_is_an_error(source: Path, tmp_path: Path) -> None:
    """A folder without any of the videos is an error, and nothing is written."""
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=f"empty: none of the {NUM_CLIPS} videos is there"):
        prepare(
            "lsmdc",
            tmp_path / "out",
            annotations=source / "annotations",
            videos=tmp_path / "empty",
            splits=["test"],
        )
    assert not (tmp_path / "out").exists()


# ----------------------------------------------------------------------------------------------------------------
# Shards and their manifest
# ----------------------------------------------------------------------------------------------------------------


def test_every_clip_is_in_a_shard_or_in_the_report(source: Path, prepared: Path) -> None:
    manifest = Manifest.from_json((prepared / "test.json").read_text(), "test.json")
    ids = [row.video_id for row in BENCHMARKS["lsmdc"].rows(source / "annotations", "test")]
    assert [remark.video_id for remark in manifest.missing] == [ids[3]]
    assert [remark.video_id for remark in manifest.broken] == [ids[4], ids[5]]
    assert manifest.missing[0].reason == "no file of that name"
    assert manifest.broken[0].reason.startswith("not a video")
    assert str(source) not in (prepared / "test.json").read_text()  # the manifest may be published
    clips = members(prepared)
    assert sorted(clips) == sorted(set(ids) - set(ids[3:6]))
    assert clips[ids[7]][0] == {
        "id": ids[7],
        "captions": ["SOMEONE does number 7."],
        "start": None,
        "end": None,
        "group": None,
    }
    assert (manifest.videos, manifest.captions) == (NUM_CLIPS - 3, NUM_CLIPS - 3)
    assert sum(shard.videos for shard in manifest.shards) == manifest.videos
    assert sorted(contents(prepared)) == ["README.md", *(f"test-{n:05d}.tar" for n in range(6)), "test.json"]


@pytest.mark.slow
def test_workers_change_no_byte(source: Path, prepared: Path, tmp_path: Path) -> None:
    prepare_lsmdc(source, tmp_path, workers=2)
    assert contents(tmp_path) == contents(prepared)


def test_without_reencoding_files_are_copied(source: Path, tmp_path: Path) -> None:
    manifest = prepare_lsmdc(source, tmp_path, reencode=False)
    assert [len(manifest.missing), len(manifest.broken)] == [1, 2]
    for video_id, (_, video) in members(tmp_path).items():
        assert video == (source / "videos" / "film" / f"{video_id}.avi").read_bytes()


def test_moments_stay_true(tmp_path: Path) -> None:
    """A copied file keeps the row's moment; a re-encoded file contains only the moment, so the row has none."""
    (tmp_path / "videos").mkdir()
    write_video(tmp_path / "videos" / "a.mov.mp4", frames=320, fps=10)
    (tmp_path / "test_list.txt").write_text("a.mov\n")
    (tmp_path / "test_data.json").write_text(json.dumps([{"video": "a.mov", "description": "a bar"}]))
    for reencode, moment, seconds in [(False, (0.0, 31.0), 32), (True, (None, None), 31 + 1 / 3)]:
        out = tmp_path / f"out-{reencode}"
        prepare(
            "didemo",
            out,
            annotations=tmp_path,
            videos=tmp_path / "videos",
            splits=["test"],
            reencode=reencode,
            workers=0,
        )
        annotation, video = members(out)["a.mov"]
        assert (annotation["start"], annotation["end"]) == moment
        assert decode_video(video).info.duration == pytest.approx(seconds)


def test_clips_are_shuffled_evenly_by_the_seed() -> None:
    ids = [f"video{number}" for number in range(100)]
    shards = assign_to_shards(ids, 16, seed=0)
    assert sorted(index for shard in shards for index in shard) == list(range(100))
    assert {len(shard) for shard in shards} == {6, 7}
    assert assign_to_shards(ids, 16, seed=1) != shards
    in_other_order = assign_to_shards(ids[::-1], 16, seed=0)
    assert [[99 - index for index in shard] for shard in in_other_order] == shards


@pytest.mark.parametrize(("clips", "shards"), [(1, 1), (127, 8), (128, 16), (1000, 64), (9000, 64), (101_046, 128)])
def test_the_number_of_shards_is_sensible(clips: int, shards: int) -> None:
    assert default_num_shards(clips) == shards


@pytest.mark.slow
def test_moving_things_are_rendered(tmp_path: Path) -> None:
    """Every split is rendered from the seed alone; diagnostic splits have groups."""
    manifests = prepare("moving_things", tmp_path / "a", num_clips=8, workers=0)
    assert [manifest.split for manifest in manifests] == [
        "train",
        "validation",
        "test",
        "unseen",
        "motion",
        "small_object",
    ]
    assert all(manifest.videos == 8 for manifest in manifests)
    clips = members(tmp_path / "a")
    assert sum(annotation["group"] is not None for annotation, _ in clips.values()) == 24
    assert all(decode_video(video).info.num_frames > 1 for _, video in clips.values())
    prepare("moving_things", tmp_path / "b", num_clips=8, workers=0)
    assert contents(tmp_path / "b") == contents(tmp_path / "a")
    prepare("moving_things", tmp_path / "c", num_clips=8, workers=0, seed=1, splits=["test"])
    assert contents(tmp_path / "c")["test-00000.tar"] != contents(tmp_path / "a")["test-00000.tar"]


def test_what_an_older_drawing_made_is_not_taken_for_current(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Videos of another drawing version need `overwrite`, because a split must not mix two versions."""
    prepare("moving_things", tmp_path, num_clips=8, workers=0, splits=["test"])
    monkeypatch.setattr(moving_things, "DRAWING", moving_things.DRAWING + 1)
    with pytest.raises(FileExistsError, match=r"'test' was prepared with drawing=\d+, not \d+; .*--overwrite"):
        prepare("moving_things", tmp_path, num_clips=8, workers=0, splits=["test"])
    prepare("moving_things", tmp_path, num_clips=8, workers=0, splits=["test"], overwrite=True)


# ----------------------------------------------------------------------------------------------------------------
# Interrupted and repeated runs
# ----------------------------------------------------------------------------------------------------------------

RUN = """
import sys
from ts2net.data.manifest import Manifest
from ts2net.data.prepare import prepare
from ts2net.errors import one_line
source, out, workers = sys.argv[1:]
prepare("lsmdc", out, annotations=f"{source}/annotations", videos=f"{source}/videos", splits=["test"], num_shards=6,
        workers=int(workers), reencode=True)
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
def test_a_killed_run_ends_with_the_same_bytes(source: Path, prepared: Path, tmp_path: Path) -> None:
    """After kills at the start, in the middle and near the end, the next run continues and gives the same bytes."""
    out = tmp_path / "out"
    out.mkdir()
    for shard in (0, 2, 5):
        process = ForkedPython(["-c", RUN, source, out, "0"])
        unfinished, finished = out / f".test-{shard:05d}.tar.part", out / f"test-{shard:05d}.tar"
        while process.poll() is None and not (unfinished.exists() or finished.exists()):
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert not (out / "test.json").exists()
    done_before = {path.name: path.stat().st_mtime_ns for path in out.glob("test-*.tar")}
    assert len(done_before) >= 5
    noted = [path.stem for path in (out / ".test.preparing").glob("0*.json")]
    assert ForkedPython(["-c", RUN, source, out, "0"]).wait() == 0
    assert contents(out) == contents(prepared)
    for number in noted:  # finished shards were kept
        assert (out / f"test-{number}.tar").stat().st_mtime_ns == done_before[f"test-{number}.tar"]


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="needs SIGINT")
def test_ctrl_c_leaves_finished_shards_and_says_so(source: Path, prepared: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["prepare", "lsmdc", "--annotations", source / "annotations", "--videos", source / "videos"]
    arguments += ["--out", out, "--split", "test", "--shards", "6", "--reencode", "--workers", "1"]
    process = ForkedPython(["-m", "ts2net", *arguments])
    while process.poll() is None and not (out / ".test.preparing" / "00001.json").exists():
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    assert process.wait() == 130
    assert process.printed() == ("", "stopped; the same command goes on from here\n")
    prepare_lsmdc(source, out)
    assert contents(out) == contents(prepared)
    assert not list(out.glob(".*.part"))  # an interrupt can leave one, which the next run removes


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
def test_workers_end_with_a_killed_parent(source: Path, tmp_path: Path) -> None:
    """Workers end when their parent is killed, and don't wait for work forever."""
    out = tmp_path / "out"
    process = subprocess.Popen([sys.executable, "-c", RUN, str(source), str(out), "2"], stdout=subprocess.PIPE)
    while process.poll() is None and not list(out.glob(".test-*.part")):
        time.sleep(0.002)
    process.kill()
    process.communicate(timeout=60)  # returns when the last process with the pipe open has ended


def test_a_repeated_run_makes_only_what_has_changed(source: Path, tmp_path: Path) -> None:
    """A new video changes only its own shard, and the result equals that of a new run."""
    shutil.copytree(source, tmp_path / "source")
    out = tmp_path / "out"
    before = prepare_lsmdc(tmp_path / "source", out)
    times = {path.name: path.stat().st_mtime_ns for path in out.glob("*.tar")}
    assert prepare_lsmdc(tmp_path / "source", out) == before
    assert {path.name: path.stat().st_mtime_ns for path in out.glob("*.tar")} == times

    write_video(tmp_path / "source" / "videos" / f"{before.missing[0].video_id}.mp4", frames=12, fps=12)
    after = prepare_lsmdc(tmp_path / "source", out)
    assert (after.missing, after.broken, after.videos) == ((), before.broken, before.videos + 1)
    changed = [name for name, mtime in times.items() if (out / name).stat().st_mtime_ns != mtime]
    assert len(changed) == 1
    prepare_lsmdc(tmp_path / "source", tmp_path / "new")
    assert contents(out) == contents(tmp_path / "new")


@pytest.mark.parametrize("failure", [OSError(errno.EIO, "Input/output error"), MemoryError(), None])
def test_a_repeated_run_tries_again_what_may_have_passed(
    source: Path, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception | None
) -> None:
    """I/O errors, `MemoryError` and killed workers (None) may be temporary, so that the next run retries the video."""
    out, unlucky = tmp_path / "out", f"{FILM}.007"

    def make(row: Row, source: Path, reencode: bool) -> object:
        return Died() if row.video_id == unlucky else make_video(row, source, reencode)

    def reencode(video: Path, start: float | None, end: float | None) -> Reencoded:
        if failure is not None and video.stem == unlucky:
            raise failure
        return reencode_video(video, start, end)

    with monkeypatch.context() as patch:
        patch.setattr(clip_videos, "reencode_video", reencode)
        if failure is None:
            patch.setattr(split_preparation, "make_video", make)
        manifest = prepare_lsmdc(source, out)
    assert [remark.video_id for remark in manifest.broken if remark.may_pass] == [unlucky]
    times = {path.name: path.stat().st_mtime_ns for path in out.glob("*.tar")}
    prepare_lsmdc(source, out)
    assert contents(out) == contents(prepared)
    assert len([name for name, mtime in times.items() if (out / name).stat().st_mtime_ns != mtime]) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_told_with_the_shard(source: Path, tmp_path: Path) -> None:
    """A write to a full disk raises an error that names the shard. The shard's partial file links to `/dev/full`."""
    (tmp_path / ".test-00000.tar.part").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left on device") as caught:
        prepare_lsmdc(source, tmp_path)
    assert one_line(caught.value) == f"{tmp_path}/test-00000.tar: No space left on device"


def test_empty_captions_and_doubled_files_are_choices_that_are_counted(tmp_path: Path, capsys) -> None:
    """Options skip empty captions and choose between duplicate files; the report counts and names each case."""
    (tmp_path / "videos").mkdir()
    sentences = [("video0", "a bar"), ("video0", " "), ("video1", ""), ("video2", "another bar")]
    data = {"sentences": [{"video_id": video_id, "caption": caption} for video_id, caption in sentences]}
    (tmp_path / "MSRVTT_data.json").write_text(json.dumps(data))
    (tmp_path / "MSRVTT_train.9k.csv").write_text("video_id\nvideo0\nvideo1\nvideo2\n")
    for name in ("video0.mp4", "video1.mp4", "video2.mp4", "video2.webm"):
        (tmp_path / "videos" / name).write_bytes(encoded(container="mp4"))
    arguments = ["--annotations", tmp_path, "--videos", tmp_path / "videos", "--split", "train", "--workers", 0]
    assert run_cli("prepare", "msrvtt", *arguments, "--out", tmp_path / "out") == 1
    assert "MSRVTT_data.json: sentences[1]: expected a caption, found ' '" in capsys.readouterr().err
    options = ["--skip-empty-captions", "--prefer", "webm", "mp4"]
    assert run_cli("prepare", "msrvtt", *arguments, *options, "--out", tmp_path / "out") == 0
    report = capsys.readouterr().out
    assert "preferred: video2: video2.webm rather than video2.mp4" in report
    assert "empty caption left out: MSRVTT_data.json: sentences[1]" in report
    assert "left out, all captions empty: video1" in report
    assert "list 3 videos instead of 9,000 and 4 captions instead of 180,000" in report
    text = (tmp_path / "out" / "train.json").read_text()
    manifest = Manifest.from_json(text, "train.json")
    assert (manifest.videos, manifest.captions, manifest.num_listed) == (2, 2, (3, 4))
    assert str(tmp_path) not in text
    assert run_cli(
        "prepare", "msrvtt", *arguments, "--skip-empty-captions", "--prefer", "mp4", "--out", tmp_path / "out"
    )
    assert "prepared with prefer=['webm', 'mp4'], not ['mp4']" in capsys.readouterr().err


def test_other_settings_need_overwrite(source: Path, prepared: Path, tmp_path: Path) -> None:
    """Other settings need `overwrite`, because a folder must not mix shards of two settings."""
    out = tmp_path / "out"
    shutil.copytree(prepared, out)
    for options in ({"seed": 1}, {"num_shards": 3}, {"reencode": False}):
        with pytest.raises(FileExistsError, match=r"'test' was prepared with .*, not .*--overwrite"):
            prepare_lsmdc(source, out, **options)
    assert contents(out) == contents(prepared)
    prepare_lsmdc(source, out, num_shards=3, overwrite=True)
    prepare_lsmdc(source, tmp_path / "new", num_shards=3)
    assert contents(out) == contents(tmp_path / "new")


@pytest.mark.slow
def test_two_runs_in_one_folder_are_kept_apart(source: Path, tmp_path: Path) -> None:
    """A second run in a folder is refused, because both would write the same files."""
    (tmp_path / ".test.preparing").mkdir()
    with WeakFileLock(tmp_path / ".test.preparing" / "lock"):
        with pytest.raises(BlockingIOError, match="another process is preparing 'test' there"):
            prepare_lsmdc(source, tmp_path)
        assert (tmp_path / ".test.preparing" / "lock").exists()
    assert prepare_lsmdc(source, tmp_path).videos == NUM_CLIPS - 3


def test_a_folder_holds_one_benchmark(prepared: Path, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(encoded(container="mp4"))
    (tmp_path / "a.txt").write_text("a bar\n")
    with pytest.raises(FileExistsError, match="holds lsmdc; folder needs a folder of its own"):
        prepare("folder", prepared, videos=tmp_path, workers=0)


# ----------------------------------------------------------------------------------------------------------------
# Re-encoding
# ----------------------------------------------------------------------------------------------------------------


def likeness(original: torch.Tensor, small: torch.Tensor) -> float:
    """Mean absolute difference of two videos, in levels of 0 to 255."""
    return (original.float() - small.float()).abs().mean().item()


@pytest.mark.parametrize("fps", [3, 10, 24, 25, 30, 60])
@pytest.mark.parametrize(("start", "end"), [(None, None), (1.0, 3.0), (2.0, None)])
def test_sampling_the_small_video_gives_the_frames_of_the_original(
    fps: int, start: float | None, end: float | None
) -> None:
    """The frames have the same number, times and pictures; a shift by one frame would differ far more."""
    original = encoded(frames=int(4.5 * fps), fps=fps, container="mp4")
    expected = decode_video(original, FrameSampling(start=start, end=end))
    reencoded = decode_video(reencode_video(original, start, end).video)
    assert [moment + (start or 0) for moment in reencoded.timestamps] == pytest.approx(expected.timestamps, abs=1e-5)
    neighbours = decode_video(original, FrameSampling(fps=fps, num_frames=2)).frames
    difference = likeness(expected.frames, reencoded.frames)
    assert difference < 0.5 * likeness(neighbours[0], neighbours[1])


def test_an_uneven_frame_rate_keeps_its_times(tmp_path: Path) -> None:
    """With slides of different durations, each sampled time shows the slide of the original at that time."""
    pts = [0, 1000, 1200, 1300, 4600, 9100]  # milliseconds
    slides = write_video(tmp_path / "slides.mkv", frames=6, pts=pts, time_base=Fraction(1, 1000), options={"bf": "0"})
    small = decode_video(reencode_video(slides).video, FrameSampling(num_frames=100))
    originals = [torch.from_numpy(frame.to_ndarray(format="rgb24")) for frame in decode_from_start(str(slides))]
    by_time = dict(zip(pts, originals, strict=True))
    times = torch.tensor(pts)
    assert len(small.timestamps) >= 10
    for moment, frame in zip(small.timestamps, small.frames, strict=True):
        on_screen = int(times[times <= round(1000 * moment)][-1])
        others = [likeness(other, frame) for start, other in by_time.items() if start != on_screen]
        assert likeness(by_time[on_screen], frame) < 0.5 * min(others)


@pytest.mark.parametrize("rotation", [90, 180, -90])
def test_rotation_is_applied(tmp_path: Path, rotation: int) -> None:
    """The decoder rotates the original; the re-encoded file stores rotated frames without rotation metadata."""
    original = write_video(tmp_path / "turned.mp4", rotation=rotation, size=(64, 48))
    expected, reencoded = decode_video(original), decode_video(reencode_video(original).video)
    assert expected.frames.shape == reencoded.frames.shape
    assert likeness(expected.frames, reencoded.frames) < 0.5 * likeness(expected.frames, reencoded.frames.flip((1, 2)))


@pytest.mark.parametrize(
    ("size", "small"),
    [((640, 360), (398, 224)), ((360, 640), (224, 398)), ((224, 224), (224, 224)), ((100, 64), (100, 64))],
)
def test_the_short_side_is_224_but_nothing_is_enlarged(size: tuple[int, int], small: tuple[int, int]) -> None:
    video = reencode_video(encoded(frames=6, fps=6, size=size, container="mp4")).video
    with av.open(io.BytesIO(video)) as container:
        (stream,) = container.streams
        assert (stream.width, stream.height) == small
        assert stream.codec_context.name == "h264"
        assert stream.average_rate == 3


def test_sound_is_dropped_and_odd_sizes_become_even(tmp_path: Path) -> None:
    loud = write_streams(tmp_path / "loud.mp4")
    with av.open(io.BytesIO(reencode_video(loud).video)) as container:
        assert [stream.type for stream in container.streams] == ["video"]
    odd = write_video(tmp_path / "odd.mkv", size=(65, 49), codec="ffv1", pix_fmt="yuv444p")
    with av.open(io.BytesIO(reencode_video(odd).video)) as container:
        assert (container.streams[0].width, container.streams[0].height) == (64, 48)


def test_what_is_left_of_a_damaged_video_is_used_and_said() -> None:
    whole = encoded(frames=48, container="matroska")
    reencoded = reencode_video(whole[: len(whole) // 2] + bytes(400))
    assert reencoded.damage is not None
    assert "damaged or cut off" in reencoded.damage
    assert 0 < decode_video(reencoded.video).info.num_frames < 6


def test_a_moment_behind_the_end_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"start=5.0 s lies beyond the end of the video \(2\.000 s\)"):
        reencode_video(encoded(container="mp4"), start=5.0)


# ----------------------------------------------------------------------------------------------------------------
# The Hub and the command line
# ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    with LoopbackHub(multipart_chunk_size=16 * 1024) as hub:
        hub.use_here(monkeypatch)
        yield hub


LOAD = """
import json, sys
import datasets
from ts2net.data import load_benchmark, read_manifest
repo = sys.argv[1]
clips = load_benchmark("lsmdc", repo, "test")
plain = datasets.load_dataset(repo, split="test", streaming=True)
print(json.dumps({
    "manifest": read_manifest(repo, "test").videos,
    "ids": sorted(row["id"] for row in clips),
    "bytes": sum(len(row["video"]["bytes"]) for row in clips),
    "plain": sorted(row["json"]["id"] for row in plain if row["mp4"]["bytes"]),
    "shards": clips.num_shards,
}))
"""


@pytest.mark.slow
def test_what_is_pushed_is_streamed_from_the_hub(prepared: Path, hub: LoopbackHub, tmp_path: Path) -> None:
    """A push is one commit of only the prepared files to a private repository that ts2net and `datasets` can read."""
    folder = tmp_path / "folder"
    shutil.copytree(prepared, folder)
    (folder / "notes.txt").write_text("mine")
    commit = push_prepared(folder, "tester/lsmdc", private=True, token=hub.token)
    repository = hub.repositories["tester/lsmdc"]
    assert repository.private
    assert len(repository.history()) == 2  # the Hub's initial commit and the push
    files = repository.at("main").files
    assert set(files) == {".gitattributes", *contents(prepared)}
    assert 'load_dataset("tester/lsmdc", split="test"' in files["README.md"].content.decode()
    assert hub.token not in str(commit)

    environment = os.environ | hub.env(tmp_path / "home", hub.token)
    result = subprocess.run(
        [sys.executable, "-c", LOAD, "tester/lsmdc"], env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    answer = json.loads(result.stdout.splitlines()[-1])
    clips = members(prepared)
    assert answer["ids"] == answer["plain"] == sorted(clips)
    assert answer["bytes"] == sum(len(video) for _, video in clips.values())
    assert (answer["manifest"], answer["shards"]) == (len(clips), 6)


@pytest.mark.slow
def test_a_push_replaces_the_shards_of_another_size(
    source: Path, prepared: Path, hub: LoopbackHub, tmp_path: Path
) -> None:
    push_prepared(prepared, "tester/lsmdc", token=hub.token)
    prepare_lsmdc(source, tmp_path, num_shards=2)
    push_prepared(tmp_path, "tester/lsmdc", token=hub.token)
    assert set(hub.repositories["tester/lsmdc"].at("main").files) == {".gitattributes", *contents(tmp_path)}


def test_a_push_that_fails_leaves_no_trace_and_no_token(
    prepared: Path, hub: LoopbackHub, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", hub.token)
    with hub.break_request("POST .*/commit/main", status=403), pytest.raises(Exception, match="403") as caught:
        push_prepared(prepared, "tester/lsmdc")
    assert len(hub.repositories["tester/lsmdc"].history()) == 1
    output = capfd.readouterr()
    assert hub.token not in str(caught.value) + output.out + output.err


def run_cli(*arguments: object) -> int:
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    return int(caught.value.code or 0)


def test_the_command_prepares_and_reports(source: Path, prepared: Path, tmp_path: Path, capsys) -> None:
    arguments = ["--annotations", source / "annotations", "--videos", source / "videos", "--out", tmp_path]
    options = ["--split", "test", "--shards", 6, "--reencode", "--workers", 0]
    assert run_cli("prepare", "lsmdc", *arguments, *options) == 0
    assert contents(tmp_path) == contents(prepared)
    output = capsys.readouterr().out
    assert f"missing: {FILM}.003: no file of that name" in output
    assert f"broken: {FILM}.004: not a video" in output


def test_a_command_whose_push_fails_says_where_all_is(
    source: Path, hub: LoopbackHub, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the prepared folder, and repeating the command pushes it without a new preparation."""
    monkeypatch.setenv("HF_TOKEN", hub.token)
    arguments = ["--annotations", source / "annotations", "--videos", source / "videos", "--out", tmp_path]
    command = ["prepare", "lsmdc", *arguments, "--split", "test", "--workers", 0, "--push-to-hub", "tester/lsmdc"]
    with hub.break_request("POST .*/commit/main", status=403):
        assert run_cli(*command) == 1
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith("error: pushing to tester/lsmdc failed: 403 Forbidden")
    assert message.endswith(f"on purpose. All is prepared in {tmp_path}; the same command pushes it")
    assert run_cli(*command) == 0
    assert set(hub.repositories["tester/lsmdc"].at("main").files) == {".gitattributes", *contents(tmp_path)}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["imagenet"], "there is no benchmark 'imagenet'"),
        (["msrvtt", "--videos", "."], "msrvtt needs the folder with the annotation files"),
        (["msrvtt", "--annotations", "."], "msrvtt needs the folder with the videos"),
        (["msrvtt", "--annotations", ".", "--videos", "nowhere"], "MSRVTT_train.9k.csv: no such file"),
        (["folder", "--videos", "nowhere"], "nowhere: no such folder"),
        (["folder", "--videos", ".", "--push-to-hub", "a/b/c"], "'a/b/c' is not the id of a repository"),
        (["folder", "--videos", ".", "--clips", "3"], "can be chosen for moving_things only"),
        (["moving_things", "--videos", "."], "it takes no annotations and no videos"),
        (["moving_things", "--follow-links"], "it takes no annotations and no videos"),
        (["folder", "--videos", ".", "--prefer", "mp4"], "--prefer is for benchmarks"),
    ],
)
def test_a_wrong_command_line_is_told_so(
    arguments: list[str], message: str, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_cli("prepare", *arguments, "--out", "out") != 0
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
