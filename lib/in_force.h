/* SPDX-License-Identifier: MIT */
/* in_force: which limits may be in force. */
#ifndef MIGBUF_LIB_IN_FORCE_H
#define MIGBUF_LIB_IN_FORCE_H
#include "buffer.h"

/* Bytes/s, as growth, that the highest limit lets through that may be in force; and how many decisions may still land. */
double migbuf__highest_rate(const struct entry *e, uint32_t *sets);

/* `now` was decided in the place of `old`, which may be in force until `until_ms`. */
void migbuf__in_force_replace(struct entry *e, const struct setting *old, uint64_t until_ms);

/* Its files were measured at `since_ms` (MIGBUF__NEVER: nobody knows): what was no more in force then, and what drains and
 * stops had poured by then, is in the measurement. */
void migbuf__in_force_forget(struct entry *e, uint64_t since_ms, uint64_t now_ms);

/* Nobody knows whether the last decision was carried out. */
void migbuf__in_force_doubt(struct entry *e);
#endif
