/* SPDX-License-Identifier: MIT */
/*
 * What the writing guest (guest.c) and the host (writer.c) agree on: where the status block is, what a written sector
 * looks like, and which slot the n-th write goes to. Freestanding: no libc here.
 */
#ifndef EVACUATE_GUEST_H
#define EVACUATE_GUEST_H
#include <stdint.h>

#define GUEST_STATUS_ADDRESS 0x600u /* in guest memory, below everything the firmware uses */
#define GUEST_STATUS_BYTES 0x100u   /* from one disk's block to the next one's */
#define GUEST_MAX_DISKS 2
#define GUEST_MAGIC 0x4b41424du /* "MBAK" in the status block once the guest runs */
#define GUEST_MAX_DEPTH 32
#define GUEST_MAX_SECTORS 2048
#define GUEST_BUCKETS 16
#define GUEST_BUFFERS 0x400000u /* write buffers start here, disks * depth * sectors * 512 bytes of them */
/* What it writes to in memory for no reason but that it must be sent again starts on the page after them. */
#define GUEST_DIRTY(disks, depth, sectors) ((GUEST_BUFFERS + (disks) * (depth) * (sectors)*512u + 4095u) & ~4095u)

/*
 * Of one disk; each has a writer of its own. Exact when the VM is stopped. Write n is acknowledged if and only if 1 <=
 * n <= issued and n is not in in_flight[]. Why that holds whatever instruction the stop falls on: the guest puts n into
 * in_flight[], then raises `issued`, and only then tells the device; it takes n out of in_flight[] after it has seen
 * the device's success. So what the device may still be working on is always in in_flight[] (which may hold one n above
 * `issued`), and what is not there is done.
 */
struct guest_status {
    uint32_t magic;
    uint32_t acked;       /* every write 1..acked is acknowledged */
    uint32_t issued;      /* number of the newest write */
    uint32_t failed;      /* attempts the device refused; each is repeated until it succeeds */
    uint32_t last_status; /* virtio-blk or SCSI status of the last refusal */
    uint32_t longest_ms;  /* of an acknowledged write, from first submission, repetitions included */
    uint32_t acknowledged;
    uint32_t uptime_ms; /* guest clock, as of its last wake-up: it stands while the VM is stopped, as all times here */
    uint32_t latency[GUEST_BUCKETS]; /* acknowledged writes that took < 1 ms, < 2, < 4, ... < 16384, longer */
    uint32_t in_flight[GUEST_MAX_DEPTH];
};

/* The head of every written sector; the rest of the 512 bytes is GUEST_PAYLOAD. */
struct guest_sector {
    uint32_t magic;   /* GUEST_SECTOR_MAGIC */
    uint32_t write;   /* n */
    uint32_t lba;     /* where on the disk */
    uint32_t index;   /* which sector of the write */
    uint32_t inverse; /* ~n */
    uint32_t id;      /* which guest */
};
#define GUEST_SECTOR_MAGIC 0x4655424du /* "MBUF" */
#define GUEST_PAYLOAD 0x5a

/* What tells disk k's writer from disk 0's. */
#define GUEST_ID(id, k) ((id) + ((k) << 16))
#define GUEST_SEED(seed, k) ((seed) + (k)*0x9e3779b9u)

struct guest_generator {
    uint32_t window, random, count, state;
};

/* The slot of the next write: 0, 1, ... window - 1, 0, ... or a linear congruential generator scaled to the window. */
static inline uint32_t guest_next_slot(struct guest_generator *generator)
{
    uint32_t count = generator->count++;

    if (!generator->random)
        return count % generator->window;
    generator->state = generator->state * 1664525u + 1013904223u;
    return (uint32_t)((uint64_t)generator->state * generator->window >> 32);
}
#endif
