"""What an hour of video costs to index: decoding, encoding, and both at once by each engine.

    python bench/indexing.py --videos 8 --seconds 60 --workers 2 --ray

Clips of noise that moves under a gradient, written on the spot (H.264, 640x360, 25 frames a second), and a ViT-B/32
with random weights, for speed depends neither on its values nor on what is seen. Windows are of 12 s every 6 s at 1
frame a second: 600 an hour, each second encoded twice. Each engine indexes a clip for each core and then all of them:
what an hour costs is the difference, and what the first clips took beyond that is what it costs to start (processes,
imports, the model), which is paid once. Every figure is of this run on this machine, so that the ratios hold where
another is faster.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import torch
from transformers import CLIPTokenizer

from ts2net import TS2NetConfig, TS2NetModel, TS2NetProcessor
from ts2net.parallel.pool import available_cores
from ts2net.search import WindowSettings
from ts2net.search.encoding import WindowEncoder
from ts2net.search.engines.assembling import Encoded, Engine, Outcome
from ts2net.search.engines.local import LocalEngine
from ts2net.search.sources import find_videos
from ts2net.search.streaming import DecodedWindow, decode_windows

WINDOWS_AN_HOUR = 600


def write_clip(path: Path, seconds: int, seed: int) -> None:
    noise = np.random.default_rng(seed).integers(0, 64, (360, 640, 3), dtype=np.uint8)
    gradient = np.linspace(0, 190, 640, dtype=np.uint8)[None, :, None]
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=25, options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = 640, 360, "yuv420p"
        for index in range(25 * seconds):
            picture = np.roll(noise, (index, 3 * index), axis=(0, 1)) + np.roll(gradient, index, axis=1)
            output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        output.mux(stream.encode())


def tell(name: str, an_hour: float, ratio: str = "", start: str = "") -> None:
    hours_a_million = an_hour * 1e6 / WINDOWS_AN_HOUR / 3600
    print(f"| {name} | {an_hour:.0f} | {hours_a_million:.0f} | {ratio} | {start} |", flush=True)


def run(outcomes: Iterator[Outcome], videos: int) -> float:
    """Seconds that an engine takes."""
    begun = time.perf_counter()
    done = sum(isinstance(outcome, Encoded) for outcome in outcomes)
    assert done == videos, f"{done} of {videos} videos"
    return time.perf_counter() - begun


def alone(encoder: WindowEncoder, windows: list[DecodedWindow]) -> None:
    """Encode windows as the model does, which shares nothing between them."""
    inputs = encoder.processor.video_processor(
        [torch.from_numpy(window.pixels) for window in windows],
        input_data_format="channels_first",
        do_sample_frames=False,
        do_resize=False,
        do_center_crop=False,
    )
    encoder.model.get_video_features(inputs["pixel_values_videos"], inputs["padding_mask_videos"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=8)
    parser.add_argument("--seconds", type=int, default=60, help="that each lasts")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--workers", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--ray", action="store_true", help="a Ray of this machine too")
    args = parser.parse_args()
    if args.videos <= available_cores():
        parser.error(f"--videos must be more than the {available_cores()} cores, got {args.videos}")

    torch.manual_seed(0)
    config = TS2NetConfig(vision_config={"patch_size": 32})
    tokenizer = CLIPTokenizer(vocab={"<|startoftext|>": 0, "<|endoftext|>": 1}, merges=[])  # of no use here
    encoder = WindowEncoder(TS2NetModel(config).eval(), TS2NetProcessor.for_model(tokenizer, config))
    settings = WindowSettings()
    with tempfile.TemporaryDirectory() as folder:
        for number in range(args.videos):
            write_clip(Path(folder) / f"{number}.mp4", args.seconds, number)
        files = find_videos([folder]).videos
        hours = args.videos * args.seconds / 3600
        print("| | seconds an hour of video | hours a million windows | ratio | seconds to start |")
        print("| --- | ---: | ---: | ---: | ---: |")

        begun = time.perf_counter()
        decoded = [
            item for file in files for item in decode_windows(file, settings, encoder.processor.video_processor)
        ]
        tell("decoding", (time.perf_counter() - begun) / hours)
        windows = [item for item in decoded if isinstance(item, DecodedWindow)]
        begun = time.perf_counter()
        with torch.inference_mode():
            for first in range(0, len(windows), args.batch_size):
                alone(encoder, windows[first : first + args.batch_size])
        tell("encoding, each window alone", (time.perf_counter() - begun) / hours)
        begun = time.perf_counter()
        for first in range(0, len(windows), args.batch_size):
            encoder.encode(windows[first : first + args.batch_size])
        tell("encoding, each frame once", (time.perf_counter() - begun) / hours)

        engines: dict[str, Engine] = {
            f"local, {count} workers": LocalEngine(batch_size=args.batch_size, workers=count) for count in args.workers
        }
        if args.ray:
            from ts2net.search.engines.ray import RayEngine

            engines["ray"] = RayEngine(batch_size=args.batch_size)
        reference = None
        first = available_cores()
        first_hours = first * args.seconds / 3600
        for name, engine in engines.items():
            first_seconds = run(engine.encode(files[:first], settings, encoder), first)
            an_hour = (run(engine.encode(files, settings, encoder), len(files)) - first_seconds) / (
                hours - first_hours
            )
            reference = reference or an_hour
            tell(name, an_hour, f"{an_hour / reference:.2f}", f"{first_seconds - an_hour * first_hours:.1f}")


if __name__ == "__main__":
    main()
