"""Room in the streams: trim what is done with, and keep outside commands from filling what is left."""

import time

import anyio

from messages.subjects import net_stream, node_stream
from overseer.config import Config
from overseer.nats.provision import Api, ApiError
from overseer.nats.quota import CommandQuota
from overseer.nats.trimming import trim
from overseer.observe.logs import Waits, logger
from overseer.ports.bus import BusError

__all__ = ["keep_room"]

# How often the node's stream is looked at: a flood at the speed of a disk takes seconds to fill the room between two quotas.
_LOOK_MS = 1_000
# From here on trimming does not wait for its turn. History alone is kept below it.
_CROWDED_FILL = 0.6


async def keep_room(config: Config, manage: Api) -> None:
    """Do so for ever; `manage` is the provisioner's. What goes wrong is logged and tried again."""
    log = logger("overseer")
    waits = Waits(log, "not_trimmed")
    quota = CommandQuota(manage, config.node, config.subsystems, percent=config.limits.commands_fill_percent_max)
    streams = (node_stream(config.node), net_stream())
    trimmed_s = time.monotonic()
    while True:
        await anyio.sleep(min(config.nats.trim_ms, _LOOK_MS) / 1000)
        try:
            look = await quota.look()
            waits.tell("")
            if look.changed:
                what = "outside_commands_refused" if look.closed else "outside_commands_taken_again"
                log.warning(what, stream=streams[0], fill_percent=round(100 * look.fill))
            if look.fill < _CROWDED_FILL and time.monotonic() - trimmed_s < config.nats.trim_ms / 1000:
                continue
            trimmed_s = time.monotonic()
            for stream in streams:
                trimmed = await trim(manage, stream, keep=config.nats.history_messages)
                if trimmed.messages:
                    log.info("trimmed", stream=stream, messages=trimmed.messages, below=trimmed.below, held_by=trimmed.held_by)
        except (BusError, ApiError) as error:
            waits.tell(str(error))
