"""GPT-OSS and MiMo-V2-Flash: Llama's attention with a learned score per head that takes part in the softmax."""

from torch import Tensor, nn

from .family import Projections
from .llama import PARTS, family, project

SINKS = "sinks"


def _project_mimo(module: nn.Module, hidden_states: Tensor) -> Projections:
    """Value heads have a width of their own, and a factor."""
    query, key = (
        projection(hidden_states).unflatten(-1, (-1, module.head_dim)).transpose(1, 2)
        for projection in (module.q_proj, module.k_proj)
    )
    value = module.v_proj(hidden_states).unflatten(-1, (-1, module.v_head_dim)).transpose(1, 2)
    return query, key, value * module.v_scale


def _sink_logit(module: nn.Module) -> Tensor | None:
    """None in MiMo's layers without a window."""
    return module.sinks


FAMILIES = {
    "gpt_oss": family(project, (*PARTS, SINKS), sink_logit=_sink_logit),
    "mimo_v2_flash": family(_project_mimo, optional=(SINKS,), sink_logit=_sink_logit),
}
