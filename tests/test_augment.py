import numpy as np
import pytest
import torch

from handeye.augment import photometric


@pytest.fixture
def batch():
    return torch.as_tensor(np.random.default_rng(0).uniform(0.3, 0.7, (64, 1, 12, 12)).astype(np.float32))


def test_no_strength_changes_nothing(batch):
    torch.testing.assert_close(photometric(batch, np.random.default_rng(0), 0.0), batch)


def test_same_generator_same_pictures_and_the_input_is_kept(batch):
    before = batch.clone()
    first, again, other = (photometric(batch, np.random.default_rng(s)) for s in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(batch, before)


def test_each_picture_is_changed_on_its_own_within_the_stated_ranges(batch):
    changed = photometric(batch, np.random.default_rng(0))
    shift = (changed - batch).mean(dim=(1, 2, 3))
    contrast = changed.std(dim=(1, 2, 3)) / batch.std(dim=(1, 2, 3))
    assert shift.abs().max() < 0.11 and shift.std() > 0.03
    assert 0.73 < contrast.min() < 0.85 and 1.15 < contrast.max() < 1.28


def test_results_stay_between_0_and_1():
    extremes = torch.as_tensor(np.random.default_rng(0).integers(0, 2, (32, 1, 8, 8)).astype(np.float32))
    changed = photometric(extremes, np.random.default_rng(0))
    assert changed.min() >= 0 and changed.max() <= 1
