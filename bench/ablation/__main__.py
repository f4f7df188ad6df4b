"""The paper's ablations in small, on motion shapes: which part of TS2-Net finds what.

    python bench/ablation --out ablation          # all rows; tables in ablation/coarse/tables.md, plots beside it
    python bench/ablation --setting locked --rows "mean pooling" "both (TS2-Net)" --seeds 0

A small CLIP is trained on photos once a seed. It knows the words for the colours of dots from large things, and that
captions don't tell of dots. Every row starts from it and is trained alike: the same clips in the same batches, the
same steps and learning rates. It then searches all 200 test clips with their captions, and the four
candidates of each group in both diagnostic splits, where guessing finds 25 %. Everything is read back from mp4 files
by the video processor. Runs that are done are kept in `OUT/SETTING/runs.jsonl` and not done again.

There are three settings. In the *coarse* one frames have 16 patches, which is quick. In the *fine* one they have 49,
as those of a ViT-B/32 have: a dot covers up to half of a patch there, up to a seventh in the coarse one. The *locked*
one is as fine, and CLIP's image tower stays as it is while all else learns (Zhai et al. 2022, LiT). That is close to
the paper's recipe, where CLIP learns a thousand times slower than what is new.
"""

import argparse
import json
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

from loop import SPLITS, clips, prepare_clips, run
from models import ROWS, SETTINGS, make_clip
from tables import plot, tables

from ts2net.demo.checkpoint import start_from_clip
from ts2net.parallel.isolated import end_with_parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("ablation"))
    parser.add_argument("--setting", choices=SETTINGS, default="coarse")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--rows", nargs="+", choices=[row.name for row in ROWS], default=[row.name for row in ROWS])
    parser.add_argument("--steps", type=int, help="of training; the setting's own if not given")
    parser.add_argument("--clips", type=int, help="to train on; the setting's own if not given")
    parser.add_argument("--photos", type=int, default=10_000, help="to train the CLIP on")
    parser.add_argument("--photo-steps", type=int, default=600)
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, each on one core")
    args = parser.parse_args()
    setting, out = SETTINGS[args.setting], args.out / args.setting
    steps, num_clips = args.steps or setting.steps, args.clips or setting.clips
    out.mkdir(parents=True, exist_ok=True)

    record = out / "runs.jsonl"
    runs = [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []
    done = {(each["row"], each["seed"]) for each in runs if (each["steps"], each["clips"]) == (steps, num_clips)}
    rows = [row for row in ROWS if row.name in args.rows]
    todo = [(row, seed) for seed in args.seeds for row in rows if (row.name, seed) not in done]

    with ProcessPoolExecutor(args.jobs, get_context("spawn"), initializer=end_with_parent) as pool:
        seeds = sorted({seed for _, seed in todo if not (out / f"clip-{seed}").exists()})
        captions = [scene.caption for scene in clips("train", num_clips)]
        making = [
            pool.submit(make_clip, out / f"clip-{seed}", captions, setting, seed, args.photos, args.photo_steps)
            for seed in seeds
        ]
        for made in making:
            made.result()
        if todo:
            _, processor = start_from_clip(out / f"clip-{todo[0][1]}")
            for split, count in {"train": num_clips, **SPLITS}.items():
                if not (out / f"{split}.safetensors").exists():
                    prepare_clips(out, split, count, processor, pool)
        started = [pool.submit(run, out, row, setting, seed, steps, num_clips) for row, seed in todo]
        for number, finished in enumerate(as_completed(started), start=1):
            runs.append(finished.result())
            with record.open("a") as file:
                file.write(json.dumps(runs[-1]) + "\n")
            print(f"{number} of {len(todo)}: {runs[-1]}", flush=True)

    wanted = [each for each in runs if (each["steps"], each["clips"]) == (steps, num_clips)]
    (out / "tables.md").write_text(tables(wanted))
    plot(wanted, out)
    print(tables(wanted))


if __name__ == "__main__":
    main()
