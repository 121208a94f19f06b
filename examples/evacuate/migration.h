/* SPDX-License-Identifier: MIT */
/*
 * The migration of one VM without shared storage, command by command as LXD does it, and the way back. Never waits:
 * every step has a deadline and is looked at whenever the loop turns. What may be undone is undone; after
 * `migrate-continue` the only way is forward. Decides nothing about the buffer: control.h does.
 */
#ifndef EVACUATE_MIGRATION_H
#define EVACUATE_MIGRATION_H
#include "control.h"
#include "memory.h"
#include "mirroring.h"
#include "record.h"
#include "vm.h"
#include "volume.h"

enum side { SOURCE, TARGET };

/* What one guest does, and what its host allows it. */
struct load {
    char name[RECORD_NAME_SIZE];
    struct writer_params writer; /* of each disk, see writer_of_disk() */
    uint32_t disks;
    enum vm_device device;
    struct migbuf_throttle_config host[VM_DISKS_MAX]; /* all zero: the host limits nothing */
    bool no_merging, typed;                           /* typed: limits by block_set_io_throttle alone */
    struct migbuf_prior prior;                        /* what earlier attempts told; attempts 0: there was none */
};

/* What all migrations of one run share. */
struct site {
    const char *directory, *kernel;
    const char *qemu;     /* NULL: the one in PATH */
    char image_tool[VM_PROGRAM_SIZE]; /* the qemu-img that belongs to it */
    const struct volume *volume;
    struct link *link[CONTROL_LINKS_MAX];
    uint32_t links;
    struct control *control;
    struct record *record;
    uint64_t disk_bytes, start_ns; /* of each disk */
    uint32_t transfer_ms;          /* deadline of the long steps, most of which wait for the link */
    struct migbuf_agreement agreement; /* for the memory of each */
    bool host_decides;                 /* what is done within it; else the machine for memory does */
    uint32_t at_least_ms;          /* from start_ns on all guests write so long at least, wherever they are */
    bool go;                       /* every guest writes: migrations may begin */
    bool kvm;                      /* else TCG */
    bool second_monitor;           /* each QEMU has one for another hand */
    struct migbuf_mirror_setting mirror; /* of whoever is mirrored; mode 0: as the library chooses */
    uint64_t ways[2];              /* hybrid: bits of VMs that are mirrored, that are not; else as is advised */
    bool named;                    /* overlays keep their names; else only descriptors lead to them */
    bool recorded; /* there is a record (state.h): no step begins before it says so, and QEMUs outlive us */
};

struct place {
    struct vm vm;
    struct monitor monitor;
    char directory[300];
    bool started;
};

/* One disk of the VM. */
struct disk {
    char image[2][320];
    char overlay[320];                       /* its name until it is removed */
    uint32_t made;                           /* what would have to be undone, MADE_… */
    int copy, nbd;                           /* flows over the link, -1: none */
    bool copied;                             /* the target has all of the base */
    uint32_t connects;                       /* how often QEMU could not connect to this target's disk */
    struct migbuf_throttle_config host;      /* the host's limits: as found before, or as another hand set them since */
    struct migbuf_throttle_config at_target; /* those set there */
    struct guest_status status;              /* of its writer as last read; exact in the end */
    uint64_t acked_ns;                       /* when it last got something done, or had nothing to do */
    uint32_t acked_at_arrival, uptime_at_arrival;
};

enum outcome { OUTCOME_UNDER_WAY, OUTCOME_MOVED, OUTCOME_BACK, OUTCOME_LOST };

/* What sending the memory came to. */
struct ram_result {
    int32_t state; /* MIGBUF_RAM_STATE_…, 0: it was not begun */
    uint64_t downtime_ms, pages, sent_bytes, resent_bytes, total_ms, rounds, throttle_percent, limit_ms, lost_ms, post_copy;
};

struct migration {
    uint32_t index;
    const struct load *load;
    struct site *site;
    struct place place[2];
    struct throttle throttle;
    struct memory memory;
    struct mirroring mirroring[VM_DISKS_MAX];

    struct disk disk[VM_DISKS_MAX];

    int at;              /* the step */
    uint32_t d;          /* and the disk it is about, if it is about one */
    bool entered, asked; /* its beginning is done; its command was sent */
    bool unrecorded;     /* the record does not know yet that it has come to this step */
    uint64_t deadline_ns, again_ns;
    char arguments[1024];
    struct process tool; /* qemu-img */
    int tool_output;
    int ram, ram_requests; /* flows over the link, -1: none; the second for post-copy's requests */

