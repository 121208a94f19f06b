/* SPDX-License-Identifier: MIT */
/*
 * What every host that uses migbuf writes for itself: measured sizes go into the buffer, its decisions go to the
 * guests' throttles. This file is the example to copy; it knows monitors, descriptors and a link, but not how a VM is
 * migrated.
 *
 *   admitted?                  control_add()        then throttle_pump() until idle: the first limit, BEFORE the
 * overlay a drain has completed      control_drained() every tick                 control_tick()       sample, link,
 * tick, apply between ticks              throttle_pump(), throttle_run_or_stop() the overlay is deleted
 * control_remove()
 *
 * Before a tick, control_look() asks every QEMU what its guest has written and which limits are in force; a tick is
 * early when a file has outgrown its claim, control_is_due().
 */
#ifndef EVACUATE_CONTROL_H
#define EVACUATE_CONTROL_H
#include "link.h"
#include "migbuf/convergence.h"
#include "migbuf/migbuf.h"
#include "monitor.h"
#include "watch.h"
#include "vm.h"

/* mirror: no overlay and no buffer, each write goes to both hosts before the guest is told of it. hybrid: planner, and
 * the guests that would lose by an overlay are mirrored. lxd and bradford: what an
 * extension does to the guests (extension.h), nothing here. free: nobody begins to move before --window is over. */
enum policy {
    POLICY_PAPER,
    POLICY_LITERAL,
    POLICY_FIXED,
    POLICY_NONE,
    POLICY_PLANNER,
    POLICY_MIRROR,
    POLICY_HYBRID,
    POLICY_LXD,
    POLICY_BRADFORD,
    POLICY_FREE
};

/* Of one VM under hybrid: as is advised, or as somebody has said. */
enum way { WAY_ADVISED, WAY_MIRROR, WAY_OVERLAY };

/* Does it limit anybody? */
static inline bool policy_throttles(enum policy policy)
{
    return policy == POLICY_PAPER || policy == POLICY_LITERAL || policy == POLICY_FIXED || policy == POLICY_PLANNER ||
           policy == POLICY_HYBRID;
}

/* Does a guest that found no room go on when there is some, before it is at its target? */
static inline bool policy_goes_on(enum policy policy)
{
    return policy != POLICY_NONE && policy != POLICY_LXD;
}

/* One VM under control. */
struct throttle {
    uint64_t id;
    uint32_t route;           /* of the control's: which link it leaves over */
    struct monitor *monitor;  /* of the source */
    struct migbuf_disk *disk; /* of all its disks: one throttle group, one budget */
    uint32_t disks;
    struct migbuf_geometry geometry[VM_DISKS_MAX];
    uint64_t left_bytes[VM_DISKS_MAX]; /* still to send, of the base or of the overlay: its migration tells */
    int overlay_fd[VM_DISKS_MAX]; /* our own descriptors of the overlays, which have no name; -1 before they exist */
    bool added;                   /* in the buffer */
    enum way way;
    bool mirrored;                /* it has no overlay and takes no room; else it is throttled as decided */
    bool can_change;              /* its QEMU can change a mirror that runs */
    double seen_bytes_per_s, seen_writes_per_s; /* of its guest, all disks; 0: not seen */
    uint64_t counted_ns, counted_bytes, counted_writes; /* what was told when these were last reckoned */
    double hold_bytes_per_s;      /* a mirror catches up: its guest is held to this; 0: it is not */
    bool stop_wanted;             /* decided: it must not write now */
    bool untold;                  /* the buffer does not know yet what became of the last limits */
    bool ram_waits, ram_goes;     /* its memory waits for its link, or has it */
    double ram_s;                 /* how long its memory takes, as far as can be told before; > 0 */
    uint64_t ram_until_ns;        /* it waits for its turn no longer than that */
    uint64_t rate_bytes_per_s;    /* what its guest wrote in earlier migrations, 0: nothing is known */
    bool hands_off;               /* its migration stops and starts the guest now, we do not */
    struct watch watch;
    bool unwatched;                  /* its overlays have just come into use */
    struct migbuf_decision last;     /* action 0 before the first */
    int32_t command;                 /* kind of the disk's command under way */
    uint64_t file_bytes;             /* of the overlays, as of the last sample */
    uint64_t decided_ns, slowest_ns; /* from a lower limit decided until it was in force */
    uint64_t cont_ns;                /* when a guest without room was last let go on */
    uint32_t pauses;
    bool went_on;               /* after it had found no room, and some was made */
    uint64_t reserve_bytes;     /* the most that was kept free for its drains */
    uint64_t leak_bytes;        /* the most that came through one of them */
    uint64_t before_stop_bytes; /* of its overlays, when it was told to stop */
    int32_t taken_over;         /* times another hand changed the limits */
    uint64_t taken_over_ticks;  /* at which tick, and how many it took until ours were back */
    uint64_t slowest_back_ticks;
};

/* A link, and what it is known to carry. */
struct route {
    struct link *link;
    uint64_t bytes, waited_ns, since_ns; /* at the last tick */
    uint64_t bytes_per_s;                /* U as last measured; 0: not yet */
};
#define CONTROL_LINKS_MAX 8
#define CONTROL_LINK(route) (1 + (uint64_t)(route)) /* its number for the buffer */

