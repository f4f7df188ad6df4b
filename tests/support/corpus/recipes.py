"""The corpus: a recipe for each kind of file, ordinary and unusual."""

import struct
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from .truth import Case
from .writing import (
    MILLISECONDS,
    add_attachment,
    add_cover,
    add_small_stream,
    change_box,
    cut_bytes,
    even,
    insert_before_slices,
    jpeg,
    numbered,
    picture_frame,
    remux,
    set_edits,
    without_times,
    write,
)

Recipe = Callable[[Path], Case]

RECIPES: dict[str, Recipe] = {}

FILM, NTSC = Fraction(24000, 1001), Fraction(30000, 1001)


def recipe(make: Recipe) -> Recipe:
    """Add a recipe to the corpus under the name of its function."""
    RECIPES[make.__name__] = make
    return make


def add(name: str, make: Recipe) -> None:
    """Add a recipe to the corpus under a given name, for several recipes that differ in a value."""
    RECIPES[name] = make


def _plain(name: str, file: str, times: Sequence[float], **settings: Any) -> None:
    """Add a recipe that consists of one call of `write`."""
    turned = {key: settings[key] for key in ("rotation", "hflip", "aspect") if key in settings}
    add(name, lambda folder: Case(write(folder / file, times, **settings), **turned))


# ---------------------------------------------------------------------------------------------------------------------
# Rates

_plain("rate_25_mp4", "a.mp4", even(60))
_plain("rate_25_mkv", "a.mkv", even(60))
_plain("rate_23_976_mp4", "a.mp4", even(90, FILM), time_base=1 / FILM, rate=FILM)
_plain("rate_29_97_mkv_in_milliseconds", "a.mkv", even(90, NTSC), rate=NTSC)
_plain("rate_59_94_ts", "a.ts", even(150, 2 * NTSC), time_base=Fraction(1, 90000), rate=2 * NTSC)
_plain("rate_4_webm", "a.webm", even(40, 4), codec="libvpx", rate=4)
_plain("rate_120_mp4", "a.mp4", even(150, 120), time_base=Fraction(1, 120), rate=120)
_plain("rate_1_5_mp4", "a.mp4", even(60, Fraction(3, 2)), time_base=Fraction(1, 3), rate=Fraction(3, 2))
_plain("rate_a_frame_in_ten_seconds_mp4", "a.mp4", even(9, Fraction(1, 10)), rate=Fraction(1, 10))
_plain("rate_declared_slightly_wrong_mkv", "a.mkv", even(200, 24.7), rate=25)
_plain("rate_declared_four_times_too_high_mp4", "a.mp4", even(60, 6), rate=25)

_JITTER = [number / 25 + (0.015 if number % 3 == 1 else -0.012 if number % 3 == 2 else 0) for number in range(150)]
_plain("variable_jitter_mkv", "a.mkv", _JITTER)
_plain("variable_jitter_mp4", "a.mp4", _JITTER)
_VARIABLE = [0, 0.1, 0.2, 0.3, 5, 5.1, 5.2, 9]
_plain("variable_mp4", "a.mp4", _VARIABLE)
_plain("variable_mkv", "a.mkv", _VARIABLE)
_plain("variable_webm_vp8", "a.webm", _VARIABLE, codec="libvpx")
_plain("variable_ts", "a.ts", [0, 0.1, 0.2, 0.3, 2, 2.1, 2.2, 3], time_base=Fraction(1, 90000))
_plain("variable_two_rates_mp4", "a.mp4", even(50, 25) + even(30, 5, start=2))
_plain("slides_mp4", "a.mp4", [0, 10, 20, 30, 30.04])
_plain("slides_uneven_mp4", "a.mp4", [0, 1, 2, 3, 13, 13.04])


@recipe
def slides_last_long_mp4(folder: Path) -> Case:
    """The last picture stays on screen for eight seconds."""

    def edit(packets: list[av.Packet]) -> list[av.Packet]:
        packets[-1].duration = round(8 / packets[-1].time_base)
        return packets

    source = write(folder / "0.mp4", [0, 1, 2], options={"bf": "0"})
    return Case(remux(source, folder / "a.mp4", edit=edit), end=10)


# ---------------------------------------------------------------------------------------------------------------------
# Few frames

