/* SPDX-License-Identifier: MIT */
/* bins, inside: what `buffer` needs of the ledger beyond the public calls. Migrations are numbered 0 .. count - 1 in order
 * of start here. The numbers of those behind it fall by one when a migration ends: at once, or when the ledger is looked at
 * or settled (migbuf__bins_gone tells). */
#ifndef MIGBUF_LIB_BINS_H
#define MIGBUF_LIB_BINS_H
#include "migbuf/bins.h"
#include "text.h"

#define MIGBUF__NONE UINT32_MAX

/* Number of a migration, or MIGBUF__NONE. O(log N). */
uint32_t migbuf__bins_find(const struct migbuf_bins *b, uint64_t id);
uint64_t migbuf__bins_id(const struct migbuf_bins *b, uint32_t i);
uint32_t migbuf__bins_weight_of(const struct migbuf_bins *b, uint32_t i);
uint64_t migbuf__bins_share(const struct migbuf_bins *b, uint32_t i);
uint64_t migbuf__bins_capacity(const struct migbuf_bins *b);

/* How many have ended and are still numbered; and what takes their numbers away. */
uint32_t migbuf__bins_gone(const struct migbuf_bins *b);
void migbuf__bins_settle(struct migbuf_bins *b);

/* Memory for one size change of every migration, or one new layout, so many times: what follows cannot fail then. */
int migbuf__bins_grow_all(struct migbuf_bins *b, uint32_t times);
void migbuf__bins_resize(struct migbuf_bins *b, uint64_t capacity_bytes);

/* The size of one from now on, which all see who ask for a sum. Its bytes are placed when somebody looks where they lie, or
 * one comes or leaves: of all that were told, those that shrank first. There is memory for it: migbuf__bins_grow_all. */
void migbuf__bins_tell(struct migbuf_bins *b, uint32_t i, uint64_t bytes);
int migbuf__bins_weight(struct migbuf_bins *b, uint32_t i, uint32_t weight);

/* The whole ledger as lines of a saved text, and an empty ledger filled from them. Reading returns 0, MIGBUF_E_PROTOCOL for
 * lines no ledger wrote, or MIGBUF_E_NOMEM; the ledger may only be freed then. */
void migbuf__bins_write(const struct migbuf_bins *b, struct migbuf__writer *w);
int migbuf__bins_read(struct migbuf_bins *b, struct migbuf__reader *r);

/* The most edges migbuf__bins_views can write before the ledger needs more memory. */
size_t migbuf__bins_edges(const struct migbuf_bins *b);

/* The views of all migrations in one pass, which bin each looks at besides its own (or MIGBUF__NONE), and who is whose
 * guest in the form migbuf_throttle_lenders takes. All arrays are the caller's: views, looks_at[count], first[count + 1],
 * guest[migbuf__bins_edges]. */
void migbuf__bins_views(const struct migbuf_bins *b, struct migbuf_bins_view *views, uint32_t *looks_at, size_t *first,
                        size_t *guest);
#endif
