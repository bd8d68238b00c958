"""Charts say all that they show."""


def test_a_legend_names_what_any_panel_shows():
    """Each name once, also where the first panel has no such line."""
    from amask.evaluation.charts import Curve, draw_curves

    def line(name):
        return Curve(name, (0.0, 1.0), (1.0, 2.0), "#1d3557")

    panels = {"aac": [line("by logit")], "gr": [line("by logit"), line("unconstrained")], "asv": [line("random")]}
    (legend,) = draw_curves(panels, "heads on").legends
    assert [text.get_text() for text in legend.get_texts()] == ["by logit", "unconstrained", "random"]


def test_error_rates_that_say_nothing_do_not_flatten_the_rest():
    from amask.evaluation.charts import Curve, draw_curves

    def line(*y):
        return Curve("by logit", tuple(float(at) for at in range(len(y))), y, "#1d3557")

    wild, plain = draw_curves({"asr (wer ↓)": [line(1684.0, 53.0, 16.0)], "gr (acc)": [line(45.0, 94.0)]}, "heads on").axes
    assert wild.get_ylim() == (-5, 150)
    assert 94 < plain.get_ylim()[1] < 100
