"""Accounts: who may say what on the bus, derived from the declarations alone. Declarations and public keys in, text out.

JetStream lives in the account BUS, in which nobody sits. Every subsystem, the overseer, its provisioner, and every operator and
reader has an account of its own; what one may do is a service that BUS exports to it and it imports. Permissions within one
account would not do: a user may name a reply subject that it may not publish to, and the server would publish its answer
there. Between accounts an answer goes back to whoever asked, and nowhere else.

    BUS              streams, consumers, the bucket; it has no user
    <node>-provisioner  makes streams and consumers and trims; appends nothing
    <node>-<name>    one per subsystem: sends what it declares, pulls from its own consumers, serves its own queries
    <node>-overseer  conclude, own facts, reading
    <node>-operator  commands as `op_operator`, requests, queries, history, live view
    <node>-reader    queries (of sites too), history message by message, live view; no commands, no requests, no consumers
    <node>-elections_<site>  where elections have several sites: appends to their log, says who is alive, has mail with the others

The stored messages come back to people over `live.>` (the streams republish there), imported under the original subjects.
"""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from messages.message import Kind, Message
from messages.overseer import IncarnationStarted, Parked
from messages.signals import Conclude
from messages.subjects import build, check_token, live_prefix, net_stream, node_stream
from overseer.graph import net_filters, networked
from overseer.nats.account_text import (
    BUS,
    CONNECTIONS_MAX,
    SYSTEM,
    Account,
    Service,
    Use,
    account_text,
    bus_text,
    inbox_prefix,
    system_text,
)
from overseer.nats.sites import (
    LOG_KINDS,
    TOPOLOGY_KEY,
    bucket_stream,
    bucket_subject,
    lease_bucket,
    log_durable,
    log_filter,
    log_stream,
    mail_filter,
    mail_queries,
    pair_filter,
    site_user,
    topology_bucket,
)
from overseer.subsystem import Declaration

__all__ = [
    "BUS",
    "CONNECTIONS_MAX",
    "OVERSEER",
    "PEOPLES_CONNECTIONS_MAX",
    "PROVISIONER",
    "DeclarationConflict",
    "NodeUsers",
    "account_name",
    "accounts_config",
    "durable_name",
    "inbox_prefix",
    "operator_sender",
    "pov_bucket",
    "request_sender",
    "snapshot_prefix",
    "user_names",
]

OVERSEER = "overseer"
PROVISIONER = "provisioner"

# What people ask of the server itself: whether it is up, how it is, its figures (`nats server ls|check server`). Nothing that
# names connections, and nothing that it does.
_SERVER_FIGURES = ("$SYS.REQ.SERVER.PING", "$SYS.REQ.SERVER.PING.STATSZ", "$SYS.REQ.SERVER.PING.VARZ", "$SYS.REQ.SERVER.PING.HEALTHZ")
# Of the streams and consumers of all nodes that share the server (`nats server report jetstream`): for operators.
_STREAM_FIGURES = ("$SYS.REQ.SERVER.PING.JSZ",)

# What the overseer says under its own name.
_OVERSEER_SENDS: tuple[type[Message], ...] = (Conclude, IncarnationStarted, Parked)
# What every subsystem says besides what it declares.
_ALL_SEND: tuple[type[Message], ...] = (IncarnationStarted, Parked)

# As CONNECTIONS_MAX, of people: they have a connection for each command and view.
PEOPLES_CONNECTIONS_MAX = 48
# There may be many sites: one for the log and one for the mail, and both once more while its process is replaced.
SITES_CONNECTIONS_MAX = 4


class DeclarationConflict(ValueError):
    """Two declarations, or a declaration and the users, contradict each other. Nothing may be started."""


class NodeUsers(msgspec.Struct, frozen=True, kw_only=True):
    """One node as the accounts see it. `keys` holds the public key of each of `user_names(...)`.

    `coming` holds the next public key of those whose key is being rotated: meanwhile both are taken.
    """

    node: str
    declarations: tuple[Declaration, ...]
    keys: Mapping[str, str]
    coming: Mapping[str, str] = {}
    operators: tuple[str, ...] = ("operator",)
    readers: tuple[str, ...] = ("reader",)
    # Network messages that operators say, under their own name as the sender: the feed of a development network.
    speaks: Mapping[str, tuple[type[Message], ...]] = {}
    # Of replicated elections. None: the elections are the subsystem's alone.
    sites: tuple[str, ...] = ()


