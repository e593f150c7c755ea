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
    <node>-reader    queries, history message by message, live view; no commands, no requests, no consumers

The stored messages come back to people over `live.>` (the streams republish there), imported under the original subjects.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

import msgspec

from messages.message import Kind, Message
from messages.overseer import IncarnationStarted, Parked
from messages.signals import Conclude
from messages.subjects import build, check_token, live_prefix, net_stream, node_stream
from overseer.subsystem import Declaration

__all__ = [
    "BUS",
    "OVERSEER",
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
    "user_names",
]

BUS = "BUS"
OVERSEER = "overseer"
PROVISIONER = "provisioner"

# An entry for a pull that nobody answers any more is dropped after this long. Each answer (heartbeats too) renews it, so it
# must exceed the heartbeat of a pull; without it every pull leaves an entry for good (27 000 pulls: 70 MB).
RESPONSE_THRESHOLD = "10s"

# What the overseer says under its own name.
_OVERSEER_SENDS: tuple[type[Message], ...] = (Conclude, IncarnationStarted, Parked)
# What every subsystem says besides what it declares.
_ALL_SEND: tuple[type[Message], ...] = (IncarnationStarted, Parked)

# Connections of one account at a time: so that nobody can take all that the server has (`max_connections`). A process has one,
# two while it is replaced; people have one for each command and view.
CONNECTIONS_MAX = 8
PEOPLES_CONNECTIONS_MAX = 48

Responses = Literal["singleton", "stream"]


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


def user_names(
    declarations: Iterable[Declaration], *, operators: Sequence[str] = ("operator",), readers: Sequence[str] = ("reader",)
) -> list[str]:
    """Everybody who needs a key. Raises DeclarationConflict when a name is taken twice."""
    names = [PROVISIONER, OVERSEER, *(d.name for d in declarations), *operators, *readers]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DeclarationConflict(f"users named twice: {', '.join(twice)}; subsystems, operators and readers need names of their own")
    for name in names:
        check_token(name, "user")
    return names


def account_name(node: str, user: str) -> str:
    """The account of `user`: what a responder is told of its caller."""
    return f"{node}-{user}"


def inbox_prefix(user: str, node: str) -> str:
    """Where `user` gets answers; it may subscribe to nothing else outside its declaration.

    Nobody shares it, on another node either: what is delivered there comes out of the one account BUS.
    """
    return f"_INBOX.{node}.{user}"


def operator_sender(operator: str) -> str:
    """The sender token an operator commands under."""
    return f"op_{operator}"


def request_sender(subsystem: str) -> str:
    """The sender token of what a subsystem's endpoint appends on behalf of its callers."""
    return f"req_{subsystem}"


def durable_name(node: str, subsystem: str, stream: str) -> str:
    """The subsystem's consumer. The network's stream is shared by nodes: there the node is part of the name."""
    return f"{node}-{subsystem}" if stream == net_stream() else subsystem


def pov_bucket(node: str) -> str:
    """The object bucket that holds PoVs by their hash."""
    return f"overseer_{node}_povs"


class _Use(NamedTuple):
    """A service of BUS that an account imports and publishes to."""

    subject: str
    responses: Responses = "singleton"


class _Service(NamedTuple):
    """A service that an account exports to people."""

    subject: str
    responses: Responses
    to: tuple[str, ...]


class _Account(msgspec.Struct, kw_only=True):
    """One account with its one user, before it is written out."""

    name: str
    node: str
    user: str
    keys: list[str]
    uses: list[_Use]
    connections_max: int = CONNECTIONS_MAX
    # Services of other accounts: (account, subject).
    asks: list[tuple[str, str]] = []
    serves: list[_Service] = []
    # Streams of BUS: (subject there, subject here).
    views: list[tuple[str, str]] = []
    refused: list[str] = []


def accounts_config(nodes: Sequence[NodeUsers]) -> str:
    """The accounts of all nodes that share one bus, as a piece of nats-server configuration.

    The embedded server includes it; an existing server or cluster includes it likewise (`include accounts.conf`).
    Raises DeclarationConflict.
    """
    for users in nodes:
        _check(users)
    owned = [owned for users in nodes for owned in _consumers_of(users)]
    accounts = [account for users in nodes for account in _node_accounts(users, owned)]
    bodies = [_bus(accounts), *(_account(a) for a in accounts)]
    return "system_account: SYS\naccounts {\nSYS {}\n" + "\n".join(bodies) + "\n}\n"