for _file, _settings in {
    "a.mp4": {},
    "a.mkv": {},
    "a.avi": {"codec": "mpeg4", "time_base": Fraction(1, 25)},
    "a.webm": {"codec": "libvpx-vp9"},
    "a.gif": {"codec": "gif", "pix_fmt": "rgb8", "time_base": Fraction(1, 100)},
}.items():
    for _count in (1, 2):
        _plain(f"few_{_count}_{_file[2:]}", _file, even(_count), **_settings)  # type: ignore[arg-type]

# ---------------------------------------------------------------------------------------------------------------------
# References between frames

_plain("gop_b_frames_pyramid_mp4", "a.mp4", even(75), options={"bf": "3", "b-pyramid": "normal", "g": "30"})
_plain("gop_open_h264_mp4", "a.mp4", even(75), options={"bf": "3", "b_strategy": "0", "g": "12", "flags": "-cgop",
       "x264-params": "open-gop=1:cpu-independent=1"})  # fmt: skip
_plain("gop_open_h264_ts", "a.ts", even(75), time_base=Fraction(1, 90000), options={"bf": "3", "b_strategy": "0",
       "g": "12", "x264-params": "open-gop=1:cpu-independent=1"})  # fmt: skip
_HEVC_OPEN = {"x265-params": "log-level=none:pools=none:frame-threads=1:keyint=12:min-keyint=12:bframes=3:open-gop=1"}
_plain("gop_open_hevc_mp4", "a.mp4", even(60), codec="libx265", size=(96, 96), options=_HEVC_OPEN)
_plain("gop_open_hevc_mkv", "a.mkv", even(60), codec="libx265", size=(96, 96), options=_HEVC_OPEN)
_plain("gop_all_intra_mp4", "a.mp4", even(40), options={"g": "1"})
_plain("gop_one_mp4", "a.mp4", even(100), options={"g": "1000"})
_plain("gop_intra_refresh_mp4", "a.mp4", even(75), options={"x264-params": "intra-refresh=1:keyint=25:bframes=0"})
_plain("gop_interlaced_mp4", "a.mp4", even(50), options={"x264-params": "tff=1:bframes=2:keyint=20"}, size=(64, 64))

# ---------------------------------------------------------------------------------------------------------------------
# Edit lists

_24 = Fraction(1, 24)
_plain("edit_trims_the_start_mp4", "a.mp4", even(60, 24, start=-7 / 24), time_base=_24, rate=24, options={"g": "12"})
_plain("edit_trims_the_start_mpeg4_mp4", "a.mp4", even(60, 24, start=-7 / 24), codec="mpeg4", time_base=_24, rate=24,
       options={"g": "12"})  # fmt: skip


def _edited(edits: Sequence[tuple[float, float]], count: int = 60, **settings: Any) -> Recipe:
    def make(folder: Path) -> Case:
        path = write(folder / "a.mp4", even(count, 24), time_base=_24, rate=24, **settings)
        return Case(set_edits(path, edits), end=sum(seconds for seconds, _ in edits))

    return make


_B = {"options": {"bf": "2", "b_strategy": "0", "g": "12"}}
_FIRST = 2 / 24  # the first time in the media, with two B-frames
for _count in (46, 47, 50, 51):
    _edits = [((_count - 1) / 24, _FIRST)]
    add(f"edit_hides_the_last_of_{_count}_mp4", _edited(_edits, _count, options={"bf": "2", "b_strategy": "0"}))
add("edit_starts_in_the_middle_of_a_gop_mp4", _edited([(40 / 24, _FIRST + 17 / 24)], **_B))
add("edit_starts_between_two_frames_mp4", _edited([(40 / 24, _FIRST + 17.5 / 24)], **_B))
add("edit_ends_in_the_middle_mp4", _edited([(31 / 24, _FIRST)], **_B))
add("edit_ends_in_the_middle_no_b_frames_mp4", _edited([(31 / 24, 0)], options={"bf": "0", "g": "12"}))
add("edit_trims_both_ends_mp4", _edited([(30 / 24, _FIRST + 11 / 24)], **_B))
add("edit_delays_mp4", _edited([(1.5, -1), (60 / 24, _FIRST)], **_B))
add("edit_delays_and_trims_mp4", _edited([(1.5, -1), (40 / 24, _FIRST + 9 / 24)], **_B))
add("edit_cuts_the_middle_out_mp4", _edited([(20 / 24, _FIRST), (20 / 24, _FIRST + 36 / 24)], **_B))
add("edit_none_mp4", lambda folder: Case(_without_edits(write(folder / "a.mp4", even(60, 24), time_base=_24, **_B))))


