"""Why a block is where it is: imported, on the best chain or off it, final, reverted, blacklisted, lifted."""

from collections.abc import Iterator
from heapq import merge

import cbor2

from messages.chain_api import BlocksReverted, ImportBlock, RevertLifted
from messages.chain_events import (
    BLOCK_KEY_BYTES,
    BestChainMoved,
    BlacklistRecorded,
    BlockRecorded,
    BlocksMarked,
    Conviction,
    FinalityMoved,
    GovernanceExited,
    OrphanHeld,
)
from messages.consensus_journal import GroupAccepted
from messages.votes_db_journal import DisputeDetected
from overseer.history.explaining.disputes import challenge, verdict
from overseer.history.explaining.ids import Unknown, beginning, chosen
from overseer.history.explaining.sentences import counted, sentence
from overseer.history.explaining.trail import Teller
from overseer.history.reasons import Explanation, Reason, hexed, short
from overseer.history.trails import Found, Place

__all__ = ["blacklisted", "explain_blocks", "left_the_best_chain"]

# So many blocks of a path are named; of a longer one its length is told.
_PATH_MAX = 64
# Steps back from a move of the best chain to what caused it: pages of one move follow each other by timers.
_BACK_MAX = 16


def explain_blocks(teller: Teller, text: str) -> list[Explanation]:
    """`text`: a block's hash, the beginning of it, or a number, of which there may be several. Raises Unknown."""
    if text.isdecimal():
        return [_explained(teller, block.hash) for block in _at(teller, int(text))]
    # Those that begin otherwise are looked at only to find what was meant.
    known = _blocks(teller, beginning(text)) or _blocks(teller)
    return [_explained(teller, chosen(text, known, "block", "A number is taken as well: `overseer explain block 17`."))]


def _blocks(teller: Teller, *needles: bytes) -> list[bytes]:
    """The hashes of all blocks in whose records these bytes are; with some, of those that begin so."""
    found = teller.node.find("chain_api", [BlockRecorded, OrphanHeld], *needles)
    hashes = (each.event.block.hash for each in found if isinstance(each.event, (BlockRecorded, OrphanHeld)))
    return [each for each in hashes if all(each.startswith(needle) for needle in needles)]


def _at(teller: Teller, number: int) -> list[ImportBlock]:
    # As it is in the bytes of the event: the field's name, then its value.
    needle = cbor2.dumps("number") + cbor2.dumps(number)
    found = teller.node.find("chain_api", [BlockRecorded], needle)
    blocks = [each.event.block for each in found if isinstance(each.event, BlockRecorded) and each.event.block.number == number]
    if not blocks:
        last = max(
            (each.event.block.number for each in teller.node.find("chain_api", [BlockRecorded]) if isinstance(each.event, BlockRecorded)),
            default=0,
        )
        raise Unknown(f"no block of number {number} is in this node's journals", f"The highest is {last}.")
    return blocks


def _explained(teller: Teller, block: bytes) -> Explanation:
    node = teller.node
    number, reasons = 0, list[Reason]()
    for found in node.find("chain_api", [BlockRecorded], block):
        if isinstance(found.event, BlockRecorded) and found.event.block.hash == block:
            number = found.event.block.number
            reasons.append(_imported(teller, found, found.event.block))
    fallen = blacklisted(teller, block, number)
    reasons += [*fallen, *_lifted(teller, fallen), *_course(teller, block, number)]
    for found in node.find("consensus_manager", [GroupAccepted], block):
        if isinstance(found.event, GroupAccepted) and found.event.block == block:
            reasons.append(teller.told(found, f"it accepted the group of epoch {found.event.epoch}", epoch=str(found.event.epoch)))
    missing = node.shortened("chain_api")
    return Explanation(kind="block", id=hexed(block), node=node.name, reasons=reasons, missing=missing)


