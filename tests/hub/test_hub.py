"""Saving a model as a self-contained folder, pushing it to a Hub, and loading it without ts2net.

The Hub is `loopback_hub.LoopbackHub`; the client is the real one. Pushed models are loaded in new processes, with
caches in the test's own folder. There `import ts2net` fails unless a test needs it.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import CommitInfo, HfApi, ModelCard, hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, RemoteEntryNotFoundError, RepositoryNotFoundError
from huggingface_hub.utils import get_session
from torch.nn.functional import normalize

from support.loopback_hub import LoopbackHub
from support.tiny_models import tiny_model, tiny_processor
from support.video_files import write_video
from ts2net import TextVideoScoringPipeline, TS2NetConfig, TS2NetModel
from ts2net.hub import HUB_FILES, Evaluation, add_evaluation, make_model_card, push_to_hub, save_hub_folder

# huggingface_hub causes this warning of its HTTP library.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

REPO = "tester/tiny-ts2net"
TEXTS = ["a red square moves right", "noise"]
SMALL_SHARDS = "40KB"
EVALUATION = Evaluation("MSR-VTT 1k-A", "msrvtt", "test", {"text-to-video R@1": 47.0, "video-to-text R@1": 45.3})


def score(model: TS2NetModel, clip: Path) -> list[float]:
    """The score of each text."""
    with torch.no_grad():
        return model(**tiny_processor()(text=TEXTS, videos=[str(clip)])).logits_per_video[0].tolist()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("videos") / "clip.mp4", frames=24, fps=8)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    with LoopbackHub(multipart_chunk_size=16 * 1024) as hub:
        hub.use_here(monkeypatch)
        yield hub


# ----------------------------------------------------------------------------------------------------------------
# The loopback Hub itself
# ----------------------------------------------------------------------------------------------------------------


def test_loopback_hub_keeps_files_and_history(hub: LoopbackHub, tmp_path: Path) -> None:
    """The loopback Hub returns small, large and multi-part files unchanged at every revision."""
    api = HfApi(token=hub.token)
    repo_id = api.create_repo("plain").repo_id
    contents = {"a.txt": b"one", "folder/b.bin": bytes(1000), "c.safetensors": os.urandom(50_000)}
    for path, content in contents.items():
        first = api.upload_file(path_or_fileobj=content, path_in_repo=path, repo_id=repo_id).oid
    api.create_branch(repo_id, branch="side")
    api.upload_file(path_or_fileobj=b"two", path_in_repo="a.txt", repo_id=repo_id, revision="side")

    def download(path: str, revision: str | None = None) -> bytes:
        return Path(hf_hub_download(repo_id, path, revision=revision, cache_dir=tmp_path, token=False)).read_bytes()

    assert {path: download(path) for path in contents} == contents
    assert download("a.txt", revision="side") == b"two"
    assert download("a.txt", revision=first) == b"one"
    assert api.list_repo_files(repo_id) == [".gitattributes", "a.txt", "c.safetensors", "folder/b.bin"]
    with pytest.raises(RemoteEntryNotFoundError):
        download("missing.txt")

    part = get_session().get(f"{hub.endpoint}/{repo_id}/resolve/main/a.txt", headers={"Range": "bytes=1-"})
    assert (part.status_code, part.content) == (206, b"ne")
    before = len(hub.requests)
    assert download("c.safetensors") == contents["c.safetensors"]
    assert hub.requests[before:] == [f"HEAD /{repo_id}/resolve/main/c.safetensors"]  # cached by its ETag


def test_loopback_hub_hides_private_repositories(hub: LoopbackHub) -> None:
    """The loopback Hub checks tokens, so that a test with a wrong or missing token fails."""
    HfApi(token=hub.token).create_repo("secret", private=True)
    with pytest.raises(RepositoryNotFoundError):
        HfApi(token=False).model_info("tester/secret")
    with pytest.raises(HfHubHTTPError, match="401"):
        HfApi(token="hf_wrong").create_repo("other")


# ----------------------------------------------------------------------------------------------------------------
# Pushing
# ----------------------------------------------------------------------------------------------------------------


def test_push_is_one_commit_with_everything(hub: LoopbackHub, caplog: pytest.LogCaptureFixture) -> None:
    """A push is one commit with weights, configs, code and card, so that a repository never has only some of them."""
    caplog.set_level("DEBUG")
    model = tiny_model(seed=0)
    card = make_model_card(model.config, REPO, base_model="openai/clip-vit-base-patch32", evaluations=[EVALUATION])
    commit = push_to_hub(model, tiny_processor(), REPO, card=card, token=hub.token, private=True)

    repository = hub.repositories[REPO]
    ours, first = repository.history()
    assert (ours.oid, first.message) == (commit.oid, "initial commit")
    assert repository.private
    files = repository.at("main").files
    expected = {"config.json", "model.safetensors", "processor_config.json", "tokenizer.json", "README.md", *HUB_FILES}
    assert expected <= set(files)
    assert files["model.safetensors"].is_lfs

    config = json.loads(files["config.json"].content)
    assert config["auto_map"] == {
        "AutoConfig": "configuration_ts2net.TS2NetConfig",
        "AutoModel": "modeling_ts2net.TS2NetModel",
    }
    assert config["custom_pipelines"]["text-video-scoring"]["impl"] == "pipeline_ts2net.TextVideoScoringPipeline"
    pushed_card = ModelCard(files["README.md"].content.decode())
    assert pushed_card.data.base_model == "openai/clip-vit-base-patch32"
    assert [result.metric_value for result in pushed_card.data.eval_results] == [47.0, 45.3]
    assert f'model="{REPO}"' in pushed_card.text
    for path, file in files.items():
        assert hub.token.encode() not in file.content, path
        assert str(Path.cwd()).encode() not in file.content, path
    assert hub.token not in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("request_pattern", "status"),
    [("PUT /storage/", 403), ("POST .*/verify", 403), ("POST .*/commit/main", 500), ("POST .*/commit/main", None)],
    ids=["upload refused", "upload not verified", "commit fails", "connection cut at the commit"],
)
def test_push_that_fails_leaves_main_alone_and_can_be_repeated(
    hub: LoopbackHub, request_pattern: str, status: int | None
) -> None:
    """After a failed push the repository has the complete old model, and a repeated push gives the normal result."""
    push_to_hub(tiny_model(seed=0), tiny_processor(), REPO, token=hub.token, max_shard_size=SMALL_SHARDS)
    old = hub.repositories[REPO].at("main")
    new_model = tiny_model(seed=1)

    with (
        hub.break_request(request_pattern, status=status, skip=1 if "commit" not in request_pattern else 0),
        pytest.raises(Exception, match=r"uploading|Broken on purpose|disconnected"),
    ):
        push_to_hub(new_model, tiny_processor(), REPO, token=hub.token, max_shard_size=SMALL_SHARDS)
    assert hub.repositories[REPO].at("main") is old

    push_to_hub(new_model, tiny_processor(), REPO, token=hub.token, max_shard_size=SMALL_SHARDS)
    push_to_hub(new_model, tiny_processor(), "undisturbed", token=hub.token, max_shard_size=SMALL_SHARDS)
    repeated, undisturbed = (hub.repositories[name].at("main").files for name in (REPO, "tester/undisturbed"))
    assert {name for name in repeated if repeated[name] != undisturbed[name]} == {
        "README.md"
    }  # it names the repository


@pytest.mark.slow
def test_push_to_a_branch_leaves_main_alone(hub: LoopbackHub) -> None:
    """A push to `revision` creates a missing branch and doesn't change main."""
    push_to_hub(tiny_model(seed=0), tiny_processor(), REPO, token=hub.token)
    main = hub.repositories[REPO].at("main")
    for seed in (1, 2):
        commit = push_to_hub(tiny_model(seed=seed), tiny_processor(), REPO, revision="v2", token=hub.token)
        assert hub.repositories[REPO].at("v2").oid == commit.oid
    assert hub.repositories[REPO].at("main") is main
    assert [commit.parent for commit in hub.repositories[REPO].history("v2")][1] == main.oid


