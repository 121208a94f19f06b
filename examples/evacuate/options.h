/* SPDX-License-Identifier: MIT */
/* The command line: what to run, with every size already a number. Reads nothing but argv. */
#ifndef EVACUATE_OPTIONS_H
#define EVACUATE_OPTIONS_H
#include "control.h"
#include "migration.h"

#define OPTIONS_VMS_MAX 64

enum pattern { PATTERN_SEQUENTIAL, PATTERN_RANDOM, PATTERN_LARGE, PATTERN_BURSTY, PATTERN_COUNT };

/* What a test may do to the first VM that comes to a step. */
enum injection {
    INJECT_NOTHING,
    INJECT_INTERRUPT,
    INJECT_KILL_SOURCE,
    INJECT_KILL_TARGET,
    INJECT_DIE,
    INJECT_WIPE,   /* by another monitor: no limits */
    INJECT_CHANGE, /* by another monitor: other limits */
    INJECT_FILL,   /* the volume, by something that is no overlay, for two seconds */
    INJECT_FILL_FOR_GOOD,
    INJECT_LOSE
};

struct options {
    uint32_t vms, links, disks, tick_ms;
    uint64_t buffer_bytes, link_bytes_per_s, disk_bytes, seed; /* disk_bytes: each */
    enum vm_device device;
    bool typed; /* limits by block_set_io_throttle alone */
    enum policy policy;
    bool policy_given; /* else the same load runs without throttle first, for the contrast */
    uint64_t fixed_bytes_per_s;
    int32_t admission; /* MIGBUF_ADMISSION_…, 0: off */
    enum pattern pattern[8]; /* VM i gets pattern[i % patterns] */
    size_t patterns;
    uint32_t depth, pace; /* 0: the pattern's own */
    uint32_t window_ms;   /* 0: no guest writes longer than its move takes */
    bool json_wanted;
    const char *json; /* NULL with json_wanted: standard output */
    const char *svg, *trace, *replay, *curves, *work_dir, *guest;
    const char *qemu;        /* NULL: the one in PATH */
    const char *volume;      /* a directory to be the buffer volume; NULL: one is made */
    const char *state, *end; /* the directory of a run that can be resumed */
    bool named_overlays;
    bool keep;
    enum injection injection; /* for tests */
    const char *inject_at;    /* a step's name, as in messages */
    uint32_t inject_after_ms; /* so long after the step has begun */
};

enum options_result { OPTIONS_RUN, OPTIONS_HELP, OPTIONS_VERSION, OPTIONS_WRONG };

/* Fills *options, defaults included. OPTIONS_WRONG: `error` names the option and says what is allowed. */
enum options_result options_read(struct options *options, int argc, char *const argv[], char error[FAIL_SIZE]);

/* Do both describe the same run: loads, places and policy, whatever is reported of it and where? */
bool options_same_run(const struct options *a, const struct options *b);

void options_help(FILE *out, const char *program);

/* "paper", "fixed:2000000", …; as --policy takes it. */
const char *options_policy_text(enum policy policy, uint64_t fixed_bytes_per_s, char text[40]);

/* "off", "sjf", "fifo". */
const char *options_admission_text(int32_t admission);

/* What guest i does, and what its host allows it. The same options and seed give the same loads. */
void options_load(const struct options *options, uint32_t index, struct load *load);
#endif
