"""The acts that a network of its own plays, one behind the other."""

from collections.abc import Callable

import msgspec

from overseer.demo import groups, peering, revoking
from overseer.demo.groups import Grouped, Groups
from overseer.demo.network import Network
from overseer.demo.peering import Peered, Peering
from overseer.demo.playing import Unexpected
from overseer.demo.revoking import Revoked, Revoking
from overseer.nats.provision import ApiError
from overseer.node.client import Refused
from overseer.ports.bus import BusError
from overseer.supervise.stopping import StopRequest

__all__ = ["SCENES", "Together", "play_network"]

SCENES = groups.SCENES + revoking.SCENES + peering.SCENES


class Together(msgspec.Struct, frozen=True, kw_only=True):
    """What came of them, and every difference from what they must come to."""

    groups: Grouped
    revoked: Revoked
    peers: Peered
    differences: list[str]


async def play_network(network: Network, seed: str, hurry: StopRequest, *, told: Callable[[str], None]) -> Together:
    """The network has ended by then. `told` hears of each scene."""
    electing, peering = Groups(network, seed, told=told), Peering(network, seed, told=told)
    revoking = Revoking(network, seed, told=told)
    try:
        async with network.running(hurry):
            await electing.play()
            await revoking.play()
            await peering.play()
        differences = [*await electing.conclude(), *revoking.differences(), *peering.differences()]
    except (Unexpected, Refused, BusError, ApiError) as error:
        differences = [f"network: {error}"]
    return Together(groups=electing.grouped, revoked=revoking.revoked, peers=peering.peered, differences=differences)
