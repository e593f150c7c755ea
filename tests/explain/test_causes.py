"""From a record to its cause and to what followed: over subsystems, timers, nodes, checkpoints and restored stores."""

from messages.chain_events import DescendantsSought, DescendantsTold
from messages.signals import BlockRef
from overseer.history.causes import Ending, History
from overseer.history.trails import Place
from tests.explain.books import Book, history_of

SOUGHT = DescendantsSought(block=b"\x07" * 32)


def trail(history: History, place: Place) -> tuple[list[str], Ending | None, str]:
    """The records back to where it ends, and why there."""
    found: list[str] = []
    step = history.step(place)
    while step is not None:
        found.append(step.place.text())
        origin = history.origin(step.place, step.record)
        if origin.step is None:
            return found, origin.ending, origin.why
        step = origin.step
    return found, None, ""


def test_a_trail_goes_back_through_subsystems_to_the_command() -> None:
    votes, conclusion, chain = Book("votes_db"), Book("dispute_conclusion"), Book("chain_api")
    first = votes.command(SOUGHT)
    second = conclusion.heard(votes, first, SOUGHT)
    third = chain.heard(conclusion, second, SOUGHT)
    history = history_of(n1=[votes, conclusion, chain])
    found, ending, _ = trail(history, Place("n1", "chain_api", third))
    assert found == ["n1/chain_api:1", "n1/dispute_conclusion:1", "n1/votes_db:1"]
    assert ending is Ending.OUTSIDE


def test_a_timer_leads_to_the_record_that_set_it_last() -> None:
    book = Book("chain_api")
    book.sets("work", SOUGHT)
    second = book.sets("work", SOUGHT)
    book.sets("other", SOUGHT)
    fired = book.fires("work", SOUGHT)
    found, ending, _ = trail(history_of(n1=[book]), Place("n1", "chain_api", fired))
    assert found == [f"n1/chain_api:{fired}", f"n1/chain_api:{second}"]
    assert ending is Ending.OUTSIDE


def test_what_followed_is_found_in_all_subsystems_and_by_timers() -> None:
    votes, conclusion, chain = Book("votes_db"), Book("dispute_conclusion"), Book("chain_api")
    first, other = votes.command(SOUGHT), votes.command(SOUGHT, id="c2")
    conclusion.heard(votes, first, SOUGHT)
    conclusion.heard(votes, other, SOUGHT)
    chain.heard(votes, first, SOUGHT)
    chain.heard(conclusion, 1, SOUGHT)
    history = history_of(n1=[votes, conclusion, chain])
    assert [step.place.text() for step in history.followed(Place("n1", "votes_db", first))] == ["n1/dispute_conclusion:1", "n1/chain_api:1"]
    assert [step.place.text() for step in history.followed(Place("n1", "dispute_conclusion", 1))] == ["n1/chain_api:2"]
    timed = Book("chain_api")
    timed.sets("work", SOUGHT)
    timed.sets("work", SOUGHT)
    timed.fires("work", SOUGHT)
    history = history_of(n1=[timed])
    assert list(history.followed(Place("n1", "chain_api", 1))) == []
    assert [step.place.index for step in history.followed(Place("n1", "chain_api", 2))] == [3]


def test_a_trail_ends_where_a_checkpoint_took_the_journal_and_says_so() -> None:
    votes, chain = Book("votes_db"), Book("chain_api")
    votes.command(SOUGHT)
    votes.command(SOUGHT, id="c2")
    heard = chain.heard(votes, 1, SOUGHT)
    votes.forget(2)
    found, ending, why = trail(history_of(n1=[votes, chain]), Place("n1", "chain_api", heard))
    assert found == [f"n1/chain_api:{heard}"]
    assert ending is Ending.GONE
    assert why == "the journal of votes_db begins with record 2: what was before went behind a checkpoint"


def test_a_timer_that_was_set_behind_a_checkpoint_is_an_end_too() -> None:
    book = Book("chain_api")
    book.sets("work", SOUGHT)
    fired = book.fires("work", SOUGHT)
    book.forget(2)
    _, ending, why = trail(history_of(n1=[book]), Place("n1", "chain_api", fired))
    assert ending is Ending.GONE
    assert "the record that set the timer work went behind a checkpoint" in why


def test_a_record_that_a_restored_store_lost_is_not_mistaken_for_the_one_in_its_place() -> None:
    votes, chain = Book("votes_db", incarnation=b"\x01" * 16), Book("chain_api")
    kept = votes.command(SOUGHT)
    before = chain.heard(votes, kept, SOUGHT)
    lost = chain.heard(votes, 2, SOUGHT)
    votes.restored(b"\x02" * 16)
    again = votes.command(SOUGHT, id="c2")
    after = chain.heard(votes, again, SOUGHT)
    history = history_of(n1=[votes, chain])
    assert trail(history, Place("n1", "chain_api", before))[0][1:] == ["n1/votes_db:1"]
    assert trail(history, Place("n1", "chain_api", after))[0][1:] == ["n1/votes_db:2"]
    found, ending, why = trail(history, Place("n1", "chain_api", lost))
    assert (len(found), ending) == (1, Ending.GONE)
    assert why == "votes_db said it under incarnation 01010101, of which this store kept nothing"
    # And forwards: the lost record's message is no consequence of the one in its place.
    assert [step.place.index for step in history.followed(Place("n1", "votes_db", again))] == [after]


def test_a_message_of_another_node_names_it_and_leads_there_when_its_folder_is_given() -> None:
    here, there = Book("votes_db", incarnation=b"\x01" * 16), Book("votes_db", incarnation=b"\x02" * 16)
    said = there.command(SOUGHT)
    heard = here.heard(there, said, SOUGHT, stream="net", node="n2")
    found, ending, why = trail(history_of(n1=[here]), Place("n1", "votes_db", heard))
    assert (found, ending) == (["n1/votes_db:1"], Ending.ELSEWHERE)
    assert why == "node n2 said it as votes_db:1: give its folder too, to go on there"
    both = history_of(n1=[here], n2=[there])
    assert trail(both, Place("n1", "votes_db", heard))[:2] == (["n1/votes_db:1", "n2/votes_db:1"], Ending.OUTSIDE)
    assert [step.place.text() for step in both.followed(Place("n2", "votes_db", said))] == ["n1/votes_db:1"]


def test_what_a_message_led_to_is_found_by_its_place_in_the_stream() -> None:
    votes, chain = Book("votes_db"), Book("chain_api")
    first = votes.command(SOUGHT)
    chain.heard(votes, first, SOUGHT)
    history = history_of(n1=[votes, chain])
    assert [step.place.text() for step in history.took("node", votes.position(first))] == ["n1/votes_db:1"]
    assert history.took("net", votes.position(first)) == []
    assert history.took("node", 10**9) == []


def test_large_events_are_found_by_what_is_in_them() -> None:
    """They are not in the record itself."""
    book = Book("chain_api")
    needle = b"\x55" * 32
    hashes = b"".join(bytes([each % 251]) * 32 for each in range(1, 1_000)) + needle
    large = DescendantsTold(block=b"\x07" * 32, hashes=hashes, page=0, last=True, known=True, last_seen=BlockRef(b"\x07" * 32, 1))
    book.command(SOUGHT)
    book.command(large, id="c2")
    book.command(SOUGHT, id="c3")
    found = list(history_of(n1=[book]).node.find("chain_api", [DescendantsSought, DescendantsTold], needle))
    assert [(each.place.index, each.event) for each in found] == [(2, large)]
