"""The DKG, scenario by scenario: each a short story on one log."""

import pytest
from dkg_kit import terms_for, verify_check, wallet
from dkg_lies import (
    answers_wrongly,
    bad_boxes,
    complains_falsely,
    equivocates,
    malformed_deal,
    no_answers,
    nothing_from,
    proven_equivocation,
    silent,
    wrong_shares,
)
from dkg_network import Network
from msgspec.structs import replace

from messages.codec import encode_value
from messages.consensus_journal import Fault
from messages.consensus_manager import (
    Attempt,
    Complaint,
    Confirm,
    Deal,
    Justify,
    NotTaken,
    NotTakenReason,
    OfAttempt,
    Opened,
    Phase,
    PhaseClosed,
)
from messages.consensus_signing import statement_payload
from subsystems.consensus_manager.crypto.curve import GENERATOR, Scalar
from subsystems.consensus_manager.crypto.dealing import decode_commitments
from subsystems.consensus_manager.crypto.feldman import interpolation_weights
from subsystems.consensus_manager.crypto.threshold import combine, group_signature_holds, hash_message, partial_signature
from subsystems.consensus_manager.outcome import faults, places, statement
from subsystems.consensus_manager.terms import faulty_most
from subsystems.consensus_manager.transcript import take


def qualified(network: Network) -> list[int] | None:
    key = network.progress.key
    return None if key is None else places(key.qualified, network.terms.size)


def out(network: Network) -> dict[int, Fault]:
    return faults(network.terms, network.progress)


@pytest.mark.parametrize("size", [4, 7])
def test_E06_honest_members_all_have_shares_of_one_key_and_any_degree_plus_one_sign(size: int) -> None:
    network = Network(size, seed=size).run()
    terms, key = network.terms, network.progress.key
    assert key is not None
    assert qualified(network) == list(range(size))
    assert terms.degree == size - faulty_most(size) - 1
    payload = statement_payload(statement(terms, key))
    hashed = hash_message(key.key, payload)
    partials = {}
    for node in network.nodes[:size]:
        share = node.share()
        assert share is not None
        partials[node.number] = partial_signature(share, hashed)
    signatures = {combine(dict(network.random.sample(sorted(partials.items()), terms.degree + 1)), terms.degree) for _ in range(4)}
    assert len(signatures) == 1
    assert group_signature_holds(key.key, payload, signatures.pop())
    too_few = combine(dict(list(partials.items())[: terms.degree]), terms.degree - 1)
    assert not group_signature_holds(key.key, payload, too_few)


def test_E06_the_key_is_that_of_the_sum_of_the_dealers_secrets() -> None:
    network = Network(4, seed=2).run()
    key = network.progress.key
    assert key is not None
    shares = [node.share() for node in network.nodes[:3]]
    total = Scalar(0)
    for share, weight in zip(shares, interpolation_weights([0, 1, 2]), strict=True):
        assert share is not None
        total = total + share.reveal() * weight
    assert GENERATOR * total == decode_commitments(tuple(key.commitments))[0]


def test_E07_a_complaint_answered_rightly_leaves_the_dealer_and_gives_the_complainer_its_share() -> None:
    network = Network(4, lies={3: [wrong_shares(1)]}).run()
    assert [m.dealer for m in network.said(Complaint, 1)] == [3]
    assert [m.complainer for m in network.said(Justify, 3)] == [1]
    assert qualified(network) == [0, 1, 2, 3]
    assert network.nodes[1].share() is not None
    assert network.transaction is not None


def test_E07_a_box_that_does_not_open_is_complained_about_too() -> None:
    network = Network(4, lies={3: [bad_boxes(0)]}).run()
    assert [m.dealer for m in network.said(Complaint, 0)] == [3]
    assert qualified(network) == [0, 1, 2, 3]


@pytest.mark.parametrize(("lie", "fault"), [(answers_wrongly, Fault.WRONG_ANSWER), (no_answers, Fault.UNANSWERED)])
def test_E07_a_complaint_answered_wrongly_or_not_puts_the_dealer_out(lie, fault: Fault) -> None:
    network = Network(4, lies={3: [wrong_shares(1), lie]}, min_confirmations=3).run()
    assert out(network) == {3: fault}
    assert qualified(network) == [0, 1, 2]
    assert network.transaction is not None


