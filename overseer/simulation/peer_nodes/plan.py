"""What is given to the nodes in the simulation of peer elections: tokens, challenges, and what the chain says."""

from collections.abc import Sequence
from random import Random

from messages.chain_api import GovernanceModeLeft, ResumeMode
from messages.message import Message
from messages.peer_queries import ChallengePeers, DropTokens, HoldTokens
from messages.peers import TokenMapping
from messages.polkadot import DisputeRef, Scheme, Validator
from messages.signals import BlockRef, BlocksBlacklisted, GovernanceMode, GovernanceState, SessionChange
from overseer.simulation.peer_nodes.cast import Play
from overseer.simulation.peer_nodes.holdings import chain_blocks, universe_of
from overseer.simulation.scenario import Submission
from subsystems.elections.peers.kind import block_number

__all__ = ["PeersPlan"]

_EXTRA = 60
_PATIENCE_MS = 120_000
# What the chain says is said by then: governance mode is over when faults cease.
_LAST_WORD = 0.9


class PeersPlan:
    """Of one network."""

    def __init__(self, play: Play, random: Random) -> None:
        self._play, self._random = play, random
        self._universe = universe_of(play.network.seed)
        self._span_ms = int(play.network.hours * 3_600_000)
        numbers = self._universe.drawn(random, 12)
        self._extra = [TokenMapping(random.getrandbits(64), self._universe.block_of(random.choice(numbers))) for _ in range(_EXTRA)]
        self._found: list[Submission] = []

    def submissions(self) -> Sequence[Submission]:
        able = [node for node in self._play.network.nodes if not self._play.is_empty_handed(node)]
        for node in able:
            most = [mapping for mapping in self._extra if self._random.random() < 0.95]
            self._command(self._random.randrange(2_000), node, HoldTokens(tokens=most))
        for _ in range(self._random.randint(6, 14)):
            self._command(self._moment(), self._random.choice(self._play.network.nodes), self._challenge())
        for _ in range(self._random.choice((0, 1, 2))):
            # So many at once that some are refused.
            at, node = self._moment(), self._random.choice(able)
            for _ in range(5):
                self._command(at + self._random.randrange(1_500), node, self._challenge())
        for _ in range(self._random.choice((0, 2, 6))):
            self._command(self._moment(), self._random.choice(able), self._holding())
        self._blacklist()
        self._govern()
        for _ in range(self._random.choice((0, 0, 1, 2))):
            at, index = self._moment(), self._random.randint(2, 9)
            for node in self._play.network.nodes:
                self._signal(
                    at + self._random.randrange(500), node, SessionChange(index=index, validators=[Validator(bytes(32), Scheme.ED25519)])
                )
        return sorted(self._found, key=lambda submission: submission.at_ms)

    def _moment(self) -> int:
        return self._random.randrange(3_000, int(self._span_ms * _LAST_WORD))

    def _command(self, at_ms: int, node: str, message: Message) -> None:
        number = len(self._found)
        self._found.append(
            Submission(at_ms=at_ms, node=node, message=message, command_id=f"peers {number}", sender="op_peers", patience_ms=_PATIENCE_MS)
        )

    def _signal(self, at_ms: int, node: str, message: Message) -> None:
        self._found.append(Submission(at_ms=at_ms, node=node, message=message, sender="chain_api", patience_ms=_PATIENCE_MS))

    def _challenge(self) -> ChallengePeers:
        if self._random.random() < 0.4:
            return ChallengePeers()
        if self._random.random() < 0.3:
            return ChallengePeers(token=self._random.choice(self._of_the_chain()))
        return ChallengePeers(token=self._random.choice(self._universe.ring))

    def _of_the_chain(self) -> list[int]:
        """Tokens whose blocks may be blacklisted."""
        numbers = {block_number(block) for block in chain_blocks(self._play.network.seed)}
        return self._mapping_to(numbers)

    def _mapping_to(self, numbers: set[int]) -> list[int]:
        return [token for token in self._universe.ring[:2_000] if self._universe.block_of(token) in numbers]

    def _holding(self) -> Message:
        """A few tokens of its own are dropped, or held again, or map elsewhere; so do tokens of the universe."""
        some = self._random.sample(self._extra, 4)
        if self._random.random() < 0.4:
            return DropTokens(tokens=[mapping.id for mapping in some])
        moved = [TokenMapping(token, self._random.getrandbits(64)) for token in self._universe.drawn(self._random, 2)]
        return HoldTokens(tokens=[*some, *moved])

    def _blacklist(self) -> None:
        """Some blocks, on every node at about the same time; in some seeds they are pardoned."""
        blocks = list(chain_blocks(self._play.network.seed))
        self._random.shuffle(blocks)
        for cascade in range(self._random.choice((0, 1, 1, 2))):
            at, hashes = self._moment(), [blocks.pop() for _ in range(self._random.randint(1, 3))]
            told = BlocksBlacklisted(
                cascade=bytes([cascade] * 32),
                roots=hashes[:1],
                hashes=hashes,
                cause=DisputeRef(session=1, candidate=bytes(32)),
                page=0,
                last=True,
            )
            is_pardoned = self._random.random() < 0.3
            pardon = GovernanceModeLeft(entry=1, mode=ResumeMode.PARDON, roots=hashes, author=bytes(32), finalized=BlockRef(bytes(32), 1))
            # An election that comes to nothing by it.
            of_it = self._mapping_to({block_number(block) for block in hashes})
            for node in self._random.sample(self._play.network.nodes, 2):
                self._command(at - self._random.randrange(1_500), node, ChallengePeers(token=self._random.choice(of_it)))
            for node in self._play.network.nodes:
                late = self._random.choice((0, 200, 200, 5_000))
                self._signal(at + late, node, told)
                if is_pardoned:
                    self._signal(at + late + 10_000, node, pardon)

    def _govern(self) -> None:
        """Governance mode for some time, in some seeds, at some nodes."""
        if self._random.random() >= 0.35:
            return
        begins = self._moment() // 2
        ends = begins + self._random.randint(5_000, 60_000)
        for node in self._play.network.nodes:
            if self._random.random() < 0.7:
                self._signal(begins, node, GovernanceMode(state=GovernanceState.ENTERED, entry=1, frozen_at=5))
                self._signal(ends, node, GovernanceMode(state=GovernanceState.LEFT, entry=1, frozen_at=5))
