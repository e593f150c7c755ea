"""Mutants of consensus groups: rules of the DKG, of acceptance, of handover and of signing, each broken in one place."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from itertools import count
from typing import Any

from mutants import Mutant, patched, registering
from py_arkworks_bls12381 import Scalar

from messages.consensus_manager import OfAttempt
from overseer.feeds.keyring import derive
from subsystems.consensus_manager import answers, deriving, electing, forgetting, judging, outcome, schedule, signing, transcript
from subsystems.consensus_manager import draft as draft_module
from subsystems.consensus_manager import subsystem as subsystem_module
from subsystems.consensus_manager.crypto.secret import Secret
from subsystems.consensus_manager.draft import Draft
from subsystems.consensus_manager.member import Speaker
from subsystems.consensus_manager.progress import Mine
from subsystems.consensus_manager.wallet import Wallet

__all__ = ["CONSENSUS_MUTANTS"]

CONSENSUS_MUTANTS: dict[str, Mutant] = {}
mutant = registering(CONSENSUS_MUTANTS)


# ------------------------------------------------------------------------------------------------ the DKG


@mutant
@contextmanager
def dealt_anew_when_asked_again() -> Iterator[None]:
    """A member that spoke does not remember its deal, and draws another one (R5)."""
    numbers = count()
    has_said = Mine.has_said

    def forgetful(self: Mine, name: str, about: str = "") -> bool:
        return name != "deal" and has_said(self, name, about)

    def drawn(self: Wallet, session: bytes) -> Secret[bytes]:
        return Secret(derive("mutant", next(numbers)))

    with patched(Mine, "has_said", forgetful), patched(Wallet, "deal_seed", drawn):
        yield


@mutant
def what_waited_is_taken_last_first() -> AbstractContextManager[None]:
    """Messages that came before their block count in another order (E23)."""
    opened = electing._open

    def reversing(draft: Draft, terms: Any, **how: Any) -> None:
        taken: list[tuple[OfAttempt, int]] = []
        take = electing._take
        with patched(electing, "_take", lambda draft, terms, message, position, **_: taken.append((message, position))):
            opened(draft, terms, **how)
        for message, position in reversed(taken):
            take(draft, terms, message, position)

    return patched(electing, "_open", reversing)


@mutant
def what_waited_is_forgotten() -> AbstractContextManager[None]:
    """Messages that came before their block do not count (E23)."""
    opened = electing._open

    def forgetful(draft: Draft, terms: Any, stalls: Sequence[Any] = ()) -> None:
        with patched(electing, "_take", lambda *_: None):
            opened(draft, terms, stalls)

    return patched(electing, "_open", forgetful)


@mutant
def transcripts_by_arrival() -> AbstractContextManager[None]:
    """What is hashed is not the same at all members: when it came is in it."""
    moments = count()

    def untidy(progress: Any) -> bytes:
        return derive("mutant", progress.session, next(moments))

    return patched(outcome, "transcript_of", untidy)


@mutant
def unfit_partials_are_taken() -> AbstractContextManager[None]:
    """A confirmation's partial signature is not checked."""
    return patched(transcript, "is_share_signature", lambda *_: True)


@mutant
def shares_are_added_twice() -> AbstractContextManager[None]:
    """A member's share of the key is twice what it should be."""
    share = Speaker._share

    def twofold(self: Speaker) -> Any:
        found = share(self)
        return None if found is None else Secret(found.reveal() + found.reveal())

    return patched(Speaker, "_share", twofold)


@mutant
def another_share_is_sealed() -> AbstractContextManager[None]:
    """What members keep are not the shares by which they have confirmed: they give another key."""
    seal = Wallet.seal

    def greater(self: Wallet, secret: Secret[bytes], label: bytes) -> bytes | None:
        if label.endswith(b"share"):
            secret = Secret((Scalar.from_be_bytes(secret.reveal()) + Scalar(1)).to_be_bytes())
        return seal(self, secret, label)

    return patched(Wallet, "seal", greater)


