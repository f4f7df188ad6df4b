"""`ts2net search`: what it prints, writes and refuses."""

import json
from pathlib import Path

import pytest

from support.search_indexes import make_index, random_video
from support.tiny_models import tiny_model, tiny_processor
from ts2net.cli import main
from ts2net.search import VideoIndex


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of three videos, and its model where it says."""
    folder = tmp_path_factory.mktemp("command")
    model = tiny_model()
    model.save_pretrained(folder / "model")
    tiny_processor(model.config).save_pretrained(folder / "model")
    videos = [random_video(f"/clips/{name}.mp4", seed, metadata={"kind": name}) for seed, name in enumerate("abc")]
    make_index(folder / "index", model, videos, kept_in=str(folder / "model"))
    make_index(folder / "empty", model, [], kept_in=str(folder / "model"))
    return folder / "index"


def run(*args: object) -> int:
    with pytest.raises(SystemExit) as exit_:
        main(["search", *map(str, args)])
    return int(exit_.value.code or 0)


def test_json_is_what_the_library_gives(index, capsys):
    assert run(index, "a dog", "rain", "-k", 2, "--json", "--device", "cpu") == 0
    answer = json.loads(capsys.readouterr().out)
    expected = VideoIndex.open(index, device="cpu").search(["a dog", "rain"], k=2)
    assert [result["text"] for result in answer["results"]] == ["a dog", "rain"]
    for result, hits in zip(answer["results"], expected, strict=True):
        assert [(row["video"], row["start"], row["end"], row["second"], row["window"]) for row in result["hits"]] == [
            (hit.video_id, hit.start, hit.end, hit.second, hit.window) for hit in hits
        ]
        assert [row["score"] for row in result["hits"]] == pytest.approx([hit.score for hit in hits], rel=1e-5)


def test_the_table_and_the_page(index, capsys, tmp_path, monkeypatch):
    """For a reader, on a terminal and in a browser."""
    monkeypatch.setenv("COLUMNS", "100")
    assert run(index, "a dog", "--where", "kind=b", "--html", tmp_path / "page.html") == 0
    out = capsys.readouterr().out
    assert "a dog" in out
    assert "/clips/b.mp4" in out
    assert "/clips/a.mp4" not in out
    assert "/clips/b.mp4" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_filters_join(index, capsys):
    assert run(index, "a dog", "--path", "clips/[ab].mp4", "--where", "kind=b", "--json") == 0
    hits = json.loads(capsys.readouterr().out)["results"][0]["hits"]
    assert {hit["video"] for hit in hits} == {"/clips/b.mp4"}


def test_nothing_found_is_said(index, capsys):
    """An answer without hits, with the reason beside it."""
    assert run(index, "a dog", "--path", "nowhere", "--json") == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["results"] == [{"text": "a dog", "hits": []}]
    assert "no video of it fits --path and --where" in captured.err
    assert run(index.with_name("empty"), "a dog") == 0
    assert "the index is empty" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["a dog", "-k", "0"], 2, "'-k'"),
        ([""], 1, "expected texts with words in them, got ''"),
        (["a dog", "--where", "kind"], 2, "expected NAME=VALUE, got 'kind'"),
        (["a dog", "--where", "kind=a", "--where", "kind=b"], 2, "kind can't be both 'a' and 'b'"),
        (["a dog", "--approximate"], 1, "has no vector index"),
        (["a dog", "--html", "/no/such/folder/page.html"], 1, "there is no folder /no/such/folder"),
        (["a dog", "--model", "gone"], 1, "cannot load the model 'gone': there is no folder gone"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(index, capsys, monkeypatch, args, code, message):
    monkeypatch.setenv("COLUMNS", "200")
    assert run(index, *args) == code
    captured = capsys.readouterr()
    assert message in captured.err
    assert "Traceback" not in captured.err
    assert not captured.out


def test_a_folder_without_an_index(tmp_path, capsys):
    assert run(tmp_path / "gone", "a dog") == 1
    assert "there is no index" in capsys.readouterr().err
