"""Every bound of the system in one place, each with its reason; tests use tiny ones."""

import msgspec

__all__ = ["Limits"]


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The runner's bounds. Defaults are for a node on a small machine."""

    # Messages taken, decided and committed together at most: bounds the latency of an answer behind a batch.
    batch_messages_max: int = 512
    # Body bytes of one batch at most: bounds memory (a 1000-vote bundle is about 100 KiB).
    batch_bytes_max: int = 8 * 1024 * 1024
    # A decision loop yields its batch after this long: other work (queries) goes on.
    batch_decide_ms_max: int = 50
    # How long an idle pull waits; also the period of idle work.
    pull_wait_ms: int = 1_000
    # Messages of one atomic append (the server allows 1000).
    append_batch_max: int = 500
    # Body bytes of one atomic append.
    append_bytes_max: int = 4 * 1024 * 1024
    # From here on an atomic batch is cheaper than single publishes (a batch costs 7-9 ms).
    append_batch_min: int = 25
    # Unpublished messages beyond which intake stops until the bus takes them.
    outbox_messages_max: int = 20_000
    # The same for their bytes, which are held in memory.
    outbox_bytes_max: int = 64 * 1024 * 1024
    # Timers fired in one batch.
    timers_per_batch_max: int = 64
    # An event body beyond this is stored as a content-addressed blob beside the journal.
    blob_bytes_min: int = 64 * 1024
    # How much of a parked input is kept.
    parked_head_bytes_max: int = 4 * 1024
    # How long command ids and outcomes are kept.
    command_outcomes_kept_ms: int = 24 * 3600 * 1000
    # How long an endpoint waits for a command's outcome.
    request_timeout_ms: int = 10_000
    # Callers that wait at once; more are told that we are busy.
    requests_in_flight_max: int = 1_024
    # Of them, commands of one caller's: the rest of the places is for others.
    requests_in_flight_per_caller_max: int = 128
    # Body bytes of the commands that wait: bounds memory.
    request_bytes_in_flight_max: int = 32 * 1024 * 1024
    # Of them, one caller's: what stands behind them in the line waits no longer than they take (40 bundles of 1000 votes: 2 s).
    request_bytes_in_flight_per_caller_max: int = 4 * 1024 * 1024
    # How full the stream may be, in percent, before awaited commands are refused; the rest is for what follows from earlier ones.
    commands_fill_percent_max: int = 80
    # How often it is looked at.
    fill_look_ms: int = 2_000
    # Pause before the bus is tried again, at first.
    reconnect_ms: int = 50
    # Longest pause before the bus is tried again.
    reconnect_ms_max: int = 2_000
    # Journal records after which a checkpoint is taken.
    checkpoint_records: int = 200_000
    # Checkpoints kept; the journal before the oldest is dropped.
    checkpoints_kept: int = 2