@mutant
def one_member_seals_another_share() -> AbstractContextManager[None]:
    """What the last member keeps does not fit the others' shares."""
    confirm = Speaker._confirm

    def last(self: Speaker) -> Sequence[Any]:
        with another_share_is_sealed() if self.mine.place == self.terms.size - 1 else nullcontext():
            return list(confirm(self))

    return patched(Speaker, "_confirm", last)


@mutant
def who_was_away_looks_for_no_share() -> AbstractContextManager[None]:
    """A member of the serving group that knows nothing of its session stays without a share, whatever it holds (R7)."""
    return patched(electing, "_recover", lambda draft, best, group: None)


# ------------------------------------------------------------------------------------------------ acceptance and handover


@mutant
@contextmanager
def the_interval_is_one_block_shorter() -> Iterator[None]:
    """A group may be replaced too early (E12, E16)."""

    def early(epoch_start: int, parameters: Any) -> int:
        return epoch_start + parameters.interval - 1

    with ExitStack() as stack:
        for module in (schedule, judging, signing, answers):
            stack.enter_context(patched(module, "due_height", early))
        yield


@mutant
def any_attempt_is_in_time() -> AbstractContextManager[None]:
    """A group may be accepted for an election that is over (E11, E13)."""
    return patched(judging, "_untimely", lambda attempt, ground: None)


@mutant
def two_groups_in_a_block() -> AbstractContextManager[None]:
    """Each of a block's transactions is judged alone (E15)."""
    return patched(judging, "_second", lambda body, ground: judging.judge(body, ground, _anything))


def _anything(check: Any) -> bool:
    return True


@mutant
def the_latest_group_serves_on_every_fork() -> AbstractContextManager[None]:
    """A group that no block of the chain accepted serves on (E18)."""
    serving = draft_module.serving
    return patched(draft_module, "serving", lambda acceptances, is_on_chain: serving(acceptances, lambda block: True))


@mutant
def the_seed_is_of_the_head() -> AbstractContextManager[None]:
    """Members are drawn by whatever block is the best (R5)."""
    begins = schedule.begins

    def late(attempt: Any) -> int:
        return begins(attempt) + 1

    return patched(deriving, "begins", late)


@mutant
def no_share_is_told_of() -> AbstractContextManager[None]:
    """A node denies that it has a share of any group's key (E25)."""
    return patched(answers, "_is_held", lambda draft, session: False)


# ------------------------------------------------------------------------------------------------ signing


@mutant
def a_second_child_is_signed() -> AbstractContextManager[None]:
    """A member signs every block that is named to it."""
    return patched(signing, "_has_signed", lambda draft, parent: False)


@mutant
@contextmanager
def what_is_combined_is_not_checked() -> Iterator[None]:
    """Any N - f parts are taken for the group's signature."""
    with patched(signing, "is_block_signed", lambda *_, **__: True), patched(signing, "partial_counts", lambda *_, **__: True):
        yield


@mutant
def whoever_says_a_part_first_has_its_place() -> AbstractContextManager[None]:
    """A part that another node says in a member's name keeps the member's own out."""
    hear = signing.hear_partial

    def deaf(draft: Draft, message: Any) -> None:
        rows = draft.tables.scan(signing.PARTIALS, (message.block,))
        if all(place != message.sender for (_, place, _), _ in rows):
            hear(draft, message)

    return patched(subsystem_module, "hear_partial", deaf)


# ------------------------------------------------------------------------------------------------ forgetting


@mutant
def what_the_chain_asks_back_for_is_forgotten() -> AbstractContextManager[None]:
    """No more of the chain is kept than what may leave it: what decides its next blocks is gone."""
    return patched(forgetting, "asked_back", lambda *_: 0)


@mutant
def the_serving_group_is_forgotten() -> AbstractContextManager[None]:
    """Every group that was accepted before the kept blocks is outlived, also the one that serves."""
    return patched(forgetting, "outlived", lambda accepted, *, below, is_on_chain: [each for each in accepted if each.number < below])
