"""Nobody takes all places: how many commands may wait at once, how large, and of one caller only a part."""

from typing import Any

import anyio
import pytest
from counting import Add, Counter, QueryTotal

from messages.codec import decode, encode
from messages.overseer import Busy
from messages.subjects import HEADER_CONTENT_TYPE, request_subject
from overseer.limits import Limits
from overseer.ports.bus import Response
from overseer.runner.endpoints import Admission

pytestmark = pytest.mark.anyio

LIMITS = Limits(
    requests_in_flight_max=5,
    requests_in_flight_per_caller_max=2,
    request_bytes_in_flight_max=100,
    request_bytes_in_flight_per_caller_max=40,
)
ADD = request_subject("test", Add.spec)


def test_one_caller_gets_a_part_of_the_places_and_others_the_rest() -> None:
    admission = Admission(LIMITS)
    with admission.taken("one", 1), admission.taken("one", 1):
        assert admission.refusal("one", 1) == "too_many_of_one_caller"
        assert admission.refusal("other", 1) == ""
        with admission.taken("other", 1), admission.taken("other", 1), admission.taken("third", 1):
            assert admission.refusal("fourth", 1) == "too_many_requests"
        assert admission.refusal("fourth", 1) == ""
    assert admission.refusal("one", 1) == ""


def test_large_commands_count_for_what_they_are_and_a_single_one_is_never_too_large() -> None:
    admission = Admission(LIMITS)
    assert admission.refusal("one", 1_000) == ""
    with admission.taken("one", 30):
        assert admission.refusal("one", 10) == ""
        assert admission.refusal("one", 11) == "too_many_of_one_caller"
        with admission.taken("other", 40), admission.taken("third", 25):
            assert admission.refusal("fourth", 6) == "too_many_requests"
            assert admission.refusal("fourth", 5) == ""


def test_a_place_is_free_again_when_waiting_fails() -> None:
    admission = Admission(LIMITS)
    for _ in range(10):
        with pytest.raises(OSError, match="gone"), admission.taken("one", 40):
            raise OSError("gone")
    assert admission.refusal("one", 40) == ""


async def test_a_flood_by_one_caller_is_refused_aloud_and_another_is_answered(in_memory: Any) -> None:
    """The flooder's commands wait for a commit that takes long; the other's command is taken, and both get their outcomes."""
    counter = await in_memory(Counter(), limits=Limits(requests_in_flight_per_caller_max=3))
    broker = counter.world.broker
    flooder, other = broker.exchange(account="flooder"), broker.exchange(account="other")
    answers: dict[str, list[Response]] = {"flooder": [], "other": []}
    headers = {HEADER_CONTENT_TYPE: "application/cbor"}

    async def add(name: str, amount: int) -> None:
        exchange = flooder if name == "flooder" else other
        answers[name].append(await exchange.request(ADD, encode(Add(amount=amount)), headers, 10_000))

    async with anyio.create_task_group() as tasks:
        for amount in range(1, 21):
            tasks.start_soon(add, "flooder", amount)
        tasks.start_soon(add, "other", 1_000)
    refused = [answer for answer in answers["flooder"] if answer.error is not None]
    assert refused, "all of the flood was taken"
    assert {decode(Busy.spec, answer.body) for answer in refused} == {Busy(reason="too_many_of_one_caller")}
    assert [answer.error for answer in answers["other"]] == [None]
    taken = len(answers["flooder"]) - len(refused)
    assert taken >= 3
    assert (await counter.ask(QueryTotal())).total >= 1_000 + taken
