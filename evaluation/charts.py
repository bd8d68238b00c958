"""Charts of measured figures: dots with their ranges, strips, curves, and masks side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..mask_bank.mask import HeadMask
from ..mask_bank.plots import GRID, INK, ON, PALE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PROMPT, UNSEEN, UNPROMPTED, RANDOM, FREE = "#e76f51", "#f4a261", "#8d99ae", "#bc6c25", "#457b9d"
COLOURS = {"mask": ON, "prompt": PROMPT, "unprompted": UNPROMPTED, "random": RANDOM, "other": FREE, "parallel": "#264653"}
COLOURS |= {"own model": ON, "other model": FREE, "other unprompted": UNPROMPTED}
HIGHEST = 150  # percent; error rates that are higher say only that nothing is right
MARKS = {"mask": "D", "prompt": "o", "unprompted": "x", "random": "s", "other": "^"}


@dataclass(frozen=True)
class Dot:
    """A figure, with the range that it stands in the middle of."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Strip:
    """Values above one place of the x axis.

    Attributes:
        label: what stands below.
        values: a dot each.
        colour: theirs.
        line: a value that the others are held against, drawn across.
    """

    label: str
    values: tuple[float, ...]
    colour: str
    line: float | None = None


@dataclass(frozen=True)
class Curve:
    """A line, with a band around it where there is one."""

    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    colour: str
    band: tuple[tuple[float, ...], tuple[float, ...]] | None = None


def _figure(width: float, height: float) -> "Figure":
    from matplotlib.figure import Figure  # noqa: PLC0415  # heavy, and needed for pictures only

    return Figure(figsize=(width, height), facecolor="white", layout="constrained")


def _plain(axes: "Axes", title: str = "") -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GRID)
    axes.tick_params(length=0, labelsize=8, labelcolor=INK)
    axes.set_title(title, fontsize=9.5, color=INK, loc="left", parse_math=False)


