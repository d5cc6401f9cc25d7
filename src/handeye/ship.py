"""Put finished trainings among the checkpoints that come with the package: `python -m handeye.ship RUN …`."""

import sys
from pathlib import Path

from handeye import checkpoint
from handeye.errors import Failure
from handeye.train import system_of

MOST_BYTES = 3_000_000


def ship(run: str) -> Path:
    """Write the final checkpoint of a run, by the name of its experiment; returns the file.

    Raises:
        CheckpointError: the run has none.
        Failure: it takes more than 3 MB; nothing is written.
    """
    final = checkpoint.load(checkpoint.find(run))
    packed = system_of(final["task"]).packed(final)
    size = checkpoint.size(packed)
    if size > MOST_BYTES:
        raise Failure(f"{final['experiment']} takes {size / 1e6:.1f} MB, and {MOST_BYTES / 1e6:.0f} MB are shipped")
    path = checkpoint.shipped_folder() / f"{final['experiment']}.safetensors"
    checkpoint.save(path, packed)
    return path


if __name__ == "__main__":
    try:
        for name in sys.argv[1:]:
            print(ship(name))
    except Failure as error:
        sys.exit(f"error: {error}")
