"""Config files in, one checked `Config` out.

Layers, later wins: `conf/base.yaml`, then each `--conf FILE`, then each `--set a.b=value`. Every
mistake is a `ConfigError` that names file, key, what was found, what is allowed and the nearest
known key. Nothing here imports Spark.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import pydantic
import yaml
from pydantic import BaseModel

from clickmill import names
from clickmill.config import Config
from clickmill.errors import ConfigError, nearest

CONF_DIR: Traversable = resources.files("clickmill") / "conf"
"""A folder or, under --py-files, a part of a zip file."""
Key = tuple[str, ...]


def load(files: Sequence[str] = (), sets: Sequence[str] = ()) -> Config:
    """The config of base.yaml, `files` and `sets`, later wins.

    Raises ConfigError, naming file and key, for anything that is not as the classes above say.
    """
    merged: dict[str, Any] = {}
    origins: dict[Key, str] = {}
    for path in [CONF_DIR.joinpath("base.yaml"), *(find(file) for file in files)]:
        _merge(merged, _read(path), str(path), origins, ())
    for item in sets:
        _merge(merged, _parse_set(item), f"--set {item.partition('=')[0]}", origins, ())  # (a value may be secret)
    if "dataset" not in merged:
        known = ", ".join(name for name in brought() if name.startswith("datasets/"))
        raise ConfigError(f"no data set is named: give its file, --conf FILE; clickmill brings {known}")
    try:
        return Config.model_validate(merged)
    except pydantic.ValidationError as error:
        raise ConfigError("\n".join(_explain(merged, origins, error))) from None


def find(file: str) -> Traversable:
    """A config file as given, or of that name among those that clickmill brings."""
    short = str(Path(*Path(file).parts[1:]) if Path(file).parts[:1] == ("conf",) else Path(file))
    if Path(file).is_file():
        return Path(file)
    if short in brought():
        return CONF_DIR.joinpath(*Path(short).parts)
    hint = nearest(short, brought(), cutoff=0.4)
    raise ConfigError(f"--conf {file}: there is no such file{hint} (clickmill brings: {', '.join(brought())})")


def brought() -> list[str]:
    """The config files that clickmill brings, as --conf takes them."""
    folders = [("", CONF_DIR), *((f"{one.name}/", one) for one in CONF_DIR.iterdir() if one.is_dir())]
    names = [f"{folder}{one.name}" for folder, place in folders for one in place.iterdir()]
    return sorted(name for name in names if name.endswith(".yaml"))


class _NoDoubles(yaml.SafeLoader):
    """YAML as `safe_load` reads it, but of a key that stands twice the first is not lost in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    problem=f"{key.value} stands twice", problem_mark=key.start_mark
                )
            if key.tag != "tag:yaml.org,2002:merge":
                seen.add(key.value)
        return dict(super().construct_mapping(node, deep))


def _read(path: Traversable) -> dict[str, Any]:
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _NoDoubles)  # noqa: S506  (a SafeLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(
            f"{path}: found a {type(content).__name__}; a config file is a mapping of keys to values"
        )
    return content


def _parse_set(item: str) -> dict[str, Any]:
    key, sign, text = item.partition("=")
    if not sign or not all(key.split(".")):
        raise ConfigError(f"--set {item}: write --set section.key=value")
    try:
        value: Any = text if _has_backquotes(text) else yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {item}: the value is not valid YAML: {error}") from None
    for part in reversed(key.split(".")):
        value = {part: value}
    return dict(value)


def _has_backquotes(text: str) -> bool:
    """Whether it is a name of a catalogue with backquotes: YAML takes none at the start of a value."""
    return "`" in text and (names.is_schema(text) or names.is_table(text))


def _merge(into: dict[str, Any], new: Mapping[str, Any], origin: str, origins: dict[Key, str], at: Key) -> None:
    for key, value in new.items():
        here = (*at, str(key))
        replaces = at == ("dataset",) and key in ("event_time", "source")
        if isinstance(value, dict) and isinstance(into.get(key), dict) and not (replaces and "kind" in value):
            _merge(into[key], value, origin, origins, here)
            continue
        for older in [older for older in origins if older[: len(here)] == here]:
            del origins[older]
        origins[here] = origin
        if value is None and at == ("models",):
            into.pop(key, None)
        else:
            into[key] = value


def _explain(
    data: Mapping[str, Any], origins: Mapping[Key, str], error: pydantic.ValidationError
) -> Iterable[str]:
    for item in error.errors():
        context = item.get("ctx", {})
        kind = ("kind",) if item["type"].startswith("union_tag") else ()
        path = (*_data_path(data, item["loc"], lacking=item["type"] == "missing"), *context.get("key", ()), *kind)
        origin = next((origins[path[:n]] for n in range(len(path), 0, -1) if path[:n] in origins), "conf")
        key = ".".join(path) or "config"
        if item["type"] == "extra_forbidden":
            known = sorted(_known_keys(path[:-1], data))
            hint = nearest(path[-1], known)
            yield f"{origin}: {key}: unknown key, found {item['input']!r}{hint} (known keys: {', '.join(known)})"
        elif item["type"] == "missing":
            yield f"{origin}: {key}: missing, and it has no default"
        elif kind:
            allowed = re.findall("'([^']*)'", str(context.get("expected_tags")))
            told = f"found {context['tag']!r}, allowed are {', '.join(allowed)}" if "tag" in context else "missing"
            yield f"{origin}: {key}: {told}{nearest(str(context.get('tag', '')), allowed)}"
        else:
            message = item["msg"].removeprefix("Value error, ")
            found = "" if isinstance(item["input"], Mapping) else f"found {item['input']!r}: "
            allowed = re.findall("'([^']*)'", str(context.get("expected")))
            yield f"{origin}: {key}: {found}{message}{nearest(str(item['input']), allowed)}"


def _data_path(data: Any, loc: Sequence[int | str], *, lacking: bool) -> Iterable[str]:
    """The parts of pydantic's location that are keys of the data (it adds the tags of unions); lacking: the last
    is a key that should be there."""
    for place, part in enumerate(loc):
        if isinstance(data, Mapping):
            if part in data:
                data = data[part]
            elif not (lacking and place == len(loc) - 1):
                continue
        elif isinstance(data, list | tuple) and isinstance(part, int) and part < len(data):
            data = data[part]
        else:
            continue
        yield str(part)


def _known_keys(path: Key, data: Any) -> set[str]:
    """The fields of the model class that the config has at this path."""
    annotation: Any = Config
    for part in path:
        data = data.get(part) if isinstance(data, Mapping) else None
        model = _model_of(annotation, data)
        field = model.model_fields.get(part) if model else None
        if field is not None:
            annotation = field.annotation
        elif get_origin(annotation) is dict:
            annotation = get_args(annotation)[1]
        else:
            return set()
    final = _model_of(annotation, data)
    return set(final.model_fields) if final else set()


def _model_of(annotation: Any, data: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (Union, UnionType):
        kind = data.get("kind") if isinstance(data, Mapping) else None
        for choice in get_args(annotation):
            model = _model_of(choice, data)
            if model and (
                kind is None or kind in get_args(getattr(model.model_fields.get("kind"), "annotation", None))
            ):
                return model
    if get_origin(annotation) is Annotated:
        return _model_of(get_args(annotation)[0], data)
    return None
