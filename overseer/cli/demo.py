"""`overseer demo`: embedded NATS, real processes, a story in four acts, and a check of what they came to."""

import os
import signal
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import AsyncExitStack, contextmanager, suppress
from pathlib import Path
from typing import Annotated

import anyio
import anyio.to_thread
import msgspec
import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.padding import Padding

from overseer.cli.common import Json, console, load_settings, print_json, run_async, say, stopped
from overseer.cli.election_view import copies_of, copies_table, picture, results_of
from overseer.demo.answering import Answered, answer, fallen_block
from overseer.demo.groups import Grouped
from overseer.demo.network import Network
from overseer.demo.peering import Peered
from overseer.demo.playing import Outcome, Played, Sited, Unexpected, find_out, play
from overseer.demo.polls import EVENTS, KEY, Polled, Polls
from overseer.demo.queues import QUEUE, Queued, find_queue, tell_queue
from overseer.demo.revoking import Revoked
from overseer.demo.together import SCENES, Together, play_network
from overseer.demo.view import LiveView
from overseer.feeds.devchain import DevChain, Shape
from overseer.feeds.story import Await, Scene, Send, Story
from overseer.nats.sites import site_user
from overseer.node.client import Client, Refused
from overseer.node.folder import RunInfo
from overseer.node.overseer import Node
from overseer.node.report import NodeReport, node_report
from overseer.observe.logs import configure_logs
from overseer.ports.bus import BusError
from overseer.settings import Loaded
from overseer.sites.client import SitesClient
from overseer.supervise.status import ChildStatus
from overseer.supervise.stopping import StopRequest, watch_signals

__all__ = ["demo"]

REFRESH_PER_S = 8
# Of the elections: five data centres of one zone.
SITES = 5
# Of the consensus groups: the folder of their network, in the node's.
NETWORK = "network"
# Between two looks at the election that is shown.
LOOK_S = 0.2


class Told(msgspec.Struct, kw_only=True):
    """What `--json` prints."""

    ok: bool
    seconds: float
    processes: int
    blocks: int
    votes_sent: int
    votes_stored: int
    disputes: int
    concluded_for: int
    concluded_against: int
    blacklisted: int
    blacklisted_expected: int
    transactions: int
    governance_entered: bool
    governance_left: bool
    dead_letters: int
    gateways: Queued
    elections: Polled
    groups: Grouped
    revoked: Revoked
    peers: Peered
    explained: Answered
    differences: list[str]


def demo(
    validators: Annotated[int, typer.Option(min=4, max=1000, help="Validators of a session.")] = 100,
    seed: Annotated[str, typer.Option(help="The same seed tells the same story.")] = "demo",
    stay: Annotated[bool, typer.Option("--stay", help="Stay up afterwards, to be looked at with `nats` and `overseer`.")] = False,
    data_dir: Annotated[
        Path | None,
        typer.Option("--data-dir", help="Keep the nodes here, to be explained (default: a temporary folder).", show_default=False),
    ] = None,
    json: Json = False,
) -> None:
    """A story on a real node: sessions, forks, disputes both ways, a cascade, governance mode entered and left.

    Then gateways elected for a queue, a round of which one more lie revokes; an election on five sites, the one that writes it
    killed while ballots are cast; and a network of four nodes that elect who signs its chain, one killed while they make a key, a group
    revoked with the fork that accepted it, and that elect each other as peers, by what they hold.
    Checks its own outcome against what the development chain knows, counts the ballots, goes through the signed chain from genesis, and
    explains a block, an item and a group by the journals, down to the signed votes; the exit code is 1 on any difference.
    """
    story = DevChain(seed, Shape(validators=validators)).story(tell_queue)
    with _scratch() as scratch:
        folder = data_dir or scratch
        # Warnings would be of the site that is killed.
        loaded = load_settings(
            data_dir=folder, node="demo", feed__source="none", log__level="error", genesis=story.genesis.hex(),
            governance__authority=story.authority.public.hex(), elections__sites=SITES,
        )  # fmt: skip
        configure_logs(loaded.config.log, run_id="", node="demo")
        told = run_async(lambda: _Demo(loaded, story, seed, json, stay, kept=data_dir is not None).run())
        if told is None:
            stopped("stopped before the story was told")
        if json:
            print_json(msgspec.to_builtins(told))
        if not told.ok:
            raise typer.Exit(1)


