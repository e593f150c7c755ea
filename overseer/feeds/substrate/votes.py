"""Dispute votes of a block: told to the own node's `votes_db`, with the receipt of the candidate that they are on.

A block carries the candidate's hash alone. The receipt is in the events of the blocks that backed and included it: of those read lately, of
those that the node says included it, of the one that the chain says did, or of the nearest ancestors.
"""

from collections import Counter, OrderedDict
from collections.abc import AsyncIterator

from messages.codec import decode
from messages.polkadot import CandidateReceipt
from messages.scale import candidate_hash
from messages.votes_db import Outcome, VotesRegistered
from overseer.feeds.substrate.account import Account
from overseer.feeds.substrate.header import RemoteHeader
from overseer.feeds.substrate.own import ACCEPTED, OwnNode
from overseer.feeds.substrate.reading import read_receipt, receipts_in
from overseer.feeds.substrate.remote import Remote, Runtimes
from overseer.feeds.substrate.runtime import DISPUTES
from overseer.feeds.substrate.troubles import RemotePruned, Unreadable
from overseer.feeds.substrate.values import StatementSet, bundles
from overseer.observe.logs import logger

__all__ = ["DisputeVotes"]

# Receipts kept, 1 KiB each: those of some hours of a busy chain, in which disputes are decided.
RECEIPTS_MAX = 8192
# Blocks looked into for a receipt: of those that included the candidate; of the ancestors, for one that was only backed.
_INCLUDING_MAX = 4
_ANCESTORS_MAX = 16
_STORED = (Outcome.STORED, Outcome.ALREADY_PRESENT, Outcome.DOUBLE_VOTE)


class DisputeVotes:
    """Finds receipts, and tells votes until their outcome is known."""

    def __init__(self, own: OwnNode, runtimes: Runtimes, account: Account) -> None:
        self._own = own
        self._runtimes = runtimes
        self._account = account
        self._receipts: OrderedDict[bytes, CandidateReceipt] = OrderedDict()
        self._log = logger("feed")

    def keep(self, candidate: bytes, receipt: CandidateReceipt) -> bytes:
        """Remember a receipt, for votes on it; returns the candidate."""
        self._receipts[candidate] = receipt
        self._receipts.move_to_end(candidate)
        while len(self._receipts) > RECEIPTS_MAX:
            self._receipts.popitem(last=False)
        return candidate

    async def tell(self, remote: Remote, found: StatementSet, header: RemoteHeader, number: int) -> None:
        """The votes on one candidate that a block carries. `number`: the block's, on this node's chain. Raises RemoteError."""
        if not await self._own.knows_session(found.session):
            self._account.unread(f"{DISPUTES}: votes of a session that this node has not seen begin", block=header.hash)
            return
        receipt = await self._receipt(remote, found, header)
        if receipt is None:
            self._account.unread(f"{DISPUTES}: votes on a candidate whose receipt is nowhere", block=header.hash)
            return
        try:
            messages = list(bundles(found, receipt, number))
        except Unreadable as error:
            self._account.unread(f"{DISPUTES}: {error}", block=header.hash)
            return
        for place, message in enumerate(messages):
            about = (found.candidate, found.session.to_bytes(4, "little"), place.to_bytes(4, "little"))
            code, outcome = await self._own.tell(message, header.hash, *about)
            if code != ACCEPTED or outcome is None:
                self._account.unread(f"{DISPUTES}: votes that this node refuses as {code}", block=header.hash)
            elif outcome.reply is not None:
                self._look_at(decode(VotesRegistered.spec, outcome.reply), header)

    def _look_at(self, reply: object, header: RemoteHeader) -> None:
        assert isinstance(reply, VotesRegistered)
        outcomes = Counter(each.outcome for each in reply.outcomes)
        self._log.info("votes_told", candidate=reply.candidate.hex(), session=reply.session, status=reply.status, **outcomes)
        for outcome in outcomes.keys() - set(_STORED):
            self._account.unread(f"{DISPUTES}: votes that this node finds to be {outcome.value}", block=header.hash)

    # -------------------------------------------------------------------------------------------- receipts

    async def _receipt(self, remote: Remote, found: StatementSet, header: RemoteHeader) -> CandidateReceipt | None:
        known = self._receipts.get(found.candidate)
        if known is not None:
            return known
        async for receipts in self._sources(remote, found, header):
            for receipt in receipts:
                self.keep(candidate_hash(receipt), receipt)
            if found.candidate in self._receipts:
                return self._receipts[found.candidate]
        return None

    async def _sources(self, remote: Remote, found: StatementSet, header: RemoteHeader) -> AsyncIterator[list[CandidateReceipt]]:
        """Receipts of one block after another, the likeliest first; a block that cannot be read has none."""
        for block in (await self._own.including(found.candidate))[:_INCLUDING_MAX]:
            yield await self._of_block(remote, block)
        yield await self._by_the_chain(remote, found, header)
        at = header
        for _ in range(_ANCESTORS_MAX):
            yield await self._of_block(remote, at)
            above = await remote.header(at.parent)
            if above is None or not above.number:
                return
            at = above

    async def _by_the_chain(self, remote: Remote, found: StatementSet, header: RemoteHeader) -> list[CandidateReceipt]:
        try:
            return await read_receipt(remote, self._runtimes, found.session, found.candidate, header.hash)
        except (Unreadable, RemotePruned):
            return []

    async def _of_block(self, remote: Remote, block: bytes | RemoteHeader) -> list[CandidateReceipt]:
        try:
            return await receipts_in(remote, self._runtimes, block)
        except (Unreadable, RemotePruned):
            return []
