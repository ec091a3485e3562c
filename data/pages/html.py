"""Templates of pages that contain everything that they show."""

from __future__ import annotations

import base64
import io
from importlib.resources import files
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jinja2 import Environment


def templates(package: str) -> Environment:
    """The templates of `package`, and those of this folder.

    They know `css`, the style of all pages, `svg`, a mark for inline pictures, and the filters `number`, a number with
    4 or another number of digits, and `picture`, `data_uri`.
    """
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package, "."), PackageLoader("data.pages", ".")]),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    css = Markup(files("data.pages").joinpath("page.css").read_text(encoding="utf-8"))
    environment.globals |= {"css": css, "svg": Markup}
    environment.filters |= {"number": number, "picture": data_uri}
    return environment


def number(value: float, digits: int = 4) -> str:
    """A number as people write it, with `digits` after the point."""
    return f"{value:,.{digits}f}".replace("-", "\N{MINUS SIGN}")


def data_uri(picture: np.ndarray) -> str:
    """A grey picture, uint8 [height, width], as the data URI of a PNG."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
