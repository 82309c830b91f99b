"""Error messages for the values of a TOML file: the key, its value, what was expected, the cure.

msgspec has no structured errors, so its messages are parsed. That is simpler than validating the
tables a second time, and safe: a message that is not recognised is shown as it is, and a test fails
if a release of msgspec words one differently. Knows no files and no particular table.
"""

from __future__ import annotations

import ast
import difflib
import inspect
import itertools
import json
import re
import textwrap
from collections.abc import Iterator, Mapping
from typing import Final, Literal, get_args, get_origin

import msgspec

_PLACE: Final = r"(?: - at `\$\.?(?P<at>.*)`)?$"
_UNKNOWN: Final = re.compile(r"Object contains unknown field `(?P<key>[^`]*)`" + _PLACE)
_MISSING: Final = re.compile(r"Object missing required field `(?P<key>[^`]*)`" + _PLACE)
_KIND: Final = re.compile(r"Expected `(?P<wanted>[^`]*)`, got `(?P<got>[^`]*)`" + _PLACE)
_BOUND: Final = re.compile(r"Expected `(?:int|float)` (?P<bound>[<>]=?) (?P<limit>\S+?)" + _PLACE)
_EMPTY: Final = re.compile(r"Expected `array` of length >= 1" + _PLACE)
_OTHER: Final = re.compile(r"(?P<what>.*?)" + _PLACE, re.DOTALL)
_INDEX: Final = re.compile(r"\[(?:\d+|\.\.\.)\]")
_STEP: Final = re.compile(r"\[(\d+)\]|([^.\[\]]+)")
_BOUNDS: Final = {">": "above", ">=": "at least", "<": "below", "<=": "at most"}
_SENTENCE: Final = re.compile(r"\.\s+(?=[A-Z])")
_WORDS: Final = {
    "array": "a list",
    "bool": "true or false",
    "float": "a number",
    "int": "a whole number",
    "object": "a table",
    "str": "text in quotes",
}


def explain_error(
    message: str, root: type[msgspec.Struct], values: Mapping[str, object] | None = None
) -> str:
    """The message of a `msgspec.ValidationError` in terms of the file.

    Args:
        message: the error's.
        root: the Struct the file is to become.
        values: what the file holds, to quote it.
    """
    if found := _UNKNOWN.match(message):
        return _unknown(found["key"], found["at"] or "", root)
    if found := _MISSING.match(message):
        at = found["at"] or ""
        return _missing(f"{at}.{found['key']}" if at else found["key"], root)
    if found := _KIND.match(message):
        return _wrong_kind(found["at"] or "", found["wanted"], found["got"], values or {})
    if found := _BOUND.match(message):
        bound, limit = _BOUNDS[found["bound"]], float(found["limit"])
        value = _value(found["at"], values)
        return f"{_place(found['at'])} must be {bound} {limit:g}, got {value}"
    if found := _EMPTY.match(message):
        return f"{_place(found['at'])} is empty: name at least one"
    found = _OTHER.match(message)
    if found is None or not found["at"]:
        return message
    among = _among(found["at"], root) if found["what"].startswith("Invalid") else ""
    return f"{_place(found['at'])}: {found['what'].replace(' enum', '')}{among}"


def _unknown(key: str, at: str, root: type[msgspec.Struct]) -> str:
    near = difflib.get_close_matches(key, _keys(at, root), n=1, cutoff=0.5)
    before = f"{_place(at)}." if at else ""
    hint = f"; did you mean {before}{near[0]}?" if near else ""
    return f"{before}{key} is not a setting{hint}"


def _missing(at: str, root: type[msgspec.Struct]) -> str:
    among = _among(at, root)
    meaning = "" if among else next((f": {words}" for words in _meanings(at, root)), "")
    return f"{_place(at)} is missing{among}{meaning}"