@pytest.mark.slow
def test_push_removes_weights_that_would_be_loaded_instead(hub: LoopbackHub) -> None:
    """A push of shards deletes an old `model.safetensors`, which transformers would load instead."""
    names = []
    for max_shard_size in ("5GB", SMALL_SHARDS, "5GB"):
        push_to_hub(tiny_model(0), tiny_processor(), REPO, token=hub.token, max_shard_size=max_shard_size)
        names.append({name for name in hub.repositories[REPO].at("main").files if "safetensors" in name})
    assert names[0] == names[2] == {"model.safetensors"}
    assert "model.safetensors" not in names[1]
    assert "model.safetensors.index.json" in names[1]


def test_push_checks_before_it_asks_the_hub_for_anything(hub: LoopbackHub) -> None:
    """A wrong argument is refused before any request, so that no empty repository is created."""
    with pytest.raises(ValueError, match="repo_id='a/b/c'"):
        push_to_hub(tiny_model(0), tiny_processor(), "a/b/c", token=hub.token)
    with pytest.raises(TypeError, match="processor must be a TS2NetProcessor, got a CLIPTokenizer"):
        push_to_hub(tiny_model(0), tiny_processor().tokenizer, REPO, token=hub.token)
    assert hub.requests == []


# ----------------------------------------------------------------------------------------------------------------
# Saving
# ----------------------------------------------------------------------------------------------------------------


