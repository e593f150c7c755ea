"""Whether a block accepts a group, and which group serves then."""

from functools import cache

import pytest
from chain_kit import ElectionNetwork, Story, error
from dkg_kit import drawn, identity
from dkg_lies import silent
from msgspec.structs import replace

from messages.codec import encode
from messages.consensus_manager import Approval, Attempt, GroupTransaction
from messages.consensus_signing import transaction_name
from subsystems.consensus_manager.handover import Role, Serving, kept, next_round, role, serving
from subsystems.consensus_manager.outcome import absent_among, bitmap
from subsystems.consensus_manager.parameters import Parameters
from subsystems.consensus_manager.progress import Progress


def elected(story: Story, delay: int = 0, **how: object) -> GroupTransaction:
    transaction = story.elect(delay, **how).transaction
    assert transaction is not None
    return transaction


@cache
def first() -> GroupTransaction:
    """The group of the attempt (130, 0) of a story whose group was accepted at 100."""
    story = Story()
    story.begin(100)
    return elected(story)


@pytest.fixture
def story() -> Story:
    made = Story()
    made.begin(100)
    return made


def verdict(story: Story, number: int, transaction: GroupTransaction | bytes) -> str:
    (one,) = story.judge(number, transaction)
    return error(one)


def test_E09_n_minus_f_confirmations_are_enough_where_they_are_and_not_where_all_are_needed(story: Story) -> None:
    few = elected(story, lies={3: [silent]})
    assert len(few.approvals) == 3
    assert verdict(story, 134, few) == "accepted"
    strict = Story(Parameters())
    strict.begin(100)
    assert verdict(strict, 134, few) == "group_verification_failed signers"
    assert strict.elect(lies={3: [silent]}).transaction is None
    assert verdict(strict, 139, elected(strict, 5)) == "accepted"


def test_E10_an_attempt_that_ends_while_a_younger_one_runs_is_accepted(story: Story) -> None:
    for number in (131, 135, 136, 145):
        assert verdict(story, number, first()) == "accepted"


def test_E11_a_transaction_of_a_superseded_attempt_is_too_old(story: Story) -> None:
    assert verdict(story, 145, first()) == "accepted"
    assert verdict(story, 146, first()) == "txn_too_old"
    plain = Story(Parameters(attempts_alive=1, min_confirmations=3))
    plain.begin(100)
    assert verdict(plain, 135, first()) == "accepted"
    assert verdict(plain, 136, first()) == "txn_too_old"


def test_E12_before_the_attempts_own_block_has_a_child_it_is_too_early(story: Story) -> None:
    for number in (101, 129, 130):
        assert verdict(story, number, first()) == "election_too_early"
    assert verdict(story, 135, elected(story, 5)) == "election_too_early"
    assert verdict(story, 131, first()) == "accepted"


def test_E13_an_election_that_was_served_or_is_far_ahead_is_a_duplicate(story: Story) -> None:
    story.accept(134, first())
    for number in (135, 164, 170):
        assert verdict(story, number, first()) == "duplicate_group"
    story = Story()
    story.begin(100)
    for attempt in (Attempt(100, 160, 0, 0), Attempt(100, 129, 0, 0), Attempt(99, 130, 0, 0), Attempt(130, 160, 0, 0)):
        assert verdict(story, 134, replace(first(), attempt=attempt)) == "duplicate_group"


def test_E14_a_signature_that_is_foreign_missing_or_doubled_fails(story: Story) -> None:
    transaction = first()
    one, two, three, *rest = transaction.approvals
    foreign = Approval(three.signer, one.signature)
    for approvals, detail in (
        ([one, two], "signers"),
        ([one, two, two], "signers"),
        ([one, one, two, three], "signers"),
        ([two, one, three], "signers"),
        ([one, two, Approval(4, three.signature)], "signers"),
        ([one, two, foreign], "approvals"),
        ([one, two, Approval(three.signer, bytes(64))], "approvals"),
    ):
        assert verdict(story, 134, replace(transaction, approvals=approvals)) == f"group_verification_failed {detail}"
    assert verdict(story, 134, replace(transaction, approvals=[one, two, three, *rest])) == "accepted"


def test_E14_every_field_of_the_statement_is_signed(story: Story) -> None:
    transaction = first()
    other = replace(first(), key=drawn("x") + bytes(16))
    for changed in (
        other,
        replace(transaction, transcript=drawn("another transcript")),
        replace(transaction, absent=[0]),
        replace(transaction, qualified=bitmap([0, 1, 2], 4)),
    ):
        assert verdict(story, 134, changed) == "group_verification_failed approvals"
    flipped = transaction.signature[:-1] + bytes([transaction.signature[-1] ^ 1])
    for signature in (flipped, b"\xc0" + bytes(95), bytes(96)):
        assert verdict(story, 134, replace(transaction, signature=signature)) == "group_verification_failed signature"
    for qualified in (bitmap([0, 1], 4), b"\xff", b"\x0f\x00", b""):
        assert verdict(story, 134, replace(transaction, qualified=qualified)) == "group_verification_failed qualified"


