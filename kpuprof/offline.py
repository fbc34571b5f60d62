"""What every page of ours is made with: one file, no network, names escaped, and a content security
policy that allows the style sheet and the script that the page carries, by their hashes."""

import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from hashlib import sha256
from importlib.resources import files
from typing import Any

from kpuprof.filters import FILTERS


def environment() -> Any:
    """jinja2 with our templates and filters; everything is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    made = Environment(
        loader=PackageLoader("kpuprof", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(FILTERS)
    return made


def script_json(document: Mapping[str, Any]) -> Any:
    """JSON that no name in it can lead out of a script element."""
    from markupsafe import Markup

    text = json.dumps(document, allow_nan=False, separators=(",", ":"), ensure_ascii=False)
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text)


def source(names: Sequence[str]) -> Any:
    """Our own files, as they are: the hash is of these bytes."""
    from markupsafe import Markup

    folder = files("kpuprof") / "templates"
    return Markup("\n".join((folder / name).read_text("utf-8") for name in names))


def csp_hash(text: str) -> str:
    """What a content security policy calls a style sheet or a script that it allows."""
    digest = b64encode(sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"
