"""What can go wrong with a remote node, by what is to be done about it."""

__all__ = ["RemoteError", "RemoteGone", "RemoteLies", "RemotePruned", "RemoteRefused", "Unreadable"]


class RemoteError(Exception):
    """The remote cannot be followed now; the text says why. It is left, and the next one, or the same again, is tried."""


class RemoteGone(RemoteError):
    """There is no connection, or no answer in time."""


class RemoteLies(RemoteError):
    """An answer that cannot be true: no JSON-RPC, a block that is not of its hash, a chain that is not ours."""


class RemoteRefused(RemoteError):
    """The remote answered with an error of JSON-RPC."""

    def __init__(self, method: str, code: int, text: str) -> None:
        super().__init__(f"{method} was refused with {code}: {text[:300]}")
        self.code = code


class RemotePruned(RemoteError):
    """The remote has thrown away what is asked for: an archive node is needed."""


class Unreadable(Exception):
    """A runtime that this release does not know, or a part of a block that is not as its runtime says. The text names it."""
