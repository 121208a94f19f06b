/* SPDX-License-Identifier: MIT */
/*
 * The host's side of the writing guest (guest.c): its parameters, its first disk, its status block, and the check that
 * no acknowledged write is missing from a disk.
 */
#ifndef EVACUATE_WRITER_H
#define EVACUATE_WRITER_H
#include "fail.h"
#include "guest.h"
#include <stdbool.h>

/*
 * Each disk has a writer of its own with the same numbers, but for its seed and id. It writes whole slots: slot s is
 * the `sectors` sectors from start + s * sectors. A `start` that is not a multiple of the cluster (or of 8) makes every
 * write unaligned. Working set: window * sectors * 512 bytes.
 */
struct writer_params {
    uint32_t sectors; /* of 512 bytes in one write, 1 .. 2048 */
    uint32_t window;  /* number of slots, 1 .. 2^28 */
    uint32_t start;   /* first sector of slot 0 */
    uint32_t random;  /* 0: slot after slot, round and round; 1: random slots */
    uint32_t seed;    /* of the random slots */
    uint32_t depth;   /* writes in flight, 1 .. 32 */
    uint32_t pace;    /* writes a second, 0: as fast as it goes, .. 100000 */
    uint32_t on_ms;   /* bursts: writes for on_ms, pauses for off_ms, .. 3600000; off_ms 0: never pauses */
    uint32_t off_ms;
    uint32_t count; /* stops after that many writes; 0: never */
    uint32_t id;    /* stands in every sector, so that a sector of another guest's disk is told from one of ours */
    uint32_t
        base_sectors; /* sectors [0, base_sectors) of the new disk hold data, the rest is a hole; not for the guest */
    uint32_t more_disks; /* besides the first, .. 1 */
    uint32_t dirty_pages_per_s; /* writes to its memory, page after page, .. 10000000 */
    uint32_t dirty_pages;       /* so many of them, round and round, .. 262144 (1 GiB); 0: none */
};

void writer_params_init(struct writer_params *params);

/* As the writer of disk `disk` has them: to make that disk and to check it. */
struct writer_params writer_of_disk(const struct writer_params *params, uint32_t disk);

/* Are the numbers in range, and does the window fit a disk of that many bytes? */
int writer_params_check(const struct writer_params *params, uint64_t disk_bytes, char error[FAIL_SIZE]);

/* Memory the VM needs for this guest: 16 MiB, more for deep queues of large writes. Source and target need the same. */
uint32_t writer_ram_mib(const struct writer_params *params);

/* The text for QEMU's -append. -1 when `size` is too small (256 is enough). */
int writer_append(const struct writer_params *params, char *text, size_t size);

/*
 * How many writes a writer with a pace makes in `ms` when nothing holds it, from `from_ms` of the guest's clock on:
 * pace times the time it is on. 0 without a pace: as fast as it goes. Example: 16 a second, on 1000, off 2000, from
 * 500: 8 in 2500 ms, 16 in 3000.
 */
uint64_t writer_demand(const struct writer_params *params, uint32_t from_ms, uint32_t ms);

/* Makes an open, empty file the guest's disk: base_sectors of recognisable, incompressible data, then a hole. */
int writer_disk_make(int fd, const struct writer_params *params, uint64_t disk_bytes, char error[FAIL_SIZE]);

/*
 * Reads the status block from an open memory file (memory-backend-file, share=on) without disturbing the VM, about 1
 * us. pread and not mmap: a memory file that is cut short gives a failure here instead of SIGBUS. 1: the guest runs and
 * *status is written; 0: not yet; -1: failed. While the VM runs, each number is right but they may be a moment apart;
 * for writer_check() the VM must be stopped. Times are guest times: a stop of the VM is not in them, so whoever wants
 * the longest time without an acknowledgement as a user sees it must watch `acknowledged` against the wall clock.
 */
int writer_status(int memory_fd, struct guest_status *status, char error[FAIL_SIZE]);
/* The same of any disk; above is disk 0's. */
int writer_disk_status(int memory_fd, uint32_t disk, struct guest_status *status, char error[FAIL_SIZE]);

struct writer_result {
    uint64_t slots;   /* with at least one acknowledged write */
    uint64_t sectors; /* looked at */
    uint64_t lost;    /* an older version, base data or zeros where an acknowledged write must be */
    uint64_t foreign; /* what nobody wrote there: wrong place, wrong guest, a version never issued, damaged */
    uint64_t base;    /* outside the written slots: base data missing */
    uint64_t torn;    /* slots part old, part new because of an unacknowledged write: allowed, only counted */
    uint64_t first_bad_lba;
    char first_bad[160]; /* one sentence about it; empty when all is well */
};

/*
 * Compares a raw disk image with what a guest with these parameters has been told. Law: for each slot let a be its
 * newest acknowledged write (the base, if none) and p the write to it in flight, if any. Every sector of the slot is
 * then a's or p's; without p it is a's. There is one p at most, and it is newer than a, because the guest never has two
 * writes to one slot in flight. A sector outside such slots is as writer_disk_make() left it.
 *
 * One pass over the image, 8 bytes of memory per slot of the window at most. Returns 0 when the image could be read,
 * whatever was found; good means lost + foreign + base == 0. `status` as read while the VM was stopped.
 */
int writer_check(int fd, const struct writer_params *params, const struct guest_status *status,
                 struct writer_result *result, char error[FAIL_SIZE]);
static inline bool writer_good(const struct writer_result *result)
{
    return result->lost + result->foreign + result->base == 0;
}
#endif
