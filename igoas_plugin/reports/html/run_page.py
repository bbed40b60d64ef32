"""The evaluation of a run as one HTML page that needs nothing else: no file, no network."""

import base64
import hashlib

from markupsafe import Markup

from igoas_plugin.core.version import __version__
from igoas_plugin.evaluation.results import METRICS

from .activation_panels import CAPTIONS
from .curve_charts import hidden_shares
from .render import ENVIRONMENT
from .run_evaluation import Evaluation

# What a query's place in the quality of all is called
KINDS = {
    "worst": "Worst queries",
    "best": "Best queries",
    "random": "Queries drawn at random from the rest",
}
# Of a gallery image: sign and word; colour alone tells nothing
STATES = {"right": "✓ right", "wrong": "✗ wrong", "junk": "– junk"}


def page_of(evaluation: Evaluation, command: str) -> bytes:
    """The page, UTF-8.

    Its Content-Security-Policy lets the browser run and apply what stands in the page itself alone, by hash: a name of
    a file that holds markup can do nothing even if it were not escaped, which it is.

    Args:
        evaluation: what it shows.
        command: that made it.
    """
    style, script = (ENVIRONMENT.loader.get_source(ENVIRONMENT, name)[0] for name in ("style.css", "script.js"))
    html = ENVIRONMENT.get_template("report.html").render(
        evaluation=evaluation,
        command=command,
        version=__version__,
        style=Markup(style),
        script=Markup(script),
        style_hash=csp_hash(style),
        script_hash=csp_hash(script),
        metrics=METRICS,
        kinds=KINDS,
        states=STATES,
        captions=CAPTIONS,
        hidden_shares=hidden_shares(),
    )
    return html.encode(errors="backslashreplace")


def csp_hash(text: str) -> str:
    """How a Content-Security-Policy names an inline element of this content."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
