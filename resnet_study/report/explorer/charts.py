"""How the explorer's two pictures are drawn: Vega-Lite by way of Altair.

The specifications hold no data. The page puts rows into the named sources, and numbers into the
parameters, whenever something else is chosen; it draws nothing itself.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Literal

from resnet_study.drawing.style import FAMILIES, ON_DARK

if TYPE_CHECKING:
    import altair as alt

WIDTH, HEIGHT = 600, 330
"""Pixels of a panel; the page sets the width to that of its column."""

PALETTES: dict[str, dict[str, str]] = {
    "light": {
        **{family: style.colour for family, style in FAMILIES.items()},
        **{"ink": "#1c1b19", "quiet": "#5b5851", "rule": "#dcd8cf"},
    },
    "dark": {**ON_DARK, "ink": "#e9e6df", "quiet": "#aaa59a", "rule": "#3a3833"},
}
"""As in page.css."""

THEORY: dict[str, Any] = {"strokeWidth": 1.6, "strokeDash": [1, 4], "strokeCap": "round"}
"""Dotted, as in the figures."""

FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif'


@functools.cache
def specifications(validate: bool = False) -> dict[str, dict[str, Any]]:
    """By scheme (light, dark) and picture: ``log`` and ``linear`` layers, and ``error``.

    Args:
        validate: against Vega-Lite's schema, which takes seconds; a test does it.
    """
    return {
        scheme: {
            "log": _finished(_layers(palette, "log"), palette, validate),
            "linear": _finished(_layers(palette, "linear"), palette, validate),
            "error": _finished(_errors(palette), palette, validate),
        }
        for scheme, palette in PALETTES.items()
    }


def _layers(palette: dict[str, str], scale: Literal["log", "linear"]) -> Any:
    """A line per network over its layers; every seed thin, the median thick with its points."""
    import altair as alt

    x = alt.X(
        "layer:Q",
        title="layer (1 = input)",
        scale=alt.Scale(domain=[1, alt.expr("last")], nice=False, zero=False, padding=8),
        axis=alt.Axis(tickMinStep=1, tickCount=8, labelExpr="datum.value < 1 ? '' : datum.label"),
    )
    limits: Any = {"domain": [alt.expr("low"), alt.expr("high")], "nice": False}
    ticks: Any = {"tickCount": 7}
    if scale == "linear":
        limits["zero"] = False
    else:
        # Vega would draw nine lines in every decade, and label as many as find room.
        ticks = {"values": alt.expr("ticks")}
    y = alt.Y(
        "value:Q",
        title=None,
        scale=alt.Scale(type=scale, **limits),
        axis=alt.Axis(labelExpr="plainNumber(datum.value)", **ticks),
    )
    colour = _family_colour(palette)
    look = {"x": x, "y": y, "color": colour, "detail": "line:N"}
    dash = alt.StrokeDash("dash:N", scale=None)
    nearest = _pointed("layer")
    size = alt.when(nearest).then(alt.value(110)).otherwise(alt.value(18))
    tooltip = _tooltip("network", "layer", "name", "stage", "shown=value", "of")
    medians = alt.Chart(alt.NamedData("medians"))
    return alt.layer(
        _stages(x, palette),
        alt.Chart(alt.NamedData("seeds"))
        .mark_line(strokeWidth=1, opacity=0.4, clip=True)
        .encode(**look, strokeDash=dash),
        alt.Chart(alt.NamedData("theory"))
        .mark_line(**THEORY, color=palette["ink"], clip=True)
        .encode(x=x, y=y, detail="line:N"),
        medians.mark_line(strokeWidth=2.2, clip=True).encode(**look, strokeDash=dash),
        medians.mark_point(filled=True, opacity=1, clip=True)
        .encode(**look, size=size, tooltip=tooltip)
        .add_params(nearest),
    ).add_params(
        *(
            alt.param(name=n, value=v)
            for n, v in (("low", 0.1), ("high", 1), ("last", 2), ("ticks", []))
        )
    )


def _pointed(along: str) -> Any:
    """The point of a line that the pointer is nearest to."""
    import altair as alt

    return alt.selection_point(
        name="pointed",
        on="pointerover",
        clear="pointerout",
        nearest=True,
        empty=False,
        fields=["line", along],
    )


def _stages(x: alt.X, palette: dict[str, str]) -> Any:
    """A rule where the maps get smaller, and the name of the stage before it."""
    import altair as alt

    source = alt.Chart(alt.NamedData("stages"))
    rules = source.transform_filter("datum.inside").mark_rule(color=palette["rule"])
    names = source.mark_text(
        align="right", baseline="top", dx=-5, fontSize=11, color=palette["quiet"]
    )
    return alt.layer(rules.encode(x=x), names.encode(x=x, y=alt.value(3), text="name:N"))


def _tooltip(*fields: str) -> list[alt.Tooltip]:
    """What is said of the nearest point: fields of its row, a title in front where it differs.

    All go through a function of the page, for Vega-Lite looks for what is not formatted in the
    cell around the point, where it is not.
    """
    import altair as alt

    words: Any = {"formatType": "asWords", "format": ""}
    pairs = [field.partition("=") for field in fields]
    return [
        alt.Tooltip(field=field, title=title or field, type="nominal", **words)
        for field, _, title in pairs
    ]


def _errors(palette: dict[str, str]) -> Any:
    """Error against iteration, with a rule at the iteration that is looked at."""
    import altair as alt

    x = alt.X(
        "step:Q",
        title="iteration k, at log(1 + k)",
        scale=alt.Scale(type="symlog", constant=1, nice=False, domain=[0, alt.expr("end")]),
        axis=alt.Axis(
            values=[0, 1, 10, 100, 1000, 10_000, 100_000, 1_000_000],
            labelExpr="thousands(datum.value)",
            grid=False,
        ),
    )
    y = alt.Y(
        "error:Q",
        title=None,
        scale=alt.Scale(domain=[0, alt.expr("top")], nice=False),
        axis=alt.Axis(labelExpr="datum.label + ' %'", tickCount=6),
    )
    look = {"x": x, "y": y, "color": _family_colour(palette), "detail": "line:N"}
    dash = alt.StrokeDash("dash:N", scale=None)
    medians = alt.Chart(alt.NamedData("errors"))
    cursor = alt.Chart(alt.NamedData("cursor"))
    tooltip = _tooltip("network", "step=iteration", "shown=error", "of")
    nearest = _pointed("step")
    size = alt.when(nearest).then(alt.value(80)).otherwise(alt.value(0))
    return alt.layer(
        cursor.mark_rule(color=palette["quiet"], strokeWidth=1.4).encode(x=x),
        alt.Chart(alt.NamedData("error_seeds"))
        .mark_line(strokeWidth=1, opacity=0.4)
        .encode(**look, strokeDash=dash),
        medians.mark_line(strokeWidth=2.2).encode(**look, strokeDash=dash),
        medians.mark_point(filled=True, opacity=1)
        .encode(**look, size=size, tooltip=tooltip)
        .add_params(nearest),
    ).add_params(alt.param(name="end", value=100), alt.param(name="top", value=100))


def _family_colour(palette: dict[str, str]) -> alt.Color:
    import altair as alt

    families = list(FAMILIES)
    scale = alt.Scale(domain=families, range=[palette[family] for family in families])
    return alt.Color("family:N", scale=scale, legend=None)


def _finished(chart: Any, palette: dict[str, str], validate: bool) -> dict[str, Any]:
    """The specification, in the colours of the page."""
    import altair as alt

    axis = {
        **{"labelFont": FONT, "titleFont": FONT, "labelFontSize": 11.5, "titleFontSize": 12},
        **{"labelColor": palette["quiet"], "titleColor": palette["quiet"]},
        **{"titleFontWeight": "normal"},
        **{"gridColor": palette["rule"], "gridOpacity": 0.55, "domainColor": palette["rule"]},
        **{"tickColor": palette["rule"], "labelPadding": 5, "titlePadding": 9, "labelFlush": True},
    }
    return (
        chart.properties(
            width=WIDTH,
            height=HEIGHT,
            background="transparent",
            # Labels that get longer take their room from the panel, not from the page.
            autosize=alt.AutoSizeParams(type="fit-x", contains="padding", resize=True),
        )
        .configure(customFormatTypes=True)
        .configure_view(stroke=None)
        .configure_axis(**axis)
        .configure_axisX(grid=False)
        .configure_text(font=FONT)
        .to_dict(validate=validate)
    )
