/* SPDX-License-Identifier: MIT */
/* throttle, inside: the two that have to sort, without checks and in O(n), for who has checked and has the place. */
#ifndef MIGBUF_LIB_THROTTLE_H
#define MIGBUF_LIB_THROTTLE_H
#include "migbuf/throttle.h"
#include "sort.h"

/* migbuf_throttle_shave; order[n] and keys[2 n] are scratch. */
double migbuf__shave(const double *amount, const double *weight, size_t n, double total, size_t *order,
                     struct migbuf__key *keys);

/* migbuf_throttle_lenders; scratch[2 n] and keys[2 n]. */
void migbuf__lenders(const double *x, size_t n, const size_t *first, const size_t *borrower, size_t *scratch,
                     struct migbuf__key *keys, double *y);
#endif
