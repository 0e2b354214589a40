"""What differs is named with both shapes; what fits is found."""

from __future__ import annotations

import torch
from torch import Tensor

from orchestra.train.fit import SHOWN_CHARACTERS, fitting_parts, misfits, shortened


def model(**sizes: int) -> dict[str, Tensor]:
    """`head__out__bias=3` is a tensor head.out.bias of that size."""
    return {name.replace("__", "."): torch.zeros(size) for name, size in sizes.items()}


def test_equal_names_and_shapes_fit() -> None:
    assert misfits(model(a=1, b=2), model(b=2, a=1)) == []


def test_each_difference_has_names_and_shapes_in_order() -> None:
    own = model(head__out=3, head__old=2)
    given = model(head__out=5, head__new=4) | {"head.old": torch.zeros(2, dtype=torch.int64)}
    assert misfits(own, given) == [
        "head.new float32[4] is unknown",
        "head.old is int64[2] instead of float32[2]",
        "head.out is float32[5] instead of float32[3]",
    ]
    assert misfits(own, {}) == ["head.old float32[2] is missing", "head.out float32[3] is missing"]


def test_long_lists_are_cut_and_counted() -> None:
    found = [f"head.layer{n}.weight is unknown" for n in range(9)]
    assert shortened(found[:2]) == f"2 tensors differ: {found[0]}; {found[1]}"
    told = shortened(found)
    assert told.startswith(f"9 tensors differ: {found[0]}; {found[1]}; {found[2]}; ")
    assert told.endswith(f"{found[3]}; and 5 more")  # whole names
    long = "x" * (SHOWN_CHARACTERS + 1)
    assert shortened([long]) == f"1 tensor differs: {long}"
    assert shortened([long, "y"]) == f"2 tensors differ: {long}; and 1 more"


def test_the_largest_parts_that_fit() -> None:
    own = model(upstream__a__b=2, upstream__c=1, head__net__w=3, head__net__v=3, head__out=4)
    given = own | model(head__out=5)
    assert fitting_parts(own, given) == ["head.net", "upstream"]
    assert fitting_parts(own, own) == ["head", "upstream"]
    assert fitting_parts(own, model(other=1)) == []


def test_a_part_with_something_unknown_in_it_does_not_fit() -> None:
    own = model(head__net__w=3)
    assert fitting_parts(own, own | model(head__net__v=3)) == []


def test_names_end_at_dots() -> None:
    assert fitting_parts(model(head=1, head2=1), model(head=1, head2=3)) == ["head"]
