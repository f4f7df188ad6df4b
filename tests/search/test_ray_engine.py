"""An index made on a Ray cluster has the rows of the local engine, even if a node fails."""

import os
import threading
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.search_indexes import rows_of
from support.tiny_models import tiny_model, tiny_processor
from support.video_files import write_video
from ts2net.search import WindowSettings, index_videos
from ts2net.search.engines.assembling import Encoded, Outcome

os.environ.setdefault("RAY_worker_niceness", "0")  # read when a node starts
ray_engine = pytest.importorskip("ts2net.search.engines.ray")

import ray  # noqa: E402  after its settings
from ray.cluster_utils import Cluster  # noqa: E402

pytestmark = pytest.mark.ray

SHORT = WindowSettings(length=2.0, step=1.0, fps=2.0)
NODE = {"num_cpus": 1, "object_store_memory": 100 * 2**20}


def test_a_machine_is_killed_and_the_index_is_that_of_one_machine(tmp_path, monkeypatch):
    """After a node is killed, no video is lost or duplicated, and a broken video is listed."""
    videos = tmp_path / "videos"
    videos.mkdir()
    for number in range(12):
        write_video(videos / f"{number:02}.mp4", frames=96 + 12 * number)
    (videos / "broken.mp4").write_bytes(b"not a video")
    model = tiny_model()
    options = {"processor": tiny_processor(model.config), "settings": SHORT, "batch_size": 4}
    index_videos(videos, model, tmp_path / "local", workers=0, **options)

    cluster = Cluster(initialize_head=True, head_node_args=NODE | {"include_dashboard": False})
    try:
        doomed = cluster.add_node(**NODE)
        encode = ray_engine.RayEngine.encode
        before: list[str] = []

        def kill_in_the_middle(*args: Any) -> Generator[Outcome, None, None]:
            for outcome in encode(*args):
                yield outcome
                if isinstance(outcome, Encoded):
                    before.append(outcome.video.video_id)
                    if len(before) == 2:
                        cluster.remove_node(doomed, allow_graceful=False)

        monkeypatch.setattr(ray_engine.RayEngine, "encode", kill_in_the_middle)
        monkeypatch.setattr(ray_engine, "_PATIENCE", 5.0)
        report = index_videos(videos, model, tmp_path / "ray", engine="ray", ray_address=cluster.address, **options)
    finally:
        cluster.shutdown()
    assert len(before) == len(set(before)) == len(report.indexed) == 12
    assert [Path(video.video_id).name for video in report.broken] == ["broken.mp4"]
    rows, others = rows_of(tmp_path / "ray"), rows_of(tmp_path / "local")
    for row, other in zip(rows, others, strict=True):
        for name in other.keys() - {"frames", "mean", "checksum"}:
            assert row[name] == other[name], name
        np.testing.assert_allclose(np.array(row["frames"]), np.array(other["frames"]), atol=2e-3)


def test_a_stream_of_which_nothing_comes_any_more_can_be_ended():
    """A stalled stream is ended with a private method of Ray; the test fails if that method changes."""

    def sleep_at_the_last(block: dict[str, np.ndarray]) -> dict[str, np.ndarray]:  # a closure is sent by value
        if block["id"][0] == 7:
            time.sleep(3600)
        return block

    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        dataset = ray.data.range(8, override_num_blocks=8).map_batches(sleep_at_the_last)
        first_came = threading.Event()

        def read() -> None:
            for _ in dataset.iter_batches(batch_size=None):
                first_came.set()

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        assert first_came.wait(timeout=120)
        assert reader.is_alive()
        ray_engine.end_stream(dataset)
        reader.join(timeout=60)
        assert not reader.is_alive()
    finally:
        ray.shutdown()


def test_options_of_the_other_engine_are_refused(tmp_path):
    """Options of the other engine raise an error instead of being ignored."""
    for options, message in (
        ({"engine": "ray", "workers": 2}, "workers=2 is for the local engine"),
        ({"engine": "ray", "device": "cuda"}, "device='cuda' is for the local engine"),
        ({"ray_address": "10.0.0.1:6379"}, "is for engine='ray'"),
        ({"engine": "spark"}, "must be 'local' or 'ray'"),
    ):
        with pytest.raises(ValueError, match=message):
            index_videos(tmp_path, None, tmp_path / "index", **options)