def test_E07_an_answer_behind_the_last_closing_is_late() -> None:
    network = Network(4, lies={3: [wrong_shares(1)]}, min_confirmations=3).run(2)
    assert network.progress.phase is Phase.JUSTIFY
    answered = [m for m in network.log if isinstance(m, Justify)]
    # The same story, but the answer is on its way until the phase is over.
    late = Network(4, lies={3: [wrong_shares(1), no_answers]}, min_confirmations=3).run(3)
    late.nodes[3].outbox += answered
    late.settle()
    assert qualified(late) == [0, 1, 2]
    assert out(late) == {3: Fault.UNANSWERED}


def test_E07_false_complaints_are_answered_and_put_nobody_out() -> None:
    network = Network(4, lies={3: [complains_falsely]}).run()
    assert qualified(network) == [0, 1, 2, 3]
    assert network.transaction is not None


def test_E08_more_than_f_complaints_put_the_dealer_out_though_it_answers() -> None:
    network = Network(4, lies={3: [wrong_shares(0, 1)]}, min_confirmations=3).run()
    assert len(network.said(Justify, 3)) == 2
    assert out(network) == {3: Fault.TOO_MANY_COMPLAINTS}
    assert qualified(network) == [0, 1, 2]


def test_E08_two_deals_on_the_stream_put_the_dealer_out() -> None:
    network = Network(4, lies={2: [equivocates]}, min_confirmations=3).run()
    assert out(network) == {2: Fault.EQUIVOCATED}
    assert qualified(network) == [0, 1, 3]


def test_E08_two_deals_shown_by_a_member_put_the_dealer_out() -> None:
    network = Network(4, lies={2: [silent]}, min_confirmations=3)
    network.nodes[0].lies = [proven_equivocation(network.nodes[2])]
    network.run()
    assert out(network) == {2: Fault.EQUIVOCATED}


def test_E08_the_same_deal_twice_is_no_equivocation() -> None:
    network = Network(4, restarts=0.5, seed=9).run()
    assert out(network) == {}
    assert max(len(network.said(Deal, n)) for n in range(4)) > 1


@pytest.mark.parametrize("how", range(5))
def test_E20_a_deal_with_what_is_no_point_no_proof_or_too_much_puts_the_dealer_out(how: int) -> None:
    network = Network(4, lies={1: [malformed_deal(how)]}, min_confirmations=3).run()
    assert out(network) == {1: Fault.MALFORMED}
    assert qualified(network) == [0, 2, 3]
    assert network.transaction is not None


def test_E09_when_one_does_not_confirm_all_is_too_much_to_ask_and_n_minus_f_is_not() -> None:
    assert Network(4, lies={3: [nothing_from(Confirm)]}).run().transaction is None
    transaction = Network(4, lies={3: [nothing_from(Confirm)]}, min_confirmations=3).run().transaction
    assert transaction is not None
    assert [approval.signer for approval in transaction.approvals] == [0, 1, 2]


def test_E19_f_silent_members_do_not_stop_it_and_2f_give_no_key() -> None:
    assert Network(7, lies={5: [silent], 6: [silent]}, min_confirmations=5).run().transaction is not None
    network = Network(7, lies={n: [silent] for n in (3, 4, 5, 6)}, min_confirmations=5).run(9)
    assert network.progress.key is None
    assert network.progress.failed
    assert network.transaction is None
    assert not any(node.share() for node in network.nodes)


# ------------------------------------------------------------------------------------------------ strangers


def taken(network: Network, message: OfAttempt) -> NotTakenReason | None:
    node = network.nodes[0]
    result = take(node.terms, node.progress, node.deals, message, verify_check, position=0)
    return result.reason if isinstance(result, NotTaken) else None


def test_E21_what_was_said_in_another_session_is_refused() -> None:
    other = Network(terms=terms_for(attempt=Attempt(100, 130, 5, 0))).run()
    network = Network(4).settle()
    assert any(isinstance(m, Deal) for m in other.log)
    for message in (m for m in other.log if isinstance(m, OfAttempt)):
        assert taken(network, message) is NotTakenReason.FOREIGN_SESSION
        # And with this session's name on it, the signature is not over it.
        assert taken(network, replace(message, session=network.terms.session)) is NotTakenReason.BAD_SIGNATURE


