"""What --repair drops of a stream: checkpoints that count damaged lines or numbers."""

from pathlib import Path
from typing import Any

from scripts.streaming.checkpoints import StreamCheckpoints, examine
from scripts.streaming.streams import TOKEN_NLL_DIGEST
from scripts.streaming.token_nll import digest_of_beginning
from utils.trials.files import SAMPLES, token_nll_name
from utils.trials.trial import Trial


def drop_unfit(checkpoints: StreamCheckpoints, trial: Trial) -> None:
    """Remove, and name, each checkpoint that is damaged or whose chunks and tokens are not all whole.

    The stream goes on from the newest that remains, or begins anew.
    """
    chunks = whole_chunks(trial.samples())
    for folder in checkpoints.folders():
        reason, state = examine(folder, trial.seals.key)
        reason = reason or unfit(trial.folder, state, chunks)
        if reason is not None:
            trial.console.say(f"{folder.name} is dropped: {reason}")
            checkpoints.remove(folder)
    if chunks and not checkpoints.folders():
        trial.console.say("no checkpoint is left, as none is of a finished stream: it is read from its beginning")


def whole_chunks(lines: list[dict[str, Any]]) -> int:
    """How many chunks, from the first on, have their lines."""
    return next((place for place, line in enumerate(lines) if line["index"] != place), len(lines))


def unfit(log_dir: Path, state: dict[str, Any], chunks: int) -> str | None:
    """Why a stream cannot go on from a checkpoint with this state, of which so many chunks are whole; else None."""
    if state["chunks"] > chunks:
        return f"{SAMPLES} holds {chunks} of its {state['chunks']} chunks whole"
    for stream in state["streams"]:
        path = log_dir / token_nll_name(stream["stream"])
        digest = stream.get(TOKEN_NLL_DIGEST)
        if digest is not None and not _begins_with(path, stream["token_nll"], digest):
            return f"{path.name} is not as it was written"
    return None


def _begins_with(path: Path, tokens: int, digest: str) -> bool:
    return path.exists() and digest_of_beginning(path, tokens).hexdigest() == digest