def test_saving_over_a_folder_keeps_its_other_files(tmp_path: Path) -> None:
    """Saving removes old weights but keeps other files, such as notes and training logs."""
    folder = tmp_path / "model"
    save_hub_folder(tiny_model(0), tiny_processor(), folder)
    (folder / "notes.txt").write_text("mine")
    save_hub_folder(tiny_model(1), tiny_processor(), folder, max_shard_size=SMALL_SHARDS)

    assert (folder / "notes.txt").read_text() == "mine"
    assert not (folder / "model.safetensors").exists()
    assert torch.equal(
        TS2NetModel.from_pretrained(folder).text_projection.weight, tiny_model(1).text_projection.weight
    )
    assert list(tmp_path.iterdir()) == [folder]  # no staging folder is left


@pytest.mark.slow
def test_saving_that_fails_changes_nothing(tmp_path: Path) -> None:
    """A failed save leaves no partial or mixed model."""
    folder = save_hub_folder(tiny_model(0), tiny_processor(), tmp_path / "model")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for target in (folder, tmp_path / "new"):
        with pytest.raises(ValueError, match="a lot"):
            save_hub_folder(tiny_model(1), tiny_processor(), target, max_shard_size="a lot")
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert list(tmp_path.iterdir()) == [folder]


def test_saving_refuses_what_it_cannot_save_whole(tmp_path: Path) -> None:
    """Invalid input is refused with the reason before anything is written."""
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(NotADirectoryError, match=str(file)):
        save_hub_folder(tiny_model(0), tiny_processor(), file)
    with pytest.raises(TypeError, match="model must be a TS2NetModel, got a Linear"):
        save_hub_folder(torch.nn.Linear(1, 1), tiny_processor(), tmp_path / "model")
    with pytest.raises(TypeError, match="card must be a huggingface_hub.ModelCard, got a str"):
        save_hub_folder(tiny_model(0), tiny_processor(), tmp_path / "model", card="# Mine")
    with pytest.raises(ValueError, match="datasets must be a list of Hub ids"):
        make_model_card(tiny_model(0).config, datasets="msrvtt")
    large_crops = tiny_processor()
    large_crops.video_processor.crop_size = {"height": 64, "width": 64}
    with pytest.raises(ValueError, match="32x32 pixels, but the processor crops to 64x64"):
        save_hub_folder(tiny_model(0), large_crops, tmp_path / "model")
    many_frames = tiny_processor()
    many_frames.video_processor.num_frames = 7
    with pytest.raises(ValueError, match="room for 6 frames, but the processor gives up to 7"):
        save_hub_folder(tiny_model(0), many_frames, tmp_path / "model")
    more_words = tiny_processor()
    more_words.tokenizer.add_tokens([f"new{number}" for number in range(10)])
    with pytest.raises(ValueError, match="room for 80 tokens in the vocabulary, but the processor gives up to 84"):
        save_hub_folder(tiny_model(0), more_words, tmp_path / "model")
    assert list(tmp_path.iterdir()) == [file]


