"""Distribution of the model over the processes of a run: a copy on each process, or sharded with FSDP 2.

The trainer uses one object for everything that depends on the distribution: [`WholeModel`] or [`ShardedModel`].
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils.constants import FSDP_MODEL_NAME
from safetensors.torch import load_file
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict, set_model_state_dict
from transformers.initialization import no_init_weights
from transformers.utils import SAFE_WEIGHTS_NAME

from ..hub.adapters import has_adapters, load_adapter_weights
from ..modeling_ts2net import TS2NetModel

# File names of Trainer's optimizer state: without and with FSDP.
OPTIMIZER_FILES = ("optimizer.pt", "optimizer.bin")


def sharding_of(accelerator: Accelerator) -> "WholeModel":
    """Return the object for the distribution that `accelerator` uses."""
    has_fsdp = getattr(accelerator.state, "fsdp_plugin", None) is not None
    return ShardedModel(accelerator) if has_fsdp else WholeModel(accelerator)


@contextmanager
def without_gradient_sync(model: Any) -> Iterator[None]:
    """Disable the reduction of a wrapped model's gradients over the processes inside the block."""
    if hasattr(model, "no_sync"):  # DistributedDataParallel
        with model.no_sync():
            yield
    elif hasattr(model, "set_requires_gradient_sync"):  # fully_shard
        model.set_requires_gradient_sync(False)
        try:
            yield
        finally:
            model.set_requires_gradient_sync(True)
    else:
        yield


class WholeModel:
    """A copy of the whole model on each process: a single process, or several with `DistributedDataParallel`.

    Args:
        accelerator: The accelerator of the run.
    """

    def __init__(self, accelerator: Accelerator) -> None:
        self.accelerator = accelerator

    def prepare(self, model: TS2NetModel) -> None:
        """Change a model before Trainer wraps it, if the wrapping requires it.

        Raises:
            ValueError: If the model can't be distributed as configured.
        """

    def unwrapped(self, model: nn.Module) -> TS2NetModel:
        """Return the TS2-Net without wrappers. Its weights may be shards."""
        return self.accelerator.unwrap_model(model, keep_torch_compile=False)

    def whole_model(self, model: nn.Module) -> TS2NetModel:
        """Return the TS2-Net with whole weights, on its device. All processes must call it."""
        return self.unwrapped(model)

    def model_to_save(self, model: nn.Module) -> TS2NetModel:
        """Return the TS2-Net to save, with whole weights on the main process only. All processes must call it."""
        return self.unwrapped(model)

    def load_weights(self, model: nn.Module, checkpoint: Path) -> None:
        """Load a checkpoint's weights. All processes must call it.

        Raises:
            ValueError: If the weights don't fit the model.
        """
        unwrapped = self.unwrapped(model)
        if has_adapters(unwrapped):
            load_adapter_weights(unwrapped, checkpoint)
            return
        weights = load_file(checkpoint / SAFE_WEIGHTS_NAME)
        _check_shapes(weights, unwrapped, checkpoint)
        unwrapped.load_state_dict(weights)

    def gradient_norm(self, norm: torch.Tensor | float) -> float:
        """Return the value of the gradient norm that accelerate has computed."""
        return float(norm)

    def remove_copies(self, checkpoint: Path) -> None:
        """Delete redundant copies of the weights that Trainer has written into a checkpoint."""

    def check_checkpoint(self, checkpoint: Path) -> None:
        """Check that a checkpoint's optimizer state was written with the same distribution of the model.

        Raises:
            ValueError: If the distribution was different.
        """
        if not (checkpoint / OPTIMIZER_FILES[0]).exists():
            raise ValueError(
                f"{checkpoint} was written with FSDP and this run is without it, so it can't resume from it"
            )


