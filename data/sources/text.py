"""Bytes decoded to checked text, with errors that say where. `where` is a file, or "FILE line N"."""

import codecs
import json
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from utils.errors import UserError

NULS = 0.05
"""The share of NUL bytes above which bytes are no UTF-8 text: in UTF-16 half of the bytes of English are."""


@contextmanager
def explained(failure: str) -> Iterator[None]:
    """Report an OSError within as a UserError: `failure`, the first half of a sentence, and the reason."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{failure}: {error.strerror or error}") from error


def reading(path: object) -> AbstractContextManager[None]:
    """Report an OSError within as a UserError that names `path`."""
    return explained(f"{path} cannot be read")


def decode(raw: bytes, where: str) -> str:
    """UTF-8 text, line ends as they are, without a byte order mark. Raises UserError."""
    _refuse_nuls(raw.count(0), len(raw), where)
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _no_text(error, error.start, where) from error


def decode_blocks(blocks: Iterable[bytes], where: str) -> Iterator[str]:
    """The text of bytes that come block by block, as `decode` gives it. What is not asked for is not judged.

    The first block has a byte order mark whole, where there is one. Raises UserError.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    read = nuls = 0
    for number, block in enumerate(blocks):
        nuls += block.count(0)
        content = block.removeprefix(codecs.BOM_UTF8) if number == 0 else block
        _refuse_nuls(nuls, read + len(content), where)
        yield _decode_next(decoder, content, read, where)
        read += len(content)
    yield _decode_next(decoder, b"", read, where, final=True)


def _decode_next(decoder: codecs.IncrementalDecoder, block: bytes, read: int, where: str, final: bool = False) -> str:
    """The next characters. read: the bytes before this block, of which the decoder may hold the last few back."""
    held = len(decoder.getstate()[0])
    try:
        return decoder.decode(block, final)
    except UnicodeDecodeError as error:
        raise _no_text(error, read - held + error.start, where) from error


def _refuse_nuls(nuls: int, length: int, where: str) -> None:
    if nuls > NULS * length:
        raise UserError(
            f"{where} is not UTF-8 text: it has so many NUL bytes that it is UTF-16 or no text, save it anew"
        )


def _no_text(error: UnicodeDecodeError, place: int, where: str) -> UserError:
    return UserError(f"{where} is not UTF-8 text: {error.reason} at byte {place}")


def parse_json(raw: bytes, where: str) -> Any:
    """The JSON value of one line. Raises UserError."""
    line = decode(raw, where)
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"{where} is malformed JSON: {error.msg} at character {error.pos + 1}") from error
    except (ValueError, RecursionError) as error:  # numbers of 5,000 digits, brackets nested 1,000 deep
        raise UserError(f"{where} is JSON that cannot be read: {error}") from error


def pick_text(value: Any, text_field: str, where: str) -> str:
    """The text of a JSON line: the value itself if a string, else its field. Raises UserError."""
    if isinstance(value, dict):
        if text_field not in value:
            there = ", ".join(value) or "none"
            raise UserError(f"{where} has no field '{text_field}' (--text_field); it has: {there}")
        value = value[text_field]
        where = f"{where}, field '{text_field}',"
    return check_text(value, where)


class NoTextError(UserError):
    """There is null where a text should be. where: the place."""

    def __init__(self, sentence: str, where: str) -> None:
        super().__init__(sentence)
        self.where = where


def check_text(value: Any, where: str) -> str:
    """`value`, which must be a string of valid Unicode. Raises UserError, of null a NoTextError."""
    if value is None:
        raise NoTextError(f"{where} must be a string of text, not null", where.rstrip(","))
    if not isinstance(value, str):
        raise UserError(f"{where} must be a string of text, not {json_type(value)}")
    try:
        value.encode()
    except UnicodeEncodeError as error:  # "\ud800" is legal JSON, but no tokenizer takes it
        raise UserError(f"{where} holds half a surrogate pair at character {error.start + 1}") from error
    return value


def json_type(value: Any) -> str:
    """The type of a value, as a reader of JSON calls it."""
    names = {dict: "an object", list: "a list", bool: "true or false", type(None): "null", str: "a string"}
    return names.get(type(value), "a number")
