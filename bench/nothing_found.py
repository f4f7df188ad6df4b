"""Rates of false hits for texts without a matching video, and of lost hits for texts with one.

    ts2net demo
    python bench/nothing_found.py --demo demo

The demo's index contains 200 clips of moving things that its model has never seen. Three kinds of texts are searched:

- Each clip's own caption: a true hit is lost if the clip itself scores below the threshold.
- Half of the bank of everyday captions, with the threshold fitted on the other half, and vice versa: each hit is
  false.
- Each clip's caption, without the clips that show its thing: each hit is false. The nearest clips share words with the
  caption, which is rare for a user's text.
"""

import argparse
import math
from pathlib import Path

import numpy as np

from ts2net.benchmarks.moving_things import Scene, scenes
from ts2net.search import VideoIndex
from ts2net.search.calibration import CHANCE, read_bank


def main() -> None:
    """Print the rates."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--demo", type=Path, default=Path("demo"), help="what ts2net demo made, with an index")
    demo = parser.parse_args().demo

    index = VideoIndex.open(demo / "index", model=str(demo / "model"))
    test = {scene.video_id: scene for scene in scenes("test", 200)}
    captions = {name: scene.caption for name, scene in test.items()}
    scores = all_scores(index, list(captions.values()))  # one dict per caption, with the score of each clip
    unrelated = np.array([max(row.values()) for row in all_scores(index, read_bank())])
    true = np.array([row[clip] for clip, row in zip(captions, scores, strict=True)])
    nearest = np.array([nearest_other(test[clip], row, test) for clip, row in zip(captions, scores, strict=True)])

    print(f"{len(captions)} clips, {len(unrelated)} unrelated captions")
    first = [max(row, key=row.__getitem__) == clip for clip, row in zip(captions, scores, strict=True)]
    print(f"the true clip is first for {np.mean(first):.1%}")
    print(" chance | threshold | false: unrelated | false: thing is not there  | true hits lost")
    for chance in (0.2, CHANCE, 0.05, 0.02):
        halves = np.random.default_rng(0).permutation(len(unrelated))
        parts = np.array_split(halves, 2)
        false = [
            np.mean(unrelated[held_out] >= np.quantile(unrelated[fitted], 1 - chance))
            for fitted, held_out in (parts, parts[::-1])
        ]
        threshold = np.quantile(unrelated, 1 - chance)
        rates = (np.mean(false), np.mean(nearest >= threshold), np.mean(true < threshold))
        print(f" {chance:6.2f} | {threshold:9.2f} | {rates[0]:16.1%} | {rates[1]:28.1%} | {rates[2]:14.1%}")


def all_scores(index: VideoIndex, texts: list[str]) -> list[dict[str, float]]:
    """Compute the best score of every clip for each text."""
    hits_per_text = index.search(texts, k=len(index), exact=True, search_in="picture", min_score=-math.inf)
    return [
        {Path(hit.video_id).stem: hit.score for hit in reversed(hits) if hit.score is not None}
        for hits in hits_per_text
    ]


def nearest_other(scene: Scene, row: dict[str, float], test: dict[str, Scene]) -> float:
    """Return the best score among the clips that don't show this clip's thing."""
    return max(score for clip, score in row.items() if scene.thing not in (test[clip].thing, test[clip].companion))


if __name__ == "__main__":
    main()
