"""The report's figures. The only room with matplotlib, which is imported when a figure is drawn."""

import io
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from handeye.compare import Sweep
from handeye.errors import Failure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {
    "SIM-only": "#a06cb8",
    "Initial": "#7d8794",
    "naive": "#d1603d",
    "Fine-tuned": "#2a6fc9",
    "CR": "#2c9b6f",
    "floor": "#c3c7ce",
}
CYCLE = ("#2a6fc9", "#d1603d", "#2c9b6f", "#a06cb8", "#c79a1b", "#7d8794", "#3aa6b9", "#b5252f")
INK = "#2b2f38"
DPI = 140
MOST_TICKS = 12
NAME_LENGTH = 34
NAMES_INSIDE = 3
"""Lines of names that fit into a panel of learning curves."""
SMOOTH_OVER = 25
"""A curve is smoothed over this share of its length: one in so many."""


@dataclass(frozen=True)
class Boxes:
    """A panel of box plots: distances in cm of each net, and a published median for some."""

    title: str
    distances_cm: dict[str, NDArray]
    published_cm: dict[str, float]


@dataclass(frozen=True)
class Curves:
    """A panel of learning curves: (x, value) pairs by label; `log`: on a logarithmic axis.

    With the label `strong` of one of them, the others are drawn thin.
    """

    title: str
    unit: str
    lines: dict[str, list[tuple[float, float]]]
    log: bool = False
    limits: tuple[float, float] | None = None
    x: str = "updates"
    strong: str = ""


@dataclass(frozen=True)
class Steps:
    """A panel of what was measured at each step of episodes: by label, the values (K,) at every step."""

    title: str
    values: dict[str, list[NDArray]]


@dataclass(frozen=True)
class Shares:
    """A panel of histograms, one a step: shares (steps, bins) of values between `low` and `high`, and their means."""

    title: str
    shares: NDArray
    means: NDArray
    low: float
    high: float


