"""Conversion of other checkpoints: complete, with the same outputs, and without running code from the file."""

import os
import pickle
import sys
import types
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel

from ts2net.conversion import convert_clip, convert_openai_clip, convert_original_checkpoint
from ts2net.modeling_ts2net import TS2NetModel

GOLDEN = Path(__file__).parent / "golden" / "small_b32_grid.safetensors"
TOLERANCE = 2e-5


# The released code's checkpoints


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    return load_file(GOLDEN)


@pytest.fixture
def released(golden: dict[str, Tensor]) -> dict[str, Tensor]:
    """The golden file's state dict under the released code's names. Each test gets a copy that it may change."""
    return {name.removeprefix("state."): value for name, value in golden.items() if name.startswith("state.")}


def golden_outputs(model: TS2NetModel, golden: dict[str, Tensor], videos: slice = slice(None)) -> dict[str, Tensor]:
    with torch.no_grad():
        output = model(
            input_ids=golden["in.input_ids"],
            attention_mask=golden["in.attention_mask"],
            pixel_values_videos=golden["in.pixel_values"][videos].float(),
            padding_mask_videos=golden["in.video_mask"][videos],
            return_loss=videos == slice(None),
        )
    video = output.video_model_output
    outputs = {
        "text_features": output.text_model_output.pooler_output,
        "projected_tokens": video.token_embeds,
        "selection_scores": video.selection_scores,
        "selected_tokens": video.selected_tokens,
        "frame_embeddings": video.frame_embeds,
        "logits_per_text": output.logits_per_text,
    }
    return outputs if output.loss is None else outputs | {"loss": output.loss[None]}


def test_golden_outputs_are_reproduced(golden, released):
    """Converted weights give the outputs of the released code, on full, shorter and one-frame videos."""
    outputs = golden_outputs(convert_original_checkpoint(released), golden)
    assert outputs.keys() == {name.removeprefix("out.") for name in golden if name.startswith("out.")}
    for name, output in outputs.items():
        torch.testing.assert_close(output, golden[f"out.{name}"], rtol=0, atol=TOLERANCE, msg=lambda m, n=name: n + m)


def test_golden_full_length_video_is_the_same_masked(golden, released):
    """`padding_mode="masked"` changes nothing for a video without padding that is alone in its batch."""
    model = convert_original_checkpoint(released, padding_mode="masked")
    outputs = golden_outputs(model, golden, slice(0, 1))
    for name in ("projected_tokens", "selection_scores", "selected_tokens", "frame_embeddings"):
        torch.testing.assert_close(outputs[name], golden[f"out.{name}"][:1], rtol=0, atol=TOLERANCE)
    expected = golden["out.logits_per_text"][:, :1]
    torch.testing.assert_close(outputs["logits_per_text"], expected, rtol=0, atol=TOLERANCE)


@pytest.mark.slow
def test_save_and_load_keeps_every_output(golden, released, tmp_path):
    """A converted model that is saved and loaded has the same configuration and bit-identical outputs."""
    model = convert_original_checkpoint(released)
    model.save_pretrained(tmp_path)
    again = TS2NetModel.from_pretrained(tmp_path).eval()
    assert again.config.padding_mode == "released"
    for name, output in golden_outputs(again, golden).items():
        assert torch.equal(output, golden_outputs(model, golden)[name]), name


def test_released_tensors_arrive_bit_for_bit(released):
    """Each number of a used module is in the model once. Fused matrices are split, projections transposed."""
    model = convert_original_checkpoint(released).state_dict()
    unused = ("visual_prompt_encoder.", "text_token_selector.")
    used = {name: value for name, value in released.items() if not name.startswith(unused)}
    assert sum(value.numel() for value in model.values()) == sum(value.numel() for value in used.values())
    assert all(value.dtype == torch.float32 for value in model.values())

    attention = "vision_model.encoder.layers.11.self_attn"
    fused = torch.cat([model[f"{attention}.{part}_proj.weight"] for part in "qkv"])
    assert torch.equal(fused, released["clip.visual.transformer.resblocks.11.attn.net.in_proj_weight"].float())
    assert torch.equal(model["visual_projection.weight"], released["clip.visual.proj"].float().T)
    assert torch.equal(model["text_projection.weight"], released["clip.text_projection"].float().T)
    positions = model["temporal_encoder.position_embedding.weight"]
    assert torch.equal(positions, released["frame_position_embeddings.weight"].float())