def _without_edits(path: Path) -> Path:
    """Rename the edit list, so that no reader finds it."""
    path.write_bytes(path.read_bytes().replace(b"edts", b"free"))
    return path


# ---------------------------------------------------------------------------------------------------------------------
# Late starts, and sound that starts at another time

for _delay in (0.4, 0.6, 3):
    _plain(f"late_{_delay}_mkv", "a.mkv", even(100, start=_delay))
    _plain(f"late_{_delay}_webm", "a.webm", even(50, start=_delay), codec="libvpx")
_plain("late_2_mp4", "a.mp4", even(100, start=2))
_plain("late_2_mov", "a.mov", even(100, start=2))
for _file in ("a.mp4", "a.mkv", "a.ts"):
    _base = Fraction(1, 90000) if _file == "a.ts" else MILLISECONDS
    _plain(f"late_after_its_sound_{_file[2:]}", _file, even(60, start=1.6), sound=(0, 4), time_base=_base)
    _plain(f"sound_starts_later_{_file[2:]}", _file, even(60), sound=(1, 3), time_base=_base)
    _plain(f"sound_ends_later_{_file[2:]}", _file, even(30), sound=(0, 6), time_base=_base)
    _plain(f"sound_ends_earlier_{_file[2:]}", _file, even(60), sound=(0, 1), time_base=_base)

# ---------------------------------------------------------------------------------------------------------------------
# Broadcast streams

_90K = {"time_base": Fraction(1, 90000)}
_plain("ts_offset", "a.ts", even(75, start=4000), **_90K)
_plain("ts_mpeg2", "a.ts", even(75), codec="mpeg2video", time_base=Fraction(1, 25), options={"bf": "2", "g": "12"})
_plain("ps_mpeg2", "a.mpg", even(75), codec="mpeg2video", time_base=Fraction(1, 25), options={"bf": "2", "g": "12"})


@recipe
def ts_clock_wraps(folder: Path) -> Case:
    """The clock has 33 bits and wraps around after 26.5 hours, here in the middle of the file."""
    wrap = 2**33 / 90000
    return Case(write(folder / "a.ts", even(75, start=wrap - 1.5), **_90K), times=even(75), end=3)


def _joined(second_start: float, counts: tuple[int, int] = (75, 75)) -> Recipe:
    """Two concatenated recordings: the pictures of the second follow those of the first without a break."""

    def make(folder: Path) -> Case:
        first = write(folder / "1.ts", even(counts[0], start=10), **_90K)
        numbers = range(1001, 1001 + counts[1])
        second = write(folder / "2.ts", even(counts[1], start=second_start), numbers=numbers, **_90K)
        (folder / "a.ts").write_bytes(first.read_bytes() + second.read_bytes())
        return Case(folder / "a.ts", times=even(sum(counts)), end=sum(counts) / 25)

    return make


add("ts_clock_jumps_forward", _joined(5000))
add("ts_clock_jumps_back", _joined(2))
add("ts_clock_starts_again", _joined(10))

# ---------------------------------------------------------------------------------------------------------------------
# Truncated files


def _first_packets(count: int, file: str, **settings: Any) -> Recipe:
    """The first packets in decoding order, like a copy of the first seconds without re-encoding."""

    def make(folder: Path) -> Case:
        options = {"bf": "3", "b_strategy": "0", "g": "30", "sc_threshold": "0"}
        source = write(folder / "0.mkv", even(75), options=options, **settings)
        return Case(remux(source, folder / file, edit=lambda packets: packets[:count]))

    return make


for _count in (34, 36, 37, 39):
    add(f"cut_after_{_count}_packets_mp4", _first_packets(_count, "a.mp4"))
add("cut_after_36_packets_mkv", _first_packets(36, "a.mkv"))
add("cut_after_36_packets_ts", _first_packets(36, "a.ts"))


@recipe
def cut_starts_after_a_keyframe_mkv(folder: Path) -> Case:
    """The first packets are missing: nothing can be decoded before the next keyframe."""
    source = write(folder / "0.mkv", even(75), options={"g": "20", "bf": "0"})
    return Case(remux(source, folder / "a.mkv", edit=lambda packets: packets[5:]), damaged=None)


