"""What a remote node is, before a node follows it: its chain, its runtime, what can be read of it, where one may begin."""

import msgspec

from overseer.feeds.substrate.link import linked
from overseer.feeds.substrate.reading import read_validators
from overseer.feeds.substrate.remote import Remote, Runtimes
from overseer.feeds.substrate.runtime import CANDIDATES, DISPUTES, SESSIONS
from overseer.feeds.substrate.troubles import RemotePruned, Unreadable

__all__ = ["Survey", "survey"]

_READABLE = "yes"


class Survey(msgspec.Struct, frozen=True, kw_only=True):
    """`readable`: for each part "yes", or why it cannot be read. `genesis`: the final block, where a node may begin."""

    url: str
    chain: str
    runtime: str
    spec: int
    best: int
    final: int
    genesis: str
    readable: dict[str, str]
    # Of the session that the final block's children are in; None where it cannot be read.
    session: int | None = None
    validators: int | None = None

    @property
    def is_complete(self) -> bool:
        return all(told == _READABLE for told in self.readable.values())


async def survey(url: str) -> Survey:
    """Raises RemoteError."""
    async with linked(url) as link:
        remote, runtimes = Remote(link), Runtimes()
        final, best = await remote.finalized(), await remote.best()
        version = await remote.version(final.hash)
        parts: list[str] = [CANDIDATES, DISPUTES, SESSIONS]
        readable = dict.fromkeys(parts, _READABLE)
        session = validators = None
        try:
            runtime = await runtimes.get(remote, final.hash)
            readable.update(runtime.lacking)
            if SESSIONS not in runtime.lacking:
                value = await remote.storage(runtime.session_key, final.hash)
                session = None if value is None else runtime.session(value)
            if session is not None:
                validators = len(await read_validators(remote, runtimes, session, final.hash))
            elif readable[SESSIONS] == _READABLE:
                readable[SESSIONS] = "no session in the state of the final block"
        except Unreadable as error:
            # Of the session where the runtime is known.
            readable.update((part, str(error)) for part in ([SESSIONS] if session is not None else parts))
        except RemotePruned as error:
            readable[SESSIONS] = str(error)
        return Survey(
            url=url,
            chain=await remote.chain_name(),
            runtime=version.name,
            spec=version.spec,
            best=best.number,
            final=final.number,
            genesis=final.hash.hex(),
            readable=readable,
            session=session,
            validators=validators,
        )
