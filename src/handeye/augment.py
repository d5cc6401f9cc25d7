"""Augmentation: pure functions of a batch, different for each sample, drawn from the generator given."""

import numpy as np
import torch
from torch import Tensor


def photometric(pictures: Tensor, rng: np.random.Generator, strength: float = 1.0) -> Tensor:
    """Brightness ±0.1, contrast 0.75 … 1.25 about the mean, and noise σ ≤ 0.02, each scaled by `strength`.

    Args:
        pictures: (N, C, H, W) in [0, 1].

    Returns:
        A new tensor of the same shape, clipped to [0, 1].
    """
    count = len(pictures)

    def each(low: float, high: float) -> Tensor:
        drawn = rng.uniform(low, high, (count, 1, 1, 1)).astype(np.float32)
        return torch.as_tensor(drawn, device=pictures.device)

    mean = pictures.mean(dim=(1, 2, 3), keepdim=True)
    contrast = 1 + strength * each(-0.25, 0.25)
    noise = torch.as_tensor(rng.standard_normal(pictures.shape, np.float32), device=pictures.device)
    changed = (pictures - mean) * contrast + mean + strength * (each(-0.1, 0.1) + each(0, 0.02) * noise)
    return changed.clamp_(0, 1)
