"""`python -m ts2net.training` and `accelerate launch -m ts2net.training`, on a tiny CLIP and a folder of videos."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file
from transformers import AutoModel

from support.commands import Result
from support.forked_python import ForkedPython
from support.spread_training import assert_same_weights
from support.streamed_data import clip
from support.tiny_models import tiny_clip, tiny_tokenizer
from ts2net import TS2NetProcessor
from ts2net.data.prepare import prepare
from ts2net.training.__main__ import main
from ts2net.training.command_line import parse
from ts2net.training.preparation import prepare_run

pytestmark = pytest.mark.spread

RECIPE = """
benchmark: folder
num_frames: 6
clock: released
max_words: 16
global_batch_size: 4
num_train_epochs: 2
learning_rate: 1e-3
clip_learning_rate: 1e-4
logging_steps: 1
eval_strategy: epoch
save_strategy: epoch
load_best_model_at_end: true
dataloader_num_workers: 0
max_broken_share: 1
report_to: none
disable_tqdm: true
model_config: {selection_num_samples: 20, shift_stride: 5, shift_offset: 2}
"""


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    tiny_clip().save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two splits of videos with a text beside each."""
    folder = tmp_path_factory.mktemp("videos")
    for split, numbers in {"train": range(12), "test": range(12, 18)}.items():
        (folder / split).mkdir()
        for number in numbers:
            (folder / split / f"clip{number}.mp4").write_bytes(clip(number))
            (folder / split / f"clip{number}.txt").write_text(f"clip {number}\nnumber {number}\n")
    return folder


@pytest.fixture
def line(clip_folder: Path, videos: Path, tmp_path: Path) -> list[str]:
    """A valid command line."""
    recipe = tmp_path / "folder.yaml"
    recipe.write_text(RECIPE)
    run = ["--recipe", str(recipe), "--model", str(clip_folder), "--train_data", str(videos)]
    return [*run, "--output_dir", str(tmp_path / "run")]