def test_E21_what_a_non_member_says_is_refused() -> None:
    network = Network(4).settle()
    stranger = network.nodes[4]
    closed = PhaseClosed(session=network.terms.session, sender=0, signature=bytes(64), phase=Phase.DEAL)
    assert taken(network, stranger.say(closed)) is NotTakenReason.BAD_SIGNATURE
    assert taken(network, stranger.say(replace(closed, sender=4))) is NotTakenReason.NO_MEMBER
    assert taken(network, replace(network.nodes[1].say(replace(closed, sender=1)), sender=2)) is NotTakenReason.BAD_SIGNATURE
    assert taken(network, network.nodes[0].say(closed)) is None


def test_E21_what_is_said_again_has_no_second_effect() -> None:
    network = Network(4).run()
    before = encode_value(network.progress)
    network.nodes[4].outbox += list(network.log)
    network.settle()
    assert encode_value(network.progress) == before


def test_a_confirmation_of_another_outcome_is_refused_though_its_signatures_are_right() -> None:
    network = Network(4, min_confirmations=4, lies={3: [nothing_from(Confirm)]}).run()
    node = network.nodes[3]
    honest = Network(4).run().said(Confirm, 3)[0]
    for changed in ({"key": network.nodes[0].deals[0].commitments[0]}, {"transcript": bytes(32)}, {"qualified": b"\x07"}):
        assert taken(network, node.say(replace(honest, **changed))) is NotTakenReason.DIVERGENT
    assert taken(network, honest) is None
    assert taken(Network(4).settle(), honest) is NotTakenReason.DIVERGENT


def test_a_message_of_each_kind_is_bound_by_its_signature_to_all_its_fields() -> None:
    network = Network(4, lies={3: [wrong_shares(1), complains_falsely]}, seed=4).run()
    kinds = {type(m): m for m in network.log if isinstance(m, OfAttempt)}
    assert set(kinds) == {Opened, Deal, Complaint, Justify, PhaseClosed, Confirm}
    for message in kinds.values():
        node = next(n for n in network.nodes if n.mine and n.mine.place == message.sender)
        assert node.wallet.signature(message) == message.signature
        for name in message.__struct_fields__:
            value = getattr(message, name)
            if name == "signature" or not isinstance(value, bytes | int | list):
                continue
            other = value[:-1] if isinstance(value, bytes | list) else value + 1
            assert node.wallet.signature(replace(message, **{name: other})) != message.signature


# ------------------------------------------------------------------------------------------------ order, stalls, restarts


def test_a_member_that_was_away_while_complaints_could_be_made_has_no_share_and_does_not_vote() -> None:
    network = Network(4, lies={3: [wrong_shares(1)]}, min_confirmations=3)
    late = network.nodes[1]
    late.lies = [nothing_from(Complaint)]
    late.wallet = replace(late.wallet, box=wallet(99).box)
    network.run(2)
    assert network.progress.phase is Phase.JUSTIFY
    # It comes back with all its keys, and opens its boxes for the first time.
    late.wallet, late.lies = wallet(1), []
    assert late.mine is not None
    late.mine = replace(late.mine, good=[], bad=[])
    network.run()
    assert qualified(network) == [0, 1, 2, 3]
    assert late.share() is None
    assert network.said(Confirm, 1) == []
    assert network.transaction is not None


def test_a_member_that_opens_its_boxes_when_the_key_is_formed_takes_none_that_does_not_fit() -> None:
    network = Network(4, lies={3: [wrong_shares(1)]}, min_confirmations=3)
    network.nodes[1].lies = [nothing_from(Complaint)]
    network.run(2)
    late = network.nodes[1]
    assert late.mine is not None
    late.mine, late.lies, late.deaf = replace(late.mine, good=[], bad=[]), [], True
    network.run()
    late.deaf = False
    late.speak()
    assert late.share() is None


def test_E23_two_nodes_that_see_block_and_deal_in_opposite_order_agree() -> None:
    """One node's head is far ahead of the stream, another's never moves: the stream decides for both."""
    network = Network(4, min_confirmations=3)
    network.nodes[0].head += 10
    network.nodes[4].head -= 10
    network.run()
    views = {encode_value(node.progress) for node in network.nodes}
    assert len(views) == 1
    # A head that is ahead of all others deals nothing: it is one faulty member at most.
    assert qualified(network) == [1, 2, 3]


