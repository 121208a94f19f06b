/* SPDX-License-Identifier: MIT */
#ifndef MIGBUF_COW_H
#define MIGBUF_COW_H
/**
 * @file cow.h
 * Sizes of overlays and of Ω, the volume they lie in. LXD and Incus remove an overlay's name before QEMU opens it. So
 * the host keeps a duplicate of its descriptor and asks that.
 *
 *   once:       migbuf_cow_filesystem(fd of Ω, &fs)        whom to believe
 *   each tick:  migbuf_cow_sizes(fds, n, fs.flags, sizes)  all overlays in one pass
 *   at times:   migbuf_cow_volume(fd of Ω, &volume)        what it says beyond
 *                                                          their sum is not ours,
 *                                                          or not counted
 *
 * From QEMU's replies the same figure comes through report.h: migbuf_report_nodes (actual-size, what fstat says) or,
 * for an overlay on a block device, migbuf_report_all_writes (wr_highest_offset).
 *
 * System calls, no state. Any thread.
 *
 * Link with -lmigbuf.
 */
#include "migbuf/error.h"

#ifdef __cplusplus
extern "C" {
#endif

/**
 * Allocated bytes of an open file (st_blocks * 512): what it takes from Ω.
 *
 * The kernel counts no blocks of a block device. For an overlay on one, take file_highest_offset of
 * migbuf_report_all_writes(). Errors: MIGBUF_E_SYSTEM, MIGBUF_E_INVALID, MIGBUF_E_UNSUPPORTED for what is no file.
 * Test: test_cow, an_unlinked_file_is_measured; test_cow, what_is_no_file_has_no_size
 */
MIGBUF_API int migbuf_cow_file_bytes(int fd, uint64_t *bytes, struct migbuf_error *error);

/** The block count follows seconds after the writes: a larger length is believed instead. */
#define MIGBUF_COW_LAGS 1u
/**
 * Files may take less from Ω than their count (btrfs counts what was written). Or they are counted as compressed and
 * may grow when they are written to again (zfs).
 */
#define MIGBUF_COW_COMPRESSES 2u
/** The block count may hold room beyond the end that is given back later. */
#define MIGBUF_COW_PREALLOCATES 4u
/**
 * A rewrite takes new room before the old is freed, and sometimes the old is not freed at all. So a file can take more
 * from Ω than its own count says. Only statvfs knows.
 */
#define MIGBUF_COW_COPIES 8u
/** Not a local file system this library knows: nothing is sure of its counts. */
#define MIGBUF_COW_UNKNOWN 16u

/** What a file system's figures are worth. A record. */
struct migbuf_filesystem {
    char name[16];  /**< "ext4", "xfs", "btrfs", "zfs", "tmpfs", …; "" when not known */
    uint32_t magic; /**< statfs's f_type */
    uint32_t flags; /**< MIGBUF_COW_… */
};

/**
 * The file system of an open file or directory, and what its figures are worth. btrfs compresses when its mount says so
 * (/proc/self/mountinfo, where it can be read) or the file's attributes do. Linux.
 *
 * What happens when it is full is another question: migbuf_cow_when_full. Source: statfs(2), btrfs(5), and measured on
 * ext4, xfs, btrfs and tmpfs; zfs from its documentation (st_blocks at the end of a transaction group, 5 s).
 * Errors: MIGBUF_E_SYSTEM, MIGBUF_E_INVALID, MIGBUF_E_UNSUPPORTED for what is neither (a device lies in the file system
 * of /dev).
 * Test: test_cow, kinds_of_file_systems
 */
MIGBUF_API int migbuf_cow_filesystem(int fd, struct migbuf_filesystem *filesystem, struct migbuf_error *error);

/**
 * What each of these open files takes from Ω: allocated bytes, or the length where that is larger and `flags` has
 * MIGBUF_COW_LAGS. (Too much for a sparse file with extended_l2, never too little.) All in one pass, all or none.
 * Errors: as migbuf_cow_file_bytes, with the index of the file in error->need.
 * Test: test_cow, all_files_in_one_pass
 */
MIGBUF_API int migbuf_cow_sizes(const int32_t *fds, size_t count, uint32_t flags, uint64_t *bytes,
                                struct migbuf_error *error);

/** A volume. A record. */
struct migbuf_volume {
    uint64_t size_bytes; /**< the filesystem's blocks, used and free */
    uint64_t free_bytes; /**< free for everybody, the superuser's reserve not counted */
    uint64_t used_bytes; /**< size minus free: what files and metadata take */
};

/**
 * Ω as its filesystem sees it (statvfs), by any descriptor in it. Ω for migbuf_buffer_new is `free_bytes` of the empty
 * volume: a 10 GiB ext4 has 9.75 GiB, 9.23 for others than root. Errors: MIGBUF_E_SYSTEM, MIGBUF_E_INVALID,
 * MIGBUF_E_UNSUPPORTED for what is neither a directory nor a file.
 * Test: test_cow, a_volume_is_what_statvfs_says
 */
MIGBUF_API int migbuf_cow_volume(int fd, struct migbuf_volume *volume, struct migbuf_error *error);

/** ENOSPC: QEMU stops the guest, and `cont` repeats the write when there is room. */
#define MIGBUF_FULL_STOPS 1
/** A quota, EDQUOT: QEMU tells the guest of an I/O error and lets it run on. */
#define MIGBUF_FULL_FAILS 2
/** It cannot be told. Take it for the latter. */
#define MIGBUF_FULL_UNKNOWN 3

/** What a volume does when it is full. A record. */
struct migbuf_full {
    int32_t kind;        /**< MIGBUF_FULL_… */
    int32_t reserved; /**< 0 */
    uint64_t free_bytes; /**< what one file in it could take now; may be less than is free in the filesystem */
};

/**
 * What a write gets that finds no room in this directory (an open descriptor of it), and how much room there is. Ask
 * when the volume is set up, while nobody uses it: where it has to be tried, all of its room is taken for some
 * milliseconds.
 *
 * QEMU stops a guest for ENOSPC only. Over a quota the guest's writes fail, and what it was told is lost may be. So
 * where a quota bounds the volume, Ω is `free_bytes` less a margin, and no migration goes without a limit.
 *
 * | file system | how it is known |
 * |---|---|
 * | ZFS | answers EDQUOT (a dataset's quota) |
 * | ext4, XFS | a directory with a project id may answer EDQUOT, one without answers ENOSPC; quotas of users are not looked at: a volume for migrations has none |
 * | tmpfs | answers ENOSPC |
 * | others, as btrfs | by trying: a nameless file is allocated as large as it can get, and what the next larger size fails with counts |
 * | without nameless files (FUSE, NFS) | nothing is tried: MIGBUF_FULL_UNKNOWN, and free_bytes is what is free |
 *
 * Source: block/block-backend.c of QEMU (blk_get_error_action), measured on btrfs quota groups; ours. Errors:
 * MIGBUF_E_INVALID, MIGBUF_E_SYSTEM (no directory, no permission to write there).
 * Test: test_cow, a_full_volume_is_told_before; test_cow, where_it_cannot_be_tried_it_is_unknown
 */
MIGBUF_API int migbuf_cow_when_full(int dir_fd, struct migbuf_full *full, struct migbuf_error *error);

#ifdef __cplusplus
}
#endif
#endif
