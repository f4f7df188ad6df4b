"""Retrieval with texts longer than the model reads: truncated, compared with split into sentences.

    python bench/long_texts.py

The data imitates the paragraphs of ActivityNet Captions and DiDeMo at a small scale. A video shows four rendered clips
in a row, and its text is their four captions. The package's small CLIP reads 32 tokens of a text. It is used as it is,
without training. Videos come in pairs that begin with the same two clips, so that the beginning of a text alone can't
distinguish them. Split texts are scored by the mean of the sentences' scores, or by the mean of their embeddings.
"""

import argparse

import torch

from ts2net import TS2NetModel, TS2NetProcessor
from ts2net.benchmarks.moving_things import render_mp4, scenes
from ts2net.encoding.long_texts import split_texts
from ts2net.encoding.texts import encode_texts
from ts2net.evaluation import retrieval_metrics
from ts2net.small_clip import small_clip_folder


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=160)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    shown = scenes("test", args.videos * 3, seed=args.seed)
    clips = []  # one list per video
    for pair in range(args.videos // 2):
        first, *others = (shown[6 * pair + 2 * part :][:2] for part in range(3))
        clips += [[*first, *other] for other in others]

    for matching_kind in ("mean", "weighted"):
        model = TS2NetModel.from_clip(small_clip_folder(), as_is=True, matching_kind=matching_kind, num_frames=16)
        processor = TS2NetProcessor.from_clip(small_clip_folder(), model.config)
        frames = {
            id(scene): model.get_video_features(**processor(videos=[render_mp4(scene)])).frame_embeds[0]
            for scene in {id(scene): scene for video in clips for scene in video}.values()
        }
        videos = torch.stack([torch.cat([frames[id(scene)] for scene in video]) for video in clips])
        texts = [". ".join(scene.caption for scene in video) for video in clips]
        counts = [len(processor.tokenizer(text, truncation=False, verbose=False)["input_ids"]) for text in texts]
        print(
            f"{len(texts)} texts of {min(counts)} to {max(counts)} tokens, {videos.shape[1]} frames, matching "
            f"{matching_kind}, one CLIP; R@1 in %"
        )
        pieces, text_of_piece = split_texts(texts, processor, processor.tokenizer.model_max_length)
        of_pieces = encode_texts(model, processor, pieces)
        owners = torch.nn.functional.one_hot(torch.tensor(text_of_piece)).t().float()  # (texts, pieces)
        owners /= owners.sum(dim=1, keepdim=True)
        units = torch.nn.functional.normalize(of_pieces, dim=-1)
        scores = {
            "truncate": model.similarity(encode_texts(model, processor, texts), videos),
            "split, mean of embeddings": model.similarity(owners @ units, videos),
            "split, mean of scores": owners @ model.similarity(of_pieces, videos),
        }
        for name, of_all in scores.items():
            metrics = retrieval_metrics(of_all.numpy(), list(range(len(texts))))
            pairs = of_all.unflatten(0, (-1, 2)).unflatten(2, (-1, 2)).diagonal(dim1=0, dim2=2)  # (2, 2, pairs)
            right = (pairs.diagonal(dim1=0, dim2=1) > pairs.flip(1).diagonal(dim1=0, dim2=1)).float().mean()
            print(
                f"  {name:26} text-to-video {metrics['text-to-video R@1']:5.1f}, video-to-text "
                f"{metrics['video-to-text R@1']:5.1f}, right one of a pair {100 * right:5.1f}"
            )


if __name__ == "__main__":
    main()
