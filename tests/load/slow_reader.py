"""A process that subscribes to everything as a reader, and is then stopped by whoever started it: it reads no more."""

import sys
from pathlib import Path

import anyio
import nats

from overseer.cli.common import load_settings
from overseer.nats.accounts import inbox_prefix
from overseer.nats.keys import KeyFolder
from overseer.node.folder import NodeFolder


async def main(data: Path) -> None:
    config = load_settings(data_dir=data).config
    url = NodeFolder(config.data_dir).last_run().url
    seed = str(KeyFolder(config.keys_dir).path("reader"))
    client = await nats.connect(url, nkeys_seed=seed, inbox_prefix=inbox_prefix("reader", config.node).encode(), allow_reconnect=False)
    await client.subscribe("overseer.>", cb=_nothing)
    await client.flush()
    print("ready", flush=True)
    await anyio.sleep_forever()


async def _nothing(_: object) -> None:
    return


if __name__ == "__main__":
    anyio.run(main, Path(sys.argv[1]))
