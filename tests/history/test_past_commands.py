"""The commands that go back in time, on the store of a short chain; what they refuse, in a sentence each."""

import json
from pathlib import Path

import anyio
import pytest

from overseer.cli.common import load_settings
from overseer.feeds.make import make_block, make_validators
from overseer.node.catalogue import build_subsystem, genesis_of_chain
from overseer.node.folder import NodeFolder
from overseer.node.hosting import STORE_SCHEMA, open_store, table_names
from overseer.ports.store import StoreIdentity, WrongStore
from overseer.rocks.store import RocksStore
from overseer.tables import WriteSet
from overseer.testing.virtual import VirtualOverseer
from overseer.testing.worlds import MemoryWorld
from tests.cli.conftest import Command
from tests.node.nodes import Place

pytestmark = pytest.mark.real

BLOCKS = 6


async def chain_in(folder: Path) -> list[int]:
    """The store of a `chain_api` that has taken some blocks; the positions of these."""
    loaded = load_settings(data_dir=folder)
    chain = build_subsystem("chain_api", loaded)
    positions: list[int] = []
    async with MemoryWorld() as world, VirtualOverseer(chain, world, node="node") as overseer:
        await overseer.start()
        parent = genesis_of_chain(loaded.config)
        for number in range(1, BLOCKS + 1):
            started = make_validators("a seed", 4).validators if number == 1 else None
            block = make_block(parent, number, session=1, epoch_start=1, session_start=started)
            positions.append(await overseer.inject(block))
            await overseer.settled()
            parent = block.hash
        await overseer.conclude()
        tables, writes = table_names(chain.declaration), WriteSet()
        with overseer.stored() as made:
            for table in tables:
                for key, value in made.scan(table, b"", None):
                    writes.put(table, key, value)
    store = RocksStore.open(NodeFolder(folder).store("chain_api"), tables=tables, identity=StoreIdentity("node", "chain_api", STORE_SCHEMA))
    await store.commit(writes)
    store.close()
    return positions


@pytest.fixture
def positions(here: Place) -> list[int]:
    return anyio.run(chain_in, here.data)


def test_the_past_is_told_asked_kept_and_compared(command: Command, here: Place, positions: list[int]) -> None:
    for number, position in enumerate(positions, 1):
        assert command("query", "best", "--until", str(position), "--json").json["number"] == number
    third = str(positions[2])
    told = command("replay", "--until", third)
    assert told.code == 0, told
    assert f"position {third}: " in told.out
    assert "levels 4" in told.out
    (state,) = command("replay", "--until", third, "--json").json["states"]
    assert (state["position"], state["tables"]["levels"], state["from_index"]) == (positions[2], 4, 0)
    assert command("replay", "--until", f"chain_api:{state['index']}", "--json").json["states"][0]["tables"] == state["tables"]
    kept = command("replay", "--until", third, "--into", "then")
    assert "ask it:  overseer query best --past then" in kept.out
    assert command("query", "best", "--past", "then", "--json").json["number"] == 3
    refused = command("query", "finalized_hash", '{"number": 99}', "--past", "then")
    assert (refused.code, refused.out) == (1, ""), refused
    assert "Traceback" not in refused.error
    with pytest.raises(WrongStore, match="its past"):
        open_store(NodeFolder(here.folder / "then"), "node", build_subsystem("chain_api", here.loaded()).declaration)


def test_differences_are_told_by_table_and_row(command: Command, positions: list[int]) -> None:
    third, fifth = str(positions[2]), str(positions[4])
    told = command("diff", third, fifth)
    assert told.code == 0, told
    assert "levels: 2 added" in told.out
    assert "    + 4 0x" in told.out
    assert "state: 1 changed" in told.out
    assert "best: 0x00000003" in told.out
    (difference,) = command("diff", third, "--json").json
    assert difference["events"]["block_recorded"] == BLOCKS - 3
    (blocks,) = [table for table in difference["tables"] if table["table"] == "blocks"]
    # Packed values in the words of who packs them.
    assert {row["after"]["number"] for row in blocks["rows"]} == set(range(4, BLOCKS + 1))
    (levels,) = [table for table in difference["tables"] if table["table"] == "levels"]
    assert [row["key"][0] for row in levels["rows"]] == [4, 5, 6]
    back = command("diff", fifth, third, "chain_api").out
    assert "levels: 2 removed" in back
    assert "(backwards)" in back
    short = command("diff", third, "now", "--limit", "1").out
    assert "and 2 more (--limit)" in short
    assert "no table differs" in command("diff", third, third).out


