"""`cascade`: marking all descendants of a convicted block, telling them page by page, while others are answered meanwhile."""

import shutil
import time
from hashlib import blake2b
from pathlib import Path

import anyio
from rocksdict import WriteBatch, WriteOptions

from messages.chain_api import Blacklist, ImportBlock, IsBlacklisted
from messages.chain_events import BlockRecorded, ChainStarted, LeavesMoved
from messages.codec import encode
from messages.message import Message
from messages.polkadot import DisputeRef
from messages.subjects import CONTENT_CBOR, HEADER_CONTENT_TYPE, build, request_subject
from overseer.bench.measure import Measure, Report, Sizes, judged
from overseer.bench.site import NODE, OPERATOR, Work, open_site
from overseer.bench.votes import chain_of_bench
from overseer.checks import InlineVerifier
from overseer.nats.exchange import NatsExchange
from overseer.node.folder import NodeFolder
from overseer.node.hosting import open_store
from overseer.rocks.options import open_rocks
from overseer.tables import Overlay, Tables, View
from subsystems.chain_api import ChainApi
from subsystems.chain_api.tables import STATE, BlockRef, block_key, find_block_row, ref_of
from subsystems.chain_api.tree import find_block, skip_of_child
from subsystems.dispute_conclusion import DisputeConclusion

__all__ = ["cascade"]
