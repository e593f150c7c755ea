"""The Bus port in memory: deterministic, without threads, with every fault of the real one at hand."""

from overseer.memory.bus.broker import MemoryBroker
from overseer.memory.bus.exchange import MemoryExchange
from overseer.memory.bus.faults import AppendFault, LineFaults
from overseer.memory.bus.line import MemoryLine
from overseer.memory.bus.stream import MemoryStream

__all__ = ["AppendFault", "LineFaults", "MemoryBroker", "MemoryExchange", "MemoryLine", "MemoryStream"]
