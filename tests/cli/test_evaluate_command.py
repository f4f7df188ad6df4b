"""The command `ts2net evaluate`: its table, JSON file, model card and early errors."""

import csv
import dataclasses
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from datasets import Dataset, Features, List, Value, Video
from huggingface_hub import HfApi

from support.commands import Result, Run, command_runner
from support.evaluation_split import CAPTIONS, NUM_TEXTS, NUM_VIDEOS, clip, split
from support.forked_python import ForkedPython
from support.loopback_hub import LoopbackHub
from support.tiny_models import tiny_model, tiny_processor
from ts2net import TS2NetProcessor
from ts2net.benchmarks import BENCHMARKS
from ts2net.cli import evaluate, main  # noqa: F401  importing the module registers the command
from ts2net.data.prepare import prepare
from ts2net.evaluation.retrieval import evaluate_retrieval
from ts2net.hub import add_evaluation, push_to_hub, save_hub_folder

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

REPO = "tester/tiny-ts2net"


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command in this process, on a terminal of 100 columns."""
    return command_runner(capfd, monkeypatch, columns=100)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of videos with captions of a split "test", and of a split "cut" whose last video is truncated."""
    folder = tmp_path_factory.mktemp("videos")
    for number in range(NUM_VIDEOS):
        (folder / f"video{number}.mp4").write_bytes(clip(number))
    (folder / "cut.mp4").write_bytes(clip(6)[:100])
    for name, last in [("test", "video6"), ("cut", "cut")]:
        with (folder / f"{name}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["file", "caption"])
            for number, captions in enumerate(CAPTIONS):
                video = last if number == 6 else f"video{number}"
                writer.writerows([f"{video}.mp4", caption] for caption in captions)
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save_hub_folder(tiny_model(), tiny_processor(), tmp_path / "model")


@pytest.fixture(scope="module")
def expected() -> dict:
    result = evaluate_retrieval(tiny_model(), split().remove_columns("group"), tiny_processor())
    return json.loads(json.dumps(result.to_dict()))


def columns(text: str) -> list[list[str]]:
    """Split each line into cells, which are separated by two or more spaces."""
    return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in text.splitlines()]


def test_prints_a_table_and_writes_the_file(run: Run, model: Path, videos: Path, expected: dict, tmp_path: Path):
    """Table and file have the library's figures, and the file also has the settings that they depend on."""
    file = tmp_path / "result.json"
    done = run("evaluate", model, "folder", videos, "--split", "test", "--workers", 0, "--json", file)
    assert done.code == 0, done.err
    written = json.loads(file.read_text())
    assert {name: written[name] for name in expected} == expected
    about = {"model": str(model), "benchmark": "folder", "path": str(videos), "split": "test"}
    sizes = {"num_frames": 6, "max_words": 16, "long_texts": "truncate", "clock": "seconds"}
    assert {name: written[name] for name in written if name not in expected} == about | sizes
    assert f"{NUM_TEXTS} texts, {NUM_VIDEOS} videos" in done.out
    names = [f"text-to-video {figure}" for figure in ("R@1", "R@5", "R@10", "R@50", "MdR", "MnR")]
    assert ["text-to-video", *(f"{expected['metrics'][name]:.1f}" for name in names)] in columns(done.out)
    assert ["text-to-video, dual softmax", *(f"{expected['dual_softmax'][name]:.1f}" for name in names)] in columns(
        done.out
    )
    assert done.err == ""
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_reports_what_is_broken(run: Run, model: Path, videos: Path, tmp_path: Path):
    """A broken video is reported with its name and reason, also in the file, and doesn't stop the evaluation."""
    file = tmp_path / "result.json"
    done = run("evaluate", model, "folder", videos, "--split", "cut", "--workers", 0, "--json", file)
    assert done.code == 0
    assert "warning: 1 of 7 videos can't be used, and their queries count as missed:\n  cut.mp4: " in done.err
    (broken,) = json.loads(file.read_text())["broken"]
    assert broken["video_id"] == "cut.mp4"
    assert f"  cut.mp4: {broken['reason']}\n" in done.err


