/* SPDX-License-Identifier: MIT */
/*
 * The steps of a migration, as the machine that walks them (migration.c) and those who fill the two tables
 * (steps_there.c, steps_back.c) see them; nobody else includes this. Node names, ids and the order are LXD's.
 * A step is: begin, send its command, take the answer, wait until it is finished.
 */
#ifndef EVACUATE_STEPS_H
#define EVACUATE_STEPS_H
#include "migration.h"

#define MS UINT64_C(1000000)
#define U(value) ((unsigned long long)(value))
#define FDSET(disk) ((disk) + 1) /* ours to choose: so it need not be remembered */
#define DEVICE(id) "{\"device\":\"" id "\"}"

/* What has been made of a disk at the source (the last one: of all) and must be undone on the way back. */
enum {
    MADE_FDSET = 1,
    MADE_NODE = 2,
    MADE_SNAPSHOT = 4,
    MADE_NBD = 8,
    MADE_JOB = 16,
    MADE_COMMIT = 64
};

/* Of a step. */
enum {
    FINISH_FIRST = 1, /* giving up waits until it is done */
    NO_RETURN = 2,    /* from here on the guest can only end at the target */
    TOLERANT = 4,     /* a refusal is no failure: what it asks for may have happened already, or `finished` looks at it */
    HANGS_UP = 8,     /* QEMU ends in this step */
    EACH = 16,        /* once for each disk, one after the other */
    LONG = 32,        /* takes as long as the link does, or as others do */
    DRAINS = 64       /* QEMU lets everything through that waits for the throttle */
};

/* What `finished` says. */
enum { FAILED = -1, WAIT = 0, DONE = 1, AGAIN = 2 /* send the command once more, soon */ };

struct step {
    const char *name;      /* "…: what QEMU said" */
    int32_t phase;         /* of the picture */
    int32_t side;          /* whose monitor; HOME: where the guest is */
    const char *command;   /* NULL: none */
    const char *arguments; /* $D the disk's node, $O its overlay, $N the target's disk; NULL: what begin() wrote */
    bool (*needed)(const struct migration *m);
    int (*begin)(struct migration *m, uint64_t now);
    int (*finished)(struct migration *m, const struct call *answer, uint64_t now);
    uint32_t makes, unmakes;
    uint32_t flags;
    const char *event; /* for the timeline, when it is done */
};

enum { HOME = 2 };

/* clang-format off */
enum {
    ASK_READY, ASK_STATUS, ASK_JOBS, ASK_BLOCK, ASK_NODES, ASK_RAM, ASK_LIMITS, ASK_END,
    SOURCE_START, MAY_MIGRATE, KVM_ASK, COMMANDS_ASK, GUEST_START, HOST_LIMITS, HOST_READ, OBSERVE, GATE,
    LEARN, ADMISSION, FIRST_LIMIT,
    OVERLAY_ROOM, OVERLAY_CREATE, OVERLAY_PASS, OVERLAY_ADD, SNAPSHOT, COPY,
    TARGET_START, TARGET_LIMITS, NBD_SERVER, NBD_EXPORT,
    NBD_NODE, MIRROR, MIRROR_DISK, READY,
    RAM_TURN, RAM_LEARN, SETTLE, HOLD, RAM_SEND, JOB_CANCEL, MIRROR_END, LIMITS_AGAIN, CONTINUE, RAM_REST, ARRIVAL, EXPORT_DELETE,
    NBD_STOP, RAM_RESTORE, SOURCE_QUIT, FORWARD_END,
    BACK_RAM, BACK_HOLD, BACK_JOB, BACK_NBD, BACK_TARGET, BACK_STATUS, BACK_HANDED_OVER, BACK_RAM_RESTORE, BACK_COMMIT, BACK_READY,
    BACK_STILL, BACK_COMPLETE, BACK_RUN, BACK_NODE, BACK_FDSET, BACK_GO_ON, BACK_BUFFER, BACK_RESTORE,
    GOING_ON, LIMITS_CHECK, CAPABILITIES_CHECK, PARAMETERS_CHECK, STOPPING, QUITTING, ENDED
};
/* clang-format on */

/* The two tables: there, and back (with what is asked after a restart); each has its steps only. */
extern const struct step steps_there[], steps_back[];

/* Of the machine (migration.c). `failed` says in which step and why, and gives FAILED. */
const struct step *step_at(int at);
int failed(struct migration *m, const char *format, ...) __attribute__((format(printf, 2, 3)));
void put(struct migration *m, const char *format, ...) __attribute__((format(printf, 2, 3))); /* the arguments */
const char *node(const struct migration *m);
bool made_any(const struct migration *m, uint32_t what);
void mark(struct migration *m, const struct step *s, uint32_t made, uint32_t unmade);
struct monitor *monitor_of(struct migration *m, int32_t side);
uint32_t route_of(const struct migration *m);
struct link *link_of(const struct migration *m);
void drop_flow(struct migration *m, int *flow);
void drop_flows(struct migration *m);
void unlink_overlays(const struct migration *m);
void release_overlay(struct migration *m);

/* Of the way there that the way back or the machine needs as well. */
const struct job *job(const struct migration *m);
int new_job(struct migration *m, uint64_t now);
int job_ready(struct migration *m, const struct call *answer, uint64_t now);
int job_completed(struct migration *m, const struct call *answer, uint64_t now);
int pumped(struct migration *m, const struct call *answer, uint64_t now);
int take_over(struct migration *m, uint64_t now);
int qemu_gone(struct migration *m, enum side side, uint64_t now);
bool has_overlay(const struct migration *m);
bool same_limits(const struct migbuf_throttle_config *a, const struct migbuf_throttle_config *b);
void drop_mirrors(struct migration *m);
int add_proxy(struct migration *m, const char *near_name, const char *far_name, int *flow);
void know_disks(struct migration *m); /* what the buffer has to know of them, and what earlier attempts told */

/* Memory, there and back (steps_ram.c): the columns of RAM_…, CONTINUE, BACK_RAM…, ASK_RAM, …_CHECK. */
int kvm_told(struct migration *m, const struct call *answer, uint64_t now);
bool is_at_rest(const struct migration *m);
bool must_hold(const struct migration *m);
bool has_ram(const struct migration *m);
double ram_seconds(const struct migration *m);
int ram_turn(struct migration *m, const struct call *answer, uint64_t now);
int ram_learn(struct migration *m, uint64_t now);
int ram_learnt(struct migration *m, const struct call *answer, uint64_t now);
int ram_start(struct migration *m, uint64_t now);
int ram_sent(struct migration *m, const struct call *answer, uint64_t now);
int ram_switch(struct migration *m, uint64_t now);
int ram_switched(struct migration *m, const struct call *answer, uint64_t now);
int ram_moved(struct migration *m, const struct call *answer, uint64_t now);
int ram_called_back(struct migration *m, const struct call *answer, uint64_t now);
int ram_restored(struct migration *m, const struct call *answer, uint64_t now);
int ram_found(struct migration *m, const struct call *answer, uint64_t now);
void note_downtime(struct migration *m);
bool ram_is_past_return(const struct migration *m);
bool settings_known(const struct migration *m);
int compare_settings(struct migration *m, const struct call *answer, uint64_t now);

/* After a restart, before anything is asked: jobs are known by name before their first event can come. */
void expect_jobs(struct migration *m);
#endif