def test_a_phase_closes_with_the_f_plus_first_member_and_is_not_closed_by_f() -> None:
    network = Network(7).settle()
    for count in range(1, 4):
        node = network.nodes[count]
        node.head += 1
        node.speak()
        network.settle()
        assert (network.progress.phase is Phase.COMPLAIN) == (count == 3)


def test_E24_with_no_block_at_all_stalls_carry_the_election_through() -> None:
    network = Network(4, followers=3).settle()
    for phase in (Phase.DEAL, Phase.COMPLAIN, Phase.JUSTIFY):
        assert network.progress.phase is phase
        network.stall([2, 3, 4, 5])
        assert network.progress.phase is phase
        network.stall([6])
    assert network.transaction is not None
    assert {node.head for node in network.nodes} == {130}


def test_E24_a_stalled_attempt_that_gives_nothing_is_given_up_for_the_next_round() -> None:
    network = Network(4, followers=3, lies={n: [silent] for n in (0, 1)}).settle()
    for _ in range(4):
        assert not network.progress.given_up
        network.stall([2, 3, 4, 5, 6])
    progress = network.progress
    assert progress.failed
    assert progress.given_up
    assert sorted(approval.signer for approval in progress.stalled) == [2, 3, 4, 5, 6]


def test_E24_stalls_of_one_validator_count_once_and_only_for_the_phase_they_name() -> None:
    network = Network(4, followers=3).settle()
    for _ in range(3):
        network.stall([0, 1, 2, 3])
    assert network.progress.phase is Phase.DEAL
    assert len(network.progress.stalled) == 4


@pytest.mark.parametrize("step", range(1, 60, 4))
def test_R8_all_members_restarted_at_once_at_any_step_complete_the_same_attempt(step: int) -> None:
    """What each had committed is all that is left; published is what was published, the rest goes out now."""
    network = Network(4, seed=step)
    count = 0
    choose = network.random.choice

    def choosing(steps):
        nonlocal count
        count += 1
        if count == step:
            for node in network.nodes:
                node.restart()
        return choose(steps)

    network.random.choice = choosing
    network.run()
    assert count > step
    assert network.transaction is not None
    assert all(len({m.signature for m in network.said(Deal, n)}) == 1 for n in range(4))


def test_R5_a_member_without_its_store_never_deals_a_second_time() -> None:
    network = Network(4, seed=1, min_confirmations=3).settle()
    network.nodes[1].lose_store()
    network.run()
    deals = {m.signature for m in network.said(Deal, 1)}
    assert len(deals) == 1
    assert network.transaction is not None


def test_R5_a_member_that_lost_its_store_behind_its_deal_still_answers_a_complaint() -> None:
    network = Network(4, seed=1, min_confirmations=3, lies={2: [complains_falsely]})
    network.until(lambda: bool(network.said(Deal, 1)))
    node = network.nodes[1]
    node.lose_store()
    # What was said before is applied before it says anything, its own deal with it.
    node.deaf = True
    network.until(lambda: node.progress.deal_of(1) is not None)
    node.deaf = False
    network.run()
    assert 2 in {answer.complainer for answer in network.said(Justify, 1)}
    assert 1 in qualified(network)


def test_a_member_whose_sealing_key_is_erased_says_nothing_it_could_not_keep() -> None:
    network = Network(4, min_confirmations=3)
    node = network.nodes[2]
    node.wallet = replace(node.wallet, sealing=None)
    network.run()
    assert network.said(Deal, 2) == []
    assert network.said(Confirm, 2) == []
    assert qualified(network) == [0, 1, 3]


def test_nothing_that_is_recorded_or_said_shows_a_secret() -> None:
    network = Network(4, seed=6).run()
    seen = b"".join(encode_value(m) for m in network.log)
    for node in network.nodes[:4]:
        assert node.mine is not None
        share = node.share()
        assert share is not None
        seen += encode_value(node.mine) + encode_value(node.progress)
        assert share.reveal().to_be_bytes() not in seen
        seed = node.wallet.deal_seed(network.terms.session)
        assert seed is not None
        assert seed.reveal() not in seen
        for secret in (node.wallet.signing, node.wallet.box):
            assert secret.reveal() not in seen
