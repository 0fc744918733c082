"""The progress bar of a diagnosis, in tokens: it has no NLL to show."""

from utils.progress import Progress


class DiagnosisProgress(Progress):
    """`Progress` without the NLL."""

    def describe(self) -> str:
        return " | ".join(part for part in super().describe().split(" | ") if not part.startswith("nll"))
