"""The ring of peers as a picture for the terminal."""

from rich.console import Console
from rich.text import Text

from overseer.cli.ring_view import ring_view

QUARTER = 1 << 62


def drawn(self_id: int, peers: list[tuple[int, str]], coverage: list[int]) -> list[str]:
    console = Console(width=100, color_system=None)
    with console.capture() as capture:
        console.print(ring_view(self_id, peers, coverage))
    return capture.get().splitlines()


def test_ids_go_clockwise_from_the_top() -> None:
    lines = drawn(0, [(QUARTER, "connected"), (2 * QUARTER, "pending"), (3 * QUARTER, "identified")], [1, 1, 1, 1])
    top, middle, bottom = lines[0], lines[8], lines[16]
    assert top.strip() == "◆"
    assert bottom.strip() == "○"
    assert middle.index("·") < middle.index("━") < middle.rindex("━") < middle.index("●")
    assert top.index("◆") == bottom.index("○")


def test_segments_are_shown_as_well_as_they_are_covered() -> None:
    """The right half of the ring is covered, the left one thinly and not at all."""
    lines = drawn(0, [], [4, 4, 1, 0])
    right, left = ["".join(line[half] for line in lines[2:15]) for half in (slice(23, 45), slice(0, 22))]
    assert "━" in right
    assert not {"╌", "─"} & set(right)
    assert {"╌", "─"} <= set(left)
    assert "━" not in left
    assert "3 of 4 segments" in "\n".join(lines)


def test_who_is_nearer_is_drawn_over_who_is_only_known_and_oneself_over_all() -> None:
    peers = [(QUARTER, "connected"), (QUARTER + 1, "identified"), (QUARTER + 2, "pending")]
    lines = drawn(2 * QUARTER, peers, [1])
    assert lines[8].rstrip().endswith("●")
    assert drawn(QUARTER + 3, peers, [1])[8].rstrip().endswith("◆")
    assert any("1 connected" in line for line in lines)
    assert any("1 pending" in line for line in lines)


def test_listed_peers_are_named_in_their_order_around_the_ring() -> None:
    peers = [(n << 60, "connected") for n in range(16)]
    shown = " ".join(drawn(5 << 60, [*peers, (1, "strange")], []))
    assert shown.index(f"→ {6 << 60:016x}") < shown.index(f"→ {7 << 60:016x}")
    assert "and 4 more" in shown
    assert f"{1:016x}" not in shown


def test_a_node_that_knows_nobody_is_alone_on_its_ring() -> None:
    view = ring_view(7, [], [0] * 16)
    assert not isinstance(view, Text)
    assert sum(line.count("●") for line in drawn(7, [], [0] * 16)[:17]) == 0