def _check(users: NodeUsers) -> None:
    check_token(users.node, "node")
    names = user_names(users.declarations, operators=users.operators, readers=users.readers)
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


def _node_accounts(users: NodeUsers, owned: Sequence[tuple[str, str]]) -> list[_Account]:
    """`owned`: the consumers of all subsystems of all nodes, as (stream, durable)."""
    return [
        *(_subsystem(users, declaration) for declaration in users.declarations),
        _overseer(users),
        _provisioner(users),
        *(_operator(users, name, owned) for name in users.operators),
        *(_reader(users, name) for name in users.readers),
    ]


def _keys(users: NodeUsers, name: str) -> list[str]:
    """The key, and the one that is about to replace it."""
    return list(dict.fromkeys([users.keys[name], *([users.coming[name]] if name in users.coming else [])]))


def _consumers_of(users: NodeUsers) -> list[tuple[str, str]]:
    return [
        (stream, durable_name(users.node, declaration.name, stream))
        for declaration in users.declarations
        for stream in _consumed_streams(users.node, declaration)
    ]


def _streams_of(node: str, declaration: Declaration) -> list[str]:
    """The streams a subsystem has to do with."""
    on_network = any(m.spec.kind is Kind.NETWORK for m in (*declaration.consumes, *declaration.sends))
    return [node_stream(node), net_stream()] if on_network else [node_stream(node)]


def _consumed_streams(node: str, declaration: Declaration) -> list[str]:
    from_network = any(m.spec.kind is Kind.NETWORK for m in declaration.consumes)
    return [node_stream(node), net_stream()] if from_network else [node_stream(node)]


