/* SPDX-License-Identifier: MIT */
/*
 * One VM under guard: its second monitor, the throttle of its root disk, and a buffer that is its own state volume.
 * Knows nothing of the server. Every call takes at most a few seconds and never fails the program: what goes wrong is a
 * sentence in `error`, and the next tick tries again.
 */
#ifndef GUARD_GUARDED_H
#define GUARD_GUARDED_H
#include "fail.h"
#include "migbuf/lxd.h"
#include "migbuf/migbuf.h"
#include "migbuf/qmp_socket.h"
#include <stdbool.h>

/* What lies in a state volume beside an overlay and cannot be seen from here: agent, firmware variables, configuration. */
#define GUARDED_OTHER_BYTES (UINT64_C(64) << 20)

struct guarded {
    char project[MIGBUF_LXD_NAME], name[MIGBUF_LXD_NAME];
    char monitor[128];        /* path of the second monitor */
    char saved[512];          /* where the host's own limits are kept while ours are in force */
    char node[32], qdev[512]; /* the root disk before the overlay, and its device */
    uint64_t state_bytes, other_bytes, omega_bytes, overlay_bytes, reserve_bytes;
    uint64_t limit_bytes_per_s; /* growth; UINT64_MAX: none */
    int32_t action, reason;     /* of the last decision; 0 before the first */
    bool dry;                   /* look, decide, change nothing */
    bool tight;                 /* its volume has not the room for the worst that a drain may pour */
    bool overlay;               /* it has one */
    bool limited, stopped;      /* by us, now */
    uint64_t text_revision;     /* of what is in `saved` */
    bool gone;                  /* QEMU has ended, or the VM runs elsewhere */
    bool seen;                  /* the server still lists the migration */
    uint64_t decisions;
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
 * Connects, learns the disk's own limits (or takes them from `saved`, left by a guard that was killed) and admits the
 * migration to a buffer of what the state volume can hold. `root`: node names the root disk may have. -1: not now.
 */
int guarded_start(struct guarded *g, const char *const *nodes, size_t count, uint32_t interval_ms);

/* Measures, decides, carries out. -1 with g->error when something did not work. */
int guarded_tick(struct guarded *g, uint64_t now_ms);

/* What the server's progress says about the link, bytes sent so far. */
void guarded_sent(struct guarded *g, uint64_t now_ms, uint64_t bytes);

/* The overlay is gone (moved, or committed back), as of the last tick. */
bool guarded_is_over(const struct guarded *g);

/* Gives the host's limits back, lets the guest run, closes and forgets. -1: they could not be given back; `saved` stays. */
int guarded_end(struct guarded *g);
#endif
