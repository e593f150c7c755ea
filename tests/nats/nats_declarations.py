"""Three subsystems as far as the accounts and consumers are concerned, with the contract's real messages."""

from messages.chain_api import Blacklist, BlockImported, Descendants, FinalizeBlock, GetHeader, ImportBlock
from messages.dispute_conclusion import DescendantsAnswer, Detection, GetConclusion
from messages.signals import ActiveLeaves, SessionChange
from messages.votes_db import Dispute, DisputeStatusChanged, QueryVotes, RegisterVote
from overseer.subsystem import Declaration

NODE = "alpha"

VOTES_DB = Declaration(
    name="votes_db",
    description="Votes",
    consumes=(RegisterVote, SessionChange, BlockImported, Dispute),
    sends=(DisputeStatusChanged, Detection, Dispute),
    answers=(QueryVotes,),
    requests=(RegisterVote,),
    events=(),
    tables=(),
)

DISPUTE_CONCLUSION = Declaration(
    name="dispute_conclusion",
    description="Conclusions",
    consumes=(Detection, DescendantsAnswer, SessionChange),
    sends=(Blacklist, Descendants),
    answers=(GetConclusion,),
    restricted={Detection: ("votes_db",), DescendantsAnswer: ("chain_api",)},
    events=(),
    tables=(),
)

CHAIN_API = Declaration(
    name="chain_api",
    description="The block tree",
    consumes=(ImportBlock, FinalizeBlock, Blacklist, Descendants),
    sends=(BlockImported, SessionChange, ActiveLeaves, DescendantsAnswer),
    answers=(GetHeader,),
    requests=(ImportBlock, FinalizeBlock),
    restricted={Blacklist: ("dispute_conclusion",), Descendants: ("dispute_conclusion",)},
    events=(),
    tables=(),
)

DECLARATIONS = (VOTES_DB, DISPUTE_CONCLUSION, CHAIN_API)