def _wrong_kind(at: str, wanted: str, got: str, values: Mapping[str, object]) -> str:
    value = _value(at, values)
    if isinstance(value, str | bool | int | float):
        shown = json.dumps(value, ensure_ascii=False)
    else:
        shown = _WORDS.get(got, f"`{got}`")
    kinds = [kind for kind in wanted.split(" | ") if kind != "null"]
    cure = ""
    if "array" in kinds and isinstance(value, str):
        cure = f": write {json.dumps(value.split() or [''], ensure_ascii=False)}"
    elif "array" in kinds and isinstance(value, bool | int | float):
        cure = f": write [{shown}]"
    expected = " or ".join(_WORDS.get(kind, f"`{kind}`") for kind in kinds)
    return f"{_place(at) or 'the file'}: expected {expected}, got {shown}{cure}"


def _place(at: str) -> str:
    """A place in the file; without an index where msgspec gives none."""
    return at.replace("[...]", "")


def _value(at: str, values: object) -> object:
    """The value in the file at a place; None if it cannot be found."""
    for index, key in _STEP.findall(at):
        if index and isinstance(values, list) and int(index) < len(values):
            values = values[int(index)]
        elif key and isinstance(values, Mapping):
            values = values.get(key)
        else:
            return None
    return values


def _among(at: str, root: type[msgspec.Struct]) -> str:
    """The values a key can have, where they can be counted: of a Literal, or kinds of a table."""
    table, _, name = _INDEX.sub("", at).rpartition(".")
    kinds = _tables(table, root)
    tags = [
        str(config.tag) for kind in kinds if (config := kind.__struct_config__).tag_field == name
    ]
    types = [entry.type for entry in _fields(kinds) if entry.encode_name == name]
    values = [repr(value) for kind in types for value in _literals(kind)] or [repr(t) for t in tags]
    listed = ", ".join(dict.fromkeys(values))
    if listed and any({int, float} & set(get_args(kind)) for kind in types):
        return f"; it is {listed} or a number"
    return f"; it is one of {listed}" if listed else ""


def _literals(kind: object) -> Iterator[object]:
    """All values of the Literals in a type."""
    if get_origin(kind) is Literal:
        yield from get_args(kind)
        return
    for inner in get_args(kind):
        yield from _literals(inner)


def _meanings(at: str, root: type[msgspec.Struct]) -> Iterator[str]:
    """The first sentence of the key's docstring in every kind of its table; of a table its own."""
    for kind in _tables(_INDEX.sub("", at), root):
        yield (inspect.getdoc(kind) or "").partition("\n")[0].removesuffix(".")
    table, _, name = _INDEX.sub("", at).rpartition(".")
    for kind in _tables(table, root):
        try:
            body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
        except (OSError, TypeError, SyntaxError):  # installed without its source
            continue
        lines = body.body if isinstance(body, ast.ClassDef) else []
        for declared, documented in itertools.pairwise(lines):
            match declared, documented:
                case (
                    ast.AnnAssign(target=ast.Name(id=key)),
                    ast.Expr(value=ast.Constant(value=str(text))),
                ) if key == name:
                    yield _SENTENCE.split(" ".join(text.split()))[0].removesuffix(".")


def _keys(table: str, root: type[msgspec.Struct]) -> list[str]:
    """Keys of the table at a dotted path, over all kinds a table can have."""
    return [entry.encode_name for entry in _fields(_tables(_INDEX.sub("", table), root))]


def _fields(kinds: list[type[msgspec.Struct]]) -> Iterator[msgspec.structs.FieldInfo]:
    for kind in kinds:
        yield from msgspec.structs.fields(kind)


def _tables(path: str, root: type[msgspec.Struct]) -> list[type[msgspec.Struct]]:
    """The kinds that the table at a dotted path can have."""
    kinds: list[type[msgspec.Struct]] = [root]
    for part in filter(None, path.split(".")):
        kinds = [
            inner
            for entry in _fields(kinds)
            if entry.encode_name == part
            for inner in _structs(entry.type)
        ]
    return kinds


def _structs(kind: object) -> list[type[msgspec.Struct]]:
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return [kind]
    return [found for inner in getattr(kind, "__args__", ()) for found in _structs(inner)]
