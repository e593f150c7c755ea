"""What the sites of replicated elections are called on the bus: their users, mailrooms, log, and buckets. Pure.

The log of a node is a stream of its own, with the subject `overseer.log.<kind>.<key>.<node>.<stream id>` for each election. The
node is in it because nodes may share a server. The stream's id is in it so that the server compares it at once with an append:
a stream that was made anew has another id and takes no subject with the old one. And every stored entry tells where it is from.
"""

import msgspec

from messages.contract import load as load_contract
from messages.elections import ListElections, OfElection
from messages.message import Kind

__all__ = [
    "LOG_KINDS",
    "TOPOLOGY_KEY",
    "LogSubject",
    "bucket_stream",
    "bucket_subject",
    "lease_bucket",
    "log_durable",
    "log_filter",
    "log_stream",
    "log_subject",
    "mail_filter",
    "mail_queries",
    "pair_filter",
    "site_user",
    "topology_bucket",
]

# The kinds of elections that have a log.
LOG_KINDS = ("ballots",)
# The one key of the topology's bucket.
TOPOLOGY_KEY = "current"


class LogSubject(msgspec.Struct, frozen=True):
    """A parsed subject of the log. `stream` is the stream's id."""

    kind: str
    election: str
    node: str
    stream: str

    @classmethod
    def parse(cls, subject: str) -> "LogSubject":
        """Raises ValueError."""
        tokens = subject.split(".")
        if len(tokens) != 6 or tokens[:2] != ["overseer", "log"]:
            raise ValueError(f"not a subject of the elections' log: {subject[:200]!r}")
        return cls(*tokens[2:])


def site_user(site: str) -> str:
    """The site's user and sender token."""
    return f"elections_{site}"


def mail_filter(node: str, site: str) -> str:
    """Commands for elections, `<key>.<command>` behind it: asked by other sites and by operators."""
    return f"overseer.{node}.{site_user(site)}.mail.>"


def mail_queries(node: str, site: str) -> list[str]:
    """Of the mail, what only asks: open to those who may not command. What is no election's (as peers are a node's) is not asked there."""
    asked = [spec for spec in load_contract() if spec.owner == "elections" and spec.kind is Kind.QUERY]
    names = sorted(spec.name for spec in asked if issubclass(spec.body, OfElection | ListElections))
    return [f"overseer.{node}.{site_user(site)}.mail.*.{name}" for name in names]


def pair_filter(node: str, site: str) -> str:
    """What the members of a pair say to each other, `<key>.<message>` behind it."""
    return f"overseer.{node}.{site_user(site)}.pair.>"


def log_stream(node: str) -> str:
    """In capitals: no node's own stream is called so."""
    return f"OVERSEER_LOG_{node}"


def log_subject(kind: str, election: str, node: str, stream: str) -> str:
    """Where entries of `election` are appended to, in the stream with that id."""
    return f"overseer.log.{kind}.{election}.{node}.{stream}"


def log_filter(kind: str, node: str, stream: str = "*") -> str:
    """All elections of a kind at a node."""
    return f"overseer.log.{kind}.*.{node}.{stream}"


def log_durable(site: str, kind: str) -> str:
    """The consumer by which a site follows the log."""
    return f"{site_user(site)}-{kind}"


def topology_bucket(node: str) -> str:
    return f"overseer_{node}_topology"


def lease_bucket(node: str) -> str:
    return f"overseer_{node}_lease"


def bucket_stream(bucket: str) -> str:
    """The stream behind a key-value bucket, as all official clients have it."""
    return f"KV_{bucket}"


def bucket_subject(bucket: str, key: str) -> str:
    return f"$KV.{bucket}.{key}"
