"""Who may what on the bus, in short rules of their own: written from the declarations and docs/security.md, not from the code.

A right is a pattern of subjects with NATS wildcards; what no rule allows is refused.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from messages.message import Kind
from overseer.subsystem import Declaration

__all__ = ["Rights", "covers", "rights"]

READ_STREAM = ("STREAM.INFO", "STREAM.MSG.GET", "CONSUMER.NAMES", "CONSUMER.LIST")
# What elections on several sites are asked, by their name.
MAIL_QUERIES = (
    *("get_copy", "get_election", "list_elections", "query_history", "query_projection"),
    "get_ballot_election",
    *("get_queue", "pending_requests", "active_requests", "assigned_requests", "results", "execution_results", "list_gateways"),
)
MANAGE_STREAM = ("STREAM.CREATE", "STREAM.UPDATE", "STREAM.INFO", "STREAM.PURGE", "STREAM.MSG.GET", "CONSUMER.LIST", "CONSUMER.NAMES")


class Rights(NamedTuple):
    publish: list[str]
    subscribe: list[str]
    # Taken out of `publish` again.
    never: list[str]

    def may_publish(self, subject: str) -> bool:
        return any(covers(p, subject) for p in self.publish) and not any(covers(p, subject) for p in self.never)

    def may_subscribe(self, subject: str) -> bool:
        return any(covers(p, subject) for p in self.subscribe)


def covers(pattern: str, subject: str) -> bool:
    """Whether everything that `subject` (wildcards allowed) stands for is within `pattern`."""
    wanted, given = pattern.split("."), subject.split(".")
    for place, token in enumerate(wanted):
        if token == ">":
            return len(given) > place
        if place >= len(given) or given[place] == ">":
            return False
        if token not in ("*", given[place]):
            return False
    return len(wanted) == len(given)


def rights(
    node: str,
    declarations: Sequence[Declaration],
    operators: Iterable[str],
    readers: Iterable[str],
    nodes: Sequence[str],
    sites: Sequence[str],
) -> dict[str, Rights]:
    """The rights of every user of `node`; `nodes` are all that share the bus (with the same subsystems and sites)."""
    found = {declaration.name: _subsystem(node, declaration) for declaration in declarations}
    found["overseer"] = _overseer(node, declarations)
    found["provisioner"] = _provisioner(node)
    found |= {name: _operator(node, name, declarations, nodes, sites) for name in operators}
    found |= {name: _reader(node, name, declarations, sites) for name in readers}
    found |= {f"elections_{site}": _site(node, site, sites) for site in sites}
    return found


def _streams(node: str) -> tuple[str, ...]:
    return f"OVERSEER_{node}", "OVERSEER_NET", f"OBJ_overseer_{node}_povs", *_streams_of_sites(node)


def _streams_of_sites(node: str) -> tuple[str, str, str]:
    return f"OVERSEER_LOG_{node}", f"KV_overseer_{node}_topology", f"KV_overseer_{node}_lease"


def _consumers(node: str, declaration: Declaration) -> list[tuple[str, str]]:
    """(stream, durable): the node's stream is everybody's; the network's is for those who take network messages."""
    found = [(f"OVERSEER_{node}", declaration.name)]
    if any(m.spec.kind is Kind.NETWORK for m in declaration.consumes):
        found.append(("OVERSEER_NET", f"{node}-{declaration.name}"))
    return found


def _consumers_of_sites(node: str, sites: Sequence[str]) -> list[tuple[str, str]]:
    durables = [(f"OVERSEER_LOG_{node}", f"elections_{site}-ballots") for site in sites]
    return [*durables, *((f"OVERSEER_{node}", f"elections_{site}") for site in sites)]


def _site(node: str, site: str, sites: Sequence[str]) -> Rights:
    own = f"overseer.{node}.elections_{site}"
    publish = [f"overseer.log.ballots.*.{node}.*", f"overseer.{node}.elections.evt.*", "_R_.>", "$JS.API.INFO"]
    publish += [f"$KV.overseer_{node}_topology.current", f"$KV.overseer_{node}_lease.{site}"]
    publish += [f"overseer.{node}.elections_{other}.{kind}.>" for other in sites if other != site for kind in ("mail", "pair")]
    for stream, durable in _consumers_of_sites(node, [site]):
        publish += [f"$JS.API.CONSUMER.{verb}.{stream}.{durable}" for verb in ("MSG.NEXT", "INFO", "RESET")]
        publish.append(f"$JS.ACK.{stream}.{durable}.>")
    for stream in (f"OVERSEER_{node}", *_streams_of_sites(node)):
        publish += [f"$JS.API.STREAM.INFO.{stream}", f"$JS.API.STREAM.MSG.GET.{stream}"]
    return Rights(publish, [f"_INBOX.{node}.elections_{site}.>", "$SRV.>", f"{own}.mail.>", f"{own}.pair.>"], [])


