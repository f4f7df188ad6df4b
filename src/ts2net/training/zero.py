"""DeepSpeed's ZeRO: which of its settings go, whole weights out of the shards and into them, the optimiser's state.

Notable here:
- ZeRO keeps each weight twice: as the model computes with it, and in float32 as the optimiser changes it, the latter
  spread over the processes. What is read is the second; what is set has to be set in both, or the next step undoes it.
- DeepSpeed's own checkpoints are pickles that may run code when they are loaded. Here the weights are the safetensors
  of the checkpoint, and the optimiser's state is a file of each process that holds tensors and numbers only.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

_STATE = "zero_optimizer_{}.pt"
STATE_FILES = _STATE.format("*")
STATE_OF_FIRST = _STATE.format(0)

# A setting, the values of it that go (beside its absence), and why others do not.
_SETTINGS: list[tuple[str, tuple[Any, ...], str]] = [
    ("optimizer", (), "it has one learning rate for all parameters; optim and its options say which it is"),
    ("scheduler", (), "it gives all parameters one learning rate; lr_scheduler_type says which it is"),
    (
        "gradient_accumulation_steps",
        (1,),
        "small batches have fewer negatives; to fit a large one into memory give gradient_cache_chunk_size",
    ),
    ("zero_optimization.compute_grad_norm", (True,), "the gradient could not be checked before the step"),
    ("bf16.check_grad_overflow", (True,), "the gradient could not be checked before the step"),
    ("zero_optimization.offload_optimizer.device", ("none", "cpu"), "a checkpoint would lack what is kept there"),
    ("zero_optimization.offload_optimizer.ratio", (1,), "a checkpoint would lack what is kept on the device"),
    ("zero_optimization.offload_optimizer.super_offload", (False,), "a checkpoint would lack what is kept elsewhere"),
    ("zero_optimization.round_robin_gradients", (False,), "DeepSpeed doesn't find its float32 weights again with it"),
    ("torch_autocast.dtype", ("bfloat16", "bf16", "torch.bfloat16"), "scaled gradients would be clipped"),
    ("zero_optimization.zenflow", (), "it puts off a part of each step"),
    ("tensor_parallel.autotp_size", (0, 1), "the model can't be split so"),
]


def check_config(config: Mapping[str, Any]) -> None:
    """Look at a configuration of DeepSpeed in which `"auto"` has been filled in.

    Raises:
        ValueError: If a setting of it would train something else, or could not be checked or saved.
    """
    stage = _setting(config, "zero_optimization.stage")
    if stage not in (1, 2, 3):
        raise ValueError(f"DeepSpeed's zero_optimization.stage must be 1, 2 or 3, got {stage}: 0 spreads nothing")
    for name, allowed, reason in _SETTINGS:
        value = _setting(config, name)
        if value is not None and value not in allowed:
            raise ValueError(f"DeepSpeed's {name}={value} can't be used: {reason}")
    accumulates_in = _setting(config, "data_types.grad_accum_dtype")
    if stage == 1 and _setting(config, "bf16.enabled") and accumulates_in not in (None, "bf16", "bfloat16"):
        raise ValueError(
            f"DeepSpeed's data_types.grad_accum_dtype={accumulates_in} can't be used with bf16 in stage 1, where "
            f"the optimiser is another, which takes no chunks: give zero_optimization.stage=2"
        )


def _setting(config: Mapping[str, Any], name: str) -> Any:
    value: Any = config
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def load_models_whole() -> None:
    """Have models loaded as they are without DeepSpeed; its engine spreads them all the same.

    A setting of stage 3 has transformers spread every model that it makes from now on while it makes it. A TS2-Net is
    put together from other models, and one that is loaded by the main process alone would wait for the others.
    """
    unset_hf_deepspeed_config()


def is_engine(model: Any) -> bool:
    """Whether DeepSpeed runs a model."""
    return any(kind.__name__ == "DeepSpeedEngine" for kind in type(model).__mro__)


def whole_weight(parameter: nn.Parameter) -> torch.Tensor:
    """A copy of a weight as the optimiser has it, complete on every process, which all have to ask for it."""
    from deepspeed.runtime.zero import GatheredParameters
    from deepspeed.utils import safe_get_full_fp32_param

    weight = safe_get_full_fp32_param(parameter)
    if weight is not None:
        return weight
    with GatheredParameters([parameter]):  # it isn't trained, or not yet
        return parameter.detach().clone()


def whole_weights(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """[`whole_weight`] of all of a model's parameters by their names. Every process has to go through to the end."""
    for name, parameter in model.named_parameters():
        yield name, whole_weight(parameter)


