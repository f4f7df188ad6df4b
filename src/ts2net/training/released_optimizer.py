"""The optimizer, the schedule and the weight decay of the released code, for figures that may depend on them.

They differ from AdamW with a cosine in four ways: moments are not corrected for their start at 0; the gradient of each
parameter is clipped by itself, after the gradient as a whole; the cosine counts from the start of the run, so it goes
on from below the peak after the warm-up; and everything but biases decays.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

_MAX_NORM = 1.0  # of each parameter's gradient


class BertAdam(Optimizer):
    """Adam without bias correction, with decoupled weight decay, as in BERT's first code.

    A step is `p -= lr * (m / (sqrt(v) + eps) + weight_decay * p)`, of moments of the clipped gradient.

    Args:
        params: Parameters or groups of them.
        lr: Learning rate, which a schedule changes.
        betas: Decay rates of the two moments.
        eps: Added to the root of the second moment.
        weight_decay: Share of a parameter that is taken off, times the learning rate.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.98),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take a step.

        Args:
            closure: Computes the loss anew, with its gradients.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
                nn.utils.clip_grad_norm_(parameter, _MAX_NORM)
                mean, square = state["exp_avg"], state["exp_avg_sq"]
                mean.mul_(beta1).add_(parameter.grad, alpha=1 - beta1)
                square.mul_(beta2).addcmul_(parameter.grad, parameter.grad, value=1 - beta2)
                update = mean / (square.sqrt() + group["eps"]) + group["weight_decay"] * parameter
                parameter.sub_(update * group["lr"])
        return loss


def follow_released_schedule(schedule: LambdaLR, num_warmup_steps: int, num_training_steps: int) -> None:
    """Have a new schedule warm up linearly, then follow `(1 + cos(pi x)) / 2` with `x` the share of the whole run.

    Args:
        schedule: A schedule before its first step, with the same warm-up.
        num_warmup_steps: Steps of the warm-up.
        num_training_steps: Steps of the run.
    """

    def factor(step: int) -> float:
        if step < num_warmup_steps:
            return step / num_warmup_steps
        return (1 + math.cos(math.pi * step / num_training_steps)) / 2

    schedule.lr_lambdas = [factor] * len(schedule.lr_lambdas)


def released_decay(model: nn.Module) -> list[str]:
    """Names of the parameters that decay: all but biases."""
    return [name for name, _ in model.named_parameters() if "bias" not in name]