def _legend(figure: "Figure", columns: int) -> None:
    """One legend for all panels, each name once, also of what only some panels have."""
    found = {label: handle for axes in figure.axes for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(found.values(), found.keys(), loc="outside lower center", ncols=columns, frameon=False, fontsize=8)


def draw_dots(groups: Sequence[str], panels: Mapping[str, Sequence[Mapping[str, Dot]]]) -> "Figure":
    """A line a group, a dot a condition with its range; one panel beside the other.

    Args:
        groups: what the lines are called, from above.
        panels: title → of each group, condition → figure.
    """
    figure = _figure(1.6 + 3.6 * len(panels), 1.1 + 0.42 * len(groups))
    for number, (title, rows) in enumerate(panels.items()):
        axes = figure.add_subplot(1, len(panels), number + 1)
        conditions = list(dict.fromkeys(name for row in rows for name in row))
        for at, name in enumerate(conditions):
            offset = 0.6 * ((at + 0.5) / len(conditions) - 0.5)
            places = [(line + offset, row[name]) for line, row in enumerate(rows) if name in row]
            for place, dot in places:
                axes.hlines(place, dot.low, dot.high, color=COLOURS.get(name, INK), linewidth=1.2, alpha=0.6)
            values, lines = [dot.value for _, dot in places], [place for place, _ in places]
            colour, marker = COLOURS.get(name, INK), MARKS.get(name, "o")
            axes.scatter(values, lines, s=22, zorder=3, color=colour, marker=marker, label=name)
        for line in range(len(groups) - 1):
            axes.axhline(line + 0.5, color=PALE, linewidth=0.8)
        axes.set(ylim=(len(groups) - 0.5, -0.5))
        axes.set_yticks(range(len(groups)), groups if number == 0 else [""] * len(groups), parse_math=False)
        axes.grid(axis="x", color=PALE, linewidth=0.8)
        _plain(axes, title)
    _legend(figure, 5)
    return figure


def draw_strips(panels: Mapping[str, Sequence[Strip]]) -> "Figure":
    """A panel each, a dot a value, and lines across where there are some.

    Args:
        panels: title → strips.
    """
    columns = min(4, len(panels))
    rows = -(-len(panels) // columns)
    widest = max(len(strips) for strips in panels.values())
    figure = _figure(columns * max(2.3, 0.8 * widest + 0.7), rows * 2.6)
    for number, (title, strips) in enumerate(panels.items()):
        axes = figure.add_subplot(rows, columns, number + 1)
        for at, strip in enumerate(strips):
            spread = [0.5 * (place / max(1, len(strip.values) - 1) - 0.5) if len(strip.values) > 1 else 0.0
                      for place in range(len(strip.values))]  # fmt: skip
            places = [at + offset for offset in spread]
            axes.scatter(places, strip.values, s=14, color=strip.colour, alpha=0.8, linewidths=0, zorder=3)
            if len(strip.values) > 1:
                middle = float(np.mean(strip.values))
                axes.hlines(middle, at - 0.35, at + 0.35, color=strip.colour, linewidth=1.5)
            if strip.line is not None:
                axes.axhline(strip.line, color=ON, linewidth=1.2, linestyle="--", zorder=2)
        axes.set_xticks(range(len(strips)), [strip.label for strip in strips], parse_math=False)
        axes.set_xlim(-0.6, len(strips) - 0.4)
        axes.grid(axis="y", color=PALE, linewidth=0.8)
        _plain(axes, title)
        axes.tick_params(axis="x", labelsize=7)
    return figure


def draw_curves(panels: Mapping[str, Sequence[Curve]], xlabel: str) -> "Figure":
    """A panel each, with lines and bands; error rates above `HIGHEST` are cut off.

    Args:
        panels: title → lines.
        xlabel: what lies below.
    """
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure = _figure(columns * 3.4, rows * 2.8)
    for number, (title, curves) in enumerate(panels.items()):
        axes = figure.add_subplot(rows, columns, number + 1)
        for curve in curves:
            axes.plot(curve.x, curve.y, color=curve.colour, linewidth=1.6, marker="o", markersize=3, label=curve.label)
            if curve.band:
                axes.fill_between(curve.x, *curve.band, color=curve.colour, alpha=0.18, linewidth=0)
        if max(value for curve in curves for value in curve.y) > HIGHEST:
            axes.set_ylim(-5, HIGHEST)
        axes.set_xlabel(xlabel, fontsize=8, color=GRID)
        axes.grid(color=PALE, linewidth=0.8)
        _plain(axes, title)
    _legend(figure, 1 if columns == 1 else 4)
    return figure


def draw_bars(groups: Sequence[str], series: Mapping[str, Sequence[float | None]], xlabel: str) -> "Figure":
    """Bars side by side, a group of them a line.

    Args:
        groups: what the groups are called, from above.
        series: what the bars are called → a value for each group, or none.
        xlabel: what the values are.
    """
    figure = _figure(8.0, 1.1 + 0.13 * len(groups) * max(3, len(series)))
    axes = figure.subplots()
    high = 0.8 / len(series)
    for at, (name, values) in enumerate(series.items()):
        there = [(line, value) for line, value in enumerate(values) if value is not None]
        places = [line + high * (at + 0.5) - 0.4 for line, _ in there]
        axes.barh(places, [value for _, value in there], height=high * 0.9, color=COLOURS.get(name, INK), label=name)
        for place, (_, value) in zip(places, there, strict=True):
            axes.text(value, place, f" {value:.1f}", va="center", fontsize=6, color=INK)
    axes.set_yticks(range(len(groups)), groups, parse_math=False)
    axes.set(ylim=(len(groups) - 0.5, -0.5))
    axes.set_xlabel(xlabel, fontsize=8, color=GRID)
    _plain(axes)
    _legend(figure, 4)
    return figure


def draw_points(panels: Mapping[str, Mapping[str, tuple[float, float]]], xlabel: str) -> "Figure":
    """A panel each, a named point an entry.

    Args:
        panels: title → name → x and y.
        xlabel: what lies below.
    """
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure = _figure(columns * 3.4, rows * 2.6)
    for number, (title, points) in enumerate(panels.items()):
        axes = figure.add_subplot(rows, columns, number + 1)
        axes.scatter([x for x, _ in points.values()], [y for _, y in points.values()], s=22, color=ON)
        for name, (x, y) in points.items():
            axes.annotate(name, (x, y), fontsize=7, color=INK, xytext=(3, 3), textcoords="offset points", parse_math=False)
        axes.set_xlabel(xlabel, fontsize=8, color=GRID)
        axes.margins(0.2)
        axes.grid(color=PALE, linewidth=0.8)
        _plain(axes, title)
    return figure


def draw_masks(masks: Mapping[str, HeadMask]) -> "Figure":
    """Masks as layers × heads, all on one scale: their logits where they all have some, else on and off.

    Args:
        masks: name → mask, all of one model.
    """
    logits = all(mask.logits is not None for mask in masks.values())
    grids = [_grid(mask, logits) for mask in masks.values()]
    scale = max((float(np.nanmax(np.abs(grid))) for grid in grids), default=1.0) or 1.0
    columns = min(5, len(masks))
    rows = -(-len(masks) // columns)
    layers, heads = grids[0].shape
    square = max(0.05, min(0.16, 2.2 / max(layers, heads)))  # inches
    figure = _figure(columns * (heads * square + 0.6) + 0.6, rows * (layers * square + 0.55))
    mesh = None
    for number, (name, grid) in enumerate(zip(masks, grids, strict=True)):
        axes = figure.add_subplot(rows, columns, number + 1)
        mesh = axes.pcolormesh(grid, cmap="BrBG", vmin=-scale, vmax=scale)
        axes.set(ylim=(layers, 0), aspect="equal", xticks=[], yticks=[])
        axes.set_title(f"{name}\n{masks[name].heads_on} on", fontsize=7.5, color=INK, parse_math=False)
        axes.spines[:].set_color(PALE)
    if mesh is not None and logits:
        bar = figure.colorbar(mesh, ax=figure.axes, shrink=0.6, label="logit")
        bar.ax.tick_params(labelsize=7)
    return figure


def _grid(mask: HeadMask, logits: bool) -> np.ndarray:
    values = (mask.logits if logits and mask.logits is not None else mask.bits * 2.0 - 1.0).double().numpy().copy()
    values[~mask.geometry.present.numpy()] = np.nan
    return values
