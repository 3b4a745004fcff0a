"""Strict YAML: plain values only, and one line for whatever is wrong.

YAML 1.2's core schema on PyYAML's safe loader: `1e-4` is a number, `yes` and `010` are not what YAML 1.1 made of
them. Refused: tags (they can run code), aliases (they can explode), duplicate keys, keys that are no text, .nan and
.inf, more than one megabyte.
"""

import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from trainables.parsing import ParseError

_MAX_BYTES = 1_000_000
_MAX_DEPTH = 32


def read(path: Path) -> dict[str, Any]:
    """The mapping a YAML file holds. Raises ParseError, each line opening with file:line:column where known."""
    if not os.path.isfile(path):  # Path.is_file raises for names that cannot be
        raise ParseError([f"{path} is not a file; give an experiment's YAML file"])
    try:
        content = path.read_bytes() if path.stat().st_size <= _MAX_BYTES else None
    except OSError as error:
        raise ParseError([f"{path} cannot be read: {error.strerror}"]) from None
    if content is None:
        raise ParseError([f"{path} must be at most 1 MB, got {path.stat().st_size / 1e6:.1f} MB"])
    return mapping(_decoded(content, path), str(path))


def _decoded(content: bytes, path: Path) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ParseError([f"{path}:{line}: must be UTF-8, got byte 0x{content[error.start]:02x}"]) from None


def mapping(text: str, source: str) -> dict[str, Any]:
    """The mapping in `text`; `source` names it in messages."""
    value = plain(text, source)
    if value is None:
        raise ParseError([f"{source} is empty; it must hold an experiment"])
    if not isinstance(value, dict):
        kind = "a list" if isinstance(value, list) else f"one value ({value!r:.40})"
        raise ParseError([f"{source} must hold names and values (name: …) at its top level, got {kind}"])
    return value


def plain(text: str, source: str) -> Any:
    """One YAML value (also a scalar or `[1, 2]`, as in `--set name=value`)."""
    try:
        loader = _Loader(text, source)
        value = loader.get_single_data()
    except yaml.MarkedYAMLError as error:
        raise ParseError([_place(source, error.problem_mark) + f" {error.problem}"]) from None
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        raise ParseError([f"{source}:{line}: the character #x{error.character:04x} is not allowed"]) from None
    if loader.faults:
        raise ParseError(loader.faults)
    return value


def written(value: Any) -> str:
    """YAML that `plain` reads as the same value: no aliases, and quotes wherever our reading differs from PyYAML's."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=None, width=100)


def _place(source: str, mark: yaml.Mark | None) -> str:
    return f"{source}:{mark.line + 1}:{mark.column + 1}:" if mark else f"{source}:"


class _Loader(yaml.SafeLoader):
    """Collects faults that do not stop the reading; what is ambiguous to the parser raises."""

    def __init__(self, text: str, source: str) -> None:
        super().__init__(text)
        self._source = source
        self._depth = 0
        self.faults: list[str] = []

    def fault(self, node: yaml.Node, text: str) -> None:
        """One more line, at a node's place."""
        self.faults.append(f"{_place(self._source, node.start_mark)} {text}")

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        if refused := self._refused(event):
            raise yaml.MarkedYAMLError(problem=refused, problem_mark=event.start_mark)
        self._depth += 1
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def _refused(self, event: yaml.Event) -> str | None:
        tag = getattr(event, "tag", None)
        if isinstance(event, yaml.AliasEvent):
            return f"the alias *{event.anchor} is refused; write the value out"
        if tag is not None:
            return f"the tag {tag.replace('tag:yaml.org,2002:', '!!')} is refused; write plain values"
        return f"must nest at most {_MAX_DEPTH} levels deep" if self._depth >= _MAX_DEPTH else None

    def mapping_of(self, node: yaml.MappingNode) -> Iterator[dict[str, Any]]:
        """Keys are unique text."""
        result: dict[str, Any] = {}
        lines: dict[str, int] = {}
        yield result
        for key_node, value_node in node.value:
            key, line = self.construct_object(key_node, deep=True), key_node.start_mark.line + 1
            if not isinstance(key, str):
                self.fault(key_node, f"the key {key!r} must be text; quote it")
            elif key in lines:
                self.fault(key_node, f"duplicate key {key!r}, line {line}; it is in line {lines[key]} too")
            else:
                lines[key] = line
                result[key] = self.construct_object(value_node, deep=True)

    def integer_of(self, node: yaml.ScalarNode) -> int:
        """Decimal only: 010 is ten."""
        digits = node.value.replace("_", "")
        if len(digits) <= 20:
            return int(digits)
        self.fault(node, f"the number {digits[:20]}… has too many digits")
        return 0

    def number_of(self, node: yaml.ScalarNode) -> float:
        """Finite numbers only."""
        value = float(node.value.replace("_", "").lower().replace(".inf", "inf").replace(".nan", "nan"))
        if not math.isfinite(value):
            self.fault(node, f"the number {node.value} must be finite")
        return value

    def text_of(self, node: yaml.ScalarNode) -> str:
        """Text that can be written again: JSON's surrogate pairs joined, halves of one refused."""
        try:
            return node.value.encode("utf-16", "surrogatepass").decode("utf-16")  # type: ignore[no-any-return]
        except UnicodeDecodeError:
            self.fault(node, "text must not hold lone surrogates")
            return ""


class _Dumper(yaml.SafeDumper):
    """PyYAML's own resolvers and ours both decide which text needs quotes."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_RESOLVERS = {
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "null": (r"~|null|Null|NULL|", "~nN\0"),
    "int": (r"[-+]?[0-9][0-9_]*", "-+0123456789"),
    "float": (
        r"[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
}
_Loader.yaml_implicit_resolvers = {}
for _name, (_pattern, _first) in _RESOLVERS.items():
    _starts = ["" if character == "\0" else character for character in _first]
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", re.compile(rf"^(?:{_pattern})\Z"), _starts)
_Loader.add_constructor("tag:yaml.org,2002:map", _Loader.mapping_of)
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.integer_of)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.number_of)
_Loader.add_constructor("tag:yaml.org,2002:str", _Loader.text_of)
