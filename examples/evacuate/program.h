/* SPDX-License-Identifier: MIT */
/* What the parts of the program share: main.c tells what happens, prepare.c sees to what must be there before, report.c to
 * what is said afterwards. */
#ifndef EVACUATE_PROGRAM_H
#define EVACUATE_PROGRAM_H
#include "state.h"
#include "summary.h"

#define EXIT_FAILED 1
#define EXIT_WRONG 2

struct program {
    struct options options;
    FILE *out;           /* for people: standard error when standard output is for the JSON object */
    char directory[200]; /* ours alone; empty before it is made */
    char kernel[512];
    int signals;
    struct picture *picture;
    struct state state;
    bool resuming, finished; /* what --state found */
    struct run contrast, run;
    bool contrasted;
    json_t *summary;
};

/*
 * Signals, the directory or what --state says of an earlier program (then `resuming` or `finished` is set), the guest
 * program, QEMU: all that may be missing, before anything begins. -1: `error` says what.
 */
int prepare(struct program *p, int argc, char *const argv[], char error[FAIL_SIZE]);

/* Files, the lines for people, and that nothing is left behind. Returns the exit status. */
int report(struct program *p);

/* The same of a run that was over before. */
int tell_finished(struct program *p);

/* After a failure: of a run that others began nothing is removed, and its guests go on within their limits. */
void leave(struct program *p);

/* Removes all that is ours, unless --keep-dir. */
void remove_directory(struct program *p);
#endif
