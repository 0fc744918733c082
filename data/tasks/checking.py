"""Fields of JSON objects, with errors that say where. `where`: "FILE line N", or what else finds the object."""

from typing import Any

from data.sources.text import check_text, json_type
from utils.errors import UserError

KINDS = {dict: "an object", list: "a list", bool: "true or false", int: "a whole number"}


def pick(value: Any, name: str, where: str) -> Any:
    """The field `name` of `value`. Raises UserError if that is no object, or has no such field."""
    if not isinstance(value, dict):
        raise UserError(f"{where} must be an object with the field '{name}', not {json_type(value)}")
    if name not in value:
        raise UserError(f"{where} has no field '{name}'; it has: {', '.join(value) or 'none'}")
    return value[name]


def pick_as(value: Any, name: str, kind: type, where: str) -> Any:
    """The field `name`, which must be of a type of KINDS. Raises UserError."""
    found = pick(value, name, where)
    if not isinstance(found, kind) or (kind is int and isinstance(found, bool)):
        raise UserError(f"{where}, field '{name}', must be {KINDS[kind]}, not {json_type(found)}")
    return found


def pick_text(value: Any, name: str, where: str) -> str:
    """The field `name`, which must be text. Raises UserError."""
    return check_text(pick(value, name, where), f"{where}, field '{name}',")


def pick_texts(value: Any, name: str, where: str) -> list[str]:
    """The field `name`, which must be a list of texts. Raises UserError."""
    found = pick_as(value, name, list, where)
    return [check_text(text, f"{where}, field '{name}', item {number},") for number, text in enumerate(found, start=1)]
