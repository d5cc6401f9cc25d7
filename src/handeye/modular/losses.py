"""The losses of the modular network, as in the paper's section 2."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


def perception_loss(predicted: Tensor, theta: Tensor) -> Tensor:
    """L_p = 1/(2m) Σ ‖y(I) − Θ‖², both (m, 5)."""
    return 0.5 * (predicted - theta).square().sum(dim=1).mean()


def q_targets(reward: Tensor, discount: Tensor, next_values: Tensor) -> Tensor:
    """r + discount · max_a Q(Θ′, a): reward and discount (m,), next_values (m, actions)."""
    return reward + discount * next_values.max(dim=1).values


def q_loss(values: Tensor, action: Tensor, targets: Tensor) -> Tensor:
    """L_q = 1/(2m) Σ (Q(Θ, a) − target)²: values (m, actions), action (m,) int64, targets (m,) without gradient."""
    chosen = values.gather(1, action[:, None])[:, 0]
    return 0.5 * (chosen - targets).square().mean()


class _ChangedGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, value: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.change = change
        return value.view_as(value)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[no-untyped-def]
        return ctx.change(gradient), None


def scaled_gradient(value: Tensor, scale: float) -> Tensor:
    """`value`, whose gradient is multiplied by `scale` on its way back."""
    return _ChangedGradient.apply(value, lambda gradient: gradient * scale)


def bounded_gradient(value: Tensor, longest: float) -> Tensor:
    """`value` (N, D), whose gradient on its way back is shortened in each row to the length `longest` at most."""
    return _ChangedGradient.apply(
        value, lambda rows: rows * (longest / rows.norm(dim=1, keepdim=True).clamp_min(longest))
    )


def weighted_loss(
    seen_task: Tensor, seen_all: Tensor, theta_all: Tensor, control: nn.Module, action: Tensor, targets: Tensor,
    beta: float, sum_gradients: bool = False, task_bound: float = 0.0,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """One scalar whose gradients are those of the weighted fine-tuning.

    At the bottleneck δ_L = β δ_Lp + (1 − β) δ_LqBN; control receives the whole gradient of L_q and none of L_p.

    Args:
        seen_task: Θ̂ (m, 5) of the task's pictures.
        seen_all: Θ̂ (M, 5) of all pictures with labels, and theta_all (M, 5) their labels.
        control: Θ → Q-values.
        action: (m,) taken, and targets (m,) of their Q-values.
        beta: β ∈ [0, 1].
        sum_gradients: the ablation that divides both losses by the task's m instead of each by its own size.
        task_bound: ∂L_q/∂Θ̂ of one picture alone is shortened to this length at most; 0: as it is, as in the paper.

    Returns:
        (loss to differentiate, L_p, L_q).
    """
    through = scaled_gradient(seen_task, 1.0 - beta)
    if task_bound:
        through = bounded_gradient(through, task_bound / len(action))
    task = q_loss(control(through), action, targets)
    sight = perception_loss(seen_all, theta_all)
    if sum_gradients:
        sight = sight * (len(theta_all) / len(action))
    return beta * sight + task, sight, task
