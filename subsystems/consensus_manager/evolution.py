"""How each recorded event changes the tables. Nothing here looks at anything but the event and the tables."""

from msgspec.structs import replace

from messages.consensus_blocks import BlockNamed, BlocksForgotten, BlockSigned, PartialHeld, PartialSaid
from messages.consensus_journal import (
    AttemptEvent,
    AttemptOpened,
    AttemptsForgotten,
    BlockSeen,
    ChainEntered,
    ChainForgotten,
    DealTaken,
    GovernanceHeard,
    GroupAccepted,
    GroupRefused,
    HeadMoved,
    MessageHeld,
    MessagesReleased,
    ShareChecked,
    ShareHeld,
    Spoken,
    ValidatorsSeen,
)
from messages.consensus_manager import Phase, Stalled
from messages.message import Message
from overseer.tables import Table, Tables
from subsystems.consensus_manager.handover import Acceptance
from subsystems.consensus_manager.progress import Mine, Progress, heard, own
from subsystems.consensus_manager.tables import (
    ACCEPTED,
    ATTEMPTS,
    AWAITED,
    BLOCKS,
    CHAIN,
    DEALS,
    FLOOR,
    HEAD,
    HELD,
    HELD_BY,
    JUDGED,
    LOST,
    MINE,
    NAMED,
    PARTIALS,
    PARTIALS_BY,
    PROGRESS,
    VALIDATORS,
    AttemptRow,
    AwaitedRow,
    BlockRow,
    FloorRow,
    HeadRow,
    HeldRow,
    NamedRow,
    PartialRow,
)

__all__ = ["evolve", "floor_of"]


def evolve(tables: Tables, event: Message) -> None:
    match event:
        case BlockSeen():
            row = BlockRow(
                parent=event.parent,
                number=event.number,
                session=event.session,
                round=event.round,
                group_transactions=event.group_transactions,
            )
            tables.put(BLOCKS, (event.hash,), row)
            _put_head(tables, target=event.target)
        case ValidatorsSeen():
            tables.put(VALIDATORS, (event.session,), event.validators)
        case HeadMoved():
            _head_moved(tables, event)
        case GovernanceHeard():
            _put_head(tables, governance=event.entered)
        case GroupAccepted():
            _accepted(tables, event)
        case ChainEntered():
            tables.put(FLOOR, (0,), FloorRow(number=event.number, rootless=event.epoch > 0))
        case ChainForgotten():
            _forget_chain(tables, event)
        case GroupRefused():
            tables.put(JUDGED, (event.block, event.transaction), b"")
        case AttemptsForgotten():
            for session in event.sessions:
                _forget(tables, session)
        case AttemptEvent():
            _of_attempt(tables, event)
        case BlockNamed() | PartialSaid() | PartialHeld() | BlockSigned() | BlocksForgotten():
            _of_block(tables, event)
        case _:
            raise TypeError(f"{event.spec.key} is no event of consensus_manager")


def _of_block(tables: Tables, event: BlockNamed | PartialSaid | PartialHeld | BlockSigned | BlocksForgotten) -> None:
    match event:
        case BlockNamed():
            tables.put(NAMED, (event.block,), NamedRow(parent=event.parent, number=event.number, epoch=event.epoch))
        case PartialSaid() | BlockSigned():
            row = tables.get(NAMED, (event.block,))
            if row is not None:
                signed = replace(row, signed_here=True) if isinstance(event, PartialSaid) else replace(row, signature=event.signature)
                tables.put(NAMED, (event.block,), signed)
        case PartialHeld():
            row = PartialRow(partial=event.partial, height=event.height)
            tables.put(PARTIALS, (event.block, event.sender, event.node), row)
            tables.put(PARTIALS_BY, (event.node,), (tables.get(PARTIALS_BY, (event.node,)) or 0) + 1)
        case BlocksForgotten():
            for block in event.blocks:
                tables.delete(NAMED, (block,))
                for key, _ in list(tables.scan(PARTIALS, (block,))):
                    tables.delete(PARTIALS, key)
                    _one_less(tables, PARTIALS_BY, key[2])


def _one_less(tables: Tables, table: Table[int], node: str) -> None:
    left = (tables.get(table, (node,)) or 0) - 1
    if left > 0:
        tables.put(table, (node,), left)
    else:
        tables.delete(table, (node,))


def _put_head(tables: Tables, **changed: object) -> None:
    row = tables.get(HEAD, (0,)) or HeadRow(hash=b"")
    tables.put(HEAD, (0,), replace(row, **changed))


