"""The demo's very last act, on the network of the consensus groups: its nodes elect each other as peers, by what they hold."""

from collections.abc import Callable, Iterator

import anyio
import msgspec

from messages.peer_queries import (
    TOKENS_MAX,
    ChallengeBegun,
    ChallengePeers,
    HoldTokens,
    PeerHistory,
    PeerHistoryReport,
    Peers,
    PeersReport,
)
from messages.peers import PeerElectionEnd, PeerElectionEnded
from overseer.demo.network import LOOK_S, Network
from overseer.demo.playing import PATIENCE_S, Unexpected
from overseer.feeds.keyring import derive
from overseer.feeds.tokens import development_tokens

__all__ = ["SCENES", "Peered", "Peering"]

# How many scenes the act has.
SCENES = 4
# Fewer give no proofs: each of the ten mappings of one is a token in a thousand, five of them on half of the ring.
_TOKENS = 20_000
_RIGHT_ONE_IN = 10


class Peered(msgspec.Struct, kw_only=True):
    """What came of it. `liar`: the node that made up most of what it holds. `asked`: elections, of which so many `elected` a peer.

    `killed`: the node that was killed in mid-election. `connected`: for each node but the liar, its connected peers among the others.
    """

    tokens: int = 0
    liar: str = ""
    asked: int = 0
    elected: int = 0
    liar_elected: int = 0
    killed: str = ""
    connected: dict[str, list[str]] = msgspec.field(default_factory=dict[str, list[str]])


class Peering:
    """The act. `told` hears of each scene."""

    def __init__(self, network: Network, seed: str, *, told: Callable[[str], None]) -> None:
        self.peered = Peered()
        self._network = network
        self._told = told
        self._universe = sorted(development_tokens(seed, _TOKENS))
        # Of ten mappings eight must be equal: one that has every tenth token right comes to that once in millions of proofs.
        self._made_up = sorted(
            [*self._universe[::_RIGHT_ONE_IN], *development_tokens(f"{seed} made up", _TOKENS - _TOKENS // _RIGHT_ONE_IN)]
        )
        nodes = list(network.nodes)
        self._liar = nodes.pop(derive(seed, "peering", 0)[0] % len(nodes))
        self._honest = nodes
        self._victim = nodes[derive(seed, "peering", 1)[0] % len(nodes)]
        # By node: the tokens that it challenged the others with.
        self._asked: dict[str, list[int]] = {node: [] for node in nodes}

    async def play(self) -> None:
        """While the network is up. Raises Unexpected, Refused, BusError."""
        peered, told = self.peered, self._told
        peered.tokens, peered.liar, peered.killed = _TOKENS, self._liar, self._victim
        told(f"The nodes are told what they hold: {_TOKENS} tokens each, of which {self._liar} made most up. So they choose their peers.")
        await self._hold()
        told("Each of the three challenges the others with a token. Who holds it proves it, for this challenger alone.")
        for node in self._honest:
            await self._challenge(node)
        await self._until_ended()
        told(f"Those of the same store agree; {self._liar} agrees with nobody. {self._victim} asks again, and is killed meanwhile.")
        await self._challenge(self._victim)
        self._network.kill(self._victim)
        await self._until_ended()
        liar = (await self._report(self._liar)).self_id
        for node in self._honest:
            mine = [outcome for outcome in await self._outcomes(node) if outcome.token in self._asked[node]]
            peered.asked += len(mine)
            peered.elected += sum(outcome.end is PeerElectionEnd.ELECTED for outcome in mine)
            peered.liar_elected += sum(outcome.winner == liar for outcome in mine)
            peered.connected[node] = await self._connected(node)
        told(f"{self._victim} has elected the peer that it asked before. Every node is connected to whom it elected.")

    def differences(self) -> Iterator[str]:
        peered = self.peered
        for what, found, wanted in (
            ("elections that elected a peer", peered.elected, len(self._honest) + 1),
            (f"times that {self._liar} was elected", peered.liar_elected, 0),
            ("nodes without a connected peer", sum(not peers for peers in peered.connected.values()), 0),
        ):
            if found != wanted:
                yield f"peers: {what}: {found}, expected {wanted}"

    # -------------------------------------------------------------------------------------------- asking

    async def _hold(self) -> None:
        for node in self._network.nodes:
            held = self._made_up if node == self._liar else self._universe
            for at in range(0, len(held), TOKENS_MAX):
                await self._network.command(node, HoldTokens(tokens=held[at : at + TOKENS_MAX]))

    async def _challenge(self, node: str) -> None:
        """With a token that the node could prove itself."""
        begun = await self._network.command(node, ChallengePeers())
        assert isinstance(begun, ChallengeBegun)
        self._asked[node].append(begun.token)

    async def _outcomes(self, node: str) -> list[PeerElectionEnded]:
        report = await self._network.persistently(node, PeerHistory(limit=500))
        assert isinstance(report, PeerHistoryReport)
        return [each.outcome for each in report.elections]

    async def _until_ended(self) -> None:
        """All that were begun."""
        with anyio.move_on_after(PATIENCE_S):
            for node in self._honest:
                while not {*self._asked[node]} <= {outcome.token for outcome in await self._outcomes(node)}:
                    await self._network.look()
                    await anyio.sleep(LOOK_S)
            return
        raise Unexpected("an election of peers never ended")

    async def _connected(self, node: str) -> list[str]:
        """Its connected peers, once there are some."""
        found: list[str] = []
        with anyio.move_on_after(PATIENCE_S):
            while not found:
                found = sorted(peer.node for peer in (await self._report(node)).peers if peer.state == "connected")
                await anyio.sleep(LOOK_S)
        return found

    async def _report(self, node: str) -> PeersReport:
        report = await self._network.persistently(node, Peers())
        assert isinstance(report, PeersReport)
        return report
