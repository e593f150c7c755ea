"""`overseer peers` on a running network: what a person types, and what is refused."""

import json

import pytest

from overseer.feeds.tokens import TokenFileError, development_tokens, read_tokens
from tests.consensus.testnets import network_up
from tests.node.nodes import MARK, Place, here

__all__ = ["here"]


@pytest.mark.anyio
@pytest.mark.real
@pytest.mark.slow
async def test_a_person_gives_tokens_challenges_and_sees_who_was_elected(here: Place) -> None:
    subsystems = "votes_db,dispute_conclusion,chain_api,elections,consensus_manager"
    async with network_up(here, "--interval-ms", "3600000", subsystems=subsystems) as net:
        asked = Place(here.folder)

        def told(command: str, *argv: str, node: str = "n1") -> str:
            done = asked.run("peers", command, *argv, "--data-dir", str(net.folder / node), env={MARK: net.place.mark})
            assert done.code == 0, done
            return done.out

        assert "no tokens: overseer peers hold" in told("status")
        refused = asked.run("peers", "challenge", "--data-dir", str(net.folder / "n1"), env={MARK: net.place.mark})
        assert refused.code != 0
        assert "no_token" in refused.error
        tokens = here.folder / "tokens.csv"
        tokens.write_text("17,0x2a\n18,42\n")
        assert "2 tokens, 2 of them new" in told("hold", "--file", str(tokens))
        for node in ("n1", "n2", "n3", "n4"):
            assert json.loads(told("hold", "--development", "20000", "--density", "99", "--json", node=node))["changed"] > 19_000
        assert "has begun" in told("challenge")

        async def elected() -> bool:
            return any(each["outcome"]["end"] == "elected" for each in json.loads(told("history", "--json"))["elections"])

        await net.until(elected, "a peer is elected")
        assert "elected" in told("history")
        report = json.loads(told("status", "--json"))
        assert report["peers"][0]["node"] in ("n2", "n3", "n4")
        assert report["peers"][0]["node"] in told("status")


def test_the_same_seed_gives_the_same_tokens_of_which_each_holds_about_its_share() -> None:
    tokens = list(development_tokens("dev", 4_000))
    assert tokens == list(development_tokens("dev", 4_000))
    one, other = (list(development_tokens("dev", 4_000, holder=node, density_percent=75)) for node in ("n1", "n2"))
    assert {*one} < {*tokens}
    assert one != other
    assert 2_850 < len(one) < 3_150


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("17", "line 1"),
        ("1,2\n3,x\n", "line 2"),
        ("1,2,3", "line 1"),
        ("-1,2", "below"),
        (f"{1 << 64},2", "below"),
    ],
)
def test_a_file_that_holds_no_tokens_is_refused_with_the_line(here: Place, text: str, wrong: str) -> None:
    path = here.folder / "tokens.csv"
    path.write_text(text)
    with pytest.raises(TokenFileError, match=wrong):
        read_tokens(path)
