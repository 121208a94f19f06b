/* SPDX-License-Identifier: MIT */
/* trial: a copy of what runs, in which admission and outlook may plan what has not happened. Changes nothing in the buffer. */
#ifndef MIGBUF_LIB_TRIAL_H
#define MIGBUF_LIB_TRIAL_H
#include "buffer.h"
#include "migbuf/admission.h"

/* What runs, and place for more, as the planner wants it. */
struct trial {
    struct migbuf_planner_options options;
    struct migbuf_planner_guest *guest;
    struct migbuf_planner_plan *plan;
    struct migbuf_planner_slot *slot;
    struct migbuf_planner_link *link;
    struct migbuf_admission_flow *flow; /* those that run, then those that wait */
    size_t guests, links, slots, bytes;
    void *block;
};

/* Memory for `more` beside what runs. MIGBUF_E_NOMEM. */
int migbuf__trial_new(const struct migbuf_buffer *b, size_t more, struct trial *t);
void migbuf__trial_free(const struct migbuf_buffer *b, struct trial *t);

/* Plans until what is sent and what grows fit each other. */
int migbuf__trial_settle(struct trial *t);

/* The same with everybody held to what the plan lets through. */
int migbuf__trial_hold(struct trial *t);

/* Of what guest i wants to write, what the plan lets through: 0 .. 1. */
double migbuf__trial_delivered(const struct trial *t, size_t i);

/* Links by id: the table lives in the slots until something else uses them. */
void migbuf__trial_link_table(const struct migbuf_buffer *b, struct trial *t);
uint32_t migbuf__trial_link_index(struct trial *t, uint64_t id); /* a new one's stands behind the buffer's */
int migbuf__trial_link_is_known(const struct migbuf_buffer *b, uint32_t at);

/* The caller's description of one that waits is in its ranges. */
int migbuf__check_waiting(const struct migbuf_waiting *w);
#endif
