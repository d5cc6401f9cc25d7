import numpy as np
from numpy.testing import assert_allclose

from handeye.rearranging import resampled
from handeye.squares import Squares, within


def test_what_is_done_about_a_point_is_what_is_done_to_the_whole_picture():
    rng = np.random.default_rng(0)
    pictures = rng.uniform(0, 255, (9, 84, 84)).astype(np.float32)
    # Some of them at the edge, some moved from beyond it.
    centre, by = rng.uniform(0, 84, (9, 2)), rng.normal(0, 9, (9, 2))
    back = np.tile(np.eye(2, 3), (9, 1, 1))
    back[:, :, 2] = -2 * by / 84
    whole, here = resampled(pictures, back), within(5.5, centre)
    about, written = Squares.about(centre, 5.5), pictures.copy()
    about.put(written, about.read_shifted(pictures, np.arange(9), by), about.within(5.5, centre))
    assert_allclose(written, np.where(here, whole, pictures), atol=2e-3)
    assert (about.read(pictures, 3) == about.read(pictures, np.full(9, 3))).all()
