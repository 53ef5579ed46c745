"""The bytes of a stored row: how far numbers move, once and never again, and what a row costs."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cache import Dtype
from model.presets import native
from service.row_format import EVENT, ROUNDING, RowFormat

LAYERS, HEADS, QK_DIM, V_DIM = 2, 3, 5, 7
CONFIG = native(9, d_model=8, num_layers=LAYERS, num_heads=HEADS, qk_dim=QK_DIM, v_dim=V_DIM)
CPU = torch.device("cpu")
dtypes = pytest.mark.parametrize("dtype", Dtype, ids=lambda dtype: dtype.label)


@dataclass(frozen=True)
class Rows:
    events: np.ndarray[tuple[int], np.dtype[np.void]]
    keys: Tensor
    values: Tensor

    def pack(self, form: RowFormat, start: int = 0, stop: int | None = None) -> bytes:
        rows = slice(start, stop)
        return form.pack(self.events[rows], tokens(self.keys)[rows], tokens(self.values)[rows])


def tokens(part: Tensor) -> npt.NDArray[np.float32]:
    """(layers, H, F, d) -> (F, layers, H, d)."""
    found: npt.NDArray[np.float32] = part.permute(2, 0, 1, 3).numpy()
    return found


@st.composite
def rows(draw: st.DrawFn, largest: float = 4e5) -> Rows:
    """Heads of every magnitude, zeros and lone outliers among them."""
    count = draw(st.integers(0, 4))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))

    def numbers(size: int) -> Tensor:
        heads = (LAYERS, HEADS, count, 1)
        magnitude = 10 ** (torch.rand(heads, generator=generator) * 12 - 7)
        kind = draw(st.sampled_from(["even", "outlier", "zero", "edge"]))
        part = torch.randn((*heads[:3], size), generator=generator).clamp(-4, 4)
        if kind == "outlier":
            part[..., 0] *= 1e4
        elif kind == "zero":
            part[part < 0] = 0
        elif kind == "edge":  # the largest value on and around the edges between two scales
            steps = torch.randint(-100, 90, heads, generator=generator)
            nudge = 1 + torch.randint(-2, 3, heads, generator=generator) * 1e-7
            part[..., :1] = 127.25 * 2.0 ** (steps / 8) * nudge
            part, magnitude = part.clamp(max=127.25 * 2**11), torch.ones(heads)
        return (part * magnitude).clamp(-largest, largest)

    events = np.zeros(count, EVENT)
    events["item"] = np.arange(count)
    return Rows(events, numbers(QK_DIM), numbers(V_DIM))


def read(form: RowFormat, packed: bytes) -> tuple[Tensor, Tensor]:
    return form.unpack(form.numbers(np.frombuffer(packed, form.layout)))


@dtypes
@settings(deadline=None)
@given(rows=rows())
def test_numbers_move_within_the_stated_rounding(dtype: Dtype, rows: Rows) -> None:
    form = RowFormat(CONFIG, dtype, CPU)
    found = read(form, rows.pack(form))
    for read_back, given_ in zip(found, (rows.keys, rows.values), strict=True):
        assert read_back.shape == given_.shape
        off = (read_back.double() - given_.double()).abs()
        if dtype is Dtype.INT8:
            largest = given_.double().abs().amax(-1, keepdim=True)
            allowed = ROUNDING[dtype] * largest * (1 + 1e-5) + 5e-7
        else:
            allowed = ROUNDING[dtype] * given_.double().abs()
        assert bool((off <= allowed).all())


@dtypes
@settings(deadline=None)
@given(rows=rows(largest=1e9))
def test_what_was_read_is_written_as_the_same_bytes(dtype: Dtype, rows: Rows) -> None:
    """So a row is rounded once, however often its state is read, extended and written whole."""
    form = RowFormat(CONFIG, dtype, CPU)
    packed = rows.pack(form)
    assert Rows(rows.events, *read(form, packed)).pack(form) == packed


@dtypes
@settings(deadline=None)
@given(rows=rows(), data=st.data())
def test_rows_are_packed_one_by_one(dtype: Dtype, rows: Rows, data: st.DataObject) -> None:
    form = RowFormat(CONFIG, dtype, CPU)
    cut = data.draw(st.integers(0, len(rows.events)))
    assert rows.pack(form, 0, cut) + rows.pack(form, cut) == rows.pack(form)


def test_documented_layout_of_int8() -> None:
    """Stored states outlive the code: another layout takes a new format version."""
    form = RowFormat(CONFIG, Dtype.INT8, CPU)
    width = HEADS * (QK_DIM + V_DIM)
    assert form.layout.itemsize == 16 + LAYERS * (width + 2 * HEADS)
    keys, values = torch.zeros(LAYERS, HEADS, 1, QK_DIM), torch.zeros(LAYERS, HEADS, 1, V_DIM)
    keys[0, 1, 0, :3] = torch.tensor([127.0, -1.0, 2.4])  # scale 1 is byte 160
    values[1, 2, 0, 6] = -(2.0**-20)  # the smallest scale
    packed = form.pack(np.zeros(1, EVENT), tokens(keys), tokens(values))
    numbers = np.frombuffer(packed, "i1", LAYERS * width, 16).reshape(LAYERS, width)
    scales = np.frombuffer(packed, "u1", LAYERS * 2 * HEADS, 16 + LAYERS * width)
    assert numbers[0, QK_DIM : QK_DIM + 3].tolist() == [127, -1, 2]
    assert numbers[1, -1] == -1
    assert np.count_nonzero(numbers) == 4
    assert scales.tolist() == [0, 160, 0, *[0] * 9]


def test_int8_cuts_off_what_no_scale_holds() -> None:
    form = RowFormat(CONFIG, Dtype.INT8, CPU)
    keys = torch.full((LAYERS, HEADS, 1, QK_DIM), -1e30)
    values = torch.full((LAYERS, HEADS, 1, V_DIM), torch.inf)
    low, high = read(form, form.pack(np.zeros(1, EVENT), tokens(keys), tokens(values)))
    assert bool((low == low[0, 0, 0, 0]).all())
    assert -500_000 < float(low.min()) < -470_000
    assert bool((high == -low.min()).all())


@pytest.mark.parametrize(
    ("layers", "heads", "size"),
    [(8, 2, 25), (4, 2, 32), (2, 2, 32), (3, 4, 128)],
    ids=["ml-1m", "demo", "mlwhiz", "kuairand"],
)
def test_an_int8_row_takes_at_most_27_percent_of_a_float32_row(
    layers: int, heads: int, size: int
) -> None:
    config = native(9, num_layers=layers, num_heads=heads, qk_dim=size, v_dim=size)
    full, half, quarter = (RowFormat(config, dtype, CPU).layout.itemsize for dtype in Dtype)
    assert half < 0.51 * full
    assert quarter <= 0.27 * full
