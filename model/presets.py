"""Owns the named formulations: what each public HSTU implementation is, as a configuration, and
SASRec, the baseline that they are compared with.

Never builds a network. Facts per implementation were read in its source; sizes are arguments.
"""

from collections.abc import Callable
from typing import Any

from model.config import ActionTask, HSTUConfig, TimeBucketing, ValueFormula

RATING_TASK = ActionTask(name="rating", actions=("negative", "neutral", "positive"))
"""MovieLens ratings as actions: 1-2.5 negative, 3-3.5 neutral, 4-5 positive."""

RATING_VALUE = ValueFormula(retrieval=1.0, actions={"positive": 1.0, "negative": -1.0})
"""The default score of a list: the retrieval logit, moved by up to one by the expected rating."""

META_OUTPUTS = 11
"""Rows that Meta's tables hold beyond the history: gr_output_length + 1."""


def native(num_items: int, *, max_length: int = 256, **overrides: Any) -> HSTUConfig:
    """This project's formulation: actions fused, exactly cacheable, no absolute positions.

    Raises:
        pydantic.ValidationError: an impossible value; the message names the field.
    """
    tasks = overrides.get("tasks", (RATING_TASK,))
    fields: dict[str, Any] = {
        "tasks": tasks,
        "value": RATING_VALUE if RATING_TASK in tasks else ValueFormula(),
        "max_distance": max_length,
        "window": _window(max_length),
    }
    return _config(num_items, fields, overrides)


def meta(num_items: int, *, max_length: int = 200, **overrides: Any) -> HSTUConfig:
    """The research code published with arXiv 2402.17152 (`hstu.py`, `rel_bias`)."""
    size = max_length + META_OUTPUTS
    fields: dict[str, Any] = {
        "item_scale": "sqrt_d",
        "positions": "start",
        "max_positions": size,
        "max_distance": size,
        "in_norm": "plain",
        "attention_norm": "plain",
        "divisor": float(size),
        "residual": "input",
        "window": _window(max_length),
    }
    return _config(num_items, fields, overrides)


def rectools(num_items: int, *, max_length: int = 200, **overrides: Any) -> HSTUConfig:
    """RecTools 0.19 `HSTUModel`: affine norms, positions from the end."""
    fields: dict[str, Any] = {
        "item_scale": "sqrt_d",
        "positions": "end",
        "max_positions": max_length,
        "max_distance": max_length,
        "divisor": float(max_length),
        "residual": "input",
        "similarity_eps": 1e-8,
        "window": _strict_window(max_length),
    }
    return _config(num_items, fields, overrides)


def tf(num_items: int, *, max_length: int = 200, **overrides: Any) -> HSTUConfig:
    """HSTU-Tensorflow, for windows without padding: residual on the normed input, divisor i+1.

    Its padding keys attend; that part depends on the padded length and is left out.
    """
    fields: dict[str, Any] = {
        "item_scale": "sqrt_d",
        "positions": "start",
        "max_positions": max_length + 1,
        "max_distance": max_length,
        "norm_eps": 1e-8,
        "divisor": "count",
        "residual": "normed",
        "window": _window(max_length),
    }
    return _config(num_items, fields, overrides)


def genrec(num_items: int, *, max_length: int = 50, **overrides: Any) -> HSTUConfig:
    """genrec: no input norm, no output projection, FFN of 4 d, own-time bias per head, dot."""
    fields: dict[str, Any] = {
        "bias_heads": "per_head",
        "max_distance": max_length,
        "time_bias": TimeBucketing(width=0.693, num_buckets=63),
        "time_query": "self",
        "in_norm": "none",
        "norm_eps": 1e-5,
        "projection_bias": True,
        "divisor": 1.0,
        "output": "unprojected",
        "residual": "input",
        "ffn_multiple": 4,
        "final_norm": True,
        "similarity": "dot",
        "temperature": 1.0,
        "window": _window(max_length),
    }
    return _config(num_items, fields, overrides)


def rechub(num_items: int, *, max_length: int = 200, **overrides: Any) -> HSTUConfig:
    """torch-rechub 0.9: scaled by 1/sqrt(K), own-time bias per head; its windows are left-padded,
    so a position is counted from the end of the window."""
    fields: dict[str, Any] = {
        "item_scale": "sqrt_d",
        "positions": "end",
        "max_positions": max_length,
        "bias_heads": "per_head",
        "max_distance": max_length,
        "time_query": "self",
        "norm_eps": 1e-5,
        "projection_bias": True,
        "qk_scale": "rsqrt",
        "divisor": float(max_length),
        "residual": "input",
        "window": _strict_window(max_length),
    }
    return _config(num_items, fields, overrides)


def rechub_softmax(num_items: int, *, max_length: int = 200, **overrides: Any) -> HSTUConfig:
    """torch-rechub as first documented: softmax attention, sigmoid gate, FFN of 4 d, the age of an
    event embedded at the input."""
    fields: dict[str, Any] = {
        "item_scale": "sqrt_d",
        "positions": "end",
        "max_positions": max_length,
        "input_times": TimeBucketing(fn="sqrt", unit_s=60, width=1.0, num_buckets=127),
        "bias_heads": "per_head",
        "max_distance": max_length,
        "time_bias": None,
        "time_query": "self",
        "norm_eps": 1e-5,
        "projection_bias": True,
        "attention": "softmax",
        "gate": "sigmoid",
        "qk_scale": "rsqrt",
        "divisor": 1.0,
        "residual": "input",
        "ffn_multiple": 4,
        "similarity": "dot",
        "temperature": 1.0,
        "window": _strict_window(max_length),
    }
    return _config(num_items, fields, overrides)


def sasrec(num_items: int, *, max_length: int = 200, **overrides: Any) -> HSTUConfig:
    """SASRec as the research code published with arXiv 2402.17152 has it (`sasrec.py`), the
    baseline there: softmax attention of normed queries on plain keys, no gate, an FFN."""
    fields: dict[str, Any] = {
        "item_scale": "sqrt_d",
        "positions": "start",
        "max_positions": max_length,
        "max_distance": 0,
        "time_bias": None,
        "time_query": "self",
        "attention": "softmax",
        "qk_scale": "rsqrt",
        "divisor": 1.0,
        "in_norm": "plain",
        "keys": "input",
        "attention_norm": "none",
        "norm_eps": 1e-8,
        "projection_bias": True,
        "gate": "none",
        "ffn_multiple": 1,
        "ffn_activation": "relu",
        "attention_dropout": overrides.get("dropout", 0.2),
        "window": _window(max_length),
    }
    return _config(num_items, fields, overrides)


PRESETS: dict[str, Callable[..., HSTUConfig]] = {
    "native": native,
    "meta": meta,
    "rectools": rectools,
    "tf": tf,
    "genrec": genrec,
    "rechub": rechub,
    "rechub-softmax": rechub_softmax,
    "sasrec": sasrec,
}


def _window(capacity: int) -> dict[str, int]:
    """A full window keeps three quarters when it is rebuilt."""
    return {"capacity": capacity, "keep": max(1, capacity * 3 // 4)}


def _strict_window(capacity: int) -> dict[str, int]:
    """The newest `capacity` events, as those implementations cut a history: free where every
    request encodes the window anyway."""
    return {"capacity": capacity, "keep": capacity}


def _config(num_items: int, fields: dict[str, Any], overrides: dict[str, Any]) -> HSTUConfig:
    return HSTUConfig.model_validate({"num_items": num_items} | fields | overrides)
