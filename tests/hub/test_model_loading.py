"""Model loading: folders and repositories, one error type for all failures, and the device."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from support.loopback_hub import LoopbackHub
from support.tiny_models import tiny_clip, tiny_model, tiny_processor, tiny_tokenizer
from ts2net.hub import ModelLoadingError, load_model, push_to_hub, save_hub_folder
from ts2net.hub.loading import find_device
from ts2net.hub.repositories import as_repo_id, check_repo_id


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_hub_folder(tiny_model(), tiny_processor(), tmp_path / "model")


def test_a_folder_loads_ready_to_use(folder: Path) -> None:
    model, processor = load_model(folder, dtype=torch.float32, device="cpu", attn_implementation="eager")
    assert torch.equal(model.visual_projection.weight, tiny_model().visual_projection.weight)
    assert (model.training, model.device.type, model.config._attn_implementation) == (False, "cpu", "eager")
    assert processor.tokenizer.get_vocab() == tiny_tokenizer().get_vocab()


def test_a_model_from_a_repository_knows_its_commit(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loaded model has its commit, which indexes and adapters record to use it after the repository changes."""
    repo = "tester/commits"
    with LoopbackHub() as hub:
        hub.use_here(monkeypatch)
        first, last = (push_to_hub(tiny_model(seed), tiny_processor(), repo, token=hub.token) for seed in (0, 1))
        for revision, commit in ((first.oid, first), (None, last)):
            model, _ = load_model(repo, revision=revision, device="cpu")
            assert model.commit == commit.oid
        save_hub_folder(model, tiny_processor(), folder)
    assert load_model(folder, device="cpu")[0].commit is None


@pytest.mark.slow
def test_a_clip_starts_a_model_where_that_is_asked_for(tmp_path: Path) -> None:
    tiny_clip().save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    settings = {"num_frames": 4, "shift_stride": 5, "shift_offset": 2}
    model, processor = load_model(tmp_path, device="cpu", clip_settings=settings)
    assert (model.config.num_frames, processor.video_processor.num_frames) == (4, 4)
    with pytest.raises(TypeError, match="'shift_knd' is not a setting of TS2-Net"):
        load_model(tmp_path, clip_settings={"shift_knd": "none"})
    with pytest.raises(ModelLoadingError, match=r"cannot load the model '.*': num_frames must be at least 1"):
        load_model(tmp_path, clip_settings={"num_frames": 0})


def remove(name: str):
    return lambda folder: (folder / name).unlink()


def write(name: str, content: bytes):
    return lambda folder: (folder / name).write_bytes(content)


def change_config(**fields: object):
    def change(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | fields))

    return change


def drop_tensor(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["token_selector.score_proj.weight"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (remove("config.json"), "has no config.json, so it holds no model"),
        (remove("model.safetensors"), "no file named model.safetensors"),
        (remove("processor_config.json"), "Can't load video processor"),
        (write("config.json", b"{"), "config.json"),
        (write("model.safetensors", b"\x00" * 64), ""),
        (change_config(model_type="bert"), "is a 'bert' model; expected a TS2-Net or a CLIP"),
        (change_config(num_frames=0), "num_frames must be at least 1, got 0"),
        (drop_tensor, "1 of its tensors are missing, 'token_selector.score_proj.weight' for one"),
    ],
)
def test_whatever_is_wrong_is_said_in_one_sentence(folder: Path, damage, reason: str) -> None:
    damage(folder)
    with pytest.raises(ModelLoadingError) as caught:
        load_model(folder, device="cpu")
    message = str(caught.value)
    assert message.startswith(f"cannot load the model {str(folder)!r}: ")
    assert reason in message
    assert "\n" not in message


@pytest.mark.parametrize("name", ["missing", "./missing/folder", "a/b/c", "own er/name", __file__])
def test_what_cannot_be_a_model_is_not_looked_up_on_the_hub(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("asked the Hub"))
    with pytest.raises(ModelLoadingError, match=r"cannot load the model '.*': (there is no folder|.* is a file)"):
        load_model(name)


def test_a_device_that_is_not_there_is_named_before_the_model_is_read() -> None:
    with pytest.raises(ValueError, match=r"there is no device 'cuda:99' here: PyTorch finds cpu"):
        load_model("missing", device="cuda:99")
    with pytest.raises(ValueError, match="device must be such as 'cpu' or 'cuda:1', got 'gpu'"):
        find_device("gpu")
    assert find_device("cpu") == torch.device("cpu")
    assert find_device(None).type == (
        "cpu" if not torch.accelerator.is_available() else torch.accelerator.current_accelerator().type
    )


def test_ids_of_repositories(tmp_path: Path) -> None:
    assert as_repo_id("me/my-ts2net") == "me/my-ts2net"
    assert as_repo_id(str(tmp_path)) is None
    assert as_repo_id("a/b/c") is None
    with pytest.raises(ValueError, match=r"base_model='a/b/c' is not the id of a repository on the Hub"):
        check_repo_id("a/b/c", "base_model")