@pytest.mark.slow
def test_settings_reach_the_model(run: Run, model: Path, videos: Path, tmp_path: Path):
    file = tmp_path / "result.json"
    settings = {"--num-frames": 2, "--max-words": 3, "--batch-size": 2, "--dtype": "float32", "--device": "cpu"}
    settings |= {"--long-texts": "split"}
    options = [part for pair in settings.items() for part in pair]
    data = ("--data", f"captions={videos / 'test.csv'}")
    done = run("evaluate", model, "folder", videos, *data, *options, "--workers", 0, "--json", file, "--update-card")
    assert done.code == 0, done.err
    assert "text-to-video R@1 with split texts" in (model / "README.md").read_text()
    result = evaluate_retrieval(
        tiny_model(),
        split().remove_columns("group"),
        tiny_processor(),
        num_frames=2,
        max_words=3,
        long_texts="split",
    )
    assert json.loads(file.read_text())["metrics"] == result.metrics


def test_a_prepared_folder_is_read_where_it_lies(
    run: Run, model: Path, videos: Path, expected: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A prepared folder is read in place, because its data may be too large to copy into a cache."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    prepare("folder", tmp_path / "prepared", videos=videos, splits=["test"], workers=0)
    file = tmp_path / "result.json"
    done = run("evaluate", model, "folder", tmp_path / "prepared", "--split", "test", "--workers", 0, "--json", file)
    assert done.code == 0, done.err
    recall = "text-to-video R@1"
    assert json.loads(file.read_text())["metrics"][recall] == pytest.approx(expected["metrics"][recall])
    assert not list((tmp_path / "cache").rglob("*.arrow"))


@pytest.fixture(scope="module")
def prepared(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared splits "cut", with one broken video, and "gone", where the file of video 2 is missing as well."""
    (videos / "gone.csv").write_text((videos / "cut.csv").read_text().replace("video2.mp4", "gone.mp4"))
    out = tmp_path_factory.mktemp("prepared") / "data"
    prepare("folder", out, videos=videos, splits=["cut", "gone"], workers=0)
    return out


@pytest.mark.parametrize("split", ["cut", "gone"])
def test_videos_that_prepare_left_out_count_as_missed(
    run: Run, model: Path, videos: Path, prepared: Path, split: str, tmp_path: Path
):
    """Videos that `prepare` left out count as missed, so that lost videos don't improve the figures."""
    written = {}
    for name, path in {"before": videos, "after": prepared}.items():
        file = tmp_path / f"{name}.json"
        done = run("evaluate", model, "folder", path, "--split", split, "--workers", 0, "--json", file)
        assert done.code == 0, done.err
        written[name] = json.loads(file.read_text())
    for figures in ("metrics", "dual_softmax"):
        assert written["after"][figures] == pytest.approx(written["before"][figures])
    missing = {"cut": ["cut.mp4"], "gone": ["cut.mp4", "gone.mp4"]}[split]
    counts = {"num_texts": NUM_TEXTS, "num_videos": NUM_VIDEOS, "num_missing": len(missing), "num_left_out": 0}
    assert {name: written["after"][name] for name in counts} == counts
    assert sorted(video["video_id"] for video in written["after"]["broken"]) == missing
    assert f"{NUM_VIDEOS} videos, of which {len(missing)} missing" in done.out
    if split == "gone":
        assert "  gone.mp4: no such file\n" in done.err


@pytest.mark.slow
def test_missing_videos_are_left_out_on_request(run: Run, model: Path, prepared: Path, tmp_path: Path):
    """With `--leave-out-missing`, the figures are those of the smaller split, and the result reports this."""
    file = tmp_path / "result.json"
    options = ["--split", "gone", "--workers", 0, "--json", file, "--leave-out-missing", "--update-card"]
    done = run("evaluate", model, "folder", prepared, *options)
    assert done.code == 0, done.err
    written = json.loads(file.read_text())
    kept = [row for row in split() if row["id"] not in ("video2", "video6")]
    result = evaluate_retrieval(
        tiny_model(), Dataset.from_list(kept, features=split().features).remove_columns("group"), tiny_processor()
    )
    assert written["metrics"] == pytest.approx(result.metrics)
    assert (written["num_videos"], written["num_missing"], written["num_left_out"]) == (NUM_VIDEOS - 2, 0, 2)
    assert "2 more left out" in done.out
    assert "Left out |" in (model / "README.md").read_text()


def test_a_manifest_without_captions_says_what_it_cannot_count(run: Run, model: Path, prepared: Path, tmp_path: Path):
    """Manifests of earlier versions list missing videos without their captions, so that a warning is printed."""
    old = tmp_path / "old"
    shutil.copytree(prepared, old)
    manifest = json.loads((old / "cut.json").read_text())
    for remark in manifest["broken"]:
        del remark["captions"]
    (old / "cut.json").write_text(json.dumps(manifest))
    file = tmp_path / "result.json"
    done = run("evaluate", model, "folder", old, "--split", "cut", "--workers", 0, "--json", file)
    assert "warning: 1 videos were missing or broken when an earlier version of ts2net prepared the split" in done.err
    written = json.loads(file.read_text())
    assert (written["num_videos"], written["num_missing"], written["num_left_out"]) == (NUM_VIDEOS - 1, 0, 1)


def test_the_models_own_training_decides_frames_and_words(run: Run, tmp_path: Path):
    """Frames and words come from the command line, then from the model's training, then from the benchmark."""
    prepare("moving_things", tmp_path / "shapes", splits=["test"], num_clips=4, workers=0)
    processor = tiny_processor()
    processor.video_processor.num_frames, processor.max_words = 3, 5
    trained = save_hub_folder(tiny_model(), processor, tmp_path / "trained")
    processor.max_words = None
    untold = save_hub_folder(tiny_model(), processor, tmp_path / "untold")
    file = tmp_path / "result.json"
    for folder, options, lengths in [
        (trained, [], (3, 5)),
        (trained, ["--num-frames", 2, "--max-words", 4], (2, 4)),
        (untold, [], (3, 16)),  # the recipe's 26 words, limited by the tokenizer
    ]:
        done = run("evaluate", folder, "moving_things", tmp_path / "shapes", "--workers", 0, "--json", file, *options)
        assert done.code == 0, done.err
        written = json.loads(file.read_text())
        assert (written["num_frames"], written["max_words"]) == lengths
        assert f"{lengths[0]} frames, {lengths[1]} words" in done.out


def test_a_benchmark_is_evaluated_by_its_own_clock(run: Run, model: Path, tmp_path: Path, monkeypatch):
    """A model that this package trained keeps its own clock, and other models use the benchmark's clock."""
    prepare("moving_things", tmp_path / "shapes", splits=["test"], num_clips=4, workers=0)
    clocks = []

    def note_clock(_model: object, _dataset: object, processor: TS2NetProcessor, **_: object) -> None:
        clocks.append(processor.video_processor.clock)
        raise ValueError("noted")

    monkeypatch.setattr("ts2net.evaluation.retrieval.evaluate_retrieval", note_clock)
    for clock in ("seconds", "released"):
        benchmark = dataclasses.replace(BENCHMARKS["moving_things"], clock=clock)
        monkeypatch.setitem(BENCHMARKS, "moving_things", benchmark)
        assert "noted" in run("evaluate", model, "moving_things", tmp_path / "shapes").err
    # A model trained with another clock keeps its own, unless the command line sets one.
    processor = tiny_processor()
    processor.max_words = 16
    trained = save_hub_folder(tiny_model(), processor, tmp_path / "trained")
    run("evaluate", trained, "moving_things", tmp_path / "shapes")
    run("evaluate", trained, "moving_things", tmp_path / "shapes", "--clock", "released")
    assert clocks == ["seconds", "released", "seconds", "released"]


@pytest.mark.slow
def test_any_dataset_with_its_own_column_names(run: Run, model: Path, expected: dict, tmp_path: Path):
    features = Features({"name": Value("string"), "clip": Video(decode=False), "says": List(Value("string"))})
    rows = [{"name": row["id"], "clip": row["video"], "says": row["captions"]} for row in split()]
    (tmp_path / "data").mkdir()
    Dataset.from_list(rows, features=features).to_parquet(tmp_path / "data" / "test.parquet")
    data = ["--data", "video_column=clip", "--data", "caption_column=says", "--data", "id_column=name"]
    file = tmp_path / "result.json"
    done = run("evaluate", model, "dataset", tmp_path / "data", *data, "--workers", 0, "--json", file)
    assert done.code == 0, done.err
    assert json.loads(file.read_text())["metrics"] == expected["metrics"]


def test_updates_the_card_of_a_folder(run: Run, model: Path, videos: Path, expected: dict):
    """A repeated update of the card doesn't add a second row, and manual text is kept."""
    card = model / "README.md"
    card.write_text(card.read_text() + "\nWritten by hand.\n")
    for _ in range(2):
        done = run("evaluate", model, "folder", videos, "--split", "test", "--workers", 0, "--update-card")
        assert done.code == 0, done.err
    text = card.read_text()
    value = round(expected["metrics"]["text-to-video R@1"], 2)
    beside = f"6 | 16 | {NUM_VIDEOS} | {NUM_TEXTS} | 0 |"  # frames, words, videos, queries, missing
    assert text.count(f"| {videos.name} | test | text-to-video R@1 | {value} | {beside}") == 1
    assert "text-to-video R@1 with dual softmax" in text
    assert "model-index:" in text
    assert text.endswith("Written by hand.\n")
    assert [path.name for path in model.iterdir() if path.name.startswith(".")] == []


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    with LoopbackHub() as hub:
        hub.use_here(monkeypatch)
        yield hub


@pytest.mark.slow
def test_updates_the_card_on_the_hub(
    run: Run, hub: LoopbackHub, videos: Path, expected: dict, monkeypatch: pytest.MonkeyPatch
):
    """The card on the Hub is updated in one commit that changes no other file."""
    monkeypatch.setenv("HF_TOKEN", hub.token)
    push_to_hub(tiny_model(), tiny_processor(), REPO, token=hub.token)
    before = hub.repositories[REPO].at("main")
    done = run("evaluate", REPO, "folder", videos, "--split", "test", "--workers", 0, "--update-card")
    assert done.code == 0, done.err
    after = hub.repositories[REPO].at("main")
    assert after.message == f"Add the figures on {videos.name}, test"
    assert [name for name in after.files if after.files[name] != before.files.get(name)] == ["README.md"]
    value = round(expected["metrics"]["text-to-video R@1"], 2)
    assert f"text-to-video R@1 | {value} |" in after.files["README.md"].content.decode()


@pytest.mark.slow
def test_leaves_a_card_on_the_hub_that_cannot_be_read(
    run: Run, hub: LoopbackHub, videos: Path, monkeypatch: pytest.MonkeyPatch
):
    """If the card on the Hub can't be read, it is not replaced by a new card or an outdated copy."""
    monkeypatch.setenv("HF_TOKEN", hub.token)
    push_to_hub(tiny_model(), tiny_processor(), REPO, token=hub.token)
    HfApi().hf_hub_download(REPO, "README.md")  # a copy that becomes outdated
    HfApi().upload_file(path_or_fileobj=b"Written by hand.\n", path_in_repo="README.md", repo_id=REPO)
    before = hub.repositories[REPO].at("main")
    with hub.break_request("resolve/.*/README.md", status=403, times=100):
        done = run("evaluate", REPO, "folder", videos, "--split", "test", "--workers", 0, "--update-card")
    assert done.code == 1
    assert f"error: the card of '{REPO}' is unchanged: " in done.err
    assert hub.repositories[REPO].at("main") is before


@pytest.mark.slow
def test_leaves_a_card_that_is_changed_meanwhile(
    run: Run, hub: LoopbackHub, videos: Path, monkeypatch: pytest.MonkeyPatch
):
    """A commit made between reading and writing the card is not overwritten."""
    monkeypatch.setenv("HF_TOKEN", hub.token)
    push_to_hub(tiny_model(), tiny_processor(), REPO, token=hub.token)

    def add_late(*arguments):
        HfApi().upload_file(path_or_fileobj=b"Written by hand.\n", path_in_repo="README.md", repo_id=REPO)
        return add_evaluation(*arguments)

    monkeypatch.setattr("ts2net.hub.add_evaluation", add_late)
    done = run("evaluate", REPO, "folder", videos, "--split", "test", "--workers", 0, "--update-card")
    assert done.code == 1
    assert f"error: the card of '{REPO}' is unchanged: " in done.err
    assert "412 Precondition Failed" in done.err
    assert hub.repositories[REPO].at("main").files["README.md"].content == b"Written by hand.\n"


def refused(done: Result, code: int, *words: str) -> None:
    assert done.code == code
    assert done.out == ""
    assert "Traceback" not in done.err
    for word in words:
        assert word in " ".join(done.err.replace("│", " ").split())


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["mrsvtt", "{videos}"], 2, ["there is no 'mrsvtt', only msrvtt, vatex, lsmdc, activitynet, didemo"]),
        (["folder", "{videos}", "--split", "dev"], 1, ["no split 'dev'", "dev.csv"]),
        (["msrvtt", "{videos}"], 1, ["no split"]),
        (["msrvtt", "{videos}/none"], 1, ["{videos}/none"]),
        (
            ["folder", "{videos}", "--data", "video_column=x"],
            2,
            ["one of captions, follow_links, skip_empty_captions, got 'video_column=x'"],
        ),
        (["msrvtt", "{videos}", "--data", "config=x"], 2, ["none for msrvtt, got 'config=x'"]),
        (["folder", "{videos}", "--json", "{videos}"], 1, ["{videos} is a folder"]),
        (["folder", "{videos}", "--json", "{videos}/no/r.json"], 1, ["there is no folder {videos}/no"]),
        (["folder", "{videos}", "--num-frames", "12"], 1, ["48 tokens and the temporal encoder 24 positions"]),
        (["folder", "{videos}", "--max-words", "40"], 1, ["max_words must lie between 2", "got 40"]),
        (["folder", "{videos}", "--batch-size", "0"], 2, ["--batch-size"]),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else str(value),
)
def test_refuses_in_one_line(run: Run, model: Path, videos: Path, arguments: list[str], code: int, words: list[str]):
    arguments = [argument.format(videos=videos) for argument in arguments]
    workers = [] if "--split" in arguments else ["--split", "test"]
    refused(
        run("evaluate", model, *arguments, *workers, "--workers", 0),
        code,
        *(word.format(videos=videos) for word in words),
    )


def test_refuses_a_model_that_is_none(run: Run, videos: Path, tmp_path: Path):
    done = run("evaluate", tmp_path / "none", "folder", videos, "--split", "test")
    refused(done, 1, f"cannot load the model '{tmp_path}/none': there is no folder")


@pytest.mark.slow
def test_launched_in_two_processes(run: Run, model: Path, videos: Path, tmp_path: Path):
    """Two processes, launched as by `accelerate launch`, print one table and write the same file as one process."""
    arguments = ["evaluate", str(model), "folder", str(videos), "--split", "cut", "--workers", "0", "--json"]
    one = run(*arguments, tmp_path / "one.json")
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "ts2net"]
    two = ForkedPython(
        [*launch, *arguments, tmp_path / "two.json"],
        environment=os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "100"},
    ).result()
    assert two.code == 0, two.err
    assert two.out == one.out
    assert two.err.count("cut.mp4: ") == one.err.count("cut.mp4: ")
    assert (tmp_path / "two.json").read_bytes() == (tmp_path / "one.json").read_bytes()
