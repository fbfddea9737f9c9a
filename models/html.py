"""What the HTML pages share: templates that escape, numbers as they are shown, and figures inside the page."""

from __future__ import annotations

import io

import matplotlib
import numpy as np
from jinja2 import Environment
from markupsafe import Markup
from matplotlib.figure import Figure


def render(template: str, **values: object) -> Markup:
    """A Jinja template with its values escaped; filters: f4 (four digits, a dash where unknown), count and percent."""
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"f4": _four_digits, "count": "{:,.0f}".format, "percent": "{:.1%}".format}
    return Markup(environment.from_string(template).render(**values))


def _four_digits(value: float | None) -> str:
    return "–" if value is None or not np.isfinite(value) else f"{value:.4f}"


def svg(figure: Figure) -> Markup:
    """A figure as inline SVG."""
    target = io.StringIO()
    # Without a date, and with names from a fixed salt, the same figures make the same page.
    with matplotlib.rc_context({"svg.hashsalt": "mosaicloan", "svg.fonttype": "none"}):
        figure.savefig(target, format="svg", metadata={"Date": None})
    return Markup("<svg" + target.getvalue().partition("<svg")[2])