def history(run: Path) -> list[dict[str, float]]:
    last = max(run.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    return json.loads((last / "trainer_state.json").read_text())["log_history"]


def test_evaluation_sees_the_videos_that_prepare_found_missing(line: list[str], videos: Path, tmp_path: Path):
    """Queries of missing videos count as misses; training leaves the videos out."""
    source = tmp_path / "source"
    shutil.copytree(videos, source)
    for split in ("train", "test"):
        (source / split / "cut.mp4").write_bytes(clip(1)[:100])
        (source / split / "cut.txt").write_text("a clip that was cut off\n")
    prepare("folder", tmp_path / "prepared", videos=source, splits=["train", "test"], workers=0)
    trainer = prepare_run(parse([*line, "--train_data", str(tmp_path / "prepared")]))
    assert len(list(trainer.train_dataset)) == trainer.num_train_videos == 12
    *others, cut = list(trainer.eval_dataset)
    assert len(others) == 6
    assert (cut["id"], cut["captions"], cut["video"]) == ("cut.mp4", ["a clip that was cut off"], None)


def test_a_run_from_a_clip_to_a_hub_folder(line: list[str], clip_folder: Path, tmp_path: Path, capsys):
    """The recipe trains, evaluates and saves the best model with its results; another run can start from it."""
    assert main(line) == 0
    run = tmp_path / "run"
    model = AutoModel.from_pretrained(run)
    assert (model.config.num_frames, model.config.vision_config.shift_stride) == (6, 5)
    assert TS2NetProcessor.from_pretrained(run).video_processor.clock == "released"  # the clock used in training
    steps = [entry for entry in history(run) if "loss" in entry]
    assert [entry["step"] for entry in steps] == [*range(1, 2 * (24 // 4) + 1)]
    card = ModelCard.load(run / "README.md")
    assert {result.dataset_name for result in card.data.eval_results} == {"folder"}
    beside = {"num_frames": 6, "max_words": 16, "num_videos": 6, "num_queries": 12, "num_missing": 0}
    assert all(result.metric_args == beside for result in card.data.eval_results)
    processor = TS2NetProcessor.from_pretrained(run)
    assert (processor.video_processor.num_frames, processor.max_words) == (6, 16)
    assert "text-to-video R@1" in card.text

    capsys.readouterr()
    assert main(line) == 1
    assert "has checkpoints of an earlier run: go on with --resume_from_checkpoint auto" in capsys.readouterr().err
    # The saved folder can be used as the model of another run.
    further = [str(run) if part == str(clip_folder) else part for part in line[:-1]]
    assert (
        main(
            [
                *further,
                str(tmp_path / "further"),
                "--max_steps=1",
                "--eval_strategy=no",
                "--save_strategy=no",
                "--load_best_model_at_end=false",
            ]
        )
        == 0
    )


def test_two_launched_processes_train_as_one_does(line: list[str], tmp_path: Path):
    """Two processes give the losses, figures and weights of one."""
    settings = [
        "--max_steps",
        "6",
        "--save_strategy=steps",
        "--save_steps=3",
        "--eval_strategy=steps",
        "--eval_steps=3",
    ]
    assert main([*line, *settings]) == 0
    two = [str(tmp_path / "two") if part == str(tmp_path / "run") else part for part in line]
    # Accelerate's `--cpu` starts a single process. Processes without a GPU compute on the CPU.
    done = launch("--multi_gpu", "-m", "ts2net.training", *two, *settings)
    assert done.code == 0, done.err
    one_process, two_processes = history(tmp_path / "run"), history(tmp_path / "two")
    assert len(one_process) == len(two_processes) == 6 + 2
    for one, other in zip(one_process, two_processes, strict=True):
        assert set(one) == set(other)
        for name in set(one) - {"clips_per_second", "data_wait_share", "eval_runtime", "eval_samples_per_second"}:
            assert other[name] == pytest.approx(one[name], rel=1e-4 if name == "grad_norm" else 1e-5), name
    assert_same_weights(saved_weights(tmp_path / "two"), saved_weights(tmp_path / "run"))
    # Each process saves its own random state.
    states = {path.name for path in (tmp_path / "two" / "checkpoint-6").glob("rng_state*")}
    assert states == {"rng_state_0.pth", "rng_state_1.pth"}


LAUNCH = """
import resource, sys
if most := int(sys.argv.pop(1)):
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
from accelerate.commands.launch import main
main()
"""


def launch(*arguments: str, largest_file: int = 0) -> Result:
    """Start two processes with Accelerate, which can't write files above `largest_file` bytes (0: no limit)."""
    options = ["--num_processes=2", "--num_machines=1", "--mixed_precision=no", "--main_process_port=0"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    return ForkedPython(["-c", LAUNCH, str(largest_file), *options, *arguments], environment=environment).result()


def saved_weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model.safetensors")


def test_a_learning_rate_range_test_prints_its_table(line: list[str], tmp_path: Path, capsys):
    """The range test prints its table and saves nothing but the table."""
    assert main([*line, "--learning_rate_range_test", "10"]) == 0
    printed = capsys.readouterr().out
    assert f"all steps are in {tmp_path / 'run' / 'learning_rate_range.csv'}" in printed
    assert "smoothed_loss" in printed
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["learning_rate_range.csv"]
    assert main([*line, "--learning_rate_range_test", "1"]) == 2


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--train_data", "nowhere/at/all"], 1, "nowhere/at/all"),
        (["--train_split", "trian"], 1, "trian"),
        (["--model", "nowhere/at/all"], 1, "nowhere/at/all"),
        (["--model_config", "shift_knd=none"], 1, "'shift_knd' is not a setting of TS2-Net"),
        (["--num_frames", "0"], 2, "num_frames must be at least 1, got 0"),
        (["--resume_from_checkpoint", "true"], 1, "no checkpoint to resume from"),
        (["--resume_from_checkpoint", "checkpoint-3"], 1, "checkpoint-3: no such checkpoint to resume from"),
        (["--max_words", "99"], 1, "max_words must lie between"),
        (["--global_batch_size", "99"], 1, "the training set has 24 captions, fewer than global_batch_size=99"),
        (["--eval_split", "tset"], 1, "tset"),
        (["--report_to", "comet_ml"], 2, "report_to=comet_ml: CometCallback requires comet-ml"),
        (["--report_to", "nothing"], 2, "report_to=nothing: nothing is not supported, only azure_ml, comet_ml"),
        (["--logging_dir", "logs"], 2, "logging_dir is where TensorBoard writes: give report_to=tensorboard too"),
        (["--metric_for_best_model", "R@1"], 1, "metric_for_best_model='R@1' is not a figure of the evaluation"),
        (["--deepspeed", "zero.json"], 2, "DeepSpeed is not supported: FSDP 2 shards weights and optimizer state too"),
    ],
)
def test_a_mistake_is_explained_in_a_line(options: list[str], code: int, message: str, line: list[str], capsys):
    """A wrong option ends the command with one error line and no stack trace."""
    assert main([*line, *options]) == code
    printed = capsys.readouterr().err.strip().splitlines()
    assert printed[-1].startswith("error: ")
    assert message in printed[-1]
    assert not any("Traceback" in words for words in printed)


@pytest.mark.parametrize(
    ("module", "options", "message"),
    [
        ("ts2net.training", ["--train_split=trian"], "no split 'trian'"),
        ("ts2net.training", ["--trian_split", "x"], "unknown option --trian_split; did you mean '--train_split'?"),
        ("ts2net", [], "cannot load the model 'nowhere': there is no folder nowhere"),
    ],
)
def test_the_launcher_ends_with_the_message(
    module: str, options: list[str], message: str, line: list[str], videos: Path
):
    """The message is printed once, and the launcher's report lists only the process that printed it."""
    arguments = [*line, *options] if module == "ts2net.training" else ["evaluate", "nowhere", "folder", str(videos)]
    done = launch("--multi_gpu", "-m", module, *arguments)
    assert done.code == 1
    before, _, report = done.err.partition("Failures:")
    assert "NO_OTHER_FAILURES" in report
    assert message in report
    errors = [printed for printed in before.splitlines() if printed.startswith("error: ")]
    assert len([error for error in errors if message in error]) == 1
    assert before.count("Traceback (most recent call last)") == 1  # from the launcher


def test_a_process_that_fails_alone_is_the_only_one_that_reports(line: list[str], tmp_path: Path):
    """The other process ends without a stack trace when its connection to the failed process is lost."""
    settings = ["--save_strategy=steps", "--save_steps=1", "--eval_strategy=no", "--load_best_model_at_end=false"]
    done = launch("--multi_gpu", "-m", "ts2net.training", *line, *settings, largest_file=100_000)  # like a full disk
    assert done.code == 1
    message = f"error: cannot save {tmp_path / 'run' / 'checkpoint-1'}: File too large"
    assert [printed for printed in done.err.splitlines() if printed.startswith("error: ")] == [message]
    assert message in done.err.partition("Root Cause")[2]
    assert done.err.count("Traceback (most recent call last)") == 1, "the launcher's"


def test_broken_videos_end_it_in_a_line(line: list[str], videos: Path, tmp_path: Path, capsys):
    broken = tmp_path / "broken"
    (broken / "train").mkdir(parents=True)
    for number in range(12):
        good = number % 2
        (broken / "train" / f"clip{number}.mp4").write_bytes(clip(number) if good else b"not a video")
        (broken / "train" / f"clip{number}.txt").write_text(f"clip {number}\n")
    options = ["--train_data", str(broken), "--eval_strategy=no", "--load_best_model_at_end=false", "--max_steps=99"]
    assert main([*line, *options, "--max_broken_share=0.3"]) == 1
    last_line = capsys.readouterr().err.strip().splitlines()[-1]
    assert "training videos could not be used, more than max_broken_share=0.3 allows" in last_line


def test_an_evaluation_that_fails_ends_it_in_a_line(line: list[str], videos: Path, tmp_path: Path, capsys):
    """The error names the training step of the evaluation."""
    test = tmp_path / "evaluation" / "test"
    test.mkdir(parents=True)
    (test / "clip0.mp4").write_bytes(b"not a video")
    (test / "clip0.txt").write_text("clip 0\n")
    assert main([*line, "--eval_data", str(test.parent)]) == 1
    printed = capsys.readouterr().err
    assert "error: eval at step 6: none of the 1 videos can be used" in printed
    assert "Traceback" not in printed


def test_a_file_of_captions_is_not_that_of_the_evaluation_too(line: list[str], tmp_path: Path):
    """The training captions file is not used in evaluation; otherwise it would choose the best checkpoint."""
    captions = tmp_path / "mine.csv"
    captions.write_text("file,caption\n" + "".join(f"train/clip{number}.mp4,clip {number}\n" for number in range(12)))
    trained_on = ["--data_options", f"captions={captions}"]
    run = prepare_run(parse([*line, *trained_on]))
    assert (len(run.train_dataset), len(run.eval_dataset)) == (12, 6)
    assert run.eval_dataset[0]["id"] == "clip12.mp4"
    captions_too = ["--eval_data_options", f"captions={captions}"]
    assert len(prepare_run(parse([*line, *trained_on, *captions_too])).eval_dataset) == 12


def test_our_own_mistakes_come_with_their_stack_trace(line: list[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("ts2net.training.preparation.load_model", lambda *_, **__: {}["our mistake"])
    with pytest.raises(KeyError, match="our mistake"):
        main(line)