def test_members_that_the_chain_does_not_give_are_a_mismatch(story: Story) -> None:
    transaction = first()
    members = transaction.members
    for changed in (members[::-1], members[:-1], [*members[:-1], 5 if members[-1] != 5 else 4], [*members, 0]):
        assert verdict(story, 134, replace(transaction, members=changed)) == "group_mismatch members"
    assert verdict(story, 134, replace(transaction, attempt=Attempt(100, 130, 3, 0))) == "group_mismatch delay"
    for absent in ([1, 0], [1, 1], [6]):
        assert verdict(story, 134, replace(transaction, absent=absent)) == "group_mismatch absent"
    fork = Story(fork="b")
    fork.forked_at = 130
    fork.begin(100)
    assert verdict(fork, 134, transaction) == "group_mismatch members"


def test_bytes_that_are_no_transaction_or_not_in_the_one_form_are_refused(story: Story) -> None:
    body = encode(first())
    for wrong in (b"", b"\xa0", body[:-1], body + b"\x00", b"\xff" * 100):
        assert verdict(story, 134, wrong) == "group_verification_failed encoding"
    assert verdict(story, 134, body) == "accepted"


def test_E15_of_two_in_a_block_the_second_is_ignored_and_recorded(story: Story) -> None:
    younger = elected(story, 5)
    verdicts = story.judge(137, first(), younger)
    assert [error(v) for v in verdicts] == ["accepted", "duplicate_group"]
    assert verdicts[1].name == transaction_name(encode(younger))
    assert [error(v) for v in story.judge(137, b"junk", first(), b"junk")] == [
        "group_verification_failed encoding",
        "accepted",
        "duplicate_group",
    ]


# ------------------------------------------------------------------------------------------------ rounds


def test_E24_a_later_round_is_accepted_with_the_proof_of_the_stall_alone(story: Story) -> None:
    terms = story.terms(story.attempt(), story.serving_before(10**6))
    given_up = ElectionNetwork(terms).give_up()
    network = ElectionNetwork(story.terms(story.attempt(0, 1), story.serving_before(10**6), stalls=given_up.progress.stalled)).run(5)
    transaction = network.transaction
    assert transaction is not None
    assert transaction.attempt == Attempt(100, 130, 0, 1)
    assert len(transaction.stalls) == 3
    assert verdict(story, 134, transaction) == "accepted"
    one, two, three = transaction.stalls
    for stalls in ([], [one, two], [one, one, two], [one, two, Approval(three.signer, two.signature)], [one, two, Approval(6, bytes(64))]):
        assert verdict(story, 134, replace(transaction, stalls=stalls)) == "group_mismatch stalls"
    assert verdict(story, 134, replace(first(), stalls=[one])) == "group_mismatch stalls"
    # A round nobody stalled for: whoever could choose it could choose the members.
    assert verdict(story, 134, replace(transaction, attempt=Attempt(100, 130, 0, 2), stalls=[])).startswith("group_mismatch")


# ------------------------------------------------------------------------------------------------ handover


def test_E16_the_accepting_block_begins_the_epoch_and_sets_the_next_election(story: Story) -> None:
    accepted = story.accept(134, first())
    now = story.serving_before(135)
    assert (now.epoch, now.epoch_start) == (2, 134)
    assert now.group == accepted
    assert story.attempt(at=135).due == 164
    assert story.serving_before(134).epoch == 1


def test_E17_who_is_in_the_old_group_alone_stops_and_who_is_in_both_carries_on() -> None:
    story = Story(validators=8)
    story.begin(100)
    before = story.serving_before(134)
    story.accept(134, elected(story))
    after = story.serving_before(135)
    assert before.group is not None
    assert after.group is not None
    old = {member.identity.signing for member in before.group.members}
    new = {member.identity.signing for member in after.group.members}
    expected = {(True, True): Role.CARRIES_ON, (True, False): Role.STOPS, (False, True): Role.STARTS, (False, False): Role.OUTSIDE}
    for number in range(8):
        key = identity(number).signing
        assert role(before, after, key) is expected[(key in old, key in new)]
    assert {role(before, after, identity(number).signing) for number in range(8)} >= {Role.CARRIES_ON, Role.STOPS, Role.STARTS}
    assert next_round(34) == 35


