"""`growth`: whether a vote costs more in a large dispute, and an import more in a large database."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from overseer.bench.ballots import Ballots
from overseer.bench.measure import Measure, Report, Sizes, judged
from overseer.bench.site import OPERATOR, Feeder, Site, open_site
from overseer.bench.votes import chain_of_bench, import_votes
from overseer.checks import InlineVerifier, Memo
from overseer.subsystem import Check
from subsystems.votes_db import VotesDb, VotesDbConfig

__all__ = ["growth"]

# Signatures of votes that are only there to fill the database are not checked, and not made.
_UNSIGNED = bytes(64)


class _Trusting(InlineVerifier):
    """Takes every signature for good."""

    def ahead(self, checks: Sequence[Check]) -> Memo:
        memo = Memo(checks)
        memo.learn(checks, [True] * len(checks))
        return memo
