"""A prompt as plain text, in the dialogue format, and in a chat template."""

import pytest

from data.tasks.prompt import Prompt, PromptEncoder
from tests.tiny_models import tiny_tokenizer
from utils.errors import UserError

PROMPT = Prompt("Read: ", "text", " Which?", " It is")


def test_plain():
    assert PROMPT.parts() == ("Read: ", "text", " Which? It is")
    assert PROMPT.text() == "Read: text Which? It is"
    assert Prompt("Read: ", "text", "", system="Be kind.").text() == "Be kind. Read: text"


def test_structured_keeps_the_question():
    before, context, after = PROMPT.parts(structured=True)
    assert before == "[INST] <<SYS>> \n You are a helpful, concise and honest assistant. <</SYS>> \n Read: "
    assert context == "text"
    assert after == " Which? Do not provide any explanation. [/INST] \n It is"
    assert PROMPT.text(structured=True) == before + context + after


def test_encoded(tokenizer):
    ids = PromptEncoder(tokenizer).encode(PROMPT)
    assert tokenizer.decode(ids) == PROMPT.text()
    assert PromptEncoder(tokenizer).count(PROMPT) == len(ids)
    structured = PromptEncoder(tokenizer, structured=True)
    assert tokenizer.decode(structured.encode(PROMPT)) == PROMPT.text(structured=True)


def test_special_tokens_count(tokenizer):
    class WithBeginning:
        """Adds a token where it is asked to."""

        chat_template = tokenizer.chat_template
        apply_chat_template = staticmethod(tokenizer.apply_chat_template)

        def __call__(self, text, add_special_tokens, **options):
            encoding = tokenizer(text, **options)
            return {"input_ids": [1] * add_special_tokens + encoding["input_ids"]}

    assert PromptEncoder(WithBeginning()).count(PROMPT) == PromptEncoder(tokenizer).count(PROMPT) + 1
    assert PromptEncoder(WithBeginning(), chat=True).encode(PROMPT)[0] != 1, "the template writes them itself"


def test_chat(tokenizer):
    encoder = PromptEncoder(tokenizer, chat=True)
    assert encoder.render(PROMPT) == "<user>Read: text Which?\n<assistant>\n It is", "with its space, as published"
    kind = Prompt("Read: ", "text", "", system="Be kind.")
    assert encoder.render(kind) == "<system>Be kind.\n<user>Read: text\n<assistant>\n"
    assert tokenizer.decode(encoder.encode(PROMPT)) == encoder.render(PROMPT)


def test_no_template():
    with pytest.raises(UserError, match="--apply_chat_template: the tokenizer has no chat template"):
        PromptEncoder(tiny_tokenizer(), chat=True)


def test_two_formats_at_once(tokenizer):
    with pytest.raises(UserError, match="--structured_prompt contradicts --apply_chat_template"):
        PromptEncoder(tokenizer, structured=True, chat=True)


@pytest.mark.parametrize(
    "template, words",
    [
        ("{{ messages.__class__.__mro__ }}{{ ''.__class__.__subclasses__() }}", "the template cannot be used"),
        ("{{ raise_exception('roles must alternate') }}", "the template cannot be used (roles must alternate)"),
        ("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "did not end within 0.2"),
    ],
)
def test_a_hostile_chat_template_is_one_sentence(template, words, monkeypatch):
    monkeypatch.setattr("data.tasks.prompt.TEMPLATE_SECONDS", 0.2)
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = template
    with pytest.raises(UserError) as refusal:
        PromptEncoder(tokenizer, chat=True).render(Prompt("a", "b", "c"))
    assert words in str(refusal.value) and "\n" not in str(refusal.value)
