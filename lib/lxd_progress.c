/* SPDX-License-Identifier: MIT */
/* lxd_progress: counters and sizes as LXD and Incus write them for people. A text in, a number out; asks nobody. */
#include "migbuf/bins.h"
#include "migbuf/lxd.h"
#include <string.h>

/* "", "B", "kB", "MiB", …: the factor, 0 for anything else. */
static double unit_of(const char *text, size_t length)
{
    static const char letters[] = "kMGTPE";
    const char *letter;
    double factor = 1;

    if (length == 0 || (length == 1 && *text == 'B'))
        return 1;
    letter = memchr(letters, *text == 'K' ? 'k' : *text, sizeof letters - 1);
    if (!letter || !((length == 2 && text[1] == 'B') || (length == 3 && text[1] == 'i' && text[2] == 'B')))
        return 0;
    for (const char *k = letters; k <= letter; k++)
        factor *= length == 3 ? 1024 : 1000;
    return factor;
}

/* Where what a description is of begins: behind the last ": ". */
static size_t skip_description(const char *text, size_t length)
{
    size_t at = 0;

    for (size_t i = 2; i <= length; i++)
        if (text[i - 2] == ':' && text[i - 1] == ' ')
            at = i;
    return at;
}

int migbuf_lxd_processed(const char *text, size_t length, uint64_t *bytes)
{
    size_t at, digits = 0, end;
    double value = 0, place = 1, factor;

    if (!text || !bytes)
        return MIGBUF_E_INVALID;
    end = at = skip_description(text, length);
    while (end < length && text[end] != ' ')
        end++;
    if (end < length && (length - end < 2 || text[end + 1] != '(')) /* "3MB remaining" is no counter */
        return MIGBUF_E_PROTOCOL;
    for (; at < end && text[at] >= '0' && text[at] <= '9'; at++, digits++)
        value = 10 * value + (text[at] - '0');
    if (at < end && text[at] == '.')
        for (at++; at < end && text[at] >= '0' && text[at] <= '9'; at++, digits++)
            value += (text[at] - '0') * (place /= 10);
    factor = unit_of(text + at, end - at);
    if (!digits || !(factor > 0))
        return MIGBUF_E_PROTOCOL;
    value = value * factor + 1e-3; /* 1.1 kB is 1100, not 1099.99… */
    if (value > (double)MIGBUF_BYTES_MAX)
        return MIGBUF_E_RANGE;
    *bytes = (uint64_t)value;
    return 0;
}
