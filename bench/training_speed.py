"""Clips per second of the trainer with prepared shards, compared with a bare loop over one batch in memory.

    python bench/training_speed.py
    python bench/training_speed.py --device cuda --dtype bfloat16 --compile --batch 128 --workers 14

Both train the same model, a complete TS2-Net with the shapes of CLIP's ViT-B/32 or B/16. The shards are created from
10-second clips as by `ts2net prepare --reencode`. The trainer and the loop run the same number of steps in separate
processes. They alternate, so that a disturbance affects both. The first steps are excluded, because the readers start
in them. The trainer logs at every step, which is the highest cost of logging.

On a GPU, the script also measures the card's rate of multiplying large matrices and prints the share that training
reaches. It counts the operations of one forward and backward pass, without the passes that the gradient cache repeats.
`--eager` adds the bare loop in float32 without compilation, which is a common way to train.
"""

import argparse
import contextlib
import io
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPConfig, CLIPTokenizer, TrainerCallback
from transformers.utils import logging

from ts2net import TS2NetConfig, TS2NetModel, TS2NetProcessor
from ts2net.data.loading import load_benchmark
from ts2net.data.prepare import prepare
from ts2net.training.arguments import TS2NetTrainingArguments
from ts2net.training.contrastive import contrastive_loss_over_processes
from ts2net.training.gradient_cache import GradientCache
from ts2net.training.trainer import TS2NetTrainer

INPUTS = ("input_ids", "attention_mask", "pixel_values_videos", "padding_mask_videos", "selection_seeds")
WORDS = 32


def make_shards(folder: Path, count: int) -> Path:
    """Write clips of 10 seconds with the format of a camera, and convert them to shards."""
    videos = folder / "videos" / "train"
    videos.mkdir(parents=True)
    random = np.random.default_rng(0)
    for number in range(count):
        (videos / f"clip{number}.mp4").write_bytes(make_clip(random))
        (videos / f"clip{number}.txt").write_text(f"clip number {number}\n")
    prepare("folder", folder / "shards", videos=videos.parent, splits=["train"], reencode=True, num_shards=8)
    return folder / "shards"


