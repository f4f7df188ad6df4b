"""Time to index an hour of video: decoding, encoding, and both together, on each runtime and with each engine.

    python bench/indexing.py --videos 8 --seconds 60 --rounds 3 --ray

The clips are created by the script: noise that moves under a gradient (H.264, 640x360, 25 frames per second). The
model is a ViT-B/32 with random weights, because speed depends neither on the weights nor on the content. A window of
12 s starts every 6 s at 1 frame per second: 600 windows an hour, with each second in two of them. The baseline encodes
every window separately on PyTorch in float32. The others encode each frame once. The time includes starting the
processes that decode, but not loading the model. The contenders alternate within each round, and a ratio compares with
the baseline in the same round. The tables show the median and the range over the rounds.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from huggingface_hub import constants
from transformers import CLIPTokenizer

from ts2net import TS2NetConfig, TS2NetModel, TS2NetProcessor
from ts2net.encoding.runtimes import load_on_runtime
from ts2net.search import WindowSettings
from ts2net.search.decoded import Decoded, DecodedWindow
from ts2net.search.encoding import WindowEncoder
from ts2net.search.engines.assembling import Encoded, Engine, Outcome
from ts2net.search.engines.local import LocalEngine
from ts2net.search.sources import find_videos
from ts2net.search.streaming import decode_windows

WINDOWS_AN_HOUR = 600
RIVAL, ONCE = "each window alone", "each frame once"
RUNTIMES: dict[str, dict[str, Any]] = {
    "torch float32": {},
    "onnx float32": {"runtime": "onnx"},
    "onnx int8": {"runtime": "onnx", "precision": "int8"},
    "torch bfloat16": {"dtype": "bfloat16"},
}


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


class WindowByWindow(WindowEncoder):
    """The baseline: each window is encoded by itself, without sharing frames with other windows."""

    @torch.inference_mode()
    def encode(self, windows: Sequence[DecodedWindow]) -> list[np.ndarray]:
        inputs = self.processor.video_processor(
            [torch.from_numpy(window.pixels) for window in windows],
            input_data_format="channels_first",
            do_sample_frames=False,
            do_resize=False,
            do_center_crop=False,
        )
        mask = inputs["padding_mask_videos"].bool()
        frames = self.model.get_video_features(inputs["pixel_values_videos"], mask).frame_embeds
        units = torch.nn.functional.normalize(frames.float(), dim=-1).half().numpy()
        return [rows[is_real] for rows, is_real in zip(units, mask.numpy(), strict=True)]


def run(outcomes: Iterator[Outcome], videos: int) -> None:
    done = sum(isinstance(outcome, Encoded) for outcome in outcomes)
    assert done == videos, f"{done} of {videos} videos"


def tell(name: str, an_hour: Sequence[float], ratios: Sequence[float]) -> None:
    hours_a_million = statistics.median(an_hour) * 1e6 / WINDOWS_AN_HOUR / 3600
    shown = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})" if ratios else ""
    spread = f"{statistics.median(an_hour):.0f} ({min(an_hour):.0f} to {max(an_hour):.0f})"
    print(f"| {name} | {spread} | {hours_a_million:.0f} | {shown} |", flush=True)


def measure(contenders: Mapping[str, Callable[[], object]], rounds: int, hours: float) -> dict[str, list[float]]:
    """Measure the seconds per hour of video, for each contender in each round."""
    figures: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, work in contenders.items():
            begun = time.perf_counter()
            work()
            figures[name].append((time.perf_counter() - begun) / hours)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=8)
    parser.add_argument("--seconds", type=int, default=60, help="that each lasts")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--workers", type=int, default=2, help="processes that decode")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--runtimes", nargs="*", default=list(RUNTIMES), choices=RUNTIMES)
    parser.add_argument("--ray", action="store_true", help="a Ray of this machine too")
    args = parser.parse_args()

    torch.manual_seed(0)
    config = TS2NetConfig(vision_config={"patch_size": 32})
    tokenizer = CLIPTokenizer(vocab={"<|startoftext|>": 0, "<|endoftext|>": 1}, merges=[])  # not used
    settings = WindowSettings()
    with tempfile.TemporaryDirectory() as folder:
        constants.HF_ASSETS_CACHE = f"{folder}/assets"  # for the exported files
        model = Path(folder) / "model"
        TS2NetModel(config).save_pretrained(model)
        TS2NetProcessor.for_model(tokenizer, config).save_pretrained(model)
        rival = WindowByWindow(*load_on_runtime(model, device="cpu"))
        encoders: dict[str, WindowEncoder] = {f"{RIVAL}, torch float32": rival}
        for name in args.runtimes:
            begun = time.perf_counter()
            encoders[f"{ONCE}, {name}"] = WindowEncoder(*load_on_runtime(model, device="cpu", **RUNTIMES[name]))
            print(f"loading on {name}: {time.perf_counter() - begun:.1f} s, an export included", flush=True)

        clips = Path(folder) / "clips"
        clips.mkdir()
        for number in range(args.videos):
            write_clip(clips / f"{number}.mp4", args.seconds, number)
        files = find_videos([clips]).videos
        hours = args.videos * args.seconds / 3600
        decoded: list[Decoded] = []

        def decode() -> None:
            decoded.clear()
            for file in files:
                decoded.extend(decode_windows(file, settings, rival.processor.video_processor))

        decoding = measure({"decoding": decode}, args.rounds, hours)
        windows = [item for item in decoded if isinstance(item, DecodedWindow)]

        def encode(encoder: WindowEncoder) -> None:
            for first in range(0, len(windows), args.batch_size):
                encoder.encode(windows[first : first + args.batch_size])

        encoding = measure({name: partial(encode, encoder) for name, encoder in encoders.items()}, args.rounds, hours)

        def index(engine: Engine, encoder: WindowEncoder) -> None:
            run(engine.encode(files, settings, encoder), len(files))

        local = LocalEngine(batch_size=args.batch_size, workers=args.workers)
        contenders = {name: partial(index, local, encoder) for name, encoder in encoders.items()}
        if args.ray:
            from ts2net.search.engines.ray import RayEngine

            engine = RayEngine(batch_size=args.batch_size)
            contenders |= {f"{name}, Ray": partial(index, engine, encoder) for name, encoder in encoders.items()}
        whole = measure(contenders, args.rounds, hours)

    print("\n| | seconds an hour of video | hours a million windows | times as fast |")
    print("| --- | ---: | ---: | ---: |")
    tell("decoding alone, one process", decoding["decoding"], [])
    for title, figures in (("encoding", encoding), ("indexing", whole)):
        first = next(iter(figures.values()))
        for name, an_hour in figures.items():
            tell(
                f"{title}, {name}",
                an_hour,
                [baseline / seconds for baseline, seconds in zip(first, an_hour, strict=True)],
            )


if __name__ == "__main__":
    main()