def test_sizes_are_read_off_the_tensors(released):
    """The configuration is derived from the shapes of the golden checkpoint's tensors."""
    config = convert_original_checkpoint(released).config
    vision, text = config.vision_config, config.text_config
    assert (vision.image_size, vision.patch_size, vision.num_hidden_layers, vision.num_attention_heads) == (
        56,
        8,
        12,
        1,
    )
    assert (vision.shift_kind, vision.shift_layers) == ("token", [10, 11])
    assert (vision.shift_stride, vision.shift_offset) == (7, 3)
    assert (text.vocab_size, text.num_hidden_layers, text.max_position_embeddings) == (512, 4, 77)
    assert (text.bos_token_id, text.eos_token_id) == (510, 511)
    assert (config.projection_dim, config.num_selected_tokens, config.num_frames) == (64, 3, 12)
    assert (config.temporal_num_layers, config.temporal_num_positions) == (4, 77)
    assert config.padding_mode == "released"


def test_shift_stride_follows_the_grid(released):
    """For ViT-B/16's 14 x 14 patches, the stride is the released code's 28, and the offset stays 3."""
    released["clip.visual.positional_embedding"] = torch.zeros(197, 64)
    vision = convert_original_checkpoint(released).config.vision_config
    assert (vision.image_size, vision.shift_stride, vision.shift_offset) == (112, 28, 3)


def test_long_position_table_means_long_videos(released):
    """A position table for 64 frames, as for ActivityNet and DiDeMo, gives a model for 64 frames."""
    released["frame_position_embeddings.weight"] = torch.zeros(256, 64)
    config = convert_original_checkpoint(released).config
    assert (config.num_frames, config.temporal_num_positions) == (64, 256)


def test_no_wrapped_attention_means_no_shift(released):
    """The checkpoint's tensor names decide which layers shift, not the number of layers."""
    plain = {name.replace("attn.net.", "attn."): value for name, value in released.items()}
    assert convert_original_checkpoint(plain).config.vision_config.shift_kind == "none"
    only_last = {name.replace("10.attn.net.", "10.attn."): value for name, value in released.items()}
    assert convert_original_checkpoint(only_last).config.vision_config.shift_layers == [11]


def test_overrides_win_where_they_can(released):
    """An override may change the computation and omit modules, but not contradict a tensor's shape."""
    model = convert_original_checkpoint(
        released, selection_kind="none", temporal_num_layers=0, matching_kind="mean", shift_kind="none", num_frames=8
    )
    assert not any(name.startswith(("token_selector", "temporal_encoder")) for name in model.state_dict())
    assert (model.config.matching_kind, model.config.num_frames) == ("mean", 8)
    with pytest.raises(ValueError, match=r"the state dict: .*has shape \(64, 64\), and \(128, 64\) in the model"):
        convert_original_checkpoint(released, projection_dim=128)
    with pytest.raises(ValueError, match=r"temporal_encoder\.layers\.2\..*none in the model"):
        convert_original_checkpoint(released, temporal_num_layers=2)
    with pytest.raises(ValueError, match=r"^the state dict: 64 frames of 4 tokens need 256 temporal positions, .*77$"):
        convert_original_checkpoint(released, num_frames=64)
    with pytest.raises(TypeError, match="hidden_size"):
        convert_original_checkpoint(released, hidden_size=128)


@pytest.mark.parametrize("name", ["visual_prompt_encoder.x", "text_prompt_encoder.x", "text_token_selector.x"])
def test_unused_modules_are_dropped(released, name):
    """The prompt encoders and the text selector are optional and are ignored."""
    released[name] = torch.zeros(1)
    convert_original_checkpoint(released)
    convert_original_checkpoint({key: value for key, value in released.items() if not key.startswith(name[:-1])})