def need_matplotlib() -> None:
    """Raises: Failure if matplotlib is not installed."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise Failure('the report\'s figures need a package: pip install "handeye[report]"') from error


def _panels(rows: int, columns: int, width: float, height: float, **options: Any) -> "tuple[Figure, list[Axes]]":
    """A figure of `width` × `height` inches and its panels by row."""
    need_matplotlib()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False, **options).flat)
    for panel in panels:
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(labelsize=9, colors=INK)
    return figure, panels


def _png(figure: "Figure") -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()


def box_plots(panels: list[Boxes]) -> bytes:
    """Box plots of final distances: medians as numbers, outliers as crosses, published medians as diamonds."""
    widths = [len(panel.distances_cm) for panel in panels]
    figure, axes = _panels(1, len(panels), 0.8 * sum(widths) + 1.0, 4.4, sharey=True, width_ratios=widths)
    for axis, panel in zip(axes, panels, strict=True):
        _box_panel(axis, panel)
    _log_scale(axes[0])
    axes[0].set_ylabel("final distance [cm]", fontsize=10)
    return _png(figure)


def _log_scale(axis: "Axes") -> None:
    """A logarithmic axis with plain figures, from one round figure to another."""
    axis.set_yscale("log")
    low, high = axis.get_ylim()
    figures = [digit * 10.0**power for power in range(-8, 6) for digit in (1, 2, 5)]
    first = max((i for i, figure in enumerate(figures) if figure <= low), default=0)
    last = min((i for i, figure in enumerate(figures) if figure >= high), default=len(figures) - 1)
    ticks = figures[first : last + 1]
    # Over several decades their powers of ten are enough.
    shown = ticks if len(ticks) <= MOST_TICKS else [tick for tick in ticks if f"{tick:e}".startswith("1")]
    axis.set_yticks(shown, [f"{tick:g}" for tick in shown])
    axis.minorticks_off()
    axis.set_ylim(ticks[0], ticks[-1])


def _box_panel(axis: "Axes", panel: Boxes) -> None:
    names = list(panel.distances_cm)
    values = [np.maximum(panel.distances_cm[name], 0.05) for name in names]
    drawn = axis.boxplot(
        values, tick_labels=names, widths=0.46, patch_artist=True, medianprops={"color": INK, "linewidth": 1.6},
        flierprops={"marker": "x", "markersize": 4, "markeredgecolor": "#8b919c", "markeredgewidth": 0.8},
        whiskerprops={"color": INK, "linewidth": 0.9}, capprops={"color": INK, "linewidth": 0.9},
    )  # fmt: skip
    for box, name in zip(drawn["boxes"], names, strict=True):
        box.set(facecolor=COLOURS[name], edgecolor=INK, linewidth=0.9, alpha=0.75)
    for x, (name, value) in enumerate(zip(names, values, strict=True), start=1):
        middle = float(np.median(value))
        axis.annotate(
            f"{middle:.2f}", (x + 0.24, middle), xytext=(2, 0), textcoords="offset points", va="center", fontsize=8.5
        )
        if name in panel.published_cm:
            axis.plot(x, panel.published_cm[name], "D", color="white", markeredgecolor=INK, markersize=5, zorder=5)
    axis.set_title(panel.title + ("  (◇ the paper's median)" if panel.published_cm else ""), fontsize=10.5)
    axis.set_xlim(0.5, len(names) + 0.75)
    axis.grid(axis="y", color="#e8e8e4", linewidth=0.8)
    axis.set_axisbelow(True)


def wrapped(name: str) -> str:
    """A name on lines of at most `NAME_LENGTH` characters, its parts on lines of their own if it needs several."""
    if len(name) <= NAME_LENGTH:
        return name
    parts = name.replace(", ", ",\n").splitlines()
    return "\n".join(line for part in parts for line in textwrap.wrap(part, NAME_LENGTH))


def learning_curves(panels: list[Curves], inside: int = NAMES_INSIDE) -> bytes:
    """Curves against updates or another measure of effort: smoothed, with the raw values faint behind.

    Long names are wrapped. Where a panel has more than `inside` lines of names, those of all panels stand below them.
    """
    columns = min(len(panels), 3)
    rows = -(-len(panels) // columns)
    # Many names stand below their panel, so that they hide nothing.
    below = max(_name_lines(panel) for panel in panels)
    below = 0 if below <= inside else below
    figure, axes = _panels(rows, columns, 3.7 * columns, (3.1 + 0.18 * below) * rows)
    for axis, panel in zip(axes, panels, strict=False):
        _curves_panel(axis, panel)
        place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (-0.1, -0.16)} if below else {}
        if any(panel.lines):
            axis.legend(fontsize=8.5, framealpha=0.7, edgecolor="none", **place)
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    return _png(figure)


def _name_lines(panel: Curves) -> int:
    return sum(1 + wrapped(label).count("\n") for label in panel.lines)


def _curves_panel(axis: "Axes", panel: Curves) -> None:
    for colour, (label, line) in zip(_cycle(len(panel.lines)), panel.lines.items(), strict=True):
        thin = panel.strong not in ("", label)
        _curve(axis, wrapped(label), line, INK if label == panel.strong else colour, 0.9 if thin else 1.7)
    axis.set_title(panel.title, fontsize=10.5)
    axis.set_xlabel(panel.x, fontsize=9.5)
    axis.set_ylabel(panel.unit, fontsize=9.5)
    axis.grid(color="#e8e8e4", linewidth=0.8)
    if panel.log:
        _log_scale(axis)
    if panel.limits:
        axis.set_ylim(panel.limits)


def _cycle(count: int) -> list[str]:
    return [CYCLE[i % len(CYCLE)] for i in range(count)]


def _curve(axis: "Axes", label: str, line: list[tuple[float, float]], colour: str, width_pt: float) -> None:
    steps, values = np.array(line).T
    width = max(1, len(values) // SMOOTH_OVER)
    marker = "o" if len(values) < 3 else ""
    if width > 1:
        axis.plot(steps, values, color=colour, alpha=0.22, linewidth=0.8)
    axis.plot(steps, smoothed(values, width), color=colour, linewidth=width_pt, label=label, marker=marker)


def smoothed(values: NDArray, width: int) -> NDArray:
    """Mean over `width` values about each; over fewer at both ends."""
    kernel = np.ones(width)
    return np.convolve(values, kernel, "same") / np.convolve(np.ones(len(values)), kernel, "same")


def error_maps(maps: dict[str, dict[str, NDArray]]) -> bytes:
    """Perception's error over the picture, a column a net: `target` above, `hand` below; NaN is left blank."""
    figure, axes = _panels(2, len(maps), 3.3 * len(maps) + 1.1, 6.6, sharex=True, sharey=True)
    from matplotlib.colors import LogNorm

    known = np.concatenate([grid[np.isfinite(grid)] for net in maps.values() for grid in net.values()])
    low, high = max(float(known.min()), 0.05), max(float(known.max()), 0.1)
    norm = LogNorm(low, high)
    for column, (net, grids) in enumerate(maps.items()):
        for row, what in enumerate(("target", "hand")):
            axis = axes[row * len(maps) + column]
            edges = np.linspace(0, 84, len(grids[what]) + 1)
            mesh = axis.pcolormesh(edges, edges, np.maximum(grids[what], low), norm=norm, cmap="viridis_r")
            middle = np.nanmedian(grids[what])
            axis.set_title(f"{net}: {what} ({middle:.2f} px)", fontsize=10)
            axis.set(xlim=(0, 84), ylim=(84, 0), aspect="equal", xticks=(0, 42, 84), yticks=(0, 42, 84))
    bar = figure.colorbar(mesh, ax=axes, shrink=0.7, pad=0.02)
    ticks = [tick for tick in (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50) if low <= tick <= high]
    bar.set_ticks(ticks, labels=[f"{tick:g}" for tick in ticks], minor=False)
    bar.ax.minorticks_off()
    bar.set_label("median error [px]", fontsize=9.5)
    return _png(figure)