def user_names(
    declarations: Iterable[Declaration],
    *,
    operators: Sequence[str] = ("operator",),
    readers: Sequence[str] = ("reader",),
    sites: Sequence[str] = (),
) -> list[str]:
    """Everybody who needs a key. Raises DeclarationConflict when a name is taken twice."""
    names = [PROVISIONER, OVERSEER, *(d.name for d in declarations), *operators, *readers, *map(site_user, sites)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DeclarationConflict(f"users named twice: {', '.join(twice)}; subsystems, operators and readers need names of their own")
    for name in names:
        check_token(name, "user")
    return names


def account_name(node: str, user: str) -> str:
    """The account of `user`: what a responder is told of its caller."""
    return f"{node}-{user}"


def operator_sender(operator: str) -> str:
    """The sender token an operator commands under."""
    return f"op_{operator}"


def request_sender(subsystem: str) -> str:
    """The sender token of what a subsystem's endpoint appends on behalf of its callers."""
    return f"req_{subsystem}"


def durable_name(node: str, subsystem: str, stream: str) -> str:
    """The subsystem's consumer. The network's stream is shared by nodes: there the node is part of the name."""
    return f"{node}-{subsystem}" if stream == net_stream() else subsystem


def snapshot_prefix(node: str) -> str:
    """Where the server delivers the pieces of a stream's snapshot, to the provisioner alone; one more token behind it."""
    return f"_SNAPSHOT.{node}"


def pov_bucket(node: str) -> str:
    """The object bucket that holds PoVs by their hash."""
    return f"overseer_{node}_povs"


def accounts_config(nodes: Sequence[NodeUsers]) -> str:
    """The accounts of all nodes that share one bus, as a piece of nats-server configuration.

    The embedded server includes it; an existing server or cluster includes it likewise (`include accounts.conf`).
    Raises DeclarationConflict.
    """
    for users in nodes:
        _check(users)
    owned = [owned for users in nodes for owned in _consumers_of(users)]
    accounts = [account for users in nodes for account in _node_accounts(users, owned)]
    bodies = [system_text(accounts), bus_text(accounts), *(account_text(a) for a in accounts)]
    return f"system_account: {SYSTEM}\naccounts {{\n" + "\n".join(bodies) + "\n}\n"


def _check(users: NodeUsers) -> None:
    check_token(users.node, "node")
    names = user_names(users.declarations, operators=users.operators, readers=users.readers, sites=users.sites)
    missing = [name for name in names if name not in users.keys]
    if missing:
        raise DeclarationConflict(f"node {users.node}: no key for {', '.join(missing)}")
    restricted = {command: senders for d in users.declarations for command, senders in d.restricted.items()}
    for declaration in users.declarations:
        for command in declaration.sends:
            allowed = restricted.get(command)
            if allowed is not None and declaration.name not in allowed:
                only = ", ".join(allowed)
                raise DeclarationConflict(f"{declaration.name} declares to send {command.spec.key}, which is taken from {only} alone")
        for command in declaration.requests:
            if command in declaration.restricted:
                raise DeclarationConflict(f"{declaration.name} declares {command.spec.key} as restricted and as a request of people")


# ------------------------------------------------------------------------------------------------ who may do what


def _node_accounts(users: NodeUsers, owned: Sequence[tuple[str, str]]) -> list[Account]:
    """`owned`: the consumers of all subsystems of all nodes, as (stream, durable)."""
    return [
        *(_subsystem(users, declaration) for declaration in users.declarations),
        _overseer(users),
        _provisioner(users),
        *(_operator(users, name, owned) for name in users.operators),
        *(_reader(users, name) for name in users.readers),
        *(_site(users, site) for site in users.sites),
    ]


def _keys(users: NodeUsers, name: str) -> list[str]:
    """The key, and the one that is about to replace it."""
    return list(dict.fromkeys([users.keys[name], *([users.coming[name]] if name in users.coming else [])]))


def _consumers_of(users: NodeUsers) -> list[tuple[str, str]]:
    return (
        [
            (stream, durable_name(users.node, declaration.name, stream))
            for declaration in users.declarations
            for stream in _consumed_streams(users.node, declaration)
        ]
        + [(log_stream(users.node), log_durable(site, kind)) for site in users.sites for kind in LOG_KINDS]
        + [(node_stream(users.node), site_user(site)) for site in users.sites]
    )


def _streams_of(node: str, declaration: Declaration) -> list[str]:
    """The streams a subsystem has to do with."""
    return [node_stream(node), net_stream()] if networked(declaration) else [node_stream(node)]


def _consumed_streams(node: str, declaration: Declaration) -> list[str]:
    return [node_stream(node), net_stream()] if net_filters(declaration) else [node_stream(node)]


def _subsystem(users: NodeUsers, declaration: Declaration) -> Account:
    node, name = users.node, declaration.name
    uses = [Use(build(node, name, message.spec)) for message in (*declaration.sends, *_ALL_SEND)]
    uses += [Use(build(node, request_sender(name), command.spec)) for command in declaration.requests]
    for stream in _consumed_streams(node, declaration):
        uses += _pulling(stream, durable_name(node, name, stream))
    uses.append(Use("$JS.API.INFO"))
    for stream in _streams_of(node, declaration):
        uses += [Use(f"$JS.API.STREAM.INFO.{stream}"), Use(f"$JS.API.STREAM.MSG.GET.{stream}")]
    return Account(name=account_name(node, name), node=node, user=name, keys=_keys(users, name), uses=uses, serves=_services(users, name))


def _pulling(stream: str, durable: str) -> list[Use]:
    """What the owner of a consumer does with it."""
    return [
        Use(f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{durable}", "stream"),
        Use(f"$JS.ACK.{stream}.{durable}.>"),
        Use(f"$JS.API.CONSUMER.INFO.{stream}.{durable}"),
        # At every connect and gap the consumer is set to the store's position + 1.
        Use(f"$JS.API.CONSUMER.RESET.{stream}.{durable}"),
    ]


def _services(users: NodeUsers, name: str) -> list[Service]:
    """What `name` answers and to whom: queries and discovery to people, awaited commands to operators alone.

    No account both imports and exports one subject: the server would pass requests on through it, and each of them would be
    answered twice. Hence the overseer, which people discover too, asks subsystems for their health but does not discover them.
    """
    operators = tuple(account_name(users.node, o) for o in users.operators)
    people = (*operators, *(account_name(users.node, r) for r in users.readers))
    asking = people if name == OVERSEER else (*people, account_name(users.node, OVERSEER))
    served = [Service("$SRV.>", "stream", people), Service(f"overseer.{users.node}.{name}.qry.>", "singleton", asking)]
    if name != OVERSEER:
        served.append(Service(f"overseer.{users.node}.{name}.req.>", "singleton", operators))
    return served


def _peoples_asks(users: NodeUsers, *, requests: bool) -> list[tuple[str, str]]:
    """The other side of `_services`, for operators and readers."""
    asks: list[tuple[str, str]] = []
    for name in (*(d.name for d in users.declarations), OVERSEER):
        account = account_name(users.node, name)
        asks += [(account, "$SRV.>"), (account, f"overseer.{users.node}.{name}.qry.>")]
        if requests and name != OVERSEER:
            asks.append((account, f"overseer.{users.node}.{name}.req.>"))
    for site in users.sites:
        account = account_name(users.node, site_user(site))
        mail = [mail_filter(users.node, site)] if requests else mail_queries(users.node, site)
        asks += [(account, subject) for subject in ("$SRV.>", *mail)]
    figures = (*_SERVER_FIGURES, *_STREAM_FIGURES) if requests else _SERVER_FIGURES
    return asks + [(SYSTEM, subject) for subject in figures]


def _streams(users: NodeUsers) -> tuple[str, ...]:
    """All streams that the node has to do with."""
    own = (node_stream(users.node), net_stream(), _bucket_stream(users.node))
    return (*own, *_streams_of_sites(users.node)) if users.sites else own


def _streams_of_sites(node: str) -> tuple[str, ...]:
    return (log_stream(node), bucket_stream(topology_bucket(node)), bucket_stream(lease_bucket(node)))


def _reading(users: NodeUsers) -> list[Use]:
    """Looking at streams and consumers, message by message; creates nothing on the server."""
    uses = [Use("$JS.API.INFO"), Use("$JS.API.STREAM.NAMES"), Use("$JS.API.STREAM.LIST")]
    for stream in _streams(users):
        uses += [
            Use(f"$JS.API.STREAM.INFO.{stream}"),
            Use(f"$JS.API.STREAM.MSG.GET.{stream}"),
            Use(f"$JS.API.CONSUMER.NAMES.{stream}"),
            Use(f"$JS.API.CONSUMER.LIST.{stream}"),
            Use(f"$JS.API.CONSUMER.INFO.{stream}.*"),
        ]
    return uses


def _live_views(node: str) -> list[tuple[str, str]]:
    subjects = [f"overseer.{node}.*.{kind}.>" for kind in ("cmd", "evt", "sig")]
    subjects += [f"overseer.{node}.*.rejected", "overseer.net.>"]
    return [(f"{live_prefix()}{subject}", subject) for subject in subjects]


def _overseer(users: NodeUsers) -> Account:
    node = users.node
    uses = [Use(build(node, OVERSEER, message.spec)) for message in _OVERSEER_SENDS]
    uses += _reading(users)
    uses.append(Use(f"$O.{pov_bucket(node)}.>"))
    if users.sites:
        # It records the first topology, and what an operator changes in it.
        uses.append(Use(bucket_subject(topology_bucket(node), TOPOLOGY_KEY)))
    return Account(
        name=account_name(node, OVERSEER),
        node=node,
        user=OVERSEER,
        keys=_keys(users, OVERSEER),
        uses=uses,
        asks=[(account_name(node, d.name), f"overseer.{node}.{d.name}.qry.>") for d in users.declarations],
        serves=_services(users, OVERSEER),
        views=_live_views(node),
    )


def _provisioner(users: NodeUsers) -> Account:
    """Manages the node's streams, consumers and bucket, and the network's; purges, takes snapshots. Appends and restores nothing."""
    node = users.node
    uses = [Use("$JS.API.INFO"), Use("$JS.API.STREAM.NAMES"), Use("$JS.API.STREAM.LIST")]
    for stream in _streams(users):
        uses += [Use(f"$JS.API.STREAM.{verb}.{stream}") for verb in ("CREATE", "UPDATE", "INFO", "PURGE", "MSG.GET")]
        uses += [Use(f"$JS.API.CONSUMER.{verb}.{stream}") for verb in ("LIST", "NAMES")]
        uses += [Use(f"$JS.API.CONSUMER.{verb}.{stream}.*") for verb in ("INFO", "DELETE")]
        uses.append(Use(f"$JS.API.CONSUMER.CREATE.{stream}.>"))
        uses += [Use(f"$JS.API.STREAM.SNAPSHOT.{stream}"), Use(f"$JS.SNAPSHOT.ACK.{stream}.>")]
    delivered = f"{snapshot_prefix(node)}.>"
    return Account(
        name=account_name(node, PROVISIONER),
        node=node,
        user=PROVISIONER,
        keys=_keys(users, PROVISIONER),
        uses=uses,
        # Not its inbox: what may be delivered there from within BUS could pass for an answer to it.
        views=[(delivered, delivered)],
    )


def _operator(users: NodeUsers, name: str, owned: Sequence[tuple[str, str]]) -> Account:
    node = users.node
    uses = [
        Use(build(node, operator_sender(name), command.spec))
        for declaration in users.declarations
        for command in declaration.consumes
        if command.spec.kind is Kind.COMMAND and command not in declaration.restricted
    ]
    uses += [Use(build(node, name, message.spec)) for message in users.speaks.get(name, ())]
    uses += _reading(users)
    uses.append(Use(f"$O.{pov_bucket(node)}.>"))
    refused: list[str] = []
    for stream in _streams(users):
        uses += [
            Use(f"$JS.API.CONSUMER.CREATE.{stream}"),
            Use(f"$JS.API.CONSUMER.CREATE.{stream}.>"),
            Use(f"$JS.API.CONSUMER.DELETE.{stream}.*"),
            Use(f"$JS.API.CONSUMER.MSG.NEXT.{stream}.*", "stream"),
            Use(f"$JS.ACK.{stream}.>"),
            Use(f"$JS.FC.{stream}.>"),
        ]
    inbox = f"{inbox_prefix(name, node)}.>"
    for stream, durable in owned:
        # The network's stream is shared: other nodes' consumers there are as little an operator's business.
        if stream in _streams(users):
            refused += _tampering(stream, durable)
    return Account(
        name=account_name(node, name),
        node=node,
        user=name,
        keys=_keys(users, name),
        uses=uses,
        asks=_peoples_asks(users, requests=True),
        views=[*_live_views(node), (inbox, inbox)],
        refused=refused,
        connections_max=PEOPLES_CONNECTIONS_MAX,
        people=True,
    )


def _tampering(stream: str, durable: str) -> list[str]:
    """What an operator, who may have consumers, must not do to a subsystem's."""
    return [
        f"$JS.API.CONSUMER.CREATE.{stream}.{durable}",
        f"$JS.API.CONSUMER.CREATE.{stream}.{durable}.>",
        f"$JS.API.CONSUMER.DELETE.{stream}.{durable}",
        f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{durable}",
        f"$JS.ACK.{stream}.{durable}.>",
        f"$JS.FC.{stream}.{durable}.>",
    ]


def _reader(users: NodeUsers, name: str) -> Account:
    return Account(
        name=account_name(users.node, name),
        node=users.node,
        user=name,
        keys=_keys(users, name),
        uses=_reading(users),
        asks=_peoples_asks(users, requests=False),
        views=_live_views(users.node),
        connections_max=PEOPLES_CONNECTIONS_MAX,
        people=True,
    )


def _site(users: NodeUsers, site: str) -> Account:
    """One site of replicated elections: the log, the topology, its own lease, and mail with the others."""
    node, name = users.node, site_user(site)
    log = log_stream(node)
    uses = [Use(log_filter(kind, node)) for kind in LOG_KINDS]
    for kind in LOG_KINDS:
        uses += _pulling(log, log_durable(site, kind))
    uses += [Use(bucket_subject(topology_bucket(node), TOPOLOGY_KEY)), Use(bucket_subject(lease_bucket(node), site))]
    # Signals from the node's stream, and what the world is told, under the elections' own name.
    uses += _pulling(node_stream(node), name)
    uses.append(Use(f"overseer.{node}.elections.evt.*"))
    uses.append(Use("$JS.API.INFO"))
    for stream in (*_streams_of_sites(node), node_stream(node)):
        uses += [Use(f"$JS.API.STREAM.INFO.{stream}"), Use(f"$JS.API.STREAM.MSG.GET.{stream}")]
    operators = tuple(account_name(node, o) for o in users.operators)
    readers = tuple(account_name(node, r) for r in users.readers)
    others = [other for other in users.sites if other != site]
    accounts = tuple(account_name(node, site_user(other)) for other in others)
    return Account(
        name=account_name(node, name),
        node=node,
        user=name,
        keys=_keys(users, name),
        uses=uses,
        asks=[(account_name(node, site_user(other)), of(node, other)) for other in others for of in (mail_filter, pair_filter)],
        serves=[
            Service("$SRV.>", "stream", (*operators, *readers)),
            Service(mail_filter(node, site), "singleton", (*operators, *accounts)),
            *(Service(subject, "singleton", readers) for subject in mail_queries(node, site)),
            Service(pair_filter(node, site), "singleton", accounts),
        ],
        connections_max=SITES_CONNECTIONS_MAX,
    )


def _bucket_stream(node: str) -> str:
    return f"OBJ_{pov_bucket(node)}"
