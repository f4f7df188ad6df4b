"""The command line: output, exit codes and one-line errors.

Most tests call `main` in this process, as the installed script does. Tests of the process itself start a new one.
"""

import http.server
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPModel, CLIPTokenizer

import ts2net
from support.commands import Result, Run, command_runner
from support.forked_python import ForkedPython
from support.tiny_models import spread_weights, tiny_clip_config
from support.video_files import write_video
from ts2net import TextVideoScoringPipeline, TS2NetModel, TS2NetProcessor
from ts2net.cli import main
from ts2net.errors import one_line
from ts2net.hub import load_model, save_hub_folder
from ts2net.hub.adapters import add_adapters, lora_config
from ts2net.small_clip.tokenizer import TEXT_LENGTH, train_tokenizer
from ts2net.tables import _shortened, score_matrix

pytestmark = pytest.mark.slow

GOLDEN = Path(__file__).parents[1] / "golden" / "small_b32_grid.safetensors"
TEXTS = ["a red circle moves left", "a red circle moves right", "a blue square moves up"]


class Workshop(NamedTuple):
    """Models and videos shared by the tests, which don't change them."""

    clip: Path  # a transformers CLIP
    model: Path  # a TS2-Net initialized from it
    videos: list[str]


def write_clip(folder: Path) -> None:
    """Write a transformers CLIP whose tokenizer is trained on the texts."""
    tokenizer = train_tokenizer(TEXTS)
    config = tiny_clip_config()
    config.text_config.vocab_size, config.text_config.max_position_embeddings = len(tokenizer), TEXT_LENGTH
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        setattr(config.text_config, name, getattr(tokenizer, name))
    torch.manual_seed(0)
    clip = CLIPModel(config)
    spread_weights(clip)
    clip.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    folder = tmp_path_factory.mktemp("workshop")
    write_clip(folder / "clip")
    model = TS2NetModel.from_clip(folder / "clip", num_frames=4, temporal_num_layers=2)
    processor = TS2NetProcessor.from_clip(folder / "clip", model.config)
    processor.video_processor.fps = 1
    save_hub_folder(model, processor, folder / "model")
    videos = [
        write_video(folder / "red-circle-left.mp4", frames=48, fps=12, size=(160, 120)),
        write_video(folder / "red-circle-right.mp4", frames=60, fps=15, size=(120, 160)),
    ]
    return Workshop(folder / "clip", folder / "model", [str(video) for video in videos])


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command in this process, on an 80-column terminal."""
    return command_runner(capfd, monkeypatch, columns=80)


def assert_fails(result: Result, *words: str) -> None:
    """Check that a command failed with a one-line error that contains the words, and printed nothing else."""
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith("error: ")
    assert result.err.count("\n") == 1, result.err
    for word in words:
        assert word in result.err


# ----------------------------------------------------------------------------------------------------------------
# score
# ----------------------------------------------------------------------------------------------------------------


def test_json_has_the_scores_of_the_pipeline_best_first(run: Run, workshop: Workshop) -> None:
    """The JSON output has the documented fields, and the scores of the pipeline for the same folder."""
    result = run(
        "score", "--model", workshop.model, "--video", *workshop.videos, "--text", *TEXTS, "--best-second", "--json"
    )
    answer = json.loads(result.out)
    assert result.code == 0
    assert list(answer) == ["model", "results", "errors"]
    assert (answer["model"], answer["errors"]) == (str(workshop.model), [])

    scorer = TextVideoScoringPipeline(
        model=TS2NetModel.from_pretrained(workshop.model), processor=TS2NetProcessor.from_pretrained(workshop.model)
    )
    expected = scorer(workshop.videos, text=TEXTS, group_by="text", best_second=True)
    assert [entry["text"] for entry in answer["results"]] == TEXTS
    for entry, ranking in zip(answer["results"], expected, strict=True):
        assert [video["video"] for video in entry["videos"]] == [expected_video["video"] for expected_video in ranking]
        for video, expected_video in zip(entry["videos"], ranking, strict=True):
            assert video["score"] == pytest.approx(expected_video["score"], abs=1e-5)
            assert video["second"] == pytest.approx(expected_video["second"])


def test_options_may_be_repeated_or_take_many_values(run: Run, workshop: Workshop) -> None:
    """An option with many values, as a shell expands `--video *.mp4`, equals the option repeated."""
    first, second = workshop.videos
    many = run("score", "-m", workshop.model, "-v", first, second, "-t", *TEXTS, "--json", "--top-k", "1")
    repeated = run(
        "score", "--json", f"--video={first}", "--video", second, "-m", workshop.model, "--top-k", "1",
        *(word for text in TEXTS for word in ("--text", text)),
    )  # fmt: skip
    assert many == repeated
    assert [len(entry["videos"]) for entry in json.loads(many.out)["results"]] == [1, 1, 1]


def test_table_marks_the_best_video_of_each_text(run: Run, workshop: Workshop) -> None:
    """The table shows the scores of the JSON output, with one row per text and one mark per row."""
    args = ["score", "--model", workshop.model, "--video", *workshop.videos, "--text", *TEXTS]
    table = run(*args)
    results = json.loads(run(*args, "--json").out)["results"]
    assert (table.code, table.err) == (0, "")
    assert "red-circle-left.mp4" in table.out
    for entry in results:
        best = entry["videos"][0]
        row = next(line for line in table.out.splitlines() if line.startswith(entry["text"]))
        assert row.count("*") == 1
        assert f"{best['score']:.2f}*" in row


@pytest.mark.parametrize(("num_videos", "num_texts", "note"), [(2, 1, "the best video"), (1, 3, "the best text")])
def test_table_of_one_column_marks_its_best(
    run: Run, workshop: Workshop, num_videos: int, num_texts: int, note: str
) -> None:
    """With a single text or a single video, the best score of the whole column is marked."""
    result = run("score", "-m", workshop.model, "-v", *workshop.videos[:num_videos], "-t", *TEXTS[:num_texts])
    assert f"* {note}" in result.out
    assert result.out.count("*") == 2  # in the table, and in the note


def test_table_of_many_videos_fits_the_terminal(run: Run, workshop: Workshop) -> None:
    """Columns that are too wide are numbered, and their names are listed below; no score is truncated."""
    result = run("score", "-m", workshop.model, "-v", *workshop.videos * 5, "-t", *TEXTS * 4)
    lines = result.out.splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" not in result.out
    assert ["10", "red-circle-right.mp4"] in [line.split() for line in lines]


def test_table_tells_videos_of_one_name_apart(run: Run, workshop: Workshop, tmp_path: Path) -> None:
    """Videos of the same name are shown with their folder; a unique name stays short."""
    videos = [tmp_path / "d1" / "1.mp4", tmp_path / "d2" / "1.mp4", tmp_path / "d2" / "2.mp4"]
    for video in videos:
        video.parent.mkdir(exist_ok=True)
        shutil.copy(workshop.videos[0], video)
    columns = run("score", "-m", workshop.model, "-v", *videos, "-t", *TEXTS)
    rows = run("score", "-m", workshop.model, "-v", *videos, "-t", "a")
    assert next(line.split() for line in columns.out.splitlines() if line) == ["text", "d1/1.mp4", "d2/1.mp4", "2.mp4"]
    assert [line.split()[0] for line in rows.out.splitlines() if ".mp4" in line] == ["d1/1.mp4", "d2/1.mp4", "2.mp4"]


def test_heads_that_are_alike_once_shortened_are_numbered() -> None:
    """Labels that are equal after shortening are numbered, so that all labels differ."""
    console = Console(width=200, file=io.StringIO())
    texts = ["the man at the window sits on a chair", "the man at the door is sitting on a chair"]
    assert _shortened(texts[0]) == _shortened(texts[1])
    with console.capture() as printed:
        console.print(score_matrix(console, texts, ["a.mp4", "b.mp4", "c.mp4"], [[1, 2, 3], [4, 5, 6]]))
    assert [["1", *texts[0].split()], ["2", *texts[1].split()]] == [
        line.split() for line in printed.get().splitlines() if "the man" in line
    ]


@pytest.mark.parametrize("options", [["--json"], [], ["--top-k", "1"]])
def test_an_output_of_few_characters_still_gets_the_answer(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    """A file or terminal without UTF-8 gets escapes for characters that it can't encode, instead of an error."""
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="cp1252"))
    with pytest.raises(SystemExit) as end:
        main(["score", "-m", str(workshop.model), "-v", workshop.videos[0], "-t", "日本", *options])
    sys.stdout.flush()
    out = written.getvalue().decode("cp1252")
    assert not end.value.code
    assert r"\u65e5\u672c" in out
    assert options != ["--json"] or json.loads(out)["results"][0]["text"] == "日本"


