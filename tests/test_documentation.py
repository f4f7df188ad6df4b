"""Every snippet of the README and the guides runs as printed, and prints the output that the page shows.

The Hub is local, and its models and clips are small. To avoid importing the libraries for each command, all commands
run in this process. Only the `accelerate launch` commands of the README start processes.
"""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from accelerate.commands.launch import launch_command_parser
from huggingface_hub import HfApi
from safetensors.torch import load_file
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from support.commands import command_runner
from support.loopback_hub import LoopbackHub
from support.tiny_models import LETTERS
from support.video_files import write_video
from ts2net import TS2NetModel, TS2NetProcessor
from ts2net.data.prepare import prepare
from ts2net.hub import push_to_hub
from ts2net.training.__main__ import main as train

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
PAGES = {
    page.name: page.read_text(encoding="utf-8") for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
}
GOLDEN = Path(__file__).parent / "golden" / "small_b32_grid.safetensors"

SNIPPET = re.compile(r"```python\n(.*?)```(?:\n\n```text\n(.*?)```)?", re.DOTALL)


# Commands that would take hours as printed are run with options that shorten them.
LESS = {
    "ts2net prepare moving_things": "--clips 8",
    "accelerate launch": "--global_batch_size 2 --max_steps 1 --num_frames 2 --dataloader_num_workers 0 "
    "--use_cpu true --report_to none",
}
LAUNCHED = tuple(re.findall(r"^accelerate launch.*", PAGES["README.md"], flags=re.MULTILINE))


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGES[page], flags=re.DOTALL)


def any_score(printed: str) -> str:
    """Replace each decimal number in printed output, because the scores of the small test model differ."""
    return re.sub(r"-?\d+\.\d+", "<score>", printed)


def small_clip(folder: Path) -> CLIPModel:
    """Save a CLIP with the depth of the real ones, small widths, and the 512 token ids of the golden checkpoint."""
    vocab = {
        token: token_id for token_id, token in enumerate([letter + end for letter in LETTERS for end in ("", "</w>")])
    }
    for token_id in range(len(vocab), 510):
        vocab[f"<unused {token_id}>"] = token_id
    vocab |= {"<|startoftext|>": 510, "<|endoftext|>": 511}
    CLIPTokenizer(vocab=vocab, merges=[], model_max_length=77).save_pretrained(folder)
    size = {"hidden_size": 64, "intermediate_size": 64, "num_attention_heads": 1}
    ids = {"vocab_size": 512, "bos_token_id": 510, "eos_token_id": 511, "pad_token_id": 511}
    torch.manual_seed(7)  # the README's first sentence wins
    clip = CLIPModel(
        CLIPConfig(
            text_config=size | ids | {"num_hidden_layers": 4},
            vision_config=size | {"num_hidden_layers": 12, "patch_size": 32},
            projection_dim=64,
        )
    )
    clip.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text('{"image_processor_type": "CLIPImageProcessor"}')
    return clip


def write_msrvtt(folder: Path) -> None:
    """Write MSR-VTT as distributed, with two training videos and one test video."""
    names = ["video0", "video1", "video2"]
    (folder / "videos").mkdir(parents=True)
    for name in names:
        write_video(folder / "videos" / f"{name}.mp4", frames=20, fps=10)
    sentences = [{"video_id": name, "caption": f"{name} again"} for name in names[:2] for _ in range(2)]
    (folder / "MSRVTT_data.json").write_text(json.dumps({"sentences": sentences}))
    (folder / "MSRVTT_train.9k.csv").write_text("video_id\nvideo0\nvideo1\n")
    (folder / "MSRVTT_JSFUSION_test.csv").write_text("video_id,sentence\nvideo2,a dog\n")


def write_clips(folder: Path) -> None:
    """Write a user's own videos, with captions next to the folder."""
    (folder / "clips").mkdir()
    for name in ("a", "b"):
        write_video(folder / "clips" / f"{name}.mp4", frames=20, fps=10)
    for captions in (folder / "captions.csv", folder / "clips" / "captions.csv"):
        captions.write_text("file,caption\na.mp4,a dog\nb.mp4,a loaf\n")


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """The working folder with the README's files, and a local Hub with its repositories."""
    folder = tmp_path_factory.mktemp("readme")
    write_video(folder / "dog.mp4", frames=30, fps=10)
    write_video(folder / "bread.mp4", frames=20, fps=10, size=(48, 64))
    write_msrvtt(folder / "msrvtt_data")
    write_clips(folder)
    prepare("moving_things", folder / "shapes", splits=["train", "test"], num_clips=8, workers=0)
    golden = {name.removeprefix("state."): value for name, value in load_file(GOLDEN).items() if "state." in name}
    torch.save(golden, folder / "pytorch_model.bin.4")
    clip = small_clip(folder / "clip")
    model = TS2NetModel.from_clip_model(clip)
    processor = TS2NetProcessor.from_clip(folder / "clip", model.config)
    with LoopbackHub() as hub, pytest.MonkeyPatch.context() as patch:
        for name, value in hub.env(folder / "home", hub.token).items():  # for the launched processes
            patch.setenv(name, value)
        hub.use_here(patch)
        patch.chdir(folder)
        api = HfApi(token=hub.token)
        api.create_repo("openai/clip-vit-base-patch32")
        api.upload_folder(repo_id="openai/clip-vit-base-patch32", folder_path=folder / "clip")
        push_to_hub(model, processor, "me/my-ts2net", token=hub.token)
        yield folder


