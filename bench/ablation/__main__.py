"""The paper's ablations at a small scale, on moving things: what each part of TS2-Net contributes.

    python bench/ablation --out ablation          # all rows; tables in ablation/tables.md
    python bench/ablation --rows "full model" "random choice" --seeds 1 2 3 --picture docs/selected-patches.webp

All rows start from the package's small CLIP, with a frozen image tower unless the row trains it. All are trained on
the same batches of the same clips, with the same steps and learning rates. Each model then searches all 200 test clips
with their captions. In both diagnostic splits it searches the four candidates of each group, where chance is 25 %. The
video processor reads all clips from mp4 files. Completed runs are kept in `OUT/runs.jsonl` and not repeated.

`--choose` searches the clips for choosing settings: validation clips, and diagnostic clips of a different seed.
"""

import argparse
import json
from concurrent.futures import Executor, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch
from clips import PATCHES_PER_SIDE, SEARCHED_SEED, SPLITS, clips, load_clips, prepare_clips
from loop import run
from models import FULL, ROWS
from picture import draw
from tables import tables

from ts2net.benchmarks.moving_things import Scene
from ts2net.parallel.isolated import end_with_parent
from ts2net.small_clip import small_clip_folder
from ts2net.video_processing_ts2net import TS2NetVideoProcessor

TO_CHOOSE_BY = {"validation": 200, "motion": 80, "small_object": 80}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("ablation"))
    parser.add_argument("--clip", type=Path, default=small_clip_folder(), help="the CLIP to start from")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--rows", nargs="+", choices=[row.name for row in ROWS], default=[row.name for row in ROWS])
    parser.add_argument("--steps", type=int, default=600, help="of training")
    parser.add_argument("--clips", type=int, default=12_000, help="to train on")
    parser.add_argument("--most", type=int, default=1000, help="search at most so many clips of a split")
    parser.add_argument("--choose", action="store_true", help="search the clips by which settings are chosen")
    parser.add_argument("--picture", type=Path, help="draw what the last full model selects")
    parser.add_argument("--jobs", type=int, default=1, help="processes that render")
    args = parser.parse_args()
    every = TO_CHOOSE_BY if args.choose else SPLITS
    splits = {split: min(count, args.most) for split, count in every.items()}
    args.out.mkdir(parents=True, exist_ok=True)
    record = args.out / ("chosen-by.jsonl" if args.choose else "runs.jsonl")
    runs = [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []
    done = {(each["row"], each["seed"]) for each in runs if (each["steps"], each["clips"]) == (args.steps, args.clips)}

    seed_of_clips = 0 if args.choose else SEARCHED_SEED
    scenes_of = {split: clips(split, count, seed_of_clips) for split, count in {"train": args.clips, **splits}.items()}
    with ProcessPoolExecutor(args.jobs, get_context("spawn"), initializer=end_with_parent) as pool:
        frames = {
            split: _frames(args.out, split, searched, seed_of_clips, pool) for split, searched in scenes_of.items()
        }
    torch.set_num_threads(1)
    model = None
    for seed in args.seeds:
        for row in ROWS:
            wanted = row.name in args.rows and (row.name, seed) not in done
            if not wanted and not (args.picture and row.name == FULL and seed == args.seeds[-1]):
                continue
            folder = args.out / ("chosen-by" if args.choose else "searched")
            folder.mkdir(exist_ok=True)
            figures, trained = run(folder, args.clip, row, scenes_of, frames, steps=args.steps, seed=seed)
            model = trained if row.name == FULL else model
            if wanted:
                runs.append(figures)
                with record.open("a") as file:
                    file.write(json.dumps(figures) + "\n")
            print(figures, flush=True)
    same = [each for each in runs if (each["steps"], each["clips"]) == (args.steps, args.clips)]
    text = tables(same, list(splits))
    (args.out / record.with_suffix(".md").name).write_text(text)
    print(text)
    if args.picture and model is not None:
        draw(model, scenes_of[next(iter(splits))], frames[next(iter(splits))], args.picture)


def _frames(out: Path, split: str, searched: list[Scene], seed: int, pool: Executor) -> torch.Tensor:
    """Return the frames of a split, read from mp4 files. They are created once and kept in a file."""
    file = out / f"{split}-{len(searched)}-{0 if split == 'train' else seed}.safetensors"
    if not file.exists():
        side = 8 * PATCHES_PER_SIDE
        size = {"height": side, "width": side}
        processor = TS2NetVideoProcessor(size={"shortest_edge": side}, crop_size=size, num_frames=4, fps=1)
        prepare_clips(file, searched, processor, pool)
    return load_clips(file)


if __name__ == "__main__":
    main()
