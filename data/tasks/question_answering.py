"""Prompts of the published code for a question about a document, and its way to read the answer."""

from collections.abc import Sequence

from data.metrics.containment import first_line
from data.metrics.f1 import f1
from data.tasks.prompt import CONCISE, SYSTEM, Prompt

OPENING, CLOSING = "<Answer>", "</Answer>"
STOP = (CLOSING, "\n")
"""Strings that end an answer."""
MAX_GENERATION_LENGTH = 30


def question_prompt(instruction: str, document: str, question: str) -> Prompt:
    """The document under the instruction, the question, and an answer opened with a tag."""
    return Prompt(
        head=f"{instruction} ",
        context=document,
        tail=f" Question: {question} Please highlight your final answer with a single pair of {OPENING} {CLOSING} "
        f"tags. {CONCISE}",
        answer=f" {OPENING}",
        system=SYSTEM,
        manner="",
    )


def tagged_answer(output: str) -> str:
    """The first line's text behind the first opening tag, if there is one, and up to the closing one."""
    line = first_line(output)
    return (line.partition(OPENING)[2] if OPENING in line else line).partition(CLOSING)[0].strip()


def tagged_f1(output: str, targets: Sequence[str]) -> float:
    """F1 of the answer in an output that goes on after the opening tag."""
    return f1(tagged_answer(output), targets)