def test_unknown_and_missing_tensors_are_errors(released):
    """Unknown and missing tensors are named in an error, so no layer stays random and none is dropped silently."""
    with pytest.raises(ValueError, match=r"unknown tensors: clip\.visual\.conv2\.weight"):
        convert_original_checkpoint(released | {"clip.visual.conv2.weight": torch.zeros(1)})
    incomplete = {name: value for name, value in released.items() if "transformer.resblocks.3.ln_1" not in name}
    with pytest.raises(ValueError, match=r"lacks clip\.transformer\.resblocks\.3\.ln_1\.weight, .* and 1 more"):
        convert_original_checkpoint(incomplete)
    no_temporal = {name: value for name, value in released.items() if not name.startswith("transformerClip")}
    with pytest.raises(ValueError, match=r"lacks transformerClip\.resblocks\.0\.ln_1\.weight"):
        convert_original_checkpoint(no_temporal)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("clip.visual.positional_embedding", torch.zeros(48, 64), "47 positions of patches"),
        ("clip.visual.positional_embedding", torch.zeros(17, 64), "the state dict: .*shift_stride=2"),
        ("clip.visual.conv1.weight", torch.zeros(64, 192), r"4 dimensions .* got shape \(64, 192\)"),
        ("clip.transformer.resblocks.0.attn.in_proj_bias", torch.zeros(()), "three in one"),
        ("clip.ln_final.weight", torch.zeros(32), r"final_layer_norm.weight has shape \(32,\), and \(64,\)"),
        ("clip.ln_final.weight", torch.zeros(64, dtype=torch.long), "floating-point numbers, got torch.int64"),
        ("clip.token_embedding.weight", torch.zeros(512, 96), "text width must be a multiple of 64, got 96"),
        ("clip.token_embedding.weight", torch.zeros(1).expand(10**12, 64), "isn't a plain tensor"),
        ("clip.token_embedding.weight", torch.empty(10**12, 64, device="meta"), "isn't a plain tensor"),
        ("clip.token_embedding.weight", torch.zeros(512, 64).to_sparse(), "isn't a plain tensor"),
        ("clip.token_embedding.weight", "a word", "should name a tensor, got a str"),
    ],
)
def test_wrong_tensors_are_errors(released, name, value, message):
    """Contradictory tensors, and tensors that claim far more memory than the file, are refused by name."""
    with pytest.raises(ValueError, match=message):
        convert_original_checkpoint(released | {name: value})


# Files


@pytest.mark.parametrize("wrap", ["plain", "state_dict", "model_state_dict", "model", "module."])
@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors"])
def test_every_form_of_file_gives_the_same_model(released, tmp_path, form, wrap):
    """safetensors and both formats of `torch.save` are read, also wrapped as by training scripts."""
    path = tmp_path / "pytorch_model.bin.4"
    content = {f"module.{name}": value for name, value in released.items()} if wrap == "module." else released
    if form == "safetensors":
        save_file(content, path)
    else:
        content = content if wrap in ("plain", "module.") else {"epoch": 4, wrap: content}
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    model, expected = (
        convert_original_checkpoint(path).state_dict(),
        convert_original_checkpoint(released).state_dict(),
    )
    assert all(torch.equal(model[name], value) for name, value in expected.items())


