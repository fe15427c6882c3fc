"""Put the content into the page: one HTML file that loads nothing and runs no script but its own."""

from base64 import b64encode
from hashlib import sha256
from typing import Any

from bleep_sc._report.records import Content

_PAGE, _STYLE, _SCRIPT = "report.html", "report.css", "report.js"


def page_of(content: Content) -> bytes:
    """Render a report.

    Every text is escaped. The policy in the head of the page lets the browser run the one script, and apply the one
    style sheet, whose hashes it names, and show pictures that stand in the file; all else is refused.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("bleep_sc._report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = _number
    own = {name: _source(environment, name) for name in (_STYLE, _SCRIPT)}
    text = environment.get_template(_PAGE).render(
        report=content,
        style=Markup(own[_STYLE]),  # noqa: S704 - a file of this package
        script=Markup(own[_SCRIPT]),  # noqa: S704
        style_hash=_hash(own[_STYLE]),
        script_hash=_hash(own[_SCRIPT]),
    )
    # half a surrogate pair, which some names have, can be no part of a file
    return text.encode("utf-8", errors="replace")


def _source(environment: Any, name: str) -> str:
    source: str = environment.loader.get_source(environment, name)[0]
    return source.strip()


def _hash(text: str) -> str:
    return b64encode(sha256(text.encode()).digest()).decode()


def _number(value: float | None) -> str:
    """Write a score with two decimals; a dash where it is not known."""
    return "–" if value is None else f"{value:.2f}".replace("-", "−")
