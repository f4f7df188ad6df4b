"""The command `ts2net search`: its output, files and errors."""

import io
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from support.search_indexes import make_index, random_video
from support.tiny_models import tiny_model, tiny_processor
from ts2net.cli import main
from ts2net.cli.hits import print_hits
from ts2net.search import VideoIndex
from ts2net.search.hits import Copy, Hit
from ts2net.search.records import Cue
from ts2net.search.store import Store


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of three videos, with its model at the recorded location."""
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
    """The filtered hits are shown in the table on the terminal and on the HTML page."""
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


def test_min_score_decides_which_pictures_are_listed(index, capsys):
    listed = []
    for score in ("-inf", "1e9"):
        assert run(index, "a dog", f"--min-score={score}", "--json") == 0
        listed.append(len(json.loads(capsys.readouterr().out)["results"][0]["hits"]))
    assert listed == [len(VideoIndex.open(index, device="cpu").search("a dog", min_score=-math.inf)), 0]


def test_nothing_found_is_said(index, capsys):
    """A search without hits gives an empty result and the reason on standard error."""
    assert run(index, "a dog", "--path", "nowhere", "--json") == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["results"] == [{"text": "a dog", "hits": []}]
    assert "no video fits --path and --where" in captured.err
    assert run(index.with_name("empty"), "a dog") == 0
    assert "nothing fits 'a dog': there is no video in the index" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["a dog", "-k", "0"], 2, "'-k'"),
        ([""], 1, "expected texts with words in them, got ''"),
        (["a dog", "--where", "kind"], 2, "expected NAME=VALUE, got 'kind'"),
        (["a dog", "--where", "kind=a", "--where", "kind=b"], 2, "kind can't be both 'a' and 'b'"),
        (["a dog", "--approximate"], 1, "has no vector index"),
        (["./gone", "a dog"], 1, "gone: there is no index"),
        (["a dog", "--export", "clips.mp4"], 2, "expected a folder, or a file that ends in .csv or .edl"),
        (["--export", "clips"], 2, "needs texts on the command line"),
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


def test_several_indexes_are_searched_as_one(index, tmp_path, capsys, monkeypatch):
    """An argument is an index if its path has one, otherwise a text; a moment in both indexes is listed once."""
    model = tiny_model()
    videos = [random_video("/clips/a.mp4", 0), random_video("/clips/other.mp4", 9)]
    make_index(tmp_path / "second", model, videos, kept_in=str(index.with_name("model")))
    (tmp_path / "rain").mkdir()  # a folder, but no index
    monkeypatch.chdir(tmp_path)
    assert run(index, "second", "rain", "-k", 50, "--per-video", 0, "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["indexes"] == [str(index), "second"]
    (result,) = answer["results"]
    assert result["text"] == "rain"
    expected = sorted(
        {
            (round(-hit.score, 4), hit.video_id, hit.start)
            for path in (index, tmp_path / "second")
            for hit in VideoIndex.open(path, device="cpu").search("rain", k=50)
        }
    )
    assert [(round(-hit["score"], 4), hit["video"], hit["start"]) for hit in result["hits"]] == expected
    assert {hit["index"] for hit in result["hits"]} == {str(index), "second"}


def test_indexes_of_two_models_do_not_compare(index, tmp_path, capsys):
    make_index(tmp_path / "other", tiny_model(seed=1), [random_video("/clips/a.mp4", 0)])
    assert run(index, tmp_path / "other", "rain") == 1
    assert "their scores don't compare" in capsys.readouterr().err


def test_without_a_text_lines_are_answered_as_they_come(index, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("a dog\n\nmore\nrain\n"))
    assert run(index, "-k", 2, "--per-video", 1, "--json", "--device", "cpu") == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(answer["text"], len(answer["hits"])) for answer in answers] == [("a dog", 2), ("a dog", 1), ("rain", 2)]
    expected = VideoIndex.open(index, device="cpu").search("a dog", k=3, per_video=1)
    assert [hit["window"] for answer in answers[:2] for hit in answer["hits"]] == [hit.window for hit in expected]


@pytest.mark.parametrize("width", [40, 100])
def test_rank_and_name_are_whole_in_a_narrow_terminal_and_a_pipe(width):
    name = f"/clips/{'long ' * 20}name.mp4"
    copy = Copy("/clips/copy.mp4", 2.0, 6.0, "0-0")
    hits = [
        Hit(name, 0.0, 4.0, 1.0, 17.25, {}, "0-0", b"", copies=(copy,)),
        Hit("b.mp4", 0.0, 4.0, 1.0, 3.5, {}, "1-0", b""),
    ]
    for is_terminal in (True, False):
        screen = io.StringIO()
        console = Console(file=screen, width=width, force_terminal=is_terminal, highlight=False, color_system=None)
        print_hits(console, "a dog", hits)
        lines = screen.getvalue().splitlines()
        (line,) = [line for line in lines if name in line]
        assert line.split()[0] == "1"
        assert any("17.25" in line for line in lines)
        assert any("the same in /clips/copy.mp4 0:02.0" in line for line in lines)
        assert any(line.split()[0] == "2" and line.endswith("b.mp4") for line in lines)


@pytest.fixture
def spoken(index, tmp_path) -> Path:
    """An index of a video with speech, whose model doesn't exist."""
    model = tiny_model()
    make_index(tmp_path / "spoken", model, [random_video("/clips/a.mp4", 0)], kept_in="/nowhere")
    with Store.write(tmp_path / "spoken") as store:
        store.set_spoken(
            {"/clips/a.mp4": ([(Cue(5.5, "we choose to go"), Cue(6.0, "=to the\x1b moon"))], "signature")}
        )
    return tmp_path / "spoken"


def test_what_is_spoken_is_found_without_a_model(spoken, capsys, tmp_path):
    """Speech is found without a model, and shown on the terminal, in JSON, in CSV and on the HTML page."""
    assert run(spoken, "go to the moon", "--in", "speech", "--export", tmp_path / "found.csv") == 0
    *_, row, words = capsys.readouterr().out.splitlines()
    assert row.split() == ["1", "0:04.0", "0:08.0", "0:05.5", "-", "/clips/a.mp4"]
    assert words == "      spoken: we choose to go =to the\\x1b moon"
    assert "go to the moon,1,/clips/a.mp4,4.000,8.000,5.500,,speech,we choose" in (tmp_path / "found.csv").read_text()
    assert run(spoken, "moon", "--in", "speech", "--json", "--html", tmp_path / "page.html") == 0
    (hit,) = json.loads(capsys.readouterr().out)["results"][0]["hits"]
    assert (hit["found_in"], hit["score"], hit["second"]) == (["speech"], None, 6.0)
    assert "moon</q>" in (tmp_path / "page.html").read_text()
    assert run(spoken, "mars", "--in", "speech") == 0
    assert "no subtitles have all of its words in one moment" in capsys.readouterr().err


@pytest.mark.slow
def test_what_is_spoken_needs_no_torch(spoken):
    code = "import sys; sys.modules['torch'] = sys.modules['transformers'] = sys.modules['av'] = None\n"
    code += f"from ts2net.cli import main; main(['search', {str(spoken)!r}, 'moon', '--in', 'speech'])"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (process.returncode, process.stderr) == (0, "")
    assert "/clips/a.mp4" in process.stdout
