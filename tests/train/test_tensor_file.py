"""Our bytes of a safetensors file are read by the library as what they were."""

from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch
import torch

from orchestra.train.tensor_file import encode

TYPES = [
    torch.float64,
    torch.int64,
    torch.float32,
    torch.int32,
    torch.bfloat16,
    torch.float16,
    torch.int16,
    torch.int8,
    torch.uint8,
    torch.bool,
]


def tensors() -> dict[str, torch.Tensor]:
    """Every type, odd sizes, a scalar, nothing, and a name that JSON must escape."""
    numbers = torch.arange(15).reshape(3, 5) % 2
    found = {f"t{number}": numbers.to(dtype) for number, dtype in enumerate(TYPES)}
    return {**found, "scalar": torch.tensor(2.5), "none": torch.zeros(0, 4), 'a"b\u00e9': numbers}


def test_the_library_reads_what_we_write(tmp_path: Path) -> None:
    path = tmp_path / "file.safetensors"
    path.write_bytes(b"".join(encode(tensors())))
    read = safetensors.torch.load_file(path)
    assert read.keys() == tensors().keys()
    for name, tensor in tensors().items():
        assert read[name].dtype == tensor.dtype
        assert torch.equal(read[name], tensor)


def test_pieces_are_views_of_the_tensors() -> None:
    weight = torch.zeros(4)
    pieces = encode({"weight": weight})
    weight.fill_(1.0)
    assert bytes(pieces[1]) == torch.ones(4).numpy().tobytes()


def test_a_type_that_the_format_lacks_is_named() -> None:
    with pytest.raises(TypeError, match=r"phase is torch.complex64"):
        encode({"phase": torch.zeros(2, dtype=torch.complex64)})
