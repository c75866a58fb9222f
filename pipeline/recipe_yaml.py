"""YAML as recipes need it: YAML 1.2 scalars, no duplicate keys, and the line of every key.

YAML 1.1, which PyYAML reads by default, takes the language `no` for false, `010` for eight and
`12:30` for 750. Here only `true` and `false` are booleans, and dates stay text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from schemas.errors import RecipeError

Path = tuple[str | int, ...]  # keys and list indices from the top of a document

_NODES = 100_000  # aliases can make a small file huge
_TAG = "tag:yaml.org,2002:"

FLOAT_TAG = _TAG + "float"
FLOAT = re.compile(r"^[-+]?(?:\.[0-9]+|[0-9][0-9_]*(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$")


@dataclass(frozen=True)
class Parsed:
    """A YAML document as plain values, and where each of them stands."""

    value: Any
    name: str  # file name for messages
    lines: Mapping[Path, int]  # 1-based, of the key or list item

    def line(self, path: Path) -> int:
        """Line of this path, or of the nearest enclosing one that is written out."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)

    def where(self, path: Path) -> str:
        """`file:line` of this path, or only the name of what was never a file."""
        return f"{self.name}:{self.line(path)}" if self.lines else self.name


class _Loader(yaml.SafeLoader):
    """Composes nodes only; tags by the YAML 1.2 core schema."""


_Loader.yaml_implicit_resolvers = {}


_Loader.add_implicit_resolver(
    _TAG + "null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""]
)
_Loader.add_implicit_resolver(
    _TAG + "bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Loader.add_implicit_resolver(
    _TAG + "int", re.compile(r"^[-+]?[0-9][0-9_]*$|^0x[0-9a-fA-F]+$"), list("-+0123456789")
)
_Loader.add_implicit_resolver(FLOAT_TAG, FLOAT, list("-+.0123456789"))


def parse(data: bytes, name: str) -> Parsed:
    """Parse one YAML document; RecipeError with `name` and the line if it is not sound."""
    try:
        loader = _Loader(data.decode("utf-8-sig"))
        node = loader.get_single_node()
    except UnicodeDecodeError as error:
        raise RecipeError(f"{name}: expected UTF-8 text: {error}") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise RecipeError(f"{name}:{line}: not valid YAML: {error.problem}") from error
    except yaml.YAMLError as error:
        raise RecipeError(f"{name}: not valid YAML: {error}") from error
    if node is None:
        raise RecipeError(f"{name}: the file is empty; expected a recipe")
    lines: dict[Path, int] = {(): node.start_mark.line + 1}
    return Parsed(_Builder(name, lines).value(node, (), ()), name, lines)


class _Builder:
    def __init__(self, name: str, lines: dict[Path, int]) -> None:
        self._name = name
        self._lines = lines
        self._seen = 0

    def value(self, node: yaml.Node, path: Path, above: tuple[int, ...]) -> Any:
        self._seen += 1
        if id(node) in above or self._seen > _NODES:
            raise self._error(node, "aliases that repeat themselves without end")
        above = (*above, id(node))
        if not isinstance(node, yaml.ScalarNode) and node.tag not in (_TAG + "map", _TAG + "seq"):
            raise self._error(node, f"the tag {node.tag} is not allowed in a recipe")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path, above)
        if isinstance(node, yaml.SequenceNode):
            items = []
            for index, item in enumerate(node.value):
                at = (*path, index)
                self._lines[at] = item.start_mark.line + 1
                items.append(self.value(item, at, above))
            return items
        return self._scalar(node)

    def _mapping(self, node: yaml.MappingNode, path: Path, above: tuple[int, ...]) -> Any:
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key, at = key_node.value, (*path, key_node.value)
            if not isinstance(key_node, yaml.ScalarNode):
                raise self._error(key_node, "expected a name as key")
            if key in found:
                first = self._lines[at]
                raise self._error(key_node, f'key "{key}" is given twice, first in line {first}')
            self._lines[at] = key_node.start_mark.line + 1
            found[key] = self.value(value_node, at, above)
        return found

    def _scalar(self, node: yaml.Node) -> Any:
        text: str = node.value
        tag = node.tag.removeprefix(_TAG)
        if tag == "str":
            return text
        if tag == "null":
            return None
        try:
            if tag == "bool":
                return {"true": True, "false": False}[text.lower()]
            if tag == "int":
                return int(text, 16) if text.startswith("0x") else int(text)
            if tag == "float":
                return float(text)
        except (ValueError, KeyError):
            raise self._error(node, f'"{text}" is not a {tag}') from None
        raise self._error(node, f"the tag {node.tag} is not allowed in a recipe")

    def _error(self, node: yaml.Node, message: str) -> RecipeError:
        return RecipeError(f"{self._name}:{node.start_mark.line + 1}: {message}")
