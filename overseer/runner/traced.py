"""What a batch's inputs are for traces: collected while it is decided, told when it is committed. Nothing where there is no tracer."""

import time

from messages.subjects import HEADER_TRACEPARENT
from overseer.ports.tracer import Handled, Tracer
from overseer.runner.engine import Batch
from overseer.runner.intake import Intake
from overseer.runner.schema import TimerRow
from overseer.runner.wire import cause_text

__all__ = ["BatchTrace"]


class BatchTrace:
    """Of one batch after the other."""

    def __init__(self, tracer: Tracer | None) -> None:
        self._tracer = tracer
        self._handled: list[Handled] = []
        self._began_ns = 0

    def begin(self) -> None:
        """Of the next input."""
        if self._tracer is not None:
            self._began_ns = time.time_ns()

    def took(self, batch: Batch, intake: Intake) -> None:
        """The input was decided; what was seen before, or is not for us, leaves no trace."""
        if self._tracer is not None and len(batch.decided) > len(self._handled):
            stored = intake.delivery.message
            self._note(
                batch,
                key=intake.message.spec.key if intake.message is not None else "",
                subject=stored.subject,
                size=len(stored.body),
                parent=stored.headers.get(HEADER_TRACEPARENT, ""),
            )

    def fired(self, batch: Batch, timer: TimerRow) -> None:
        """The timer was decided."""
        if self._tracer is not None:
            self._note(batch, key=timer.message, subject="", size=len(timer.body), parent="")

    def _note(self, batch: Batch, *, key: str, subject: str, size: int, parent: str) -> None:
        cause, status, code = batch.decided[-1]
        self._handled.append(
            Handled(
                key=key,
                subject=subject,
                id=cause.id,
                body_bytes=size,
                parent=parent,
                trace=cause.trace,
                cause=cause_text(cause),
                correlation=cause.correlation,
                status=status,
                code=code,
                began_ns=self._began_ns,
                decided_ns=time.time_ns(),
            )
        )

    def committed(self) -> None:
        """All of it."""
        if self._tracer is not None and self._handled:
            handled, self._handled = self._handled, []
            self._tracer.processed(handled, time.time_ns())
