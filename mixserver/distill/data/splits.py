"""Splits of the structures into training, validation and test sets, by their names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Literal

Split = Literal["train", "validation", "test"]


def split_structures(names: Sequence[str], validation: float) -> dict[str, Split]:
    """Split structures evenly over each kind and temperature, by their names.

    The part of a name before the first dash is the kind. Names are in the order of sampling, since
    neighbours are correlated; the fraction `validation` is held out for validation, and as many
    again for testing. Of a kind with few structures, of which less than half would be fitted, all
    but the second are fitted. If no structure is left for validation, and more than one is fitted,
    the last one of the most frequent kind is used for validation.
    """
    every = round(1.0 / validation)
    counts = Counter(_kind(name) for name in names)
    shares = {kind: list(_shares(count, every)) for kind, count in counts.items()}
    seen: Counter[str] = Counter()
    assigned: dict[str, Split] = {}
    for name in names:
        kind = _kind(name)
        assigned[name] = shares[kind][seen[kind]]
        seen[kind] += 1
    fitted = [name for name, use in assigned.items() if use == "train"]
    if "validation" not in assigned.values() and len(fitted) > 1:
        left = Counter(_kind(name) for name in fitted)
        most = max(left, key=lambda kind: (left[kind], kind))
        assigned[[name for name in fitted if _kind(name) == most][-1]] = "validation"
    return assigned


def _kind(name: str) -> str:
    return name.split("-", 1)[0]


def _shares(count: int, every: int) -> Iterator[Split]:
    """The splits of the structures of one kind, in order."""
    usual: list[Split] = [
        "test" if at % every == 0 else "validation" if at % every == every // 2 else "train"
        for at in range(count)
    ]
    if count < every and 2 * usual.count("train") < count:
        usual = ["test" if at == 1 else "train" for at in range(count)]
    yield from usual
