"""Self-contained pages: one style, one script, and a policy under which nothing else is loaded or run."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from typing import TYPE_CHECKING

from edgefel.report.figures import COLOURS
from edgefel.text import counted

if TYPE_CHECKING:
    from jinja2 import Environment


def render_page(template: str, **values: object) -> str:
    """The page of a template in this package, such as "bench.html.j2", with these values.

    Every value is escaped. The content security policy allows the style and the script by their hashes, and images
    that are part of the page; so a name in a value stays a name. Without JavaScript a page reads the same, but does
    not sort, filter or show tooltips of its own.
    """
    from markupsafe import Markup

    environment = _environment()
    style = environment.get_template("style.css.j2").render(colours=COLOURS)
    script = environment.get_template("page.js").render()
    policy = (
        f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    page = environment.get_template(template)
    return page.render(style=Markup(style), script=Markup(script), policy=Markup(policy), **values)


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    made = Environment(
        loader=PackageLoader("edgefel.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.policies["json.dumps_kwargs"] = {"ensure_ascii": False}
    made.filters["counted"] = counted
    return made
