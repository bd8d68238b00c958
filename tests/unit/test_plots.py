"""Pictures of masks: the terminal's dot for dot, files by their kind."""

import re
from pathlib import Path

import pytest
import torch
from rich.console import Console


def make(heads, seed: int = 0):
    from amask.data.tasks import parse_task
    from amask.lalm.gating import Geometry
    from amask.lalm.identity import Identity
    from amask.mask_bank.mask import HeadMask

    geometry = Geometry(tuple(heads))
    logits = torch.randn(geometry.shape, generator=torch.Generator().manual_seed(seed))
    return HeadMask.from_logits(logits, Identity(geometry, "f", "pocket"), task=parse_task("gr"))


def drawn(mask, title: str = "gr@1") -> list[str]:
    """What the terminal shows on 80 columns, without colours."""
    from amask.mask_bank.plots import render_text

    console = Console(width=80, color_system=None, force_terminal=False)
    with console.capture() as capture:
        console.print(render_text(mask, title))
    return capture.get().splitlines()


def test_the_terminal_shows_every_head() -> None:
    mask = make([64] * 8)
    title, ruler, *lines = drawn(mask)
    assert title == f"gr@1 · pocket · 8×64 · {mask.heads_on} of 512 heads on ({100 * mask.heads_on / 512:.0f} %)"
    assert len(lines) == 4
    assert max(map(len, [ruler, *lines])) <= 80
    for number, line in enumerate(lines):
        upper, lower = mask.bits[2 * number], mask.bits[2 * number + 1]
        expected = "".join(" ▀▄█"[int(up) + 2 * int(down)] for up, down in zip(upper, lower, strict=True))
        assert line[5:69] == expected
        assert line[:5].split() == [str(2 * number)]
        assert line[69:].split() == [str(int(upper.sum())), str(int(lower.sum()))]
    for head in re.findall(r"\d+", ruler):
        assert ruler.index(f" {head} ") - 4 == int(head)  # a number stands over its head


def test_odd_and_ragged_layers() -> None:
    mask = make([3, 5, 2])
    title, _, first, second = drawn(mask)
    assert "3 layers of 2 to 5 heads" in title
    assert second[5:10].rstrip() == "".join(" ▀"[int(bit)] for bit in mask.bits[2]).rstrip()
    assert second[10:].split() == [str(int(mask.bits[2].sum()))]
    assert first[10:].split() == [str(int(mask.bits[0].sum())), str(int(mask.bits[1].sum()))]


def test_very_wide_layers_take_half_a_character_a_head() -> None:
    mask = make([128] * 2)
    mask = mask.with_(logits=None, bits=torch.zeros(2, 128, dtype=torch.bool).index_fill(1, torch.tensor([0, 3, 127]), True))
    _, _, line = drawn(mask)
    assert line[5:69] == "▌▐" + " " * 61 + "▐"
    assert len(line) <= 80


def test_masks_without_a_task_are_drawn() -> None:
    assert drawn(~make([4, 4]), "")[0].startswith("mask · pocket")


@pytest.mark.parametrize("heads", [[64] * 8, [40] * 40, [3, 5, 2], [1], [128] * 4, [2] * 60])
def test_pictures(tmp_path: Path, heads: list[int]) -> None:
    from amask.mask_bank.plots import save_mask_plot

    mask = make(heads)
    assert len(mask.plot().axes) == 2
    for ending in ("png", "svg", "PNG"):
        save_mask_plot(mask, tmp_path / f"mask.{ending}", "gr@1 $x$ <b>")
    png, svg = (tmp_path / "mask.png").read_bytes(), (tmp_path / "mask.svg").read_text(encoding="utf-8")
    assert png.startswith(b"\x89PNG")
    assert (tmp_path / "mask.PNG").read_bytes() == png
    assert svg.rstrip().endswith("</svg>")
    width, height = int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")
    assert 400 < width < 5000
    assert 200 < height < 5000


def test_drawing_leaves_pyplot_alone(tmp_path: Path) -> None:
    import matplotlib.pyplot as plt

    from amask.mask_bank.plots import save_mask_plot

    save_mask_plot(make([4, 4]), tmp_path / "mask.png")
    assert plt.get_fignums() == []


@pytest.mark.parametrize("name", ["mask.gif", "mask", "mask.png.txt", ".png"])
def test_other_endings_are_refused(tmp_path: Path, name: str) -> None:
    from amask.errors import FileError
    from amask.mask_bank.plots import save_mask_plot

    with pytest.raises(FileError, match=r"pictures are \.png or \.svg") as caught:
        save_mask_plot(make([4, 4]), tmp_path / name)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_unwritable_places_are_told(tmp_path: Path) -> None:
    from amask.errors import FileError
    from amask.mask_bank.plots import save_mask_plot

    with pytest.raises(FileError, match="cannot write"):
        save_mask_plot(make([4, 4]), tmp_path / "none" / "mask.png")


@pytest.mark.parametrize("count", [2, 12])
def test_heatmaps(tmp_path: Path, count: int) -> None:
    from amask.mask_bank.plots import save_heatmap

    values = [[round(1 / (1 + abs(row - column)), 2) for column in range(count)] for row in range(count)]
    names = [f"gr-$x$-{at}@1" for at in range(count)]
    names[1] = "/a/very/long/" * 10 + "name.pth"
    for ending in ("png", "svg"):
        save_heatmap(names, values, tmp_path / f"map.{ending}", "Jaccard index")
    svg = (tmp_path / "map.svg").read_text(encoding="utf-8")
    assert svg.count("<!-- 1.00 -->") == count
    assert svg.count("<!-- 0.50 -->") == 2 * (count - 1)
    assert svg.count("<!-- gr-\\$x\\$-0@1 -->") + svg.count("<!-- gr-$x$-0@1 -->") == 2
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")