def _subsystem(node: str, declaration: Declaration) -> Rights:
    name = declaration.name
    own = f"overseer.{node}.{name}"
    publish = [f"{own}.evt.incarnation_started", f"{own}.rejected", "_R_.>", "$JS.API.INFO"]
    for message in declaration.sends:
        spec = message.spec
        match spec.kind:
            case Kind.COMMAND:
                publish.append(f"{own}.cmd.{spec.owner}.{spec.name}")
            case Kind.FACT:
                publish.append(f"{own}.evt.{spec.name}")
            case Kind.SIGNAL:
                publish.append(f"{own}.sig.{spec.name}")
            case Kind.NETWORK:
                publish.append(f"overseer.net.{node}.{name}.{spec.name}")
            case _:
                raise AssertionError(spec.key)
    publish += [f"overseer.{node}.req_{name}.cmd.{name}.{command.spec.name}" for command in declaration.requests]
    for stream, durable in _consumers(node, declaration):
        publish += [f"$JS.API.CONSUMER.{verb}.{stream}.{durable}" for verb in ("MSG.NEXT", "INFO", "RESET")]
        publish.append(f"$JS.ACK.{stream}.{durable}.>")
    on_network = any(m.spec.kind is Kind.NETWORK for m in (*declaration.consumes, *declaration.sends))
    for stream in (f"OVERSEER_{node}", *(["OVERSEER_NET"] if on_network else [])):
        publish += [f"$JS.API.STREAM.INFO.{stream}", f"$JS.API.STREAM.MSG.GET.{stream}"]
    return Rights(publish, [f"_INBOX.{node}.{name}.>", "$SRV.>", f"{own}.qry.>", f"{own}.req.>"], [])


def _reading(node: str) -> list[str]:
    found = ["$JS.API.INFO", "$JS.API.STREAM.NAMES", "$JS.API.STREAM.LIST"]
    for stream in _streams(node):
        found += [f"$JS.API.{verb}.{stream}" for verb in READ_STREAM] + [f"$JS.API.CONSUMER.INFO.{stream}.*"]
    return found


def _asking(node: str, declarations: Sequence[Declaration]) -> list[str]:
    return [f"overseer.{node}.{d.name}.qry.>" for d in declarations]


def _overseer(node: str, declarations: Sequence[Declaration]) -> Rights:
    own = f"overseer.{node}.overseer"
    publish = [f"{own}.sig.conclude", f"{own}.evt.incarnation_started", f"{own}.rejected", "_R_.>", f"$O.overseer_{node}_povs.>"]
    publish.append(f"$KV.overseer_{node}_topology.current")
    publish += _reading(node) + _asking(node, declarations)
    return Rights(publish, [f"_INBOX.{node}.overseer.>", "$SRV.>", f"{own}.qry.>", "overseer.>"], [])


def _provisioner(node: str) -> Rights:
    publish = ["$JS.API.INFO", "$JS.API.STREAM.NAMES", "$JS.API.STREAM.LIST"]
    for stream in _streams(node):
        publish += [f"$JS.API.{verb}.{stream}" for verb in MANAGE_STREAM]
        publish += [f"$JS.API.CONSUMER.CREATE.{stream}.>", f"$JS.API.CONSUMER.INFO.{stream}.*", f"$JS.API.CONSUMER.DELETE.{stream}.*"]
        # Backups. What was taken may be restored by nobody.
        publish += [f"$JS.API.STREAM.SNAPSHOT.{stream}", f"$JS.SNAPSHOT.ACK.{stream}.>"]
    return Rights(publish, [f"_INBOX.{node}.provisioner.>", f"_SNAPSHOT.{node}.>"], [])


def _reader(node: str, name: str, declarations: Sequence[Declaration], sites: Sequence[str]) -> Rights:
    publish = [*_reading(node), *_asking(node, declarations), f"overseer.{node}.overseer.qry.>", "$SRV.>"]
    publish += ["$SYS.REQ.SERVER.PING", *(f"$SYS.REQ.SERVER.PING.{page}" for page in ("STATSZ", "VARZ", "HEALTHZ"))]
    # To itself, and about itself.
    publish += [f"_INBOX.{node}.{name}.>", "$SYS.REQ.USER.INFO"]
    publish += [f"overseer.{node}.elections_{site}.mail.*.{query}" for site in sites for query in MAIL_QUERIES]
    return Rights(publish, [f"_INBOX.{node}.{name}.>", "overseer.>"], [])


def _operator(node: str, name: str, declarations: Sequence[Declaration], nodes: Sequence[str], sites: Sequence[str]) -> Rights:
    publish, subscribe, never = _reader(node, name, declarations, sites)
    publish += ["$SYS.REQ.SERVER.PING.JSZ", *(f"overseer.{node}.elections_{site}.mail.>" for site in sites)]
    for declaration in declarations:
        publish.append(f"overseer.{node}.{declaration.name}.req.>")
        for command in declaration.consumes:
            if command.spec.kind is Kind.COMMAND and command not in declaration.restricted:
                publish.append(f"overseer.{node}.op_{name}.cmd.{declaration.name}.{command.spec.name}")
    if name == "feed":
        publish += [f"overseer.net.{node}.feed.{said}" for said in ("block_proposed", "block_sealed")]
    publish.append(f"$O.overseer_{node}_povs.>")
    # Consumers of its own, on every stream of its node; nobody's who is a subsystem, of whichever node.
    for stream in _streams(node):
        publish += [f"$JS.API.CONSUMER.CREATE.{stream}", f"$JS.API.CONSUMER.CREATE.{stream}.>"]
        publish += [f"$JS.API.CONSUMER.{verb}.{stream}.*" for verb in ("DELETE", "MSG.NEXT")]
        publish += [f"$JS.ACK.{stream}.>", f"$JS.FC.{stream}.>"]
    for each in nodes:
        owned = [pair for declaration in declarations for pair in _consumers(each, declaration)]
        for stream, durable in (*owned, *_consumers_of_sites(each, sites)):
            never += [f"$JS.API.CONSUMER.{verb}.{stream}.{durable}" for verb in ("CREATE", "DELETE", "MSG.NEXT")]
            never += [f"$JS.API.CONSUMER.CREATE.{stream}.{durable}.>", f"$JS.ACK.{stream}.{durable}.>", f"$JS.FC.{stream}.{durable}.>"]
    return Rights(publish, subscribe, never)
