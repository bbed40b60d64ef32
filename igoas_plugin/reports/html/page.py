"""Rendering of an HTML page from a template, with its style sheet and pictures inside."""

import base64
import hashlib
import os

import jinja2
from markupsafe import Markup

from igoas_plugin.core.errors import printable


def name_below(path: str, folder: str) -> str:
    """Returns a path relative to a folder, if it lies inside, in printable characters."""
    relative = os.path.relpath(path, folder)
    return printable((path if relative.startswith(os.pardir) else relative).replace(os.sep, "/"))


# Autoescape shows markup in a file name as text
ENVIRONMENT = jinja2.Environment(
    loader=jinja2.PackageLoader(__package__),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
ENVIRONMENT.filters |= {"printable": printable, "below": name_below}


def render(template: str, **values) -> bytes:
    """Renders a page as UTF-8.

    The page's Content-Security-Policy admits its own style sheet and script only, by their hashes. Markup in a file
    name could do nothing even if it were not escaped.

    Args:
        template: name of a file in ``templates`` that extends page.html.
        values: variables of the template.
    """
    style, script = (ENVIRONMENT.loader.get_source(ENVIRONMENT, name)[0] for name in ("style.css", "script.js"))
    html = ENVIRONMENT.get_template(template).render(
        style=Markup(style),
        script=Markup(script),
        style_hash=csp_hash(style),
        script_hash=csp_hash(script),
        **values,
    )
    return html.encode(errors="backslashreplace")


def csp_hash(text: str) -> str:
    """Returns the name of an inline element with this content in a Content-Security-Policy."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
