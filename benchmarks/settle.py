"""Settles the placements that the package stores: python benchmarks/settle.py src/handeye/envs/placements.npz"""

import sys

from handeye.envs.bin import store_placements
from handeye.envs.bin_config import world_of

if __name__ == "__main__":
    store_placements(sys.argv[1], [world_of("train"), world_of("heldout")])
