"""The configuration of TS2-Net. Every field is checked when the configuration is created.

The defaults are the paper's model; each row of its ablations sets a few fields to other values, and
`shift_kind="none", selection_kind="none", matching_kind="mean"` is CLIP4Clip.
"""

import math
from typing import Any, ClassVar, Literal

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, CLIPConfig, CLIPTextConfig, CLIPVisionConfig, PreTrainedConfig
from transformers.activations import ACT2FN
from transformers.configuration_utils import SubConfigSpec

ShiftKind = Literal["token", "channel", "channel_patches", "channel_cls", "none"]
PaddingMode = Literal["masked", "released"]
SelectionKind = Literal["perturbed_topk", "random", "none"]
MatchingKind = Literal["weighted", "mean", "wti"]
TextPooling = Literal["eos", "highest_id"]

# Plain CLIP: each frame is an image, and a video's score is the mean over its frames.
_AS_IS = {"shift_kind": "none", "selection_kind": "none", "temporal_num_layers": 0, "matching_kind": "mean"}


@strict
class TS2NetVisionConfig(CLIPVisionConfig):
    """CLIP's vision transformer with token shift in some of its layers (paper, section 3.2).

    All fields of `transformers.CLIPVisionConfig` keep their meaning. `image_size` and `patch_size` are single numbers.

    Args:
        shift_kind (`str`, defaults to `"token"`):
            What is exchanged between neighbouring frames before attention: `"token"` (whole patch tokens),
            `"channel"` (a fraction of the channels of all tokens), `"channel_patches"` (of the patches only),
            `"channel_cls"` (of [CLS] only) or `"none"`.
        shift_layers (`list[int]`, *optional*):
            The layers that shift, counted from 0. `None` means the last two.
        shift_stride (`int`, defaults to 7):
            With `"token"`: tokens `1, 1 + stride, ...` come from the previous frame. 7 moves about 28 % of the tokens.
        shift_offset (`int`, defaults to 3):
            With `"token"`: tokens `1 + offset, 1 + offset + stride, ...` come from the next frame.
        shift_channel_fraction (`float`, defaults to 0.125):
            With the channel kinds: the fraction of the channels that comes from the previous frame, and the equal
            fraction that comes from the next frame.

    Raises:
        huggingface_hub.errors.StrictDataclassError: If a field has a wrong type, is out of range or contradicts
            another; the message says which and why.
    """

    model_type = "ts2net_vision_model"
    base_config_key = "vision_config"

    shift_kind: ShiftKind = "token"
    shift_layers: list[int] | None = None
    shift_stride: int = 7
    shift_offset: int = 3
    shift_channel_fraction: float | int = 0.125

    def __post_init__(self, **kwargs: Any) -> None:
        if self.shift_layers is None:
            self.shift_layers = list(range(self.num_hidden_layers))[-2:]
        super().__post_init__(**kwargs)

    @property
    def num_patches(self) -> int:
        """Number of patches per frame, `N`, without [CLS]."""
        return (self.image_size // self.patch_size) ** 2

    def validate_image(self) -> None:
        """Check that image and patch size are single positive numbers, and that a patch fits into the image."""
        for name in ("image_size", "patch_size"):
            if not isinstance(getattr(self, name), int) or getattr(self, name) < 1:
                raise ValueError(f"{name} must be one positive number, got {getattr(self, name)!r}")
        if self.patch_size > self.image_size:
            raise ValueError(f"patch_size ({self.patch_size}) is larger than image_size ({self.image_size})")

    def validate_shift(self) -> None:
        """Check that shift layers exist, and that no token is shifted from both sides."""
        layers = self.shift_layers or []
        if len(set(layers)) != len(layers) or not all(0 <= layer < self.num_hidden_layers for layer in layers):
            raise ValueError(
                f"shift_layers must be different layers from 0 to {self.num_hidden_layers - 1}, got {layers}"
            )
        if not 0 < self.shift_offset < self.shift_stride:
            raise ValueError(
                f"shift_offset must lie between 1 and shift_stride - 1, so that no token comes from both neighbours; "
                f"got shift_offset={self.shift_offset}, shift_stride={self.shift_stride}"
            )
        if not 0 < self.shift_channel_fraction <= 0.5:
            raise ValueError(
                f"shift_channel_fraction goes each way, so it must be above 0 and at most 0.5; "
                f"got {self.shift_channel_fraction}"
            )
        if self.shift_kind.startswith("channel") and int(self.hidden_size * self.shift_channel_fraction) < 1:
            raise ValueError(
                f"shift_channel_fraction={self.shift_channel_fraction} of hidden_size={self.hidden_size} is no channel"
            )


@strict
class TS2NetConfig(PreTrainedConfig):
    """Configuration of [`TS2NetModel`].

    Args:
        text_config (`CLIPTextConfig` or `dict`, *optional*): CLIP's text transformer.
        vision_config (`TS2NetVisionConfig` or `dict`, *optional*): CLIP's vision transformer with token shift.
        projection_dim (`int`, defaults to 512): `D`, the width of the projected texts and video tokens.
        logit_scale_init_value (`float`, defaults to 2.6592): Logarithm of the factor on the similarity.
        initializer_factor (`float`, defaults to 1.0): Scales the initial weights, as in CLIP.
        text_pooling (`str`, *optional*):
            The token whose hidden state becomes the text embedding: `"eos"`, the first end-of-text token, or
            `"highest_id"`, the token with the highest id. `None` chooses as transformers' CLIP does: `"highest_id"` if
            `eos_token_id` is 2, as in old CLIP configurations, otherwise `"eos"`.
        num_frames (`int`, defaults to 12): Maximum number of frames per video. All get temporal positions.
        padding_mode (`str`, defaults to `"masked"`):
            `"masked"`: padding frames affect nothing. `"released"`: as in the authors' code, with which converted
            checkpoints were trained.
        selection_kind (`str`, defaults to `"perturbed_topk"`):
            How patches are selected (paper, section 3.3): `"perturbed_topk"` by a learned scorer, `"random"`, or
            `"none"` ([CLS] only).
        num_selected_tokens (`int`, defaults to 3): `K`, the patches that are selected per frame. Unused with `"none"`.
        selection_activation (`str`, defaults to `"tanh"`):
            `"tanh"` (released code) or `"softmax"` over the tokens of a frame (paper).
        selection_sigma (`float`, defaults to 0.05): Standard deviation of the noise on the scores in training.
        selection_num_samples (`int`, defaults to 500): Number of draws of that noise.
        selection_gradient (`str`, defaults to `"exact"`):
            `"exact"`, or `"diagonal"`: only the diagonal of the Jacobian, as in the released code.
        temporal_num_layers (`int`, defaults to 4): Layers of the temporal encoder. 0 leaves it out.
        temporal_num_heads (`int`, *optional*): Its attention heads; `None` makes them 64 wide.
        temporal_intermediate_size (`int`, *optional*): Width of its MLPs; `None` means `4 * projection_dim`.
        temporal_num_positions (`int`, *optional*):
            Its positions; `None` is the larger of the text transformer's number and `num_frames * (K + 1)`.
        temporal_position_scale (`float`, defaults to 1.0):
            Factor on CLIP's text positions when the temporal encoder is initialised with them. They are shorter than
            the tokens that they are added to, so with a factor above 1 the order of frames is learned sooner. It only
            acts at initialisation: the positions of a trained model are in its weights. The paper uses 1.
        temporal_hidden_act (`str`, defaults to `"quick_gelu"`): Its activation function.
        temporal_layer_norm_eps (`float`, defaults to 1e-12): Epsilon of its LayerNorms.
        matching_kind (`str`, defaults to `"weighted"`):
            `"weighted"`: frames are weighted by their similarity to the text. `"mean"`: all frames have the same
            weight. `"wti"`: word-token interaction (Wang et al. 2022), which compares every word of the text with
            every frame, and weights words and frames with two small learned networks.
        matching_temperature (`float`, defaults to 4.0):
            With `"weighted"`: factor on the normalised cosines before their softmax.

    Raises:
        huggingface_hub.errors.StrictDataclassError: If a field has a wrong type, is out of range or contradicts
            another; the message says which and why.
    """

    model_type = "ts2net"
    sub_configs_defaults: ClassVar = {
        "text_config": SubConfigSpec(CLIPTextConfig),
        "vision_config": SubConfigSpec(TS2NetVisionConfig),
    }
    _auto_class: ClassVar = "AutoConfig"

    text_config: Any = None
    vision_config: Any = None
    projection_dim: int = 512
    logit_scale_init_value: float | int = 2.6592
    initializer_factor: float | int = 1.0
    text_pooling: TextPooling | None = None

    num_frames: int = 12
    padding_mode: PaddingMode = "masked"

    selection_kind: SelectionKind = "perturbed_topk"
    num_selected_tokens: int = 3
    selection_activation: Literal["tanh", "softmax"] = "tanh"
    selection_sigma: float | int = 0.05
    selection_num_samples: int = 500
    selection_gradient: Literal["exact", "diagonal"] = "exact"

    temporal_num_layers: int = 4
    temporal_num_heads: int | None = None
    temporal_intermediate_size: int | None = None
    temporal_num_positions: int | None = None
    temporal_position_scale: float | int = 1.0
    temporal_hidden_act: str = "quick_gelu"
    temporal_layer_norm_eps: float | int = 1e-12

    matching_kind: MatchingKind = "weighted"
    matching_temperature: float | int = 4.0

    def __post_init__(self, **kwargs: Any) -> None:
        _refuse_vision_settings(kwargs)
        for name, config_class in (("text_config", CLIPTextConfig), ("vision_config", TS2NetVisionConfig)):
            part = getattr(self, name)
            if not isinstance(part, (config_class, dict, type(None))):
                raise TypeError(
                    f"{name} must be a {config_class.__name__} or a dict, got a {type(part).__name__}; to start from "
                    f"a CLIP use TS2NetConfig.from_clip_config"
                )
        super().__post_init__(**kwargs)
        if self.text_pooling is None:
            self.text_pooling = "highest_id" if self.text_config.eos_token_id == 2 else "eos"
        if self.temporal_num_heads is None:
            self.temporal_num_heads = max(1, self.projection_dim // 64)
        if self.temporal_intermediate_size is None:
            self.temporal_intermediate_size = 4 * self.projection_dim
        if self.temporal_num_positions is None:
            self.temporal_num_positions = max(
                self.text_config.max_position_embeddings, self.num_frames * self.tokens_per_frame
            )

    @property
    def tokens_per_frame(self) -> int:
        """Tokens of a frame that reach the temporal encoder: [CLS] and `K` patches."""
        return 1 if self.selection_kind == "none" else self.num_selected_tokens + 1

    @property
    def temporal_config(self) -> CLIPTextConfig:
        """Configuration of the temporal encoder's layers, which are CLIP layers."""
        return CLIPTextConfig(
            hidden_size=self.projection_dim,
            intermediate_size=self.temporal_intermediate_size,
            num_hidden_layers=self.temporal_num_layers,
            num_attention_heads=self.temporal_num_heads,
            max_position_embeddings=self.temporal_num_positions,
            hidden_act=self.temporal_hidden_act,
            layer_norm_eps=self.temporal_layer_norm_eps,
            initializer_factor=self.initializer_factor,
            attn_implementation=self._attn_implementation,
        )

    @classmethod
    def from_clip_config(cls, clip_config: Any, *, as_is: bool = False, **overrides: Any) -> "TS2NetConfig":
        """Create the configuration of a TS2-Net that starts from a CLIP.

        Args:
            clip_config: Configuration of any transformers CLIP, or of a model with CLIP's architecture under another
                name (MetaCLIP 2).
            as_is: Add nothing to the CLIP: no shift, no selection, no temporal encoder, and the mean over frames for
                matching. Overrides still apply.
            overrides: Fields of this class, and fields of [`TS2NetVisionConfig`] by their own names
                (`shift_kind="none"`). `text_config` and `vision_config` come from the CLIP and cannot be overridden.

        Raises:
            TypeError: If an override is a field of neither class.
        """
        config_fields = set(cls.__dataclass_fields__) - set(PreTrainedConfig.__dataclass_fields__)
        config_fields -= {"text_config", "vision_config"}
        vision_fields = set(TS2NetVisionConfig.__dataclass_fields__) - set(CLIPVisionConfig.__dataclass_fields__)
        unknown = sorted(set(overrides) - config_fields - vision_fields)
        if unknown:
            names = ", ".join(sorted(config_fields | vision_fields))
            raise TypeError(f"{unknown[0]!r} is not a setting of TS2-Net over CLIP; expected one of {names}")
        if as_is:
            overrides = _AS_IS | overrides
        vision_overrides = {name: overrides.pop(name) for name in vision_fields & set(overrides)}

        text_config, vision_config = clip_config.text_config.to_dict(), clip_config.vision_config.to_dict()
        # In models with CLIP's architecture under another name, the parts have model types of their own.
        del text_config["model_type"], vision_config["model_type"]
        is_clip = clip_config.model_type == CLIPConfig.model_type
        if is_clip and text_config["eos_token_id"] == 2 and text_config["vocab_size"] == 49408:
            # Old CLIP configurations name the wrong end-of-text token, and rely on the right one having the highest
            # id. Adding tokens would break that, so the right one is set here.
            text_config["eos_token_id"] = 49407
        settings = {
            "projection_dim": clip_config.projection_dim,
            "logit_scale_init_value": clip_config.logit_scale_init_value,
            "initializer_factor": clip_config.initializer_factor,
            # Only for CLIP itself does `eos_token_id=2` mean that the highest id is pooled.
            "text_pooling": None if is_clip else "eos",
            # The temporal encoder is initialised with the text transformer's weights, so its layers have their shapes.
            "temporal_num_heads": clip_config.text_config.num_attention_heads,
            "temporal_intermediate_size": clip_config.text_config.intermediate_size,
            "temporal_hidden_act": clip_config.text_config.hidden_act,
            "dtype": clip_config.dtype,
        }
        return cls(text_config=text_config, vision_config=vision_config | vision_overrides, **(settings | overrides))

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> "TS2NetConfig":
        """Create a configuration from a dictionary.

        Raises:
            ValueError: If the dictionary describes another kind of model. A CLIP checkpoint would load as a model
                whose new layers are random. The message names the right way to load it.
        """
        if __package__ == "ts2net":
            # The installed pipeline is used. The repository's own would need trust_remote_code.
            config_dict = {name: value for name, value in config_dict.items() if name != "custom_pipelines"}
        model_type = config_dict.get("model_type", cls.model_type)
        if model_type != cls.model_type:
            raise ValueError(
                f"this is the configuration of a {model_type!r} model, not of a 'ts2net' one; if it is a CLIP, start "
                f"from it with TS2NetModel.from_clip or `ts2net convert clip`"
            )
        _refuse_vision_settings(kwargs)
        # Attributes that were set on a configuration before it was saved are restored. Only arguments must be fields.
        stray = {name: value for name, value in config_dict.items() if name in _VISION_SETTINGS}
        config_dict = {name: value for name, value in config_dict.items() if name not in stray}
        loaded = super().from_dict(config_dict, **kwargs)
        config = loaded[0] if isinstance(loaded, tuple) else loaded
        for name, value in stray.items():
            setattr(config, name, value)
        # Overrides are set after the configuration was checked without them.
        config.validate()
        config.vision_config.validate()
        return loaded

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a dictionary, without `custom_pipelines`.

        That entry of a `config.json` names the code of a pipeline in the same folder, which a model or a configuration
        does not save. The pipeline writes the entry where it saves its code.
        """
        return {name: value for name, value in super().to_dict().items() if name != "custom_pipelines"}

    def validate_selection(self) -> None:
        """Check the number of selected tokens against the grid, and the settings of the noise."""
        if self.selection_kind != "none" and not 1 <= self.num_selected_tokens <= self.vision_config.num_patches:
            raise ValueError(
                f"num_selected_tokens must lie between 1 and the {self.vision_config.num_patches} patches of a frame, "
                f"got {self.num_selected_tokens}; for [CLS] alone use selection_kind='none'"
            )
        if not 0 < self.selection_sigma < math.inf:
            raise ValueError(f"selection_sigma must be a positive number, got {self.selection_sigma}")
        if self.selection_num_samples < 1:
            raise ValueError(f"selection_num_samples must be at least 1, got {self.selection_num_samples}")

    def validate_sizes(self) -> None:
        """Check the widths and the scales of initial values."""
        if self.projection_dim < 1 or self.projection_dim % 2:
            raise ValueError(f"projection_dim must be positive and even, to be halved, got {self.projection_dim}")
        if not math.isfinite(self.logit_scale_init_value):
            raise ValueError(f"logit_scale_init_value must be a finite number, got {self.logit_scale_init_value}")
        if not 0 <= self.initializer_factor < math.inf:
            raise ValueError(f"initializer_factor must be a number from 0, got {self.initializer_factor}")

    def validate_temporal(self) -> None:
        """Check the temporal encoder, which needs heads of equal width and a position for every token."""
        if self.temporal_hidden_act not in ACT2FN:
            raise ValueError(f"temporal_hidden_act is no activation of transformers: {self.temporal_hidden_act!r}")
        if not 0 < self.temporal_layer_norm_eps < math.inf:
            raise ValueError(f"temporal_layer_norm_eps must be a positive number, got {self.temporal_layer_norm_eps}")
        if self.temporal_num_layers < 0:
            raise ValueError(f"temporal_num_layers must be 0 or more, got {self.temporal_num_layers}")
        heads = self.temporal_num_heads or 0
        if heads < 1 or self.projection_dim % heads:
            raise ValueError(f"temporal_num_heads must divide projection_dim ({self.projection_dim}), got {heads}")
        if (self.temporal_intermediate_size or 0) < 1:
            raise ValueError(f"temporal_intermediate_size must be positive, got {self.temporal_intermediate_size}")
        if not 0 < self.temporal_position_scale < math.inf:
            raise ValueError(f"temporal_position_scale must be a positive number, got {self.temporal_position_scale}")
        if self.num_frames < 1:
            raise ValueError(f"num_frames must be at least 1, got {self.num_frames}")
        positions, needed = self.temporal_num_positions or 0, self.num_frames * self.tokens_per_frame
        if positions < needed:
            raise ValueError(
                f"{self.num_frames} frames of {self.tokens_per_frame} tokens need {needed} temporal positions, "
                f"got temporal_num_positions={positions}"
            )

    def validate_matching(self) -> None:
        """Check that the temperature of the softmax over frames is positive."""
        if not 0 < self.matching_temperature < math.inf:
            raise ValueError(f"matching_temperature must be a positive number, got {self.matching_temperature}")


_VISION_SETTINGS = set(TS2NetVisionConfig.__dataclass_fields__) - set(TS2NetConfig.__dataclass_fields__)


def _refuse_vision_settings(settings: dict[str, Any]) -> None:
    """Refuse fields of the vision configuration, which the library would store here and the model would ignore."""
    misplaced = sorted(set(settings) & _VISION_SETTINGS)
    if misplaced:
        name = misplaced[0]
        raise TypeError(f"{name!r} is a field of the vision configuration: give vision_config={{{name!r}: ...}}")


if __package__ == "ts2net":  # the installed package needs no trust_remote_code; a copy beside a checkpoint does
    AutoConfig.register(TS2NetConfig.model_type, TS2NetConfig, exist_ok=True)

__all__ = ["TS2NetConfig", "TS2NetVisionConfig"]