    bool nowhere;     /* a QEMU died that had what nobody else has */
    bool kvm;         /* QEMU keeps track of what a running guest writes to its memory */
    bool can_change;  /* QEMU can change a mirror that runs */
    bool held;        /* the guest stood while its memory was sent */
    uint64_t downtime_ms; /* from its stop at the source until it ran at the target; 0: not seen */
    uint64_t begun_acknowledged, begun_uptime_ms[VM_DISKS_MAX]; /* when it began to move: writes, and its disks' clocks */
    struct ram_result ram_result;
    uint32_t settings_restored; /* a bit for each list that was in the end what it had been: 1 capabilities, 2 parameters */
    uint32_t ram_again;         /* how often the rest of its memory was begun again */
    int32_t turned_at; /* the phase in which it turned back or was lost */
    bool peer_gone;    /* because a QEMU ended */
    bool handed_over; /* its source stands as after a migration, which did not come to its end */
    bool known;     /* its guest writes, and the host's limits were read */
    enum way way;   /* hybrid */
    bool changes;   /* its mirror is given up, and it is to begin again with an overlay */
    bool doubted;   /* it has been asked again whether it is better mirrored */
    struct seen {
        uint64_t ns, bytes, writes; /* counters of all its disks when they were first read */
    } seen;         /* of its guest, before it moves */
    double seen_bytes_per_s, seen_writes_per_s; /* what that came to; 0: nothing was seen */
    bool giving_up; /* wanted: back to the source */
    enum side home; /* where the guest is */
    enum outcome outcome;
    char error[FAIL_SIZE]; /* what failed first, and what after it; empty when nothing did */

    uint64_t arrived_ns;
    uint64_t longest_stall_ms;
    uint64_t begun_ns, ended_ns;
    uint64_t overlay_ns, overflow_ns; /* first overlay in use; first time without room; 0: never */
    uint64_t overlay_peak_bytes, before_drain_bytes;
    int32_t taken_over;                                /* of the throttle's, already told */
    uint32_t other_hands;                              /* times another hand changed its host's limits */
    struct migbuf_throttle_config found[VM_DISKS_MAX]; /* the limits of its disks in the end */
    uint32_t io_errors;                                /* already told */
    bool limits_restored;
    bool blocked;              /* QEMU cannot migrate it */
    bool stopped;              /* the status of its disks is final: they may be checked */
    uint32_t overflows_before; /* seen by programs that are no more */
};

void migration_init(struct migration *m, uint32_t index, const struct load *load, struct site *site);

/*
 * After a restart, in this order. Finds its QEMUs again (0 or -1); then, with the fields filled from the record and the
 * throttle in its place, finds the overlays and begins to ask what has become of it. Then migration_step() as ever: it
 * takes back what hung on the program that died (connections, and what they were for), and goes on from there.
 *
 * Why taken back: all that crosses the link went through the program that died, as it does through LXD's daemon. A copy
 * stands still, a mirror and a migration lose their connection and fail. Nothing of that is worth saving, because the
 * overlay, the limits on it and the copied base are all there is to lose, and they are not in that program. A link in a
 * process of its own would save at most one overlay's transfer, for another process that may die.
 *
 * From migrate-continue on the target may have the whole guest. Where it is then, the machine for memory finds out, which is
 * kept in the record too: the target is dropped unless it has all. Never do both run.
 */
int migration_adopt(struct migration *m, char error[FAIL_SIZE]);
void migration_resume(struct migration *m, uint64_t now);

/* Is it still finding out? Its limits and its overlay are not known before. */
bool migration_asks(const struct migration *m);

/* Moves on as far as it can without waiting. */
void migration_step(struct migration *m, uint64_t now);

/* Carries on with limits, stops and continues as decided; `free_bytes` is what is free in the buffer volume. */
void migration_throttle(struct migration *m, uint64_t free_bytes, uint64_t now);

/* Nobody looked for so long: its deadlines are so much later. */
void migration_slept(struct migration *m, uint64_t ns);

/* Of all disks: writes acknowledged, now and when it arrived, and writes it saw refused. */
uint64_t migration_acknowledged(const struct migration *m);
uint64_t migration_acknowledged_at_arrival(const struct migration *m);
uint64_t migration_refused(const struct migration *m);

/* Bytes that its guest wrote, of those it would have written undisturbed, while it moved. */
uint64_t migration_delivered_bytes(const struct migration *m, uint64_t *wanted_bytes);

/* Reads the guest's status blocks: what was acknowledged, and how long nothing was. */
void migration_watch(struct migration *m, uint64_t now);

/* Wants it back at the source; ignored when it is too late for that. `why` goes into the timeline. */
void migration_give_up(struct migration *m, const char *why);

/*
 * Gives up its mirror, and begins again with an overlay: nothing is lost, for everything is at the source. False, and nothing is
 * done: it is not mirrored, or it is too late for that, because its memory is next.
 *
 * Not the other way round: an overlay must be merged back before the disk can be mirrored as a whole, and who waits for that
 * has lost what the change was to save.
 */
bool migration_take_overlay(struct migration *m);

/* Nothing more will happen to it. */
bool migration_ended(const struct migration *m);

/* Ready to begin, waiting for site->go. */
bool migration_waits(const struct migration *m);

/* Must not be disturbed any more: it can only end at the target. */
bool migration_is_past_return(const struct migration *m);

/* Ends whatever runs and removes every file but the disks. */
void migration_release(struct migration *m);

/* Is what was set for memory as it was, where the guest is? Also when nothing was ever set. */
bool migration_settings_restored(const struct migration *m);

/* The name of the step it is in, as messages have it, and the step of that name, NULL when there is none. */
const char *migration_step_name(const struct migration *m);
const char *migration_find_step(const char *name, size_t length);

int32_t migration_phase(const struct migration *m);
uint32_t migration_progress_permille(const struct migration *m);
uint32_t migration_overflows(const struct migration *m);
#endif
