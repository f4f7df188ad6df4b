"""Text-video retrieval as a metric of the `evaluate` library, loaded from this folder or a copy of it.

    metric = evaluate.load(ts2net.evaluation.METRIC_PATH)

The values are computed by `ts2net.evaluation.retrieval_metrics`, so ts2net must be installed. Each text is one
example, so a matrix can be added in batches of rows, and from several processes.
"""

import datasets
import evaluate

from ts2net.evaluation.metrics import retrieval_metrics

DESCRIPTION = """\
Recalls, median and mean rank of text-video retrieval in both directions, with one caption a video or many. Ties count
against the model."""

INPUTS = """
Args:
    predictions: One row a text: its similarity to every video, in any unit.
    references: For each text the number of its video, which is the place of that video in a row. Every video needs a
        text.
    dual_softmax: Multiply each similarity by its softmax over all texts, for the same video, before ranking.

Returns:
    "text-to-video R@1", "R@5", "R@10" and "R@50" in percent, "MdR" and "MnR" (median and mean rank, 1 is best), and
    the same with "video-to-text".

Example:
    >>> metric = evaluate.load(ts2net.evaluation.METRIC_PATH)
    >>> metric.compute(predictions=[[0.9, 0.1], [0.2, 0.7], [0.6, 0.3]], references=[0, 1, 1])["text-to-video R@1"]
    66.66666666666667
"""

CITATION = """\
@inproceedings{liu2022ts2net,
  title     = {TS2-Net: Token Shift and Selection Transformer for Text-Video Retrieval},
  author    = {Liu, Yuqi and Xiong, Pengfei and Xu, Luhui and Cao, Shengming and Jin, Qin},
  booktitle = {European Conference on Computer Vision (ECCV)},
  year      = {2022}
}"""


class TextVideoRetrieval(evaluate.Metric):
    """See `DESCRIPTION` and `INPUTS`, which `evaluate` shows."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation=CITATION,
            inputs_description=INPUTS,
            features=datasets.Features(
                {
                    # Not float32, in which close values of a float64 matrix would be tied.
                    "predictions": datasets.List(datasets.Value("float64")),
                    "references": datasets.Value("int64"),
                }
            ),
            reference_urls=["https://arxiv.org/abs/2207.07852"],
        )

    def _compute(
        self, *, predictions: list[list[float]], references: list[int], dual_softmax: bool = False
    ) -> dict[str, float]:
        try:
            return retrieval_metrics(predictions, references, dual_softmax=dual_softmax)
        except ValueError as error:  # with the argument names of `evaluate`
            message = str(error).replace("logits_per_text", "predictions").replace("video_of_text", "references")
            raise ValueError(message) from None