def make_clip(random: np.random.Generator, width: int = 640, height: int = 360, frames: int = 250) -> bytes:
    """Encode a drifting textured picture at 25 frames per second."""
    small = random.integers(0, 255, (height // 8, width // 4, 3), dtype=np.uint8)
    picture = small.repeat(8, axis=0).repeat(8, axis=1)
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("h264", rate=25, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for index in range(frames):
            view = np.ascontiguousarray(np.roll(picture, 3 * index, axis=1)[:, :width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(view, format="rgb24")))
        container.mux(stream.encode())
    return file.getvalue()


def make_model(args: argparse.Namespace) -> tuple[TS2NetModel, TS2NetProcessor]:
    """Create an untrained TS2-Net with CLIP's shapes, and a processor whose tokens are single letters."""
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    tokens = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    tokenizer = CLIPTokenizer(vocab={token: index for index, token in enumerate(tokens)}, merges=[])
    ids = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    clip = CLIPConfig(
        text_config=ids | {"num_hidden_layers": args.layers},
        vision_config={"num_hidden_layers": args.layers, "patch_size": args.patch},
    )
    torch.manual_seed(0)
    temporal_layers = min(4, args.layers)
    config = TS2NetConfig.from_clip_config(clip, num_frames=args.frames, temporal_num_layers=temporal_layers)
    return TS2NetModel(config), TS2NetProcessor.for_model(tokenizer, config)


class Clock(TrainerCallback):
    """Records the time at the end of each step."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.tick()

    def tick(self) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.times.append(time.perf_counter())

    def rate(self, args: argparse.Namespace) -> float:
        """Return the clips per second, without the first steps."""
        return args.batch * args.steps / (self.times[-1] - self.times[args.warm_up - 1])


def make_trainer(args: argparse.Namespace, shards: Path, folder: str, **settings: Any) -> TS2NetTrainer:
    """Create a trainer for the warm-up and the measured steps."""
    model, processor = make_model(args)
    arguments = TS2NetTrainingArguments(
        output_dir=folder,
        global_batch_size=args.batch,
        gradient_cache_chunk_size=args.chunk,
        max_steps=args.warm_up + args.steps,
        samples_per_epoch=args.clips,
        max_words=WORDS,
        dataloader_num_workers=args.workers,
        bf16=args.dtype == "bfloat16",
        torch_compile=args.compile,
        use_cpu=args.device == "cpu",
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        **settings,
    )
    dataset = load_benchmark("folder", shards, "train")
    return TS2NetTrainer(model, arguments, train_dataset=dataset, processing_class=processor)


def time_trainer(args: argparse.Namespace, shards: Path, folder: str) -> dict[str, float]:
    """Measure the clips per second of `TS2NetTrainer`."""
    trainer = make_trainer(args, shards, folder)
    clock = Clock()
    trainer.add_callback(clock)
    trainer.train()
    waited = [entry["data_wait_share"] for entry in trainer.state.log_history if "data_wait_share" in entry]
    return {"rate": clock.rate(args), "waited": statistics.mean(waited[args.warm_up :])}


def time_bare_loop(args: argparse.Namespace, shards: Path, folder: str) -> dict[str, float]:
    """Measure the clips per second of a loop over one batch that is on the device."""
    trainer = make_trainer(args, shards, folder)  # for its optimiser and a batch
    trainer.args.dataloader_num_workers = 0
    batch = next(iter(trainer.get_train_dataloader()))
    trainer.close_data()
    model, optimizer = trainer.model.train(), trainer.create_optimizer()
    inputs = {name: batch[name].to(args.device) for name in INPUTS}
    wrapped = torch.compile(model) if args.compile else model
    clock = Clock()
    for _ in range(args.warm_up + args.steps):
        step(wrapped, inputs, args)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        clock.tick()
    return {"rate": clock.rate(args)}


def time_eager(args: argparse.Namespace, shards: Path, folder: str) -> dict[str, float]:
    """Measure the bare loop in float32 without compilation, as other models are often trained."""
    return time_bare_loop(argparse.Namespace(**vars(args) | {"dtype": "float32", "compile": False}), shards, folder)


WAYS = {"trainer": time_trainer, "bare loop": time_bare_loop, "eager float32": time_eager}


def step(model: Any, inputs: dict[str, torch.Tensor], args: argparse.Namespace) -> None:
    """Compute the gradients of a batch."""
    with torch.autocast(args.device, torch.bfloat16, enabled=args.dtype == "bfloat16"):
        if args.chunk:
            GradientCache(model, args.chunk).step(inputs)
            return
        outputs = model(**inputs)
        loss = contrastive_loss_over_processes(
            model, outputs.text_embeds, outputs.video_embeds, outputs.logit_scale, inputs["padding_mask_videos"]
        ).loss
    loss.backward()


def operations_of_a_clip(args: argparse.Namespace) -> int:
    """Count the floating-point operations in the matrix products of a clip's forward and backward pass."""
    model = make_model(args)[0].train()
    counter = FlopCounterMode(display=False)
    batch = 2
    inputs = {
        "input_ids": torch.ones(batch, WORDS, dtype=torch.long),
        "attention_mask": torch.ones(batch, WORDS, dtype=torch.long),
        "pixel_values_videos": torch.randn(batch, args.frames, 3, 224, 224),
        "padding_mask_videos": torch.ones(batch, args.frames, dtype=torch.bool),
        "selection_seeds": torch.arange(batch),
    }
    plain = argparse.Namespace(device="cpu", dtype="float32", chunk=None)
    with counter:
        step(model, inputs, plain)
    return counter.get_total_flops() // batch


def matrix_rate(dtype: torch.dtype, size: int = 8192, repeats: int = 50) -> float:
    """Measure the operations per second in products of large matrices, the maximum of the card."""
    left, right = (torch.randn(size, size, device="cuda", dtype=dtype) for _ in range(2))
    for _ in range(5):
        left @ right
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(repeats):
        left @ right
    torch.cuda.synchronize()
    return 2 * size**3 * repeats / (time.perf_counter() - started)


def measure(args: argparse.Namespace) -> dict[str, float]:
    """Measure the clips per second of one way, and the peak bytes of the GPU's allocator."""
    with tempfile.TemporaryDirectory() as folder:
        result = WAYS[args.only](args, args.shards, folder)
    return result | {"bytes": torch.cuda.max_memory_allocated() if args.device == "cuda" else 0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--patch", type=int, default=32, choices=(32, 16), help="of ViT-B/32 or ViT-B/16")
    parser.add_argument("--layers", type=int, default=12, help="of each of CLIP's transformers")
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--chunk", type=int, help="of the gradient cache, for a batch that doesn't fit")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--eager", action="store_true", help="also measure eager float32")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--warm-up", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clips", type=int, default=64)
    parser.add_argument("--only", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--shards", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.clips = max(args.clips, args.batch)
    if args.only:
        logging.set_verbosity_error()
        with contextlib.redirect_stdout(sys.stderr):  # standard output is for the result alone
            result = measure(args)
        print(json.dumps(result))
        return

    ways = [way for way in WAYS if way != "eager float32" or args.eager]
    runs: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    with tempfile.TemporaryDirectory() as folder:
        shards = make_shards(Path(folder), min(args.clips, 64))
        for number in range(args.rounds):
            for way in ways:
                command = [sys.executable, __file__, *sys.argv[1:], "--only", way, "--shards", str(shards)]
                done = subprocess.run(command, capture_output=True, text=True)
                if done.returncode:
                    sys.exit(f"{way} failed:\n{done.stderr}")
                runs[way].append(json.loads(done.stdout))
                rate = runs[way][-1]["rate"]
                print(f"round {number + 1} of {args.rounds}: {way}, {rate:.2f} clips/s", file=sys.stderr, flush=True)

    print(
        f"ViT-B/{args.patch}, {args.layers} + {args.layers} layers, {args.frames} frames, batch {args.batch}"
        f"{f' in chunks of {args.chunk}' if args.chunk else ''}, {args.dtype}{', compiled' if args.compile else ''}, "
        f"{args.device}, {args.workers} workers, {args.rounds} rounds of {args.steps} steps"
    )
    medians = {}
    for way, rounds in runs.items():
        rates = [one["rate"] for one in rounds]
        ratios = [one["rate"] / bare["rate"] for one, bare in zip(rounds, runs["bare loop"], strict=True)]
        medians[way] = statistics.median(rates)
        print(
            f"{way:13}: {medians[way]:8.2f} clips/s ({min(rates):.2f} to {max(rates):.2f}), "
            f"{statistics.median(ratios):.3f} of the bare loop ({min(ratios):.3f} to {max(ratios):.3f})"
            + (f", peak memory {max(one['bytes'] for one in rounds) / 2**30:.1f} GiB" if args.device == "cuda" else "")
        )
    print(f"the trainer waited {statistics.median(one['waited'] for one in runs['trainer']):.1%} of its time for data")
    if args.device == "cuda":
        operations, rate = operations_of_a_clip(args), matrix_rate(getattr(torch, args.dtype))
        print(
            f"{operations / 1e9:.0f} GFLOP a clip; matrix rate of the card {rate / 1e12:.0f} TFLOP/s in {args.dtype}"
        )
        for way in ("trainer", "bare loop"):
            print(f"{way:13}: {medians[way] * operations / rate:.1%} of it")


if __name__ == "__main__":
    main()
