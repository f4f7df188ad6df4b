"""TS2-Net: CLIP turned into a text-video model by token shift and token selection (Liu et al., ECCV 2022).

The file goes from the smallest part to the whole: shift, selection, temporal encoder, matching, model. Modules and
parameters have the names of transformers' CLIP, so a CLIP checkpoint loads bit for bit.

Shapes: `B` videos, `T` frames, `N` patches per frame, `L = N + 1` tokens per frame ([CLS] first), `C` vision width,
`D` projection width, `Q` texts, `K` selected patches.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, CLIPConfig, CLIPModel, CLIPTextModel, PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_outputs import BaseModelOutput, BaseModelOutputWithPooling
from transformers.models.clip.modeling_clip import (
    CLIPAttention,
    CLIPEncoderLayer,
    CLIPPreTrainedModel,
    CLIPVisionEmbeddings,
)
from transformers.utils import ModelOutput, logging
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from .configuration_ts2net import TS2NetConfig, TS2NetVisionConfig
from .perturbed_topk_ts2net import perturbed_topk
from .word_interaction_ts2net import TS2NetTokenScorer, TS2NetWordInteraction, TS2NetWordMatches, WordMatching

if TYPE_CHECKING:
    _Method = TypeVar("_Method")

    def can_return_tuple(method: _Method) -> _Method:
        """Typed stand-in: the library's decorator has no types and would hide the types of the methods."""
else:
    from transformers.utils.generic import can_return_tuple

logger = logging.get_logger(__name__)

# Elements of the largest intermediate tensor of a chunk: 64 MiB of float32. Large enough to keep a device busy, small
# enough that thousands of texts can be matched with thousands of videos in memory.
_CHUNK_ELEMENTS = 2**24


# ----------------------------------------------------------------------------------------------------------------
# Outputs
# ----------------------------------------------------------------------------------------------------------------


@dataclass
class TS2NetTextOutput(BaseModelOutputWithPooling):
    """Output of [`TS2NetModel.get_text_features`].

    Args:
        last_hidden_state (`torch.FloatTensor` of shape `(Q, words, text width)`): Output of the text transformer.
        pooler_output (`torch.FloatTensor` of shape `(Q, D)`): The projected end-of-text embedding, not normalised.
        hidden_states (`tuple[torch.FloatTensor]`, *optional*): Hidden states of the text transformer, if requested.
        attentions (`tuple[torch.FloatTensor]`, *optional*): Attentions of the text transformer, if requested.
        word_embeds (`torch.FloatTensor` of shape `(Q, words, D)`, *optional*):
            With `matching_kind="wti"`: every token after projection, not normalised. Zeros after the end of a text.
    """

    last_hidden_state: torch.Tensor = None  # type: ignore[assignment]  # the library requires a default
    pooler_output: torch.Tensor = None  # type: ignore[assignment]
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None
    word_embeds: torch.Tensor | None = None

    @property
    def matching_embeds(self) -> torch.Tensor:
        """Embeddings to pass to [`TS2NetModel.similarity`]: `word_embeds` if present, otherwise `pooler_output`."""
        return self.pooler_output if self.word_embeds is None else self.word_embeds


@dataclass
class TS2NetVideoOutput(BaseModelOutputWithPooling):
    """Output of [`TS2NetModel.get_video_features`].

    Args:
        last_hidden_state (`torch.FloatTensor` of shape `(B, T, L, C)`):
            Output of the vision transformer, after the final LayerNorm on every token.
        pooler_output (`torch.FloatTensor` of shape `(B, D)`):
            One vector per video: the mean of the normalised embeddings of its real frames. Its dot product with a
            normalised text embedding is the mean of the frame cosines. The vector itself is not normalised.
        hidden_states (`tuple[torch.FloatTensor]` of shape `(B * T, L, C)`, *optional*):
            Hidden states of the vision transformer, if requested.
        attentions (`tuple[torch.FloatTensor]` of shape `(B * T, heads, L, L)`, *optional*):
            Attentions of the vision transformer, if requested.
        frame_embeds (`torch.FloatTensor` of shape `(B, T, D)`): Frame embeddings, not normalised.
        token_embeds (`torch.FloatTensor` of shape `(B, T, L, D)`): Every vision token after projection.
        selected_token_indices (`torch.LongTensor` of shape `(B, T, K)`):
            Indices of the patches with the highest scores in each frame, ascending. [CLS] is 0, patches start at 1.
        selection_scores (`torch.FloatTensor` of shape `(B, T, L)`, *optional*): Scores of the learned scorer.
        selected_tokens (`torch.FloatTensor` of shape `(B, T, K + 1, D)`): [CLS] and the selected patches. In training
            each selected patch is a mixture of all patches, weighted by the perturbed top-k.
        temporal_model_output (`BaseModelOutput`, *optional*): Output of the temporal encoder, with its own hidden
            states and attentions.
    """

    last_hidden_state: torch.Tensor = None  # type: ignore[assignment]  # the library requires a default
    pooler_output: torch.Tensor = None  # type: ignore[assignment]
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None
    frame_embeds: torch.Tensor = None  # type: ignore[assignment]
    token_embeds: torch.Tensor = None  # type: ignore[assignment]
    selected_token_indices: torch.Tensor = None  # type: ignore[assignment]
    selection_scores: torch.Tensor | None = None
    selected_tokens: torch.Tensor = None  # type: ignore[assignment]
    temporal_model_output: BaseModelOutput | None = None

    def to_tuple(self) -> tuple[Any, ...]:
        """Return the fields that are not `None` as a tuple. Nested outputs become tuples too."""
        return tuple(value.to_tuple() if isinstance(value, ModelOutput) else value for value in self.values())


@dataclass
class TS2NetOutput(ModelOutput):
    """Output of [`TS2NetModel`].

    Args:
        loss (`torch.FloatTensor` of shape `()`, *optional*): Symmetric cross-entropy, with `return_loss=True`.
        logits_per_text (`torch.FloatTensor` of shape `(Q, B)`): Similarity of each text to each video.
        logits_per_video (`torch.FloatTensor` of shape `(B, Q)`): The transpose of `logits_per_text`.
        text_embeds (`torch.FloatTensor` of shape `(Q, D)`): Text embeddings of length 1.
        video_embeds (`torch.FloatTensor` of shape `(B, T, D)`): Frame embeddings of length 1.
        selected_token_indices (`torch.LongTensor` of shape `(B, T, K)`):
            Indices of the patches with the highest scores in each frame, ascending. [CLS] is 0, patches start at 1.
        frame_weights (`torch.FloatTensor` of shape `(Q, B, T)`, *optional*):
            Weight of each frame in each score, with `output_frame_weights=True`. Weights sum to 1 over the frames.
        text_model_output (`TS2NetTextOutput`): Output of [`TS2NetModel.get_text_features`].
        video_model_output (`TS2NetVideoOutput`): Output of [`TS2NetModel.get_video_features`].
        logit_scale (`torch.FloatTensor` of shape `()`):
            Factor on every cosine, `exp(logit_scale)`. A loss over several forward passes reads it from this output,
            because outside of `forward` the parameter may be sharded over processes.
        word_embeds (`torch.FloatTensor` of shape `(Q, words, D)`, *optional*):
            With `matching_kind="wti"`: word embeddings of length 1, zeros for padding.
        weight_logits (`tuple[torch.FloatTensor]` of shapes `(Q, words)` and `(B, T)`, *optional*):
            With `matching_kind="wti"`: logits of the weights of words and of frames. A loss reads them from this
            output for the same reason as `logit_scale`.
    """

    loss: torch.Tensor | None = None
    logits_per_text: torch.Tensor | None = None
    logits_per_video: torch.Tensor | None = None
    text_embeds: torch.Tensor | None = None
    video_embeds: torch.Tensor | None = None
    selected_token_indices: torch.Tensor | None = None
    frame_weights: torch.Tensor | None = None
    text_model_output: TS2NetTextOutput | None = None
    video_model_output: TS2NetVideoOutput | None = None
    logit_scale: torch.Tensor | None = None
    word_embeds: torch.Tensor | None = None
    weight_logits: tuple[torch.Tensor, torch.Tensor] | None = None

    def to_tuple(self) -> tuple[Any, ...]:
        """Return the fields that are not `None` as a tuple. Nested outputs become tuples too."""
        return tuple(value.to_tuple() if isinstance(value, ModelOutput) else value for value in self.values())