def test_the_journal_of_all_is_shown_by_time(command: Command, positions: list[int]) -> None:
    lines = [json.loads(line) for line in command("journal", "--json").out.splitlines()]
    assert [line["cause"]["sequence"] for line in lines if line["cause"]["stream"]] == positions
    assert {line["subsystem"] for line in lines} == {"chain_api"}
    newest = command("journal", "chain_api", "--limit", "2", "--json").out.splitlines()
    assert [json.loads(line)["index"] for line in newest] == [line["index"] for line in lines[-2:]]
    after = command("journal", "chain_api", "--after", "3", "--limit", "2", "--json").out.splitlines()
    assert [json.loads(line)["index"] for line in after] == [4, 5]


REFUSED = [
    (["run", "--data-dir", "then"], "holds a rebuilt past, not a node"),
    (["status", "--data-dir", "then"], "holds a rebuilt past, not a node"),
    (["verify", "--data-dir", "then"], "holds a rebuilt past, not a node"),
    (["journal", "--data-dir", "then"], "holds a rebuilt past, not a node"),
    (["repair", "chain_api", "--replay", "--data-dir", "then"], "holds a rebuilt past, not a node"),
    (["query", "query_by_session", '{"session": 1}', "--past", "then"], "It holds: chain_api. Replay with votes_db, too."),
    (["query", "query_by_session", '{"session": 1}', "--until", "5"], "votes_db has no journal"),
    (["query", "best", "--past", "data"], "holds no rebuilt past"),
    (["query", "best", "--past", "then", "--until", "5"], "not both"),
    (["query", "best", "--until", "2001-01-01T00:00:00Z"], "is before the first record of chain_api, of 20"),
    (["query", "best", "--until", "yesterday"], "A moment is a position of the stream"),
    (["query", "best", "--until", "2999-01-01T00:00:00Z"], "is yet to come"),
    (["replay", "--until", "5", "--into", "then"], "is not empty"),
    (["replay", "--until", "chain_api:999999"], "no record 999999 yet"),
    (["replay", "--until", "999999999"], "No subsystem has taken message 999999999"),
    (["replay", "--until", "chain_api:3", "chain_ap"], "Did you mean chain_api?"),
    (["replay", "--until", "chain_ap:3"], "Did you mean chain_api?"),
    (["replay", "--until", "elections_dc1:3"], "The sites of the elections (elections_dc1) keep no journal"),
    (["replay", "--until", "5", "elections"], "The sites of the elections (elections_dc1) keep no journal"),
    (["journal", "elections_dc1"], "The sites of the elections (elections_dc1) keep no journal"),
    (["diff", "5", "chain_ap"], "'chain_ap' is no moment"),
    (["diff", "chain_api:1", "votes_db:1"], "votes_db has no journal"),
    (["diff", "5", "--nonsense"], "There is no option --nonsense"),
]


def test_what_cannot_be_had_is_refused_in_words(command: Command, here: Place, positions: list[int]) -> None:
    assert command("replay", "--until", str(positions[2]), "--into", "then").code == 0
    (here.data / "stores" / "elections_dc1").mkdir()
    for argv, words in REFUSED:
        refused = command(*argv)
        assert refused.code == 2, (argv, refused)
        assert words in refused.error, (argv, refused)
        assert refused.out == "", argv
    assert "without elections_dc1" in command("replay", "--until", str(positions[2])).out
    assert sorted(path.name for path in (here.folder / "then").iterdir()) == ["past.json", "stores"]