@contextmanager
def _scratch() -> Generator[Path, None, None]:
    """A temporary folder that goes in any case: who ends us while it is removed waits for that."""
    folder = tempfile.TemporaryDirectory(prefix="overseer-demo-")
    try:
        yield Path(folder.name)
    finally:
        before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
        folder.cleanup()
        for number, handler in before.items():
            signal.signal(number, handler)


class _Demo:
    """One showing."""

    def __init__(self, loaded: Loaded, story: Story, seed: str, as_json: bool, stay: bool, *, kept: bool) -> None:
        self._loaded = loaded
        self._story = story
        self._seed = seed
        self._json = as_json
        self._stay = stay
        self._kept = kept
        self._view = LiveView(len(story.steps))
        self._up = anyio.Event()
        self._info: RunInfo | None = None
        self._began = time.monotonic()
        self._ended = anyio.Event()
        # What is said of the election at the end, where it was not shown all the time.
        self._tally: RenderableType = ""

    async def run(self) -> Told | None:
        """What came of it; None when it was stopped before the end. Raises what ends a node, and Unexpected."""
        stop = StopRequest()
        told: Told | None = None
        async with anyio.create_task_group() as tasks:
            await tasks.start(watch_signals, stop)
            node = Node(self._loaded, started=self._started)
            tasks.start_soon(self._run_node, node, stop)
            with anyio.CancelScope() as scope:
                tasks.start_soon(_cancel_when_stopped, stop, scope)
                async with AsyncExitStack() as stack:
                    told = await self._tell(node, stack, stop)
            if told is not None and not self._json:
                _summary(told, self._tally)
                _next(self._loaded, self._shown_info(), told, stay=self._stay, kept=self._kept)
            if told is not None and self._stay:
                await stop.wait()
            stop.request("the story is told")
            await self._ended.wait()
            tasks.cancel_scope.cancel()
        return told

    async def _run_node(self, node: Node, stop: StopRequest) -> None:
        try:
            await node.run(stop)
        finally:
            self._ended.set()

    def _started(self, info: RunInfo) -> None:
        self._info = info
        self._up.set()

    def _shown_info(self) -> RunInfo:
        assert self._info is not None
        return self._info

    async def _tell(self, node: Node, stack: AsyncExitStack, stop: StopRequest) -> Told:
        show = not self._json and console.is_terminal
        if show:
            stack.enter_context(Live(self._view, console=console, refresh_per_second=REFRESH_PER_S))
        await self._up.wait()
        info = self._shown_info()
        client = await stack.enter_async_context(Client.connected(self._loaded.config, info.url, "operator"))
        await client.connection.listen(f"overseer.{info.node}.>", self._view.hear)
        whole = Sited(client, SitesClient(client.connection, client.node, info.sites))
        queued, uneven = Queued(), list[str]()
        try:
            played = await play(whole, self._story, self._follow(node, show))
            outcome = await find_out(whole, self._story)
        except (Unexpected, Refused, BusError) as unexpected:
            played, outcome = Played(), _nothing(str(unexpected))
        else:
            queued, uneven = await find_queue(whole)
        polled, miscounted = await self._elect(node, client, show)
        names = [child.name for child in self._children(node)]
        report = await node_report(self._loaded.config, info, client.connection, names)
        together = await self._network(node, stop, show)
        answered = await self._answer(together, show)
        uneven += [*miscounted, *together.differences, *answered.differences()]
        return self._judge(played, outcome, report, queued, polled, together, answered, uneven)

    async def _elect(self, node: Node, client: Client, show: bool) -> tuple[Polled, list[str]]:
        """The act of the sites: what came of it, and every difference."""
        sites = self._shown_info().sites

        def new_client(number: int) -> SitesClient:
            """Each begins at another site."""
            first = number % len(sites)
            return SitesClient(client.connection, client.node, sites[first:] + sites[:first])

        def kill(site: str) -> None:
            pid = next((child.pid for child in self._children(node) if child.name == site_user(site)), None)
            if pid is None:
                raise Unexpected(f"site {site} does not run")
            os.kill(pid, signal.SIGKILL)

        polled, uneven = Polled(), list[str]()
        polls, person = Polls(new_client, self._seed, kill=kill, told=self._scene(show)), new_client(0)
        async with anyio.create_task_group() as tasks:
            if show:
                tasks.start_soon(self._show_election, node, person)
            polled, uneven = await polls.play()
            tasks.cancel_scope.cancel()
        with suppress(Refused, BusError):
            if show:
                await self._look(node, person)
            else:
                self._tally = picture(await results_of(person, KEY))
        return polled, uneven

    async def _network(self, node: Node, stop: StopRequest, show: bool) -> Together:
        """The last acts, on a network of its own."""
        scene = self._scene(show)

        def looked(network: Network) -> None:
            self._view.children, self._view.network = network.children, network

        def told(text: str) -> None:
            self._view.together += 1 / SCENES
            scene(text)

        network = Network(self._loaded.config.data_dir / NETWORK, looked=looked)
        together = await play_network(network, self._seed, stop, told=told)
        self._view.children = self._children(node)
        return together

    async def _answer(self, together: Together, show: bool) -> Answered:
        """The last questions, to the journals alone."""
        self._scene(show)("Why is a block blacklisted, why was an item back in its queue, why was a group revoked? The journals are asked.")
        folder, block = self._loaded.config.data_dir, fallen_block(self._story)
        return await anyio.to_thread.run_sync(answer, folder, folder / NETWORK, block, together.revoked.group)

    async def _show_election(self, node: Node, person: SitesClient) -> None:
        while True:
            with suppress(Refused, BusError):
                await self._look(node, person)
            await anyio.sleep(LOOK_S)

    async def _look(self, node: Node, person: SitesClient) -> None:
        """Show how the election stands. Raises Refused, BusError."""
        self._view.children = self._children(node)
        found, copies = await results_of(person, KEY), await person.copies(KEY)
        known = [report for report in copies.values() if report is not None]
        if known:
            rows = copies_of(copies, max(known, key=lambda report: report.topology))
            self._view.election = Group(picture(found), "", copies_table(rows))
            self._view.elected = max(report.head.sequence for report in known) / EVENTS

    def _children(self, node: Node) -> Sequence[ChildStatus]:
        return node.supervisor.statuses() if node.supervisor is not None else ()

    def _follow(self, node: Node, show: bool) -> Callable[[int, Scene | Send | Await], None]:
        scene = self._scene(show)

        def follow(number: int, step: Scene | Send | Await) -> None:
            self._view.step = number
            self._view.children = self._children(node)
            if isinstance(step, Scene):
                scene(step.text)

        return follow

    def _scene(self, show: bool) -> Callable[[str], None]:
        def scene(text: str) -> None:
            self._view.scene = text
            if not show and not self._json:
                say(f"[{time.monotonic() - self._began:5.1f} s] {text}".replace("[", "\\[", 1))

        return scene

    def _judge(
        self,
        played: Played,
        outcome: Outcome,
        report: NodeReport,
        queued: Queued,
        polled: Polled,
        together: Together,
        answered: Answered,
        uneven: Sequence[str],
    ) -> Told:
        expected = self._story.expected
        differences = [*outcome.differences, *uneven]
        dead = sum(row.dead_letters for row in report.subsystems)
        if dead:
            differences.append(f"dead letters: {dead}, expected 0")
        if self._view.transactions != set(expected.transactions):
            differences.append(f"transactions: {len(self._view.transactions)}, expected {len(expected.transactions)} (or others)")
        return Told(
            ok=not differences,
            seconds=round(time.monotonic() - self._began, 1),
            # The overseer, the NATS server, the subsystems, and the sites; the network's server and its nodes.
            processes=2 + len(report.subsystems) + 1 + together.groups.nodes,
            blocks=expected.blocks,
            votes_sent=played.votes_sent,
            votes_stored=outcome.votes_stored,
            disputes=outcome.disputes,
            concluded_for=outcome.concluded_for,
            concluded_against=outcome.concluded_against,
            blacklisted=outcome.blacklisted,
            blacklisted_expected=len(expected.blacklisted),
            transactions=len(self._view.transactions),
            governance_entered=outcome.governance_entered,
            governance_left=outcome.governance_left,
            dead_letters=dead,
            gateways=queued,
            elections=polled,
            groups=together.groups,
            revoked=together.revoked,
            peers=together.peers,
            explained=answered,
            differences=differences,
        )


