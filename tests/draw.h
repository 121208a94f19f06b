/* SPDX-License-Identifier: MIT */
/* draw: where the lives of the models get their choices from: a seed; or, in tests/fuzz, the bytes of an input, and a seed
 * once they are used up. There a check that fails ends the process. */
#ifndef MIGBUF_TESTS_DRAW_H
#define MIGBUF_TESTS_DRAW_H
#ifdef MIGBUF_FUZZ
#include "fuzz/fuzz.h"
#include <math.h>
#define ck_assert_msg(condition, ...) fuzz_check(condition, __VA_ARGS__)
#define ck_assert_int_eq(a, b) fuzz_check((a) == (b), "not so")
#define ck_assert_int_ge(a, b) fuzz_check((a) >= (b), "not so")
static struct choices draw_from;
#else
#include "unit.h"
#endif

static uint64_t draw_state;

/* 0 … below - 1. */
static uint32_t draw(uint32_t below)
{
#ifdef MIGBUF_FUZZ
    if (draw_from.at < draw_from.end)
        return take_below(&draw_from, below);
#endif
    draw_state = draw_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)((draw_state >> 33) % below);
}
#endif
