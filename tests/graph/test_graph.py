"""The message graph: edges, what is checked at start, pictures, filters."""

import re

import pytest

from messages import chain_api, dispute_conclusion, signals, votes_db
from messages.message import Kind, Message, command, fact, network, query, reply
from messages.overseer import IncarnationStarted, Parked
from overseer.graph import FindingKind, Graph, Senders, filters, net_filters
from overseer.subsystem import Declaration
from subsystems.dispute_conclusion.subsystem import DisputeConclusion


@reply(by="graph_a")
class GraphReply(Message, frozen=True, kw_only=True):
    pass


@query(to="graph_b", reply=GraphReply)
class AskB(Message, frozen=True, kw_only=True):
    pass


@query(to="graph_a", reply=GraphReply)
class AskA(Message, frozen=True, kw_only=True):
    pass


@command(to="graph_b")
class Weigh(Message, frozen=True, kw_only=True):
    pass


@command(to="graph_a")
class WeighAnswer(Message, frozen=True, kw_only=True):
    pass


@command(to="graph_a")
class Nudge(Message, frozen=True, kw_only=True):
    pass


@fact(by="graph_a")
class Weighed(Message, frozen=True, kw_only=True):
    pass


@network(by="graph_a")
class Gossip(Message, frozen=True, kw_only=True):
    pass


Types = tuple[type[Message], ...]


def declared(
    name: str,
    consumes: Types = (),
    sends: Types = (),
    answers: Types = (),
    requests: Types = (),
    restricted: dict[type[Message], tuple[str, ...]] | None = None,
) -> Declaration:
    return Declaration(
        name=name,
        description="",
        consumes=consumes,
        sends=sends,
        answers=answers,
        requests=requests,
        restricted=restricted or {},
        events=(),
        tables=(),
    )


def kinds(*declarations: Declaration) -> list[FindingKind]:
    return [finding.kind for finding in Graph.of(declarations).findings()]


def test_an_edge_joins_whoever_sends_a_message_with_whoever_consumes_it() -> None:
    graph = Graph.of([declared("graph_b", consumes=(Weigh,)), declared("graph_a", sends=(Weigh,))])
    assert [(e.sender, e.receiver, e.message) for e in graph.edges] == [("graph_a", "graph_b", Weigh)]
    assert graph.findings() == []


def test_two_declarations_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="declared twice: graph_a"):
        Graph.of([declared("graph_a"), declared("graph_a")])


def test_a_message_that_nobody_sends_is_found_unless_it_comes_from_outside() -> None:
    assert kinds(declared("graph_b", consumes=(Weigh,))) == [FindingKind.UNSENT]
    assert kinds(declared("graph_b", consumes=(Weigh,), requests=(Weigh,))) == []
    assert kinds(declared("graph_b", consumes=(signals.Conclude, IncarnationStarted))) == []
    assert kinds(declared("graph_b", consumes=(Weighed,))) == [FindingKind.UNSENT]


def test_a_command_whose_only_senders_are_not_part_of_the_system_is_told_and_no_error() -> None:
    receiver = declared("graph_b", consumes=(Weigh,), restricted={Weigh: ("graph_a",)})
    assert [(f.kind, f.fatal) for f in Graph.of([receiver]).findings()] == [(FindingKind.UNSENT, False)]
    assert [(f.kind, f.fatal) for f in Graph.of([receiver, declared("graph_a")]).findings()] == [(FindingKind.UNSENT, True)]


def test_a_command_that_nobody_consumes_is_found_and_a_fact_is_not() -> None:
    assert kinds(declared("graph_a", sends=(Weigh, Weighed))) == [FindingKind.UNCONSUMED]
    assert kinds(declared("graph_a", sends=(Weigh,)), declared("graph_b")) == [FindingKind.UNCONSUMED]


def test_a_restricted_command_is_taken_from_the_named_senders_alone() -> None:
    receiver = declared("graph_b", consumes=(Weigh,), restricted={Weigh: ("graph_c",)})
    assert FindingKind.FORBIDDEN in kinds(receiver, declared("graph_a", sends=(Weigh,)))
    graph = Graph.of([receiver, declared("graph_a", sends=(Weigh,)), declared("graph_c", sends=(Weigh,))])
    assert graph.senders(Weigh) == Senders(("graph_c",), operators=False)


def test_an_unrestricted_command_may_be_sent_by_operators_too() -> None:
    graph = Graph.of([declared("graph_b", consumes=(Weigh,)), declared("graph_a", sends=(Weigh,))])
    assert graph.senders(Weigh) == Senders(("graph_a",), operators=True)
    assert Graph.of([declared("graph_a", sends=(Weighed,))]).senders(Weighed) == Senders(("graph_a",), operators=False)


def test_declarations_that_contradict_themselves_are_found() -> None:
    assert FindingKind.MISDIRECTED in kinds(declared("graph_a", consumes=(Weigh,), requests=(Weigh,)))
    assert FindingKind.MISDIRECTED in kinds(declared("graph_a", answers=(AskB,)))
    assert FindingKind.NOT_OWNER in kinds(declared("graph_b", sends=(Weighed,)))
    assert FindingKind.UNDECLARED in kinds(declared("graph_b", requests=(Weigh,)))
    assert FindingKind.UNDECLARED in kinds(declared("graph_a", sends=(GraphReply,)))
    assert FindingKind.FORBIDDEN in kinds(declared("graph_b", consumes=(Weigh,), requests=(Weigh,), restricted={Weigh: ("graph_b",)}))


