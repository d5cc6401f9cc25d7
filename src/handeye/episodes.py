"""Episodes on disk: a folder with `manifest.json` and numbered shards, to which whole episodes are appended.

A shard `000000.npz` is a zip of NumPy arrays without pickles, deflated at level 1 (12 times smaller for 64×64
pictures of a bin, at 0.03 ms each). It holds E episodes one after another; with T steps in each:

    observation/NAME, facts/NAME    (Σ (T + 1), …)
    action, reward                  (Σ T, …)
    length, terminated, truncated   (E,), `length` is T
    seed, weights_step              (E,)

It is written under another name and moved into place, so nothing that is half written is ever read.
"""

import io
import json
import os
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from handeye.errors import Failure, Misuse, differences
from handeye.files import write_whole
from handeye.types import Episode, Provenance

FORMAT, VERSION = "handeye-episodes", 1
MANIFEST = "manifest.json"
SHARD_EPISODES, SHARD_BYTES = 64, 64 * 2**20
"""A shard is written when so many episodes wait, or so many bytes before compression."""
NEEDED = {"action", "reward", "length", "terminated", "truncated", "seed", "weights_step"}
ZIP_BEGINS = b"PK\x03\x04"
Columns = dict[str, NDArray]
Fields = dict[str, dict[str, Any]]
"""Of each field: `dtype`, `shape` of a row, and `rows`, which it has one of: observations, steps or episodes."""


@dataclass(frozen=True)
class About:
    """What all episodes of a store have in common. `config` is plain JSON: all that decided them beside their seeds."""

    environment: str
    policy: str
    config: dict[str, Any]


@dataclass(frozen=True)
class Manifest:
    """What `manifest.json` says."""

    about: About
    fields: Fields


class EpisodeWriter:
    """Appends episodes to a store, a new one or one that is about the same; one writer at a time.

    Episodes wait in memory until they fill a shard, or until `flush` or `close`.

    Raises:
        Misuse: the store is about something else, or an episode has other fields; the message says what differs.
        Failure: the folder holds other things, is being written by another process, or cannot be written. What
            was written before stays readable.
    """

    def __init__(self, folder: Path | str, about: About) -> None:
        self.folder = Path(folder)
        self.about = About(**json.loads(json.dumps(asdict(about))))
        self.waiting: list[Columns] = []
        self.bytes_waiting = 0
        self.lock = _locked(self.folder)
        try:
            self.manifest = self._continued()
            self.next = len(_finished(self.folder))
            for left in (*self.folder.glob(".*.partial"), _shard(self.folder, self.next)):
                left.unlink(missing_ok=True)
        except BaseException:
            os.close(self.lock)
            raise

    def _continued(self) -> Manifest | None:
        """The manifest of a store that is to be continued; None if it is a new one."""
        if not (self.folder / MANIFEST).is_file():
            if any(not path.name.endswith(".partial") for path in self.folder.iterdir()):
                raise Failure(f"{self.folder} is not empty and holds no episodes: choose another folder")
            return None
        manifest = read_manifest(self.folder)
        changed = differences(asdict(manifest.about), asdict(self.about))
        if changed:
            raise Misuse(f"{self.folder} holds other episodes: {'; '.join(changed)}. Choose another folder")
        return manifest

    def add(self, episodes: Iterable[Episode]) -> None:
        """Append whole episodes."""
        for episode in episodes:
            columns = _columns(episode, self.about)
            fields = _fields(columns)
            if self.manifest is None:
                self.manifest = Manifest(self.about, fields)
                _write_manifest(self.folder, self.manifest)
            changed = differences(self.manifest.fields, fields)
            if changed:
                raise Misuse(f"an episode does not fit those of {self.folder}: {'; '.join(changed)}")
            self.waiting.append(columns)
            self.bytes_waiting += sum(column.nbytes for column in columns.values())
            if len(self.waiting) >= SHARD_EPISODES or self.bytes_waiting >= SHARD_BYTES:
                self.flush()

    def flush(self) -> None:
        """Write what waits as a shard."""
        if not self.waiting:
            return
        # Taken first: whoever interrupts the writing must not cause a second copy.
        parts, self.waiting, self.bytes_waiting = self.waiting, [], 0
        content = _packed({name: np.concatenate([part[name] for part in parts]) for name in parts[0]})
        write_whole(_shard(self.folder, self.next), lambda partial: partial.write_bytes(content))
        self.next += 1

    def close(self) -> None:
        """Write what waits, and let others write."""
        try:
            self.flush()
        finally:
            if self.lock >= 0:
                os.close(self.lock)
            self.lock = -1

    def __enter__(self) -> "EpisodeWriter":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        # An error on the way is told rather than what it causes here.
        with suppress(*([Failure] if error else [])):
            self.close()