def _imported(teller: Teller, found: Found, block: ImportBlock) -> Reason:
    disputed = {
        each.event.candidate: each
        for each in teller.node.find("votes_db", [DisputeDetected])
        if isinstance(each.event, DisputeDetected) and each.event.candidate in (*block.backed, *block.included)
    }
    candidates = [
        teller.told(
            each,
            f"{'includes' if candidate in block.included else 'backs'} {short(candidate)}, which was disputed",
            candidate=hexed(candidate),
        )
        for candidate, each in disputed.items()
    ]
    what = f"imported as block {block.number}, a child of {short(block.parent)}, with {counted(len(block.included), 'included candidate')}"
    return teller.told(found, what, because=[*teller.back(found.place, found.record), *candidates], parent=hexed(block.parent))


# ------------------------------------------------------------------------------------------------ its course


def _key(block: bytes, number: int) -> bytes:
    return number.to_bytes(BLOCK_KEY_BYTES - len(block), "big") + block


def _holds(keys: bytes, key: bytes) -> bool:
    """Whether a block is among these block keys."""
    return any(keys[at : at + BLOCK_KEY_BYTES] == key for at in range(0, len(keys), BLOCK_KEY_BYTES))


def _course(teller: Teller, block: bytes, number: int) -> Iterator[Reason]:
    """On the best chain or off it, final, reverted early."""
    key, best = _key(block, number), False
    final = False
    naming = teller.node.find("chain_api", [BestChainMoved, BlocksReverted, RevertLifted], block)
    # Finality names its last block alone, so all of its moves are looked at.
    for found in merge(naming, teller.node.find("chain_api", [FinalityMoved]), key=lambda found: found.place):
        match found.event:
            case BestChainMoved(reverted=reverted, applied=applied):
                if _holds(reverted, key):
                    best = False
                    yield teller.told(found, "it left the best chain", because=_driven(teller, found))
                if _holds(applied, key):
                    best = True
                    yield teller.told(found, "it joined the best chain")
            case FinalityMoved(block=reached) if best and not final and reached.number >= number:
                final = True
                yield teller.told(found, f"it became final with block {reached.number}", block=hexed(reached.hash))
            case BlocksReverted(blocks=blocks, cause=cause) if block in blocks:
                because = [challenge(teller, cause.session, cause.candidate)]
                yield teller.told(found, "nothing is built on it for now", because=because, candidate=hexed(cause.candidate))
            case RevertLifted(blocks=blocks, cause=cause) if block in blocks:
                because = [verdict(teller, cause.session, cause.candidate, valid=True)]
                yield teller.told(found, "it may be built on again", because=because, candidate=hexed(cause.candidate))
            case _:
                pass


def left_the_best_chain(teller: Teller, block: bytes, number: int, *, until_ms: int = 0, at: Place | None = None) -> Reason:
    """Why a block left the best chain: by the move in that record; else the last time, or the last time until then."""
    key = _key(block, number)
    moves = [
        found
        for found in teller.node.find("chain_api", [BestChainMoved], block)
        if isinstance(found.event, BestChainMoved)
        and _holds(found.event.reverted, key)
        and (not until_ms or found.record.time_ms <= until_ms)
    ]
    moves = [found for found in moves if found.place == at] or moves
    if not moves:
        gone = teller.node.cut_short("chain_api") or "chain_api has no record of it"
        return Reason(what=f"block {number} {short(block)} left the best chain", about={"block": hexed(block)}, ends=gone)
    because = [*_driven(teller, moves[-1]), *blacklisted(teller, block, number)]
    if not because:
        because = teller.back(moves[-1].place, moves[-1].record)
    return teller.told(moves[-1], f"block {number} {short(block)} left the best chain", because=because, block=hexed(block))


def _driven(teller: Teller, move: Found) -> list[Reason]:
    """The early revert that a move of the best chain follows from, if one does."""
    step = teller.history.step(move.place)
    for _ in range(_BACK_MAX):
        if step is None:
            return []
        for event in step.events:
            match event:
                case BlocksReverted(cause=cause):
                    found = Found(step.place, step.record, event)
                    return [teller.told(found, sentence(event), because=[challenge(teller, cause.session, cause.candidate)])]
                case BlacklistRecorded() | BlockRecorded():
                    return []
                case _:
                    pass
        step = teller.history.origin(step.place, step.record).step
    return []


# ------------------------------------------------------------------------------------------------ the blacklist


