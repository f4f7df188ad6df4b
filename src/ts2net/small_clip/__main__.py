"""Train the small CLIP that comes with the package.

python -m ts2net.small_clip --out small-clip            # goes on where it was stopped
python -m ts2net.small_clip --probe src/ts2net/small_clip/checkpoint
"""

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from transformers import CLIPModel, CLIPTokenizer

from .checkpoint_files import write_checkpoint
from .probes import Probes, probe
from .training import SmallClipTraining, make_tokenizer, phase_at

_STEPS_BETWEEN_STATES = 100


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m ts2net.small_clip",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, default=Path("small-clip"), help="folder for the checkpoint")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--photos", type=int, default=40_000, help="rendered photos to learn from")
    parser.add_argument("--batch-size", type=int, default=96, help="photos of a step")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=0, help="processes that render; 0 is this one alone")
    parser.add_argument("--probe", type=Path, metavar="CLIP", help="train nothing; print what this checkpoint knows")
    args = parser.parse_args(arguments)
    console = Console(stderr=True)
    if args.probe:
        _print(probe(CLIPModel.from_pretrained(args.probe), CLIPTokenizer.from_pretrained(args.probe)))
        return
    torch.set_num_threads(1)  # such small operations are slower on several threads
    args.out.mkdir(parents=True, exist_ok=True)
    state = args.out / "training-state.pt"
    training = SmallClipTraining(
        make_tokenizer(),
        seed=args.seed,
        steps=args.steps,
        num_photos=args.photos,
        batch_size=args.batch_size,
        workers=args.workers,
    )
    if state.exists():
        training.load_state(state)
        console.print(f"going on after step {training.step}")
    _train(training, state, console)
    probes = probe(training.clip, training.tokenizer)
    write_checkpoint(args.out, training, probes)
    state.unlink(missing_ok=True)
    _print(probes)
    console.print(f"{args.out}: a CLIP of {sum(file.stat().st_size for file in args.out.iterdir()):,} bytes")


def _train(training: SmallClipTraining, state: Path, console: Console) -> None:
    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()]
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("", total=training.steps, completed=training.step)
        for losses in training.train():
            losses_text = ", ".join(f"{name} {loss:.2f}" for name, loss in losses.items())
            phase = phase_at(training.step - 1, training.steps)
            bar.update(task, completed=training.step, description=f"{phase.name}: {losses_text}")
            if training.step % _STEPS_BETWEEN_STATES == 0:
                training.save_state(state)
                console.print(f"step {training.step}, {time.process_time():.0f} s of CPU: {losses_text}")


def _print(probes: Probes) -> None:
    print(json.dumps({name: round(value, 1) for name, value in asdict(probes).items()}, indent=2))


if __name__ == "__main__":
    main()
