/* SPDX-License-Identifier: MIT */
/* printable: a peer's text made fit to be shown on a terminal. Nothing it gives out can move a cursor. */
#include "migbuf/error.h"
#include "text.h"
#include <stdio.h>
#include <string.h>

/* Moves a cursor, changes a colour or the order of what is read, or ends a line. */
static bool controls(uint32_t point)
{
    return point < 0x20 || (point >= 0x7F && point < 0xA0) || point == 0x061C || (point >= 0x200B && point <= 0x200F) ||
           (point >= 0x2028 && point <= 0x202E) || (point >= 0x2060 && point <= 0x206F) || point == 0xFEFF;
}

size_t migbuf_printable(const char *text, char *out, size_t out_bytes)
{
    size_t whole = 0, kept = 0;

    for (text = text ? text : ""; *text;) {
        uint32_t point;
        size_t n = migbuf__character(text, &point), length = n;
        char piece[4 * 4 + 1];

        if (n && !controls(point)) {
            memcpy(piece, text, n);
        } else {
            n = n ? n : 1;
            length = 4 * n;
            for (size_t i = 0; i < n; i++)
                snprintf(piece + 4 * i, 5, "\\x%02x", (unsigned char)text[i]);
        }
        if (kept == whole && out && whole + length < out_bytes) { /* none after one that did not fit */
            memcpy(out + kept, piece, length);
            kept += length;
        }
        whole += length;
        text += n;
    }
    if (out && out_bytes)
        out[kept] = 0;
    return whole;
}
