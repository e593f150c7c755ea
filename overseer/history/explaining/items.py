"""Why a request is where it is: waiting, given to a gateway, back in its queue, or done."""

from collections.abc import Iterator

from messages.gateways import (
    ClaimsExpired,
    ItemResult,
    RequestExecuted,
    RequestsReturned,
    RequestSubmitted,
    RoundClosed,
    RoundOutcome,
    RoundResults,
    RoundRevoked,
    StakeRedistributed,
)
from messages.signals import BlockRef
from overseer.history.explaining.blocks import left_the_best_chain
from overseer.history.explaining.elections import Account, account_of, event_reason
from overseer.history.explaining.ids import Unknown, chosen
from overseer.history.explaining.sentences import counted
from overseer.history.explaining.trail import Teller
from overseer.history.reasons import Explanation, Reason, hexed, short
from overseer.sites.chronicle import Chronicled

__all__ = ["explain_item"]


def explain_item(teller: Teller, text: str) -> Explanation:
    """`text`: QUEUE/ID, the id being that of the request or the beginning of it. Raises Unknown."""
    queue, _, wanted = text.partition("/")
    if not wanted:
        raise Unknown(f"{text!r} names no item", "Write the queue, a slash and the request: ingestion/0x5d1f (`overseer gateway results`).")
    account = account_of(teller, queue)
    known = {each.event.request for each in account.events if isinstance(each.event, RequestSubmitted)}
    request = chosen(wanted, known, "request", f"See `overseer gateway results {queue}`.")
    reasons = list(_told(teller, account, request))
    missing = teller.node.shortened("chain_api")
    return Explanation(kind="item", id=f"{queue}/{hexed(request)}", node=teller.node.name, reasons=reasons, missing=missing)


def _told(teller: Teller, account: Account, request: bytes) -> Iterator[Reason]:
    """What was decided of it, in order."""
    closed: dict[int, RoundClosed] = {}
    for each in account.events:
        match each.event:
            case RequestSubmitted(request=found, size=size) if found == request:
                yield event_reason(teller, account, each, f"submitted: {counted(size, 'byte')}")
            case StakeRedistributed(item=found, gateway=gateway, amount=amount, round=round) if found == request:
                what = f"gateway {short(gateway)} gives it {amount} of its stake, in round {round}"
                yield event_reason(teller, account, each, what, gateway=hexed(gateway))
            case RoundClosed(ballot=ballot):
                closed[ballot] = each.event
            case RoundResults(results=results, round=round, ballot=ballot):
                for result in results:
                    if result.request == request:
                        yield _result(teller, account, each, result, round, closed.get(ballot))
            case RequestsReturned(returned=returned, executed=executed, ballot=ballot) if request in (*returned, *executed):
                yield _returned(teller, account, each, ballot, request in executed)
            case ClaimsExpired(claims=claims, height=height):
                for claim in claims:
                    if claim.request == request:
                        next_one = "is open again" if claim.promoted is None else f"goes to {short(claim.promoted)}"
                        failed = ", ".join(short(one) for one in claim.failed)
                        yield event_reason(teller, account, each, f"not proven by {failed} until block {height}: it {next_one}")
            case RequestExecuted(request=found, executor=executor, round=round) if found == request:
                what = f"executed by gateway {short(executor)}, proven for round {round}"
                yield event_reason(teller, account, each, what, gateway=hexed(executor))
            case _:
                pass


def _result(teller: Teller, account: Account, each: Chronicled, result: ItemResult, round: int, closed: RoundClosed | None) -> Reason:
    winners = ", ".join(f"{short(winner.gateway)} with {winner.weight}" for winner in result.winners)
    outcome = {
        RoundOutcome.ASSIGNED: f"assigned to {winners}",
        RoundOutcome.CARRIED: "nobody voted for it: the next round takes it",
        RoundOutcome.EXPIRED: "it expired: nobody voted for it, too often",
    }[result.outcome]
    about = {f"winner {number}": hexed(winner.gateway) for number, winner in enumerate(result.winners, 1)}
    because: list[Reason] = []
    if closed is not None:
        what = f"the round was cut at {_block(closed.cut)} and closed by {_block(closed.close)}"
        because = [Reason(what=what, about={"cut": hexed(closed.cut.hash), "close": hexed(closed.close.hash)})]
    return event_reason(teller, account, each, f"round {round}: {outcome}", because=because, **about)


def _returned(teller: Teller, account: Account, each: Chronicled, ballot: int, executed: bool) -> Reason:
    """Back in the queue: the block that had cut or closed its round is not on the best chain any more."""
    revoked = next((e for e in account.events if isinstance(e.event, RoundRevoked) and e.event.ballot == ballot), None)
    what = "done all the same, though its round is revoked" if executed else "back in its queue"
    if revoked is None or not isinstance(revoked.event, RoundRevoked):
        return event_reason(teller, account, each, what)
    event = revoked.event
    because: list[Reason] = []
    for role, block in (("closed", event.close), ("cut", event.cut)):
        if block is not None and not because:
            because = _left(teller, block, event.heard.at_ms, role)
    told = event_reason(teller, account, revoked, f"round {event.round} is revoked", because=because or None)
    return event_reason(teller, account, each, what, because=[told])


def _left(teller: Teller, block: BlockRef, until_ms: int, role: str) -> list[Reason]:
    """Why the block left the best chain; [] when it did not, as the other one did."""
    left = left_the_best_chain(teller, block.hash, block.number, until_ms=until_ms)
    if not left.record and role == "closed":
        return []
    return [Reason(what=f"{_block(block)} had {role} it", about={"block": hexed(block.hash)}, because=[left])]


def _block(block: BlockRef) -> str:
    return f"block {block.number} {short(block.hash)}"