def truncated(write, path: Path) -> None:
    write(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def write_zip_of_text(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/readme.txt", "words")


def write_bomb(path: Path) -> None:
    """Write an archive with one compressed tensor that is far larger than the file."""
    torch.save({"clip.logit_scale": torch.zeros(2**20)}, path)
    with zipfile.ZipFile(path) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in records.items():
            archive.writestr(name, content)


def write_tensors(path: Path, zipped: bool = True) -> None:
    torch.save({"a": torch.zeros(99)}, path, _use_new_zipfile_serialization=zipped)


# Name of the fault, a function that writes the file, and part of the error message.
BAD_FILES = [
    ("text", lambda path: path.write_text("just words, and enough of them"), "expected safetensors"),
    ("empty", lambda path: path.write_bytes(b""), "expected safetensors"),
    ("truncated zip", lambda path: truncated(write_tensors, path), "cut short"),
    ("truncated legacy", lambda path: truncated(lambda p: write_tensors(p, zipped=False), path), "EOF"),
    ("truncated safetensors", lambda path: truncated(lambda p: save_file({"a": torch.zeros(99)}, p), path), "header"),
    ("zip of text", write_zip_of_text, "without the data.pkl"),
    ("zip bomb", write_bomb, "larger than the file"),
    ("pickle of protocol 4", lambda path: path.write_bytes(pickle.dumps({"a": 1}, protocol=4)), "tensors alone"),
    ("a list", lambda path: torch.save([torch.zeros(1)], path), "no named tensors"),
    ("no tensors", lambda path: torch.save({"epoch": 3}, path), "no named tensors"),
    ("another model", lambda path: torch.save({"fc.weight": torch.zeros(3, 3)}, path), "lacks (clip.)?logit_scale"),
]


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("convert", [convert_original_checkpoint, convert_openai_clip])
@pytest.mark.parametrize(("write", "message"), [case[1:] for case in BAD_FILES], ids=[case[0] for case in BAD_FILES])
def test_bad_files_fail_in_one_sentence(tmp_path, write, message, convert):
    """A bad file raises a ValueError of one line that names the file and the fault."""
    path = tmp_path / "given.pt"
    write(path)
    with pytest.raises(ValueError, match=rf"given\.pt: .*{message}") as error:
        convert(path)
    assert "\n" not in str(error.value)
    assert "weights_only" not in str(error.value), "torch's advice to load it all the same must not get through"


def test_missing_file_and_folder(tmp_path):
    """A path that is not a file raises a FileNotFoundError that names it."""
    for path in (tmp_path / "nowhere.bin", tmp_path):
        with pytest.raises(FileNotFoundError, match=path.name):
            convert_original_checkpoint(path)


class Payload:
    """An object whose unpickling runs a shell command."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return os.system, (f"touch {self.trace}",)


def write_archive(module: object, path: Path) -> None:
    """Write any object as a TorchScript archive, with only the records that the reader checks."""
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("data", "constants"):
            archive.writestr(f"clip/{name}.pkl", pickle.dumps(module, protocol=2))
        archive.writestr("clip/version", "3\n")


HOSTILE = {
    "bare pickle": lambda payload, path: path.write_bytes(pickle.dumps(payload, protocol=2)),
    "bare pickle, protocol 4": lambda payload, path: path.write_bytes(pickle.dumps(payload, protocol=4)),
    "torch.save": lambda payload, path: torch.save({"clip.logit_scale": payload}, path),
    "torch.save, legacy": lambda payload, path: torch.save(
        {"clip.logit_scale": payload}, path, _use_new_zipfile_serialization=False
    ),
    "TorchScript": write_archive,
}


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("convert", [convert_original_checkpoint, convert_openai_clip])
@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_checkpoints_never_run(tmp_path, kind, convert):
    """A pickle that would run a shell command is refused in every file format, and the command does not run."""
    trace, path = tmp_path / "trace", tmp_path / "given.pt"
    payload = Payload(trace)
    pickle.loads(pickle.dumps(payload))
    assert trace.exists(), "the payload works where nothing stops it"
    trace.unlink()

    HOSTILE[kind](payload, path)
    with pytest.raises(ValueError, match=r"given\.pt: refused"):
        convert(path)
    assert not trace.exists()


# OpenAI's CLIP


class QuickGELU(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


class Block(nn.Module):
    """A residual block with the module names of OpenAI's CLIP."""

    def __init__(self, width: int, mask: Tensor | None) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(width, width // 64, batch_first=True)
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        layers = {"c_fc": nn.Linear(width, 4 * width), "gelu": QuickGELU(), "c_proj": nn.Linear(4 * width, width)}
        self.mlp = nn.Sequential(OrderedDict(layers))
        self.attn_mask = mask

    def forward(self, x: Tensor) -> Tensor:
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, need_weights=False, attn_mask=self.attn_mask)[0]
        return x + self.mlp(self.ln_2(x))


class Transformer(nn.Module):
    def __init__(self, width: int, layers: int, mask: Tensor | None = None) -> None:
        super().__init__()
        self.resblocks = nn.Sequential(*[Block(width, mask) for _ in range(layers)])

    def forward(self, x: Tensor) -> Tensor:
        return self.resblocks(x)


class Vision(nn.Module):
    def __init__(self, width: int, dim: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, kernel_size=8, stride=8, bias=False)
        self.class_embedding = nn.Parameter(torch.randn(width))
        self.positional_embedding = nn.Parameter(torch.randn(50, width))
        self.ln_pre, self.ln_post = nn.LayerNorm(width), nn.LayerNorm(width)
        self.transformer = Transformer(width, layers=3)
        self.proj = nn.Parameter(torch.randn(width, dim) / 8)

    def forward(self, images: Tensor) -> Tensor:
        patches = self.conv1(images).flatten(2).transpose(1, 2)
        cls = self.class_embedding.expand(len(images), 1, -1)
        tokens = torch.cat([cls, patches], dim=1) + self.positional_embedding
        return self.ln_post(self.transformer(self.ln_pre(tokens))[:, 0]) @ self.proj


class OpenAIClip(nn.Module):
    """A small CLIP with the computation and the parameter names of OpenAI's."""

    def __init__(self) -> None:
        super().__init__()
        length, width, dim, vocabulary = 16, 64, 64, 99
        self.visual = Vision(128, dim)
        mask = torch.full((length, length), float("-inf")).triu(1)
        self.transformer = Transformer(width, layers=5, mask=mask)
        self.token_embedding = nn.Embedding(vocabulary, width)
        self.positional_embedding = nn.Parameter(torch.randn(length, width))
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(torch.randn(width, dim) / 8)
        self.logit_scale = nn.Parameter(torch.tensor(3.0))
        for name, size in {"input_resolution": 56, "context_length": length, "vocab_size": vocabulary}.items():
            self.register_buffer(name, torch.tensor(size))

    def forward(self, images: Tensor, texts: Tensor) -> tuple[Tensor, Tensor]:
        words = self.ln_final(self.transformer(self.token_embedding(texts) + self.positional_embedding))
        ends = words[torch.arange(len(texts)), texts.argmax(dim=-1)]
        return self.visual(images), ends @ self.text_projection


@pytest.fixture(scope="module")
def openai_clip() -> OpenAIClip:
    torch.manual_seed(0)
    clip = OpenAIClip().eval()
    for parameter in clip.parameters():  # initial zeros and ones of biases and norms would hide a mix-up
        parameter.data += 0.02 * torch.randn_like(parameter)
    return clip


@pytest.fixture(scope="module")
def inputs() -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    texts = torch.randint(1, 97, (2, 16))
    texts[0, 7], texts[1, 15] = 98, 98  # ends of text
    return torch.randn(2, 3, 56, 56), texts


def test_openai_clip_computes_the_same(openai_clip, inputs):
    """Image and text features of a converted CLIP equal those of the original."""
    model = convert_openai_clip(openai_clip.state_dict(), shift_kind="none")
    images, texts = inputs
    with torch.no_grad():
        expected_images, expected_texts = openai_clip(images, texts)
        video = model.get_video_features(images[:, None])
        text_features = model.get_text_features(texts).pooler_output
    torch.testing.assert_close(video.token_embeds[:, 0, 0], expected_images, rtol=0, atol=TOLERANCE)
    torch.testing.assert_close(text_features, expected_texts, rtol=0, atol=TOLERANCE)
    assert not model.training


def openai_names(clip: CLIPModel) -> dict[str, Tensor]:
    """Return the state dict of a transformers CLIP under OpenAI's names."""
    state, renamed = clip.state_dict(), {}
    for openai_name, clip_name in {
        "logit_scale": "logit_scale",
        "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
        "positional_embedding": "text_model.embeddings.position_embedding.weight",
        "ln_final.weight": "text_model.final_layer_norm.weight",
        "ln_final.bias": "text_model.final_layer_norm.bias",
        "visual.class_embedding": "vision_model.embeddings.class_embedding",
        "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
        "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
        "visual.ln_pre.weight": "vision_model.pre_layrnorm.weight",
        "visual.ln_pre.bias": "vision_model.pre_layrnorm.bias",
        "visual.ln_post.weight": "vision_model.post_layernorm.weight",
        "visual.ln_post.bias": "vision_model.post_layernorm.bias",
    }.items():
        renamed[openai_name] = state[clip_name]
    renamed["text_projection"] = state["text_projection.weight"].T
    renamed["visual.proj"] = state["visual_projection.weight"].T
    for stack, model, layers in (("transformer", "text_model", 5), ("visual.transformer", "vision_model", 3)):
        for layer in range(layers):
            openai_layer, clip_layer = f"{stack}.resblocks.{layer}", f"{model}.encoder.layers.{layer}"
            for kind in ("weight", "bias"):
                fused = [state[f"{clip_layer}.self_attn.{part}_proj.{kind}"] for part in "qkv"]
                renamed[f"{openai_layer}.attn.in_proj_{kind}"] = torch.cat(fused)
                renamed[f"{openai_layer}.attn.out_proj.{kind}"] = state[f"{clip_layer}.self_attn.out_proj.{kind}"]
                renamed[f"{openai_layer}.ln_1.{kind}"] = state[f"{clip_layer}.layer_norm1.{kind}"]
                renamed[f"{openai_layer}.ln_2.{kind}"] = state[f"{clip_layer}.layer_norm2.{kind}"]
                renamed[f"{openai_layer}.mlp.c_fc.{kind}"] = state[f"{clip_layer}.mlp.fc1.{kind}"]
                renamed[f"{openai_layer}.mlp.c_proj.{kind}"] = state[f"{clip_layer}.mlp.fc2.{kind}"]
    return renamed


@pytest.fixture(scope="module")
def transformers_clip() -> CLIPModel:
    text = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 5, "num_attention_heads": 1}
    text |= {"vocab_size": 99, "max_position_embeddings": 16, "bos_token_id": 97, "eos_token_id": 98}
    vision = {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 3, "num_attention_heads": 2}
    vision |= {"image_size": 56, "patch_size": 8}
    torch.manual_seed(2)
    clip = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=64)).eval()
    for parameter in clip.parameters():
        parameter.data += 0.02 * torch.randn_like(parameter)
    return clip


