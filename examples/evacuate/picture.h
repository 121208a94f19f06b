/* SPDX-License-Identifier: MIT */
/*
 * The live picture. On a terminal: bins, Ω and one line per VM, redrawn in place; otherwise one plain line per second
 * and one per event, without escape codes. Reads the record and the ledger, changes neither, and never waits.
 *
 * Colours are told apart by colour-blind readers, and every coloured cell has its VM's letter for those who have none.
 * NO_COLOR (set and not empty) turns colours off; a locale without UTF-8 gives plain ASCII.
 */
#ifndef EVACUATE_PICTURE_H
#define EVACUATE_PICTURE_H
#include "migbuf/bins.h"
#include "record.h"
#include <stdbool.h>
#include <stdio.h>

struct picture;

/* How to draw; picture_new() finds it out, tests say it. */
struct picture_style {
    uint32_t columns; /* at least 60 are used */
    uint32_t rows;    /* at least 8 are used; with too few, VMs that have ended are left out first */
    bool colour;
    bool utf8;
};

/*
 * Starts a picture on `out`, which stays the caller's. At most one may be on a terminal at a time. A terminal narrower
 * than 60 columns or lower than 8 rows gets plain lines. NULL when there is no memory.
 */
struct picture *picture_new(FILE *out);

/*
 * Draws the newest frame of the record; nothing when it has none. Cheap to call at every tick: the terminal is written
 * to at most every 100 ms, a pipe gets a line at most every second. `force` draws whatever the clock says (use it for
 * the last one). `bins` NULL: no ledger, Ω is one bar.
 */
void picture_draw(struct picture *picture, const struct record *record, const struct migbuf_bins *bins, bool force);

/* A line of text that stays: above the picture on a terminal, a line like others elsewhere. */
void picture_say(struct picture *picture, const char *text);

/* Ends it: the last picture stays on the screen, the cursor is below it. NULL is fine. */
void picture_free(struct picture *picture);

/*
 * Gives the terminal its cursor and colours back. Does nothing without a picture on a terminal. Async-signal-safe, so
 * that a handler of SIGINT, SIGTERM or SIGSEGV may call it before it ends the program.
 */
void picture_end(void);

/*
 * One picture as text, lines ended by '\n', no cursor movement. Returns the number of lines, at most style->rows - 1,
 * none wider than style->columns.
 */
uint32_t picture_write(FILE *out, const struct picture_style *style, const struct record *record,
                       const struct migbuf_bin *bins, size_t bin_count, const struct migbuf_shard *shards,
                       size_t shard_count);
#endif