def _truncated(share: float, file: str, **settings: Any) -> Recipe:
    """A file that is truncated in the middle. MPEG-TS and FLV do not state their full length."""
    damaged = None if file in ("a.ts", "a.flv") else True
    return lambda folder: Case(cut_bytes(write(folder / file, even(100), **settings), share), damaged=damaged)


_FASTSTART = {"muxer": {"movflags": "faststart"}}
_AVI = {"codec": "mpeg4", "time_base": Fraction(1, 25)}
for _share in (0.6, 0.9):
    add(f"truncated_{_share}_mp4", _truncated(_share, "a.mp4", options={"g": "20"}, **_FASTSTART))
    add(f"truncated_{_share}_mkv", _truncated(_share, "a.mkv", options={"g": "20"}))
    add(f"truncated_{_share}_webm", _truncated(_share, "a.webm", codec="libvpx"))
    add(f"truncated_{_share}_avi", _truncated(_share, "a.avi", **_AVI))
    add(f"truncated_{_share}_ts", _truncated(_share, "a.ts", **_90K))
    add(f"truncated_{_share}_flv", _truncated(_share, "a.flv"))


@recipe
def truncated_fragmented_mp4(folder: Path) -> Case:
    """A fragmented file does not state its full length."""
    path = write(folder / "a.mp4", even(100), options={"g": "10"}, muxer={"movflags": "empty_moov+frag_keyframe"})
    return Case(cut_bytes(path, 0.7), damaged=None)


def _scratched(file: str, **settings: Any) -> Recipe:
    """A file with overwritten bytes in the middle."""

    def make(folder: Path) -> Case:
        path = write(folder / file, even(100), **settings)
        data = bytearray(path.read_bytes())
        begin = len(data) * 2 // 5
        data[begin : begin + 300] = np.random.default_rng(0).bytes(300)
        path.write_bytes(data)
        return Case(path, damaged=None)

    return make


add("scratched_mp4", _scratched("a.mp4", options={"g": "20"}))
add("scratched_mkv", _scratched("a.mkv", options={"g": "20"}))
add("scratched_ts", _scratched("a.ts", **_90K))
add("scratched_avi", _scratched("a.avi", **_AVI))

# ---------------------------------------------------------------------------------------------------------------------
# Containers


_plain("fragmented_mp4", "a.mp4", even(75), options={"g": "10"}, muxer={"movflags": "empty_moov+frag_keyframe"})
_plain("fragmented_with_b_frames_mp4", "a.mp4", even(75), options={"g": "10", "bf": "3", "b_strategy": "0"},
       muxer={"movflags": "frag_keyframe+empty_moov+default_base_moof"})  # fmt: skip
_plain("faststart_mp4", "a.mp4", even(75), **_FASTSTART)  # type: ignore[arg-type]
_plain("flv_h264", "a.flv", even(60))
_plain("flv_sorenson", "a.flv", even(60), codec="flv1")
_plain("nut_h264", "a.nut", even(60))
_plain("avi_mpeg4_b_frames", "a.avi", even(60), codec="mpeg4", options={"bf": "2"}, time_base=Fraction(1, 25))
_plain("avi_h264", "a.avi", even(60), options={"bf": "0"}, time_base=Fraction(1, 25))
_plain("asf_wmv2", "a.wmv", even(60), codec="wmv2")
_plain("mxf_mpeg2", "a.mxf", even(50), codec="mpeg2video", time_base=Fraction(1, 25))
_plain("3gp_h263", "a.3gp", even(50), codec="h263", size=(176, 144), aspect=Fraction(12, 11))
_plain("mov_prores", "a.mov", even(30), codec="prores_ks", pix_fmt="yuv422p10le")
_plain("mov_prores_alpha", "a.mov", even(30), codec="prores_ks", pix_fmt="yuva444p10le")
_plain("mov_qtrle", "a.mov", even(30), codec="qtrle", pix_fmt="rgb24")
_plain("mov_png_alpha", "a.mov", even(30), codec="png", pix_fmt="rgba")
_plain("mp4_mjpeg", "a.mp4", even(30), codec="mjpeg", pix_fmt="yuvj420p")
_plain("avi_raw", "a.avi", even(30), codec="rawvideo", pix_fmt="bgr24", time_base=Fraction(1, 25))
_plain("mkv_ffv1_rgb", "a.mkv", even(30), codec="ffv1", pix_fmt="bgr0")
_plain("y4m", "a.y4m", even(30), codec="wrapped_avframe", time_base=Fraction(1, 25))
_plain("dv", "a.dv", even(4), codec="dvvideo", size=(720, 576), time_base=Fraction(1, 25))
_plain("ogg_vp8", "a.ogg", even(40), codec="libvpx", time_base=Fraction(1, 25))
_plain("ivf_vp8", "a.ivf", even(40), codec="libvpx")
_plain("webm_vp9", "a.webm", even(40), codec="libvpx-vp9")
_plain("webm_vp9_hidden_frames", "a.webm", even(60), codec="libvpx-vp9",
       options={"deadline": "good", "cpu-used": "5", "auto-alt-ref": "1", "lag-in-frames": "16"})  # fmt: skip
