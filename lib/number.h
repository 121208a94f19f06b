/* SPDX-License-Identifier: MIT */
/*
 * number: the rules of numbers that pure functions share. Private.
 *
 * A number is at most MOST, or INFINITY where that means something; one that must not be 0, because something is divided
 * by it, is at least LEAST. So what is computed of some of them stays within what a double holds: no sum or product becomes
 * INFINITY by itself, and then NaN.
 */
#ifndef MIGBUF_LIB_NUMBER_H
#define MIGBUF_LIB_NUMBER_H
#include "migbuf/error.h"
#include <math.h>

/* As doubles: where the compiler reckons with more bits, a constant without a cast is none of its callers'. */
#define MIGBUF__LEAST ((double)1e-50)
#define MIGBUF__MOST ((double)1e50)

/* 0, MIGBUF_E_INVALID for NaN, MIGBUF_E_RANGE below `least`, above `most`, or beyond what any number may be. */
static inline int migbuf__number(double x, double least, double most)
{
    if (isnan(x))
        return MIGBUF_E_INVALID;
    return x < least || x > most || (x > MIGBUF__MOST && x < INFINITY) ? MIGBUF_E_RANGE : 0;
}

/* >= 0, INFINITY included. */
static inline int migbuf__amount(double x)
{
    return migbuf__number(x, 0, INFINITY);
}

/* >= 0, INFINITY not. */
static inline int migbuf__finite(double x)
{
    return migbuf__number(x, 0, MIGBUF__MOST);
}

/* > 0, INFINITY not. */
static inline int migbuf__positive(double x)
{
    return migbuf__number(x, MIGBUF__LEAST, MIGBUF__MOST);
}

/* > 0, INFINITY included. */
static inline int migbuf__flow(double x)
{
    return migbuf__number(x, MIGBUF__LEAST, INFINITY);
}

/* Of two numbers that are none of them NaN: fmin() and fmax() must care for that, and are calls into libm. */
static inline double migbuf__least(double a, double b)
{
    return a < b ? a : b;
}

static inline double migbuf__most(double a, double b)
{
    return a > b ? a : b;
}
#endif
