"""A type checker sees the real types behind the lazy imports, not `Any`."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import torch
from ts2net import TextVideoScorer, TS2NetConfig
from ts2net.data import load_benchmark
from ts2net.hub import load_model
from ts2net.search import VideoIndex

model, processor = load_model("me/my-ts2net")
index = VideoIndex.open("my-index")
reveal_type(model)
reveal_type(processor)
reveal_type(model.get_text_features(torch.zeros(1, 2)))
reveal_type(model.get_video_features(torch.zeros(1, 2, 3, 224, 224)))
reveal_type(model.get_video_features(torch.zeros(1, 2, 3, 224, 224)).frame_embeds)
reveal_type(TS2NetConfig().num_frames)
reveal_type(TextVideoScorer("me/my-ts2net").score("a.mp4", ["a dog"]))
reveal_type(index.search("a dog"))
reveal_type(index.search(["a dog", "rain"], k=3))
reveal_type(index.search("a dog")[0].video_id)
reveal_type(load_benchmark)
"""
REVEALED = [
    "ts2net.modeling_ts2net.TS2NetModel",
    "ts2net.processing_ts2net.TS2NetProcessor",
    "ts2net.modeling_ts2net.TS2NetTextOutput",
    "ts2net.modeling_ts2net.TS2NetVideoOutput",
    "torch._tensor.Tensor",
    "int",
    "list[ts2net.pipeline_ts2net.VideoScores]",
    "list[ts2net.search.hits.Hit]",
    "list[list[ts2net.search.hits.Hit]]",
    "str",
]


@pytest.mark.slow
def test_mypy_reveals_the_types_of_public_names(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    settings = Path(__file__).parents[1] / "pyproject.toml"
    command = [sys.executable, "-m", "mypy", "--config-file", settings, script]
    printed = subprocess.run(command, capture_output=True, text=True, cwd=settings.parent).stdout
    revealed = [name.replace("builtins.", "") for name in re.findall(r'Revealed type is "(.*)"', printed)]
    assert revealed[:-1] == REVEALED
    assert revealed[-1].startswith("def (name: str, path_or_repo: str | pathlib.Path, split: str")
    assert "error" not in printed
