/* SPDX-License-Identifier: MIT */
/*
 * One VM under guard: its second monitor, the throttle of the disks that move with it, and a buffer that is its own state
 * volume.
 * Knows nothing of the server. Every call takes at most a few seconds and never fails the program: what goes wrong is a
 * sentence in `error`, and the next tick tries again.
 */
#ifndef GUARD_GUARDED_H
#define GUARD_GUARDED_H
#include "fail.h"
#include "migbuf/history.h"
#include "migbuf/lxd.h"
#include "migbuf/migbuf.h"
#include "migbuf/qmp_socket.h"
#include "migbuf/report.h"
#include "saved.h"
#include <stdbool.h>

/* What lies in a state volume beside an overlay and cannot be seen from here: agent, firmware variables, configuration. */
#define GUARDED_OTHER_BYTES (UINT64_C(64) << 20)

/* What the servers move with a VM: its root disk, and with Incus what is called dependent. */
#define GUARDED_DISKS 16

/* As many of the server's operations belong to one migration; a move between members of a cluster has two. */
#define GUARDED_OPERATIONS 4

struct guarded_disk {
    struct migbuf_lxd_names names; /* by the server's rule; device "": by its node alone */
    char base[64], qdev[512];      /* its node without an overlay, and its device, as QEMU has them; qdev "": not there */
    char top[64];                  /* when it was found */
    uint64_t virtual_bytes;
    uint64_t written_bytes;        /* by the guest, as it was seen last */
};

struct guarded {
    char project[MIGBUF_LXD_NAME], name[MIGBUF_LXD_NAME];
    char monitor[128];        /* path of the second monitor */
    char saved[256 + SAVED_NAME];   /* where the host's own limits are kept while ours are in force */
    struct guarded_disk disks[GUARDED_DISKS];
    uint32_t disk_count;        /* those that move with it; the first is its root disk */
    uint64_t state_bytes, other_bytes, omega_bytes, overlay_bytes, reserve_bytes;
    uint64_t limit_bytes_per_s; /* growth; UINT64_MAX: none */
    int32_t action, reason;     /* of the last decision; 0 before the first */
    bool dry;                   /* look, decide, change nothing */
    bool tight;                 /* its volume has not the room for the worst that a drain may pour */
    bool overlay;               /* it has one */
    bool limited, stopped;      /* by us, now */
    uint64_t text_revision;     /* of what is in `saved` */
    bool gone;                  /* QEMU has ended, or the VM runs elsewhere */
    bool silent;                /* an answer did not come in time, and has not come since */
    bool seen;                  /* the server still lists the migration */
    bool elsewhere;             /* another member of the cluster runs it */
    char operations[GUARDED_OPERATIONS][MIGBUF_LXD_NAME]; /* the server's ids of the migration, as it listed them last */
    uint32_t operation_count;
    bool carried_out;           /* one of them has ended, and well */
    uint64_t told_ms, ask_ms;   /* when the server told whether it was carried out; when it is asked next what became of it */
    bool ended, given_back;     /* by guarded_end */
    /* What was done so far. */
    uint64_t decisions, pauses, paused_ms, watched_ms, peak_bytes;
    bool had_overlay, had_mirror;
    bool was_held;              /* a limit of ours came near to what it wrote: how much it would write is not known then */
    uint64_t written_first, written_last, overlay_ms; /* counters of its disks under the overlays, and how long that was there */
    uint64_t tick_ms;
    struct migbuf_link link;
    struct migbuf_link_flow flow;
    struct migbuf_qmp_socket *socket;
    struct migbuf_disk *disk;
    struct migbuf_buffer *buffer;
    char error[FAIL_SIZE];
};

/* Finds the path of a second monitor in raw.qemu: "-qmp unix:PATH,...". False: there is none. */
bool guarded_monitor(const char *raw_qemu, char path[128]);

/*
 * Connects, finds the disks, learns their own limits (or takes them from `saved`, left by a guard that was killed) and admits
 * the migration to a buffer of what the state volume can hold. -1: not now.
 */
int guarded_start(struct guarded *g, uint32_t interval_ms);

/* Measures, decides, carries out. -1 with g->error when something did not work. */
int guarded_tick(struct guarded *g, uint64_t now_ms);

/* Its parts that need no QEMU. */

/* The device of one of its disks in what query-blockstats returned: qdev, the node on top, and the node without an overlay. Of
 * the device by its id, or of the one whose chain of backing files has the node. False: it is not there. */
bool guarded_find(const char *blockstats, const struct migbuf_lxd_names *names, char qdev[512], char top[64], char base[64]);

/* Is `top` an overlay of a migration over `base`? Incus' own layers over it are none: "incus_root_overlay1". */
bool guarded_is_overlay(const char *base, const char *top);

/* Largest request and most that a drain may pour, for a device in front of its part of a volume; true: less than the worst, for
 * that has not the room. */
bool guarded_figures(const char *qdev, uint64_t part_bytes, struct migbuf_geometry *disk);

/* A measurement of one of its disks. What was written before the overlay was there went to the disk and is no growth (buffer.h). */
struct migbuf_sample guarded_sample(bool overlay, uint64_t overlay_bytes, const struct migbuf_write_report *writes);

/* What the server's progress says about the link, bytes sent so far. */
void guarded_sent(struct guarded *g, uint64_t now_ms, uint64_t bytes);

/* One line for its history, but for what became of it: outcome and why are for the caller. */
void guarded_attempt(const struct guarded *g, struct migbuf_attempt *a);

/* It has ended: the overlay is gone (moved, or committed back), as of the last tick; or its QEMU is, and the server is done with it. */
bool guarded_is_over(const struct guarded *g);

/* Gives the host's limits back, lets the guest run, and closes. -1: they could not be given back now, and `saved` stays; to be
 * called again until they are. */
int guarded_end(struct guarded *g);

/* Of one that is given up, whether its limits came back or not: another connection to its monitor may be made then. */
void guarded_close(struct guarded *g);
#endif