@torch.no_grad()
def set_weight(parameter: nn.Parameter, weight: torch.Tensor) -> None:
    """Change a weight for good. Every process has to call it, with the same and whole `weight`."""
    from deepspeed.runtime.zero import GatheredParameters
    from deepspeed.utils import safe_set_full_fp32_param, safe_set_local_fp32_param

    weight = weight.to(parameter.device)
    with GatheredParameters([parameter], modifier_rank=0):
        parameter.copy_(weight)
    if not parameter.requires_grad:
        return
    weight = weight.float()
    if hasattr(parameter, "ds_tensor"):  # stage 3, for which DeepSpeed itself sets only what divides evenly
        size = parameter.ds_tensor.numel()
        padded = nn.functional.pad(weight.flatten(), (0, size * dist.get_world_size() - weight.numel()))
        safe_set_local_fp32_param(parameter, padded[dist.get_rank() * size :][:size])
    else:
        safe_set_full_fp32_param(parameter, weight)


def load_weights(model: nn.Module, weights: Mapping[str, torch.Tensor]) -> None:
    """[`set_weight`] for all of a model's parameters."""
    for name, parameter in model.named_parameters():
        set_weight(parameter, weights[name])


def save_optimizer(engine: Any, checkpoint: Path) -> None:
    """Write this process's part of the optimiser's state into a checkpoint."""
    with _filled_optimizer(engine) as optimizer:
        state = {
            "layout": _layout(engine, optimizer),
            "optimizer": optimizer.state_dict(),
            "loss_scaler": dict(_loss_scaler(engine)),
        }
    torch.save(state, checkpoint / _STATE.format(dist.get_rank()))


def load_optimizer(engine: Any, checkpoint: Path) -> None:
    """Go on with this process's part of the optimiser's state.

    Raises:
        ValueError: If it was written with settings that spread the weights in another way.
    """
    state = torch.load(checkpoint / _STATE.format(dist.get_rank()), map_location="cpu", weights_only=True)
    with _filled_optimizer(engine) as optimizer:
        for name, value in _layout(engine, optimizer).items():
            if state["layout"][name] != value:
                raise ValueError(
                    f"{checkpoint} was written with {name}={state['layout'][name]} and this run has {name}={value}, "
                    f"so DeepSpeed can't go on with its part of the optimiser's state"
                )
        optimizer.load_state_dict(state["optimizer"])
    scaler = _loss_scaler(engine)
    if scaler.keys() == state["loss_scaler"].keys():  # not so if the precision is another
        scaler.update(state["loss_scaler"])


def num_parts(checkpoint: Path) -> int:
    """Of how many processes a checkpoint has a part of the optimiser's state; 0 if it is not DeepSpeed's."""
    return len(list(checkpoint.glob(STATE_FILES)))


@contextmanager
def _filled_optimizer(engine: Any) -> Iterator[torch.optim.Optimizer]:
    """The optimiser inside ZeRO's, with its parameters, which stage 3 takes away from it between steps."""
    zero = engine.optimizer
    if not engine.zero_optimization_partition_weights():
        yield zero.optimizer
        return
    zero._set_fp32_optimizer_param_groups()
    try:
        yield zero.optimizer
    finally:
        zero._clear_fp32_optimizer_param_groups()


def _layout(engine: Any, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """What the place of a weight in the optimiser's state depends on."""
    return {
        "stage": int(engine.zero_optimization_stage()),
        "parameter_alignment": engine.zero_parameter_alignment(),
        "sizes": [[part.numel() for part in group["params"]] for group in optimizer.param_groups],
    }


def _loss_scaler(engine: Any) -> dict[str, Any]:
    """The state of what scales losses for fp16, as it is: to change it is to change the scaler."""
    return vars(getattr(engine.optimizer, "loss_scaler", SimpleNamespace()))
