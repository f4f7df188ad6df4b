"""Optimizer, schedule and weight decay of the released code, to reproduce results that may depend on them.

They differ from AdamW with a cosine schedule in four ways: the moments have no bias correction; the gradient of each
parameter is clipped separately, after the total gradient; the cosine starts at step 0, so that after the warm-up the
rate continues below the peak; and weight decay applies to everything except biases.
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
    """Adam without bias correction, with decoupled weight decay, as in the original BERT code.

    A step is `p -= lr * (m / (sqrt(v) + eps) + weight_decay * p)`, with the moments of the clipped gradient.

    Args:
        params: Parameters or parameter groups.
        lr: Learning rate, which a schedule can change.
        betas: Decay rates of the two moments.
        eps: Added to the square root of the second moment.
        weight_decay: Coefficient of the weight decay, which is multiplied by the learning rate.
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
            closure: Recomputes the loss and its gradients.
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
    """Set a schedule to a linear warm-up and then `(1 + cos(pi x)) / 2`, where `x` is the fraction of the whole run.

    Args:
        schedule: A schedule before its first step, with the same warm-up.
        num_warmup_steps: Number of warm-up steps.
        num_training_steps: Number of steps of the run.
    """

    def factor(step: int) -> float:
        if step < num_warmup_steps:
            return step / num_warmup_steps
        return (1 + math.cos(math.pi * step / num_training_steps)) / 2

    schedule.lr_lambdas = [factor] * len(schedule.lr_lambdas)


def released_decay(model: nn.Module) -> list[str]:
    """Return the names of the parameters with weight decay: all except biases."""
    return [name for name, _ in model.named_parameters() if "bias" not in name]