# ----------------------------------------------------------------------------------------------------------------
# Shift (paper, section 3.2)
# ----------------------------------------------------------------------------------------------------------------


class TS2NetShift(nn.Module):
    """Exchange tokens, or channels, between neighbouring frames. It has no parameters.

    With `shift_kind="token"`, tokens `1, 1 + s, ...` of frame `t` come from frame `t - 1` and tokens
    `1 + o, 1 + o + s, ...` from frame `t + 1`, for stride `s` and offset `o`. With the channel kinds a fraction of
    the channels comes from the previous frame and an equal fraction from the next frame. Where the neighbouring frame
    is missing, tokens stay unchanged.
    """

    def __init__(self, config: TS2NetVisionConfig) -> None:
        super().__init__()
        everything = slice(None)
        if config.shift_kind == "token":
            stride, offset = config.shift_stride, config.shift_offset
            self.from_before = (slice(1, None, stride), everything)
            self.from_after = (slice(1 + offset, None, stride), everything)
        else:
            width = int(config.hidden_size * config.shift_channel_fraction)
            tokens = {"channel": everything, "channel_patches": slice(1, None), "channel_cls": slice(0, 1)}
            self.from_before = (tokens[config.shift_kind], slice(0, width))
            self.from_after = (tokens[config.shift_kind], slice(width, 2 * width))

    def forward(self, hidden_states: torch.Tensor, frame_mask: torch.Tensor | None = None) -> torch.Tensor:
        """Shift tokens or channels.

        Args:
            hidden_states: Tokens of shape `(B, T, L, C)`.
            frame_mask: Boolean, of shape `(B, T)`, True for real frames. Padding frames exchange nothing. `None`: all
                frames are real.

        Returns:
            Tokens of shape `(B, T, L, C)`.
        """
        # Unlike slices of T - 1 frames, `roll` traces to the same graph for any number of frames, 1 included.
        frames = torch.arange(hidden_states.shape[1], device=hidden_states.device)
        has_before, has_after = frames > 0, frames < hidden_states.shape[1] - 1  # (T,)
        if frame_mask is not None:
            has_before = has_before & frame_mask & frame_mask.roll(1, dims=1)  # (B, T)
            has_after = has_after & frame_mask & frame_mask.roll(-1, dims=1)

        shifted = hidden_states.clone()
        for (tokens, channels), step, has_neighbour in (
            (self.from_before, 1, has_before),
            (self.from_after, -1, has_after),
        ):
            unshifted = hidden_states[:, :, tokens, channels]
            shifted[:, :, tokens, channels] = torch.where(
                has_neighbour[..., None, None], unshifted.roll(step, dims=1), unshifted
            )
        return shifted


