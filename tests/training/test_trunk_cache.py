"""The trunk cache: frozen vision layers run once for all epochs, results don't change, no video is decoded twice."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from support.processes import run_in_processes
from support.streamed_data import stream
from support.tiny_models import tiny_model, tiny_processor
from support.training_run import tiny_arguments, training_rows
from ts2net.data import collating, training_batches
from ts2net.data.trunk_states import TrunkStates
from ts2net.training import TS2NetTrainer
from ts2net.training.trunk_cache import locked_vision_layers

pytestmark = pytest.mark.slow


def trainer(folder: Path, rows: Any = None, num_train_videos: int | None = None, **settings: Any) -> TS2NetTrainer:
    shards = rows or training_rows()
    args = tiny_arguments(folder, **{"max_steps": 8, "freeze_vision_layers": 1} | settings)
    return TS2NetTrainer(
        tiny_model(),
        args,
        train_dataset=stream(shards),
        processing_class=tiny_processor(),
        num_train_videos=num_train_videos,
    )


def trained(folder: Path, rows: Any = None, **settings: Any) -> dict[str, torch.Tensor]:
    run = trainer(folder, rows, **settings)
    run.train()
    return {name: value.clone() for name, value in run.model.state_dict().items()}


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    for name, value in one.items():
        torch.testing.assert_close(
            value, other[name], atol=2e-5, rtol=1e-4, msg=lambda text, name=name: f"{name}: {text}"
        )


def parts(folder: Path) -> list[Path]:
    return sorted(folder.rglob("part-*.safetensors"))


@pytest.mark.parametrize(
    "settings",
    [
        {"freeze_vision_layers": -1},
        {"freeze_vision_layers": 1},
        {"clip_learning_rate": 0.0, "freeze_vision_layers": 0},
    ],
    ids=["whole tower", "one layer", "CLIP at rate 0"],
)
def test_the_weights_are_those_of_a_run_without(settings: dict[str, Any], tmp_path: Path) -> None:
    without = trained(tmp_path / "without", **settings)
    assert_same(without, trained(tmp_path / "with", trunk_cache=str(tmp_path / "cache"), **settings))


def test_chunks_and_a_resumed_run_read_the_cache_too(tmp_path: Path) -> None:
    settings = {"trunk_cache": str(tmp_path / "cache"), "save_strategy": "steps", "save_steps": 4}
    whole = trained(tmp_path / "whole", **settings)
    assert_same(whole, trained(tmp_path / "chunks", gradient_cache_chunk_size=3, **settings))
    run = trainer(tmp_path / "whole", **settings)
    run.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-4"))
    for name, value in run.model.state_dict().items():
        assert torch.equal(value, whole[name]), name


def test_each_video_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each video is decoded once in a run, and not at all in another run on the same data."""
    rows = training_rows()
    rows[1][2]["video"] = {"bytes": b"not a video", "path": None}
    first = trainer(tmp_path / "first", rows, trunk_cache=str(tmp_path / "cache"), max_broken_share=1)
    first.train()
    assert first.state.log_history[-1]["train_broken_videos"] == 1
    files = {file: file.stat().st_mtime_ns for file in parts(tmp_path / "cache")}
    assert sum(len(TrunkStates(folder)) for folder in {file.parent for file in files}) == 15

    decoded = []
    real = collating.video_tensors
    monkeypatch.setattr(
        training_batches, "video_tensors", lambda row, *rest: decoded.append(row.video_id) or real(row, *rest)
    )
    trained(tmp_path / "second", rows, trunk_cache=str(tmp_path / "cache"), max_broken_share=1)
    assert set(decoded) == {rows[1][2]["id"]}, "the broken one is tried again"
    assert {file: file.stat().st_mtime_ns for file in parts(tmp_path / "cache")} == files


def test_other_layers_frames_or_videos_are_other_entries(tmp_path: Path) -> None:
    cache = str(tmp_path / "cache")
    one, all_layers, fewer = (
        trainer(tmp_path / name, trunk_cache=cache, max_steps=1, **settings)
        for name, settings in {"a": {}, "b": {"freeze_vision_layers": -1}, "c": {"num_frames": 2}}.items()
    )
    for run in (one, all_layers, fewer):
        run.train()
    assert len({file.parent for file in parts(tmp_path / "cache")}) == 3
    rows = training_rows()
    rows[0][0]["video"] = rows[0][1]["video"]  # same id, other file
    before = len(parts(tmp_path / "cache"))
    trained(tmp_path / "d", rows, trunk_cache=cache, max_steps=1)
    assert len(parts(tmp_path / "cache")) == before, "its content is known"


def test_a_cache_that_would_be_too_large_is_not_made(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    without = trained(tmp_path / "without", max_steps=2)
    limited = trained(tmp_path / "with", max_steps=2, trunk_cache=str(tmp_path / "cache"), trunk_cache_gb=1e-6)
    assert_same(without, limited)
    assert not (tmp_path / "cache").exists()


def test_a_stream_whose_videos_are_known_is_not_read_to_count_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages: list[str] = []
    monkeypatch.setattr("ts2net.training.trunk_cache.logger.warning", messages.append)
    run = trainer(tmp_path, trunk_cache=str(tmp_path / "cache"), trunk_cache_gb=1e-6, num_train_videos=123_456)
    run.train()
    assert len(messages) == 1
    assert "for 123,456 videos would take" in messages[0]


def test_what_can_not_be_cached_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="trunk_cache needs vision layers that do not learn: give freeze_vis"):
        trainer(tmp_path, trunk_cache=str(tmp_path / "cache"), freeze_vision_layers=0)
    with pytest.raises(ValueError, match="trunk_cache_gb must be a number above 0, got 0"):
        trainer(tmp_path, trunk_cache_gb=0)
    folder = tmp_path / "cache"
    trained(tmp_path / "run", trunk_cache=str(folder), max_steps=1)
    parts(folder)[0].write_bytes(b"cut")
    with pytest.raises(ValueError, match=r"part-\w+\.safetensors: damaged or not a part of a trunk cache; delete it"):
        trained(tmp_path / "again", trunk_cache=str(folder), max_steps=1)


def test_locked_layers_are_counted_from_the_first_on() -> None:
    model = tiny_model()
    assert locked_vision_layers(model) == 0
    model.vision_model.encoder.layers[0].requires_grad_(False)
    assert locked_vision_layers(model) == 0, "what is below it learns"
    model.vision_model.embeddings.requires_grad_(False)
    model.vision_model.pre_layrnorm.requires_grad_(False)
    assert locked_vision_layers(model) == 1
    model.vision_model.requires_grad_(False)
    assert locked_vision_layers(model) == len(model.vision_model.encoder.layers)


def train_in_a_process(folder: Path, cache: str | None) -> dict[str, torch.Tensor]:
    rank, num_processes = str(dist.get_rank()), str(dist.get_world_size())
    os.environ |= {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": num_processes, "LOCAL_WORLD_SIZE": num_processes}
    return trained(folder, max_steps=3, trunk_cache=cache)


@pytest.mark.spread
def test_two_processes_fill_one_cache_and_train_as_one_does(tmp_path: Path) -> None:
    alone = trained(tmp_path / "alone", max_steps=3)
    first, second = run_in_processes(train_in_a_process, 2, tmp_path, tmp_path / "both", str(tmp_path / "cache"))
    assert_same(first, second)
    assert_same(alone, first)
    assert len(parts(tmp_path / "cache")) == 2, "each process computed its share"
