/* SPDX-License-Identifier: MIT */
/* number: the rules of numbers that pure functions share. Private. */
#ifndef MIGBUF_LIB_NUMBER_H
#define MIGBUF_LIB_NUMBER_H
#include "migbuf/error.h"
#include <math.h>

/* 0, MIGBUF_E_INVALID for NaN, MIGBUF_E_RANGE below `least`, above `most`, or equal to `least` where that is excluded. */
static inline int migbuf__number(double x, double least, double most)
{
    if (isnan(x))
        return MIGBUF_E_INVALID;
    return x < least || x > most ? MIGBUF_E_RANGE : 0;
}

/* >= 0, INFINITY included. */
static inline int migbuf__amount(double x)
{
    return migbuf__number(x, 0, INFINITY);
}

/* >= 0 and finite. */
static inline int migbuf__finite(double x)
{
    return migbuf__number(x, 0, 1.7976931348623157e308);
}

/* > 0 and finite. */
static inline int migbuf__positive(double x)
{
    return migbuf__number(x, 4.9e-324, 1.7976931348623157e308);
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
