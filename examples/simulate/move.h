/* SPDX-License-Identifier: MIT */
/*
 * The memory of one guest moves over a link, by somebody's rule: the library's own (convergence.h), or another project's
 * (downtime.h). Pages are a fluid (pages.h); QEMU's rounds, its test for the switch-over and its auto-converge stand in
 * move.c. Nothing here draws a random number but guest_draw and guest_again.
 */
#ifndef SIMULATE_MOVE_H
#define SIMULATE_MOVE_H
#include "migbuf/history.h"
#include "pages.h"
#include <stdbool.h>

struct guest {
    double ram_bytes, used_bytes;                   /* used: without pages of zeros */
    double set[MODEL_CLASSES], rate[MODEL_CLASSES]; /* of pages, hot ones first */
    double period_s, shift;                         /* a builder works for 0.6 of it and rests; period 0: always the same */
    double postcopy_slow;                           /* of its speed lost while pages are missing */
};

/* The n-th of a population. Faster links carry busier guests. */
void guest_draw(struct guest *g, uint64_t population, uint32_t n, double link_bytes_per_s);

/* The same guest another day: it does what it did, a quarter more or less. */
struct guest guest_again(const struct guest *g, uint64_t population, uint32_t n, uint32_t day);

/* What a guest dirties of all its pages together. */
double guest_rate(const struct guest *g);

enum rule {
    RULE_NOVA,
    RULE_NOVA_POSTCOPY,
    RULE_CLOUDSTACK,
    RULE_CLOUDSTACK_PAUSE,
    RULE_KUBEVIRT,
    RULE_KUBEVIRT_HARD,
    RULE_PROXMOX,
    RULE_XEN,
    RULE_XEN_3,
    RULE_QEMU_7,
    RULE_QEMU_10,
    RULE_INCUS,
    RULE_OURS, /* from here on: what was agreed differs, see rule_agreement */
    RULE_OURS_98,
    RULE_OURS_FORCE,
    RULE_OURS_POSTCOPY,
    RULE_OURS_BOTH,
    RULES
};
extern const char *const rule_name[RULES], *const rule_text[RULES];

static inline bool rule_is_ours(enum rule rule)
{
    return rule >= RULE_OURS;
}

/* What was agreed for one of ours. */
struct migbuf_agreement rule_agreement(enum rule rule);

/* All its figures are from `migrate` on. */
struct moved {
    bool arrived, aborted, by_means; /* by_means: more was needed than a longer stop */
    double end_s, downtime_s, sent_bytes;
    double lost_s; /* of the guest's time: throttle, stop, what post-copy slows */
    double deadline_s;
    struct migbuf_attempt attempt; /* what a history would be told: of ours alone */
};

/* The devices' state, which every stop costs beside memory; 10 to 60 ms were measured. */
#define MOVE_FIX_S 0.05

/* In time: before its deadline, which is 6 times what its memory takes, at least a minute. */
double move_deadline_s(const struct guest *g, double link_bytes_per_s);

void move(const struct guest *g, enum rule rule, double link_bytes_per_s, struct moved *m);
#endif