def _subsystem(users: NodeUsers, declaration: Declaration) -> _Account:
    node, name = users.node, declaration.name
    uses = [_Use(build(node, name, message.spec)) for message in (*declaration.sends, *_ALL_SEND)]
    uses += [_Use(build(node, request_sender(name), command.spec)) for command in declaration.requests]
    for stream in _consumed_streams(node, declaration):
        durable = durable_name(node, name, stream)
        uses += [
            _Use(f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{durable}", "stream"),
            _Use(f"$JS.ACK.{stream}.{durable}.>"),
            _Use(f"$JS.API.CONSUMER.INFO.{stream}.{durable}"),
            # At every connect and gap the consumer is set to the store's position + 1.
            _Use(f"$JS.API.CONSUMER.RESET.{stream}.{durable}"),
        ]
    uses.append(_Use("$JS.API.INFO"))
    for stream in _streams_of(node, declaration):
        uses += [_Use(f"$JS.API.STREAM.INFO.{stream}"), _Use(f"$JS.API.STREAM.MSG.GET.{stream}")]
    return _Account(name=account_name(node, name), node=node, user=name, keys=_keys(users, name), uses=uses, serves=_services(users, name))


def _services(users: NodeUsers, name: str) -> list[_Service]:
    """What `name` answers and to whom: queries and discovery to people, awaited commands to operators alone.

    No account both imports and exports one subject: the server would pass requests on through it, and each of them would be
    answered twice. Hence the overseer, which people discover too, asks subsystems for their health but does not discover them.
    """
    operators = tuple(account_name(users.node, o) for o in users.operators)
    people = (*operators, *(account_name(users.node, r) for r in users.readers))
    asking = people if name == OVERSEER else (*people, account_name(users.node, OVERSEER))
    served = [_Service("$SRV.>", "stream", people), _Service(f"overseer.{users.node}.{name}.qry.>", "singleton", asking)]
    if name != OVERSEER:
        served.append(_Service(f"overseer.{users.node}.{name}.req.>", "singleton", operators))
    return served


def _peoples_asks(users: NodeUsers, *, requests: bool) -> list[tuple[str, str]]:
    """The other side of `_services`, for operators and readers."""
    asks: list[tuple[str, str]] = []
    for name in (*(d.name for d in users.declarations), OVERSEER):
        account = account_name(users.node, name)
        asks += [(account, "$SRV.>"), (account, f"overseer.{users.node}.{name}.qry.>")]
        if requests and name != OVERSEER:
            asks.append((account, f"overseer.{users.node}.{name}.req.>"))
    return asks


def _reading(node: str) -> list[_Use]:
    """Looking at streams and consumers, message by message; creates nothing on the server."""
    uses = [_Use("$JS.API.INFO"), _Use("$JS.API.STREAM.NAMES"), _Use("$JS.API.STREAM.LIST")]
    for stream in (node_stream(node), net_stream(), _bucket_stream(node)):
        uses += [
            _Use(f"$JS.API.STREAM.INFO.{stream}"),
            _Use(f"$JS.API.STREAM.MSG.GET.{stream}"),
            _Use(f"$JS.API.CONSUMER.NAMES.{stream}"),
            _Use(f"$JS.API.CONSUMER.LIST.{stream}"),
            _Use(f"$JS.API.CONSUMER.INFO.{stream}.*"),
        ]
    return uses


def _live_views(node: str) -> list[tuple[str, str]]:
    subjects = [f"overseer.{node}.*.{kind}.>" for kind in ("cmd", "evt", "sig")]
    subjects += [f"overseer.{node}.*.rejected", "overseer.net.>"]
    return [(f"{live_prefix()}{subject}", subject) for subject in subjects]


def _overseer(users: NodeUsers) -> _Account:
    node = users.node
    uses = [_Use(build(node, OVERSEER, message.spec)) for message in _OVERSEER_SENDS]
    uses += _reading(node)
    uses.append(_Use(f"$O.{pov_bucket(node)}.>"))
    return _Account(
        name=account_name(node, OVERSEER),
        node=node,
        user=OVERSEER,
        keys=_keys(users, OVERSEER),
        uses=uses,
        asks=[(account_name(node, d.name), f"overseer.{node}.{d.name}.qry.>") for d in users.declarations],
        serves=_services(users, OVERSEER),
        views=_live_views(node),
    )


def _provisioner(users: NodeUsers) -> _Account:
    """Manages the node's streams, consumers and bucket, and the network's; purges. Appends nothing."""
    node = users.node
    uses = [_Use("$JS.API.INFO"), _Use("$JS.API.STREAM.NAMES"), _Use("$JS.API.STREAM.LIST")]
    for stream in (node_stream(node), net_stream(), _bucket_stream(node)):
        uses += [_Use(f"$JS.API.STREAM.{verb}.{stream}") for verb in ("CREATE", "UPDATE", "INFO", "PURGE", "MSG.GET")]
        uses += [_Use(f"$JS.API.CONSUMER.{verb}.{stream}") for verb in ("LIST", "NAMES")]
        uses += [_Use(f"$JS.API.CONSUMER.{verb}.{stream}.*") for verb in ("INFO", "DELETE")]
        uses.append(_Use(f"$JS.API.CONSUMER.CREATE.{stream}.>"))
    return _Account(name=account_name(node, PROVISIONER), node=node, user=PROVISIONER, keys=_keys(users, PROVISIONER), uses=uses)


def _operator(users: NodeUsers, name: str, owned: Sequence[tuple[str, str]]) -> _Account:
    node = users.node
    uses = [
        _Use(build(node, operator_sender(name), command.spec))
        for declaration in users.declarations
        for command in declaration.consumes
        if command.spec.kind is Kind.COMMAND and command not in declaration.restricted
    ]
    uses += _reading(node)
    uses.append(_Use(f"$O.{pov_bucket(node)}.>"))
    refused: list[str] = []
    for stream in (node_stream(node), net_stream(), _bucket_stream(node)):
        uses += [
            _Use(f"$JS.API.CONSUMER.CREATE.{stream}"),
            _Use(f"$JS.API.CONSUMER.CREATE.{stream}.>"),
            _Use(f"$JS.API.CONSUMER.DELETE.{stream}.*"),
            _Use(f"$JS.API.CONSUMER.MSG.NEXT.{stream}.*", "stream"),
            _Use(f"$JS.ACK.{stream}.>"),
            _Use(f"$JS.FC.{stream}.>"),
        ]
    inbox = f"{inbox_prefix(name, node)}.>"
    for stream, durable in owned:
        # The network's stream is shared: other nodes' consumers there are as little an operator's business.
        if stream in (node_stream(node), net_stream()):
            refused += _tampering(stream, durable)
    return _Account(
        name=account_name(node, name),
        node=node,
        user=name,
        keys=_keys(users, name),
        uses=uses,
        asks=_peoples_asks(users, requests=True),
        views=[*_live_views(node), (inbox, inbox)],
        refused=refused,
        connections_max=PEOPLES_CONNECTIONS_MAX,
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


def _reader(users: NodeUsers, name: str) -> _Account:
    return _Account(
        name=account_name(users.node, name),
        node=users.node,
        user=name,
        keys=_keys(users, name),
        uses=_reading(users.node),
        asks=_peoples_asks(users, requests=False),
        views=_live_views(users.node),
        connections_max=PEOPLES_CONNECTIONS_MAX,
    )


def _bucket_stream(node: str) -> str:
    return f"OBJ_{pov_bucket(node)}"


# ------------------------------------------------------------------------------------------------ as text


def _list(items: Iterable[str]) -> str:
    return "[" + "".join(f"\n      {item}" for item in items) + " ]"


def _quoted(text: str) -> str:
    return json.dumps(text)


def _user(key: str, publish: Iterable[str], subscribe: Iterable[str], refused: Sequence[str] = ()) -> str:
    deny = f", deny: {_list(map(_quoted, refused))}" if refused else ""
    return (
        f"{{ nkey: {_quoted(key)}, permissions: {{\n"
        f"      publish: {{ allow: {_list(map(_quoted, publish))}{deny} }}\n"
        f"      subscribe: {{ allow: {_list(map(_quoted, subscribe))} }} }} }}"
    )


def _export(subject: str, responses: Responses, accounts: Iterable[str]) -> str:
    threshold = f', response_threshold: "{RESPONSE_THRESHOLD}"' if responses == "stream" else ""
    return f"{{ service: {_quoted(subject)}, accounts: {json.dumps(list(accounts))}, response_type: {responses}{threshold} }}"


def _account(account: _Account) -> str:
    imports = [f"{{ service: {{ account: {BUS}, subject: {_quoted(use.subject)} }} }}" for use in account.uses]
    imports += [f"{{ service: {{ account: {_quoted(name)}, subject: {_quoted(subject)} }} }}" for name, subject in account.asks]
    imports += [
        f"{{ stream: {{ account: {BUS}, subject: {_quoted(there)} }}" + (f", to: {_quoted(here)} }}" if here != there else " }")
        for there, here in account.views
    ]
    exports = [_export(service.subject, service.responses, service.to) for service in account.serves]
    # Answers to what came over an import go to `_R_.>`, in this account; the server knows where each belongs.
    publish = [*(use.subject for use in account.uses), *dict.fromkeys(subject for _, subject in account.asks)]
    publish += ["_R_.>"] if account.serves else []
    own = [service.subject for service in account.serves]
    inbox = f"{inbox_prefix(account.user, account.node)}.>"
    subscribe = [inbox, *own, *(["overseer.>"] if account.views else [])]
    users = [_user(key, publish, subscribe, account.refused) for key in account.keys]
    return (
        f"{_quoted(account.name)} {{\n"
        f"  limits: {{ max_connections: {account.connections_max} }}\n"
        f"  users: {_list(users)}\n"
        f"  imports: {_list(imports)}\n"
        f"  exports: {_list(exports)}\n"
        f"}}"
    )


def _bus(accounts: Sequence[_Account]) -> str:
    services: dict[_Use, list[str]] = {}
    views: dict[str, list[str]] = {}
    for account in accounts:
        for use in account.uses:
            services.setdefault(use, []).append(account.name)
        for there, _ in account.views:
            views.setdefault(there, []).append(account.name)
    exports = [_export(use.subject, use.responses, names) for use, names in services.items()]
    exports += [f"{{ stream: {_quoted(subject)}, accounts: {json.dumps(names)} }}" for subject, names in views.items()]
    return f"{BUS} {{\n  jetstream: enabled\n  exports: {_list(exports)}\n}}"
