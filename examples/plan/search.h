/* SPDX-License-Identifier: MIT */
/*
 * What becomes of the guests with a buffer of some size, and which is the smallest with which nobody is throttled. All of
 * it is asked of the model (simulate/model.h), and so of the library's own decisions.
 */
#ifndef PLAN_SEARCH_H
#define PLAN_SEARCH_H
#include "fail.h"
#include "model.h"

/*
 * A guest that gets less than this part of its writes is throttled. It is short of room where it would get a hundredth more
 * with a buffer that is larger than all disks. Where it would not, the link throttles it: what it writes while its overlay
 * is sent must be less than what is sent, or that never ends.
 */
#define FREE_PART 0.99
#define SEEN_PART 0.01

struct question {
    const struct guests *guests;
    enum policy policy;
    enum admission admission;
    uint32_t seeds, jobs;
    uint64_t seed; /* the first */
    bool quiet;
    uint64_t begun_ns; /* progress is shown when it takes long since then */
};

/* One size, in all runs. */
struct trial {
    uint64_t bytes;
    struct sample_run *runs; /* per seed */
    struct fate *fates;      /* [seed][guest] */
    size_t memory_bytes;
};

struct search {
    const struct question *question;
    struct trial roomy; /* with more than all disks can take */
    int roomy_at;       /* its place among the sizes */
};

/* Least and most of all runs, and the one in the middle. Those that never end are INFINITY. */
struct spread {
    double least, middle, most;
};

/* One guest, over all runs. */
struct prospect {
    const struct guest *guest;
    struct spread start_s, away_s, part, file_bytes; /* part: of its writes, 0 .. 1 */
    uint32_t runs_short; /* of room */
    uint32_t runs_away;
    bool is_mirrored;          /* by a mirror, in more than half of the runs */
    bool is_advised;           /* the library recommends it in more than half of the runs, and then it gets a tenth more: */
    struct spread mirror_part; /* this, where it is advised */
};

/* All guests, over all runs. */
struct answer {
    uint64_t bytes;
    bool is_smallest;            /* nobody is short of room, and with the next smaller size somebody is */
    bool is_enough;              /* nobody is short of room in any run */
    struct spread away_s;        /* the last one */
    uint32_t runs, runs_away;    /* all are away */
    uint32_t runs_in_time;       /* all are away before the deadline */
    struct prospect *guests;     /* in the order in which they start */
    uint32_t count;
};

/* Sizes that are tried: 64 MiB, and eight to each doubling. */
#define SIZES 200
uint64_t size_at(int k);
/* The next such size, from `bytes` on. */
uint64_t size_up(double bytes);

/* 0, or -1: see error. To be ended in either case. */
int search_begin(struct search *s, const struct question *q, char error[FAIL_SIZE]);
void search_end(struct search *s);
/* `deadline_s` INFINITY: none. */
int search_answer(const struct search *s, uint64_t bytes, double deadline_s, struct answer *a, char error[FAIL_SIZE]);
int search_smallest(const struct search *s, double deadline_s, struct answer *a, char error[FAIL_SIZE]);
void answer_free(struct answer *a);
/* The run with the first seed once more, for a picture. */
int search_record(const struct question *q, uint64_t bytes, struct recording *r, char error[FAIL_SIZE]);
#endif
