"""Accounts as nats-server configuration: who uses what of the account BUS, and what accounts have with each other, written out.

What they are derived from, and why each has an account of its own, is told in `overseer.nats.accounts`.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

import msgspec

__all__ = ["BUS", "CONNECTIONS_MAX", "SYSTEM", "Account", "Service", "Use", "account_text", "bus_text", "inbox_prefix", "system_text"]

BUS = "BUS"
# The server's own account. Nobody sits in it: there a reply subject would be a command.
SYSTEM = "SYS"
# Tells the one who asks what it may do; the server answers it in every account.
WHO_AM_I = "$SYS.REQ.USER.INFO"

# An entry for a pull that nobody answers any more is dropped after this long. Each answer (heartbeats too) renews it, so it
# must exceed the heartbeat of a pull; without it every pull leaves an entry for good (27 000 pulls: 70 MB).
RESPONSE_THRESHOLD = "10s"

# Connections of one account at a time: so that nobody can take all that the server has (`max_connections`). A process has one,
# two while it is replaced; people have one for each command and view.
CONNECTIONS_MAX = 8

Responses = Literal["singleton", "stream"]


class Use(NamedTuple):
    """A service of BUS that an account imports and publishes to."""

    subject: str
    responses: Responses = "singleton"


class Service(NamedTuple):
    """A service that an account exports to people."""

    subject: str
    responses: Responses
    to: tuple[str, ...]


class Account(msgspec.Struct, kw_only=True):
    """One account with its one user, before it is written out."""

    name: str
    node: str
    user: str
    keys: list[str]
    uses: list[Use]
    connections_max: int = CONNECTIONS_MAX
    # Services of other accounts: (account, subject).
    asks: list[tuple[str, str]] = []
    serves: list[Service] = []
    # Streams of BUS: (subject there, subject here).
    views: list[tuple[str, str]] = []
    refused: list[str] = []
    # Whether it is people's: they try the way to the server and back, and ask who they are to it.
    people: bool = False


def inbox_prefix(user: str, node: str) -> str:
    """Where `user` gets answers; it may subscribe to nothing else outside its declaration.

    Nobody shares it, on another node either: what is delivered there comes out of the one account BUS.
    """
    return f"_INBOX.{node}.{user}"


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


def account_text(account: Account) -> str:
    imports = [f"{{ service: {{ account: {BUS}, subject: {_quoted(use.subject)} }} }}" for use in account.uses]
    imports += [f"{{ service: {{ account: {_quoted(name)}, subject: {_quoted(subject)} }} }}" for name, subject in account.asks]
    imports += [
        f"{{ stream: {{ account: {BUS}, subject: {_quoted(there)} }}" + (f", to: {_quoted(here)} }}" if here != there else " }")
        for there, here in account.views
    ]
    # An export to nobody by name would be one to everybody.
    exports = [_export(service.subject, service.responses, service.to) for service in account.serves if service.to]
    # Answers to what came over an import go to `_R_.>`, in this account; the server knows where each belongs.
    publish = [*(use.subject for use in account.uses), *dict.fromkeys(subject for _, subject in account.asks)]
    publish += ["_R_.>"] if account.serves else []
    own = [service.subject for service in account.serves]
    inbox = f"{inbox_prefix(account.user, account.node)}.>"
    # What is said to its own inbox goes to its own account alone.
    publish += [inbox, WHO_AM_I] if account.people else []
    seen = dict.fromkeys("overseer.>" if here.startswith("overseer.") else here for _, here in account.views)
    subscribe = list(dict.fromkeys([inbox, *own, *seen]))
    users = [_user(key, publish, subscribe, account.refused) for key in account.keys]
    return (
        f"{_quoted(account.name)} {{\n"
        f"  limits: {{ max_connections: {account.connections_max} }}\n"
        f"  users: {_list(users)}\n"
        f"  imports: {_list(imports)}\n"
        f"  exports: {_list(exports)}\n"
        f"}}"
    )


def system_text(accounts: Sequence[Account]) -> str:
    """The system account, which answers what accounts ask of the server. Every server of a cluster answers by itself."""
    asked: dict[str, list[str]] = {}
    for account in accounts:
        for name, subject in account.asks:
            if name == SYSTEM:
                asked.setdefault(subject, []).append(account.name)
    return f"{SYSTEM} {{\n  exports: {_list(_export(subject, 'stream', names) for subject, names in asked.items())}\n}}"


def bus_text(accounts: Sequence[Account]) -> str:
    services: dict[Use, list[str]] = {}
    views: dict[str, list[str]] = {}
    for account in accounts:
        for use in account.uses:
            services.setdefault(use, []).append(account.name)
        for there, _ in account.views:
            views.setdefault(there, []).append(account.name)
    exports = [_export(use.subject, use.responses, names) for use, names in services.items()]
    exports += [f"{{ stream: {_quoted(subject)}, accounts: {json.dumps(names)} }}" for subject, names in views.items()]
    return f"{BUS} {{\n  jetstream: enabled\n  exports: {_list(exports)}\n}}"
