"""What a node does when it starts: from its disk and its head alone. The restores with real kills come with the processes."""

from chain_kit import Story
from dkg_kit import drawn, identity, wallet
from dkg_network import Network

from messages.codec import decode_value, encode_value
from messages.consensus_manager import Attempt, Opened
from subsystems.consensus_manager.handover import Serving
from subsystems.consensus_manager.member import held_share
from subsystems.consensus_manager.progress import Mine
from subsystems.consensus_manager.restoring import Disk, Head, Held, Plan, plan

STORY = Story(validators=8)
STORY.begin(100)
NOW = STORY.serving_before(101)
PARAMETERS = STORY.parameters
assert NOW.group is not None
SESSION = NOW.group.session
MEMBER = NOW.group.members[0].identity.signing
OUTSIDER = identity(next(n for n in range(8) if n not in {m.validator for m in NOW.group.members})).signing

ATTEMPT_0 = Attempt(100, 130, 0, 0)
ATTEMPT_5 = Attempt(100, 130, 5, 0)


def planned(number: int, disk: Disk, *, now: Serving = NOW, **head: object) -> Plan:
    return plan(Head(number=number, **head), now, disk, PARAMETERS)


def of_group(**how: bool) -> Held:
    return Held(session=SESSION, attempt=Attempt(0, 30, 0, 0), **how)


def test_R1_a_cold_start_at_the_height_of_an_election_takes_it_up_and_watches_for_silence() -> None:
    running = Held(session=drawn("running"), attempt=ATTEMPT_0)
    found = planned(130, Disk(signing=MEMBER, held=(of_group(formed=True, share=True), running)), round=30)
    assert found == Plan(serve=31, finish=(running.session,), watch=True)
    # Without anything on the disk of the attempt: it is followed from the stream.
    assert planned(130, Disk(signing=OUTSIDER)) == Plan(follow=(ATTEMPT_0,), watch=True)
    # Before the election is due there is nothing to give up.
    assert not planned(129, Disk(signing=OUTSIDER)).watch


def test_R2_a_node_that_is_behind_starts_nothing_and_at_the_end_only_what_matters_there() -> None:
    disk = Disk(signing=OUTSIDER)
    for number in (101, 130, 135, 160):
        assert planned(number, disk, target=161) == Plan()
    assert planned(161, disk, target=161) == Plan(follow=tuple(Attempt(100, 130, delay, 0) for delay in (10, 15, 20, 25, 30)), watch=True)
    member = planned(120, Disk(signing=MEMBER, held=(of_group(formed=True, share=True),)), target=161)
    assert member.serve is None


def test_R3_a_member_with_its_share_serves_on_behind_the_heads_round() -> None:
    found = planned(117, Disk(signing=MEMBER, held=(of_group(formed=True, share=True),)), round=17)
    assert found == Plan(serve=18)
    assert planned(117, Disk(signing=OUTSIDER, held=(of_group(formed=True, share=True),)), round=17) == Plan()


def test_R4_a_member_without_its_share_yet_finishes_from_the_dkg_on_its_disk() -> None:
    found = planned(101, Disk(signing=MEMBER, held=(of_group(formed=True),)))
    assert found == Plan(finish=(SESSION,))
    assert not found.aside


def test_R5_of_an_active_election_the_live_attempts_are_followed_by_their_own_blocks() -> None:
    """Head 137: D is 5, and the seed is the hash of block 135, not of the head."""
    assert planned(137, Disk(signing=OUTSIDER)).follow == (ATTEMPT_0, ATTEMPT_5)
    known = Held(session=drawn("known"), attempt=ATTEMPT_5)
    found = planned(137, Disk(signing=OUTSIDER, held=(known,)))
    assert found.finish == (known.session,)
    assert found.follow == (ATTEMPT_0,)
    old = Held(session=drawn("old"), attempt=ATTEMPT_0)
    later = planned(145, Disk(signing=OUTSIDER, held=(old,)))
    assert later.stop == (old.session,)
    assert later.follow == (ATTEMPT_5, Attempt(100, 130, 10, 0), Attempt(100, 130, 15, 0))
    terms = STORY.terms(ATTEMPT_5, NOW)
    assert terms.seed == STORY.hash_at(135)


def test_R5_what_is_said_again_after_a_restart_is_the_same_bytes() -> None:
    network = Network(4, seed=7, restarts=0.6).run()
    by_words: dict[tuple[object, ...], set[bytes]] = {}
    for message, author in zip(network.log, network.authors, strict=True):
        about = getattr(message, "phase", None), getattr(message, "dealer", None), getattr(message, "complainer", None)
        by_words.setdefault((author, message.spec.name, *about), set()).add(encode_value(message))
    assert all(len(words) == 1 for words in by_words.values())
    assert sum(isinstance(message, Opened) for message in network.log) > 4


def test_R6_a_completed_key_waits_for_its_block_as_long_as_one_may_accept_it() -> None:
    done = Held(session=drawn("done"), attempt=ATTEMPT_0, formed=True, share=True)
    disk = Disk(signing=OUTSIDER, held=(done,))
    assert planned(139, disk).finish == (done.session,)
    assert planned(144, disk).finish == (done.session,)
    assert planned(145, disk).stop == (done.session,)
    # And when it is accepted, the share is there.
    network = STORY.elect()
    transaction = network.transaction
    assert transaction is not None
    node = next(n for n in network.nodes if n.mine is not None)
    assert node.mine is not None
    mine = decode_value(Mine, encode_value(node.mine))
    assert held_share(mine, network.terms.session, wallet(node.number)) is not None


def test_R7_a_member_with_neither_share_nor_dkg_stands_aside_and_keeps_following() -> None:
    assert planned(101, Disk(signing=MEMBER)) == Plan(aside=True, recover=True)
    found = planned(131, Disk(signing=MEMBER))
    assert found.aside
    assert found.serve is None
    assert found.follow == (ATTEMPT_0,)
    assert planned(101, Disk(signing=MEMBER, held=(of_group(),))) == Plan(aside=True)
    # Behind, it may be that another group serves at the end.
    assert planned(101, Disk(signing=MEMBER), target=102) == Plan(aside=True)


def test_in_governance_mode_no_election_starts_and_the_group_serves_on() -> None:
    running = Held(session=drawn("running"), attempt=ATTEMPT_0)
    found = planned(131, Disk(signing=MEMBER, held=(of_group(formed=True, share=True), running)), round=31, governance=True)
    assert found == Plan(serve=32, stop=(running.session,))


def test_a_session_of_another_fork_is_left_and_the_attempt_followed_on_this_one() -> None:
    other = Held(session=drawn("fork"), attempt=ATTEMPT_0)
    found = plan(Head(number=131), NOW, Disk(signing=OUTSIDER, held=(other,)), PARAMETERS, lambda session, _: session != other.session)
    assert found.finish == ()
    assert found.follow == (ATTEMPT_0,)
    assert found.stop == (other.session,)


def test_before_the_first_group_an_election_is_due_by_the_start_of_the_chain() -> None:
    assert planned(29, Disk(signing=MEMBER), now=Serving()) == Plan()
    assert planned(30, Disk(signing=MEMBER), now=Serving()) == Plan(follow=(Attempt(0, 30, 0, 0),), watch=True)
