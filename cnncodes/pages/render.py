"""Fills a template with values: the result is one HTML file that loads nothing else."""

from __future__ import annotations

import base64
import hashlib
import json
from functools import cache, partial
from pathlib import Path
from typing import Any

from cnncodes import display
from cnncodes.display import for_html, for_terminal, points
from cnncodes.system.files import head_of
from cnncodes.system.optional import require

__all__ = ["interval", "is_page", "percent", "render_page", "verbatim"]

TEMPLATES = Path(__file__).parent / "templates"
STYLE_SHEET = "report.css"

percent = partial(display.percent, space="\N{NO-BREAK SPACE}")
interval = partial(display.interval, space="\N{NO-BREAK SPACE}")


def render_page(
    template: str, *, scripts: tuple[str, ...] = (), module: str = "", module_file: str = "", **values: Any
) -> str:
    """Return the page that a template makes of values, all of which it escapes.

    The page holds its style sheet and its scripts. Its content security policy forbids every other script and every
    request.

    Parameters
    ----------
    template : str
        Name of a file in `templates/`.
    scripts : tuple of str, default=()
        Names of files in `templates/`.
    module : str, default=""
        Text that a module script begins with; it may compile WebAssembly.
    module_file : str, default=""
        Name of the file in `templates/` that it goes on with.
    **values
        What the template shows.

    Raises
    ------
    MissingLibraryError
        Jinja is missing.
    """
    texts = [_text(name) for name in scripts]
    module += _text(module_file) if module_file else ""
    ran = [*texts, module] if module else texts
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in ran]
    allowed = " ".join(f"'sha256-{digest}'" for digest in hashes) or "'none'"
    allowed += " 'wasm-unsafe-eval'" if module else ""
    return (
        _templates()
        .get_template(template)
        .render(
            generator=_generator(template),
            policy=f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {allowed}",
            style=verbatim(_text(STYLE_SHEET)),
            scripts=[verbatim(text) for text in texts],
            module=verbatim(module),
            **values,
        )
    )


def verbatim(text: str) -> str:
    """Return text of ours that a template shows as it is, without escaping it."""
    require("jinja2", "a page")
    from markupsafe import Markup

    return Markup(text)


def is_page(path: Path, template: str) -> bool:
    """Whether a file is a page that `render_page` made of a template."""
    return f'content="{_generator(template)}"' in head_of(path)


def _generator(template: str) -> str:
    return f"cnncodes {template.partition('.')[0]}"


@cache
def _templates() -> Any:
    jinja2 = require("jinja2", "a page")
    from markupsafe import Markup

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        finalize=lambda value: Markup(for_html(value)) if type(value) is str else value,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": percent,
        "interval": lambda ends: interval(*ends),
        "points": lambda difference: points(difference).replace("-", "\N{MINUS SIGN}"),
        "capitalise": lambda text: text[:1].upper() + text[1:],
        "path": lambda name: Markup("/<wbr>".join(for_html(name).split("/"))),  # a long path may break after each slash
    }
    environment.policies["json.dumps_function"] = lambda value, **options: json.dumps(_seen(value), **options)
    return environment


def _seen(value: Any) -> Any:
    """Return a value for JSON whose text scripts may show."""
    if isinstance(value, dict):
        return {_seen(name): _seen(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_seen(item) for item in value]
    return for_terminal(value) if isinstance(value, str) else value


def _text(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")