class TS2NetVisionLayer(CLIPEncoderLayer):
    """A layer of CLIP's vision transformer, `x + attention(shift(ln1(x)))`: the residual is never shifted."""

    def __init__(self, config: TS2NetVisionConfig, layer_idx: int) -> None:
        super().__init__(config)
        shifts = config.shift_kind != "none" and layer_idx in (config.shift_layers or [])
        self.shift = TS2NetShift(config) if shifts else None

    def forward(
        self,
        hidden_states: torch.Tensor,
        num_frames: int,
        frame_mask: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> torch.Tensor:
        """Apply the layer to tokens of shape `(B * T, L, C)`; `frame_mask` is `(B, T)`, True for real frames."""
        residual = hidden_states
        hidden_states = self.layer_norm1(hidden_states)
        if self.shift is not None:
            hidden_states = hidden_states.unflatten(0, (-1, num_frames))  # (B, T, L, C)
            hidden_states = self.shift(hidden_states, frame_mask).flatten(0, 1)  # (B * T, L, C)
        hidden_states, _ = self.self_attn(hidden_states=hidden_states, attention_mask=None, **kwargs)
        hidden_states = residual + hidden_states

        residual = hidden_states
        hidden_states = self.layer_norm2(hidden_states)
        hidden_states = self.mlp(hidden_states)
        return residual + hidden_states


# ----------------------------------------------------------------------------------------------------------------
# Token selection (paper, section 3.3)
# ----------------------------------------------------------------------------------------------------------------


class TS2NetTokenSelector(nn.Module):
    """Keep [CLS] and the `K` highest-scoring patches of each frame.

    The scorer reads each token concatenated with the [CLS] token of its frame. In training the selection is the
    perturbed top-k, and each of the `K` slots holds a soft mixture of patches. In evaluation it is the hard top-k,
    which is deterministic.
    """

    def __init__(self, config: TS2NetConfig) -> None:
        super().__init__()
        self.kind = config.selection_kind
        self.num_selected_tokens = config.num_selected_tokens
        self.activation = config.selection_activation
        self.sigma = config.selection_sigma
        self.num_samples = config.selection_num_samples
        self.gradient = config.selection_gradient
        if self.kind == "perturbed_topk":
            width = config.projection_dim
            self.layer_norm = nn.LayerNorm(width, eps=config.vision_config.layer_norm_eps)
            self.in_proj = nn.Linear(width, width // 2, bias=False)
            self.out_proj = nn.Linear(width, width // 2, bias=False)
            self.score_proj = nn.Linear(width // 2, 1, bias=False)

    def score(self, tokens: torch.Tensor) -> torch.Tensor:
        """Score projected tokens of shape `(B, T, L, D)`; returns `(B, T, L)`."""
        hidden = nn.functional.gelu(self.in_proj(self.layer_norm(tokens)))  # (B, T, L, D/2)
        beside_cls = torch.cat([hidden, hidden[:, :, :1].expand_as(hidden)], dim=-1)  # (B, T, L, D)
        scores = self.score_proj(nn.functional.gelu(self.out_proj(beside_cls))).squeeze(-1)  # (B, T, L)
        return scores.tanh() if self.activation == "tanh" else scores.softmax(dim=-1)

    def forward(
        self, tokens: torch.Tensor, seeds: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Select tokens.

        Args:
            tokens: Projected tokens of shape `(B, T, L, D)`.
            seeds: Integers of shape `(B,)` that fix each video's draws in training. `None`: drawn from torch's
                default generator.

        Raises:
            ValueError: If a frame has fewer patches than are selected.

        Returns:
            The kept tokens `(B, T, K + 1, D)`, the indices of the top patches `(B, T, K)` and, with a learned
            scorer, the scores `(B, T, L)`.
        """
        cls, patches = tokens[:, :, :1], tokens[:, :, 1:]
        if self.kind != "none" and patches.shape[2] < self.num_selected_tokens:
            raise ValueError(
                f"the frames have {patches.shape[2]} patches, and num_selected_tokens={self.num_selected_tokens} of "
                f"them are selected: give larger frames"
            )
        if self.kind == "none":
            indices = torch.empty(*tokens.shape[:2], 0, dtype=torch.long, device=tokens.device)
            return cls, indices, None

        scores = self.score(tokens) if self.kind == "perturbed_topk" else None
        ranking = scores[:, :, 1:] if scores is not None else self._random_ranking(patches, seeds)
        indices = ranking.topk(self.num_selected_tokens, dim=-1).indices.sort(dim=-1).values  # (B, T, K)
        if self.training and scores is not None:
            rows = scores[:, :, 1:].flatten(0, 1)  # (B * T, N)
            # Each video has its own seed, because its draws must not depend on the other videos of the batch.
            seeds = seeds if seeds is not None else torch.randint(2**62, (len(tokens),))
            indicators = perturbed_topk(
                rows, self.num_selected_tokens, self.sigma, self.num_samples, seeds=seeds, gradient=self.gradient
            )
            indicators = indicators.unflatten(0, tokens.shape[:2]).to(patches.dtype)  # (B, T, K, N)
            chosen = indicators @ patches
        else:
            chosen = patches.gather(2, indices[..., None].expand(-1, -1, -1, patches.shape[-1]))
        return torch.cat([cls, chosen], dim=2), indices + 1, scores

    def _random_ranking(self, patches: torch.Tensor, seeds: torch.Tensor | None) -> torch.Tensor:
        """Rank patches at random, `(B, T, N)`: a new ranking at each training step, a fixed one at inference."""
        videos, num_frames, num_patches = patches.shape[:3]
        if self.training:
            seeds = seeds if seeds is not None else torch.randint(2**62, (videos,))
            draws = [
                torch.rand(num_frames, num_patches, generator=torch.Generator().manual_seed(s)) for s in seeds.tolist()
            ]
            return torch.stack(draws).to(patches.device)
        # An integer hash of (frame, patch) is the same on every device and needs no generator.
        hashes = torch.arange(1, num_frames * num_patches + 1, device=patches.device)
        for _ in range(2):
            hashes = (hashes ^ (hashes >> 15)) * 0x2C1B3C6D % 2**31
        return hashes.view(1, num_frames, num_patches).expand(videos, -1, -1)


# ----------------------------------------------------------------------------------------------------------------
# The transformers
# ----------------------------------------------------------------------------------------------------------------


class TS2NetPreTrainedModel(CLIPPreTrainedModel):
    """Base class of the models below: weight initialisation and class attributes that the library reads."""

    config: TS2NetConfig
    base_model_prefix = "ts2net"
    main_input_name = "input_ids"  # the first argument of `forward`; the library counts its tokens
    input_modalities: ClassVar[tuple[str, ...]] = ("video", "text")
    _no_split_modules: ClassVar = [
        "CLIPTextEmbeddings",
        "CLIPVisionEmbeddings",
        "CLIPEncoderLayer",
        "TS2NetVisionLayer",
    ]

    def _initialize_weights(self, module: nn.Module, is_custom_code: bool = False) -> None:
        # In custom code the library skips modules without parameters of their own, such as CLIP's attention, so that
        # loaded weights aren't overwritten. That is not needed here: the functions of `init` skip loaded weights.
        super()._initialize_weights(module, is_custom_code=False)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, TS2NetTemporalEncoder):
            init.normal_(module.position_embedding.weight, std=0.01 * self.config.initializer_factor)
        elif isinstance(module, TS2NetTokenSelector) and module.kind == "perturbed_topk":
            # Scores start well below their noise, so that every patch is selected at times in training.
            for layer in (module.in_proj, module.out_proj, module.score_proj):
                init.normal_(layer.weight, std=(3 * layer.in_features) ** -0.5 * self.config.initializer_factor)
        elif isinstance(module, TS2NetTokenScorer):
            for layer in (module.fc1, module.fc2):  # as in the released code: tokens start with nearly equal weights
                init.normal_(layer.weight, std=0.02 * self.config.initializer_factor)
            init.zeros_(module.fc1.bias)
        elif isinstance(module, TS2NetModel):
            factor = self.config.initializer_factor
            init.normal_(module.text_projection.weight, std=module.config.text_config.hidden_size**-0.5 * factor)
            init.normal_(module.visual_projection.weight, std=module.config.vision_config.hidden_size**-0.5 * factor)
            init.constant_(module.logit_scale, self.config.logit_scale_init_value)


class TS2NetVisionEncoder(nn.Module):
    """The stack of vision layers, under the parameter names of CLIP's encoder."""

    def __init__(self, config: TS2NetVisionConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            TS2NetVisionLayer(config, layer_idx) for layer_idx in range(config.num_hidden_layers)
        )

    def forward(self, hidden_states: torch.Tensor, *args: Any, first_layer: int = 0, **kwargs: Any) -> torch.Tensor:
        """Apply the layers from `first_layer` on to tokens of shape `(B * T, L, C)`."""
        for layer in self.layers[first_layer:]:
            hidden_states = layer(hidden_states, *args, **kwargs)
        return hidden_states


class TS2NetVisionModel(TS2NetPreTrainedModel):
    """CLIP's vision transformer over the frames of videos, with token shift in some layers (paper, section 3.2)."""

    config: TS2NetVisionConfig
    base_model_prefix = "vision_model"  # so that it can load its weights from a checkpoint of the whole model
    main_input_name = "pixel_values_videos"
    input_modalities = ("video",)
    _input_embed_layer = "patch_embedding"
    _can_record_outputs: ClassVar = {"hidden_states": TS2NetVisionLayer, "attentions": CLIPAttention}

    def __init__(self, config: TS2NetVisionConfig) -> None:
        super().__init__(config)
        self.embeddings = CLIPVisionEmbeddings(config)
        # CLIP's spelling: checkpoints contain parameters of this name.
        self.pre_layrnorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.encoder = TS2NetVisionEncoder(config)
        self.post_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self,
        pixel_values_videos: torch.Tensor | None = None,
        frame_mask: torch.Tensor | None = None,
        interpolate_pos_encoding: bool = False,
        vision_hidden_states: torch.Tensor | None = None,
        first_vision_layer: int = 0,
        **kwargs: Any,
    ) -> BaseModelOutput:
        """Encode frames.

        Args:
            pixel_values_videos: Normalised frames of shape `(B, T, 3, H, W)`.
            frame_mask: Boolean, of shape `(B, T)`: frames that may exchange tokens. `None`: all.
            interpolate_pos_encoding: Accept frames of another size than the configuration's.
            vision_hidden_states: Output of the layers below `first_vision_layer`, given instead of frames:
                `hidden_states[first_vision_layer]` of an earlier call, of shape `(B, T, L, C)`.
            first_vision_layer: Index of the first layer to apply. With the number of layers, only the final LayerNorm
                is applied.

        Returns:
            `last_hidden_state` of shape `(B * T, L, C)`, after the final LayerNorm on every token. Hidden states and
            attentions, if requested, are taken before it.
        """
        if vision_hidden_states is not None:
            num_frames = vision_hidden_states.shape[1]
            hidden_states = vision_hidden_states.flatten(0, 1)  # (B * T, L, C)
        elif pixel_values_videos is not None:
            num_frames = pixel_values_videos.shape[1]
            frames = pixel_values_videos.flatten(0, 1)  # (B * T, 3, H, W)
            hidden_states = self.embeddings(frames, interpolate_pos_encoding=interpolate_pos_encoding)
            hidden_states = self.pre_layrnorm(hidden_states)
        else:
            raise ValueError("pixel_values_videos is missing")
        hidden_states = self.encoder(hidden_states, num_frames, frame_mask, first_layer=first_vision_layer, **kwargs)
        return BaseModelOutput(last_hidden_state=self.post_layernorm(hidden_states))


class TS2NetTemporalEncoder(TS2NetPreTrainedModel):
    """A transformer over the kept tokens of all frames, with learned positions (paper, section 3.4)."""

    base_model_prefix = "temporal_encoder"
    main_input_name = "hidden_states"
    input_modalities = ("video",)
    _can_record_outputs: ClassVar = {"hidden_states": CLIPEncoderLayer, "attentions": CLIPAttention}

    def __init__(self, config: TS2NetConfig) -> None:
        # The layers are CLIP's, so their configuration is too. The attention interface reads its setting from it.
        super().__init__(config.temporal_config)
        self.position_embedding = nn.Embedding(self.config.max_position_embeddings, config.projection_dim)
        self.layers = nn.ModuleList(CLIPEncoderLayer(self.config) for _ in range(config.temporal_num_layers))
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self,
        hidden_states: torch.Tensor,
        token_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> BaseModelOutput:
        """Encode tokens.

        Args:
            hidden_states: Tokens of shape `(B, T * (K + 1), D)`.
            token_mask: Boolean, of shape `(B, T * (K + 1))`: tokens that may be attended to. `None`: all.
            position_ids: Position of each token, of shape `(B, T * (K + 1))`. `None`: consecutive from 0.

        Returns:
            `last_hidden_state` of shape `(B, T * (K + 1), D)`, with the input added back.

        Raises:
            ValueError: If there are more tokens than positions.
        """
        num_tokens, num_positions = hidden_states.shape[1], self.position_embedding.num_embeddings
        if num_tokens > num_positions:
            raise ValueError(
                f"the frames have {num_tokens} tokens and the temporal encoder {num_positions} positions: use fewer "
                f"frames, or start from CLIP with a larger num_frames"
            )
        tokens = hidden_states
        if position_ids is None:
            position_ids = torch.arange(num_tokens, device=hidden_states.device)
        hidden_states = hidden_states + self.position_embedding(position_ids)
        attention_mask = create_bidirectional_mask(self.config, hidden_states, token_mask)
        for layer in self.layers:
            hidden_states = layer(hidden_states, attention_mask, **kwargs)
        return BaseModelOutput(last_hidden_state=hidden_states + tokens)


# ----------------------------------------------------------------------------------------------------------------
# Matching (paper, section 3.5)
# ----------------------------------------------------------------------------------------------------------------


def frame_cosines(text_embeds: torch.Tensor, video_embeds: torch.Tensor, frame_mask: torch.Tensor) -> torch.Tensor:
    """Cosines `(Q, B, T)` of texts `(Q, D)` and frames `(B, T, D)` of length 1; 0 where `frame_mask` is False."""
    # Mixed precision would round the cosines that recall is computed from, and create ties.
    with torch.autocast(text_embeds.device.type, enabled=False):
        return torch.einsum("qd,btd->qbt", text_embeds, video_embeds).masked_fill(~frame_mask, 0.0)


def frame_weights(cosines: torch.Tensor, frame_mask: torch.Tensor, temperature: float | None) -> torch.Tensor:
    """Compute the weight of each frame in a video's score.

    Args:
        cosines: Cosines of texts and frames, `(Q, B, T)`, 0 for frames that are masked out.
        frame_mask: Boolean, `(B, T)`, False for frames that are masked out.
        temperature: The weights are the softmax over frames of `temperature` times the cosines divided by their L2
            norm. `None`: all frames have the same weight.

    Returns:
        Weights `(Q, B, T)` that sum to 1 over the frames that are not masked out.
    """
    if temperature is None:
        logits = torch.zeros_like(cosines)
    else:
        logits = temperature * nn.functional.normalize(cosines, dim=-1)
    return logits.masked_fill(~frame_mask, torch.finfo(logits.dtype).min).softmax(dim=-1)


def match(
    text_embeds: torch.Tensor, video_embeds: torch.Tensor, frame_mask: torch.Tensor, temperature: float | None
) -> torch.Tensor:
    """Score texts against videos: the weighted mean of the cosines of a video's frames.

    The score lies between the mean and the maximum of the cosines. A video without an unmasked frame has score 0. For
    the arguments see [`frame_cosines`] and [`frame_weights`]; the result is `(Q, B)`.
    """
    cosines = frame_cosines(text_embeds, video_embeds, frame_mask)
    return (frame_weights(cosines, frame_mask, temperature) * cosines).sum(-1)


def mean_of_unit_frames(video_embeds: torch.Tensor, frame_mask: torch.Tensor | None = None) -> torch.Tensor:
    """Compute one vector per video: the mean of the normalised embeddings of its real frames.

    Args:
        video_embeds: Frame embeddings of shape `(B, T, D)`, normalised or not.
        frame_mask: Boolean, of shape `(B, T)`, True for real frames. `None`: all.

    Returns:
        Vectors of shape `(B, D)`; zeros for a video without a real frame.
    """
    units = nn.functional.normalize(video_embeds, dim=-1)
    if frame_mask is None:
        return units.mean(dim=1)
    units = units.masked_fill(~frame_mask[..., None], 0.0)
    return units.sum(dim=1) / frame_mask.sum(dim=1, keepdim=True).clamp(min=1)


# ----------------------------------------------------------------------------------------------------------------
# The whole model
# ----------------------------------------------------------------------------------------------------------------


def cat_texts(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """Concatenate the text embeddings `(Q, D)` or zero-padded word embeddings `(Q, words, D)` of several batches."""
    most = max(part.shape[-2] for part in parts)
    if parts[0].ndim == 3:
        parts = [nn.functional.pad(part, (0, 0, 0, most - part.shape[1])) for part in parts]
    return torch.cat(list(parts))


def _in_chunks(matching: WordMatching) -> torch.Tensor:
    """Compute the scores `(Q, B)` in chunks, so that memory stays bounded."""
    (num_texts, num_words), (num_videos, num_frames) = matching.words.shape[:2], matching.frames.shape[:2]
    if num_texts * num_words * num_videos * num_frames <= _CHUNK_ELEMENTS:
        return matching.scores()
    videos_a_chunk = max(1, min(num_videos, _CHUNK_ELEMENTS // (num_frames * num_words * min(num_texts, 256))))
    texts_a_chunk = max(1, _CHUNK_ELEMENTS // (num_frames * num_words * videos_a_chunk))
    blocks = []
    for first in range(0, num_videos, videos_a_chunk):
        some = matching.videos(slice(first, first + videos_a_chunk))
        starts = range(0, num_texts, texts_a_chunk)
        blocks.append(torch.cat([some.texts(slice(start, start + texts_a_chunk)).scores() for start in starts]))
    return torch.cat(blocks, dim=1)


class TS2NetModel(TS2NetPreTrainedModel):
    """TS2-Net: scores texts against videos.

    Create a model from a CLIP with [`TS2NetModel.from_clip`], and from a trained checkpoint with `from_pretrained`.

    Attributes:
        commit: Commit of the repository that `ts2net.hub.load_model` loaded the model from, otherwise `None`.
    """

    _auto_class = "AutoModel"
    commit: str | None = None

    def __init__(self, config: TS2NetConfig) -> None:
        super().__init__(config)
        self.text_model = CLIPTextModel._from_config(config.text_config)
        self.vision_model = TS2NetVisionModel._from_config(config.vision_config)
        self.visual_projection = nn.Linear(config.vision_config.hidden_size, config.projection_dim, bias=False)
        self.text_projection = nn.Linear(config.text_config.hidden_size, config.projection_dim, bias=False)
        self.token_selector = TS2NetTokenSelector(config)
        self.temporal_encoder = TS2NetTemporalEncoder(config) if config.temporal_num_layers else None
        uses_words = config.matching_kind == "wti"
        self.word_interaction = TS2NetWordInteraction(config.projection_dim) if uses_words else None
        self.logit_scale = nn.Parameter(torch.tensor(float(config.logit_scale_init_value)))
        self.post_init()

    @classmethod
    def from_clip(
        cls,
        pretrained_model_name_or_path: str | os.PathLike,
        *,
        revision: str = "main",
        subfolder: str = "",
        token: str | bool | None = None,
        cache_dir: str | os.PathLike | None = None,
        local_files_only: bool = False,
        dtype: str | torch.dtype = "auto",
        attn_implementation: str | None = None,
        as_is: bool = False,
        **config_overrides: Any,
    ) -> "TS2NetModel":
        """Create a model from a CLIP in a repository or folder.

        CLIP's tensors are copied bit for bit under their own names. The temporal encoder is initialised with the
        first layers of CLIP's text transformer and with its positions (interpolated if more are needed) times
        `temporal_position_scale`. The scorer of the token selection and the networks of the word-token interaction
        are initialised at random.

        Args:
            pretrained_model_name_or_path: A repository or folder of any transformers CLIP, or of a model with CLIP's
                architecture under another name (MetaCLIP 2).
            revision: Branch, tag or commit of the repository.
            subfolder: Folder of the repository that holds the model.
            token: Token for a private repository.
            cache_dir: Folder for downloads.
            local_files_only: Never download.
            dtype: Type of the weights; `"auto"` is the checkpoint's type.
            attn_implementation: `"eager"`, `"sdpa"`, `"flash_attention_2"`, ...; `None` is transformers' default.
            as_is: Add nothing to the CLIP, which then matches by the mean over frames and needs no training. See
                [`TS2NetConfig.from_clip_config`].
            config_overrides: Fields of [`TS2NetConfig`], and `shift_*` fields of [`TS2NetVisionConfig`].

        Returns:
            The model, in evaluation mode.

        Raises:
            TypeError: If an override is not a field of the configuration.
            ValueError: If the checkpoint is not a CLIP, is incomplete or holds more than a CLIP, or its text
                transformer cannot initialise the temporal encoder.
        """
        source = {
            "revision": revision,
            "subfolder": subfolder,
            "token": token,
            "cache_dir": cache_dir,
            "local_files_only": local_files_only,
        }
        name = str(pretrained_model_name_or_path)
        config = AutoConfig.from_pretrained(pretrained_model_name_or_path, trust_remote_code=False, **source)
        check_is_clip(config, name)
        clip, report = AutoModel.from_pretrained(
            pretrained_model_name_or_path,
            config=config,
            dtype=dtype,
            output_loading_info=True,
            trust_remote_code=False,
            **source,
        )
        # Old checkpoints store position ids, which are consecutive numbers from 0.
        added = sorted(key for key in report["unexpected_keys"] if not key.endswith(".position_ids"))
        for tensors, what in (
            (sorted(report["missing_keys"]), "is not a whole CLIP: it lacks"),
            (added, "is more than a CLIP: it also holds"),
        ):
            if tensors:
                raise ValueError(
                    f"{name!r} {what} {tensors[0]!r}" + f" and {len(tensors) - 1} more" * (len(tensors) > 1)
                )
        return cls.from_clip_model(clip, attn_implementation=attn_implementation, as_is=as_is, **config_overrides)

    @classmethod
    def from_clip_model(
        cls,
        clip: PreTrainedModel,
        *,
        attn_implementation: str | None = None,
        as_is: bool = False,
        **config_overrides: Any,
    ) -> "TS2NetModel":
        """Create a model from a loaded CLIP. See [`TS2NetModel.from_clip`], also for the errors."""
        check_is_clip(clip.config, clip.name_or_path or type(clip).__name__)
        config = TS2NetConfig.from_clip_config(clip.config, as_is=as_is, **config_overrides)
        text_config = config.text_config
        if config.temporal_num_layers > text_config.num_hidden_layers:
            raise ValueError(
                f"temporal_num_layers={config.temporal_num_layers}, but the text transformer that they start from has "
                f"only {text_config.num_hidden_layers} layers"
            )
        if config.temporal_num_layers and text_config.hidden_size != config.projection_dim:
            raise ValueError(
                f"the text transformer is {text_config.hidden_size} wide and the temporal encoder "
                f"{config.projection_dim}, so the one cannot start the other: set temporal_num_layers=0 or as_is=True"
            )
        if config.temporal_num_layers and text_config.intermediate_size != config.temporal_intermediate_size:
            raise ValueError(
                f"temporal_intermediate_size={config.temporal_intermediate_size}, but the text transformer that the "
                f"temporal encoder starts from has {text_config.intermediate_size}"
            )
        kwargs = {} if attn_implementation is None else {"attn_implementation": attn_implementation}
        model = cls._from_config(config, dtype=clip.dtype, **kwargs)
        state = clip.state_dict() | _temporal_from_text(clip.text_model, config)
        new = ("token_selector.", "word_interaction.")
        expected = {name for name in model.state_dict() if not name.startswith(new)}
        if expected != set(state):
            odd = sorted(expected ^ set(state))
            raise ValueError(f"this CLIP does not fit: {len(odd)} tensors without a counterpart, {odd[0]!r} for one")
        model.load_state_dict(state, strict=False)
        return model.eval()

    def initialize_weights(self) -> None:
        """Initialise the weights that no checkpoint has set. The text model initialises its own, as CLIP does."""
        self.text_model.initialize_weights()
        super().initialize_weights()

    def get_input_embeddings(self) -> nn.Module:
        """Return the embedding of text tokens."""
        return self.text_model.embeddings.token_embedding

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the embedding of text tokens."""
        self.text_model.embeddings.token_embedding = value

    @can_return_tuple
    def get_text_features(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> TS2NetTextOutput:
        """Encode texts.

        Args:
            input_ids: Token ids of shape `(Q, words)`.
            attention_mask: 1 for real tokens, of shape `(Q, words)`.
            position_ids: Position of each token, of shape `(Q, words)`. `None`: consecutive from 0.

        Returns:
            `pooler_output` of shape `(Q, D)`: the projected end-of-text embedding, not normalised. With
            `matching_kind="wti"` also `word_embeds` of shape `(Q, words, D)`.
        """
        text = self.text_model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            return_dict=True,
            **kwargs,
        )
        hidden_states, ends = text.last_hidden_state, self._text_ends(input_ids, text.last_hidden_state.device)
        texts = torch.arange(ends.shape[0], device=ends.device)  # an export would make a constant of `len`
        word_embeds = None
        if self.word_interaction is not None:
            word_embeds = self.text_projection(hidden_states)  # (Q, words, D)
            is_word = torch.arange(hidden_states.shape[1], device=ends.device) <= ends[:, None]
            if attention_mask is not None:
                is_word = is_word & attention_mask.to(ends.device, torch.bool)
            word_embeds = word_embeds.masked_fill(~is_word[..., None], 0.0)
        return TS2NetTextOutput(
            last_hidden_state=hidden_states,
            pooler_output=self.text_projection(hidden_states[texts, ends]),
            hidden_states=text.hidden_states,
            attentions=text.attentions,
            word_embeds=word_embeds,
        )

    @can_return_tuple
    def get_video_features(
        self,
        pixel_values_videos: torch.Tensor | None = None,
        padding_mask_videos: torch.Tensor | None = None,
        selection_seeds: torch.Tensor | None = None,
        interpolate_pos_encoding: bool = False,
        vision_hidden_states: torch.Tensor | None = None,
        first_vision_layer: int = 0,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        return_dict: bool | None = None,
    ) -> TS2NetVideoOutput:
        """Encode videos.

        Args:
            pixel_values_videos: Normalised frames of shape `(B, T, 3, H, W)`.
            padding_mask_videos: True (or 1) for real frames, of shape `(B, T)`. `None`: all are real.
            selection_seeds: Integers of shape `(B,)` that fix each video's selection noise in training.
            interpolate_pos_encoding: Accept frames of another size than the configuration's.
            vision_hidden_states: Output of the vision layers below `first_vision_layer`, of shape `(B, T, L, C)`,
                given instead of `pixel_values_videos`. For frozen layers it has to be computed only once.
            first_vision_layer: Index of the first vision layer to apply to `vision_hidden_states`.
            output_hidden_states: Also return the hidden states of both transformers. `None`: as configured.
            output_attentions: Also return the attentions of both transformers. `None`: as configured.
            return_dict: False returns a tuple. `None`: as configured.

        Returns:
            `pooler_output` of shape `(B, D)`, one vector per video, and `frame_embeds` of shape `(B, T, D)`, which
            [`TS2NetModel.similarity`] matches; see [`TS2NetVideoOutput`].

        Raises:
            ValueError: If a shape is wrong or there are more frames than the temporal encoder has positions for.
        """
        videos = self._videos(pixel_values_videos, vision_hidden_states, first_vision_layer)
        if selection_seeds is not None and selection_seeds.shape != videos.shape[:1]:
            raise ValueError(
                f"selection_seeds must have one seed for each of {len(videos)} videos, "
                f"got shape {(*selection_seeds.shape,)}"
            )
        recorded = {"output_hidden_states": output_hidden_states, "output_attentions": output_attentions}
        recorded = {name: value for name, value in recorded.items() if value is not None}  # else as configured
        frame_mask = self._frame_mask(videos, padding_mask_videos)
        masked = self.config.padding_mode == "masked"
        if masked and frame_mask is not None and pixel_values_videos is not None:
            # Padding frames may hold NaN, and NaN times an attention weight of 0 is still NaN.
            pixel_values_videos = pixel_values_videos.masked_fill(~frame_mask[:, :, None, None, None], 0.0)
        vision = self.vision_model(
            pixel_values_videos,
            frame_mask=frame_mask if masked else None,
            interpolate_pos_encoding=interpolate_pos_encoding,
            vision_hidden_states=vision_hidden_states,
            first_vision_layer=first_vision_layer,
            return_dict=True,
            **recorded,
        )
        tokens = self.visual_projection(vision.last_hidden_state)  # (B * T, L, D)
        tokens = tokens.unflatten(0, videos.shape[:2])  # (B, T, L, D)
        kept, indices, scores = self.token_selector(tokens, selection_seeds)  # (B, T, K + 1, D)

        temporal = None
        frames = kept[:, :, 0]  # (B, T, D)
        if self.temporal_encoder is not None:
            tokens_per_frame = kept.shape[2]
            token_mask = position_ids = None
            if frame_mask is None:
                pass
            elif masked:
                token_mask = frame_mask.repeat_interleave(tokens_per_frame, dim=1)  # (B, T * (K + 1))
                # Positions count real frames only, so that padding on either side gives the same result.
                position_ids = (token_mask.cumsum(dim=1) - 1).clamp(min=0)
            else:
                # The released code tiles the mask: token p is visible where frame p mod T is real.
                token_mask = frame_mask.repeat(1, tokens_per_frame)
            temporal = self.temporal_encoder(
                kept.flatten(1, 2), token_mask, position_ids, return_dict=True, **recorded
            )
            frames = temporal.last_hidden_state[:, ::tokens_per_frame]
        return TS2NetVideoOutput(
            last_hidden_state=vision.last_hidden_state.unflatten(0, videos.shape[:2]),
            pooler_output=mean_of_unit_frames(frames, frame_mask),
            hidden_states=vision.hidden_states,
            attentions=vision.attentions,
            frame_embeds=frames,
            token_embeds=tokens,
            selected_token_indices=indices,
            selection_scores=scores,
            selected_tokens=kept,
            temporal_model_output=temporal,
        )

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        pixel_values_videos: torch.Tensor | None = None,
        padding_mask_videos: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        return_loss: bool | None = None,
        output_frame_weights: bool = False,
        selection_seeds: torch.Tensor | None = None,
        interpolate_pos_encoding: bool = False,
        vision_hidden_states: torch.Tensor | None = None,
        first_vision_layer: int = 0,
        **kwargs: Any,
    ) -> TS2NetOutput:
        """Score texts against videos.

        Args:
            input_ids: Token ids of shape `(Q, words)`.
            attention_mask: 1 for real text tokens, of shape `(Q, words)`.
            pixel_values_videos: Normalised frames of shape `(B, T, 3, H, W)`.
            padding_mask_videos: True (or 1) for real frames, of shape `(B, T)`. `None`: all are real.
            position_ids: Position of each text token, of shape `(Q, words)`. `None`: consecutive from 0.
            return_loss: Also return the loss of the pairs of text `i` and video `i`.
            output_frame_weights: Also return the weight of each frame in each score.
            selection_seeds: Integers of shape `(B,)` that fix each video's selection noise in training.
            interpolate_pos_encoding: Accept frames of another size than the configuration's.
            vision_hidden_states: Output of the vision layers below `first_vision_layer`, of shape `(B, T, L, C)`,
                given instead of `pixel_values_videos`.
            first_vision_layer: Index of the first vision layer to apply to `vision_hidden_states`.

        Returns:
            See [`TS2NetOutput`].

        Raises:
            ValueError: If a shape is wrong, or with `return_loss` if the numbers of texts and videos differ.
        """
        if pixel_values_videos is None and vision_hidden_states is None:
            raise ValueError("pixel_values_videos is missing: to encode texts alone use get_text_features")
        text = self.get_text_features(input_ids, attention_mask, position_ids, return_dict=True, **kwargs)
        video = self.get_video_features(
            pixel_values_videos,
            padding_mask_videos,
            selection_seeds=selection_seeds,
            interpolate_pos_encoding=interpolate_pos_encoding,
            vision_hidden_states=vision_hidden_states,
            first_vision_layer=first_vision_layer,
            # All other keyword arguments belong to the text transformer.
            output_hidden_states=kwargs.get("output_hidden_states"),
            output_attentions=kwargs.get("output_attentions"),
            return_dict=True,
        )
        text_embeds = nn.functional.normalize(text.pooler_output, dim=-1)
        video_embeds = nn.functional.normalize(video.frame_embeds, dim=-1)
        logit_scale = self._exp_logit_scale()
        word_embeds = weight_logits = None
        matching_embeds = text_embeds
        if self.word_interaction is not None:
            word_embeds = matching_embeds = nn.functional.normalize(text.matching_embeds, dim=-1)
            weight_logits = self.word_interaction(word_embeds, video_embeds)
        logits_per_text = self.similarity(
            matching_embeds, video_embeds, padding_mask_videos, logit_scale, weight_logits
        )
        weights = None
        if output_frame_weights:
            weights = self.frame_weights(matching_embeds, video_embeds, padding_mask_videos)
        return TS2NetOutput(
            loss=contrastive_loss(logits_per_text) if return_loss else None,
            logits_per_text=logits_per_text,
            logits_per_video=logits_per_text.t(),
            text_embeds=text_embeds,
            video_embeds=video_embeds,
            selected_token_indices=video.selected_token_indices,
            frame_weights=weights,
            text_model_output=text,
            video_model_output=video,
            logit_scale=logit_scale,
            word_embeds=word_embeds,
            weight_logits=weight_logits,
        )

    def similarity(
        self,
        text_embeds: torch.Tensor,
        video_embeds: torch.Tensor,
        padding_mask_videos: torch.Tensor | None = None,
        logit_scale: torch.Tensor | None = None,
        weight_logits: tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """Match embeddings (paper, section 3.5). Memory does not grow with texts times videos times frames.

        Args:
            text_embeds: Text embeddings of shape `(Q, D)`, normalised or not; with `matching_kind="wti"` word
                embeddings of shape `(Q, words, D)`, zeros for padding. `TS2NetTextOutput.matching_embeds` is the right
                one of both.
            video_embeds: Frame embeddings of shape `(B, T, D)`, normalised or not.
            padding_mask_videos: True (or 1) for real frames, of shape `(B, T)`. `None`: all are real.
            logit_scale: Factor on the similarities, see [`TS2NetOutput`]. `None`: the model's `exp(logit_scale)`.
            weight_logits: Logits of the weights of words and frames, see [`TS2NetOutput`]. `None`: computed.

        Returns:
            Similarities of shape `(Q, B)`, times `exp(logit_scale)`, in float32 (float64 for float64 inputs).

        Raises:
            ValueError: If a shape is wrong.
        """
        texts, videos, frame_mask = self._matching_inputs(text_embeds, video_embeds, padding_mask_videos)
        scale = (self._exp_logit_scale() if logit_scale is None else logit_scale).to(texts.device, texts.dtype)
        if self.word_interaction is not None:
            return scale * _in_chunks(self._word_matching(texts, videos, frame_mask, weight_logits))
        num_texts, (num_videos, num_frames) = texts.shape[0], videos.shape[:2]
        if num_texts * num_videos * num_frames <= _CHUNK_ELEMENTS:
            return scale * match(texts, videos, frame_mask, self._temperature)

        videos_a_chunk = max(1, min(num_videos, _CHUNK_ELEMENTS // (num_frames * min(num_texts, 1024))))
        texts_a_chunk = max(1, _CHUNK_ELEMENTS // (num_frames * videos_a_chunk))
        columns = zip(videos.split(videos_a_chunk), frame_mask.split(videos_a_chunk), strict=True)
        blocks = [
            torch.cat([match(chunk, video, mask, self._temperature) for chunk in texts.split(texts_a_chunk)])
            for video, mask in columns
        ]
        return scale * torch.cat(blocks, dim=1)

    def best_frames(
        self,
        text_embeds: torch.Tensor,
        video_embeds: torch.Tensor,
        padding_mask_videos: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Find the frame of each video with the highest cosine to each text. Returns indices of shape `(Q, B)`.

        With `matching_kind="wti"` it is the frame with the highest weighted mean of the words' cosines. For the
        arguments see [`TS2NetModel.similarity`].
        """
        texts, videos, frame_mask = self._matching_inputs(text_embeds, video_embeds, padding_mask_videos)
        if self.word_interaction is not None:
            return self._word_matching(texts, videos, frame_mask).best_frames()
        return frame_cosines(texts, videos, frame_mask).masked_fill(~frame_mask, -torch.inf).argmax(dim=-1)

    def frame_weights(
        self,
        text_embeds: torch.Tensor,
        video_embeds: torch.Tensor,
        padding_mask_videos: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Compute the weight of each frame in each score. Returns `(Q, B, T)`, which sums to 1 over frames.

        With `matching_kind="wti"` it is half the frame's own weight plus half the weights of the words whose best
        frame it is. For the arguments see [`TS2NetModel.similarity`].
        """
        texts, videos, frame_mask = self._matching_inputs(text_embeds, video_embeds, padding_mask_videos)
        if self.word_interaction is not None:
            return self._word_matching(texts, videos, frame_mask).weight_of_frames()
        return frame_weights(frame_cosines(texts, videos, frame_mask), frame_mask, self._temperature)

    def word_matches(
        self,
        word_embeds: torch.Tensor,
        video_embeds: torch.Tensor,
        padding_mask_videos: torch.Tensor | None = None,
    ) -> TS2NetWordMatches:
        """Find the best frame of each video for each word of each text.

        For the arguments see [`TS2NetModel.similarity`].

        Raises:
            ValueError: If the model has no word-token interaction, or a shape is wrong.
        """
        if self.word_interaction is None:
            raise ValueError(
                f"words are not matched with matching_kind={self.config.matching_kind!r}: this needs 'wti'"
            )
        return self._word_matching(
            *self._matching_inputs(word_embeds, video_embeds, padding_mask_videos)
        ).word_matches()

    def _word_matching(
        self,
        words: torch.Tensor,
        frames: torch.Tensor,
        frame_mask: torch.Tensor,
        weight_logits: tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> WordMatching:
        assert self.word_interaction is not None
        logits = self.word_interaction(words, frames) if weight_logits is None else weight_logits
        return WordMatching(words, frames, frame_mask, *(of_tokens.to(words) for of_tokens in logits))

    def _text_ends(self, input_ids: torch.Tensor, device: torch.device) -> torch.Tensor:
        """Return the position of each text's pooled token, `(Q,)`."""
        ids = input_ids.to(device, torch.int)  # the export to ONNX has no argmax of int64
        if self.config.text_pooling == "eos":
            ids = (ids == self.config.text_config.eos_token_id).int()  # argmax finds the first
        return ids.argmax(dim=-1)

    def _exp_logit_scale(self) -> torch.Tensor:
        return self.logit_scale.to(torch.promote_types(self.logit_scale.dtype, torch.float32)).exp()

    @property
    def _temperature(self) -> float | None:
        return self.config.matching_temperature if self.config.matching_kind == "weighted" else None

    def _matching_inputs(
        self, text_embeds: torch.Tensor, video_embeds: torch.Tensor, padding_mask_videos: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Normalise in at least float32, so that near neighbours stay distinct, and compute the frame mask."""
        axes = 2 if self.word_interaction is None else 3
        if text_embeds.ndim != axes:
            expected = "texts (Q, D)" if axes == 2 else "words (Q, words, D), as word_embeds of an output"
            raise ValueError(
                f"with matching_kind={self.config.matching_kind!r} text_embeds must be {expected}, "
                f"got {(*text_embeds.shape,)}"
            )
        frame_mask = self._frame_mask(video_embeds, padding_mask_videos)
        if frame_mask is None:
            frame_mask = torch.ones(video_embeds.shape[:2], dtype=torch.bool, device=video_embeds.device)
        elif self.config.padding_mode == "released":
            # The released code indexes its tiled mask by token: frame t counts where frame t * (K + 1) mod T is real.
            frames = torch.arange(frame_mask.shape[1], device=frame_mask.device)
            frame_mask = frame_mask[:, frames * self.config.tokens_per_frame % frame_mask.shape[1]]
        dtype = torch.promote_types(text_embeds.dtype, torch.float32)
        texts = nn.functional.normalize(text_embeds.to(dtype), dim=-1)
        videos = nn.functional.normalize(video_embeds.to(texts), dim=-1)
        return texts, videos, frame_mask.to(texts.device)

    def _videos(
        self, pixels: torch.Tensor | None, hidden_states: torch.Tensor | None, first_layer: int
    ) -> torch.Tensor:
        """Check that one of both inputs is given, and return it. Its first two axes are videos and frames."""
        if hidden_states is None:
            if pixels is None:
                raise ValueError("pixel_values_videos is missing")
            if pixels.ndim != 5:
                raise ValueError(
                    f"pixel_values_videos must have shape (videos, frames, channels, height, width), "
                    f"got {(*pixels.shape,)}"
                )
            if first_layer:
                raise ValueError(
                    f"first_vision_layer={first_layer} would skip layers for frames: it needs vision_hidden_states"
                )
            return pixels
        if pixels is not None:
            raise ValueError("pixel_values_videos and vision_hidden_states are given; expected one of them")
        if hidden_states.ndim != 4:
            raise ValueError(
                f"vision_hidden_states must have shape (videos, frames, tokens, width), got {(*hidden_states.shape,)}"
            )
        num_layers = self.config.vision_config.num_hidden_layers
        if not 0 <= first_layer <= num_layers:
            raise ValueError(f"first_vision_layer must lie from 0 to {num_layers}, got {first_layer}")
        return hidden_states

    @staticmethod
    def _frame_mask(video: torch.Tensor, padding_mask_videos: torch.Tensor | None) -> torch.Tensor | None:
        """Check the padding mask against the first two axes of `video`. Return it as a boolean on the same device."""
        if padding_mask_videos is None:
            return None
        if padding_mask_videos.shape != video.shape[:2]:
            raise ValueError(
                f"padding_mask_videos must have shape (videos, frames) = {(*video.shape[:2],)}, "
                f"got {(*padding_mask_videos.shape,)}"
            )
        return padding_mask_videos.to(video.device, torch.bool)


def contrastive_loss(logits_per_text: torch.Tensor) -> torch.Tensor:
    """Compute the symmetric cross-entropy of a square matrix with the pairs on its diagonal (paper, equation 9).

    Raises:
        ValueError: If the matrix is not square.
    """
    num_texts, num_videos = logits_per_text.shape
    if num_texts != num_videos:
        raise ValueError(
            f"the loss pairs text i with video i, but there are {num_texts} texts and {num_videos} videos"
        )
    pairs = torch.arange(num_texts, device=logits_per_text.device)
    text_to_video = nn.functional.cross_entropy(logits_per_text, pairs)
    video_to_text = nn.functional.cross_entropy(logits_per_text.t(), pairs)
    return (text_to_video + video_to_text) / 2


def check_is_clip(config: PreTrainedConfig, name: str) -> None:
    """Check that a model has CLIP's architecture, whatever its model type. No weights are needed.

    Args:
        config: The model's configuration.
        name: Name of the model for the error message.

    Raises:
        ValueError: If the vision or text transformer is not CLIP's, or the model has other parts.
    """
    is_a = f"{name!r} is a {config.model_type!r} model"
    if config.model_type == TS2NetConfig.model_type:  # it may have the tensors of a CLIP and compute something else
        raise ValueError(f"{is_a} already: load it with TS2NetModel.from_pretrained")
    expected = "expected a TS2-Net or a CLIP, such as openai/clip-vit-base-patch32 or a MetaCLIP 2"
    parts = [getattr(config, part, None) for part in ("text_config", "vision_config")]
    if not all(isinstance(part, PreTrainedConfig) for part in parts):
        raise ValueError(f"{is_a}; {expected}")
    with torch.device("meta"):
        names = set(AutoModel.from_config(config, trust_remote_code=False).state_dict())
    if "vision_model.embeddings.class_embedding" not in names:
        raise ValueError(f"{is_a}, whose frames have no [CLS] token, which a TS2-Net reads; {expected}")
    text, vision = (
        {name: value for name, value in part.to_dict().items() if name != "model_type"}
        for part in (config.text_config, config.vision_config)
    )
    with torch.device("meta"):
        clip = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=config.projection_dim))
    odd = sorted(set(clip.state_dict()) ^ names)
    if odd:
        part = odd[0].partition(".")[0]
        which = {"text_model": "text transformer is", "vision_model": "vision transformer is"}.get(part, "parts are")
        raise ValueError(f"{is_a}, whose {which} not CLIP's ({odd[0]!r}, for one); {expected}")


def _temporal_from_text(text_model: CLIPTextModel, config: TS2NetConfig) -> dict[str, torch.Tensor]:
    """Return the initial weights of the temporal encoder: layers and positions of CLIP's text transformer."""
    if not config.temporal_num_layers:
        return {}
    positions = text_model.embeddings.position_embedding.weight.detach()  # (77, D)
    needed = config.temporal_config.max_position_embeddings
    if needed > len(positions):
        as_signal = positions.t()[None].float()  # (1, D, 77)
        stretched = nn.functional.interpolate(as_signal, size=needed, mode="linear", align_corners=True)
        positions = stretched[0].t().to(positions.dtype)
    state = {"temporal_encoder.position_embedding.weight": positions[:needed] * config.temporal_position_scale}
    for index, layer in enumerate(text_model.encoder.layers[: config.temporal_num_layers]):
        state |= {f"temporal_encoder.layers.{index}.{name}": value for name, value in layer.state_dict().items()}
    return state


if __package__ == "ts2net":  # the installed package needs no trust_remote_code; a copy beside a checkpoint does
    AutoModel.register(TS2NetConfig, TS2NetModel, exist_ok=True)

__all__ = ["TS2NetModel", "TS2NetOutput", "TS2NetPreTrainedModel", "TS2NetTextOutput", "TS2NetVideoOutput"]