/* All VMs of one run. */
struct control {
    enum policy policy;
    uint64_t fixed_bytes_per_s;   /* POLICY_FIXED: growth */
    struct migbuf_buffer *buffer; /* NULL: fixed, none, mirror */
    struct migbuf_buffer *queue;  /* knows who runs, so that it tells who is next: the buffer, or one for this alone */
    struct route route[CONTROL_LINKS_MAX];
    uint32_t routes;
    int32_t admission;         /* MIGBUF_ADMISSION_…; 0: everybody starts at once */
    struct throttle **member;  /* in the buffer, in order of start */
    struct throttle **waiting; /* for their turn, in the order of asking */
    size_t waits;
    struct migbuf_waiting *in_line;    /* the same, described */
    struct migbuf_admission_turn *turn;
    struct migbuf_ram_turn *ram_turn;
    uint32_t *ram_order;
    struct migbuf_sample *sample;
    struct migbuf_decision *decision;
    size_t members, room;
    uint64_t refused;         /* decisions that QEMU did not take, or nobody knows whether it did */
    bool fails_when_full;     /* the volume: guests are stopped before */
    uint64_t ticks, warnings; /* warnings: ticks that a file asked for */
    bool recorded;            /* there is a record (state.h) */
    bool unrecorded;          /* it does not know the last decisions yet: nothing of them is sent before */
};

/* `room`: how many VMs there will be at most; `links` is 1 to CONTROL_LINKS_MAX. The links stay the caller's. */
int control_new(struct control *c, enum policy policy, uint64_t fixed_bytes_per_s, uint64_t omega_bytes,
                uint32_t tick_ms, size_t room, struct link *const link[], uint32_t links,
                char error[FAIL_SIZE]);
void control_free(struct control *c);

int throttle_new(struct throttle *t, uint64_t id, uint32_t route, struct monitor *monitor, uint32_t disks, bool typed,
                 char error[FAIL_SIZE]);
void throttle_free(struct throttle *t);

/*
 * After a restart, from what the record kept. The buffer, instead of the empty one of control_new(); each throttle, in
 * the place of throttle_new(); and, when QEMU has told the disk machine what is in force, that the buffer must know it.
 */
int control_load(struct control *c, const char *text, size_t length, uint64_t now, char error[FAIL_SIZE]);
int throttle_load(struct throttle *t, uint64_t id, uint32_t route, struct monitor *monitor, uint32_t disks,
                  const char *text, size_t length, char error[FAIL_SIZE]);
void control_join(struct control *c, struct throttle *t);
int control_found(struct control *c, struct throttle *t, uint64_t now, char error[FAIL_SIZE]);
bool control_runs(struct control *c, struct throttle *t);

/* What one drain pours into all overlays together, at most. */
uint64_t throttle_queue_bytes(const struct throttle *t);

/* Who starts when, MIGBUF_ADMISSION_…; 0: everybody at once. */
void control_admit(struct control *c, int32_t admission);

/* Asks for admission and, with it, decides its first limit. 1: admitted, 0: not yet, -1: failed. */
int control_add(struct control *c, struct throttle *t, uint64_t now, char error[FAIL_SIZE]);

/* What a queue has to know of it. 0 or an error of the library's. */
int control_describe(const struct control *c, const struct throttle *t, struct migbuf_waiting *w);

/* What its guest writes, from what was told of it since last time. */
void throttle_count(struct throttle *t);

/* Adds it to another buffer, as it is in ours or would be; one that has no room there is left out. 0 or an error. */
int control_join_trial(struct migbuf_buffer *b, const struct throttle *t);

/* Its mirror can only catch up while its guest writes no more than this; 0: it has, or never needed that. */
void control_hold(struct throttle *t, double bytes_per_s);

/* A drain is over: so many are still ahead. At once, so that the reserve for it is given back. */
void control_drained(struct control *c, struct throttle *t, int32_t phase, uint32_t drains_ahead);

/* Asks everybody what was written and which limits are in force. A moment later all, or all who can, have answered. */
void control_look(struct control *c);
bool control_looked(const struct control *c);

/* Is a tick due at once? When a file has reached what it was allowed to grow to, and when overlays came into use:
 * before there is a file it cannot be watched. */
bool control_is_due(struct control *c);

/* Measures everybody and carries out what follows from it. */
int control_tick(struct control *c, uint64_t now, char error[FAIL_SIZE]);

/*
 * May its memory be sent now? One VM's at a time on each link, for two that share it may both never come to an end; the one
 * first whose overlay frees most of the buffer in the time its memory takes, but before it one that could not wait for that.
 * True: it is its turn, until control_ram_over().
 */
bool control_ram_turn(struct control *c, struct throttle *t, uint64_t now);
void control_ram_over(struct throttle *t);

/* Its overlay is deleted. Fine when it was never added. */
void control_remove(struct control *c, struct throttle *t);

/* Moves the conversation about limits on: 1: under way, 0: what is wanted is in force, -1: QEMU refused it. */
int throttle_pump(struct control *c, struct throttle *t, uint64_t now, char error[FAIL_SIZE]);

/* Of its overlays, now. */
uint64_t throttle_file_bytes(const struct throttle *t);

/* A drain is over that began when the overlays had so many bytes. */
void throttle_drained(struct throttle *t, uint64_t before_bytes);

/* Stops or continues the guest as decided. `free_bytes`: free in Ω. */
void throttle_run_or_stop(struct control *c, struct throttle *t, uint64_t free_bytes, uint64_t now);

/* Is what was decided in force? */
bool throttle_holds(const struct control *c, const struct throttle *t);
#endif
