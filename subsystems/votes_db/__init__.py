"""`votes_db`: every dispute vote of every validator for a fixed number of sessions."""

from subsystems.votes_db.declaration import DECLARATION, VotesDbConfig
from subsystems.votes_db.subsystem import VotesDb

__all__ = ["DECLARATION", "VotesDb", "VotesDbConfig"]
