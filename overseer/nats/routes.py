"""The routes between the servers of a cluster, as a piece of their configuration. Pure.

Whoever has the password is a server of the cluster, which sees and says everything: it belongs into the servers' files alone, and
not where the keys of the users are.
"""

import json
import re
from collections.abc import Sequence

__all__ = ["BadRoute", "routes_config"]

USER = "routes"

_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):[1-9][0-9]{0,4}")
# From here on a word is no credential that somebody guesses.
_PASSWORD_CHARACTERS_MIN = 32


class BadRoute(ValueError):
    """Not an address that a server of a cluster can have, or too few of them."""


def routes_config(addresses: Sequence[str], password: str) -> str:
    """What the servers at `addresses` (host:port of their cluster ports) include into their `cluster` block: the same for each.

    `password` is in clear there, as the servers show it to each other: text of letters and digits. Raises BadRoute.
    """
    if len(set(addresses)) < 2 or len(set(addresses)) < len(addresses):
        raise BadRoute(f"a cluster has at least two servers, each named once, not {', '.join(addresses) or 'none'}")
    for address in addresses:
        if not _ADDRESS.fullmatch(address):
            raise BadRoute(f"{address!r} is no host:port of a server's cluster port")
    if len(password) < _PASSWORD_CHARACTERS_MIN or not (password.isascii() and password.isalnum()):
        raise BadRoute(f"the password of the routes must be at least {_PASSWORD_CHARACTERS_MIN} letters and digits")
    authorization = {"user": USER, "password": password}
    routes = [f"nats-route://{USER}:{password}@{address}" for address in addresses]
    return f"authorization: {json.dumps(authorization)}\nroutes: {json.dumps(routes)}\n"
