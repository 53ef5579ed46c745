"""Owns what crosses into the compiled library: the records of `stack.cpp`, and loading it."""

import ctypes
from ctypes import POINTER, Structure, c_bool, c_char_p, c_float, c_int32, c_int64, c_void_p
from functools import cache
from typing import Any

import torch

from model.kernels.native.build import digest, library


def _fields(kind: Any, names: str) -> list[tuple[str, Any]]:
    return [(name, kind) for name in names.split()]


class LayerRecord(Structure):
    _fields_ = _fields(
        c_void_p,
        "in_scale in_shift mix mix_shift attention_scale attention_shift out out_shift "
        "position time",
    )


class ModelRecord(Structure):
    _fields_ = [
        *_fields(c_int32, "num_layers width heads qk v bias_heads num_distances num_boundaries"),
        *_fields(c_int32, "gate_is_sigmoid residual_is_normed output_is_concatenated"),
        *_fields(c_int32, "query_is_next is_bfloat16"),
        *_fields(c_float, "norm_eps q_scale divisor"),
        ("boundaries", c_void_p),
        ("layers", POINTER(LayerRecord)),
        ("num_items", c_int64),
        *_fields(
            c_int32,
            "rows_per_item num_actions num_positions num_age_boundaries num_logits query_width",
        ),
        *_fields(c_int32, "positions_from_end query_is_unit"),
        *_fields(c_float, "item_scale similarity_eps"),
        *_fields(
            c_void_p,
            "items actions positions ages age_boundaries final_scale final_shift "
            "hidden hidden_shift logits logits_shift",
        ),
    ]


class UserRecord(Structure):
    _fields_ = [
        *_fields(c_void_p, "pages times items actions out"),
        ("now", c_int64),
        *_fields(c_int32, "num_events start stop first num_rows is_live"),
    ]


def machine() -> str:
    """The best of the libraries that this machine runs; built or not."""
    capability = torch.backends.cpu.get_cpu_capability().lower()
    return capability if library(capability).exists() else "generic"


@cache
def load(name: str) -> ctypes.CDLL | None:
    """The library for one instruction set; None if it is not built of these sources, or lacks
    what it needs."""
    try:
        lib = ctypes.CDLL(str(library(name)))
    except OSError:
        return None
    lib.mfalcon_sources.restype = c_char_p
    if lib.mfalcon_sources() != digest().encode():
        return None
    lib.mfalcon_encode.restype = lib.mfalcon_score.restype = c_bool
    return lib
