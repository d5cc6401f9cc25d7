import platform
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from handeye import bench
from handeye.nn import average_into, centred, low_precision, parameter_count, seeded, to_float


def test_pictures_become_floats_between_0_and_1_with_channels_first():
    pictures = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4, 1)
    tensor = to_float(pictures)
    assert tensor.shape == (2, 1, 3, 4) and tensor.dtype == torch.float32
    np.testing.assert_allclose(tensor[1, 0].numpy(), pictures[1, ..., 0] / 255, rtol=1e-6)
    assert to_float(np.full((1, 1, 1, 1), 255, np.uint8)).item() == 1.0


PROCESSORS = {
    "old": ((False, False, False), torch.float32),
    "Zen 4": ((False, True, False), torch.bfloat16),
    "Xeon": ((True, True, True), torch.bfloat16),
    "Xeon with AMX off": ((False, True, True), torch.float32),
}
"""Whether there are instructions: AMX, AVX-512's for bf16 and for half precision; in what networks should multiply."""


@pytest.fixture(params=PROCESSORS.values(), ids=PROCESSORS)
def native(request, monkeypatch):
    """What networks multiply in."""
    (amx, bf16, fp16), expected = request.param
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: bf16)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_fp16": fp16})
    return expected


def test_floors_are_of_the_precision_in_which_networks_multiply(native, monkeypatch):
    monkeypatch.setattr(bench, "seconds", lambda work, at_least_s=2.0: (work(), 0.5)[1])
    kind = "bf16" if native == torch.bfloat16 else "float32"
    assert bench.Peak.of_networks() == (2 * 1024**3 / 0.5, kind)
    row = bench.perception_act()
    assert row["note"] == f"floor: {kind} peak" and row["value"] == 64 / 0.5


def test_pictures_are_centred_as_float32_rounded_once_would_be(native):
    shades = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    tensor = centred(shades)
    assert tensor.is_contiguous(memory_format=torch.channels_last) and tensor.shape == (1, 1, 16, 16)
    with low_precision():
        assert native == tensor.dtype == (torch.ones(1, 1) @ torch.ones(1, 1)).dtype
    exact = torch.arange(256).reshape(1, 1, 16, 16) / 255 - 0.5
    rounding = 0 if native == torch.bfloat16 else 1e-7
    torch.testing.assert_close(tensor, exact.to(tensor.dtype), rtol=0, atol=rounding)


def test_averages_move_by_their_rate_and_counters_are_copied():
    average, network = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    with torch.no_grad():
        average.weight.fill_(1.0)
        network.weight.fill_(3.0)
        network.running_mean.fill_(4.0)
        network.num_batches_tracked.fill_(7)
    average_into(average, network, 0.25)
    assert average.weight.tolist() == [1.5, 1.5]
    assert average.running_mean.tolist() == [1.0, 1.0]
    assert average.num_batches_tracked == 7
    assert network.weight.tolist() == [3.0, 3.0]
    average_into(average, network, 1.0)
    assert torch.equal(average.weight, network.weight)


def test_seeded_is_repeatable_and_leaves_the_global_generator_alone():
    before = torch.random.get_rng_state()
    with seeded(4):
        first = nn.Linear(3, 3).weight
    with seeded(4):
        again = nn.Linear(3, 3).weight
    assert torch.equal(first, again)
    assert torch.equal(before, torch.random.get_rng_state())


def test_parameter_count():
    assert parameter_count(nn.Linear(3, 4)) == 16


FAULTS = """
import resource
from concurrent.futures import ThreadPoolExecutor
import torch
from handeye.nn import keep_freed_memory

def faults_after_a_larger_block():
    torch.empty(2**26, dtype=torch.uint8).fill_(1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.empty(2**25, dtype=torch.uint8).fill_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

before = faults_after_a_larger_block()
keep_freed_memory()
with ThreadPoolExecutor(1) as pool:
    print(before, faults_after_a_larger_block(), pool.submit(faults_after_a_larger_block).result())
"""


def test_freed_memory_is_kept_and_not_faulted_in_anew():
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    before, after, in_a_thread = (int(count) for count in done.stdout.split())
    # 32 MiB are 8,192 pages, or 16 huge ones; other C libraries do as they please.
    if platform.libc_ver()[0] == "glibc":
        assert max(after, in_a_thread) < before / 10
    else:
        assert after <= before
