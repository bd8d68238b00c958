"""Boolean expressions over masks, against set operations on the bits."""

import pytest
import torch


@pytest.fixture
def masks():
    from amask.lalm.gating import Geometry
    from amask.lalm.identity import Identity
    from amask.mask_bank.mask import HeadMask

    model = Identity(Geometry((5, 5, 5)), "f", "m")
    generator = torch.Generator().manual_seed(0)
    return {
        name: HeadMask(torch.rand(3, 5, generator=generator) > 0.5, model) for name in ("gr", "asr", "ser", "gr-asr", "android")
    }


@pytest.mark.parametrize(
    ("expression", "by_hand"),
    [
        ("gr AND asr", lambda m: m["gr"] & m["asr"]),
        ("gr & asr", lambda m: m["gr"] & m["asr"]),
        ("gr or asr", lambda m: m["gr"] | m["asr"]),
        ("gr | asr", lambda m: m["gr"] | m["asr"]),
        ("gr XOR asr", lambda m: m["gr"] ^ m["asr"]),
        ("asr MINUS gr", lambda m: m["asr"] & ~m["gr"]),
        ("NOT gr", lambda m: ~m["gr"]),
        ("NOT gr AND asr", lambda m: ~m["gr"] & m["asr"]),
        ("gr OR asr AND ser", lambda m: m["gr"] | (m["asr"] & m["ser"])),
        ("(gr OR asr) AND NOT ser", lambda m: (m["gr"] | m["asr"]) & ~m["ser"]),
        ("gr MINUS asr MINUS ser", lambda m: m["gr"] & ~m["asr"] & ~m["ser"]),
        ("2 OF (gr, asr, ser)", lambda m: (m["gr"].int() + m["asr"].int() + m["ser"].int()) >= 2),
        ("3 of (gr, asr, ser)", lambda m: m["gr"] & m["asr"] & m["ser"]),
        ("gr-asr AND android", lambda m: m["gr-asr"] & m["android"]),
    ],
)
def test_operations(masks, expression, by_hand):
    from amask.composer.expression import evaluate

    bits = {name: mask.bits for name, mask in masks.items()}
    result = evaluate(expression, masks.__getitem__)
    assert torch.equal(result.bits, by_hand(bits))
    if not expression.islower():
        assert result.lineage["operation"]


@pytest.mark.parametrize("expression", ["", "gr AND", "gr asr", "(gr", "2 OF (gr)", "5 OF (gr, asr)", "0 OF (gr, asr)", "gr/asr"])
def test_unreadable(masks, expression):
    from amask.composer.expression import evaluate
    from amask.errors import MaskError

    with pytest.raises(MaskError):
        evaluate(expression, masks.__getitem__)


def test_masks_of_two_models_do_not_mix(masks):
    from amask.composer.expression import evaluate
    from amask.errors import MaskError
    from amask.lalm.identity import Identity

    masks["asr"] = masks["asr"].with_(identity=Identity(masks["gr"].geometry, "another", "salmonn"))
    with pytest.raises(MaskError, match="salmonn"):
        evaluate("gr AND asr", masks.__getitem__)


def test_names_in_order():
    from amask.composer.expression import names_in

    assert names_in("asr AND (gr OR asr@2) MINUS gr") == ["asr", "gr", "asr@2"]
