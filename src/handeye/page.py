"""What a report is made of: tables as plain data, and one HTML page that needs nothing from outside."""

import base64
import csv
import io
import json
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from PIL import Image

from handeye import video
from handeye.files import write_whole

Cell = str | int | float | None


@dataclass(frozen=True)
class Table:
    """Rows of plain cells; None is a figure that there is not. `name` is the stem of its files.

    Raises: ValueError for two columns of one name.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    rows: list[tuple[Cell, ...]]
    note: str = ""

    def __post_init__(self) -> None:
        if len(set(self.columns)) < len(self.columns):
            raise ValueError(f"columns of one name: {', '.join(self.columns)}")

    def write(self, folder: Path) -> None:
        """`<name>.csv`, `.json` and `.md` in `folder`. Raises: Failure if they cannot be written."""
        for suffix, text in (("csv", self.csv()), ("json", self.json()), ("md", self.markdown())):
            write_text(folder / f"{self.name}.{suffix}", text)

    def csv(self) -> str:
        """Comma-separated values with a header; every figure in full."""
        buffer = io.StringIO()
        csv.writer(buffer, lineterminator="\n").writerows([self.columns, *self.rows])
        return buffer.getvalue()

    def json(self) -> str:
        """An object with the title, the note and one object a row."""
        rows = [dict(zip(self.columns, row, strict=True)) for row in self.rows]
        return json.dumps({"title": self.title, "note": self.note, "rows": rows}, indent=2) + "\n"

    def markdown(self) -> str:
        """A table for people to read, rounded."""
        lines = [self.columns, ["---"] * len(self.columns), *([*map(show, row, self.columns)] for row in self.rows)]
        table = "\n".join("| " + " | ".join(text.replace("|", "\\|") for text in line) + " |" for line in lines)
        return f"**{self.title}**\n\n{table}\n" + (f"\n{self.note}\n" if self.note else "")

    def html(self) -> str:
        """The table as it stands in the page."""
        cells: list[tuple[Cell, ...]] = list(zip(*self.rows, strict=True)) or [()] * len(self.columns)
        heads = zip(map(_kind, cells), self.columns, strict=True)
        head = "".join(f"<th{kind}>{escape(column)}</th>" for kind, column in heads)
        body = "".join(f"<tr>{''.join(map(_cell, row, self.columns))}</tr>" for row in self.rows)
        note = f"<p class=note>{escape(self.note)}</p>" if self.note else ""
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        return f"{heading(self.title)}<div class=wide>{table}</div>{note}"


def show(cell: Cell, column: str = "") -> str:
    """A cell for people: figures with three decimals, fewer where they are large; percentages with one."""
    if cell is None:
        return "–"
    if isinstance(cell, float):
        digits = 1 if "%" in column or abs(cell) >= 100 else 2 if abs(cell) >= 10 else 3
        return f"{cell:z.{digits}f}".replace("-", "−")
    return str(cell)


def _cell(cell: Cell, column: str) -> str:
    return f"<td{_kind((cell,))}>{escape(show(cell, column))}</td>"


def _kind(cells: tuple[Cell, ...]) -> str:
    """Figures stand to the right."""
    return "" if any(isinstance(cell, str) for cell in cells) else " class=figure"


def write_text(path: Path, text: str) -> None:
    """Write whole or not at all. Raises: Failure if it cannot be written."""
    write_whole(path, lambda partial: partial.write_text(text, encoding="utf-8"))


def heading(text: str) -> str:
    """Plain text as a small heading."""
    return f"<h3>{escape(text)}</h3>"


def paragraph(text: str) -> str:
    """Plain text as a paragraph."""
    return f"<p>{escape(text)}</p>"


def image(content: bytes, kind: str, caption: str) -> str:
    """A picture or animation (`kind` png, webp) inside the page, with words below that also stand in for it."""
    data = base64.b64encode(content).decode()
    words = escape(caption, quote=True)
    source = f"data:image/{kind};base64,{data}"
    return f'<figure><img alt="{words}" src="{source}" loading="lazy"><figcaption>{words}</figcaption></figure>'


def side_by_side(parts: list[str]) -> str:
    """Parts beside each other, as many as there is room for."""
    return f"<div class=row>{''.join(parts)}</div>"


@dataclass(frozen=True)
class Output:
    """A report's folder: what the page shows lies there as files too. Each method writes one thing, and gives its HTML.

    Raises: Failure where a file cannot be written.
    """

    folder: Path

    def table(self, table: Table) -> str:
        """A table, in `tables`."""
        table.write(self.folder / "tables")
        return table.html()

    def figure(self, name: str, content: bytes, caption: str) -> str:
        """A picture, in `figures`."""
        write_whole(self.folder / "figures" / f"{name}.png", lambda partial: partial.write_bytes(content))
        return image(content, "png", caption)

    def film(self, name: str, frames: list[Image.Image], caption: str, frame_ms: int = video.FRAME_MS) -> str:
        """An animation, in `videos`."""
        path = self.folder / "videos" / f"{name}.webp"
        video.write(path, frames, frame_ms)
        return image(path.read_bytes(), "webp", caption)


def folded(summary: str, text: str) -> str:
    """Preformatted text that opens on a click."""
    return f"<details><summary>{escape(summary)}</summary><pre>{escape(text)}</pre></details>"


@dataclass
class Section:
    """A part of the page under one heading, filled piece by piece with HTML."""

    title: str
    parts: list[str] = field(default_factory=list)

    def html(self, number: int) -> str:
        return f'<section id="s{number}"><h2>{escape(self.title)}</h2>{"".join(self.parts)}</section>'


def page(title: str, lead: list[str], sections: list[Section]) -> str:
    """The whole HTML page; `lead` are its first paragraphs."""
    full = [section for section in sections if section.parts]
    links = " ".join(f'<a href="#s{i}">{escape(section.title)}</a>' for i, section in enumerate(full))
    body = "".join(section.html(i) for i, section in enumerate(full))
    opening = "".join(paragraph(text) for text in lead)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head>'
        f"<body><header><h1>{escape(title)}</h1>{opening}<nav>{links}</nav></header><main>{body}</main></body></html>\n"
    )


STYLE = """
:root { color-scheme: light dark; --ink: #23272f; --quiet: #667085; --paper: #fcfcfa; --line: #e3e2dc;
  --link: #1f5fae; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e6ea; --quiet: #9aa3b2; --paper: #16181d; --line: #333842; --link: #8ab8f5; }
}
body { margin: 0 auto; padding: 2rem 1.5rem 4rem; max-width: 68rem; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .6rem; }
h2 { font-size: 1.35rem; margin: 3rem 0 .6rem; padding-top: .8rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.6rem 0 .5rem; }
p { max-width: 46rem; margin: .5rem 0; }
nav { display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; margin-top: 1rem; font-size: .92rem; }
a { color: var(--link); text-decoration: none; } a:hover { text-decoration: underline; }
.wide { overflow-x: auto; } .row { display: flex; flex-wrap: wrap; gap: 0 1.2rem; } .row figure { margin: .6rem 0; }
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums; }
th, td { padding: .34rem .75rem; text-align: left; border-bottom: 1px solid var(--line); }
th { color: var(--quiet); font-weight: 600; vertical-align: bottom; }
td:first-child, th:first-child { padding-left: 0; }
td { white-space: nowrap; }
.figure { text-align: right; }
tbody tr:hover { background: color-mix(in srgb, var(--line) 40%, transparent); }
.note, figcaption { color: var(--quiet); font-size: .88rem; max-width: 46rem; }
figure { margin: 1.2rem 0; }
figure img { max-width: 100%; height: auto; background: #fff; border: 1px solid var(--line); border-radius: 6px; }
pre { font: .82rem/1.5 ui-monospace, Menlo, Consolas, monospace; overflow-x: auto; padding: .8rem 1rem;
  border: 1px solid var(--line); border-radius: 6px; }
summary { cursor: pointer; color: var(--link); }
"""
