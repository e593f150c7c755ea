"""Malicious validators, operators and nodes: named variants, each a function that adds inputs to a plan.

Whoever signs as a validator of the plan is a faulty one (of at most f). What comes from `MALLORY` must be refused wherever it
arrives; what comes from anybody else is judged by the models of the checkers: taken as far as the rules take it, and no further.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from random import Random

from messages.message import Message
from messages.votes_db import RegisterVote
from overseer.simulation.disputes_plan import Dispute, Plan
from overseer.simulation.disputes_votes import Ballot, bundle
from overseer.simulation.scenario import Submission

__all__ = ["EVIL_NODE", "LIAR_NODE", "MALLORY", "VARIANTS", "Mischief", "mischief", "variant"]

MALLORY = "op_mallory"
# Nodes that are not of the network but write to its stream: nothing of the one may be taken; the other mixes lies with truth.
EVIL_NODE = "evil"
LIAR_NODE = "liar"
_PATIENCE_MS = 120_000


class Mischief:
    """What a variant works with. `does` collects what it adds."""

    def __init__(self, plan: Plan, random: Random, name: str) -> None:
        self.plan = plan
        self.random = random
        self.name = name
        self.done: list[Submission] = []

    @property
    def node(self) -> str:
        return self.random.choice(self.plan.network.nodes)

    @property
    def tick(self) -> float:
        return self.random.uniform(1, self.plan.height + 3)

    @property
    def faulty(self) -> list[int]:
        """The validators that are malicious, the same in every session."""
        return list(range(max(1, self.plan.faulty_max)))

    @property
    def dispute(self) -> Dispute:
        return self.random.choice(self.plan.disputes)

    def bundle_of(self, about: Dispute, ballots: Sequence[Ballot]) -> RegisterVote:
        return bundle(about.candidate, about.session, self.plan.keys(about.session), ballots)

    def ask(self, message: Message, *, tick: float | None = None, sender: str = "op_twister", command_id: str = "", node: str = "") -> None:
        """Ask for a command, as anybody may."""
        at = self.tick if tick is None else tick
        who = "mallory" if sender == MALLORY else self.name
        self.done.append(
            Submission(
                at_ms=self.plan.at_ms(at),
                node=node or self.node,
                message=message,
                command_id=command_id or f"{who}-{self.name}-{len(self.done)}",
                sender=sender,
                patience_ms=_PATIENCE_MS,
            )
        )

    def put(
        self, subject: str, body: bytes, headers: Mapping[str, str] | None = None, *, tick: float | None = None, node: str = ""
    ) -> None:
        """Publish bytes as they are."""
        self.done.append(
            Submission(
                at_ms=self.plan.at_ms(self.tick if tick is None else tick),
                node=node or self.node,
                subject=subject,
                headers=dict(headers or {}),
                body=body,
                sender=MALLORY,
                patience_ms=_PATIENCE_MS,
            )
        )

    def command(self, owner: str, name: str, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        """Bytes where that command is taken, under Mallory's own name."""
        node = self.node
        self.put(f"overseer.{node}.{MALLORY}.cmd.{owner}.{name}", body, headers, node=node)


Variant = Callable[[Mischief], None]
VARIANTS: dict[str, Variant] = {}


def variant(act: Variant) -> Variant:
    """Register a variant under the function's name."""
    VARIANTS[act.__name__] = act
    return act


def mischief(plan: Plan, names: Iterable[str], seed: str) -> list[Submission]:
    """All that these variants add to the plan."""
    found: list[Submission] = []
    for name in names:
        made = Mischief(plan, Random(f"{seed} {name}"), name)
        VARIANTS[name](made)
        found += made.done
    return found
