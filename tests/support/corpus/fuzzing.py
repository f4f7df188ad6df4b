"""Files drawn from a seed: container, codec, times, references, edit lists, streams, sound, side data, damage.

A drawing is a plain record that can be printed. The same seed gives the same file on every machine.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from .truth import Case
from .writing import MILLISECONDS, add_attachment, add_cover, add_small_stream, remux, set_edits, write

_RATES: Sequence[Fraction | int] = (
    Fraction(24000, 1001), 24, 25, Fraction(30000, 1001), 30, 50, 12, 10, 5, 2, 1, Fraction(1, 2), Fraction(1, 3),
    Fraction(3, 2), Fraction(15, 2), 60, Fraction(60000, 1001), 120,
)  # fmt: skip

# The codecs that are drawn for each container.
_CODECS = {
    "mp4": ("libx264", "libx264", "libx264", "libx265", "mpeg4", "mjpeg", "libvpx-vp9", "libsvtav1"),
    "mov": ("libx264", "prores_ks", "mjpeg", "png", "qtrle"),
    "mkv": ("libx264", "libx264", "libx265", "libvpx", "libvpx-vp9", "ffv1", "mpeg4", "mjpeg"),
    "webm": ("libvpx", "libvpx-vp9", "libsvtav1"),
    "ts": ("libx264", "libx264", "libx265", "mpeg2video"),
    "avi": ("mpeg4", "mjpeg", "libx264"),
    "flv": ("libx264", "flv1"),
    "nut": ("libx264", "ffv1", "mpeg4"),
    "mpg": ("mpeg2video",),
    "wmv": ("wmv2",),
    "gif": ("gif",),
}
_PIXELS = {
    "libx264": ("yuv420p", "yuv420p", "yuv420p", "yuv444p", "yuv422p", "yuv420p10le", "gray"),
    "libx265": ("yuv420p",),
    "libvpx-vp9": ("yuv420p", "yuv444p", "yuva420p"),
    "mjpeg": ("yuvj420p", "yuvj444p"),
    "prores_ks": ("yuv422p10le", "yuva444p10le"),
    "png": ("rgb24", "rgba"),
    "qtrle": ("rgb24",),
    "ffv1": ("yuv420p", "bgr0", "gray"),
    "gif": ("rgb8",),
}
_EXTRAS: dict[str, Callable[[Any], None]] = {
    "": lambda output: None,
    "cover": add_cover,
    "attachment": add_attachment,
    "small": add_small_stream,
}
_WITH_B_FRAMES = ("libx264", "libx265", "mpeg4", "mpeg2video")
_ANY_RATE = ("mp4", "mov", "mkv", "webm", "flv", "nut")


@dataclass(frozen=True)
class Drawn:
    """Description of the file of a seed.

    Args:
        seed: The seed.
        file: File name, whose extension is the container.
        codec: The encoder.
        times: Seconds at which frames are written.
        rate: Declared frames per second.
        time_base: Time base of the stream.
        options: Options of the encoder.
        settings: Further arguments of `write`.
        extra: An additional stream: a cover, an attachment or a small second video stream.
        edits: Entries of the edit list: the duration in seconds, and the start in the media.
        packets: Number of packets that are kept, in decoding order.
        dropped: Indices of packets that are left out.
        joined: Start of the clock, in seconds, of a second recording that follows without a break.
        share: Share of the bytes that is kept.
        scratch: Position of overwritten bytes, as a share of the file, and their number.
    """

    seed: int
    file: str
    codec: str
    times: tuple[float, ...]
    rate: Fraction | int
    time_base: Fraction
    options: dict[str, str]
    settings: dict[str, Any]
    extra: str = ""
    edits: tuple[tuple[float, float], ...] = ()
    packets: int | None = None
    dropped: tuple[int, ...] = ()
    joined: float | None = None
    share: float = 1.0
    scratch: tuple[float, int] | None = None

    def __str__(self) -> str:
        times = ", ".join(f"{time:g}" for time in self.times[:8]) + (", ..." if len(self.times) > 8 else "")
        rest = {
            name: value
            for name in ("options", "settings", "extra", "edits", "packets", "dropped", "joined", "share", "scratch")
            if (value := getattr(self, name)) not in ("", (), None, 1.0, {})
        }
        return (
            f"seed {self.seed}: {self.file} {self.codec}, {len(self.times)} frames at {times} s of {self.rate} {rest}"
        )


def draw(seed: int) -> Drawn:
    """Draw the file of a seed."""
    dice = random.Random(seed)
    ending = dice.choice(["mp4"] * 6 + ["mkv"] * 4 + ["ts"] * 3 + list(_CODECS))
    codec = dice.choice(_CODECS[ending])
    rate = dice.choice(_RATES)
    if codec in ("mpeg2video", "mpeg4", "wmv2"):
        rate = dice.choice((24, 25, 30))
    if ending == "gif":
        rate = dice.choice((10, 5, 2, 20))
    count = dice.choice((1, 2, 3, dice.randint(4, 30), dice.randint(20, 150)))
    if ending == "ts":
        count = max(count, 12)  # FFmpeg finds no stream in fewer frames
    if codec in ("libx265", "libsvtav1", "libvpx"):
        count = min(count, 50)
    if codec == "libx265":
        count = max(count, 20)  # x265 crashes with fewer frames than its look-ahead
    times = _times(dice, ending, rate, count)
    options = _options(dice, ending, codec)
    drawn = Drawn(
        seed=seed,
        file=f"a.{ending}",
        codec=codec,
        times=tuple(times),
        rate=rate,
        time_base=_time_base(dice, ending, codec, rate, times),
        options=options,
        settings=_settings(dice, ending, codec, options),
    )
    drawn = replace(drawn, extra=_extra(dice, drawn))
    return _changed(dice, drawn)


def _times(dice: random.Random, ending: str, rate: Fraction | int, count: int) -> list[float]:
    even = [float(number / rate) for number in range(count)]
    if ending in ("ts", "avi", "mpg", "wmv", "gif"):
        kinds = ["even"] if ending != "ts" else ["even", "even", "late"]
    else:
        kinds = ["even", "even", "even", "jitter", "gaps", "slides", "bursts", "late", "early", "one gap", "declared"]
    kind = dice.choice(kinds)
    period = float(1 / Fraction(rate))
    if kind == "jitter":
        return [even[0]] + [round(time + dice.uniform(-0.4, 0.4) * period, 3) for time in even[1:]]
    if kind == "gaps":
        even = [0.0]
        while len(even) < count:
            even.append(round(even[-1] + dice.choice((1, 1, 1, 2, 3, 10)) * max(period, 0.01), 3))
    if kind == "slides":
        even = [0.0]
        for _ in range(min(count, 20) - 1):
            even.append(round(even[-1] + dice.choice((0.04, 0.5, 1, 2, 3.7, 10)), 2))
    if kind == "bursts":
        even = [burst * 4 + number * 0.04 for burst in range(count // 10 + 1) for number in range(10)][:count]
    if kind == "one gap" and count > 2:
        index, gap = dice.randrange(1, count), dice.choice((1, 7.3, 60))
        even = [time + (gap if number >= index else 0) for number, time in enumerate(even)]
    if kind == "declared":
        factor = dice.choice((0.98, 1.003, 1.02, 1.3, 2))
        even = [time * factor for time in even]
    if kind == "late":
        delay = dice.choice((0.04, 0.4, 0.6, 1.25, 3, 100))
        even = [time + delay for time in even]
    if kind == "early" and ending in ("mp4", "mov") and count > 1:
        hidden = even[dice.randrange(count)]
        even = [time - hidden for time in even]
    return even


def _time_base(dice: random.Random, ending: str, codec: str, rate: Fraction | int, times: Sequence[float]) -> Fraction:
    if ending in ("avi", "mpg", "wmv") or codec in ("mpeg4", "mpeg2video"):
        return 1 / Fraction(rate)
    if ending == "gif":
        return Fraction(1, 100)
    if ending == "ts":
        return Fraction(1, 90000)
    on_grid = all(abs(time * rate - round(time * rate)) < 1e-6 for time in times)
    return 1 / Fraction(rate) if on_grid and dice.random() < 0.5 else dice.choice((MILLISECONDS, Fraction(1, 90000)))


def _options(dice: random.Random, ending: str, codec: str) -> dict[str, str]:
    options: dict[str, str] = {}
    keyframes, between = dice.choice((1, 5, 12, 12, 30, 250)), dice.choice((0, 0, 1, 2, 3))
    if codec in ("libx264", "mpeg4", "mpeg2video", "flv1", "wmv2", "libvpx", "libvpx-vp9"):
        options["g"] = str(keyframes)
    if codec in _WITH_B_FRAMES and codec != "libx265" and ending not in ("avi", "flv"):
        options["bf"] = str(between)
        if codec == "libx264":
            options["b_strategy"] = dice.choice("01")
            if dice.random() < 0.25:
                options["x264-params"] = "cpu-independent=1:" + dice.choice(
                    ("open-gop=1", "intra-refresh=1:bframes=0")
                )
    if codec == "libx264" and ending in ("avi", "flv"):
        options["bf"] = "0"
    if codec == "libx265":
        options["x265-params"] = (
            f"log-level=none:pools=none:frame-threads=1:keyint={keyframes}:bframes={between}:open-gop={dice.choice('01')}"
        )
    return options


def _settings(dice: random.Random, ending: str, codec: str, options: dict[str, str]) -> dict[str, Any]:
    settings: dict[str, Any] = {"pix_fmt": dice.choice(_PIXELS.get(codec, ("yuv420p",)))}
    if "intra-refresh" in options.get("x264-params", ""):
        settings["pix_fmt"] = "yuv420p"  # x264 crashes with grey
    sizes = ((64, 48), (96, 96), (128, 32), (80, 62), (48, 64))
    settings["size"] = dice.choice(sizes)
    if codec == "libx265":
        settings["size"] = (96, 96)  # x265 writes past its memory if a picture is only slightly larger than its blocks
    if codec == "libx264" and dice.random() < 0.03:
        settings["size"] = (352, 288)  # large enough to be decoded by several threads
    if ending in ("mp4", "mov", "mkv") and dice.random() < 0.2:
        settings["rotation"], settings["hflip"] = dice.choice((0, 90, 180, 270)), dice.random() < 0.4
    if ending in ("mp4", "mov", "mkv") and dice.random() < 0.1:
        settings["aspect"] = dice.choice((Fraction(4, 3), Fraction(16, 11), Fraction(1, 2)))
    if ending in ("mp4", "mov", "mkv", "ts") and dice.random() < 0.2:
        begin = dice.choice((0, 0, 0.7, 2))
        settings["sound"] = (begin, begin + dice.choice((0.5, 2, 6)))
    if ending == "mp4":
        flags = dice.choice(("", "", "", "faststart", "frag_keyframe+empty_moov", "frag_keyframe"))
        settings["muxer"] = {"movflags": flags} if flags else {}
    return settings


def _extra(dice: random.Random, drawn: Drawn) -> str:
    if dice.random() < 0.85 or drawn.file not in ("a.mp4", "a.mov", "a.mkv"):
        return ""
    if len(drawn.times) > 10 and "rotation" not in drawn.settings and dice.random() < 0.5:
        return "small"  # with fewer frames FFmpeg may choose the small stream
    return "attachment" if drawn.file == "a.mkv" else "cover"


def _changed(dice: random.Random, drawn: Drawn) -> Drawn:
    """Change the drawing in one way at random, or not at all."""
    ending, count = drawn.file[2:], len(drawn.times)
    what = dice.choice(["nothing"] * 4 + ["edits"] * 2 + ["packets", "dropped", "joined", "share", "scratch"])
    fragmented = "frag" in drawn.settings.get("muxer", {}).get("movflags", "")
    faststart = drawn.settings.get("muxer", {}).get("movflags", "") == "faststart"
    gaps = [late - early for early, late in zip(drawn.times, drawn.times[1:], strict=False)]
    # FFmpeg moves the first kept frame to the edit's start, which is only right if frames are close to each other.
    is_even = count > 3 and max(gaps) < 2 * min(gaps)
    if what == "edits" and ending in ("mp4", "mov") and not fragmented and not faststart and is_even:
        length = max(drawn.times[-1] - drawn.times[0], 0.1)
        begin = round(dice.uniform(0, 0.6) * length, 3)
        lasts = round(dice.uniform(0.2, 1.0) * (length - begin), 3)
        edits = [(lasts, begin)]
        if dice.random() < 0.3:
            edits.insert(0, (dice.choice((0.5, 2.0)), -1))
        return replace(drawn, edits=tuple(edits))
    # In MPEG-TS a gap of over 10 s between two frames can't be distinguished from a jump of the clock.
    may_have_gaps = ending != "ts" or drawn.rate >= 1
    if what == "packets" and count > 3 and may_have_gaps:
        return replace(drawn, packets=dice.randint(2, count - 1))
    if what == "dropped" and count > 6 and ending in ("mp4", "mkv", "mov", "webm") and drawn.codec != "ffv1":
        return replace(drawn, dropped=tuple(sorted(dice.sample(range(1, count), dice.randint(1, 2)))))
    if what == "joined" and ending == "ts" and drawn.rate >= 10:  # else FFmpeg can't estimate the rate
        settings = {name: value for name, value in drawn.settings.items() if name != "sound"}
        joined = dice.choice((0.0, 5000.0, 90000.0) if drawn.times[-1] > 1 else (5000.0, 90000.0))
        return replace(drawn, settings=settings, joined=joined)
    if what == "share" and count > 10 and ending not in ("gif",):
        return replace(drawn, share=round(dice.uniform(0.3, 0.99), 3))
    if what == "scratch" and count > 10:
        return replace(drawn, scratch=(round(dice.uniform(0.2, 0.95), 3), dice.choice((1, 10, 300))))
    return drawn


def make(drawn: Drawn, folder: Path) -> Case:
    """Create the file of a drawing.

    Raises:
        av.FFmpegError: If FFmpeg can't write such a file.
    """
    path = folder / drawn.file
    copied = drawn.packets is not None or bool(drawn.dropped)
    muxer = drawn.settings.get("muxer")
    source = folder / f"source{path.suffix}" if copied else path
    _write(drawn, source)
    if copied:

        def edit(packets: list[av.Packet]) -> list[av.Packet]:
            kept = packets[: drawn.packets]
            return [packet for index, packet in enumerate(kept) if index not in drawn.dropped]

        remux(source, path, edit=edit, muxer=muxer)
    times, end, margin = None, None, 2e-6
    if drawn.edits:
        set_edits(path, drawn.edits)
        end = sum(seconds for seconds, _ in drawn.edits)
    if drawn.joined is not None:
        margin = 1e-3  # the rate is only known from FFmpeg's estimate
        times, end = _join(drawn, path, folder / f"second{path.suffix}")
    if drawn.share < 1:
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * drawn.share)])
    if drawn.scratch is not None:
        data = bytearray(path.read_bytes())
        begin = int(len(data) * drawn.scratch[0])
        data[begin : begin + drawn.scratch[1]] = random.Random(drawn.seed).randbytes(drawn.scratch[1])
        path.write_bytes(data)
    turned = {name: drawn.settings[name] for name in ("rotation", "hflip") if name in drawn.settings}
    damaged = None if drawn.share < 1 or drawn.scratch is not None or drawn.dropped else False
    return Case(path, times=times, end=end, margin=margin, damaged=damaged, **turned)


def _write(drawn: Drawn, path: Path, **changes: Any) -> Path:
    settings = drawn.settings | {"extra": _EXTRAS[drawn.extra]} | changes
    times = settings.pop("times", drawn.times)
    return write(
        path, times, codec=drawn.codec, rate=drawn.rate, time_base=drawn.time_base, options=drawn.options, **settings
    )


def _join(drawn: Drawn, path: Path, second: Path) -> tuple[list[float], float]:
    """Append a second recording, which follows without a break but whose clock starts at another time."""
    assert drawn.joined is not None
    count, period = len(drawn.times), float(1 / Fraction(drawn.rate))
    ticks = [round(time / drawn.time_base) for time in drawn.times]
    relative_times = [float((tick - ticks[0]) * drawn.time_base) for tick in ticks]
    _write(drawn, second, times=[drawn.joined + time for time in relative_times], numbers=range(1001, 1001 + count))
    path.write_bytes(path.read_bytes() + second.read_bytes())
    length = relative_times[-1] + period
    return relative_times + [length + time for time in relative_times], 2 * length
