"""A context for the stock `nats` command line: `nats --context overseer-alpha sub 'overseer.>'` then just works."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from overseer.nats.accounts import inbox_prefix
from overseer.nats.private_files import write_private
from overseer.nats.tls import TlsFiles

__all__ = ["context_folder", "context_name", "write_context"]


def context_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Where `nats` looks for contexts."""
    config = environment.get("XDG_CONFIG_HOME")
    return (Path(config) if config else Path.home() / ".config") / "nats" / "context"


def context_name(node: str, user: str = "operator") -> str:
    return f"overseer-{node}" if user == "operator" else f"overseer-{node}-{user}"


def write_context(
    node: str, *, url: str, seed_file: Path, user: str = "operator", tls: TlsFiles | None = None, folder: Path | None = None
) -> Path:
    """Write (or renew) the context of `user` on `node`; returns the file. It holds the paths of the keys, not the keys."""
    folder = folder or context_folder()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{context_name(node, user)}.json"
    context = {
        "description": f"overseer node {node}, as {user}",
        "url": url,
        "nkey": str(seed_file.absolute()),
        # The only place where this user may receive answers.
        "inbox_prefix": inbox_prefix(user, node),
        **_certificates(tls),
    }
    write_private(path, json.dumps(context, indent=2) + "\n")
    return path


def _certificates(tls: TlsFiles | None) -> dict[str, str]:
    if tls is None:
        return {}
    files = {"ca": tls.authority, "cert": tls.certificate, "key": tls.key}
    return {name: str(path.absolute()) for name, path in files.items() if path is not None}
