"""The bounds of the replicated runtime, each with its reason."""

from typing import Annotated

import msgspec

__all__ = ["RuntimeLimits"]

Positive = Annotated[int, msgspec.Meta(ge=1)]


class RuntimeLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How long is waited, and how much is held. Times decide liveness only: no promise depends on them."""

    # A batch that two followers have not stored by then is given up, and its commands are refused (B14).
    replicate_ms: Positive = 2_000
    # What got no answer (a batch, a question, an append, a read) is sent again after this long.
    retry_ms: Positive = 250
    # A writer with too few followers asks for them this often.
    probe_ms: Positive = 500
    # A recovering writer waits this long for all four positions; then it goes on with those it has.
    recovery_ms: Positive = 1_000
    # A command waits this long for its writer to recover.
    command_wait_ms: Positive = 5_000
    # Commands of one election that wait, beyond those in flight.
    queue_max: Positive = 4_096
    # Commands decided together. What they record must fit one message; whoever decides may take fewer.
    batch_commands_max: Positive = 256
    # A copy that is farther behind than this is replaced by a snapshot, where there is one, instead of reading the log.
    catch_up_entries_max: Positive = 10_000
