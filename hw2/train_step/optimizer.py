"""PyTorch's optimizer for an update rule, and its state as tensors by name."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from hw2.train_step.options import UpdateRule

# The first word of a tensor's name in a state, and PyTorch's own name for it.
_SGD_STATE = {"momentum": "momentum_buffer"}
_ADAMW_STATE = {name: name for name in ("exp_avg", "exp_avg_sq", "step")}
_PREFIXES = tuple(f"{name}." for name in (*_SGD_STATE, *_ADAMW_STATE))


def new_optimizer(rule: UpdateRule, parameters: list[nn.Parameter], lr: float) -> torch.optim.Optimizer:
    """Create the optimizer of a rule; AdamW with PyTorch's betas, 0.9 and 0.999."""
    if rule.optimizer == "adamw":
        return torch.optim.AdamW(parameters, lr=lr, weight_decay=rule.weight_decay, fused=True)
    return torch.optim.SGD(
        parameters,
        lr=lr,
        momentum=rule.momentum,
        nesterov=rule.nesterov,
        weight_decay=rule.weight_decay,
        fused=True,
    )


def state_names(rule: UpdateRule) -> Mapping[str, str]:
    """What the optimizer of a rule keeps of each parameter: our name for it, and PyTorch's."""
    if rule.optimizer == "adamw":
        return _ADAMW_STATE
    return _SGD_STATE if rule.momentum else {}


def net_weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a step's state without what is the optimizer's."""
    return {name: tensor for name, tensor in state.items() if not name.startswith(_PREFIXES)}


def read_optimizer_state(
    optimizer: torch.optim.Optimizer, rule: UpdateRule, parameters: Iterable[tuple[str, nn.Parameter]]
) -> dict[str, Tensor]:
    """Return the optimizer's own tensors as `momentum.<name>` and the like; zeros before the first step."""
    state = {}
    for name, parameter in parameters:
        for ours, theirs in state_names(rule).items():
            value = optimizer.state[parameter].get(theirs)
            missing = torch.zeros(()) if theirs == "step" else torch.zeros_like(parameter)
            state[f"{ours}.{name}"] = missing if value is None else value
    return state


def restore_optimizer_state(
    optimizer: torch.optim.Optimizer,
    rule: UpdateRule,
    parameters: Iterable[tuple[str, nn.Parameter]],
    state: Mapping[str, Tensor],
) -> None:
    """Set the optimizer's own tensors to those of a `read_optimizer_state`, in each parameter's memory layout."""
    for name, parameter in parameters:
        for ours, theirs in state_names(rule).items():
            value = state[f"{ours}.{name}"]
            like = torch.empty((), device=parameter.device) if theirs == "step" else parameter
            optimizer.state[parameter][theirs] = torch.empty_like(like).copy_(value)
