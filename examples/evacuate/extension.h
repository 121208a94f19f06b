/* SPDX-License-Identifier: MIT */
/*
 * What another program may add to this one. `evacuate` itself is linked with extension_none.c, which adds nothing. A
 * test rig is linked from the same objects with an extension of its own (tests/rig): more options, and what it does to
 * a run while that goes on.
 */
#ifndef EVACUATE_EXTENSION_H
#define EVACUATE_EXTENSION_H
#include "fail.h"
#include <getopt.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct migration;
struct options;
struct run;
struct state;
struct writer_params;

#define EXTENSION_OPTION 512    /* `val` of the first option that is added; the others follow */
#define EXTENSION_OPTIONS_MAX 12 /* so many at most */

struct extension {
    const struct option *options; /* ended by one without a name */
    const char *help;             /* their lines of --help */
    const char *policies;         /* for messages: what follows "paper, planner, hybrid, none" */
    const char *guest;            /* where the guest program is, from the program's directory on */
    bool second_monitor;          /* each QEMU gets one more, for another hand */
};
extern const struct extension extension;

/* Takes one of the added options. -1: `error` names it and says what is allowed. */
int extension_read(struct options *o, int option, const char *value, char error[FAIL_SIZE]);

/* Takes a --policy that the program itself does not know. False: nobody knows it. */
bool extension_read_policy(struct options *o, const char *text);

/* All options have been read: it may set what was not given. -1: `error` says which do not go together. */
int extension_options(struct options *o, char error[FAIL_SIZE]);

/* Was something else asked for than a run? Then it is done now, and this is the exit status. */
bool extension_instead(const struct options *o, int *status);

/*
 * A program comes back to a run: `then` are the options of the first one, `now` those of this one, `both` those that hold.
 * What was asked of the first program alone is taken out of `both`. -1: the run cannot be taken up so.
 */
int extension_resume(const struct options *then, const struct options *now, struct options *both,
                     const struct state *state, bool finished, char error[FAIL_SIZE]);

/* Before anything begins, and when all is over (a second time is fine). -1: a sentence of what went wrong. */
int extension_open(const struct options *o, char error[FAIL_SIZE]);
int extension_close(char error[FAIL_SIZE]);

/* A run begins, before it has a buffer, or is taken up; every turn of its loop, for each VM; and it ends. */
void extension_run(struct run *r);
void extension_turn(struct run *r, const struct migration *m, uint64_t now);
void extension_run_end(struct run *r);

/* More about a run, or about one of its VMs (m NULL: the run), for its summary; and for people, a line each. */
void extension_summary(const struct run *r, const struct migration *m, json_t *o);
void extension_tell(const struct run *r, FILE *out);

/* A disk is about to be checked; it is open for reading and writing. */
void extension_check(const struct run *r, const struct migration *m, uint32_t disk, const struct writer_params *w, int fd);
#endif
