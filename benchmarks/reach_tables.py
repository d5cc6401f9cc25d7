"""The tables of reaching, from the outputs of `handeye evaluate` in results/reach: `python benchmarks/reach_tables.py`.

They stand between marks in the README, in results/reach and in the cards of what is shipped.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

from handeye.report import PLACES, PUBLISHED

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results" / "reach"
NAMES = ("reach-paper", "reach-best")
Cells = list[str]
CALLED = {
    "initial": "Initial",
    "naive": "naive fine-tuning",
    "finetuned": "Fine-tuned",
    "control": "control, true state",
    "floor": "floor: any policy",
}


@cache
def measured(name: str, domain: str) -> dict[str, Any]:
    """What `handeye evaluate NAME --domain DOMAIN --json FILE` wrote."""
    return json.loads((RESULTS / f"evaluate-{name}-{domain}.json").read_text())


def _table(heads: Cells, rows: list[Cells]) -> str:
    lines = ["|" + "|".join(f" {cell} " if cell else " " for cell in cells) + "|" for cells in (heads, *rows)]
    return "\n".join((lines[0], "|---" * len(heads) + "|", *lines[1:]))


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}".replace("-", "−")


def _figures(net: dict[str, float]) -> Cells:
    """d_med, d_Q3, return and success; empty is what is not known of a net."""
    return [
        _number(net["d_med_cm"], 2),
        _number(net["d_q3_cm"], 2),
        _number(net["mean_return"], 3) if "mean_return" in net else "",
        _number(100 * net["success"], 1) if "success" in net else "",
    ]


def both_domains(nets: list[str]) -> str:
    """Nets of all experiments in simulation, beside the paper's and what they do in the camera domain."""
    rows = []
    for name in NAMES:
        sim, camera = measured(name, "sim"), measured(name, "camera")
        for net in nets:
            called = f"{name} (δ = {sim['success_radius_cm']:.0f} cm) {CALLED[net]}"
            d_med, _, _, success = _figures(camera["nets"][net])
            elsewhere = ["", ""] if net in ("control", "floor") else [d_med, success]
            rows.append([called, *_figures(sim["nets"][net]), *elsewhere])
        if name == "reach-paper":
            rows += [
                [f"*the paper's* {CALLED[net]}", *_figures(PUBLISHED[net]), "", ""] for net in nets if net in PUBLISHED
            ]
    return _table(
        ["net", "d_med cm", "d_Q3 cm", "mean return", "success %", "camera domain: d_med cm", "success %"], rows
    )


def trials(name: str) -> str:
    """Both domains of a card."""
    rows = []
    for domain, place in PLACES.items():
        for net, figures in measured(name, domain)["nets"].items():
            if net == "floor" and domain != "sim":
                continue
            cells = _figures(figures)
            if "success" in figures:
                cells[-1] += f" ({100 * figures['success_low']:.1f} – {100 * figures['success_high']:.1f})"
            rows.append([place, net, *cells])
    return _table(["domain", "net", "d_med cm", "d_Q3 cm", "mean return", "success % (95 %)"], rows)


def _errors(name: str, domain: str) -> list[Cells]:
    """Perception by net, and its median errors: target, hand, and hand relative to target."""
    seen = measured(name, domain)["perception"]
    parts = ("target", "hand", "relative")
    return [[net, *(_number(error[f"{part}_med_px"], 2) for part in parts)] for net, error in seen.items()]


def sight(name: str) -> str:
    """Perception of a card."""
    rows = [[place, *cells] for domain, place in PLACES.items() for cells in _errors(name, domain)]
    return _table(["domain", "net", "target", "hand", "hand relative to target"], rows)


def all_sight() -> str:
    """Perception of all experiments."""
    rows = [[name, domain, *cells] for name in NAMES for domain in PLACES for cells in _errors(name, domain)]
    return _table(["checkpoint", "domain", "perception", "target px", "hand px", "relative px"], rows)


def with_tables(path: Path, tables: dict[str, str]) -> str:
    """The text of a file with tables in place of what stands between their marks. Raises: ValueError without marks."""
    text = path.read_text()
    for mark, table in tables.items():
        first, last = f"<!-- {mark} -->\n", f"\n<!-- /{mark} -->"
        before, rest = text.split(first)
        text = before + first + table + last + rest.split(last)[1]
    return text


def pages() -> dict[Path, str]:
    """Every file that holds such tables, as it should be."""
    tables = {
        ROOT / "README.md": {"results_table": both_domains([net for net in CALLED if net != "naive"])},
        RESULTS / "README.md": {"summary": both_domains(list(CALLED)), "sight": all_sight()},
    }
    for name in NAMES:
        tables[ROOT / "src/handeye/shipped" / f"{name}.md"] = {"trials": trials(name), "sight": sight(name)}
    return {path: with_tables(path, marked) for path, marked in tables.items()}


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text)
