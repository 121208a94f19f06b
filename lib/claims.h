/* SPDX-License-Identifier: MIT */
/* claims: the terms of the proof, for one migration. All in bytes; none changes anything. */
#ifndef MIGBUF_LIB_CLAIMS_H
#define MIGBUF_LIB_CLAIMS_H
#include "buffer.h"

/* Its files as they were measured; what they may weigh now, although nobody has measured that much; what is missing from
 * there to all that they can ever weigh. */
uint64_t migbuf__files_of(const struct entry *e);
double migbuf__most_of(const struct entry *e);
double migbuf__missing(const struct entry *e);

/* What is kept free for its drains when its files weigh so much. */
double migbuf__reserve_of(const struct entry *e, double file_bytes);

/* What its files can have grown by from their measurement (MIGBUF__NEVER: nobody knows when) until now. */
double migbuf__unseen_of(const struct entry *e, uint64_t since_ms, uint64_t now_ms);

/* What they can grow by from now until what is decided now has landed; at most `missing_bytes`. */
double migbuf__pending_of(const struct migbuf_buffer *b, const struct entry *e, double missing_bytes);

/* The claim of a limit, which is in bytes/s of units: its fixed part, and how much the rest grows with each byte/s. */
double migbuf__claim_of(const struct migbuf_buffer *b, const struct entry *e, double limit_bytes_per_s, double missing_bytes,
                        double *slope);

/* The most that its files can weigh before the next decisions have landed, drains included. */
double migbuf__reach_of(const struct migbuf_buffer *b, const struct entry *e);

/* The smallest limit it can run under, in units/s; and what must fit for it beside the others: files of so many bytes, its
 * reserve and that limit. */
uint64_t migbuf__lowest_units(const struct entry *e);
double migbuf__least_bytes(const struct migbuf_buffer *b, const struct entry *e, double file_bytes);
#endif
