"""The judges of peer elections: one model beside each honest node, and who of them may have forgotten something."""

from collections.abc import Sequence

from messages.message import Message
from overseer.runner.schema import Record
from overseer.simulation.checks_course import Archive, CourseChecker
from overseer.simulation.peer_nodes.cast import Play
from overseer.simulation.peer_nodes.model import PeersModel
from overseer.simulation.scenario import Watcher

__all__ = ["Forgetful", "NodeCourse"]

_SUBSYSTEM = "elections"


class Forgetful(Watcher):
    """Which nodes had their stores set back."""

    name = "forgetful"

    def __init__(self) -> None:
        self.nodes: set[str] = set()

    def set_back(self, node: str, subsystem: str, index: int) -> None:
        self.nodes.add(node)


class NodeCourse(CourseChecker[PeersModel]):
    """The course of one node."""

    def __init__(self, play: Play, node: str, archive: Archive, forgetful: set[str]) -> None:
        super().__init__("peers", _SUBSYSTEM, archive, lambda: PeersModel(play, node, archive, forgetful))
        self._node = node

    def recorded(self, node: str, subsystem: str, record: Record, events: Sequence[Message]) -> None:
        if node == self._node:
            super().recorded(node, subsystem, record, events)

    def acknowledged(self, node: str, subsystem: str, line: str, sequence: int) -> None:
        if node == self._node:
            super().acknowledged(node, subsystem, line, sequence)
