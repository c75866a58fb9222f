"""Validation errors of a recipe as sentences: which key, what came, what would be valid."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from pipeline.recipe_yaml import Parsed, Path
from schemas.errors import RecipeError

_EXPECTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
    "string_pattern_mismatch": "a name of lower-case letters, digits, '.', '_' and '-', at most 64 "
    "characters long and starting with a letter or digit",
}
_BOUNDS = {
    "greater_than": ("gt", ">"),
    "greater_than_equal": ("ge", ">="),
    "less_than": ("lt", "<"),
    "less_than_equal": ("le", "<="),
}


def recipe_error(error: ValidationError, parsed: Parsed, schema: Mapping[str, Any]) -> RecipeError:
    """One RecipeError that lists every problem with its place in the file.

    `schema` is the JSON schema of the recipe, which says what would have been valid.
    """
    found: list[tuple[Path, bool, ErrorDetails]] = []
    for details in error.errors(include_url=False):
        path, tagged = _data_path(details, parsed.value)
        found.append((path, tagged, details))
    problems: dict[Path, list[str]] = {}
    for path, tagged, details in found:
        # A value that may be of several types gives an error for each: where it clearly is one of
        # them (something inside it is wrong too), the other types' complaints are noise. And a
        # list whose items are wrong counts as too short.
        if (tagged or details["type"] == "too_short") and any(
            (p[: len(path)] == path and p != path)
            or (p == path and d["type"] == "value_error" and d is not details)
            for p, _, d in found
        ):
            continue
        message = _message(details, path, parsed.value, schema)
        problems.setdefault(path, []).append(message)
    lines = [
        f"{parsed.where(path)}: {format_path(path)}: {_merge(messages)}"
        for path, messages in sorted(problems.items(), key=lambda item: parsed.line(item[0]))
    ]
    count = f"{len(lines)} problems" if len(lines) > 1 else "1 problem"
    return RecipeError("\n  ".join([f"the recipe {parsed.name} has {count}:", *lines]))


def format_path(path: Path) -> str:
    """`("passes", 0, "rules")` as `passes[0].rules`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text or "the recipe"


def closest(word: str, valid: Iterable[str]) -> str:
    """` Did you mean "x"?` for a misspelt word, or nothing."""
    matches = difflib.get_close_matches(str(word), list(valid), n=1, cutoff=0.6)
    return f' Did you mean "{matches[0]}"?' if matches else ""


def show(value: Any) -> str:
    """A value as it came, shortened."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _data_path(details: ErrorDetails, value: Any) -> tuple[Path, bool]:
    """Place in the data, and whether the validator's place also names types of a union."""
    path: list[str | int] = []
    tagged = False
    loc = details["loc"]
    for index, part in enumerate(loc):
        inside = (isinstance(value, dict) and part in value) or (
            isinstance(value, list) and isinstance(part, int) and part < len(value)
        )
        if inside:
            value = value[part]
            path.append(part)
        elif details["type"] == "missing" and index == len(loc) - 1:
            path.append(part)
        else:
            tagged = True
    return tuple(path), tagged


def _message(details: ErrorDetails, path: Path, value: Any, schema: Mapping[str, Any]) -> str:
    kind, came, context = details["type"], details.get("input"), details.get("ctx", {})
    if kind == "extra_forbidden":
        return _unknown_key(str(path[-1]), path[:-1], value, schema)
    if kind == "missing":
        about = [o["description"] for o in _options(path, value, schema) if "description" in o]
        return "this key is required." + "".join(f" {text}" for text in about[:1])
    if kind == "value_error":
        return f"{context['error']}."
    if kind in ("literal_error", "union_tag_invalid", "union_tag_not_found"):
        if kind == "literal_error":
            names = [c for o in _options(path, value, schema) for c in _constants(o)]
        else:
            path = (*path, "kind")
            names = [c for o in _options(path, value, schema) for c in _constants(o)]
            if kind == "union_tag_not_found":
                return f"expected the key kind, one of {_join(names)}."
            came = context["tag"]
        valid = [str(n) for n in names]
        return f"expected one of {_join(names)}; got {show(came)}.{closest(str(came), valid)}"
    if kind in _BOUNDS:
        name, sign = _BOUNDS[kind]
        return f"expected a number {sign} {context[name]}; got {show(came)}."
    if kind == "too_short":
        return f"expected at least {context['min_length']} item(s); got {show(came)}."
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        keys = _keys(path, value, schema)
        return f"expected a mapping with keys from {', '.join(keys)}; got {show(came)}."
    if kind in _EXPECTED:
        hint = ""
        if kind == "string_type" and isinstance(came, bool | int | float):
            hint = " Put it in quotes."
        elif kind == "tuple_type" and isinstance(came, str):
            hint = f" Write [{show(came)}]."
        return f"expected {_EXPECTED[kind]}; got {show(came)}.{hint}"
    return f"{details['msg']}; got {show(came)}."