_plain("mp4_av1", "a.mp4", even(40), codec="libsvtav1")
_plain("mkv_av1", "a.mkv", even(40), codec="libsvtav1")
_plain("ivf_av1", "a.ivf", even(40), codec="libsvtav1")
_plain("gif", "a.gif", even(20, 10), codec="gif", pix_fmt="rgb8", time_base=Fraction(1, 100))
_plain("gif_uneven", "a.gif", [0, 0.1, 0.7, 2, 2.05], codec="gif", pix_fmt="rgb8", time_base=Fraction(1, 100))
_plain("apng", "a.apng", even(20, 10), codec="apng", pix_fmt="rgb24", time_base=Fraction(1, 10))
_plain("apng_alpha", "a.apng", even(20, 10), codec="apng", pix_fmt="rgba", time_base=Fraction(1, 10))


@recipe
def webp_animated(folder: Path) -> Case:
    """FFmpeg can't read the file, and the error has to name its format."""
    pictures = [Image.fromarray(numbered(number, 64, 48)) for number in range(1, 13)]
    durations = [100] * 6 + [400] * 6
    pictures[0].save(folder / "a.webp", save_all=True, append_images=pictures[1:], duration=durations, quality=90)
    return Case(folder / "a.webp", refused="WebP")


def _raw(file: str, codec: str, container: str, **settings: Any) -> Recipe:
    """A stream without a container: times follow from the rate that it states, or 25."""

    def make(folder: Path) -> Case:
        times = even(50, 25)
        path = write(folder / file, times, codec=codec, container=container, time_base=Fraction(1, 25), **settings)
        return Case(path, times=times, end=2)

    return make


add("raw_h264", _raw("a.h264", "libx264", "h264", options={"bf": "2", "b_strategy": "0"}))
add("raw_h264_no_b_frames", _raw("a.h264", "libx264", "h264", options={"bf": "0"}))
add("raw_hevc", _raw("a.hevc", "libx265", "hevc", size=(96, 96)))
add("raw_mpeg2", _raw("a.m2v", "mpeg2video", "mpeg2video", options={"bf": "2"}))
add("raw_mpeg4", _raw("a.m4v", "mpeg4", "m4v"))
add("raw_mjpeg", _raw("a.mjpeg", "mjpeg", "mjpeg", pix_fmt="yuvj420p"))
add("raw_av1", _raw("a.obu", "libsvtav1", "obu"))

# ---------------------------------------------------------------------------------------------------------------------
# Several streams


@recipe
def streams_two_sizes_mp4(folder: Path) -> Case:
    """The larger stream is the video to read."""
    return Case(_two_streams(folder / "a.mp4", (32, 24), (96, 72)))


@recipe
def streams_two_of_a_size_mkv(folder: Path) -> Case:
    """Of equal streams FFmpeg chooses the one with more frames found while probing, or else the first."""
    return Case(_two_streams(folder / "a.mkv", (64, 48), (64, 48)))


@recipe
def streams_two_sizes_ts(folder: Path) -> Case:
    """The pictures of two programmes in one broadcast."""
    return Case(_two_streams(folder / "a.ts", (96, 72), (32, 24)))


