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

#ifdef __cplusplus
}
#endif
#endif