def read_episodes(folder: Path | str) -> Iterator[Episode]:
    """All episodes of a store in the order of writing, a shard in memory at a time.

    A last shard that was cut short is left out, as never finished.

    Raises:
        Failure: no store is there, or a shard is missing, corrupt or foreign; the message names the file.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    return (episode for path in _finished(folder) for episode in _episodes(_read(path, manifest.fields), manifest))


def read_column(folder: Path | str, name: str) -> NDArray:
    """One field of all episodes of a store, read without the others, such as `length` (E,) or `facts/height_m`.

    Raises:
        Misuse: there is no such field.
        Failure: as in `read_episodes`.
    """
    folder = Path(folder)
    fields = read_manifest(folder).fields
    if name not in fields:
        raise Misuse(f"the episodes of {folder} have no field {name!r}; there are {', '.join(fields)}")
    none = np.zeros((0, *fields[name]["shape"]), fields[name]["dtype"])
    return np.concatenate([none, *(_read(path, fields, name)[name] for path in _finished(folder))])


def count(folder: Path | str) -> int:
    """How many episodes a store holds. Raises: Failure, as in `read_episodes`."""
    return len(read_column(folder, "length"))


def read_manifest(folder: Path | str) -> Manifest:
    """What a store is about. Raises: Failure if there is none, or none that this version reads."""
    path = Path(folder) / MANIFEST
    try:
        content = json.loads(path.read_text())
        if content["format"] != FORMAT:
            raise ValueError(f"its format is {content['format']!r}, not {FORMAT!r}")
        if content["version"] != VERSION:
            raise ValueError(f"it has version {content['version']}, this handeye reads {VERSION}")
        fields = {
            name: {key: spec[key] for key in ("dtype", "shape", "rows")} for name, spec in content["fields"].items()
        }
        if not fields.keys() >= NEEDED:
            raise ValueError(f"it lacks {', '.join(sorted(NEEDED - fields.keys()))}")
        return Manifest(About(**content["about"]), fields)
    except FileNotFoundError as error:
        raise Failure(f"no episodes in {folder}: it has no {MANIFEST}") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Failure(f"{path} is no manifest of episodes that can be read ({error})") from error


def _write_manifest(folder: Path, manifest: Manifest) -> None:
    text = json.dumps({"format": FORMAT, "version": VERSION, **asdict(manifest)}, indent=2)
    write_whole(folder / MANIFEST, lambda partial: partial.write_text(text + "\n"))


def _locked(folder: Path) -> int:
    """The folder, made if need be, open and locked until it is closed, also by the end of the process."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError("no permission to write")
        opened = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise Failure(f"cannot write episodes to {folder}: {error.strerror or error}") from error
    # Where there are no such locks, the user sees to it.
    with suppress(ImportError):
        import fcntl

        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(opened)
            raise Failure(f"another process is writing episodes to {folder}") from error
    return opened


def _shard(folder: Path, number: int) -> Path:
    return folder / f"{number:06d}.npz"


def _finished(folder: Path) -> list[Path]:
    """The shards in order, without a last one that was cut short. Raises: Failure for one that is missing."""
    names = [path.name for path in folder.iterdir() if re.fullmatch(r"\d{6,}\.npz", path.name)]
    shards = [_shard(folder, number) for number in range(len(names))]
    for shard in shards:
        if shard.name not in names:
            raise Failure(f"{shard} is missing: shards are numbered without gaps")
    return shards[:-1] if shards and _cut_short(shards[-1]) else shards


def _cut_short(path: Path) -> bool:
    """Whether a file begins as a shard does, but lacks the end."""
    with path.open("rb") as file:
        head = file.read(len(ZIP_BEGINS))
    return ZIP_BEGINS.startswith(head) and not zipfile.is_zipfile(path)


