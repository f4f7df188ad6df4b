"""Wrapper of a model for MTEB, the embedding benchmark: text-video retrieval tasks with the model's own matching.

By default MTEB compares one vector per text with one vector per video. This wrapper implements the search itself, so
that each text is matched with every frame, as in `ts2net evaluate`.
"""

from typing import Any

import datasets
import torch
from mteb.models import ModelMeta

from ..encoding.texts import encode_texts
from ..modeling_ts2net import TS2NetModel
from ..processing_ts2net import TS2NetProcessor


class MTEBModel:
    """Model for `mteb.evaluate` on text-video retrieval tasks, in both directions.

    ```python
    import mteb
    from ts2net.evaluation.mteb import MTEBModel
    from ts2net.hub import load_model

    model = MTEBModel(*load_model("me/my-ts2net"), name="me/my-ts2net")
    print(mteb.evaluate(model, mteb.get_tasks(tasks=["MSRVTTT2V"])))
    ```

    Args:
        model: The model, on its device. It is set to evaluation mode.
        processor: The model's processor.
        name: Name of the model in MTEB's results, as `owner/name`.
        num_frames: Maximum number of frames of a video. `None` uses the number of the processor.
        max_words: Maximum number of tokens of a text. `None` uses the processor's `max_words`, the number in training,
            if it is set, and otherwise the tokenizer's maximum.
    """

    def __init__(
        self,
        model: TS2NetModel,
        processor: TS2NetProcessor,
        *,
        name: str,
        num_frames: int | None = None,
        max_words: int | None = None,
    ) -> None:
        self.model = model.eval()
        self.processor = processor
        self.num_frames = num_frames or processor.video_processor.num_frames
        self.max_words = max_words or processor.max_words or processor.tokenizer.model_max_length
        self._meta = ModelMeta.create_empty({"name": name, "revision": "main", "modalities": ["text", "video"]})
        self._corpus: tuple[list[str], _Embeds] | None = None

    @property
    def mteb_model_meta(self) -> ModelMeta:
        """MTEB's metadata of the model."""
        return self._meta

    def index(self, corpus: datasets.Dataset, *, encode_kwargs: dict[str, Any], **kwargs: Any) -> None:
        """Encode the corpus: rows with `id` and `text` or `video`."""
        self._corpus = (corpus["id"], self._encode(corpus, encode_kwargs))

    def search(
        self,
        queries: datasets.Dataset,
        *,
        top_k: int,
        encode_kwargs: dict[str, Any],
        top_ranked: dict[str, list[str]] | None = None,
        **kwargs: Any,
    ) -> dict[str, dict[str, float]]:
        """Return the scores of the `top_k` best candidates of each query, restricted to `top_ranked` if it is given.

        Raises:
            ValueError: If no corpus is indexed, or not exactly one of queries and corpus consists of videos.
        """
        if self._corpus is None:
            raise ValueError("nothing is indexed: call index first")
        ids, corpus = self._corpus
        scores = self._scores(self._encode(queries, encode_kwargs), corpus)
        results = {}
        for query, row in zip(queries["id"], scores, strict=True):
            wanted = None if top_ranked is None else set(top_ranked[query])
            order = row.argsort(descending=True).tolist()
            order = [index for index in order if wanted is None or ids[index] in wanted]
            results[query] = {ids[index]: row[index].item() for index in order[:top_k]}
        return results

    @torch.inference_mode()
    def _encode(self, rows: datasets.Dataset, encode_kwargs: dict[str, Any]) -> "_Embeds":
        if "video" not in rows.column_names:
            return encode_texts(self.model, self.processor, list(rows["text"]), max_words=self.max_words), None
        if isinstance(rows.features["video"], datasets.Video):
            rows = rows.cast_column("video", datasets.Video(decode=False))  # the processor decodes, as in training
        embeds, masks = [], []
        for batch in rows.select_columns(["video"]).iter(encode_kwargs.get("batch_size", 16)):
            inputs = self.processor.video_processor(batch["video"], num_frames=self.num_frames, pad_to="num_frames")
            mask = inputs["padding_mask_videos"]
            pixels = inputs["pixel_values_videos"].to(self.model.device)
            embeds.append(self.model.get_video_features(pixels, mask.to(self.model.device)).frame_embeds.float().cpu())
            masks.append(mask)
        return torch.cat(embeds), torch.cat(masks)

    @torch.inference_mode()
    def _scores(self, queries: "_Embeds", corpus: "_Embeds") -> torch.Tensor:
        """Compute scores of shape `(queries, corpus)`. Either argument may hold the texts."""
        (query_embeds, query_mask), (corpus_embeds, corpus_mask) = queries, corpus
        if (query_mask is None) == (corpus_mask is None):
            raise ValueError("expected texts and videos, one as queries and the other as corpus")
        if query_mask is None:
            return self.model.similarity(query_embeds, corpus_embeds, corpus_mask)
        return self.model.similarity(corpus_embeds, query_embeds, query_mask).t()


_Embeds = tuple[torch.Tensor, torch.Tensor | None]
"""Text embeddings of `encode_texts` and `None`, or video embeddings `(n, T, D)` and their padding mask `(n, T)`."""