async def _cancel_when_stopped(stop: StopRequest, scope: anyio.CancelScope) -> None:
    await stop.wait()
    scope.cancel()


def _nothing(difference: str) -> Outcome:
    return Outcome(
        votes_stored=0, disputes=0, concluded_for=0, concluded_against=0, blacklisted=0, governance_entered=False, governance_left=False,
        differences=[difference],
    )  # fmt: skip


def _summary(told: Told, tally: RenderableType) -> None:
    verdict = "[bold green]as it had to be[/]" if told.ok else "[bold red]not as it had to be[/]"
    say(f"\n[bold]The story is told, {verdict}[/], in {told.seconds} s by {told.processes} processes:")
    say(f"  {told.blocks} blocks, {told.votes_sent} votes sent, {told.votes_stored} stored (each once), {told.dead_letters} dead letters")
    say(f"  {told.disputes} disputes: {told.concluded_for} concluded for, {told.concluded_against} against")
    say(f"  {told.blacklisted} blocks blacklisted (expected {told.blacklisted_expected}), {told.transactions} rewards and slashes")
    say(f"  governance mode: {'entered' if told.governance_entered else 'never entered'}{', and left' if told.governance_left else ''}")
    queued = told.gateways
    say(f"  a queue of gateways: {len(queued.returned)} requests open again by a blacklisted block, {len(queued.executed)} proven later")
    polled = told.elections
    say(f"  an election on {polled.sites} sites, one killed after {polled.killed_after} of {polled.ballots} ballots:")
    say(f"  {polled.acknowledged} ballots acknowledged, {polled.cast} counted (each once), {polled.copies_equal} equal copies")
    grouped = told.groups
    say(f"  a network of {grouped.nodes} nodes, {grouped.killed or 'none'} killed in the midst of a DKG: {grouped.epochs} groups elected,")
    say(f"  {grouped.signed} of {grouped.blocks} blocks signed by theirs, {grouped.chains} chains accepted by a light client")
    revoked = told.revoked
    votes = len(revoked.against)
    say(
        f"  group {revoked.group} revoked, as {votes} votes blacklisted the block that had accepted it; group {revoked.serves} served again"
    )
    peered = told.peers
    say(f"  {peered.elected} of {peered.asked} elections of peers elected one, never the one that made its tokens up")
    answers = ", ".join(f"{each.kind} {each.verified}" for each in told.explained.questions)
    say(f"  explained by the journals, down to so many signed votes, each checked again: {answers}")
    for difference in told.differences:
        say(f"  [red]differs:[/] {escape(difference)}")
    if tally:
        console.print(Padding(tally, (1, 0, 0, 2), expand=False))


