"""Malicious feeds and false authorities: blocks, finality and exits of governance mode that nobody should follow."""

import msgspec

from messages.chain_api import FinalizeBlock, ImportBlock, ResumeMode
from messages.votes_db import RegisterVote
from overseer.feeds.keyring import derive
from overseer.feeds.make import make_authority, make_block, make_resume
from overseer.simulation.byzantine import MALLORY, Mischief, variant
from overseer.simulation.disputes_cast import AUTHORITY, GENESIS

__all__: list[str] = []


@variant
def bad_blocks(does: Mischief) -> None:
    """Wrong numbers and sessions on known parents, another genesis, known hashes with other parents."""
    plan = does.plan
    for height in does.random.sample(range(1, plan.height + 1), min(3, plan.height)):
        good = plan.blocks[plan.main[height]]
        late = plan.height + 2.5
        fresh = derive("bad block", plan.network.seed, height)
        does.ask(msgspec.structs.replace(good, hash=fresh, number=height + 1), tick=late, sender=MALLORY)
        does.ask(msgspec.structs.replace(good, hash=fresh, number=0), tick=late, sender=MALLORY)
        does.ask(msgspec.structs.replace(good, number=height + 1), tick=late, sender=MALLORY)
        if plan.session_at(height) > 1:
            child = make_block(good.hash, height + 1, session=plan.session_at(height) - 1, salt=b"bad")
            does.ask(child, tick=late, sender=MALLORY)


@variant
def blocks_out_of_nowhere(does: Mischief) -> None:
    """Blocks whose parents nobody will ever see, and long branches of nothing."""
    plan = does.plan
    for place in range(3):
        does.ask(make_block(derive("nowhere", plan.network.seed, place), does.random.randint(2, 99), session=1))
    parent = does.random.choice(plan.main[:-1])
    number = plan.main.index(parent)
    for step in range(4):
        block = make_block(parent, number + 1 + step, session=max(1, plan.session_at(number)), salt=f"junk {step}".encode())
        does.ask(block, tick=number + 1 + 0.5 * step)
        parent = block.hash


@variant
def conflicting_finality(does: Mischief) -> None:
    """Dead branches, old blocks and unknown hashes are called final."""
    plan = does.plan
    dead = [h for h in plan.blocks if h not in plan.main]
    for _ in range(4):
        does.ask(FinalizeBlock(hash=does.random.choice([*plan.main, *dead])), tick=plan.height + 2)
        does.ask(FinalizeBlock(hash=derive("unknown", does.random.random().hex())), sender=MALLORY)


@variant
def forged_resumes(does: Mischief) -> None:
    """Exits of governance mode with another's signature, or with that of the authority under something else."""
    plan = does.plan
    number = plan.bad_final or 2
    block = plan.main[number]
    false = make_authority("somebody else")
    for mode in ResumeMode:
        right = make_resume(AUTHORITY, mode, chain=GENESIS, entry=1, frozen_at=number - 1, roots=[block])
        other = make_resume(false, mode, chain=GENESIS, entry=1, frozen_at=number - 1, roots=[block])
        for forged in (
            other,
            msgspec.structs.replace(right, signature=bytes(64)),
            msgspec.structs.replace(right, entry=2),
            msgspec.structs.replace(right, frozen_at=number),
            msgspec.structs.replace(right, chain=block),
            msgspec.structs.replace(right, roots=[*right.roots, plan.main[1]] if number > 1 else []),
        ):
            does.ask(forged, sender=MALLORY, tick=plan.height + does.random.uniform(-1, 5))


@variant
def replayed_resumes(does: Mischief) -> None:
    """The authority's own words, again and again, also before their time."""
    plan = does.plan
    if plan.bad_final:
        for _ in range(6):
            does.ask(plan.resume(), sender="op_replayer")
    # An exit of another entry into governance mode than the one there may be (C21).
    for entry in (2, 3):
        other = make_resume(AUTHORITY, ResumeMode.ABANDON, chain=GENESIS, entry=entry, frozen_at=1, roots=[])
        does.ask(other, sender="op_replayer")


@variant
def reused_command_ids(does: Mischief) -> None:
    """Ids that others have used, with other bodies, when those are long answered."""
    plan = does.plan
    said = [(number, s) for number, s in enumerate(plan.said) if isinstance(s.message, RegisterVote | ImportBlock | FinalizeBlock)]
    for number, used in does.random.sample(said, min(8, len(said))):
        node = used.nodes[0]
        other = does.random.choice([s for _, s in said if s.message != used.message and type(s.message) is type(used.message)] or [used])
        does.ask(other.message, command_id=f"{node}-{number}-{used.label}", node=node, tick=plan.height + 5, sender="op_reuser")
