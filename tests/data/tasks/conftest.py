"""What the tests of tasks share: a tokenizer, a small haystack, and opening a task with few words."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerBase

from data.tasks.prompt import PromptEncoder
from data.tasks.registry import TASKS
from data.tasks.task import Selection, TaskRequest, open_examples
from tests.tiny_models import tiny_tokenizer

SENTENCE = "Number {0} of the sentences says that {0} is not {1}."
TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>\n{% endif %}"
)


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerBase:
    """The tiny tokenizer, with a chat template."""
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def begun_tokenizer() -> PreTrainedTokenizerBase:
    """The tiny tokenizer, which puts a token before every text."""
    tokenizer = tiny_tokenizer()
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return tokenizer


@pytest.fixture(scope="session")
def haystack(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A corpus of 5,000 words, each sentence of which is different."""
    path = tmp_path_factory.mktemp("haystack") / "text.txt"
    path.write_text("\n".join(SENTENCE.format(number, number + 1) for number in range(500)))
    return str(path)


@pytest.fixture
def open_task(tokenizer: PreTrainedTokenizerBase, haystack: str) -> Callable[..., Selection]:
    """`open_task(name, **flags)`: the examples of a task; three for a generated one, in the small haystack.

    begun: with a tokenizer that puts a token before every text.
    """

    def open_named(name: str, chat: bool = False, begun: bool = False, **flags) -> Selection:
        task, encoder = TASKS[name], PromptEncoder(begun_tokenizer() if begun else tokenizer, chat=chat)
        if task.generates:
            flags.setdefault("num_samples", 3)
        if "haystack" in task.options:
            flags.setdefault("haystack", haystack)
        return open_examples(task, TaskRequest(name, **encoder.counts(), **flags))

    return open_named


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder for a data set."""
    return tmp_path
