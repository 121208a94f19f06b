/* SPDX-License-Identifier: MIT */
/* What a proof may choose: any value at all. CBMC knows these names by their absence. */
#ifndef MIGBUF_PROOFS_ANY_H
#define MIGBUF_PROOFS_ANY_H
#include <stddef.h>
#include <stdint.h>

uint64_t nondet_u64(void);
uint32_t nondet_u32(void);
size_t nondet_size(void);
double nondet_double(void);
char nondet_char(void);

#define suppose(condition) __CPROVER_assume(condition)
#define prove(condition, words) __CPROVER_assert(condition, words)
#endif