def blacklisted(teller: Teller, block: bytes, number: int) -> list[Reason]:
    """Why it is on the blacklist: for each conviction that it fell with; [] when it never was."""
    fallen: dict[int, Found] = {}
    key = _key(block, number)
    for found in teller.node.find("chain_api", [BlacklistRecorded, BlocksMarked, BlockRecorded], block):
        match found.event:
            case BlacklistRecorded(convictions=convictions):
                fallen.update({each.id: found for each in convictions if each.hash == block})
            case BlocksMarked(runs=runs):
                fallen = {**{run.conviction: found for run in runs if _holds(run.keys, key)}, **fallen}
            case BlockRecorded(block=recorded, convicted_by=conviction) if recorded.hash == block and conviction is not None:
                fallen.setdefault(conviction, found)
            case _:
                pass
    return [_fell(teller, block, number, conviction, found) for conviction, found in sorted(fallen.items())]


def _fell(teller: Teller, block: bytes, number: int, conviction: int, found: Found) -> Reason:
    convicted = next(((each, root) for each, root in _convictions(teller) if root.id == conviction), None)
    if convicted is None:
        gone = teller.node.cut_short("chain_api") or "chain_api has no record of the conviction"
        return teller.told(found, "blacklisted: it descends from a convicted block", because=[Reason(what="the conviction", ends=gone)])
    record, root = convicted
    if root.hash == block:
        return _conviction(teller, record, root, "blacklisted: it is itself convicted")
    depth = number - root.number
    how = "it arrived later, and" if isinstance(found.event, BlockRecorded) else "it"
    what = f"blacklisted: {how} descends from block {root.number} {short(root.hash)}, {counted(depth, 'block')} before it"
    path = _path(teller, block, root) if depth <= _PATH_MAX else ""
    because = [_conviction(teller, record, root, f"block {root.number} {short(root.hash)} is convicted")]
    about = {"root": hexed(root.hash), **({"path": path} if path else {})}
    return teller.told(found, what, because=because, **about)


def _convictions(teller: Teller) -> Iterator[tuple[Found, Conviction]]:
    for found in teller.node.find("chain_api", [BlacklistRecorded]):
        if isinstance(found.event, BlacklistRecorded):
            yield from ((found, each) for each in found.event.convictions)


def _conviction(teller: Teller, found: Found, root: Conviction, what: str) -> Reason:
    assert isinstance(found.event, BlacklistRecorded)
    cause = found.event.cause
    trail = teller.back(found.place, found.record)
    because = [verdict(teller, cause.session, cause.candidate), *(_without_votes(trail))]
    told = f"{what}, as it includes candidate {short(cause.candidate)}"
    return teller.told(found, told, because=because, root=hexed(root.hash), candidate=hexed(cause.candidate), session=str(cause.session))


def _without_votes(trail: list[Reason]) -> list[Reason]:
    return [Reason(what="how that came to the chain", because=trail)] if trail else []


def _path(teller: Teller, block: bytes, root: Conviction) -> str:
    """The blocks from the root to this one, by their parents, as one line; "" when some are not in the journal any more."""
    path = [block]
    journal = teller.node.journals["chain_api"]
    for each in journal.find([BlockRecorded], backwards=True):
        if path[-1] == root.hash:
            break
        if isinstance(each.event, BlockRecorded) and each.event.block.hash == path[-1]:
            path.append(each.event.block.parent)
    return " ".join(hexed(each) for each in reversed(path)) if path[-1] == root.hash else ""


# ------------------------------------------------------------------------------------------------ and off it again


def _lifted(teller: Teller, fallen: list[Reason]) -> Iterator[Reason]:
    """Pardons of a root that it fell with."""
    roots = {reason.about.get("root", "") for reason in fallen}
    for found in teller.node.find("chain_api", [GovernanceExited]):
        if isinstance(found.event, GovernanceExited) and any(hexed(each.hash) in roots for each in found.event.pardoned):
            what = f"off the blacklist again: the governance authority pardoned it (entry {found.event.entry})"
            yield teller.told(found, what, because=teller.back(found.place, found.record), author=hexed(found.event.author))
