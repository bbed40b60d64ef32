import jinja2

from igoas_plugin.core.errors import printable

# Autoescape: whatever a file is called, in a page it is text
ENVIRONMENT = jinja2.Environment(
    loader=jinja2.PackageLoader(__package__),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
ENVIRONMENT.filters["printable"] = printable


def render(template: str, **values) -> bytes:
    """A page as UTF-8.

    Args:
        template: name of a file in ``templates``.
        values: what it shows, by the names that it has for them.
    """
    return ENVIRONMENT.get_template(template).render(values).encode()
