/* SPDX-License-Identifier: MIT */
/*
 * What a program that comes after this one must know to finish the run: one file in the run's directory, replaced as a
 * whole (rename) whenever something is about to be done that is not in it yet. So the rule is write-ahead: no step of a
 * migration begins and no decision leaves for QEMU before the file tells of it (`unrecorded` in control.h, migration.h).
 *
 * It holds only what nobody else could tell afterwards: the options, the buffer and each VM's own limits as the library
 * saves them, where each guest's home is, which bases have been copied, and the numbers of the summary. Everything else is
 * asked of the QEMUs, which outlive us: events were missed, and what was under way may have ended or failed.
 *
 * What survives a killed program is what the kernel has been given. Only a crash of the host needs more (fsync), and it
 * ends the QEMUs with their limits and overlays too: then the one thing worth knowing is which disk is the guest's. So the
 * file is synchronised when a guest's home changes, and not every second.
 */
#ifndef EVACUATE_STATE_H
#define EVACUATE_STATE_H
#include "loop.h"
#include <jansson.h>

struct state {
    char directory[128]; /* absolute */
    int lock;            /* held as long as we live: one program at a time */
    json_t *file;        /* as found, NULL: there was none */
    uint32_t arrived;    /* guests whose home is the target, when the file was last synchronised */
    int argc;            /* the options of the run */
    const char **argv;
};

/* What state_open() finds. */
enum { STATE_NEW = 0, STATE_UNFINISHED = 1, STATE_FINISHED = 2 };

/*
 * Makes the directory if need be and locks it. -1: it cannot be used, because another program works on it, it holds
 * something else, or its file is damaged.
 */
int state_open(struct state *state, const char *directory, char error[FAIL_SIZE]);

/* The options that go into the file from now on; without a copy of the strings. */
int state_keep_arguments(struct state *state, int argc, char *const argv[], char error[FAIL_SIZE]);

int state_save(struct state *state, const struct run *run, uint64_t now, char error[FAIL_SIZE]);

/* Into a run whose migrations are new (migration_init): what the file says of them, and of the run. */
int state_load(const struct state *state, struct run *run, uint64_t now, char error[FAIL_SIZE]);

/*
 * The run is over: from now on the file says so, with its exit status, its closing line and its summary (a reference is
 * taken over), and whoever comes with this directory again is told that instead of beginning another run. Disks and messages
 * go unless `keep`. The lock is free.
 */
int state_finish(struct state *state, int status, const char *line, json_t *summary, bool keep, char error[FAIL_SIZE]);

/* What state_finish() has kept; `line` and `summary` (may be NULL) are valid until the state is closed. -1: damaged. */
int state_finished(const struct state *state, int *status, const char **line, json_t **summary);

/* Lets go of the directory and leaves everything in it. */
void state_close(struct state *state);

/* A run that has not begun: lets go and removes all that is ours. */
void state_remove(struct state *state);

/* Ends every QEMU of a run that no program works on any more, and removes what it left. */
int state_end(const char *directory, FILE *out, char error[FAIL_SIZE]);
#endif