# ----------------------------------------------------------------------------------------------------------------
# The card
# ----------------------------------------------------------------------------------------------------------------

HOSTILE = "x\n---\nlicense: gpl\n--- | <script>alert(1)</script> {{ 7 * 7 }} `code` [link](javascript:x)"


def test_card_describes_the_very_model() -> None:
    """The card shows every choice of the model's config."""
    settings: dict[str, Any] = {
        "released": {"padding_mode": "released"},
        "none: [CLS] only": {"selection_kind": "none"},
        "2 random patches": {"selection_kind": "random", "num_selected_tokens": 2},
        "softmax scores": {"selection_activation": "softmax"},
        "mean over frames": {"matching_kind": "mean"},
        "| Temporal encoder | none |": {"temporal_num_layers": 0},
        "| Shift | none |": {"vision_config": {"shift_kind": "none"}},
        "one in 5 from the frame before": {"vision_config": {"shift_stride": 5}},
        "12.5 % of the channels of [CLS] each way": {"vision_config": {"shift_kind": "channel_cls"}},
    }
    plain = str(make_model_card(TS2NetConfig()))
    for phrase, fields in settings.items():
        assert phrase in str(make_model_card(TS2NetConfig(**fields))), fields
        assert phrase not in plain, fields


def test_card_survives_hostile_values() -> None:
    """Free text in the card can't add metadata, markup or template code, and Hub IDs are checked."""
    evaluation = Evaluation(HOSTILE, HOSTILE, HOSTILE, {HOSTILE: 1.0})
    card = make_model_card(
        TS2NetConfig(), REPO, license=HOSTILE, evaluations=[evaluation], training={HOSTILE: HOSTILE}
    )
    read_back = ModelCard(str(card))
    assert read_back.data.license == HOSTILE
    assert read_back.data.eval_results == evaluation.to_eval_results()
    assert set(read_back.data.to_dict()) == {"library_name", "license", "model-index", "tags"}
    assert "<script>" not in card.text
    assert "49" not in card.text
    assert "\n---\n" not in card.text
    assert len([line for line in card.text.splitlines() if line.startswith("| x")]) == 1
    for field in ("repo_id", "base_model"):
        for value in ("/home/me/clip", "a\nb", "../x", HOSTILE):
            with pytest.raises(ValueError, match=f"{field}="):
                make_model_card(TS2NetConfig(), **{field: value})
    with pytest.raises(ValueError, match="datasets="):
        make_model_card(TS2NetConfig(), datasets=["good/data", HOSTILE])


def test_evaluation_is_added_to_a_card_that_is_there() -> None:
    """A second evaluation replaces only its own results in the card; other results and text stay."""
    card = ModelCard(str(make_model_card(TS2NetConfig(), REPO, evaluations=[EVALUATION])))
    card.text += "Written by hand.\n"
    better = Evaluation("MSR-VTT 1k-A", "msrvtt", "test", {"text-to-video R@1": 48.5})
    other = Evaluation("DiDeMo", "didemo", "test", {"text-to-video R@1": 41.0})
    card = ModelCard(str(add_evaluation(add_evaluation(card, better), other)))

    values = {(r.dataset_type, r.metric_name): r.metric_value for r in card.data.eval_results}
    assert values == {
        ("msrvtt", "text-to-video R@1"): 48.5,
        ("msrvtt", "video-to-text R@1"): 45.3,
        ("didemo", "text-to-video R@1"): 41.0,
    }
    assert card.data.model_name == "tiny-ts2net"
    assert re.findall(r"\| (\S+) \|$", card.text, re.MULTILINE).count("48.5") == 1
    assert "| 47.0 |" not in card.text
    assert card.text.endswith("Written by hand.\n")


