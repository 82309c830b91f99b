"""Which structures are fitted, which choose and which tell errors. Knows names only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Literal

Split = Literal["train", "validation", "test"]


def splits(names: Sequence[str], validation: float) -> dict[str, Split]:
    """Deal structures out, evenly over each kind and temperature.

    Of a kind with fewer structures than one round, of which less than half would be fitted, all
    are fitted but the second: what there is little of is there to be learned. If that leaves none
    for validation, and more than one is fitted, the last of the kind that has most is taken.

    Args:
        names: in the order they were sampled, since neighbours are alike; what is before the first
            dash says the kind.
        validation: fraction for validation, and the same again for the test.
    """
    every = round(1.0 / validation)
    counts = Counter(_kind(name) for name in names)
    shares = {kind: list(_shares(count, every)) for kind, count in counts.items()}
    seen: Counter[str] = Counter()
    dealt: dict[str, Split] = {}
    for name in names:
        kind = _kind(name)
        dealt[name] = shares[kind][seen[kind]]
        seen[kind] += 1
    fitted = [name for name, use in dealt.items() if use == "train"]
    if "validation" not in dealt.values() and len(fitted) > 1:
        left = Counter(_kind(name) for name in fitted)
        most = max(left, key=lambda kind: (left[kind], kind))
        dealt[[name for name in fitted if _kind(name) == most][-1]] = "validation"
    return dealt


def _kind(name: str) -> str:
    return name.split("-", 1)[0]


def _shares(count: int, every: int) -> Iterator[Split]:
    """What so many structures of a kind are for, one after the other."""
    usual: list[Split] = [
        "test" if at % every == 0 else "validation" if at % every == every // 2 else "train"
        for at in range(count)
    ]
    if count < every and 2 * usual.count("train") < count:
        usual = ["test" if at == 1 else "train" for at in range(count)]
    yield from usual
