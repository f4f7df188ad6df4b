"""The package's small CLIP is a valid transformers checkpoint with useful patch embeddings, and its training works."""

import json
import math
import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from transformers import CLIPModel, CLIPTokenizer

from ts2net import TS2NetModel, TS2NetProcessor
from ts2net.benchmarks.moving_things import THINGS, photos, scenes
from ts2net.small_clip import small_clip_folder
from ts2net.small_clip.__main__ import main
from ts2net.small_clip.probes import probe
from ts2net.small_clip.training import PHASES, SmallClipTraining, patch_loss, phase_at


@pytest.fixture(scope="module")
def clip() -> CLIPModel:
    return CLIPModel.from_pretrained(small_clip_folder()).eval()


@pytest.fixture(scope="module")
def tokenizer() -> CLIPTokenizer:
    return CLIPTokenizer.from_pretrained(small_clip_folder())


def test_it_is_small_and_loads_in_single_precision(clip: CLIPModel) -> None:
    """The weights are stored in half precision and load in single precision, which is faster on a CPU."""
    assert sum(file.stat().st_size for file in small_clip_folder().iterdir()) < 6_000_000
    assert {each.dtype for each in load_file(small_clip_folder() / "model.safetensors").values()} == {torch.float16}
    assert {each.dtype for each in clip.parameters()} == {torch.float32}


def test_its_tokenizer_knows_every_word_of_the_captions(tokenizer: CLIPTokenizer) -> None:
    for scene in scenes("train", 100):
        words = re.findall(r"\w+|[^\w\s]", scene.caption)
        assert tokenizer.tokenize(scene.caption) == [f"{word}</w>" for word in words]
        assert len(words) + 2 <= tokenizer.model_max_length


@pytest.mark.slow
def test_a_ts2net_starts_from_it(clip: CLIPModel) -> None:
    model = TS2NetModel.from_clip(small_clip_folder(), num_frames=4, temporal_num_layers=2)
    processor = TS2NetProcessor.from_clip(small_clip_folder(), model.config)
    assert processor.video_processor.size["shortest_edge"] == clip.config.vision_config.image_size
    assert torch.equal(model.visual_projection.weight, clip.visual_projection.weight)


@pytest.mark.slow
def test_patches_know_small_things_and_cls_the_large_ones(clip: CLIPModel, tokenizer: CLIPTokenizer) -> None:
    """This makes selecting patches useful: they contain what `[CLS]` lacks. The card has the exact figures."""
    result = probe(clip, tokenizer, num_clips=60)
    guess = 100 / len(THINGS)
    assert result.cls_names_large > 20 * guess
    assert result.patch_names_small > 10 * guess
    assert result.patch_names_small > result.cls_names_small + 5
    assert result.patch_finds_small > 40
    assert result.cls_names_place > 20  # of nine
    card = (small_clip_folder() / "README.md").read_text()
    assert "FILIP" in card
    assert "Apache-2.0" in card
    assert "{" not in card


# ----------------------------------------------------------------------------------------------------------------
# Training
# ----------------------------------------------------------------------------------------------------------------


def test_patch_loss_is_the_mean_of_two_cross_entropies() -> None:
    """The loss is taken over names and over photos, without other true pairs, and equals plain loops."""
    torch.manual_seed(0)
    patches, names = F.normalize(torch.randn(3, 5, 8), dim=-1), F.normalize(torch.randn(4, 8), dim=-1)
    contents = torch.tensor([[1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]], dtype=torch.bool)
    loss = patch_loss(patches, names, contents, torch.tensor(10.0))

    def score(photo: int, name: int) -> float:
        return math.log(sum(math.exp(10 * float(patch @ names[name])) for patch in patches[photo]))

    over_names, over_photos = [], []
    for photo, name in contents.nonzero().tolist():
        others = [score(photo, other) for other in range(4) if other == name or not contents[photo, other]]
        over_names.append(math.log(sum(map(math.exp, others))) - score(photo, name))
        others = [score(other, name) for other in range(3) if other == photo or not contents[other, name]]
        over_photos.append(math.log(sum(map(math.exp, others))) - score(photo, name))
    expected = (sum(over_names) / len(over_names) + sum(over_photos) / len(over_photos)) / 2
    assert loss.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
def test_a_stopped_training_goes_on_as_if_it_had_not_been(tokenizer: CLIPTokenizer, tmp_path: Path) -> None:
    def new(steps: int = 3) -> SmallClipTraining:
        return SmallClipTraining(tokenizer, seed=1, steps=steps, num_photos=8, batch_size=4, workers=0)

    whole, stopped, resumed = new(), new(), new()
    losses = list(whole.train())
    assert all(math.isfinite(value) for each in losses for value in each.values())
    next(stopped.train())
    stopped.save_state(tmp_path / "state.pt")
    resumed.load_state(tmp_path / "state.pt")
    assert list(resumed.train()) == losses[1:]
    for one, other in zip(whole.clip.parameters(), resumed.clip.parameters(), strict=True):
        assert torch.equal(one, other)
    with pytest.raises(ValueError, match=r"state\.pt: a run with settings .*'steps': 3.*, expected .*'steps': 4"):
        new(steps=4).load_state(tmp_path / "state.pt")


def test_later_captions_name_the_largest_thing_alone() -> None:
    assert [phase_at(step, 10) for step in (0, 4, 5, 9)] == [PHASES[index] for index in (0, 0, 1, 1)]
    assert PHASES[-1].others_probability == 0
    assert PHASES[-1].location_probability == 1


@pytest.mark.slow
def test_the_command_trains_a_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command writes all files of a checkpoint, and a card with its measured figures."""
    main(["--out", str(tmp_path), "--steps", "1", "--photos", "8", "--batch-size", "4"])
    printed = json.loads(capsys.readouterr().out)
    assert {file.name for file in tmp_path.iterdir()} == {file.name for file in small_clip_folder().iterdir()}
    assert f"| {printed['patch_names_small']:.1f} |" in (tmp_path / "README.md").read_text()
    assert CLIPModel.from_pretrained(tmp_path).logit_scale.dtype == torch.float32


def test_a_photo_is_told_by_its_largest_thing() -> None:
    assert all(photo.caption(with_location=False).split(" ", 1)[1] == photo.things[0] for photo in photos(20))
