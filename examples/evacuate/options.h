/* SPDX-License-Identifier: MIT */
/* The command line: what to run, with every size already a number. Reads nothing but argv. */
#ifndef EVACUATE_OPTIONS_H
#define EVACUATE_OPTIONS_H
#include "control.h"
#include "extension.h"
#include "migbuf/mirror.h"
#include "migration.h"
#include <stdio.h>

#define OPTIONS_VMS_MAX 64

enum pattern { PATTERN_SEQUENTIAL, PATTERN_RANDOM, PATTERN_LARGE, PATTERN_BURSTY, PATTERN_COUNT };
extern const char *const pattern_name[PATTERN_COUNT];

struct options {
    uint32_t vms, links, disks, tick_ms;
    uint64_t buffer_bytes, link_bytes_per_s, disk_bytes, seed; /* disk_bytes: each */
    enum vm_device device;
    bool typed; /* limits by block_set_io_throttle alone */
    enum policy policy;
    bool policy_given; /* else the same load runs without throttle first, for the contrast */
    uint64_t fixed_bytes_per_s;
    struct migbuf_mirror_setting mirror; /* of whoever is mirrored; mode 0: as the library chooses */
    bool mirror_given;
    uint64_t ways[2];                    /* hybrid: bits of VMs that are mirrored, that are not; else as is advised */
    uint32_t downtime_ms;      /* the most a guest may stand for its memory */
    uint32_t throttle_percent; /* the most its CPUs may be throttled for it, 0: not at all */
    uint64_t dirty_bytes_per_s, dirty_bytes; /* what each guest writes to its memory, and to how much of it; 0: nothing */
    bool postcopy, force, kvm;
    int32_t admission; /* MIGBUF_ADMISSION_…, 0: off */
    enum pattern pattern[8]; /* VM i gets pattern[i % patterns] */
    size_t patterns;
    uint32_t depth, pace; /* 0: the pattern's own */
    uint32_t at_least_ms; /* so long all guests write; 0: none longer than its move takes */
    bool json_wanted;
    const char *json; /* NULL with json_wanted: standard output */
    const char *svg, *history, *work_dir, *guest;
    const char *qemu;        /* NULL: the one in PATH */
    const char *volume;      /* a directory to be the buffer volume; NULL: one is made */
    const char *state, *end; /* the directory of a run that can be resumed */
    bool named_overlays;
    bool keep;
    const char *added[EXTENSION_OPTIONS_MAX]; /* for an extension to keep values of its options */
};

/* Fills *options, defaults included. 0; 1: that was all, --help or --version; -1: `error` says what is allowed. */
int options_read(struct options *options, int argc, char *const argv[], char error[FAIL_SIZE]);

/* Do both describe the same run: loads, places and policy, whatever is reported of it and where? */
bool options_same_run(const struct options *a, const struct options *b);

/* "paper", "fixed:2000000", …; as --policy takes it. */
const char *options_policy_text(enum policy policy, uint64_t fixed_bytes_per_s, char text[40]);

/* "off", "sjf", "fifo". */
const char *options_admission_text(int32_t admission);

/* What guest i does, and what its host allows it. The same options and seed give the same loads. */
void options_load(const struct options *options, uint32_t index, struct load *load);
#endif