def test_E18_when_the_accepting_block_is_blacklisted_the_group_before_serves_again(story: Story) -> None:
    accepted = story.accept(134, first())
    back = serving(story.acceptances, lambda block: block != accepted.block)
    assert (back.epoch, back.epoch_start) == (1, 100)
    fork = Story(fork="b")
    fork.forked_at = 134
    fork.acceptances = story.acceptances
    assert fork.serving_before(140).epoch == 1
    # Elections go by its start: the attempt that is due at 140 is (130, 10), and what was refused as served is welcome again.
    assert fork.attempt(10, at=140) == Attempt(100, 130, 10, 0)
    assert verdict(fork, 141, first()) == "accepted"


def test_E25_a_block_that_is_named_twice_is_revoked_once(story: Story) -> None:
    accepted = story.accept(134, first())
    gone = {accepted.block}
    once = serving(story.acceptances, lambda block: block not in gone)
    gone |= {accepted.block}
    twice = serving([*story.acceptances, accepted], lambda block: block not in gone)
    assert once == twice
    assert once.epoch == 1


def test_a_second_fork_may_accept_the_same_election_and_each_chain_has_its_own_group(story: Story) -> None:
    story.accept(134, first())
    fork = Story(fork="b")
    fork.forked_at = 133
    fork.acceptances = story.acceptances
    fork.accept(136, first())
    assert (fork.serving_before(140).epoch, fork.serving_before(140).epoch_start) == (2, 136)
    assert (story.serving_before(140).epoch, story.serving_before(140).epoch_start) == (2, 134)


def test_groups_are_kept_since_the_last_final_one_and_one_before_it() -> None:
    story = Story()
    story.begin(40)
    one = story.acceptances[0]
    story.acceptances = [replace(one, number=n, block=story.hash_at(n), epoch=e) for e, n in enumerate((40, 80, 120, 160), 1)]

    def on_chain(block: bytes) -> bool:
        return True

    assert [a.number for a in kept(story.acceptances, final=130, is_on_chain=on_chain)] == [80, 120, 160]
    assert [a.number for a in kept(story.acceptances, final=50, is_on_chain=on_chain)] == [40, 80, 120, 160]
    assert [a.number for a in kept(story.acceptances, final=0, is_on_chain=on_chain)] == [40, 80, 120, 160]
    assert serving([], on_chain) == Serving()


def test_who_dealt_nothing_is_penalised_by_the_acceptance_and_nobody_before() -> None:
    story = Story(validators=8)
    story.begin(100)
    transaction = elected(story, lies={2: [silent]})
    silent_one = transaction.members[2]
    accepted = story.accept(134, transaction)
    assert accepted.penalties == ((identity(silent_one).signing, 1),)


def test_who_dealt_nothing_in_an_earlier_attempt_is_told_by_the_group_that_came_about(story: Story) -> None:
    failed = story.elect(lies={1: [silent], 3: [silent]})
    assert failed.progress.failed
    terms = story.terms(story.attempt(5), story.serving_before(10**6))
    absent = absent_among([(failed.terms, failed.progress)], terms, 10**6)
    assert absent == sorted(failed.terms.members[place].validator for place in (1, 3))
    network = ElectionNetwork(terms, absent=absent).run()
    assert network.transaction is not None
    assert network.transaction.absent == absent
    held = dict(story.accept(139, network.transaction).penalties)
    assert set(held) == {identity(n).signing for n in absent if n not in network.transaction.members}
    assert absent_among([(terms, Progress(session=terms.session))], terms, 10**6) == []


def test_absence_goes_by_the_key_when_a_session_changed_between_two_attempts(story: Story) -> None:
    failed = story.elect(lies={1: [silent], 3: [silent]})
    story.sessions[133] = [9, 8, 7, *range(6)]
    terms = story.terms(story.attempt(5), story.serving_before(10**6))
    absent = absent_among([(failed.terms, failed.progress)], terms, 10**6)
    assert absent == sorted(failed.terms.members[place].validator + 3 for place in (1, 3))
    story.sessions[133] = [*range(20, 26)]
    assert absent_among([(failed.terms, failed.progress)], story.terms(story.attempt(5), story.serving_before(10**6)), 10**6) == []


def test_a_validator_that_left_the_session_is_not_chosen_again_and_serves_its_epoch_out(story: Story) -> None:
    now = story.serving_before(10**6)
    assert now.group is not None
    gone = identity(now.group.members[0].validator).signing
    story.sessions[120] = [*range(6, 12)]
    members = {member.identity.signing for member in story.terms(story.attempt(), now).members}
    assert gone not in members
    assert story.serving_before(125).group == now.group