def _two_streams(path: Path, *sizes: tuple[int, int]) -> Path:
    with av.open(str(path), "w") as output:
        streams = []
        for size in sizes:
            stream = output.add_stream("libx264", rate=25, options={"threads": "1", "preset": "veryfast"})
            stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
            stream.codec_context.time_base = MILLISECONDS
            streams.append(stream)
        for index in range(50):
            for which, stream in enumerate(streams):
                frame = picture_frame(1 + index + 1000 * which, *sizes[which], "yuv420p")
                frame.pts, frame.time_base = 40 * index, MILLISECONDS
                output.mux(stream.encode(frame))
        for stream in streams:
            output.mux(stream.encode())
    return path


_plain("streams_cover_art_mp4", "a.mp4", even(50), extra=add_cover)
_plain("streams_attached_picture_mkv", "a.mkv", even(50), extra=add_attachment)
_plain("streams_second_is_smaller_mov", "a.mov", even(50), extra=add_small_stream)


# ---------------------------------------------------------------------------------------------------------------------
# Rotation, pixel shape, size and depth

for _rotation in (90, 180, 270):
    _plain(f"turned_{_rotation}_mp4", "a.mp4", even(30), rotation=_rotation)
_plain("turned_90_mkv", "a.mkv", even(30), rotation=90)
_plain("turned_270_mov_mjpeg", "a.mov", even(30), codec="mjpeg", pix_fmt="yuvj420p", rotation=270)
_plain("flipped_mp4", "a.mp4", even(30), hflip=True)
_plain("turned_90_and_flipped_mp4", "a.mp4", even(30), rotation=90, hflip=True)
_plain("turned_270_and_flipped_mkv", "a.mkv", even(30), rotation=270, hflip=True)
_plain("pixels_16_11_mp4", "a.mp4", even(30), aspect=Fraction(16, 11))
_plain("pixels_4_3_mkv", "a.mkv", even(30), aspect=Fraction(4, 3))
_plain("pixels_4_3_ps_mpeg2", "a.mpg", even(30), codec="mpeg2video", time_base=Fraction(1, 25),
       aspect=Fraction(4, 3))  # fmt: skip
_plain("pixels_4_3_turned_90_mp4", "a.mp4", even(30), aspect=Fraction(4, 3), rotation=90)
_plain("pixels_2_1_anamorphic_mov", "a.mov", even(30), codec="prores_ks", pix_fmt="yuv422p10le", aspect=Fraction(2))
_plain("odd_size_mjpeg_avi", "a.avi", even(30), codec="mjpeg", pix_fmt="yuvj444p", size=(65, 49),
       time_base=Fraction(1, 25))  # fmt: skip
_plain("odd_size_h264_444_mkv", "a.mkv", even(30), pix_fmt="yuv444p", size=(67, 51))
_plain("odd_size_h264_420_mkv", "a.mkv", even(30), size=(66, 50))
_plain("odd_size_ffv1_mkv", "a.mkv", even(30), codec="ffv1", pix_fmt="yuv420p", size=(33, 35))
_plain("odd_size_vp9_webm", "a.webm", even(30), codec="libvpx-vp9", size=(65, 49))
_plain("odd_size_tall_mp4", "a.mp4", even(30), size=(16, 240))
_plain("depth_10_h264_mkv", "a.mkv", even(30), pix_fmt="yuv420p10le")
_plain("depth_10_h264_444_mp4", "a.mp4", even(30), pix_fmt="yuv444p10le")
_plain("depth_10_hevc_mp4", "a.mp4", even(30), codec="libx265", size=(96, 96), pix_fmt="yuv420p10le")
_plain("depth_12_hevc_422_mkv", "a.mkv", even(30), codec="libx265", size=(96, 96), pix_fmt="yuv422p12le")
_plain("depth_8_vp9_444_webm", "a.webm", even(30), codec="libvpx-vp9", pix_fmt="yuv444p")
_plain("grey_h264_mp4", "a.mp4", even(30), pix_fmt="gray")
_plain("grey_ffv1_16_mkv", "a.mkv", even(30), codec="ffv1", pix_fmt="gray16le")
_plain("alpha_vp9_webm", "a.webm", even(30), codec="libvpx-vp9", pix_fmt="yuva420p")
_plain("alpha_ffv1_mkv", "a.mkv", even(30), codec="ffv1", pix_fmt="bgra")
_plain("rgb_h264_mkv", "a.mkv", even(30), codec="libx264rgb", pix_fmt="rgb24")