def _unknown_key(key: str, parent: Path, value: Any, schema: Mapping[str, Any]) -> str:
    valid = _keys(parent, value, schema)
    hint = closest(key, valid)
    if not hint:
        here = format_path(parent)
        places = sorted({p for p in _places(schema, schema, key, "", 0) if p and p != here})
        hint = f" {key} belongs to {' or '.join(places[:2])}." if places else ""
    return f"unknown key.{hint} Valid keys: {', '.join(valid)}."


def _merge(messages: Sequence[str]) -> str:
    """Complaints of several types about one value as one sentence."""
    if len(messages) == 1:
        return messages[0]
    expected = [m.removeprefix("expected ").split("; got ")[0] for m in messages]
    tail = messages[0].split("; got ")[-1]
    return f"expected {' or '.join(dict.fromkeys(expected))}; got {tail}"


def _join(values: Iterable[Any]) -> str:
    return ", ".join(show(v) for v in values)


def _resolve(node: Mapping[str, Any], schema: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The plain alternatives behind references and unions."""
    if "$ref" in node:
        about = {"description": node["description"]} if "description" in node else {}
        for option in _resolve(schema["$defs"][node["$ref"].rsplit("/", 1)[-1]], schema):
            yield {**option, **about}
    elif "anyOf" in node or "oneOf" in node:
        for option in node.get("anyOf", node.get("oneOf", ())):
            yield from _resolve(option, schema)
    else:
        yield node


def _options(path: Path, value: Any, schema: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Alternatives of the schema at a path, narrowed by `kind` on the way."""
    nodes = list(_resolve(schema, schema))
    for part in path:
        below: list[Mapping[str, Any]] = []
        kind = value.get("kind") if isinstance(value, dict) and part != "kind" else None
        kinds = [n.get("properties", {}).get("kind", {}).get("const") for n in nodes]
        for node, this in zip(nodes, kinds, strict=True):
            if kind in kinds and this is not None and this != kind:
                continue
            if isinstance(part, int):
                child = node.get("items")
            else:
                child = node.get("properties", {}).get(part)
            if child is not None:
                below += _resolve(child, schema)
        nodes = below
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            value = None
    return nodes


def _keys(path: Path, value: Any, schema: Mapping[str, Any]) -> list[str]:
    nodes = _options(path, value, schema)
    for part in path:
        value = value[part]
    kind = value.get("kind") if isinstance(value, dict) else None
    nodes = [n for n in nodes if "properties" in n]
    same = [n for n in nodes if n["properties"].get("kind", {}).get("const") == kind]
    return list(dict.fromkeys(key for n in same or nodes for key in n["properties"]))


def _constants(node: Mapping[str, Any]) -> list[Any]:
    return list(node["enum"]) if "enum" in node else [node["const"]] if "const" in node else []


def _places(
    node: Mapping[str, Any], schema: Mapping[str, Any], key: str, path: str, depth: int
) -> Iterator[str]:
    """Dotted paths of the mappings that know `key`."""
    if depth > 6:
        return
    for option in _resolve(node, schema):
        if "items" in option and isinstance(option["items"], dict):
            yield from _places(option["items"], schema, key, f"{path}[]", depth + 1)
        for name, child in option.get("properties", {}).items():
            if name == key:
                yield path
            yield from _places(child, schema, key, f"{path}.{name}" if path else name, depth + 1)
