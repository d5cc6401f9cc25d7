"""Animations on disk: .gif, .webp or .mp4, and what all of them look like."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageFont

from handeye.errors import Failure, Misuse
from handeye.files import write_whole

FRAME_MS = 70
HOLD_MS = 2500
"""How long the last frame stays."""
PAPER, INK, GOOD, BAD, QUIET = "#faf9f5", "#2b2f38", "#17764b", "#b5252f", "#6b7280"


def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own."""
    return ImageFont.load_default(size)


def write(path: Path, frames: list[Image.Image], frame_ms: int = FRAME_MS) -> None:
    """Write an animation whole or not at all; the suffix decides its kind.

    Each frame stays for `frame_ms`, the last one longer.

    Raises:
        Misuse: another suffix than .gif, .webp or .mp4.
        Failure: a package is missing, or the file cannot be written.
    """
    check_suffix(path)
    encode = ENCODERS[path.suffix.lower()]
    write_whole(path, lambda partial: encode(partial, frames, frame_ms))


def check_suffix(path: Path) -> None:
    """Raises: Misuse for a file that is none of the videos that can be written."""
    if path.suffix.lower() not in ENCODERS:
        raise Misuse(f"a video must end in {', '.join(ENCODERS)}, got {path.name!r}")


def _write_webp(path: Path, frames: list[Image.Image], frame_ms: int) -> None:
    path.write_bytes(_animation(frames, "WEBP", frame_ms, quality=60, method=2))


def _write_gif(path: Path, frames: list[Image.Image], frame_ms: int) -> None:
    # One palette for all frames: a palette each flickers, and several times the size.
    palette = frames[-1].quantize(128, Image.Quantize.MEDIANCUT)
    few = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    path.write_bytes(_animation(few, "GIF", frame_ms, optimize=False))


def _animation(frames: list[Image.Image], kind: str, frame_ms: int, **options: int) -> bytes:
    held = [frame_ms] * (len(frames) - 1) + [HOLD_MS]
    buffer = io.BytesIO()
    frames[0].save(buffer, kind, save_all=True, append_images=frames[1:], duration=held, loop=0, **options)
    return buffer.getvalue()


def _write_mp4(path: Path, frames: list[Image.Image], frame_ms: int) -> None:
    try:
        import imageio_ffmpeg
    except ImportError as error:
        raise Failure('an .mp4 needs a package: pip install "handeye[video]" (or write .webp or .gif)') from error
    rate = 1000 / frame_ms
    encoder = imageio_ffmpeg.write_frames(
        str(path), frames[0].size, fps=rate, quality=6, macro_block_size=2, output_params=["-f", "mp4"]
    )
    encoder.send(None)
    for frame in _held(frames, frame_ms):
        encoder.send(np.asarray(frame).tobytes())
    encoder.close()


def _held(frames: list[Image.Image], frame_ms: int) -> Iterator[Image.Image]:
    """The frames, the last as often as it takes to stay `HOLD_MS`."""
    yield from frames
    yield from [frames[-1]] * round(HOLD_MS / frame_ms)


ENCODERS = {".gif": _write_gif, ".webp": _write_webp, ".mp4": _write_mp4}
