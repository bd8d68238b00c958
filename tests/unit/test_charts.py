"""Charts say all that they show."""


def test_a_legend_names_what_any_panel_shows():
    """Each name once, also where the first panel has no such line."""
    from amask.evaluation.charts import Curve, draw_curves

    def line(name):
        return Curve(name, (0.0, 1.0), (1.0, 2.0), "#1d3557")

    panels = {"aac": [line("by logit")], "gr": [line("by logit"), line("unconstrained")], "asv": [line("random")]}
    (legend,) = draw_curves(panels, "heads on").legends
    assert [text.get_text() for text in legend.get_texts()] == ["by logit", "unconstrained", "random"]
