"""Every subject there is, and many that should not be."""

from collections.abc import Iterator, Sequence

from messages.contract import load as load_contract
from messages.message import Kind
from overseer.subsystem import Declaration

__all__ = ["api_subjects", "appended", "consumers", "patterns", "subjects"]

OF_SERVER = (
    "INFO",
    "STREAM.NAMES",
    "STREAM.LIST",
    "SERVER.REMOVE",
    "META.LEADER.STEPDOWN",
    "ACCOUNT.PURGE.BUS",
    "ACCOUNT.STREAM.MOVE.BUS.OVERSEER_alpha",
    "ACCOUNT.STREAM.CANCEL_MOVE.BUS.OVERSEER_alpha",
    "STREAM.TEMPLATE.CREATE.x",
    "STREAM.TEMPLATE.NAMES",
)
OF_STREAM = (
    *(f"STREAM.{verb}" for verb in ("CREATE", "UPDATE", "DELETE", "PURGE", "INFO", "SNAPSHOT", "RESTORE", "PEER.REMOVE")),
    *(f"STREAM.{verb}" for verb in ("MSG.GET", "MSG.DELETE", "LEADER.STEPDOWN")),
    *(f"CONSUMER.{verb}" for verb in ("CREATE", "LIST", "NAMES")),
    "DIRECT.GET",
)
OF_CONSUMER = (
    *(f"CONSUMER.{verb}" for verb in ("CREATE", "DURABLE.CREATE", "DELETE", "INFO", "MSG.NEXT", "RESET", "PAUSE", "UNPIN")),
    "CONSUMER.LEADER.STEPDOWN",
)


def streams(nodes: Sequence[str]) -> list[str]:
    own = [(f"OVERSEER_{node}", f"OBJ_overseer_{node}_povs", f"OVERSEER_LOG_{node}") for node in nodes]
    keys = [(f"KV_overseer_{node}_topology", f"KV_overseer_{node}_lease") for node in nodes]
    return [*(stream for group in (*own, *keys) for stream in group), "OVERSEER_NET", "OTHER"]


def consumers(nodes: Sequence[str], declarations: Sequence[Declaration], sites: Sequence[str]) -> list[tuple[str, str]]:
    found = [(f"OVERSEER_LOG_{node}", f"elections_{site}-ballots") for node in nodes for site in sites]
    found += [(f"OVERSEER_{node}", f"elections_{site}") for node in nodes for site in sites]
    found += [(f"OVERSEER_{node}", d.name) for node in nodes for d in declarations]
    found += [("OVERSEER_NET", f"{node}-{d.name}") for node in nodes for d in declarations]
    return [*found, *((stream, "mine") for stream in streams(nodes))]


def api_subjects(nodes: Sequence[str], declarations: Sequence[Declaration], sites: Sequence[str]) -> list[str]:
    """Every verb of the JetStream API, on every stream and consumer."""
    found = [f"$JS.API.{verb}" for verb in OF_SERVER]
    for stream in streams(nodes):
        found += [f"$JS.API.{verb}.{stream}" for verb in OF_STREAM]
        found += [
            f"$JS.API.DIRECT.GET.{stream}.overseer.{nodes[0]}.votes_db.rejected",
            f"$JS.SNAPSHOT.ACK.{stream}.x",
            f"$JS.FC.{stream}.x",
        ]
    for stream, durable in consumers(nodes, declarations, sites):
        found += [f"$JS.API.{verb}.{stream}.{durable}" for verb in OF_CONSUMER]
        found += [f"$JS.API.CONSUMER.CREATE.{stream}.{durable}.overseer.{nodes[0]}.votes_db.rejected"]
        found += [f"$JS.ACK.{stream}.{durable}.1.1.1.1.0", f"$JS.ACK._.HASH.{stream}.{durable}.1.1.1.1.0.x", f"$JS.FC.{stream}.{durable}.x"]
    return found


def _said(declarations: Sequence[Declaration]) -> list[str]:
    """What may stand behind a sender: everything of the contract, and what is not in it."""
    found = ["rejected", "evt.undeclared", "sig.undeclared", "x"]
    for spec in load_contract():
        if spec.kind is Kind.COMMAND:
            found.append(f"cmd.{spec.owner}.{spec.name}")
        elif spec.kind in (Kind.FACT, Kind.SIGNAL):
            found.append(f"{spec.kind.value}.{spec.name}")
    return [*found, *(f"cmd.{d.name}.undeclared" for d in declarations)]


def _asked(node: str, declarations: Sequence[Declaration]) -> Iterator[str]:
    for spec in load_contract():
        if spec.kind is Kind.QUERY:
            yield f"overseer.{node}.{spec.owner}.qry.{spec.name}"
        elif spec.kind is Kind.COMMAND:
            yield f"overseer.{node}.{spec.owner}.req.{spec.name}"
    for name in (*(d.name for d in declarations), "overseer", "provisioner", "anybody"):
        yield f"overseer.{node}.{name}.qry.health"
        yield f"overseer.{node}.{name}.req.anything"


