"""What goes wrong between sites, and between a site and the log, at a moment: shares of what is said, and who hears whom."""

import msgspec

__all__ = ["LOG", "Weather"]

# The name of the log (and of the topology's board, which is where the log is) among those who hear each other.
LOG = "log"


class Weather(msgspec.Struct):
    """`lost`, `slow`, `doubled`, `outdated`: the share of messages that get lost, take their time, arrive twice; of reads of the
    log that a deposed server answers. Sites of different `groups` do not hear each other; the log is with `log_group`.
    `cuts`: (from, to) that are cut in this direction alone.
    """

    lost: float = 0.0
    slow: float = 0.0
    doubled: float = 0.0
    outdated: float = 0.0
    groups: dict[str, int] = {}
    log_group: int = 0
    log_down: bool = False
    cuts: set[tuple[str, str]] = set()

    def hears(self, sender: str, receiver: str) -> bool:
        """Whether what `sender` says arrives at `receiver`, either of which may be the log."""
        if LOG in (sender, receiver) and self.log_down:
            return False
        return self._group(sender) == self._group(receiver) and (sender, receiver) not in self.cuts

    def reaches(self, site: str, other: str) -> bool:
        """There and back."""
        return self.hears(site, other) and self.hears(other, site)

    def _group(self, name: str) -> int:
        return self.log_group if name == LOG else self.groups.get(name, 0)

    def troubled(self, share: float) -> None:
        """The same share of everything."""
        self.lost = self.slow = self.doubled = self.outdated = share

    def calm(self) -> None:
        self.troubled(0.0)
        self.groups, self.cuts, self.log_group, self.log_down = {}, set(), 0, False
