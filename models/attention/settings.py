"""The values that settings of Λ-attention may have. Nothing is imported here, so that command-line flags can ask."""

SAME_AS_LOCAL = "local_branch"
"""As a limit_distance: whatever the local branch is."""
NO_OFFSET = 0.0
"""As a triangle_offset: the middle keys are not attended to."""
BACKENDS = ("auto", "flash", "flex", "edges", "blockwise", "onednn")
ON_CPU_ALONE = ("edges", "onednn")
ON_GPU = ("auto", "flash", "flex", "blockwise")
OF_BANDS = ("auto", "edges", "blockwise")
"""Those of methods that attend to all tokens."""
SINK_POSITIONS = ("text", "cache")
WINDOW_LAYERS = ("own", "lambda")
"""The first of each counts unless another is given."""
REMAPPINGS = {
    "self_extend": ("window", "group"),
    "dca": ("window", "chunk"),
    "rerope": ("window", "log_scale"),
    "leaky_rerope": ("window", "factor", "log_scale"),
}
"""Methods that attend to all tokens, and feel them at other distances than they are at; and the parameters of each."""
