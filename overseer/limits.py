"""Every bound of the system in one place, each with its reason; tests use tiny ones."""

import msgspec

__all__ = ["Limits", "SiteLimits"]


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


class SiteLimits(msgspec.Struct, frozen=True, kw_only=True):
    """The bounds of one site of replicated elections; those of one election there are subsystems.elections.runtime.limits'."""

    # Elections held in memory at once. Beyond it idle ones go to the disk; when none is idle, what is new is refused, or waits.
    elections_active_max: int = 4_096
    # An election that nothing came for during this long goes to the disk.
    passivate_after_ms: int = 600_000
    # How often that is looked at.
    tidy_ms: int = 5_000
    # Inputs of one election that wait: messages of other sites beyond it are lost (they are sent again), commands refused.
    inbox_max: int = 1_024
    # Entries of one page when an election reads its log.
    read_entries_max: int = 256
    # Record bytes of one batch: it has to fit a message with its envelope.
    batch_bytes_max: int = 256 * 1024
    # A page of a snapshot: below a message's size, and below the number of values that a message may hold.
    snapshot_bytes_max: int = 384 * 1024
    snapshot_rows_max: int = 4_000
    # Snapshots that are read to other sites at once, and how long one of them is kept for the next page.
    snapshots_served_max: int = 8
    snapshot_kept_ms: int = 30_000
    # Snapshots that are fetched at once. Until it is installed each is held in memory up to so many bytes, beyond them in a file.
    snapshots_fetched_max: int = 2
    snapshot_memory_bytes: int = 1024 * 1024
    # Attempts at a snapshot that changes while its pages are fetched, and at a page that does not come.
    snapshot_attempts_max: int = 3
    # Row bytes of a snapshot that are written at once: they are in memory several times, and the event loop stands meanwhile.
    install_bytes_max: int = 2 * 1024 * 1024
    # A site that has less than it should is recorded as away after this long: the others, which have it, write meanwhile.
    aside_after_ms: int = 500
    # How often a site looks at what it still has to catch up with, and after how long without progress it begins with an election anew.
    fill_look_ms: int = 100
    fill_again_ms: int = 2_000
    # What nobody can bring up to date (it is stopped, or nowhere else) keeps the site from writing the others no longer than this.
    fill_patience_ms: int = 30_000
    # So near to the log's end a site may write again: the few entries that lack come while it recovers.
    fill_entries_near: int = 256
    # What is written but need not be durable at once is written out after this long.
    flush_ms: int = 200
    # How long another site's answer is waited for: a page, a forwarded query.
    ask_ms: int = 2_000
    # How long a caller waits for a command's outcome, hops to other sites included.
    command_ms: int = 10_000
    # Of it, how long another site is waited for before it is asked again, with the same id, or another one is.
    forward_ms: int = 1_000
    # And how long a site waits for the recorded topology that a message has seen.
    catch_up_ms: int = 2_000
    # How often the topology and the leases are looked at, and the own lease renewed.
    look_ms: int = 250
    # A site whose lease ended is recorded as away when it was gone for this long: a hiccup moves nothing.
    away_after_ms: int = 300
    # A site that is back is recorded as present when its lease ran for this long: it writes again, so it must be back for good.
    back_after_ms: int = 3_000
    # Nobody is recorded as away by a site that saw the board for less than this: after an outage all leases have ended.
    watched_ms: int = 3_000
    # A site whose disk has been at one commit for longer than this gives no sign of life.
    stuck_ms: int = 1_000
    # A copy whose site has not been at the log's end for so long is told to be stale.
    stale_after_ms: int = 3_000
    # Pause before the bus is tried again, at first and at most.
    retry_ms: int = 50
    retry_ms_max: int = 2_000