@pytest.mark.slow
def test_openai_names_lead_back_to_transformers_bit_for_bit(transformers_clip, tmp_path):
    """OpenAI's and transformers' formats of a CLIP give the same weights, except for the new random scorer."""
    path = tmp_path / "ViT.pt"
    torch.save(openai_names(transformers_clip), path)
    transformers_clip.save_pretrained(tmp_path / "clip")
    for convert, source in ((convert_clip, path), (convert_clip, tmp_path / "clip"), (convert_openai_clip, path)):
        model = convert(source, num_frames=2)
        state = model.state_dict()
        for name, value in transformers_clip.state_dict().items():
            assert torch.equal(state[name], value), name
        for name, value in transformers_clip.text_model.encoder.layers[3].state_dict().items():
            assert torch.equal(state[f"temporal_encoder.layers.3.{name}"], value), name
        assert model.config.num_frames == 2
        assert model.config.padding_mode == "masked"
        assert model.config.text_config.eos_token_id == 98


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning", "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("how", ["trace", "script"])
def test_torchscript_archives_are_read_without_running_them(openai_clip, inputs, tmp_path, how, dtype):
    """TorchScript archives like OpenAI's downloads, traced or scripted, in both precisions, are read."""
    clip = OpenAIClip().eval()
    clip.load_state_dict(openai_clip.state_dict())
    scripted = torch.jit.trace(clip, inputs, check_trace=False) if how == "trace" else torch.jit.script(clip)
    path = tmp_path / "ViT-B-32.pt"
    scripted.to(dtype).save(path)

    converted = convert_openai_clip(path).state_dict()
    expected = convert_openai_clip({name: value.to(dtype) for name, value in clip.state_dict().items()}).state_dict()
    for name, value in expected.items():
        if not name.startswith("token_selector."):  # random at the start
            assert torch.equal(converted[name], value), name


