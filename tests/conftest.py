import os

from hypothesis import settings

# Threads that wait by spinning take most of the time on a busy machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# The first example may wait for a compiler, and a busy machine for its turn; the same examples are tried every time.
settings.register_profile("handeye", deadline=None, derandomize=True)
settings.load_profile("handeye")