def test_evaluation_refuses_what_is_no_result() -> None:
    """Empty and non-finite results are refused; a pushed NaN would break the model's page on the Hub."""
    with pytest.raises(ValueError, match="has no metrics"):
        Evaluation("MSR-VTT", "msrvtt", "test", {})
    with pytest.raises(ValueError, match="'R@1' of 'MSR-VTT' must be a finite number, got nan"):
        Evaluation("MSR-VTT", "msrvtt", "test", {"R@1": float("nan")})


# ----------------------------------------------------------------------------------------------------------------
# Loading back, in fresh processes
# ----------------------------------------------------------------------------------------------------------------

WITHOUT_TS2NET = """
import sys


class Absent:
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] == "ts2net":
            raise ModuleNotFoundError(f"No module named {name!r}")


sys.meta_path.insert(0, Absent)
"""

# PyPI's torchvision needs two operators that it defines only for CUDA builds of torch; nothing here calls them.
WITH_TORCHVISION = """
import torch

missing = torch.library.Library("torchvision", "DEF")
for name in ("nms", "qnms"):
    missing.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
import torchvision
"""
TORCHVISION_FOLDER = Path(sys.prefix) / "side"  # see the Makefile
TOOLS_FOLDER = Path(sys.prefix) / "tools"


@dataclass(frozen=True)
class Published:
    """A repository with two commits on main, and the results of its models in this process."""

    env: dict[str, str]
    clip: Path
    commits: list[CommitInfo]
    scores: list[list[float]]
    pipeline_answer: Any
    hub: LoopbackHub

    def run(self, script: str, **extra_env: str) -> Any:
        """Run Python in a new process with this Hub and return the value that the script passes to `answer`."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING", "TRANSFORMERS_", "PYTHON"))}
        prelude = f"""
def answer(value):
    import json
    print("answer:" + json.dumps(value))

REPO, TEXTS, CLIP = {REPO!r}, {TEXTS!r}, {str(self.clip)!r}
"""
        process = subprocess.run(
            [sys.executable, "-c", prelude + script],
            env=kept | self.env | extra_env,
            cwd=self.clip.parent,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert process.returncode == 0, process.stderr
        return json.loads(process.stdout.rpartition("answer:")[2])


@pytest.fixture(scope="module")
def published(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Published]:
    models = [tiny_model(seed=0), tiny_model(seed=1)]
    scorer = TextVideoScoringPipeline(model=models[1], processor=tiny_processor(), device="cpu")
    with LoopbackHub() as hub:
        with pytest.MonkeyPatch.context() as patch:
            hub.use_here(patch)
            commits = [push_to_hub(model, tiny_processor(), REPO, token=hub.token) for model in models]
        env = hub.env(tmp_path_factory.mktemp("hf_home"))
        scores = [score(model, clip) for model in models]
        yield Published(env, clip, commits, scores, scorer(str(clip), text=TEXTS), hub)


@pytest.mark.slow
def test_repository_works_where_ts2net_is_not_installed(published: Published, tmp_path: Path) -> None:
    """Every Auto class and the pipeline work without ts2net, give the same numbers, and can be saved again."""
    card = ModelCard(published.hub.repositories[REPO].at("main").files["README.md"].content.decode())
    snippets = re.findall(r"```python\n(.*?)```", card.text, flags=re.DOTALL)
    assert len(snippets) == 2
    saved, again, piped = tmp_path / "saved", tmp_path / "again", tmp_path / "piped"
    tiny_model(seed=1).save_pretrained(saved)
    tiny_processor().save_pretrained(saved)
    answer = published.run(
        WITHOUT_TS2NET
        + f"""
import importlib.util

import torch
from transformers import AutoConfig, AutoModel, AutoProcessor, AutoTokenizer, pipeline

