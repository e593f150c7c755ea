"""The Line contract, appending: compare-and-set, atomic batches, the published mark, limits."""

import pytest
from bus_worlds import World

from overseer.ports.bus import MessageTooLarge, OutcomeUnknown, Outgoing, StreamFull, WrongLastSequence
from overseer.ports.envelope import APPEND_BATCH_MAX, BODY_BYTES_MAX, HEADER_BYTES_MAX

pytestmark = pytest.mark.anyio


async def test_an_append_returns_the_sequence_that_the_next_one_expects(world: World) -> None:
    await world.create()
    line = await world.line("votes_db")
    assert await line.append(world.numbered("votes_db", 1), 0) == 1
    assert await line.append(world.numbered("votes_db", 2), 1) == 3
    assert await line.append(world.numbered("votes_db", 1), 3) == 4


@pytest.mark.parametrize("count", [1, 2, 30])
async def test_a_stale_retry_is_refused_whole_and_changes_nothing(world: World, count: int) -> None:
    await world.create()
    line = await world.line("votes_db")
    last = await line.append(world.numbered("votes_db", count), 0)
    for stale in (0, last + 1):
        with pytest.raises(WrongLastSequence):
            await line.append(world.numbered("votes_db", count, start=100), stale)
    assert (await line.state()).last_sequence == last == count


async def test_the_comparison_is_with_the_own_messages_of_every_kind_and_no_others(world: World) -> None:
    await world.create()
    votes, chain = await world.line("votes_db"), await world.line("chain_api")
    assert await votes.append([world.message("votes_db", name="voted")], 0) == 1
    assert await chain.append(world.numbered("chain_api", 3), 0) == 4
    # The last of one's own, whatever its name; not the stream's last.
    assert await votes.append([world.message("votes_db", name="resolved")], 1) == 5
    with pytest.raises(WrongLastSequence):
        await votes.append([world.message("votes_db", name="voted")], 1)
    assert await chain.append(world.numbered("chain_api", 2), 4) == 7


async def test_the_last_own_message_is_the_published_mark_with_several_senders(world: World) -> None:
    await world.create()
    votes, chain = await world.line("votes_db"), await world.line("chain_api")
    assert await votes.last_own() is None
    await votes.append(world.numbered("votes_db", 3), 0)
    await chain.append(world.numbered("chain_api", 2), 0)
    mark = await votes.last_own()
    assert mark is not None
    assert (mark.sequence, mark.body, mark.headers) == (3, b"2", {"Overseer-Id": "votes_db 00 2 0"})
    assert mark == await votes.message_at(3)


async def test_a_sender_whose_messages_were_all_trimmed_starts_from_nothing(world: World) -> None:
    await world.create()
    votes, chain = await world.line("votes_db"), await world.line("chain_api")
    await votes.append(world.numbered("votes_db", 3), 0)
    await chain.append(world.numbered("chain_api", 1), 0)
    await world.trim(4)
    assert await votes.last_own() is None
    with pytest.raises(WrongLastSequence):
        await votes.append(world.numbered("votes_db", 1), 3)
    assert await votes.append(world.numbered("votes_db", 1), 0) == 5


async def test_a_batch_that_does_not_fit_stores_none_of_it_and_a_smaller_one_still_fits(world: World) -> None:
    await world.create(messages_max=10)
    line = await world.line("votes_db")
    last = await line.append(world.numbered("votes_db", 7), 0)
    with pytest.raises(StreamFull):
        await line.append(world.numbered("votes_db", 4), last)
    assert (await line.state()).last_sequence == 7
    last = await line.append(world.numbered("votes_db", 3), last)
    with pytest.raises(StreamFull):
        await line.append(world.numbered("votes_db", 1), last)
    await world.trim(2)
    assert await line.append(world.numbered("votes_db", 1), last) == 11


async def test_a_stream_full_of_bytes_refuses_until_it_is_trimmed(world: World) -> None:
    await world.create(bytes_max=10_000)
    line = await world.line("votes_db")
    last = await line.append([world.message("votes_db", bytes(6_000))], 0)
    with pytest.raises(StreamFull):
        await line.append([world.message("votes_db", bytes(6_000))], last)
    await world.trim(2)
    assert await line.append([world.message("votes_db", bytes(6_000))], 0) == 2


async def test_the_largest_batch_goes_in_as_one_and_a_larger_one_is_refused_before_it_is_sent(world: World) -> None:
    await world.create()
    line = await world.line("votes_db")
    with pytest.raises(ValueError, match="1 to 1000"):
        await line.append(world.numbered("votes_db", APPEND_BATCH_MAX + 1), 0)
    with pytest.raises(ValueError, match="1 to 1000"):
        await line.append([], 0)
    assert await line.append(world.numbered("votes_db", APPEND_BATCH_MAX), 0) == APPEND_BATCH_MAX


@pytest.mark.parametrize(
    ("body_bytes", "header_bytes"), [(BODY_BYTES_MAX + 1, 0), (1024 * 1024, 0), (2 * 1024 * 1024, 0), (10, HEADER_BYTES_MAX)]
)
async def test_what_is_too_large_is_refused_before_it_hurts_and_the_line_goes_on(world: World, body_bytes: int, header_bytes: int) -> None:
    await world.create()
    line = await world.line("votes_db")
    large = world.message("votes_db", bytes(body_bytes), Overseer_Cause="x" * header_bytes)
    for messages in ([large], [world.message("votes_db"), large]):
        with pytest.raises(MessageTooLarge):
            await line.append(messages, 0)
    assert await line.append([world.message("votes_db", bytes(BODY_BYTES_MAX), Overseer_Cause="x" * 8_000)], 0) == 1
    await line.seek(1)
    assert len((await line.pull(1, 5_000))[0].message.body) == BODY_BYTES_MAX


@pytest.mark.parametrize(
    "headers",
    [{"Two Words": "x"}, {"Overseer-Id": "a\r\nb"}, {"Overseer-Id": " a"}, {"Nats-Msg-Id": "1"}, {"nats-rollup": "all"}, {"": "x"}],
)
async def test_headers_that_the_wire_would_change_or_the_server_would_obey_are_refused(world: World, headers: dict[str, str]) -> None:
    await world.create()
    line = await world.line("votes_db")
    with pytest.raises(ValueError, match="header"):
        await line.append([Outgoing(f"overseer.{world.node}.votes_db.evt.x", headers, b"")], 0)


async def test_a_line_appends_under_its_own_sender_only(world: World) -> None:
    await world.create()
    line = await world.line("votes_db")
    for subject in (f"overseer.{world.node}.chain_api.evt.x", f"overseer.{world.node}.votes_db", "overseer.other.votes_db.evt.x"):
        with pytest.raises(ValueError, match="outside"):
            await line.append([Outgoing(subject, {}, b"")], 0)


async def test_after_an_unknown_outcome_the_published_mark_tells_what_was_stored(world: World) -> None:
    """Whatever happened, one retry from the mark leaves each message there exactly once."""
    await world.create()
    line = await world.line("votes_db")
    sent = world.numbered("votes_db", 4)
    await line.append(sent[:2], 0)
    # A retry of what was stored, as after an answer that never came.
    with pytest.raises((WrongLastSequence, OutcomeUnknown)):
        await line.append(sent[:2], 0)
    mark = await line.last_own()
    assert mark is not None
    already = int(mark.headers["Overseer-Id"].split(" ")[2]) + 1
    await line.append(sent[already:], mark.sequence)
    assert [(await line.message_at(place)).body for place in range(1, 5)] == [b"0", b"1", b"2", b"3"]
    assert (await line.state()).last_sequence == 4