def _next(loaded: Loaded, info: RunInfo, told: Told, *, stay: bool, kept: bool) -> None:
    if stay or kept:
        say("\nWhy is this block blacklisted, why was this item back in its queue, why was this group revoked?")
        for question in told.explained.questions:
            say(f"  {question.command}")
    if not stay:
        say("\nTry next: [bold]overseer demo --stay[/], and in another terminal what it then proposes; or [bold]overseer run[/]")
        if not kept:
            say("          [bold]overseer demo --data-dir FOLDER[/], and [bold]overseer explain[/] on what it leaves")
        return
    environment = f"OVERSEER_NODE={info.node} OVERSEER_DATA_DIR={loaded.config.data_dir}"
    say(f"\nStaying up on {info.url} until Ctrl-C. In another terminal: [bold]export {environment}[/], then")
    for line in (
        "overseer status",
        "overseer dispute list",
        "overseer query best",
        f"overseer election results {KEY}",
        f"overseer election where {KEY}",
        f"overseer gateway results {QUEUE} 1",
        "overseer journal chain_api --limit 5",
        "overseer verify",
        f"overseer verify-epochs --data-dir {loaded.config.data_dir / NETWORK / 'n1'}",
        "overseer nats-context   # then: nats --context overseer-demo micro ls",
        "nats --context overseer-demo sub 'overseer.>' --translate 'overseer decode'",
    ):
        say(f"  {line}".replace("[", "\\["))
