/* SPDX-License-Identifier: MIT */
/*
 * What QEMU tells of one VM's disks beside their size: what the guest has written, and, before the next tick would see
 * it, that a file has outgrown what it was allowed (block-set-write-threshold). Small replies only.
 *
 *   every tick      watch_ask(), watch_pump() until watch_answered(), the tick, watch_arm()
 *   at any time     watch_warned()
 */
#ifndef EVACUATE_WATCH_H
#define EVACUATE_WATCH_H
#include "monitor.h"
#include "vm.h"

struct watched_disk {
    uint64_t writes, written_bytes;
    uint64_t end_bytes; /* of the overlay's file: where it ends */
    char file_node[64]; /* below the overlay, "" before it is in use */
    uint64_t threshold; /* to be set; 0: is set */
};

struct watch {
    uint32_t disks;
    struct watched_disk disk[VM_DISKS_MAX];
    bool ask;              /* for the counters */
    uint64_t taken_ns;     /* when they were last read; 0: never */
    uint32_t warnings;     /* events already seen */
    char error[FAIL_SIZE]; /* the first refusal, "" if none */
};

/* Wants the counters. */
void watch_ask(struct watch *w);
bool watch_answered(const struct watch *w, const struct monitor *monitor);

/* Wants a warning when the files together grow by `bytes`: each may take its part of it. */
void watch_arm(struct watch *w, uint64_t bytes);

/* Carries on, never waits. */
void watch_pump(struct watch *w, struct monitor *monitor, uint64_t now);

/* Has a file reached its threshold since the last call? */
bool watch_warned(struct watch *w, const struct monitor *monitor);
#endif
