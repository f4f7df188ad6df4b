"""MTEB's figures are those of `ts2net evaluate`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.evaluation_split import CAPTIONS, split
from support.tiny_models import tiny_model, tiny_processor
from ts2net.evaluation import evaluate_retrieval

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.version_info < (3, 11), reason="mteb needs Python 3.11"),
]

TESTS = Path(__file__).parents[1]

SCRIPT = """
import json
import sys

import mteb
from datasets import Dataset, Video
from mteb.abstasks.retrieval import AbsTaskRetrieval
from mteb.abstasks.retrieval_dataset_loaders import RetrievalSplitData
from mteb.abstasks.task_metadata import TaskMetadata

from support.evaluation_split import CAPTIONS, split
from support.tiny_models import tiny_model, tiny_processor
from ts2net.evaluation.mteb import MTEBModel

rows = split(captions=[captions[:1] for captions in CAPTIONS])
ids = [str(number) for number in range(len(rows))]
texts = Dataset.from_dict({"id": ids, "text": [captions[0] for captions in rows["captions"]]})
videos = Dataset.from_dict({"id": ids, "video": rows.cast_column("video", Video(decode=False))["video"]})
videos = videos.cast_column("video", Video())


def task(name, queries, corpus, category):
    class Task(AbsTaskRetrieval):
        metadata = TaskMetadata(
            name=name, description=name, dataset={"path": "local/clips", "revision": "1"}, type="Any2AnyRetrieval",
            eval_langs=["eng-Latn"], eval_splits=["test"], main_score="recall_at_1", reference=None,
            category=category, modalities=["text", "video"],
        )

        def load_data(self, **kwargs):
            data = RetrievalSplitData(
                queries=queries, corpus=corpus, relevant_docs={i: {i: 1} for i in ids}, top_ranked=None
            )
            self.dataset = {"default": {"test": data}}
            self.data_loaded = True

    return Task()


model = MTEBModel(tiny_model(), tiny_processor(), name="me/tiny")
tasks = [task("TextToVideo", texts, videos, "t2v"), task("VideoToText", videos, texts, "v2t")]
results = mteb.evaluate(model, tasks, cache=None)
print("answer:" + json.dumps([result.scores["test"][0] for result in results.task_results]))
"""


def test_figures_are_those_of_our_own_evaluation(tmp_path: Path) -> None:
    path = os.pathsep.join([str(Path(sys.prefix) / "tools"), str(TESTS)])  # see the Makefile
    process = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=os.environ | {"PYTHONPATH": path, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    by_task = json.loads(process.stdout.rpartition("answer:")[2])
    rows = split(captions=[captions[:1] for captions in CAPTIONS])
    expected = evaluate_retrieval(tiny_model(), rows, tiny_processor()).metrics
    for figures, direction in zip(by_task, ("text-to-video", "video-to-text"), strict=True):
        for k in (1, 5):
            assert 100 * figures[f"recall_at_{k}"] == pytest.approx(expected[f"{direction} R@{k}"], abs=0.01)
