"""The tables of reaching, from the outputs of `handeye evaluate` in results/reach: `python benchmarks/reach_tables.py`.

They stand between marks in the README, in results/reach and in the cards of what is shipped.
"""

import json
from pathlib import Path
from typing import Any

from handeye.report import PUBLISHED

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results" / "reach"
NAMES = ("reach-paper", "reach-best")
DOMAINS = {"sim": "simulation", "camera": "synthetic camera domain"}
CALLED = {
    "initial": "Initial",
    "naive": "naive fine-tuning",
    "finetuned": "Fine-tuned",
    "control": "control, true state",
    "floor": "floor: any policy",
}


def measured(name: str, domain: str) -> dict[str, Any]:
    """What `handeye evaluate NAME --domain DOMAIN --json FILE` wrote."""
    return json.loads((RESULTS / f"evaluate-{name}-{domain}.json").read_text())


def _table(*lines: str) -> str:
    columns = lines[0].count("|") - 1
    return "\n".join((lines[0], "|---" * columns + "|", *lines[1:]))


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}".replace("-", "−")


def _row(*cells: str) -> str:
    return ("| " + " | ".join(cells) + " |").replace("|  |", "| |").replace("|  |", "| |")


def _figures(net: dict[str, float]) -> list[str]:
    """d_med, d_Q3, return and success: the last two are empty for the floor."""
    cells = [_number(net["d_med_cm"], 2), _number(net["d_q3_cm"], 2)]
    if "success" not in net:
        return [*cells, "", ""]
    return [*cells, _number(net["mean_return"], 3), _number(100 * net["success"], 1)]


def both_domains(nets: tuple[str, ...]) -> str:
    """Nets of all experiments in simulation, beside the paper's and what they do in the camera domain."""
    rows = []
    for name in NAMES:
        sim, camera = measured(name, "sim"), measured(name, "camera")
        for net in nets:
            called = f"{name} (δ = {sim['success_radius_cm']:.0f} cm) {CALLED[net]}"
            seen = camera["nets"][net] if net not in ("control", "floor") else None
            elsewhere = [_number(seen["d_med_cm"], 2), _number(100 * seen["success"], 1)] if seen else ["", ""]
            rows.append(_row(called, *_figures(sim["nets"][net]), *elsewhere))
        if name == "reach-paper":
            rows += [_published(net) for net in nets if net in PUBLISHED]
    heads = ("net", "d_med cm", "d_Q3 cm", "mean return", "success %", "camera domain: d_med cm", "success %")
    return _table(_row(*heads), *rows)


def _published(net: str) -> str:
    """The paper says neither how many trials succeeded nor what they ended like elsewhere."""
    return _row(f"*the paper's* {CALLED[net]}", *_figures(PUBLISHED[net] | {"success": 0.0})[:-1], "", "", "")


def trials(name: str) -> str:
    """Both domains of a card."""
    rows = []
    for domain, called in DOMAINS.items():
        for net, figures in measured(name, domain)["nets"].items():
            if net == "floor" and domain != "sim":
                continue
            cells = _figures(figures)
            if "success" in figures:
                cells[-1] += f" ({100 * figures['success_low']:.1f} – {100 * figures['success_high']:.1f})"
            rows.append(_row(called, net, *cells))
    return _table(_row("domain", "net", "d_med cm", "d_Q3 cm", "mean return", "success % (95 %)"), *rows)


def _errors(name: str, domain: str) -> list[tuple[str, list[str]]]:
    """Median errors of perception by net: target, hand, and hand relative to target."""
    seen = measured(name, domain)["perception"]
    parts = ("target", "hand", "relative")
    return [(net, [_number(error[f"{part}_med_px"], 2) for part in parts]) for net, error in seen.items()]


def sight(*names: str) -> str:
    """Perception of a card, or of all experiments."""
    several = len(names) > 1
    rows = [
        _row(*([name, domain] if several else [DOMAINS[domain]]), net, *errors)
        for name in names
        for domain in DOMAINS
        for net, errors in _errors(name, domain)
    ]
    if several:
        return _table(_row("checkpoint", "domain", "perception", "target px", "hand px", "relative px"), *rows)
    return _table(_row("domain", "net", "target", "hand", "hand relative to target"), *rows)


def with_tables(path: Path, tables: dict[str, str]) -> str:
    """The text of a file with tables in place of what stands between their marks. Raises: ValueError without marks."""
    text = path.read_text()
    for mark, table in tables.items():
        before, rest = text.split(f"<!-- {mark} -->\n")
        text = f"{before}<!-- {mark} -->\n{table}\n<!-- /{mark} -->" + rest.split(f"<!-- /{mark} -->")[1]
    return text


def pages() -> dict[Path, str]:
    """Every file that holds such tables, as it should be."""
    nets = tuple(CALLED)
    tables = {
        ROOT / "README.md": {"results_table": both_domains(tuple(net for net in nets if net != "naive"))},
        RESULTS / "README.md": {"summary": both_domains(nets), "sight": sight(*NAMES)},
    }
    for name in NAMES:
        tables[ROOT / "src/handeye/shipped" / f"{name}.md"] = {"trials": trials(name), "sight": sight(name)}
    return {path: with_tables(path, marked) for path, marked in tables.items()}


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text)
