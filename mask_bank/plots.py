"""A mask as a picture: layers downwards, heads to the right; in the terminal or as PNG or SVG."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jaxtyping import Bool, Int
from rich.text import Text
from torch import Tensor, nn, tensor

from ..data.atomic_write import write_atomic
from ..errors import FileError
from .mask import HeadMask

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# One character holds 2 × 2 dots: 1 upper left + 2 upper right + 4 lower left + 8 lower right.
BLOCKS = " ▘▝▀▖▌▞▛▗▚▐▜▄▙▟█"
MAX_FULL_WIDTH = 64  # heads up to here are a character wide (two layers a line, so dots are square), beyond half a character
ON, OFF = "#2a9d8f", "#24333a"
INK, PALE, GRID = "#1d3557", "#e6ecef", "#6b7c85"


def _cells(dots: Bool[Tensor, "layer head"]) -> Int[Tensor, "line cell"]:
    """Which block stands in each cell of the terminal."""
    if dots.shape[1] <= MAX_FULL_WIDTH:
        dots = dots.repeat_interleave(2, dim=1)
    dots = nn.functional.pad(dots, (0, dots.shape[1] % 2, 0, dots.shape[0] % 2))
    return (dots.unfold(0, 2, 2).unfold(1, 2, 2) * tensor([[1, 2], [4, 8]])).sum((-1, -2))


def _ruler(heads: int) -> str:
    """Numbers of some heads, each over its cell."""
    shrink = 1 if heads <= MAX_FULL_WIDTH else 2
    line = ""
    for head in range(0, heads, 8 * shrink):
        line = line.ljust(head // shrink) + str(head)
    return line.ljust(-(-heads // shrink))


def summary(mask: HeadMask) -> str:
    """`pocket · 8×64 · 311 of 512 heads on (61 %)`."""
    heads = mask.geometry.heads
    shape = str(mask.geometry) if len(set(heads)) == 1 else f"{len(heads)} layers of {min(heads)} to {max(heads)} heads"
    share = mask.heads_on / mask.heads_total
    return f"{mask.identity.name} · {shape} · {mask.heads_on} of {mask.heads_total} heads on ({100 * share:.0f} %)"


def render_text(mask: HeadMask, title: str = "") -> Text:
    """The mask for a terminal of 80 columns: two layers a line, and how many heads the upper and the lower have on.

    Args:
        mask: what to draw.
        title: its name; by default its task.
    """
    counts = [str(count) for count in mask.bits.sum(1).tolist()] + [""]
    cells, present = _cells(mask.bits).tolist(), _cells(mask.geometry.present).count_nonzero(dim=1).tolist()
    text = Text(no_wrap=True, overflow="crop")
    text.append(title or mask.task_name or "mask", "bold").append(f" · {summary(mask)}\n")
    text.append(f"head {_ruler(mask.geometry.shape[1])} on▀ on▄\n", "dim")
    for line, (row, real) in enumerate(zip(cells, present, strict=True)):
        blocks = "".join(BLOCKS[block] for block in row)
        text.append(f"{2 * line:>4} ", "dim").append(blocks[:real], f"{ON} on {OFF}").append(blocks[real:])
        text.append(f" {counts[2 * line]:>3} {counts[2 * line + 1]:>3}\n", "dim")
    text.rstrip()
    return text


def _draw_heads(axes: "Axes", mask: HeadMask) -> None:
    """One square a head; numbers of layers and heads at the edges."""
    from matplotlib.colors import ListedColormap  # noqa: PLC0415  # heavy, and needed for pictures only

    layers, heads = mask.geometry.shape
    shades = mask.geometry.present.int() + mask.bits.int()  # 0 no such head, 1 off, 2 on
    axes.pcolormesh(shades.numpy(), cmap=ListedColormap(["white", PALE, ON]), vmin=0, vmax=2, edgecolors="white", linewidth=0.8)
    axes.set(xlim=(0, heads), ylim=(layers, 0), xlabel="head", ylabel="layer")
    for axis, number in ((axes.xaxis, heads), (axes.yaxis, layers)):
        step = 1 if number <= 12 else 4 if number <= 32 else 8
        axis.set_ticks([at + 0.5 for at in range(0, number, step)], [str(at) for at in range(0, number, step)])


def _draw_counts(axes: "Axes", mask: HeadMask) -> None:
    """A bar a layer: how many of its heads are on, over how many it has."""
    layers, heads = mask.geometry.shape
    on = mask.bits.sum(1).tolist()
    middle = [layer + 0.5 for layer in range(layers)]
    axes.barh(middle, mask.geometry.heads, height=0.7, color=PALE)
    axes.barh(middle, on, height=0.7, color=ON)
    for layer, count in enumerate(on):
        axes.text(heads * 1.06, middle[layer], str(count), va="center", fontsize=7, color=INK)
    axes.set(xlim=(0, heads), ylim=(layers, 0), xticks=[], yticks=[], xlabel="heads on")


def draw_mask(mask: HeadMask, title: str = "") -> "Figure":
    """The mask as a figure of matplotlib: layers × heads, and how many each layer has on; `title` as of `save_mask_plot`."""
    from matplotlib.figure import Figure  # noqa: PLC0415

    layers, heads = mask.geometry.shape
    square = max(0.15, min(0.4, 3 / max(layers, heads)))  # inches, as all of these
    left, right, top, bottom, gap, bars = 0.55, 0.4, 0.75, 0.5, 0.2, 1.1
    wide, high = heads * square, layers * square
    width, height = left + wide + gap + bars + right, top + high + bottom
    figure = Figure(figsize=(width, height), facecolor="white")
    main = figure.add_axes((left / width, bottom / height, wide / width, high / height))
    side = figure.add_axes(((left + wide + gap) / width, bottom / height, bars / width, high / height))
    _draw_heads(main, mask)
    _draw_counts(side, mask)
    for axes in (main, side):
        axes.tick_params(length=0, labelsize=7, labelcolor=GRID)
        axes.xaxis.label.set(color=GRID, fontsize=8)
        axes.yaxis.label.set(color=GRID, fontsize=8)
        axes.spines[:].set_visible(False)
    x, y = left / width, 1 - 0.3 / height
    figure.text(x, y, title or mask.task_name or "mask", fontsize=13, fontweight="bold", color=INK, va="center", parse_math=False)
    figure.text(x, y - 0.25 / height, summary(mask), fontsize=8.5, color=GRID, va="center", parse_math=False)
    return figure


def _save(figure: "Figure", path: Path) -> None:
    kind = path.suffix.lower().removeprefix(".")
    if kind not in ("png", "svg"):
        raise FileError(f"cannot draw to {path}: pictures are .png or .svg, got {path.suffix or 'no ending'!r}")
    drawn = io.BytesIO()
    figure.savefig(drawn, format=kind, dpi=200, metadata={"Date": None} if kind == "svg" else {})  # no time in the file
    write_atomic(drawn.getvalue(), path)


def save_mask_plot(mask: HeadMask, path: Path, title: str = "") -> None:
    """Draw the mask into a file: layers × heads, and how many heads each layer has on.

    Args:
        mask: what to draw.
        path: ends in `.png` or `.svg`.
        title: its name; by default its task.

    Raises:
        FileError: the ending is another, or the file cannot be written.
    """
    _save(draw_mask(mask, title), path)


def save_heatmap(names: Sequence[str], values: Sequence[Sequence[float]], path: Path, title: str) -> None:
    """Draw a square table of figures from 0 to 1 into a file, such as the Jaccard index of each mask with each.

    Args:
        names: of its rows, and of its columns.
        values: its rows.
        path: ends in `.png` or `.svg`.
        title: what the figures are.

    Raises:
        FileError: the ending is another, or the file cannot be written.
    """
    _save(draw_heatmap(names, values, title), path)


def draw_heatmap(names: Sequence[str], values: Sequence[Sequence[float]], title: str) -> "Figure":
    """A square table of figures from 0 to 1; arguments as of `save_heatmap`."""
    from matplotlib.colors import LinearSegmentedColormap  # noqa: PLC0415  # heavy, and needed for pictures only
    from matplotlib.figure import Figure  # noqa: PLC0415

    side, words = max(2.0, 0.55 * len(names)), 0.3 + 0.08 * max(map(len, names))  # inches: the table, the longest name
    width, height = words + side + 0.3, words + side + 0.5
    figure = Figure(figsize=(width, height), facecolor="white")
    axes = figure.add_axes((words / width, words / height, side / width, side / height))
    axes.pcolormesh(values, cmap=LinearSegmentedColormap.from_list("on", ["white", ON]), vmin=0, vmax=1, edgecolors="white")
    for row, figures in enumerate(values):
        for column, value in enumerate(figures):
            colour = "white" if value > 0.75 else INK
            axes.text(column + 0.5, row + 0.5, f"{value:.2f}", ha="center", va="center", fontsize=8, color=colour)
    middle = [at + 0.5 for at in range(len(names))]
    axes.set_xticks(middle, names, rotation=45, ha="right", parse_math=False)
    axes.set_yticks(middle, names, parse_math=False)
    axes.set(ylim=(len(names), 0), aspect="equal")
    axes.tick_params(length=0, labelsize=8, labelcolor=INK)
    axes.spines[:].set_visible(False)
    axes.set_title(title, fontsize=11, color=INK, loc="left", parse_math=False)
    return figure


def save_layer_plot(series: Mapping[str, Sequence[int]], heads: Sequence[int], path: Path, title: str) -> None:
    """Draw into a file how many heads of each layer belong to what, as bars side by side on the layer's line.

    Args:
        series: what it is called → heads of each layer.
        heads: how many heads each layer has.
        path: ends in `.png` or `.svg`.
        title: what is drawn.

    Raises:
        FileError: the ending is another, or the file cannot be written.
    """
    from matplotlib import colormaps  # noqa: PLC0415  # heavy, and needed for pictures only
    from matplotlib.figure import Figure  # noqa: PLC0415
    from matplotlib.ticker import MaxNLocator  # noqa: PLC0415

    figure = Figure(figsize=(6.5, 1.4 + 0.28 * len(heads)), facecolor="white", layout="constrained")
    axes = figure.subplots()
    places = list(range(len(heads)))
    axes.barh(places, list(heads), height=0.75, color=PALE)
    before = [0] * len(heads)
    for at, (name, counts) in enumerate(series.items()):
        colour = ON if at == 0 else colormaps["tab10"](at % 10)
        axes.barh(places, list(counts), height=0.75, left=before, color=colour, label=name)
        before = [left + count for left, count in zip(before, counts, strict=True)]
    axes.set(ylim=(len(heads) - 0.5, -0.5), xlabel="heads", ylabel="layer")
    axes.yaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 5, 10], integer=True))
    axes.tick_params(length=0, labelsize=7, labelcolor=GRID)
    axes.spines[:].set_visible(False)
    axes.set_title(title, fontsize=11, color=INK, loc="left", parse_math=False)
    figure.legend(loc="outside lower center", ncols=min(4, len(series)), frameon=False, fontsize=8)
    _save(figure, path)