def _head_moved(tables: Tables, event: HeadMoved) -> None:
    for block in event.reverted:
        tables.delete(CHAIN, (block.number,))
    for block in event.applied:
        tables.put(CHAIN, (block.number,), block.hash)
    best = next(iter(tables.scan(CHAIN, reverse=True)), None)
    if best is not None and (event.applied or best[0][0] >= floor_of(tables).number):
        (number,), block = best
        row = tables.get(BLOCKS, (block,))
        _put_head(tables, hash=block, number=number, round=0 if row is None else row.round)
    elif event.reverted:
        # Back to genesis, or to a block that is forgotten.
        lowest = event.reverted[-1]
        row = tables.get(BLOCKS, (lowest.hash,))
        block = b"" if row is None or lowest.number == 1 else row.parent
        _put_head(tables, hash=block, number=lowest.number - 1, round=0)


def floor_of(tables: Tables) -> FloorRow:
    """Where the chain that is known here begins."""
    return tables.get(FLOOR, (0,)) or FloorRow(number=0, rootless=False)


def _forget_chain(tables: Tables, event: ChainForgotten) -> None:
    for block in event.blocks:
        tables.delete(BLOCKS, (block.hash,))
        if tables.get(CHAIN, (block.number,)) == block.hash:
            tables.delete(CHAIN, (block.number,))
        for key, _ in list(tables.scan(JUDGED, (block.hash,))):
            tables.delete(JUDGED, key)
    for group in event.groups:
        tables.delete(ACCEPTED, (group,))
    for session in event.sessions:
        tables.delete(VALIDATORS, (session,))
    floor = floor_of(tables)
    tables.put(FLOOR, (0,), FloorRow(number=max(event.below, floor.number), rootless=event.rootless or floor.rootless))


def _accepted(tables: Tables, event: GroupAccepted) -> None:
    acceptance = Acceptance(
        block=event.block,
        number=event.number,
        epoch=event.epoch,
        session=event.session,
        attempt=event.attempt,
        key=event.key,
        members=tuple(event.members),
        penalties=tuple((penalty.signing, penalty.count) for penalty in event.penalties),
    )
    tables.put(ACCEPTED, (event.block,), acceptance)
    tables.put(JUDGED, (event.block, event.transaction), b"")


def _forget(tables: Tables, session: bytes) -> None:
    for table in (ATTEMPTS, PROGRESS, MINE):
        tables.delete(table, (session,))
    tables.delete_range(DEALS, (session,))
    _release(tables, session)


def _release(tables: Tables, session: bytes) -> None:
    for (place,), row in list(tables.scan(HELD)):
        if row.session == session:
            _let_go(tables, place, row)


def _let_go(tables: Tables, place: int, row: HeldRow) -> None:
    tables.delete(HELD, (place,))
    _one_less(tables, HELD_BY, row.node)
    awaited = tables.get(AWAITED, (row.session,))
    if awaited is not None and awaited.held > 1:
        tables.put(AWAITED, (row.session,), replace(awaited, held=awaited.held - 1))
    else:
        tables.delete(AWAITED, (row.session,))


def _of_attempt(tables: Tables, event: AttemptEvent) -> None:
    key = (event.session,)
    match event:
        case AttemptOpened():
            row = AttemptRow(
                attempt=event.attempt,
                epoch=event.epoch,
                block=event.begins_with,
                members=tuple(event.members),
                validators=tuple(event.validators),
                stalls=tuple(event.stalls),
                lossy=event.lossy,
            )
            tables.put(ATTEMPTS, key, row)
            tables.put(PROGRESS, key, Progress(session=event.session))
            if event.place is not None and not event.lossy:
                tables.put(MINE, key, Mine(place=event.place))
        case MessageHeld():
            _held(tables, event)
        case MessagesReleased():
            _release(tables, event.session)
        case Spoken(name=Stalled.spec.name):
            row = tables.get(ATTEMPTS, key)
            if row is not None:
                tables.put(ATTEMPTS, key, replace(row, stalled=(*row.stalled, Phase(event.about))))
        case Spoken() | ShareChecked() | ShareHeld():
            mine = tables.get(MINE, key)
            if mine is not None:
                tables.put(MINE, key, own(mine, event))
        case _:
            if isinstance(event, DealTaken):
                tables.put(DEALS, (event.session, event.deal.sender), event.deal)
            progress = tables.get(PROGRESS, key)
            if progress is not None:
                tables.put(PROGRESS, key, heard(progress, event))


def _held(tables: Tables, event: MessageHeld) -> None:
    if event.instead_of is not None:
        lost = tables.get(HELD, (event.instead_of,))
        if lost is not None:
            tables.put(LOST, (event.node,), lost.position)
            _let_go(tables, event.instead_of, lost)
    row = tables.get(HEAD, (0,)) or HeadRow(hash=b"")
    held = HeldRow(session=event.session, node=event.node, position=event.position, name=event.name, body=event.body, height=event.height)
    tables.put(HELD_BY, (event.node,), (tables.get(HELD_BY, (event.node,)) or 0) + 1)
    tables.put(HELD, (row.next_held,), held)
    awaited = tables.get(AWAITED, (event.session,)) or AwaitedRow(first=event.position)
    tables.put(AWAITED, (event.session,), replace(awaited, held=awaited.held + 1))
    _put_head(tables, next_held=row.next_held + 1)