@recipe
def size_changes_mjpeg_avi(folder: Path) -> Case:
    """Pictures have different sizes; the size of the first picture is the video's."""
    sizes = [(64, 48)] * 10 + [(96, 72)] * 10 + [(48, 48)] * 10
    path = folder / "a.avi"
    _write_jpegs(path, [jpeg(number + 1, size) for number, size in enumerate(sizes)], fps=25)
    return Case(path, size=(64, 48))


@recipe
def size_changes_h264_ts(folder: Path) -> Case:
    """Two parts of different sizes with one clock."""
    settings: dict[str, Any] = {"options": {"bf": "0"}, "time_base": Fraction(1, 90000)}
    first = write(folder / "1.ts", even(50), **settings)
    second = write(folder / "2.ts", even(50, start=2), numbers=range(51, 101), size=(96, 80), **settings)
    (folder / "a.ts").write_bytes(first.read_bytes() + second.read_bytes())
    return Case(folder / "a.ts", size=(64, 48), damaged=None)


@recipe
def size_changes_h264_mkv(folder: Path) -> Case:
    """The new size is only in the packets, as in a recorded stream."""
    parts = [
        write(folder / f"{k}.h264", even(30), container="h264", size=size, options={"bf": "0"}, numbers=numbers)
        for k, size, numbers in ((1, (64, 48), range(1, 31)), (2, (96, 72), range(31, 61)))
    ]
    source = folder / "0.h264"
    source.write_bytes(b"".join(part.read_bytes() for part in parts))

    def timed(packets: list[av.Packet]) -> list[av.Packet]:
        for index, packet in enumerate(packets):
            packet.time_base, packet.pts, packet.dts = MILLISECONDS, 40 * index, 40 * index
        return packets

    return Case(remux(source, folder / "a.mkv", edit=timed), size=(64, 48))


def _write_jpegs(path: Path, pictures: Iterable[bytes], fps: int) -> Path:
    with av.open(str(path), "w") as output:
        stream = output.add_stream("mjpeg", rate=fps)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        for index, picture in enumerate(pictures):
            packet = av.Packet(picture)
            packet.stream, packet.pts, packet.dts, packet.time_base = stream, index, index, Fraction(1, fps)
            output.mux(packet)
    return path


# ---------------------------------------------------------------------------------------------------------------------
# Side data and metadata


@recipe
def side_data_exif_in_mjpeg_avi(folder: Path) -> Case:
    """A camera's time lapse, whose frames are copied photographs."""
    exif = Image.Exif()
    exif[0x010F] = "Brinno"
    return Case(_write_jpegs(folder / "a.avi", [jpeg(number, exif=exif) for number in range(1, 13)], fps=2))


@recipe
def side_data_exif_that_turns_in_mjpeg_avi(folder: Path) -> Case:
    """The orientation of photographs, which FFmpeg converts to a display matrix."""
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a quarter turn clockwise
    path = _write_jpegs(folder / "a.avi", [jpeg(number, exif=exif) for number in range(1, 13)], fps=2)
    return Case(path, rotation=270)


def _with_sei(kind: int, payload: bytes) -> Recipe:
    def make(folder: Path) -> Case:
        options = {"bf": "0", "g": "5", "x264-params": "aud=1"}
        path = write(folder / "a.h264", even(40), container="h264", time_base=Fraction(1, 25), options=options)
        unit = b"\x06" + bytes([kind, len(payload)]) + payload + b"\x80"
        path.write_bytes(insert_before_slices(path.read_bytes(), unit))
        return Case(path, times=even(40), end=1.6)

    return make


add("side_data_lcevc_h264", _with_sei(4, b"\xb4\x00\x50\x00" + b"\x01" * 20))
add("side_data_captions_h264", _with_sei(4, b"\xb5\x00\x31GA94\x03\xc1\xff\xfc\x94\x20\xff"))
add("side_data_unregistered_h264", _with_sei(5, bytes(range(16)) + b"text of no meaning"))
_HDR = (
    "log-level=none:pools=none:frame-threads=1:hdr10=1:colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc:"
    "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50):max-cll=1000,400"
)
_plain("side_data_hdr_hevc_mp4", "a.mp4", even(30), codec="libx265", size=(96, 96), pix_fmt="yuv420p10le",
       options={"x265-params": _HDR})  # fmt: skip


