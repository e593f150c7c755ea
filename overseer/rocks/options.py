"""RocksDB's options: raw bytes, rot refused, memory and logs bounded."""

from collections.abc import Sequence

from rocksdict import AccessType, BlockBasedIndexType, BlockBasedOptions, Cache, DBCompressionType, DBRecoveryMode, Options, Rdict

__all__ = ["open_rocks"]

# All memory tables of a store together: a subsystem's process stays below 90 MB.
_WRITE_BUFFERS_BYTES = 16 * 1024 * 1024
_WRITE_BUFFER_BYTES = 8 * 1024 * 1024
# Blocks, indexes and filters of all tables.
_CACHE_BYTES = 8 * 1024 * 1024
# Bounds the time of recovery (about 100 MB/s), and the disk.
_WAL_BYTES = 32 * 1024 * 1024
# File handles, and with them table readers in memory.
_OPEN_FILES = 256
# Every open leaves a LOG file behind.
_LOGS_KEPT = 4
_LOG_BYTES = 1024 * 1024
_BLOOM_BITS = 10
# A piece of an index or filter.
_METADATA_BLOCK_BYTES = 4096


def _options(cache: Cache, *, create: bool, open_files: int, tolerant: bool) -> Options:
    blocks = BlockBasedOptions()
    blocks.set_block_cache(cache)
    blocks.set_cache_index_and_filter_blocks(True)
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(True)
    blocks.set_bloom_filter(_BLOOM_BITS, False)
    # In pieces: the cache is split into parts of 512 KiB, and the filter of half a million keys is kept in none of them, but read for
    # every row that is looked up (130 us; 15 in pieces).
    blocks.set_index_type(BlockBasedIndexType.two_level_index_search())
    blocks.set_partition_filters(True)
    blocks.set_metadata_block_size(_METADATA_BLOCK_BYTES)
    blocks.set_pin_top_level_index_and_filter(True)
    options = Options(raw_mode=True)
    options.create_if_missing(create)
    options.create_missing_column_families(create)
    options.set_block_based_table_factory(blocks)
    options.set_compression_type(DBCompressionType.lz4())
    # The default mode drops everything behind a flipped bit without a word; this one takes only a torn tail.
    options.set_wal_recovery_mode(DBRecoveryMode.point_in_time() if tolerant else DBRecoveryMode.tolerate_corrupted_tail_records())
    options.set_paranoid_checks(not tolerant)
    options.set_write_buffer_size(_WRITE_BUFFER_BYTES)
    options.set_db_write_buffer_size(_WRITE_BUFFERS_BYTES)
    options.set_max_total_wal_size(_WAL_BYTES)
    options.set_max_open_files(open_files)
    options.set_max_background_jobs(2)
    options.set_keep_log_file_num(_LOGS_KEPT)
    options.set_max_log_file_size(_LOG_BYTES)
    options.set_stats_dump_period_sec(0)
    options.set_stats_persist_period_sec(0)
    return options


def open_rocks(
    path: str,
    tables: Sequence[str],
    *,
    access: AccessType | None = None,
    create: bool = False,
    keep_open: bool = True,
    tolerant: bool = False,
) -> Rdict:
    """Open with these column families beside the default one. Raises whatever rocksdict raises.

    Readers (an `access` type other than read-write) keep every file open, as its owner may remove it under them; with
    `keep_open` false they take it that nobody does, and have no more files open than an owner. `tolerant`, for repairs alone:
    takes the log up to its first damage, and meets damaged tables only when they are read.
    """
    cache = Cache(_CACHE_BYTES)
    few = access is None or not keep_open or tolerant
    options = _options(cache, create=create, open_files=_OPEN_FILES if few else -1, tolerant=tolerant)
    families = {name: _options(cache, create=create, open_files=-1, tolerant=tolerant) for name in tables}
    return Rdict(path, options, column_families=families, access_type=access or AccessType.read_write())