class ShardedModel(WholeModel):
    """FSDP 2: each process has a shard of each weight, of its gradient and of its optimizer state."""

    def prepare(self, model: TS2NetModel) -> None:
        """Prepare the weights for sharding, and make Trainer gather whole weights for its checkpoints."""
        if has_adapters(model):
            raise ValueError(
                "adapters can't be trained with FSDP: they take little memory, so train them in several processes "
                "without it"
            )
        plugin = self.accelerator.state.fsdp_plugin
        if plugin.fsdp_version != 2:
            raise ValueError(f"FSDP version {plugin.fsdp_version} can't be used: give version 2")
        # A sharded checkpoint could not be loaded as a model, and the list of its shards is a pickle.
        plugin.set_state_dict_type("FULL_STATE_DICT")
        if plugin.transformer_cls_names_to_wrap is None:
            # All transformer layers are of this class. The default, the model's `_no_split_modules`, includes the text
            # embeddings, which accelerate already wraps itself.
            plugin.transformer_cls_names_to_wrap = ["CLIPEncoderLayer"]
        # `fully_shard` does not support scalars. `_model_of` restores the scalar.
        scale = model.logit_scale
        model.logit_scale = nn.Parameter(scale.detach().reshape(1), requires_grad=scale.requires_grad)

    def whole_model(self, model: nn.Module) -> TS2NetModel:
        """Return a copy with whole weights, gathered from the shards, on this process's device."""
        weights = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True))
        return self._model_of(model, weights).to(self.accelerator.device)

    def model_to_save(self, model: nn.Module) -> TS2NetModel:
        """Return a copy with whole weights on the CPU. Only the main process gets whole weights."""
        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        weights = get_model_state_dict(model, options=options)
        return self._model_of(model, weights) if weights else self.unwrapped(model)

    def _model_of(self, model: nn.Module, weights: Mapping[str, Any]) -> TS2NetModel:
        """Create a model that uses the given tensors as its weights. Their `logit_scale` has the shape `(1,)`."""
        # Not on the meta device, where buffers that are not in `weights` would stay. The run's random state is kept.
        with no_init_weights(), torch.random.fork_rng(devices=[]):
            whole = TS2NetModel(self.unwrapped(model).config)
        scalar = {"logit_scale": weights["logit_scale"].reshape(())}
        whole.load_state_dict({**weights, **scalar}, assign=True)
        return whole.eval()

    def load_weights(self, model: nn.Module, checkpoint: Path) -> None:
        """Read a checkpoint's weights on the main process, and send each process its shards."""
        weights: dict[str, Any] = {}
        if self.accelerator.is_main_process:
            weights = load_file(checkpoint / SAFE_WEIGHTS_NAME)
            weights["logit_scale"] = weights["logit_scale"].reshape(1)
            _check_shapes(weights, self.unwrapped(model), checkpoint)
        options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)
        set_model_state_dict(model, weights, options=options)

    def gradient_norm(self, norm: Any) -> float:
        """Return the value of the gradient norm, which is distributed over the processes."""
        return float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)

    def remove_copies(self, checkpoint: Path) -> None:
        """Delete the second copy of the weights, which Trainer writes as a pickle."""
        if self.accelerator.is_main_process:
            (checkpoint / f"{FSDP_MODEL_NAME}.bin").unlink(missing_ok=True)

    def check_checkpoint(self, checkpoint: Path) -> None:
        """Check that a checkpoint was written with FSDP."""
        if not (checkpoint / OPTIMIZER_FILES[1]).exists():
            raise ValueError(
                f"{checkpoint} was written without FSDP and this run is with it, so it can't resume from it"
            )


def _check_shapes(weights: Mapping[str, torch.Tensor], model: nn.Module, checkpoint: Path) -> None:
    """Raise an error that names the first weight that differs. PyTorch's error would list hundreds."""
    expected = {name: tuple(weight.shape) for name, weight in model.state_dict().items()}
    actual = {name: tuple(weight.shape) for name, weight in weights.items()}
    for name in sorted(expected.keys() | actual.keys()):
        if actual.get(name) != expected.get(name):
            raise ValueError(
                f"{checkpoint} has weights of another model: {name} has the shape {actual.get(name, 'none')}, "
                f"expected {expected.get(name, 'none')}"
            )
