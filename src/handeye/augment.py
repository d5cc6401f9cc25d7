"""Augmentation: pure functions of a batch, different for each sample, drawn from the generator given."""

import numpy as np
import torch
from numpy.typing import NDArray
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


def paired(
    first: NDArray[np.uint8], second: NDArray[np.uint8], rng: np.random.Generator, shift_px: int, strength: float
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Both pictures (N, H, W, C) of each of N pairs, changed in the same way.

    They are moved by up to `shift_px` either way, edges repeated; brightness ±0.125, contrast and saturation 0.5 … 1.5,
    each scaled by `strength`: the paper's are 1.
    """
    count, (height, width) = len(first), first.shape[1:3]
    down, right = rng.integers(-shift_px, shift_px + 1, (2, count))
    rows = np.clip(np.arange(height) + down[:, None], 0, height - 1)[:, :, None]
    columns = np.clip(np.arange(width) + right[:, None], 0, width - 1)[:, None, :]
    each = np.arange(count)[:, None, None]
    change = rng.uniform(-1, 1, (3, count, 1, 1, 1)).astype(np.float32) * strength
    moved = (pictures[each, rows, columns] if shift_px else pictures for pictures in (first, second))
    if not strength:
        one, other = moved
        return one, other
    one, other = (
        _coloured(pictures, 255 * 0.125 * change[0], 1 + 0.5 * change[1], 1 + 0.5 * change[2]) for pictures in moved
    )
    return one, other


def _coloured(
    pictures: NDArray[np.uint8], brightness: NDArray, contrast: NDArray, saturation: NDArray
) -> NDArray[np.uint8]:
    grey = pictures.astype(np.float32)
    mean = grey.mean((1, 2), keepdims=True).mean(-1, keepdims=True)
    own = grey.mean(-1, keepdims=True)
    # Colour about its own grey, grey about the mean of the picture.
    changed = (grey - own) * saturation * contrast + (own - mean) * contrast + mean + brightness
    return np.clip(changed + 0.5, 0, 255).astype(np.uint8)