SWEPT = (("d_med cm", "median final distance [cm]", True), ("success %", "success [%]", False),
         ("perception px", "perception, hand to target [px]", True))  # fmt: skip


def sweep_plot(sweep: Sweep) -> bytes:
    """Distance, success and perception against the setting, in both domains; bars from least to most.

    Dotted: the mean of the networks to compare with.
    """
    figure, axes = _panels(1, len(SWEPT), 3.7 * len(SWEPT), 3.3)
    for axis, (column, unit, log) in zip(axes, SWEPT, strict=True):
        for domain, colour, marker in (("sim", CYCLE[0], "o"), ("camera", CYCLE[1], "s")):
            xs, found = sweep.curve(f"{domain} {column}")
            means = np.array([np.mean(values) for values in found])
            if not xs:
                continue
            spread = [means - [min(v) for v in found], [max(v) for v in found] - means]
            axis.errorbar(xs, means, spread, color=colour, marker=marker, capsize=3, linewidth=1.6, label=domain)
            for name, rows in sweep.beside.items():
                known = [row[f"{domain} {column}"] for row in rows]
                axis.axhline(
                    float(np.mean(known)), color=colour, linestyle=":", label=f"{domain}, {name.split(':')[0]}"
                )
        axis.set_xlabel(sweep.setting, fontsize=10)
        axis.set_xlim(-0.05, 1.05)
        axis.set_ylabel(unit, fontsize=9.5)
        axis.grid(color="#e8e8e4", linewidth=0.8)
        if log:
            _log_scale(axis)
        else:
            axis.set_ylim(-3, 103)
        axis.legend(fontsize=8.5, frameon=False)
    return _png(figure)


def step_plots(panels: list[Steps], unit: str) -> bytes:
    """Means at each step of episodes, with bands from the first to the third quartile; below, how many values."""
    columns = len(panels)
    size = {"height_ratios": (4, 1), "sharex": "col", "sharey": "row"}
    figure, axes = _panels(2, columns, 4.6 * columns + 0.5, 4.2, **size)
    for axis, counts, panel in zip(axes[:columns], axes[columns:], panels, strict=True):
        for colour, (label, values) in zip(CYCLE, panel.values.items(), strict=False):
            steps = np.arange(1, len(values) + 1)
            low, high = np.array([np.percentile(found, (25, 75)) for found in values]).T
            axis.fill_between(steps, low, high, color=colour, alpha=0.16, linewidth=0)
            axis.plot(steps, [found.mean() for found in values], "o-", color=colour, markersize=3.5, label=label)
        counts.bar(steps, [len(found) for found in values], color=COLOURS["floor"], width=0.7)
        axis.set_title(panel.title, fontsize=10.5)
        axis.axhline(0, color=INK, linewidth=0.6)
        axis.grid(color="#e8e8e4", linewidth=0.8)
        counts.set_xlabel("step of the episode", fontsize=9.5)
        counts.locator_params(axis="x", integer=True)
    axes[0].legend(fontsize=8.5, frameon=False)
    axes[0].set_ylabel(unit, fontsize=9.5)
    axes[columns].set_ylabel("episodes", fontsize=9.5)
    return _png(figure)


def share_plots(panels: list[Shares], unit: str) -> bytes:
    """Histograms side by side, a column for each step: the darker, the larger the share; dots are means."""
    columns, rows = min(len(panels), 3), -(-len(panels) // 3)
    figure, axes = _panels(rows, columns, 3.7 * columns + 1.1, 3.5 * rows, sharex=True, sharey=True)
    from matplotlib.colors import PowerNorm

    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    # By its root, so that what is seldom can be seen.
    norm = PowerNorm(0.5, 0, max(float(panel.shares.max()) for panel in panels))
    for axis, panel in zip(axes, panels, strict=False):
        steps, bins = panel.shares.shape
        across, up = np.arange(steps + 1) + 0.5, np.linspace(panel.low, panel.high, bins + 1)
        mesh = axis.pcolormesh(across, up, panel.shares.T, cmap="Blues", norm=norm)
        axis.plot(np.arange(1, steps + 1), panel.means, "o-", color=CYCLE[1], markersize=3, linewidth=1, clip_on=False)
        axis.axhline(0, color=INK, linewidth=0.6)
        axis.set_title(panel.title, fontsize=10.5)
        axis.set_xlabel("step of the episode", fontsize=9.5)
        axis.locator_params(axis="x", integer=True)
    for axis in axes[::columns]:
        axis.set_ylabel(unit, fontsize=9.5)
    bar = figure.colorbar(mesh, ax=axes, shrink=0.85, pad=0.02)
    bar.set_label("share of the actions of a step", fontsize=9)
    return _png(figure)