@pytest.fixture
def run(workplace, capfd, monkeypatch):
    """Run a command line and return what it prints."""
    ts2net = command_runner(capfd, monkeypatch, columns=120)

    def run_line(line: str) -> str:
        program, *arguments = shlex.split(line)
        if program == "accelerate":
            return launch(arguments, is_real=line.startswith(LAUNCHED))
        assert program == "ts2net"
        code, out, err = ts2net(*arguments)
        assert code == 0, f"{line}\n{out}\n{err}"
        return out

    return run_line


def launch(arguments: list[str], *, is_real: bool) -> str:
    """Launch a process with accelerate, or run the training in this process instead."""
    if is_real:
        command = [sys.executable, "-m", "accelerate.commands.accelerate_cli", *arguments]
        launched = subprocess.run(command, capture_output=True, text=True)
        assert launched.returncode == 0, launched.stderr
        return launched.stdout
    subcommand, *options = arguments
    assert subcommand == "launch"
    parsed = launch_command_parser().parse_args(options)
    assert (parsed.module, parsed.training_script) == (True, "ts2net.training")
    assert train(parsed.training_script_args) == 0
    return ""


def test_python_snippets_print_what_their_page_says(workplace, capfd):
    for page, text in PAGES.items():
        for snippet, expected in SNIPPET.findall(text):
            capfd.readouterr()
            exec(compile(snippet, page, "exec"), {"__name__": "__main__"})
            if expected:
                assert any_score(capfd.readouterr().out) == any_score(expected), page


def test_the_readme_says_what_its_snippets_print():
    assert all(printed for _, printed in SNIPPET.findall(PAGES["README.md"]))
    assert len(PAGES["README.md"].splitlines()) <= 220


COMMANDS = sorted({line for page in PAGES for block in blocks(page, "bash") for line in block.splitlines()})


@pytest.mark.parametrize("command", COMMANDS)
def test_shell_commands_run(run, command):
    assert run(command)


def commands(block: str) -> list[str]:
    return [line for line in block.splitlines() if line and not line.startswith("pip ")]


BLOCKS = {tuple(commands(block)) for page in PAGES for block in blocks(page, "sh")}
# A guide may repeat a part of a README block.
LONG_COMMANDS = sorted(block for block in BLOCKS if not any(set(block) < set(other) for other in BLOCKS))


@pytest.mark.parametrize("block", LONG_COMMANDS, ids=lambda block: " ".join(block[0].split()[:3]))
def test_long_commands_run(run, block):
    """The commands from raw files to an evaluated model run as printed, with options that shorten them."""
    for command in block:
        less = [options for start, options in LESS.items() if command.startswith(start)]
        run(" ".join([command, *less]))


def test_every_link_between_pages_leads_somewhere():
    for name, text in PAGES.items():
        folder = ROOT if name == "README.md" else ROOT / "docs"
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", text):
            assert (folder / target).exists(), f"{name} links to {target}"


def test_every_row_of_the_ablation_table_is_a_model(workplace):
    """Each argument in the left column creates a model, including alternatives in brackets and after commas."""
    table = PAGES["converting.md"].split("| `TS2NetModel.from_clip(clip, ...)` | what it is |")[1].split("\n\n")[0]
    clip = CLIPModel.from_pretrained(workplace / "clip")
    tried = 0
    for row in table.splitlines()[2:]:
        first = row.split(" | ")[0]
        for code in re.findall(r"`(\w+=[^`]*)`", first):
            TS2NetModel.from_clip_model(clip, **eval(f"dict({code})"))
            tried += 1
        for name, kind in re.findall(r"`(\w+)=\"[^`]*` \(`\"(\w+)\"`", first):
            TS2NetModel.from_clip_model(clip, **{name: kind})
            tried += 1
    assert tried >= 12
