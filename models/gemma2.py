"""Gemma 2 and VaultGemma: Llama's attention with scores that are capped softly."""

from torch import nn

from .llama import family


def _soft_cap(module: nn.Module) -> float | None:
    return module.attn_logit_softcapping


FAMILIES = dict.fromkeys(("gemma2", "vaultgemma"), family(soft_cap=_soft_cap))
