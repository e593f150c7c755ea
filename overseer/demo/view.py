"""What the demo shows while it plays: built from the bus's live view, as an operator would see it."""

from collections import Counter, deque
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from messages.chain_api import BlockImported, TransactionQueued
from messages.codec import CodecError, decode
from messages.gateways import RequestsReturned, RoundClosed, RoundRevoked
from messages.message import Kind, Message
from messages.signals import BestChain, BlockFinalized, BlocksBlacklisted, GovernanceMode, GovernanceState
from messages.subjects import SubjectError, parse
from messages.votes_db import DisputeStatus, DisputeStatusChanged
from overseer.nats.sites import site_user
from overseer.supervise.status import ChildState, ChildStatus

__all__ = ["LiveView"]

TREE_ROWS = 12
NEWS_ROWS = 6
DISPUTE_ROWS = 9
_STATUS_STYLE = {
    DisputeStatus.NONE: "dim",
    DisputeStatus.ACTIVE: "yellow",
    DisputeStatus.CONFIRMED: "bold yellow",
    DisputeStatus.CONCLUDED_FOR: "green",
    DisputeStatus.CONCLUDED_AGAINST: "bold red",
}


class LiveView:
    """Hears every message of the node; renders on demand."""

    def __init__(self, steps: int) -> None:
        self.scene = "Starting NATS and the subsystems."
        self.step = 0
        self.steps = steps
        self.heard: Counter[str] = Counter()
        self.transactions: set[bytes] = set()
        self.children: Sequence[ChildStatus] = ()
        # Later acts: shown instead of the chain and the disputes once they have begun, and how much of them is told (0 to 1).
        self.election: RenderableType | None = None
        self.elected = 0.0
        self.network: RenderableType | None = None
        self.together = 0.0
        self._blocks: dict[bytes, BlockImported] = {}
        self._best: set[bytes] = set()
        self._black: set[bytes] = set()
        self._final = 0
        self._frozen: int | None = None
        self._disputes: dict[tuple[int, bytes], DisputeStatus] = {}
        self._news: deque[str] = deque(maxlen=NEWS_ROWS)

    # -------------------------------------------------------------------------------------------- hearing

    def hear(self, subject: bytes, _reply: bytes, _headers: bytes, body: bytes) -> None:
        """A message of the live view. Our own requests are heard too: they have no place in the stream, and are passed over."""
        try:
            address = parse(subject.decode())
            spec = address.spec()
            if address.kind is Kind.QUERY:
                return
            self.heard[address.kind.value] += 1
            if spec is not None and address.kind in (Kind.FACT, Kind.SIGNAL):
                self._take(decode(spec, body))
        except (SubjectError, UnicodeDecodeError):
            return
        except CodecError:
            self.heard["unreadable"] += 1

    def _take(self, message: Message) -> None:
        match message:
            case BlockImported():
                self._blocks[message.hash] = message
                if message.blacklisted:
                    self._black.add(message.hash)
            case BestChain():
                self._best -= {ref.hash for ref in message.reverted}
                self._best |= {ref.hash for ref in message.applied}
            case BlockFinalized():
                self._final = max(self._final, message.number)
            case BlocksBlacklisted():
                self._black |= set(message.hashes)
                if message.last and message.count:
                    self._news.append(f"cascade: {message.count} blocks blacklisted from {len(message.roots)} roots")
            case GovernanceMode():
                entered = message.state is GovernanceState.ENTERED
                self._frozen = message.frozen_at if entered else None
                self._news.append(f"governance mode {'entered, frozen at ' + str(message.frozen_at) if entered else 'left'}")
            case DisputeStatusChanged():
                self._disputes[message.session, message.candidate] = message.status
                self._news.append(f"dispute {message.candidate.hex()[:8]}: {message.status.value}")
            case RoundClosed():
                self._news.append(f"{message.election}: round {message.round} closed at block {message.close.number}")
            case RoundRevoked():
                self._news.append(f"{message.election}: round {message.round} revoked")
            case RequestsReturned():
                self._news.append(f"{message.election}: {len(message.returned)} requests open again")
            case TransactionQueued():
                self.transactions.add(message.id)
            case _:
                pass

    # -------------------------------------------------------------------------------------------- showing

    def __rich__(self) -> RenderableType:
        top = Table.grid(expand=True, padding=(0, 2))
        top.add_column(ratio=1)
        top.add_column()
        steps = max(1, self.steps)
        bar = ProgressBar(total=3 * steps, completed=self.step + (self.elected + self.together) * steps)
        top.add_row(Group(Text(self.scene, style="bold"), bar), self._processes())
        if self.network is not None:
            return Group(top, Panel(self.network, title="network", title_align="left"))
        if self.election is not None:
            return Group(top, Panel(self.election, title="election", title_align="left"))
        middle = Table.grid(expand=True, padding=(0, 1))
        middle.add_column(ratio=1)
        middle.add_column(ratio=1)
        middle.add_row(self._tree(), Group(self._dispute_table(), self._news_panel()))
        return Group(top, middle)

    def _processes(self) -> RenderableType:
        table = Table("process", "pid", "state", "handled", box=None, pad_edge=False)
        for column in table.columns:
            column.no_wrap = True
        sites = [child for child in self.children if child.name.startswith(site_user(""))]
        for child in self.children:
            if self.election is not None or child not in sites:
                done = str(child.beat.progress) if child.beat else ""
                table.add_row(child.name, str(child.pid or ""), _state(child.state), done)
        if sites and self.election is None:
            worst = next((child.state for child in sites if child.state is not ChildState.READY), ChildState.READY)
            table.add_row(f"{len(sites)} x elections", "", _state(worst), "")
        return table

    def _tree(self) -> RenderableType:
        """The newest heights, the best chain first; other branches beside it."""
        heights: dict[int, list[BlockImported]] = {}
        for block in self._blocks.values():
            heights.setdefault(block.number, []).append(block)
        # Further branches are cut rather than folded: each height is one line.
        text = Text(no_wrap=True, overflow="ellipsis")
        for number in sorted(heights, reverse=True)[:TREE_ROWS]:
            text.append(f"{number:>5} ", style="dim")
            for block in sorted(heights[number], key=lambda b: b.hash not in self._best):
                text.append_text(self._mark(block))
            text.append("\n")
        text.append("● best  ○ fork  ✖ black  underlined: final", style="dim")
        frozen = f", GOVERNANCE MODE frozen at {self._frozen}" if self._frozen is not None else ""
        return Panel(text, title=f"block tree: {len(self._blocks)} blocks, final {self._final}{frozen}", title_align="left")

    def _mark(self, block: BlockImported) -> Text:
        black, best = block.hash in self._black, block.hash in self._best
        sign = "✖" if black else "●" if best else "○"
        style = "bold red" if black else "green" if best else "dim"
        if best and block.number <= self._final:
            style += " underline"
        return Text(f"{sign} {block.hash.hex()[:6]}  ", style=style)

    def _dispute_table(self) -> RenderableType:
        table = Table("session", "candidate", "status", box=None, pad_edge=False)
        for (session, candidate), status in list(self._disputes.items())[-DISPUTE_ROWS:]:
            table.add_row(str(session), candidate.hex()[:12], Text(status.value, style=_STATUS_STYLE[status]))
        return Panel(table, title=f"disputes: {len(self._disputes)}", title_align="left")

    def _news_panel(self) -> RenderableType:
        counts = "  ".join(f"{kind} {count}" for kind, count in sorted(self.heard.items()))
        return Panel(Text("\n".join(self._news), no_wrap=True, overflow="ellipsis"), title=f"heard: {counts}", title_align="left")


def _state(state: ChildState) -> Text:
    return Text(state.value, style="green" if state is ChildState.READY else "yellow")