def test_a_subsystem_that_sends_a_query_would_wait_and_a_circle_of_them_is_named() -> None:
    one_way = Graph.of([declared("graph_a", sends=(AskB,)), declared("graph_b", answers=(AskB,))]).findings()
    assert [f.kind for f in one_way] == [FindingKind.AWAITS]
    circle = Graph.of([declared("graph_a", sends=(AskB,), answers=(AskA,)), declared("graph_b", sends=(AskA,), answers=(AskB,))])
    cycles = [f for f in circle.findings() if f.kind is FindingKind.CYCLE_OF_WAITS]
    assert [f.text for f in cycles] == ["these wait for each other: graph_a -> graph_b -> graph_a"]
    assert cycles[0].fatal


def test_a_question_with_its_answer_is_no_cycle_and_other_circles_of_commands_are_information() -> None:
    b = declared("graph_b", consumes=(Weigh,), sends=(WeighAnswer,))
    a = declared("graph_a", consumes=(WeighAnswer,), sends=(Weigh,))
    assert kinds(a, b) == []
    nudging = Graph.of(
        [
            declared("graph_a", consumes=(WeighAnswer, Nudge), sends=(Weigh,)),
            declared("graph_b", consumes=(Weigh,), sends=(WeighAnswer, Nudge)),
        ]
    ).findings()
    assert [(f.kind, f.fatal) for f in nudging] == [(FindingKind.CYCLE_OF_COMMANDS, False)]
    assert nudging[0].text == "commands go round: graph_a -> graph_b -> graph_a"


def test_the_pictures_show_commands_solid_and_everything_else_dotted() -> None:
    graph = Graph.of([declared("graph_a", sends=(Weigh, Weighed)), declared("graph_b", consumes=(Weigh, Weighed))])
    assert graph.mermaid() == (
        'flowchart LR\n    graph_a["graph_a"]\n    graph_b["graph_b"]\n'
        '    graph_a -.->|"weighed"| graph_b\n    graph_a -->|"weigh"| graph_b\n'
    )
    assert '"graph_a" -> "graph_b" [label="weigh"];' in graph.dot()
    assert '"graph_a" -> "graph_b" [label="weighed", style=dashed];' in graph.dot()


def test_the_filters_of_dispute_conclusion() -> None:
    assert filters(DisputeConclusion().declaration, "alpha") == [
        "overseer.alpha.*.cmd.dispute_conclusion.challenge_lifted",
        "overseer.alpha.*.cmd.dispute_conclusion.challenged",
        "overseer.alpha.*.cmd.dispute_conclusion.descendants_answer",
        "overseer.alpha.*.cmd.dispute_conclusion.detection",
        "overseer.alpha.*.cmd.dispute_conclusion.resolution",
        "overseer.alpha.*.evt.incarnation_started",
        "overseer.alpha.chain_api.evt.block_imported",
        "overseer.alpha.chain_api.sig.blocks_blacklisted",
        "overseer.alpha.chain_api.sig.session_change",
        "overseer.alpha.overseer.sig.conclude",
    ]
    assert net_filters(DisputeConclusion().declaration) == []


def test_filters_never_overlap_and_network_messages_are_filtered_on_their_own_stream() -> None:
    everything = declared(
        "graph_b",
        consumes=(Weigh, Weighed, Gossip, Gossip, IncarnationStarted, Parked, signals.Conclude, chain_api.BlockImported),
    )
    found = filters(everything, "alpha")
    assert net_filters(everything) == ["overseer.net.*.graph_a.gossip"]
    assert "overseer.alpha.*.rejected" in found
    assert all(not overlap(one, two) for one in found for two in found if one is not two)


def overlap(one: str, two: str) -> bool:
    """Whether some subject matches both (no `>` in ours)."""
    left, right = one.split("."), two.split(".")
    return len(left) == len(right) and all(a == b or "*" in (a, b) for a, b in zip(left, right, strict=True))


def test_a_subject_built_for_a_consumed_message_matches_exactly_one_filter() -> None:
    from messages.subjects import build

    declaration = DisputeConclusion().declaration
    patterns = [re.compile("^" + f.replace(".", r"\.").replace("*", "[^.]+") + "$") for f in filters(declaration, "alpha")]
    for message in declaration.consumes:
        sender = "votes_db" if message.spec.kind is Kind.COMMAND else message.spec.owner
        subject = build("alpha", sender, message.spec)
        assert sum(bool(p.match(subject)) for p in patterns) == 1


def test_dispute_conclusion_fits_the_ones_around_it() -> None:
    votes = declared(
        "votes_db",
        sends=(
            dispute_conclusion.Detection,
            dispute_conclusion.Challenged,
            dispute_conclusion.ChallengeLifted,
            dispute_conclusion.Resolution,
            votes_db.Dispute,
        ),
    )
    chain = declared(
        "chain_api",
        consumes=(chain_api.Descendants, chain_api.Revert, chain_api.LiftRevert, chain_api.Blacklist),
        sends=(
            dispute_conclusion.DescendantsAnswer,
            chain_api.BlockImported,
            signals.BlocksBlacklisted,
            signals.SessionChange,
        ),
    )
    assert Graph.of([DisputeConclusion().declaration, votes, chain]).findings() == []