def test_values_may_begin_with_a_dash(run: Run, workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only an option of the command ends a list of values, because `*.mp4` may expand to `-v.mp4`."""
    monkeypatch.chdir(Path(workshop.videos[0]).parent)
    result = run(
        "score", "-m", workshop.model, "--video", "noext", "-v.mp4", "--text", "a", "-dash", "--top-k=1", "--json"
    )
    answer = json.loads(result.out)
    assert [error["video"] for error in answer["errors"]] == ["noext", "-v.mp4"]
    assert [entry["text"] for entry in answer["results"]] == ["a", "-dash"]


def test_top_k_and_best_second_list_videos_by_text(run: Run, workshop: Workshop) -> None:
    """With either option, the output is a ranking of videos for each text."""
    result = run("score", "-m", workshop.model, "-v", *workshop.videos, "-t", *TEXTS, "--top-k", "1", "--best-second")
    assert result.code == 0
    assert all(text in result.out for text in TEXTS)
    assert result.out.count(".mp4") == len(TEXTS)
    assert result.out.count("best second") == len(TEXTS)


def test_a_broken_video_does_not_cost_the_others(run: Run, workshop: Workshop, tmp_path: Path) -> None:
    """Each unreadable video gives one error line and exit code 1, and the scores of the others are unchanged."""
    (tmp_path / "broken.mp4").write_bytes(b"this is no video")
    (tmp_path / "empty.mp4").touch()
    broken = [str(tmp_path / name) for name in ("broken.mp4", "empty.mp4", "missing.mp4")]
    first, second = workshop.videos
    args = ["score", "-m", workshop.model, "-t", *TEXTS, "--json"]
    alone = json.loads(run(*args, "-v", first, second).out)
    result = run(*args, "-v", broken[0], first, broken[1], broken[2], second)
    among = json.loads(result.out)

    assert result.code == 1
    assert among["results"] == alone["results"]
    assert [entry["video"] for entry in among["errors"]] == broken
    lines = result.err.splitlines()
    assert len(lines) == 3
    for path, line, entry in zip(broken, lines, among["errors"], strict=True):
        assert line == f"error: {entry['error']}"
        assert path in line


def test_no_video_that_works_is_still_valid_json(run: Run, workshop: Workshop) -> None:
    result = run("score", "-m", workshop.model, "-v", "missing.mp4", "-t", "a", "--json")
    assert result.code == 1
    assert json.loads(result.out)["results"] == [{"text": "a", "videos": []}]


def test_a_damaged_video_is_scored_with_a_warning(run: Run, workshop: Workshop, tmp_path: Path) -> None:
    """A warning is one line on standard error, without a line of source code."""
    video = bytearray(Path(workshop.videos[0]).read_bytes())
    middle = video.index(b"mdat") + len(video) // 2  # keeps the first frame, which all others need
    video[middle : middle + 2000] = bytes(2000)
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(video)
    result = run("score", "-m", workshop.model, "-v", damaged, "-t", "a", "--json")
    assert result.code == 0
    assert len(json.loads(result.out)["results"][0]["videos"]) == 1
    assert [line.partition(str(damaged))[0] for line in result.err.splitlines()] == ["warning: "]


def test_dtype_is_that_of_the_weights(run: Run, workshop: Workshop) -> None:
    """The option takes effect: scores in bfloat16 are close to those in float32, but not equal."""
    args = ["score", "-m", workshop.model, "-v", workshop.videos[0], "-t", "a red circle", "--json"]
    scores = [
        json.loads(run(*args, "--dtype", dtype).out)["results"][0]["videos"][0]["score"]
        for dtype in ("float32", "bfloat16")
    ]
    assert scores[0] == pytest.approx(scores[1], abs=0.3)
    assert scores[0] != scores[1]


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("missing", ["there is no folder missing"]),
        ("./missing/folder", ["there is no folder ./missing/folder"]),
        ("{model}/config.json", ["is a file"]),
        ("{tmp}", ["no config.json"]),
    ],
)
def test_what_is_no_model_is_said_in_one_line(
    run: Run, workshop: Workshop, tmp_path: Path, model: str, words: list[str]
) -> None:
    model = model.format(clip=workshop.clip, model=workshop.model, tmp=tmp_path)
    assert_fails(run("score", "-m", model, "-v", workshop.videos[0], "-t", "a"), repr(model), *words)


def test_a_model_with_missing_weights_is_refused(run: Run, workshop: Workshop, tmp_path: Path) -> None:
    """A model with missing weights is refused, because its partly random scores would look valid."""
    shutil.copytree(workshop.model, tmp_path, dirs_exist_ok=True)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["text_projection.weight"]
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    assert_fails(run("score", "-m", tmp_path, "-v", workshop.videos[0], "-t", "a"), "text_projection.weight")


def test_an_unknown_device_is_said_in_one_line(run: Run, workshop: Workshop) -> None:
    args = ["score", "-m", workshop.model, "-v", workshop.videos[0], "-t", "a"]
    assert_fails(run(*args, "--device", "toaster"), "toaster")


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (["score", "-m", "x", "-v", "a.mp4"], "--text"),
        (["score", "-m", "x", "-t", "a"], "--video"),
        (["score", "-v", "a.mp4", "-t", "a"], "--model"),
        (["score", "-m", "x", "--video", "--text", "a"], "--video: needs a value"),
        (["score", "-m", "x", "--text", "a", "--video"], "--video"),
        (["score", "--jsn", "-m", "x", "-v", "a.mp4", "-t", "a"], "--jsn"),
        (["score", "-m", "x", "-v", "a.mp4", "-t", "a", "--top-k", "0"], "--top-k"),
        (["score", "-m", "x", "-v", "a.mp4", "-t", "a", "--dtype", "int3"], "--dtype"),
        (["convert", "original", "a.bin", "out"], "--tokenizer"),
        (["convert", "clip", __file__, "out"], "--tokenizer"),
        (["convert", "clip", "owner/a", "out", "--set", "num_frames"], "--set"),
        (["convert", "clip", "owner/a"], "DST"),
        (["destroy"], "destroy"),
    ],
)
def test_a_wrong_command_line_exits_with_2(run: Run, args: list[str], named: str) -> None:
    """A wrong command line fails before anything is loaded, and the error names the option."""
    result = run(*args)
    assert (result.code, result.out) == (2, "")
    assert named in result.err


# ----------------------------------------------------------------------------------------------------------------
# convert
# ----------------------------------------------------------------------------------------------------------------


def test_adapters_are_merged_into_a_folder_that_scores(run: Run, workshop: Workshop, tmp_path: Path) -> None:
    """Adapters give the same scores merged into a folder as loaded by a command."""
    model, processor = load_model(workshop.model, device="cpu")
    add_adapters(model, lora_config(2), str(workshop.model))
    for name, parameter in model.named_parameters():
        if ".lora_B." in name:
            torch.nn.init.normal_(parameter)
    save_hub_folder(model, processor, tmp_path / "adapters")
    result = run("merge", tmp_path / "adapters", tmp_path / "merged")
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith("saved a TS2-Net with")
    scored = [
        json.loads(run("score", "-m", folder, "-v", *workshop.videos, "-t", *TEXTS, "--json").out)["results"]
        for folder in (tmp_path / "adapters", tmp_path / "merged", workshop.model)
    ]
    assert scored[0] == scored[1] != scored[2]
    whole = run("merge", workshop.model, tmp_path / "again")
    assert (whole.code, whole.err) == (1, f"error: {workshop.model} has no adapters: it is a whole model already\n")
    assert "is not empty" in run("merge", tmp_path / "adapters", tmp_path / "merged").err


def test_convert_clip_makes_a_folder_that_scores(run: Run, workshop: Workshop, tmp_path: Path) -> None:
    """A converted transformers CLIP keeps its tensors and tokenizer, and has the config fields given by `--set`."""
    result = run(
        "convert", "clip", workshop.clip, tmp_path / "out", "--set", "num_frames=3", "--set", "shift_layers=[1, 2]",
        "--set", "matching_kind=mean",
    )  # fmt: skip
    assert (result.code, result.err) == (0, "")
    model = TS2NetModel.from_pretrained(tmp_path / "out")
    assert (model.config.num_frames, model.config.vision_config.shift_layers) == (3, [1, 2])
    assert model.config.matching_kind == "mean"
    assert TS2NetProcessor.from_pretrained(tmp_path / "out").video_processor.clock == "seconds"
    state = model.state_dict()
    assert all(
        torch.equal(state[name], tensor)
        for name, tensor in CLIPModel.from_pretrained(workshop.clip).state_dict().items()
    )
    assert run("score", "-m", tmp_path / "out", "-v", workshop.videos[0], "-t", "a red circle").code == 0


def test_convert_original_takes_the_tokenizer_from_elsewhere(run: Run, tmp_path: Path) -> None:
    """A checkpoint of the released code needs a separate tokenizer, and a tokenizer that doesn't fit is refused."""
    state = {
        name.removeprefix("state."): tensor for name, tensor in load_file(GOLDEN).items() if name.startswith("state.")
    }
    torch.save(state, tmp_path / "pytorch_model.bin.4")
    letters = sorted(ByteLevel.alphabet())
    words = [*letters, *(f"{letter}</w>" for letter in letters)][:510]
    for name, tokens in {
        "right": [*words, "<|startoftext|>", "<|endoftext|>"],
        "wrong": [*words[:100], "<|startoftext|>", "<|endoftext|>"],
    }.items():
        CLIPTokenizer(vocab={token: i for i, token in enumerate(tokens)}, merges=[]).save_pretrained(tmp_path / name)

    args = ["convert", "original", tmp_path / "pytorch_model.bin.4", tmp_path / "out", "--tokenizer"]
    assert_fails(run(*args, tmp_path / "wrong"), "ends a text with token 101", "511")
    assert_fails(run(*args, tmp_path / "missing"), "tokenizer", "missing")
    assert not (tmp_path / "out").exists()
    assert run(*args, tmp_path / "right").code == 0
    assert TS2NetModel.from_pretrained(tmp_path / "out").config.padding_mode == "released"
    processor = TS2NetProcessor.from_pretrained(tmp_path / "out")
    assert processor.tokenizer.model_max_length == 77
    assert processor.video_processor.clock == "released"  # the clock it was trained with


@pytest.mark.parametrize(
    ("source", "setting", "words"),
    [
        ("{clip}", "no_such_field=1", ["no_such_field", "num_frames"]),
        ("{clip}", "num_selected_tokens=17", ["num_selected_tokens", "16"]),
        ("{clip}", "shift_kind=sideways", ["shift_kind", "sideways"]),
        ("missing", "num_frames=4", ["there is no folder missing"]),
        ("{model}", "num_frames=4", ["'ts2net' model already", "TS2NetModel.from_pretrained"]),
    ],
)
def test_convert_fails_in_one_line_and_leaves_nothing(
    run: Run, workshop: Workshop, tmp_path: Path, source: str, setting: str, words: list[str]
) -> None:
    source = source.format(clip=workshop.clip, model=workshop.model)
    assert_fails(run("convert", "clip", source, tmp_path / "out", "--set", setting), *words)
    assert list(tmp_path.iterdir()) == []


def test_convert_never_overwrites_unasked(run: Run, workshop: Workshop, tmp_path: Path) -> None:
    """A file or a non-empty folder is not overwritten; `--overwrite` replaces only the model in a folder."""
    file, folder = tmp_path / "file", tmp_path / "folder"
    file.write_text("mine")
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    assert_fails(run("convert", "clip", workshop.clip, file), str(file), "is a file")
    assert_fails(run("convert", "clip", workshop.clip, file, "--overwrite"), str(file), "is a file")
    assert_fails(run("convert", "clip", workshop.clip, folder), str(folder), "not empty", "--overwrite")
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]
    assert run("convert", "clip", workshop.clip, folder, "--overwrite").code == 0
    assert run("convert", "clip", workshop.clip, folder, "--overwrite", "--set", "num_frames=5").code == 0
    assert TS2NetModel.from_pretrained(folder).config.num_frames == 5
    assert file.read_text() == (folder / "notes.txt").read_text() == "mine"


