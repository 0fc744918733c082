"""Tokens that a tokenizer of its own accord puts before a text. What it would put behind one is never wanted.

Nothing heavy is imported here, so a prompt can be put together without torch.
"""

from typing import TYPE_CHECKING

from utils.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PROBE = "a"


def beginning_tokens(tokenizer: "PreTrainedTokenizerBase") -> list[int]:
    """Such tokens, [] where the tokenizer has none. Raises UserError where they change those of the text."""
    plain = encode_plain(tokenizer, PROBE)
    whole = tokenizer(PROBE, add_special_tokens=True, return_attention_mask=False, verbose=False)["input_ids"]
    for start in range(len(whole) - len(plain) + 1):
        if whole[start : start + len(plain)] == plain:
            return whole[:start]
    raise UserError(
        "the tokenizer encodes a text in another way where it adds special tokens: name another with --tokenizer_path"
    )


def encode_plain(tokenizer: "PreTrainedTokenizerBase", text: str) -> list[int]:
    """The tokens of a text, none added at its ends."""
    return tokenizer(text, add_special_tokens=False, return_attention_mask=False, verbose=False)["input_ids"]


def encode_begun(tokenizer: "PreTrainedTokenizerBase", text: str) -> list[int]:
    """The tokens of a text behind those of its beginning; none at its end, where a model is to go on."""
    return beginning_tokens(tokenizer) + encode_plain(tokenizer, text)
