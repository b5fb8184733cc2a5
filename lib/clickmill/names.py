"""Names of schemas and tables in a catalogue as SQL has them: parts with dots between, odd ones in backquotes."""

from __future__ import annotations

import re

_PLAIN, _QUOTED = r"[A-Za-z_]\w*", r"`(?:[^`]|``)+`"
_PART = re.compile(rf"{_QUOTED}|[^.`]+")
_SCHEMA = re.compile(rf"(?:[\w-]+|{_QUOTED})\.(?:[\w-]+|{_QUOTED})")
_TABLE = re.compile(rf"(?:{_PLAIN}|{_QUOTED})(?:\.(?:{_PLAIN}|{_QUOTED})){{1,2}}")


def is_schema(name: str) -> bool:
    """Whether it reads as `catalog.schema`: two parts of letters, digits, _ and -, or in backquotes."""
    return bool(_SCHEMA.fullmatch(name))


def is_table(name: str) -> bool:
    """Whether it reads as `schema.table` or `catalog.schema.table`: a - is only taken in backquotes."""
    return bool(_TABLE.fullmatch(name))


def written(name: str) -> str:
    """The name with backquotes where SQL needs them."""
    return ".".join(part if re.fullmatch(_PLAIN, part) else _in_quotes(part) for part in _PART.findall(name))


def quoted(name: str) -> str:
    """The name with each part in backquotes: none is taken for a word of SQL's own."""
    return ".".join(map(_in_quotes, _PART.findall(name)))


def in_volume(path: str) -> str:
    """A path as it is; where it is one of a volume, /Volumes/catalog/schema/volume/…, those three without the
    backquotes that SQL needs: folders have none."""
    parts = path.split("/")
    if parts[:2] != ["", "Volumes"]:
        return path
    return "/".join([*parts[:2], *map(_bare, parts[2:5]), *parts[5:]])


def _bare(part: str) -> str:
    return part[1:-1].replace("``", "`") if re.fullmatch(_QUOTED, part) else part


def _in_quotes(part: str) -> str:
    return part if part.startswith("`") else f"`{part}`"