trust = {{"trust_remote_code": True}}
def score(model, processor):
    with torch.no_grad():
        return model(**processor(text=TEXTS, videos=[CLIP])).logits_per_video[0].tolist()

def load(source):
    return AutoModel.from_pretrained(source, **trust), AutoProcessor.from_pretrained(source, **trust)

model, processor = load(REPO)
scorer = pipeline("text-video-scoring", model=REPO, device="cpu", **trust)
for snippet in {snippets!r}:
    exec(snippet, {{}})

# Out again with the classes that came from the Hub, and in again.
model.save_pretrained({str(again)!r})
processor.save_pretrained({str(again)!r})
scorer.save_pretrained({str(piped)!r})
answer({{
    "config": AutoConfig.from_pretrained(REPO, **trust).model_type,
    "tokens": len(AutoTokenizer.from_pretrained(REPO)),
    "class": type(model).__module__,
    "scores": score(model, processor),
    "pipeline": scorer(CLIP, text=TEXTS),
    "scores again": score(*load({str(again)!r})),
    "pipeline again": pipeline("text-video-scoring", model={str(piped)!r}, device="cpu", **trust)(CLIP, text=TEXTS),
    "scores of its own saving": score(*load({str(saved)!r})),
}})
"""
    )
    assert answer["config"] == "ts2net"
    assert answer["tokens"] == len(tiny_processor().tokenizer)
    assert answer["class"].startswith("transformers_modules.tester.")
    assert answer["scores"] == answer["scores again"] == pytest.approx(published.scores[1], abs=1e-5)
    assert answer["scores of its own saving"] == answer["scores"]
    assert answer["pipeline"] == answer["pipeline again"] == published.pipeline_answer
    assert "custom_pipelines" not in json.loads((again / "config.json").read_text())  # the code isn't saved there
    for path in tmp_path.glob("*/*.json"):
        config = json.loads(path.read_text())
        references = [
            *config.get("auto_map", {}).values(),
            *config.get("video_processor", {}).get("auto_map", {}).values(),
        ]
        assert all(re.fullmatch(r"\w+_ts2net\.\w+", reference) for reference in references), path
        assert str(tmp_path.parent) not in path.read_text(), path


@pytest.mark.slow
def test_sentence_transformers_encodes_texts_and_videos(published: Published, tmp_path: Path) -> None:
    """Texts and videos of different lengths in a batch get unit vectors, where ts2net is not installed."""
    longer = write_video(tmp_path / "longer.mp4", frames=50, fps=8)
    answer = published.run(
        WITHOUT_TS2NET
        + f"""
from sentence_transformers import SentenceTransformer

model = SentenceTransformer(REPO, trust_remote_code=True, device="cpu")
texts, videos = model.encode(TEXTS), model.encode([CLIP, {str(longer)!r}])
answer([texts.tolist(), videos.tolist(), model.similarity(texts, videos).tolist(), model.modalities])
""",
        PYTHONPATH=str(TOOLS_FOLDER),
    )
    model, processor = tiny_model(seed=1), tiny_processor()
    with torch.no_grad():
        texts = normalize(model.get_text_features(**processor(text=TEXTS)).pooler_output, dim=-1)
        alone = [model.get_video_features(**processor(videos=[str(clip)])) for clip in (published.clip, longer)]
        videos = normalize(torch.cat([video.pooler_output for video in alone]), dim=-1)
    expected = [texts.tolist(), videos.tolist(), (texts @ videos.t()).tolist()]
    for actual, wanted in zip(answer, expected, strict=False):
        torch.testing.assert_close(torch.tensor(actual), torch.tensor(wanted), atol=1e-5, rtol=0)
    assert answer[3] == ["text", "video"]


@pytest.mark.slow
def test_installed_package_needs_no_trust(published: Published, tmp_path: Path) -> None:
    """With ts2net imported, no code from the repository runs, and an older commit gives its own scores."""
    changed = save_hub_folder(tiny_model(0), tiny_processor(), tmp_path / "changed")
    (changed / "modeling_ts2net.py").write_text((changed / "modeling_ts2net.py").read_text() + "\nCHANGED = True\n")
    answer = published.run(
        f"""
