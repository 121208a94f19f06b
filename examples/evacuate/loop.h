/* SPDX-License-Identifier: MIT */
/*
 * One run of the whole load under one policy: a single-threaded loop over all monitors, the link and the clock. Nobody
 * in it waits for one QEMU, so a slow one does not delay the ticks of the others.
 */
#ifndef EVACUATE_LOOP_H
#define EVACUATE_LOOP_H
#include "options.h"
#include "picture.h"

struct state;

/* How much of a VM's memory was sent, by QEMU's own clock, when that was last looked at; and how fast until then. */
struct ram_seen {
    uint64_t sent_bytes, total_ms, bytes_per_s;
};

struct run {
    const struct options *options;
    struct state *state; /* NULL: nothing is kept for a program after this one */
    enum policy policy;
    int32_t admission;
    bool contrast; /* ends a second after the first overflow; nobody waits for a turn */
    char directory[256];
    struct volume volume;
    struct control control;
    struct site site;
    struct record *record;
    struct picture *picture;
    int signals; /* a signalfd: SIGINT, SIGTERM, SIGHUP */

    uint32_t vms;
    struct load *load;
    struct migration *vm;
    struct writer_result *checked; /* valid where vm[i].stopped */
    uint64_t *acked_before;        /* at the last frame */
    struct ram_seen *ram_seen;

    uint64_t omega_bytes, used_bytes, free_bytes, peak_bytes;
    uint64_t begun_ns, ended_ns, next_tick_ns, last_frame_ns, give_up_ns, worst_tick_ns;
    uint64_t looking_ns; /* since when the answers are awaited that a tick needs; 0: no tick is due */
    uint64_t ticks, early_ticks;
    struct route route[CONTROL_LINKS_MAX]; /* in the end: what went over each link */
    uint64_t since_ns, ask_until_ns;       /* begun or come back; then the first tick waits until everybody was asked */
    uint64_t longest_absence_ms;
    uint32_t restarts;
    uint64_t late_ticks, foreign_bytes; /* foreign: the most that was in the volume beside overlays */
    bool interrupted;
    bool in_a_hurry;       /* the state was saved: what waited for that may begin */
    bool abandoned;        /* the contrast has shown what it was to show */
    char error[FAIL_SIZE]; /* of the run itself */
};

/*
 * Makes directory and volume, runs, checks the disks. Returns 0 when the run came to its end, whatever became of the
 * VMs; -1 with run->error when it could not. `interrupted` is set when a signal asked to stop. run_end() must follow.
 */
int run_begin(struct run *run, const struct options *options, enum policy policy, bool contrast, const char *directory,
              const char *kernel, struct picture *picture, int signals, struct state *state);

/* The same for a run that another program began: goes to where its QEMUs are and learns from the state what it was at.
 * After a failure the QEMUs still run: run_end() must not follow. */
int run_resume(struct run *run, const struct options *options, const char *directory, const char *kernel,
               struct picture *picture, int signals, struct state *state);
void run_loop(struct run *run);
void run_check(struct run *run);

/* Ends what still runs and removes the volume. The record stays readable until run_free(). */
void run_end(struct run *run);
void run_free(struct run *run);
#endif
