"""When a checkpoint is due, and when a run is to end: by chunks and by time. The first rank's clock decides."""

from time import monotonic

from scripts.streaming.arguments import StreamPlan

GO_ON, SAVE, STOP = "go on", "save", "stop"


class Schedule:
    """Asked on the first rank after each chunk. A checkpoint is due by --save_steps or --save_seconds."""

    def __init__(self, plan: StreamPlan, begun: float) -> None:
        """begun: the time, of `monotonic`, that --max_seconds counts from."""
        self._plan, self._begun = plan, begun
        self._saved = monotonic()

    def decide(self, chunks: int, is_writing: bool) -> str:
        """STOP (with a checkpoint), SAVE or GO_ON after so many chunks of the stream.

        is_writing: whether a checkpoint is still being written; another one by time waits for its end.
        """
        now = monotonic()
        if self._plan.max_seconds is not None and now - self._begun >= self._plan.max_seconds:
            return STOP
        by_steps = self._plan.save_steps is not None and chunks % self._plan.save_steps == 0
        seconds = self._plan.seconds_between_checkpoints
        by_time = seconds is not None and now - self._saved >= seconds and not is_writing
        if not (by_steps or by_time):
            return GO_ON
        self._saved = now
        return SAVE
