/* SPDX-License-Identifier: MIT */
/* Readers of numbers, names and sizes: any text of at most LENGTH bytes. Nothing is read or written outside, nothing overflows. */
#include "../../lib/text.c"
#include "../../examples/common/numbers.c"
#include "any.h"

/* The reader ends a text before what is its last word. */
void saved_number(void)
{
    char text[LENGTH];
    size_t n = nondet_size();
    struct migbuf__reader r = { text, text, 0 };
    uint64_t least = nondet_u64(), most = nondet_u64(), x;

    suppose(n <= LENGTH && least <= most);
    r.end = text + n;
    x = migbuf__read_number(&r, least, most);
    prove(x >= least && x <= most, "a number within its bounds, good or bad");
    prove(r.at >= text && r.at <= r.end, "the reader stays inside");
}

void saved_name(void)
{
    char text[LENGTH], name[5];
    size_t n = nondet_size();
    struct migbuf__reader r = { text, text, 0 };

    suppose(n <= LENGTH);
    r.end = text + n;
    migbuf__read_name(&r, name, sizeof name);
    prove(r.at >= text && r.at <= r.end, "the reader stays inside");
}

static void any_text(char text[LENGTH])
{
    for (size_t i = 0; i < LENGTH; i++)
        text[i] = nondet_char();
    text[LENGTH - 1] = 0;
}

void size(void)
{
    char text[LENGTH];
    uint64_t least = nondet_u64(), most = nondet_u64(), value;

    any_text(text);
    if (read_size(text, 1024, least, most, &value))
        prove(value >= least && value <= most, "a size within its bounds");
}

void count(void)
{
    char text[LENGTH];
    uint64_t least = nondet_u64(), most = nondet_u64(), value;

    any_text(text);
    if (read_count(text, least, most, &value))
        prove(value >= least && value <= most, "a count within its bounds");
}

void character(void)
{
    char text[5];
    uint32_t point;
    size_t n;

    for (size_t i = 0; i < 5; i++)
        text[i] = nondet_char();
    text[4] = 0;
    n = migbuf__character(text, &point);
    prove(n <= 4 && (!n || point <= 0x10FFFF), "a character, or none");
}
