"""What can go wrong that a user can mend. Messages name the value and what is valid, in one line if they can."""


class Misuse(ValueError):
    """A value, name or option that means nothing here."""


class Failure(RuntimeError):
    """Something outside is not as it must be: a file, a folder, a disk, a package."""