def test_torchscript_archive_that_nests_without_end(monkeypatch, tmp_path):
    """A module that contains itself, or is reachable by 2**40 paths, is visited once."""

    class Module:
        pass

    Module.__module__, Module.__qualname__ = "__torch__", "Module"
    home = types.ModuleType("__torch__")
    home.Module = Module
    monkeypatch.setitem(sys.modules, "__torch__", home)
    module = Module()
    module.itself = module
    for _ in range(40):
        outer = Module()
        outer.left = outer.right = module
        module = outer
    path = tmp_path / "deep.pt"
    write_archive(module, path)
    with pytest.raises(ValueError, match=r"deep\.pt: holds no named tensors"):
        convert_openai_clip(path)


@pytest.mark.parametrize("option", [{"dtype": "float16"}, {"revision": "main"}, {"shift": "none"}])
def test_options_that_would_do_nothing_are_refused(released, openai_clip, option):
    """A setting that is unknown to both the configuration and the conversion raises an error."""
    with pytest.raises(TypeError, match=next(iter(option))):
        convert_original_checkpoint(released, **option)
    with pytest.raises(TypeError, match=next(iter(option))):
        convert_openai_clip(openai_clip.state_dict(), **option)


def test_wrong_family_is_named(released, openai_clip, transformers_clip, tmp_path):
    """The error for a checkpoint of another family names the function or file to use instead."""
    clip = openai_clip.state_dict()
    with pytest.raises(ValueError, match="looks like an OpenAI CLIP checkpoint"):
        convert_original_checkpoint(clip)
    with pytest.raises(ValueError, match="looks like a TS2-Net checkpoint of the released code"):
        convert_openai_clip(released)
    transformers_clip.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"model\.safetensors: .*give its folder"):
        convert_clip(tmp_path / "model.safetensors")
    resnet = {name: value for name, value in clip.items() if not name.startswith("visual.")}
    resnet["visual.attnpool.positional_embedding"] = torch.zeros(50, 64)
    with pytest.raises(ValueError, match="ResNet, which has no patch tokens"):
        convert_openai_clip(resnet)


def test_source_tensors_are_not_shared_with_the_model(released):
    """Training a converted model does not change the caller's tensors."""
    source = {name: value.float() for name, value in released.items()}
    model = convert_original_checkpoint(source)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert all(torch.equal(value, released[name].float()) for name, value in source.items())
