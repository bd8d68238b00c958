"""Shared and own heads by layer, counted by hand."""

import pytest
import torch


@pytest.fixture
def mask():
    from amask.lalm.gating import Geometry
    from amask.lalm.identity import Identity
    from amask.mask_bank.mask import HeadMask

    identity = Identity(Geometry((4, 2)), "f" * 16, "tiny")
    return lambda *rows: HeadMask(torch.tensor([[bit == "1" for bit in row] for row in rows]), identity)


def test_counts_by_hand(mask):
    from amask.composer.layer_overlap import LayerOverlap, layer_overlaps

    a, b, c = mask("1101", "1000"), mask("1011", "0100"), mask("1001", "1100")
    assert layer_overlaps([a, b], a & b) == (LayerOverlap(4, 2, (1, 1), 2), LayerOverlap(2, 0, (1, 1), 0))
    assert layer_overlaps([a, b, c], a | b) == (LayerOverlap(4, 2, (1, 1, 0), 4), LayerOverlap(2, 0, (0, 0, 0), 2))


def test_a_picture_of_layers_is_drawn(mask, tmp_path):
    from amask.composer.layer_overlap import layer_overlaps
    from amask.mask_bank.plots import save_layer_plot

    a, b = mask("1101", "1000"), mask("1011", "0100")
    rows = layer_overlaps([a, b], a & b)
    series = {"shared": [row.shared for row in rows], "only a": [row.only[0] for row in rows]}
    save_layer_plot(series, [row.heads for row in rows], tmp_path / "x.png", "a AND b")
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
