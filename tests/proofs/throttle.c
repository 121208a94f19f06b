/* SPDX-License-Identifier: MIT */
/*
 * throttle: any doubles at all, NaN and infinities among them. exp() is replaced by what is true of it: of a number that is
 * not positive it is between 0 and 1.
 */
#include "any.h"
#include <math.h>

static double some_exp(double x)
{
    double y = nondet_double();

    prove(!isnan(x) && x <= 0, "exp() is asked about a number that is not positive");
    suppose(y >= 0 && y <= 1);
    return y;
}
#define exp some_exp
#include "../../lib/throttle.c"

/* What memory.c does with a struct of this size. */
int migbuf__struct_take(void *own, size_t own_bytes, const void *given, size_t first)
{
    (void)first;
    memcpy(own, given, own_bytes);
    return 0;
}

void rate(void)
{
    struct migbuf_throttle_constants c = { .size = sizeof c, .tau_s = nondet_double() };
    double r;

    c.epsilon_bytes = nondet_double();
    c.epsilon_bytes_per_s = nondet_double();
    if (migbuf_throttle_rate(nondet_double(), nondet_double(), nondet_double(), &c, &r))
        return;
    prove(!isnan(r) && !isinf(r), "a rate is a number");
    prove(r >= c.epsilon_bytes_per_s, "and not below its floor");
}