def _bad_text(file: str, **settings: Any) -> Recipe:
    """A title in an old encoding, which is not valid UTF-8."""

    def make(folder: Path) -> Case:
        path = write(folder / file, even(50), metadata={"title": "TITLETITLE"}, **settings)
        data = path.read_bytes()
        assert b"TITLETITLE" in data
        path.write_bytes(data.replace(b"TITLETITLE", b"\xff\xfe\xe9t\xe9\xc3\x28\xf8\x88\x80"))
        return Case(path)

    return make


add("text_not_utf_8_mp4", _bad_text("a.mp4"))
add("text_not_utf_8_mkv", _bad_text("a.mkv"))
add("text_not_utf_8_avi", _bad_text("a.avi", **_AVI))
add("text_not_utf_8_nut", _bad_text("a.nut"))

# ---------------------------------------------------------------------------------------------------------------------
# Wrong and missing times

_plain("huge_gap_mkv", "a.mkv", [0, 0.04, 0.08, 24 * 3600])
_plain("huge_gap_mp4", "a.mp4", [0, 0.04, 0.08, 600])


@recipe
def huge_header_duration_mp4(folder: Path) -> Case:
    """The header claims ten thousand hours."""
    path = write(folder / "a.mp4", even(50))

    def claim(content: bytes) -> bytes:
        timescale = struct.unpack_from(">I", content, 12)[0]
        return content[:16] + struct.pack(">I", min(timescale * 36_000_000, 2**32 - 1)) + content[20:]

    data = change_box(path.read_bytes(), ["moov", "mvhd"], claim)
    path.write_bytes(change_box(data, ["moov", "trak", "mdia", "mdhd"], claim))
    return Case(path)


@recipe
def huge_header_duration_mkv(folder: Path) -> Case:
    """The same claim in Matroska, where it is a float in the segment's information."""
    path = write(folder / "a.mkv", even(50))
    data = path.read_bytes()
    position = data.index(b"\x44\x89\x88") + 3
    path.write_bytes(data[:position] + struct.pack(">d", 3.6e10) + data[position + 8 :])
    return Case(path, damaged=None)


def _retimed(change: Callable[[int, int], int], delay: int = 0, **settings: Any) -> Recipe:
    """25 packets per second without B-frames, whose times in milliseconds are changed."""

    def make(folder: Path) -> Case:
        source = write(folder / "0.mkv", even(80), options={"bf": "0", "g": "20"})

        def edit(packets: list[av.Packet]) -> list[av.Packet]:
            for index, packet in enumerate(packets):
                packet.time_base = MILLISECONDS
                packet.pts = change(index, delay + 40 * index)
                packet.dts = 40 * index if delay else packet.pts
            return packets

        return Case(remux(source, folder / "a.mkv", edit=edit), **settings)

    return make


add("times_doubled_mkv", _retimed(lambda index, time: time - time % 80))
add("times_doubled_once_mkv", _retimed(lambda index, time: 39 * 40 if index == 40 else time))
add("times_all_equal_mkv", _retimed(lambda index, time: 0, timed=False))
_LATER = {"delay": 1000, "times": even(80), "end": 3.2}  # times that go back can't be used: only the rate can
add("times_one_wrong_mkv", _retimed(lambda index, time: time + 36_000_000_000 * (index == 40), **_LATER))  # type: ignore[arg-type]
add("times_go_back_once_mkv", _retimed(lambda index, time: time - 120 * (index == 40), **_LATER))  # type: ignore[arg-type]


@recipe
def times_negative_mkv(folder: Path) -> Case:
    """The frames of the first second have negative times, for which FFmpeg returns none."""
    muxer = {"avoid_negative_ts": "disabled"}
    path = write(folder / "a.mkv", even(80, start=-1), muxer=muxer, options={"bf": "0"})
    return Case(path, times=even(80), end=3.2)


@recipe
def times_missing_ts(folder: Path) -> Case:
    """Only every third picture has a time, as in some broadcasts."""
    path = write(folder / "a.ts", even(75), options={"bf": "0"}, **_90K)
    path.write_bytes(without_times(path.read_bytes(), keep=3))
    return Case(path, times=even(75), end=3)
