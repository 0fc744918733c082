"""Which token cache a trial reads from: that of its data set and its tokenizer."""

import os
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from data.arguments import CorpusPlan
from data.corpus import Corpus
from data.token_cache import TokenCache, default_folder
from data.tokenizer_identity import id_type, tokenizer_identity
from scripts.streaming.arguments import NO_CACHE
from utils.console import Console

SOURCE_ARGUMENTS = ("dataset", "dataset_dir", "dataset_group", "split", "text_field")
"""Arguments that say which document stands at which place, whatever stretch of them is read."""


def open_token_cache(
    folder: str | None, plan: CorpusPlan, corpus: Corpus, tokenizer: PreTrainedTokenizerBase, console: Console
) -> TokenCache | None:
    """The cache in `folder` as --token_cache takes it, None where nothing is kept."""
    if folder == NO_CACHE:
        return None
    identity = tokenizer_identity(tokenizer)
    if identity is None:
        console.say("the tokenizer is written in Python, and no digest tells two such apart: ids are not kept")
        return None
    root = Path(folder).expanduser() if folder else default_folder()
    about = {"tokenizer": identity, "corpus": {name: _told_apart(getattr(plan, name)) for name in SOURCE_ARGUMENTS}}
    return TokenCache(root, about, id_type(tokenizer), corpus.end, console.say)


def _told_apart(value: str | None) -> str | None:
    """A path in full: the same relative one is another data set in another folder."""
    path = os.path.expanduser(value or "")
    return os.path.realpath(path) if value and os.path.exists(path) else value