def _of_sites(node: str, sites: Sequence[str]) -> Iterator[str]:
    """The elections' log, topology and leases; every command and query as mail; what pairs say."""
    for kind in ("ballots", "coins"):
        yield f"overseer.log.{kind}.mayor.{node}.anid"
    yield from (f"$KV.overseer_{node}_topology.{key}" for key in ("current", "other"))
    yield from (f"$KV.overseer_{node}_lease.{site}" for site in (*sites, "other"))
    for site in (*sites, "other"):
        for spec in load_contract():
            if spec.owner == "elections" and spec.kind in (Kind.COMMAND, Kind.QUERY):
                yield from (f"overseer.{node}.elections_{site}.mail.{key}.{spec.name}" for key in ("mayor", "_"))
            elif spec.kind is Kind.PAIR:
                yield f"overseer.{node}.elections_{site}.pair.mayor.{spec.name}"
        yield from (f"overseer.{node}.elections_{site}.mail.{rest}" for rest in ("get_election", "a.b.get_election", "mayor.unheard_of"))


def _of_the_server(users: Sequence[tuple[str, str]]) -> Iterator[str]:
    for verb in ("PING", "INFO", "STATS"):
        yield from (f"$SRV.{verb}", f"$SRV.{verb}.votes_db", f"$SRV.{verb}.votes_db.someid")
    pages = ("STATSZ", "VARZ", "HEALTHZ", "JSZ", "CONNZ", "SUBSZ", "ROUTEZ", "ACCOUNTZ", "PROFILEZ", "EXPVARZ", "RAFTZ", "RELOAD", "KICK")
    requests = ("SERVER.SOMEID.RELOAD", "SERVER.SOMEID.KICK", "SERVER.SOMEID.LDM", "SERVER.SOMEID.VARZ", "USER.INFO", "USER.AUTH")
    yield from (f"$SYS.REQ.{request}" for request in ("SERVER.PING", *(f"SERVER.PING.{page}" for page in pages), *requests))
    for account in ("BUS", "SYS", "alpha-votes_db"):
        yield from (f"$SYS.REQ.ACCOUNT.{account}.{page}" for page in ("JSZ", "CONNZ", "INFO", "SUBSZ"))
        yield f"$SYS.ACCOUNT.{account}.CONNECT"
    yield from ("$JS.EVENT.ADVISORY.API", "$JS.EVENT.ADVISORY.STREAM.DELETED.OVERSEER_alpha", "$JSC.R.x", "$NRG.V.x", "$KV.b.k", "$MQTT.x")
    yield from (f"_INBOX.{node}.{user}.x" for node, user in users)
    yield from (f"_SNAPSHOT.{node}.x" for node in dict.fromkeys(node for node, _ in users))
    yield from ("_INBOX.x", "_INBOX_operator.x", "_R_.x", "_GR_.x.y", "_REPLY_.x", "overseer.log.ballots.x", "overseer", "anything")


def subjects(
    nodes: Sequence[str], declarations: Sequence[Declaration], users: Sequence[tuple[str, str]], sites: Sequence[str]
) -> list[str]:
    """Everything that can be published to, each once."""
    names = [d.name for d in declarations]
    senders = [*names, "overseer", "provisioner", "op_operator", "op_feed", "op_reader", "op_other", "anybody"]
    senders += [*(f"req_{name}" for name in names), *(f"elections_{site}" for site in sites[:1])]
    topics = [*(spec.name for spec in load_contract() if spec.kind is Kind.NETWORK), "undeclared"]
    found: list[str] = []
    for node in nodes:
        found += [f"overseer.{node}.{sender}.{said}" for sender in senders for said in _said(declarations)]
        found += [f"overseer.net.{node}.{sender}.{topic}" for sender in (*senders, "feed") for topic in topics]
        found += [*_asked(node, declarations), *_of_sites(node, sites)]
        found += [f"$O.overseer_{node}_povs.{kind}.x" for kind in "CMX"]
    found += [f"live.{subject}" for subject in found[::40]]
    return list(dict.fromkeys([*found, *api_subjects(nodes, declarations, sites), *_of_the_server(users)]))


def patterns(nodes: Sequence[str], users: Sequence[tuple[str, str]]) -> list[str]:
    """What only a subscription can name."""
    found = [">", "*", "*.>", "$JS.>", "$JS.API.>", "$JS.ACK.>", "$SYS.>", "$SRV.>", "live.>", "overseer.>", "overseer.*.>", "_R_.>"]
    found += ["_INBOX.>", "_INBOX.*.*.>", "_SNAPSHOT.>", "$O.>", "overseer.net.>", "$KV.>"]
    for node in nodes:
        found.append(f"_SNAPSHOT.{node}.>")
        found += [f"_INBOX.{node}.>", f"_INBOX.{node}.*.>", f"live.overseer.{node}.>", f"overseer.{node}.>", f"overseer.{node}.*.qry.>"]
        found += [f"overseer.{node}.*.mail.>", f"overseer.{node}.elections_a.>", f"overseer.{node}.elections_a.mail.>", "overseer.log.>"]
        found += [f"overseer.{node}.*.req.*", f"overseer.{node}.votes_db.>", f"overseer.{node}.votes_db.qry.>"]
    return [*found, *(f"_INBOX.{node}.{user}.>" for node, user in users)]


def appended(subject: str, nodes: Sequence[str]) -> bool:
    """Whether a stream takes it."""
    tokens = subject.split(".")
    if tokens[0] == "$O":
        return tokens[1] in {f"overseer_{node}_povs" for node in nodes} and tokens[2] in ("C", "M")
    if tokens[0] != "overseer" or len(tokens) < 3:
        return False
    if tokens[1] == "net":
        return True
    return tokens[1] in nodes and len(tokens) > 3 and (tokens[3] in ("cmd", "evt", "sig") or tokens[3:] == ["rejected"])
