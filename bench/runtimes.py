"""Differences in a model's embeddings and rankings between PyTorch and ONNX Runtime, in float32, bfloat16 and int8.

    python bench/runtimes.py demo/model moving_things demo/data --splits test motion small_object

Searches each split of a benchmark with its own captions, on PyTorch in float32 as the reference and on each other
runtime, and prints the differences from the reference. `same best` is the share of captions with the same best video.
`same order` is the share of captions with all videos in the same order.
"""

import argparse
from typing import Any

import torch

from ts2net.data.evaluation_videos import EvaluationVideos
from ts2net.data.loading import load_benchmark
from ts2net.encoding.runtimes import load_on_runtime
from ts2net.evaluation.encoding import EncodedSplit, encode_split
from ts2net.evaluation.retrieval import rank_split
from ts2net.modeling_ts2net import TS2NetModel
from ts2net.processing_ts2net import TS2NetProcessor

RUNTIMES: dict[str, dict[str, Any]] = {
    "torch float32": {},
    "onnx float32": {"runtime": "onnx"},
    "onnx int8": {"runtime": "onnx", "precision": "int8"},
    "torch bfloat16": {"dtype": "bfloat16"},
}


def encode(model: TS2NetModel, processor: TS2NetProcessor, args: argparse.Namespace, split: str) -> EncodedSplit:
    dataset = load_benchmark(args.benchmark, args.path, split, True)
    frames, words = processor.video_processor.num_frames, processor.max_words or processor.tokenizer.model_max_length
    videos = EvaluationVideos(dataset, processor, batch_size=16, num_frames=frames)
    encoded = encode_split(model, processor, videos, max_words=words)
    assert encoded is not None
    return encoded


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("benchmark")
    parser.add_argument("path", help="what ts2net prepare made")
    parser.add_argument("--splits", nargs="*", default=["test"])
    args = parser.parse_args()

    print("| split | | R@1 | same best | same order | largest difference of a score | least cosine of a frame |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
    models = {name: load_on_runtime(args.model, device="cpu", **options) for name, options in RUNTIMES.items()}
    for split in args.splits:
        reference = None
        for name, (model, processor) in models.items():
            encoded = encode(model, processor, args, split)
            recall = rank_split(model, encoded).metrics["text-to-video R@1"]
            with torch.inference_mode():
                scores = model.similarity(encoded.text_embeds, encoded.video_embeds, encoded.padding_mask).float()
            orders = scores.argsort(dim=1, descending=True, stable=True)
            if reference is None:
                reference = encoded.video_embeds, scores, orders
            embeds, exact, expected = reference
            cosines = torch.nn.functional.cosine_similarity(encoded.video_embeds, embeds, dim=-1)
            print(
                f"| {split} | {name} | {recall:.1f} | {100 * (orders[:, 0] == expected[:, 0]).float().mean():.1f} % "
                f"| {100 * (orders == expected).all(dim=1).float().mean():.1f} % | {(scores - exact).abs().max():.1e} "
                f"| {cosines[encoded.padding_mask.bool()].min():.5f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