# ----------------------------------------------------------------------------------------------------------------
# The process
# ----------------------------------------------------------------------------------------------------------------


def test_help_and_version_load_no_model_library() -> None:
    """`ts2net --help` is fast because torch and transformers are imported only by commands that need them."""
    code = (
        "import sys, ts2net.cli\n"
        "for args in (['--version'], ['--help'], ['score', '--help'], ['convert', 'clip', '--help']):\n"
        "    try:\n"
        "        ts2net.cli.main(args)\n"
        "    except SystemExit as end:\n"
        "        assert not end.code\n"
        "assert not {'torch', 'transformers', 'av', 'numpy'} & set(sys.modules)\n"
    )
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (child.returncode, child.stderr) == (0, "")
    assert child.stdout.startswith(f"ts2net {ts2net.__version__}\n")
    assert "ts2net score --model" in child.stdout


def test_nothing_but_json_reaches_standard_output(workshop: Workshop) -> None:
    """In a new process, where libraries may print on import, standard output has only JSON. It runs as a module."""
    command = [
        sys.executable,
        "-m",
        "ts2net",
        "score",
        "-m",
        workshop.model,
        "-v",
        *workshop.videos,
        "-t",
        "a",
        "--json",
    ]
    child = subprocess.run(command, capture_output=True, text=True)
    assert (child.returncode, child.stderr) == (0, "")
    assert len(json.loads(child.stdout)["results"][0]["videos"]) == 2


