"""An index in object storage, tested with a local S3 server."""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from support.search_indexes import rows_of
from support.tiny_models import tiny_model, tiny_processor
from support.video_files import write_video
from ts2net.cli import main
from ts2net.search import VideoIndex, WindowSettings, index_videos

pytestmark = pytest.mark.slow

SERVER = Path(sys.prefix) / "object-storage"  # installed apart, because the package doesn't need it


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Address of an S3 server with an empty bucket."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(SERVER)}, stderr=subprocess.DEVNULL)
    try:
        bucket = urllib.request.Request(f"http://127.0.0.1:{port}/bucket", method="PUT")
        for _ in range(600):
            try:
                urllib.request.urlopen(bucket, timeout=10)
                break
            except urllib.error.URLError:
                assert server.poll() is None, "the server has ended: `make setup` installs it"
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


@pytest.fixture(autouse=True)
def credentials(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"ENDPOINT": address, "ALLOW_HTTP": "true", "ACCESS_KEY_ID": "key", "SECRET_ACCESS_KEY": "secret"}
    for name, value in (settings | {"REGION": "us-east-1"}).items():
        monkeypatch.setenv(f"AWS_{name}", value)


def test_an_index_in_a_bucket_is_that_of_a_folder(tmp_path):
    """Creating, searching and updating an index gives the same rows and hits in a bucket as in a folder."""
    model = tiny_model()
    options = {
        "processor": tiny_processor(model.config),
        "settings": WindowSettings(length=2.0, step=1.0, fps=2.0),
        "workers": 0,
        "drop_missing": True,
    }
    videos = tmp_path / "videos"
    videos.mkdir()
    for number in range(3):
        write_video(videos / f"{number}.mp4", frames=72 + 12 * number)
    locations = "s3://bucket/own/index", tmp_path / "index"
    query = np.ones(model.config.projection_dim, np.float32)[None] / model.config.projection_dim**0.5

    def search(location: str | Path) -> list[tuple[str, float, float, float]]:
        (hits,) = VideoIndex.open(location).search_embeds(query, k=5)
        return [(hit.video_id, hit.start, hit.end, hit.score) for hit in hits]

    for location in locations:
        assert len(index_videos(videos, model, location, **options).indexed) == 3
    assert search(locations[0]) == search(locations[1]) != []

    (videos / "0.mp4").unlink()
    write_video(videos / "3.mp4")
    for location in locations:
        report = index_videos(videos, model, location, **options)
        assert [Path(name).name for name in report.indexed] == ["3.mp4"]
        assert [Path(name).name for name in report.dropped] == ["0.mp4"]
        assert len(report.unchanged) == 2
    rows, others = map(rows_of, locations)
    assert rows == others
    assert search(locations[0]) == search(locations[1])


def test_a_bucket_that_is_not_there_is_said_in_a_line(capsys):
    with pytest.raises(SystemExit):
        main(["search", "s3://nowhere/index", "a dog"])
    error = capsys.readouterr().err
    assert "s3://nowhere/index" in error
    assert len(error.splitlines()) <= 2
    assert "Traceback" not in error