def _columns(episode: Episode, about: About) -> Columns:
    """The rows of one episode by field. Raises: Misuse if it is none, or not of this environment and policy."""
    seed, weights_step, environment, policy = episode.provenance
    if environment not in ("", about.environment) or policy not in ("", about.policy):
        raise Misuse(
            f"an episode of {policy} in {environment}, where those of {about.policy} in {about.environment} go"
        )
    steps = len(episode.reward)
    columns = {f"observation/{name}": value for name, value in episode.observation.items()}
    columns |= {f"facts/{name}": value for name, value in episode.facts.items()}
    columns |= {"action": episode.action, "reward": episode.reward, "length": np.array([steps], np.int32)}
    columns |= {"terminated": np.array([episode.terminated]), "truncated": np.array([episode.truncated])}
    columns |= {"seed": np.array([seed], np.int64), "weights_step": np.array([weights_step], np.int64)}
    for name, column in columns.items():
        rows = {"observations": steps + 1, "steps": steps, "episodes": 1}[_rows(name)]
        if steps < 1 or len(column) != rows or column.dtype.kind not in "biuf":
            kind = f"{column.dtype} of {len(column)} rows"
            raise Misuse(f"in an episode of {steps} steps {name} must be {rows} rows of numbers, got {kind}")
    return columns


def _rows(name: str) -> str:
    """What a field has one row of."""
    if name.startswith(("observation/", "facts/")):
        return "observations"
    return "steps" if name in ("action", "reward") else "episodes"


def _fields(columns: Columns) -> Fields:
    return {
        name: {"dtype": column.dtype.name, "shape": list(column.shape[1:]), "rows": _rows(name)}
        for name, column in columns.items()
    }


def _packed(columns: Columns) -> bytes:
    """The bytes of a shard, the same for the same columns."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, column in columns.items():
            array = io.BytesIO()
            np.lib.format.write_array(array, np.ascontiguousarray(column), allow_pickle=False)
            # An entry made by hand bears no time of day.
            file.writestr(zipfile.ZipInfo(f"{name}.npy"), array.getvalue(), zipfile.ZIP_DEFLATED, 1)
    return buffer.getvalue()


def _read(path: Path, fields: Fields, *names: str) -> Columns:
    """Fields of a shard, all without names, and `length`. Raises: Failure if it is not as the manifest says."""
    try:
        with zipfile.ZipFile(path) as file:
            if sorted(file.namelist()) != sorted(f"{name}.npy" for name in fields):
                raise ValueError("it holds other fields than the manifest says")
            if any(entry.compress_type != zipfile.ZIP_DEFLATED for entry in file.infolist()):
                raise ValueError("it is not deflated")
            # Bytes first: they are checked against their sum before anything believes them.
            raw = {name: file.read(f"{name}.npy") for name in (*(names or fields), "length")}
        columns = {name: np.lib.format.read_array(io.BytesIO(raw[name]), allow_pickle=False) for name in raw}
        _check(columns, fields)
        return columns
    except (OSError, ValueError, EOFError, RuntimeError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        told = f"{path} is corrupt or no shard of this store ({str(error) or 'not enough memory'})"
        raise Failure(f"{told}: put it back, or remove it and all later ones") from error


def _check(columns: Columns, fields: Fields) -> None:
    """Raises: ValueError for columns that are not as the manifest says, or do not fit together."""
    found = _fields(columns)
    changed = [line for name in columns for line in differences(fields[name], found[name], name)]
    if changed:
        raise ValueError("; ".join(changed))
    length = columns["length"]
    if (length < 1).any():
        raise ValueError(f"an episode of {length.min()} steps")
    steps = int(length.sum())
    rows = {"observations": steps + len(length), "steps": steps, "episodes": len(length)}
    for name, column in columns.items():
        if len(column) != rows[_rows(name)]:
            raise ValueError(f"{name} has {len(column)} rows, its episodes {rows[_rows(name)]}")


def _episodes(columns: Columns, manifest: Manifest) -> Iterator[Episode]:
    """The episodes of a shard."""
    about = manifest.about
    ends = np.cumsum(columns["length"])
    for i, (end, length) in enumerate(zip(ends.tolist(), columns["length"].tolist(), strict=True)):
        step, moment = slice(end - length, end), slice(end - length + i, end + i + 1)
        parts: dict[str, dict[str, NDArray]] = {"observation": {}, "facts": {}}
        for name in (name for name in columns if "/" in name):
            room, _, key = name.partition("/")
            parts[room][key] = columns[name][moment]
        origin = Provenance(int(columns["seed"][i]), int(columns["weights_step"][i]), about.environment, about.policy)
        yield Episode(
            observation=parts["observation"],
            action=columns["action"][step],
            reward=columns["reward"][step],
            terminated=bool(columns["terminated"][i]),
            truncated=bool(columns["truncated"][i]),
            facts=parts["facts"],
            provenance=origin,
        )