def test_next_to_nothing_is_imported_before_ctrl_c_is_handled() -> None:
    """The entry point imports almost nothing, because Ctrl-C during its imports gives a traceback."""
    code = "import sys; before = set(sys.modules); from ts2net.cli import main; print(*(set(sys.modules) - before))"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert set(child.stdout.split()) == {"ts2net", "ts2net.cli"}


def test_ctrl_c_ends_with_130_and_no_traceback(workshop: Workshop) -> None:
    """Ctrl-C during the work exits with 130; the command is waiting for a server that doesn't respond."""
    requested, done = threading.Event(), threading.Event()

    class Silent(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requested.set()
            done.wait(timeout=60)

        def log_message(self, *args: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Silent) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        video = f"http://127.0.0.1:{server.server_port}/video.mp4"
        child = ForkedPython(["-m", "ts2net", "score", "-m", workshop.model, "-v", video, "-t", "a"])
        try:
            assert requested.wait(timeout=60), child.printed()
            child.send_signal(signal.SIGINT)
            code = child.wait()
        finally:
            child.send_signal(signal.SIGKILL)
            done.set()
            server.shutdown()
    out, err = child.printed()
    assert (code, out) == (130, "")
    assert "Traceback" not in err


def test_errors_of_libraries_become_one_line() -> None:
    """Errors of libraries are shortened to their first line, and the next one if it ends with a colon."""
    assert one_line(OSError("no such model\nTo log in, see\nhttps://...")) == "no such model"
    assert one_line(RuntimeError("Error(s) in loading:\n\tsize mismatch")) == "Error(s) in loading: size mismatch"
    assert one_line(FileNotFoundError(2, os.strerror(2), "a.mp4")) == "a.mp4: No such file or directory"
    assert one_line(KeyError("weight")) == "KeyError 'weight'"
    assert one_line(AssertionError()) == "AssertionError"
