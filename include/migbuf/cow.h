/* SPDX-License-Identifier: MIT */
#ifndef MIGBUF_COW_H
#define MIGBUF_COW_H
/**
 * @file cow.h
 * Sizes of overlays and of Ω. LXD and Incus remove an overlay's name before QEMU opens it, so the host keeps a duplicate of
 * its descriptor and asks that. From QEMU's replies the same figure comes through report.h.
 *
 * System calls, no state. Any thread.
 */
#include "migbuf/error.h"

#ifdef __cplusplus
extern "C" {
#endif

/** Allocated bytes of an open file (st_blocks * 512): what it takes from Ω. Errors: MIGBUF_E_SYSTEM. */
MIGBUF_API int migbuf_cow_file_bytes(int fd, uint64_t *bytes, struct migbuf_error *error);

/** A volume. A record. */
struct migbuf_volume {
    uint64_t size_bytes; /**< the filesystem's blocks, used and free */
    uint64_t free_bytes; /**< free for everybody, the superuser's reserve not counted */
    uint64_t used_bytes; /**< size minus free: what files and metadata take */
};

/**
 * Ω as its filesystem sees it (statvfs), by any descriptor in it. Ω for migbuf_buffer_new is `free_bytes` of the empty
 * volume: a 10 GiB ext4 has 9.75 GiB, 9.23 for others than root. Errors: MIGBUF_E_SYSTEM.
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
    int32_t reserved;
    uint64_t room_bytes; /**< what one file in it could take now; may be less than is free in the filesystem */
};

/**
 * What a write gets that finds no room in this directory (an open descriptor of it), and how much room there is. Ask when
 * the volume is set up, while nobody uses it: all of its room is taken for some milliseconds.
 *
 * QEMU stops a guest for ENOSPC only. Over a quota its writes fail, and what it was told is lost may be. So where a quota
 * bounds the volume, Ω is `room_bytes` less a margin, and no migration goes without a limit.
 *
 * By what is known: ZFS answers EDQUOT (a dataset's quota), ext4 and XFS directories with a project id may, a tmpfs ENOSPC.
 * Else by trying: a nameless file is allocated as large as it can get, and what the next larger size fails with counts.
 * Source: block/block-backend.c of QEMU (blk_get_error_action), measured on btrfs quota groups; ours.
 * Errors: MIGBUF_E_INVALID, MIGBUF_E_SYSTEM (no directory, no permission to write there).
 */
MIGBUF_API int migbuf_cow_when_full(int dir_fd, struct migbuf_full *full, struct migbuf_error *error);

#ifdef __cplusplus
}
#endif
#endif
