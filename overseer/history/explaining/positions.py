"""What a message of the stream was: who said it, why, and what it led to in all subsystems."""

from overseer.history.explaining.ids import Unknown
from overseer.history.explaining.sentences import counted
from overseer.history.explaining.trail import Teller
from overseer.history.reasons import Explanation, Reason
from overseer.history.trails import Place, Step

__all__ = ["explain_message"]

# Records that are told of what followed: beyond that a number stands for the rest.
_FOLLOWED_MAX = 500
# And so many levels: this, and whoever prints the tree, goes down into it by recursion.
_LEVELS_MAX = 100


def explain_message(teller: Teller, text: str, stream: str = "node") -> Explanation:
    """`text`: the message's sequence in the stream ("node", or "net" for the network's). Raises Unknown."""
    if not text.isdecimal():
        raise Unknown(f"{text!r} is no position", "Messages are numbered in the stream: `overseer explain message 25`.")
    steps = teller.history.took(stream, int(text))
    if not steps:
        raise Unknown(f"nobody here recorded anything of message {text} of the {stream}'s stream", _span(teller, stream))
    seen: set[Place] = set()
    why: list[Reason] = []
    origin = teller.history.origin(steps[0].place, steps[0].record)
    if origin.step is not None:
        why = [teller.step(origin.step, because=teller.back(origin.step.place, origin.step.record))]
    record = steps[0].record
    name = record.input or "unreadable"
    said = f"{name}, from {record.cause.sender or 'nobody known'}"
    led = [_followed(teller, step, seen, 1) for step in steps]
    spoken = teller.step(steps[0])
    reasons = [
        Reason(
            what=said, at_ms=record.time_ms, message=record.input, stream=stream, position=int(text), sender=record.cause.sender,
            command_id=spoken.command_id, ends=spoken.ends, because=why,
        ),
        Reason(what="what it led to", led_to=led),
    ]  # fmt: skip
    if len(seen) >= _FOLLOWED_MAX:
        reasons.append(Reason(what=f"and more: {counted(_FOLLOWED_MAX, 'record')} are told"))
    return Explanation(kind="message", id=text, node=teller.node.name, reasons=reasons)


def _followed(teller: Teller, step: Step, seen: set[Place], level: int) -> Reason:
    """A record, and what came of it, each once."""
    seen.add(step.place)
    led: list[Reason] = []
    if len(seen) < _FOLLOWED_MAX:
        came = sorted(teller.history.followed(step.place), key=lambda each: (each.record.time_ms, each.place))
        if level < _LEVELS_MAX:
            led = [_followed(teller, each, seen, level + 1) for each in came if each.place not in seen]
        elif any(each.place not in seen for each in came):
            led = [Reason(what=f"and more: {counted(_LEVELS_MAX, 'level')} are told")]
    return teller.step(step, led_to=led)


def _span(teller: Teller, stream: str) -> str:
    spans = [journal.span(stream) for journal in teller.node.journals.values()]
    low, high = min((first for first, _ in spans if first), default=0), max((last for _, last in spans), default=0)
    if not high:
        return f"No message of the {stream}'s stream is in the journals."
    return f"The journals have messages from {low} to {high}; what nobody consumes, or what changed nothing, is not among them."
