"""A prompt in parts, and the tokens that a model reads of it."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from data.beginning import beginning_tokens, encode_begun, encode_plain
from utils.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TEMPLATE_SECONDS = 60
MEND = "mend the tokenizer's chat_template, or leave the flag out"
SYSTEM = "You are a helpful, concise and honest assistant."
CONCISE = "Do not provide any explanation."


@dataclass(frozen=True)
class Prompt:
    """head (instruction), context (the long part), tail (question), answer (how the answer begins).

    Whitespace between parts belongs to them. system: who the model is told to be, "" for nobody in particular.
    manner: how to answer, which only a structured prompt says. separator: what stands for the rest of a context whose
    end is cut off, and what follows it stays; None for a prompt that is cut as one text.
    """

    head: str
    context: str
    tail: str
    answer: str = ""
    system: str = ""
    manner: str = CONCISE
    separator: str | None = None

    def parts(self, structured: bool = False) -> tuple[str, str, str]:
        """(before the context, the context, after it); their sum is the prompt.

        structured: in the dialogue format of Llama 2, as --structured_prompt has it, without the "<s>" that the
        tokenizer adds itself.
        """
        if not structured:
            return (f"{self.system} " if self.system else "") + self.head, self.context, self.tail + self.answer
        manner = f" {self.manner}" if self.manner else ""
        return (
            f"[INST] <<SYS>> \n {self.system or SYSTEM} <</SYS>> \n {self.head}",
            self.context,
            f"{self.tail}{manner} [/INST] \n{self.answer}",
        )

    def text(self, structured: bool = False) -> str:
        """The whole prompt."""
        return "".join(self.parts(structured))

    def messages(self) -> list[dict[str, str]]:
        """A conversation for `apply_chat_template`; `answer` is not in it: the reply is to begin with it."""
        user = {"role": "user", "content": self.head + self.context + self.tail}
        return [{"role": "system", "content": self.system}, user] if self.system else [user]


TokenCounter = Callable[[Prompt], int]


@dataclass(frozen=True)
class PromptEncoder:
    """Encodes a Prompt as its token ids, special ones included.

    structured: see `Prompt.parts`. chat: in the tokenizer's own chat template instead, the reply opened.
    """

    tokenizer: "PreTrainedTokenizerBase"
    structured: bool = False
    chat: bool = False

    def __post_init__(self) -> None:
        if self.chat and self.structured:
            raise UserError("--structured_prompt contradicts --apply_chat_template: give one of them")
        if self.chat and not self.tokenizer.chat_template:
            raise UserError("--apply_chat_template: the tokenizer has no chat template; leave it out")

    def render(self, prompt: Prompt) -> str:
        """The text that is tokenized."""
        if not self.chat:
            return prompt.text(self.structured)
        return self._open_chat(prompt.messages()) + prompt.answer

    def _open_chat(self, messages: list[dict[str, str]]) -> str:
        """The messages in the tokenizer's chat template, which is a program: of whoever made the model.

        Raises UserError where it fails, leaves Jinja's sandbox, or does not end. It runs in a thread of its own, which
        nothing can end but the end of the process.
        """
        outcome: list[str | Exception] = []

        def render() -> None:
            try:
                outcome.append(self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
            except Exception as error:  # a template may raise anything
                outcome.append(error)

        thread = threading.Thread(target=render, daemon=True)
        thread.start()
        thread.join(TEMPLATE_SECONDS)
        if not outcome:
            raise UserError(
                f"--apply_chat_template: the template did not end within {TEMPLATE_SECONDS} seconds: {MEND}"
            )
        if isinstance(outcome[0], Exception):
            words = " ".join(str(outcome[0]).split()) or type(outcome[0]).__name__
            raise UserError(f"--apply_chat_template: the template cannot be used ({words}): {MEND}")
        return outcome[0]

    def encode(self, prompt: Prompt) -> list[int]:
        """The prompt's tokens."""
        return self._encode(self.render(prompt))

    def encode_within(self, prompt: Prompt, most: int) -> list[int]:
        """The prompt's tokens, at most so many: of a longer one with a separator the context ends earlier.

        Raises UserError where not even what follows the context fits.
        """
        ids = self.encode(prompt)
        if len(ids) <= most or prompt.separator is None:
            return ids
        before, context, after = self.render(prompt).partition(prompt.context)
        kept = encode_plain(self.tokenizer, prompt.separator + after)
        if len(kept) >= most:
            raise UserError(f"--max_length {most} is too short: what follows the document has {len(kept)} tokens")
        return self._encode(before + context)[: most - len(kept)] + kept

    def count(self, prompt: Prompt) -> int:
        """Number of tokens of the prompt."""
        return len(self.encode(prompt))

    def counts(self) -> dict[str, Any]:
        """The fields of a `data.tasks.task.TaskRequest` that count tokens."""
        beginning = 0 if self.chat else len(beginning_tokens(self.tokenizer))
        return {"count": self.count, "count_text": self._count_text, "beginning": beginning}

    def _count_text(self, text: str) -> int:
        return len(encode_plain(self.tokenizer, text))

    def _encode(self, text: str) -> list[int]:
        # A chat template writes the special tokens itself.
        return encode_plain(self.tokenizer, text) if self.chat else encode_begun(self.tokenizer, text)
