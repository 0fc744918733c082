"""Small things that every script records or prints."""

import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from utils.arguments import RunPlan
from utils.ranks.command import typed_command
from utils.ranks.runtime import Runtime, describe_device

PACKAGES = (
    *("torch", "transformers", "tokenizers", "deepspeed", "datasets", "numpy", "sacrebleu", "rouge-score"),
    "lm-eval",
)
ROOT = Path(__file__).resolve().parents[1]


def describe_run(
    script: str,
    plan: RunPlan,
    runtime: Runtime,
    model: dict[str, Any],
    lambda_attention: dict[str, Any] | None,
    corpus: str,
    documents: int,
) -> dict[str, Any]:
    """The content of a trial's config.json; `corpus` is the name of what `documents` are read from.

    model: what identifies it. lambda_attention: its settings, None of a vanilla model.
    """
    return {
        "script": script,
        "arguments": dict(plan.recorded),
        "command": typed_command(),
        "versions": {"python": sys.version.split()[0], **package_versions()},
        "git_commit": git_commit(),
        "device": describe_device(runtime.device),
        "world_size": runtime.world_size,
        "seed": plan.seed,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "model": model,
        "lambda_attention": lambda_attention,
        "corpus": {"name": corpus, "documents": documents},
    }


def package_versions() -> dict[str, str]:
    """Versions of the packages that results depend on, of those that are installed."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def git_commit() -> str | None:
    """The commit this code is at; None outside a git checkout."""
    try:
        result = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return result.stdout.strip()
