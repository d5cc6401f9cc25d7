"""What every network here needs: pictures to floats, averages, threads and seeds."""

import ctypes
import hashlib
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


def to_float(picture: NDArray[np.uint8] | Tensor, device: torch.device | str = "cpu") -> Tensor:
    """Pictures (N, H, W, C) uint8 → (N, C, H, W) float32 in [0, 1], channels last in memory."""
    return _channels_first(picture, torch.float32, device).div_(255.0)


def centred(picture: NDArray[np.uint8] | Tensor, device: torch.device | str = "cpu") -> Tensor:
    """Pictures (N, H, W, C) uint8 → (N, C, H, W) in [−½, ½], channels last in memory, in the precision in which
    `low_precision` multiplies: that of float32 rounded once, for a third of the bytes moved."""
    # Shades are whole and few enough for bf16 to hold them, halves included.
    return _channels_first(picture, multiplied_in(device), device).sub_(127.5).div_(255.0)


def _channels_first(picture: NDArray[np.uint8] | Tensor, kind: torch.dtype, device: torch.device | str) -> Tensor:
    tensor = torch.as_tensor(picture, device=device).permute(0, 3, 1, 2)
    return tensor.to(kind, memory_format=torch.channels_last)


def average_into(average: nn.Module, network: nn.Module, rate: float) -> None:
    """θ̄ ← θ̄ + rate · (θ − θ̄) for every parameter and floating-point buffer; other buffers are copied."""
    with torch.no_grad():
        for ours, theirs in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
            if ours.is_floating_point():
                ours.lerp_(theirs, rate)
            else:
                ours.copy_(theirs)


def parameter_count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def device_of(network: Any) -> torch.device:
    """Where a network's parameters are; the processor for one that has none."""
    parameters = network.parameters() if isinstance(network, nn.Module) else iter(())
    return next((parameter.device for parameter in parameters), torch.device("cpu"))


def weights_of(part: str, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a part of a network, by the names that the part calls them."""
    return {name.removeprefix(f"{part}."): value for name, value in weights.items() if name.startswith(f"{part}.")}


def weights_digest(*modules: nn.Module | None) -> str:
    """A short name for the weights of networks: the same weights, the same name."""
    hasher = hashlib.blake2b(digest_size=8)
    for module in modules:
        for name, value in module.state_dict().items() if module is not None else ():
            hasher.update(name.encode() + value.numpy().tobytes())
    return hasher.hexdigest()


@contextmanager
def low_precision(device: torch.device | str = "cpu") -> Iterator[None]:
    """Multiply in `multiplied_in(device)`."""
    with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=multiplied_in(device) == torch.bfloat16):
        yield


def multiplied_in(device: torch.device | str = "cpu") -> torch.dtype:
    """The precision in which networks multiply: bf16 on a GPU and where it makes the processor faster, else float32.

    Of each processor always the same, or a run would not go on as it began.
    """
    return torch.bfloat16 if torch.device(device).type == "cuda" or _fast_in_bf16() else torch.float32


def _fast_in_bf16() -> bool:
    """Whether the processor has AMX, or AVX-512's instructions for bf16 and they are not Intel's.

    Where AMX is off, those of a Xeon that would have it take twice as long as float32's. Such a processor multiplies
    half precision as well, which AMD's do not.
    """
    if torch.cpu._is_amx_tile_supported():
        return True
    # An older torch does not tell.
    told: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return torch.cpu._is_avx512_bf16_supported() and not told.get("avx512_fp16", False)


M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8
"""Parameters of glibc's mallopt."""


def keep_freed_memory() -> None:
    """Let this process keep the memory that it frees; where the C library is not glibc, nothing changes.

    An update allocates the same large blocks as the one before. Given back in between, every page of them is
    faulted in anew, which takes a fifth of the update's time. Memory that a thread has for itself would be given back
    all the same.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        libc.mallopt(M_ARENA_MAX, 1)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Initialise networks inside reproducibly, without touching the global generator outside."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
