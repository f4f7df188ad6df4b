"""Indexes computed with ONNX Runtime, and which precisions and runtimes can be mixed."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants

from support.commands import Run, command_runner
from support.search_indexes import about_of
from support.tiny_models import tiny_model, tiny_processor
from support.video_files import encoded
from ts2net.encoding.onnx_cache import onnx_folder
from ts2net.encoding.text_tower import TextTower
from ts2net.hub import save_hub_folder
from ts2net.search import VideoIndex, WindowChoice, index_videos
from ts2net.search.about import About
from ts2net.search.store import Store

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("assets_cache")]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    return command_runner(capfd, monkeypatch, columns=100)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    network = tiny_model()
    return save_hub_folder(network, tiny_processor(network.config), tmp_path_factory.mktemp("model"))


@pytest.fixture
def videos(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{name}.mp4" for name in "ab"]
    for path, frames in zip(paths, (60, 90), strict=True):
        path.write_bytes(encoded(container="mp4", frames=frames))
    return paths


def test_torch_and_onnx_of_one_precision_share_an_index(model: Path, videos: list[Path], tmp_path: Path) -> None:
    choice = WindowChoice(1.0, None, 3.0)
    mixed, torch_only = tmp_path / "mixed", tmp_path / "torch_only"
    for index, runtimes in ((mixed, ("torch", "onnx")), (torch_only, ("torch", "torch"))):
        for video, runtime in zip(videos, runtimes, strict=True):
            index_videos(video, model, index, settings=choice, workers=0, runtime=runtime)
    (mixed_hits, torch_hits) = (
        VideoIndex.open(index, device="cpu").search("a dog", k=9, min_score=-1e9) for index in (mixed, torch_only)
    )
    assert len(mixed_hits) > 2
    assert [hit.video_id for hit in mixed_hits] == [hit.video_id for hit in torch_hits]
    # The embeddings in an index are rounded to float16.
    assert [hit.score for hit in mixed_hits] == pytest.approx([hit.score for hit in torch_hits], abs=0.1, rel=0.02)


def test_int8_is_remembered_and_mixes_with_nothing_else(run: Run, model: Path, videos: list[Path], tmp_path: Path):
    index = tmp_path / "index"
    options = ("--workers", "0", "--window", "4", "--out", index)
    created = run("index", videos[0], "--model", model, "--precision", "int8", *options)
    assert created.code == 0, created.err
    about = Store.open(index).about
    assert (about.dtype, about.precision) == ("float32", "int8")
    refused = run("index", videos[1], "--precision", "float32", *options)
    assert refused.code == 1
    assert "was made in int8, and the model computes in float32: choose --precision int8" in refused.err
    refused = run("index", videos[1], "--runtime", "torch", *options)
    assert "precision='int8' is for runtime='onnx'" in refused.err
    added = run("index", videos[1], "--json", *options)
    assert json.loads(added.out)["indexed"] == [str(videos[1])]
    searched = run("search", index, "a dog", "--min-score=-inf", "--json")
    assert len(json.loads(searched.out)["results"][0]["hits"]) == 2

    exact = tmp_path / "exact"
    index_videos(videos[0], model, exact, workers=0)
    with pytest.raises(
        ValueError, match="made in float32, and the model computes in int8: choose --precision float32"
    ):
        index_videos(videos[1], None, exact, workers=0, precision="int8")


def test_the_command_scores_on_onnx(run: Run, model: Path, videos: list[Path]) -> None:
    command = ("score", "--model", model, "--video", *videos, "--text", "a dog", "--json")
    scores = [
        [video["score"] for video in json.loads(run(*command, "--runtime", name).out)["results"][0]["videos"]]
        for name in ("torch", "onnx")
    ]
    assert scores[0] == pytest.approx(scores[1], rel=1e-3)


def test_an_index_from_before_there_was_int8_has_the_precision_of_its_weights():
    about = about_of(tiny_model(), "tiny")
    assert "precision" not in json.loads(about.to_json())
    assert About.from_json(about.to_json(), "index").precision == "float32"
    about = replace(about, precision="int8")
    assert About.from_json(about.to_json(), "index") == about


def test_a_search_where_the_index_was_made_needs_no_torch(model: Path, videos: list[Path], tmp_path: Path) -> None:
    """On the machine that wrote the index, a search needs neither torch nor the model, and has the same embeddings."""
    index_videos(videos[0], model, tmp_path / "index", workers=0, runtime="onnx")
    index = VideoIndex.open(tmp_path / "index", device="cpu")
    assert not index.needs_model
    with_model = VideoIndex.open(tmp_path / "index", model=model, device="cpu")
    assert with_model.needs_model
    texts = ["a dog", "Two &amp; three “cats” on a red roof, more words than the model takes", "é"]
    torch.testing.assert_close(index.encode_texts(texts), with_model.encode_texts(texts), rtol=1e-4, atol=1e-4)
    code = f"""
import contextlib, sys
from huggingface_hub import constants
constants.HF_ASSETS_CACHE = {constants.HF_ASSETS_CACHE!r}
from ts2net.cli import main
with contextlib.suppress(SystemExit):
    main(["search", {str(tmp_path / "index")!r}, "a dog", "--min-score=-inf"])
print({{"torch", "transformers"}} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "a.mp4" in done.stdout, done.stderr
    assert done.stdout.endswith("set()\n")


def test_a_damaged_text_tower_is_named(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_ASSETS_CACHE", str(tmp_path))
    folder = onnx_folder("a model")
    assert TextTower.of("a model") is None
    folder.mkdir(parents=True)
    (folder / "tokenizer.json").write_text("{}")
    assert TextTower.of("a model") is None
    (folder / "text_model.onnx").write_bytes(b"not a graph")
    with pytest.raises(ValueError, match="cannot open the text tower in"):
        TextTower.of("a model")