import torch
from transformers import AutoModel, AutoProcessor, pipeline
from transformers.dynamic_module_utils import get_class_from_dynamic_module

import ts2net
from ts2net import TS2NetModel

def score(**options):
    model, processor = AutoModel.from_pretrained(REPO, **options), AutoProcessor.from_pretrained(REPO, **options)
    with torch.no_grad():
        return model(**processor(text=TEXTS, videos=[CLIP])).logits_per_video[0].tolist()

scorer = pipeline("text-video-scoring", model=REPO, device="cpu")
processor = AutoProcessor.from_pretrained(REPO)

# Objects whose code came from a folder can be saved with ts2net's code only where the two are the same.
from ts2net.hub import save_hub_folder
remote = get_class_from_dynamic_module("modeling_ts2net.TS2NetModel", REPO).from_pretrained(REPO)
save_hub_folder(remote, processor, {str(tmp_path / "same")!r})
changed = get_class_from_dynamic_module("modeling_ts2net.TS2NetModel", {str(changed)!r}).from_pretrained(REPO)
try:
    save_hub_folder(changed, processor, {str(tmp_path / "refused")!r})
except ValueError as error:
    refusal = str(error)
TS2NetModel.from_pretrained(REPO).push_to_hub("pushed-by-itself")
processor.push_to_hub("pushed-by-itself")
answer({{
    "scores": score(),
    "old scores": score(revision={published.commits[0].oid!r}),
    "pipeline": scorer(CLIP, text=TEXTS),
    "local": type(scorer.model) is TS2NetModel and type(processor) is ts2net.TS2NetProcessor,
    "remote": type(remote).__module__,
    "refusal": refusal,
}})
""",
        HF_TOKEN=published.hub.token,
    )
    assert answer["scores"] == pytest.approx(published.scores[1], abs=1e-5)
    assert answer["old scores"] == pytest.approx(published.scores[0], abs=1e-5)
    assert published.scores[0] != pytest.approx(published.scores[1], abs=1e-2)
    assert answer["pipeline"] == published.pipeline_answer
    assert answer["local"]
    pushed = published.hub.repositories["tester/pushed-by-itself"].at("main").files
    assert {"model.safetensors", "processor_config.json", "tokenizer.json", *HUB_FILES[:-1]} <= set(pushed)
    assert answer["remote"].startswith("transformers_modules.")
    assert "is not that of ts2net" in answer["refusal"]
    assert {path.name for path in tmp_path.iterdir()} == {"changed", "same"}
    saved = TS2NetModel.from_pretrained(tmp_path / "same")
    assert torch.equal(saved.text_projection.weight, tiny_model(seed=1).text_projection.weight)


@pytest.mark.slow
@pytest.mark.skipif(
    not TORCHVISION_FOLDER.is_dir(), reason=f"torchvision is not in {TORCHVISION_FOLDER}, where `make test` puts it"
)
def test_auto_video_processor_where_torchvision_is(published: Published) -> None:
    """`AutoVideoProcessor`, which transformers provides only with torchvision, loads the video processor."""
    expected = tiny_processor().video_processor(str(published.clip), return_tensors="pt")["pixel_values_videos"]
    answer = published.run(
        WITHOUT_TS2NET
        + WITH_TORCHVISION
        + """
from transformers import AutoProcessor, AutoVideoProcessor

video_processor = AutoVideoProcessor.from_pretrained(REPO, trust_remote_code=True)
pixels = video_processor(CLIP, return_tensors="pt")["pixel_values_videos"]
joint = AutoProcessor.from_pretrained(REPO, trust_remote_code=True)(videos=CLIP)["pixel_values_videos"]
same = bool((joint == pixels).all())
answer([type(video_processor).__name__, list(pixels.shape), pixels.double().sum().item(), same])
""",
        PYTHONPATH=str(TORCHVISION_FOLDER),
    )
    assert answer == ["TS2NetVideoProcessor", [*expected.shape], pytest.approx(expected.double().sum().item()), True]
