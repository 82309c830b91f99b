"""Reads report.json of a distillation."""

from __future__ import annotations

import math
from typing import Any

import msgspec
from msgspec import inspect

from mixserver.distill.results import Result


def read_result(text: bytes) -> Result:
    """What `write_result` wrote; null where a number must be is NaN."""
    return msgspec.convert(_numbers(msgspec.json.decode(text), inspect.type_info(Result)), Result)


def _numbers(value: Any, kind: inspect.Type) -> Any:
    """The value with NaN for null wherever the type wants a number and nothing else."""
    match kind, value:
        case inspect.FloatType(), None:
            return math.nan
        case inspect.StructType(fields=fields), dict():
            known = {field.encode_name: field.type for field in fields}
            return {k: _numbers(v, known[k]) if k in known else v for k, v in value.items()}
        case inspect.DictType(value_type=inner), dict():
            return {k: _numbers(v, inner) for k, v in value.items()}
        case inspect.ListType(item_type=inner) | inspect.VarTupleType(item_type=inner), list():
            return [_numbers(v, inner) for v in value]
        case inspect.TupleType(item_types=inners), list() if len(inners) == len(value):
            return [_numbers(v, inner) for v, inner in zip(value, inners, strict=True)]
        case inspect.UnionType(types=(inner, inspect.NoneType())), _ if value is not None:
            return _numbers(value, inner)
    return value
