"""The optimizer and the schedule of the released code, step by step against its formulas."""

import math
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from support.processes import run_in_processes
from support.streamed_data import stream
from support.tiny_models import tiny_model, tiny_processor
from support.training_run import tiny_arguments, training_rows
from ts2net.training import TS2NetTrainer
from ts2net.training.released_optimizer import BertAdam, released_decay


def test_a_step_is_that_of_the_formula():
    generator = torch.Generator().manual_seed(0)
    weights = [torch.randn(3, 2, generator=generator), torch.randn(4, generator=generator)]
    parameters = [torch.nn.Parameter(weight.clone()) for weight in weights]
    optimizer = BertAdam(parameters, lr=0.1, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.2)
    moments = [(torch.zeros_like(weight), torch.zeros_like(weight)) for weight in weights]
    for _ in range(4):
        for number, parameter in enumerate(parameters):
            gradient = torch.randn(weights[number].shape, generator=generator) * (5 if number else 0.1)
            parameter.grad = gradient.clone()
            clipped = gradient * min(1.0, 1 / (float(gradient.norm()) + 1e-6))  # each parameter by its own norm
            mean, square = moments[number]
            mean, square = 0.9 * mean + 0.1 * clipped, 0.98 * square + 0.02 * clipped**2
            moments[number] = mean, square
            weights[number] = weights[number] - 0.1 * (mean / (square.sqrt() + 1e-6) + 0.2 * weights[number])
        optimizer.step()
        for parameter, weight in zip(parameters, weights, strict=True):
            torch.testing.assert_close(parameter.detach(), weight)


@pytest.mark.slow
def test_a_run_warms_up_and_goes_on_below_the_peak(tmp_path: Path):
    args = tiny_arguments(tmp_path, released_optimizer=True, warmup_steps=2, max_steps=5)
    trainer = TS2NetTrainer(tiny_model(), args, stream(training_rows()), processing_class=tiny_processor())
    trainer.train()
    assert isinstance(trainer.optimizer.optimizer, BertAdam)
    rates = [entry["learning_rate"] for entry in trainer.state.log_history if "learning_rate" in entry]
    after_each_step = [1 / 2, *((1 + math.cos(math.pi * step / 5)) / 2 for step in (2, 3, 4, 5))]
    before_each_step = [0, *after_each_step[:-1]]
    assert rates == pytest.approx([args.learning_rate * factor for factor in before_each_step])


def test_norms_and_the_logit_scale_decay_and_biases_do_not():
    decayed = set(released_decay(tiny_model()))
    assert {"logit_scale", "vision_model.pre_layrnorm.weight", "text_model.final_layer_norm.weight"} <= decayed
    assert not [name for name in decayed if name.endswith("bias")]


def test_another_optimizer_or_schedule_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="released_optimizer decides .* but lr_scheduler_type=linear is given"):
        tiny_arguments(tmp_path, released_optimizer=True, lr_scheduler_type="linear")
    with pytest.raises(ValueError, match="but optim=sgd is given"):
        tiny_arguments(tmp_path, released_optimizer=True, optim="sgd")


def two_layers() -> nn.Sequential:
    """Layers whose bias of 3 elements can't be split evenly over 2 processes."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 3), nn.Linear(3, 4))


def four_steps(layers: nn.Sequential) -> dict[str, torch.Tensor]:
    """The weights after four steps whose loss scales make gradient norms lie above and below the limit."""
    optimizer = BertAdam(layers.parameters(), lr=0.1, weight_decay=0.2)
    generator = torch.Generator().manual_seed(1)
    for scale in (100.0, 0.001, 10.0, 1.0):
        optimizer.zero_grad()
        (scale * layers(torch.randn(6, 5, generator=generator)).square().mean()).backward()
        optimizer.step()
    return layers.state_dict()


def shard_and_step() -> dict[str, torch.Tensor]:
    layers = two_layers()
    mesh = init_device_mesh("cpu", (2,))
    for layer in layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(layers, mesh=mesh)
    weights = four_steps(layers)
    assert all(isinstance(weight, DTensor) for weight in weights.values())
    return {name: weight.full_tensor() for name, weight in weights.items()}


@pytest.mark.spread
def test_sharded_parameters_are_clipped_by_the_norm_of_the_whole(tmp_path: Path):
    expected = four_steps(two_layers())
    for actual in run_in_processes(shard_and_step, 2, tmp_path):
        for name, weight in expected.items():
            torch.testing.assert_close(actual[name], weight, rtol=1e-5, atol=1e-6, msg=name)
