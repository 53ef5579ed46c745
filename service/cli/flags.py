"""Owns flags that are the fields of a model, so that the two cannot differ."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeAlias, TypeVar

import typer
from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticUndefined

from model.errors import InputError, problems

Command: TypeAlias = Callable[..., None]
_Model = TypeVar("_Model", bound=BaseModel)


class FlagError(InputError):
    """A flag has a wrong value; the message names it."""


def flags_of(model: type[BaseModel], parameter: str) -> Callable[[Command], Command]:
    """A command that takes one flag per field of `model` in the place of `parameter`.

    The parameter gets those that were given, by field name, as they were typed: what is left out,
    and what is right, is for the model to say.
    """

    def decorate(command: Command) -> Command:
        signature = inspect.signature(command, eval_str=True)
        own = [p for p in signature.parameters.values() if p.name != parameter]
        fields = [_flag(name, field) for name, field in model.model_fields.items()]

        @functools.wraps(command)
        def run(**flags: Any) -> None:
            given = {name: flags.pop(name) for name in model.model_fields}
            flags[parameter] = {name: v for name, v in given.items() if v is not None}
            command(**flags)

        keyword = inspect.Parameter.KEYWORD_ONLY
        parameters = [p.replace(kind=keyword) for p in own] + fields
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        return run

    return decorate


def built(model: type[_Model], values: Mapping[str, Any]) -> _Model:
    """The model of these values.

    Raises:
        FlagError: a value is wrong; all that are wrong are named.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        named = (f"{flag_name(where)}: {what}" for where, what in problems(error))
        raise FlagError("; ".join(named)) from error


def flag_name(field: str) -> str:
    return f"--{field.replace('_', '-')}"


def _flag(name: str, field: Any) -> inspect.Parameter:
    has_default = field.default is not None and field.default is not PydanticUndefined
    default = f" (default: {field.default})" if has_default else ""
    names = flag_name(name)
    if field.annotation is bool:
        names += "/" + flag_name(f"no_{name}")
    option = typer.Option(names, help=f"{field.description or ''}{default}", show_default=False)
    annotation = Annotated[field.annotation | None, option]
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation
    )
