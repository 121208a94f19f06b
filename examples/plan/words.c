/* SPDX-License-Identifier: MIT */
/* Sentences, table and timeline. See words.h. */
#include "words.h"
#include "numbers.h"
#include "table.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *words_span(double s, char text[SPAN_SIZE])
{
    long seconds = isfinite(s) ? lround(s) : 0, minutes = isfinite(s) ? lround(s / 60) : 0;

    if (!isfinite(s))
        snprintf(text, SPAN_SIZE, "never");
    else if (seconds < 120)
        snprintf(text, SPAN_SIZE, "%ld s", seconds);
    else if (seconds < 600 && seconds % 60)
        snprintf(text, SPAN_SIZE, "%ld min %ld s", seconds / 60, seconds % 60);
    else if (minutes < 120)
        snprintf(text, SPAN_SIZE, "%ld min", minutes);
    else if (minutes % 60)
        snprintf(text, SPAN_SIZE, "%ld h %ld min", minutes / 60, minutes % 60);
    else
        snprintf(text, SPAN_SIZE, "%ld h", minutes / 60);
    return text;
}

static const char *percent(double part, char text[SPAN_SIZE])
{
    double p = 100 * part;

    if (part < 1)
        p = fmin(p, part < FREE_PART ? 98.9 : 99.9); /* never rounded up to what it is not */
    snprintf(text, SPAN_SIZE, p < 9.95 || (p > 98.5 && p < 100) ? "%.1f" : "%.0f", p);
    return text;
}

/* Sentences */

static bool is_throttled(const struct prospect *p)
{
    return p->part.least < FREE_PART && p->runs_away > 0;
}

static bool by_room(const struct prospect *p)
{
    return is_throttled(p) && p->runs_short;
}

static bool by_link(const struct prospect *p)
{
    return is_throttled(p) && !p->runs_short;
}

static void put_away(const struct answer *a, FILE *out)
{
    char middle[SPAN_SIZE], least[SPAN_SIZE], most[SPAN_SIZE];

    if (!a->runs_away) {
        fprintf(out, "not all %u get away in any of %u runs.", a->count, a->runs);
        return;
    }
    fprintf(out, "all %u are away in %s (%s to %s)", a->count, words_span(a->away_s.middle, middle),
            words_span(a->away_s.least, least), words_span(a->away_s.most, most));
    fprintf(out, a->runs_away < a->runs ? ", but in %u of %u runs not." : ".", a->runs - a->runs_away, a->runs);
}

/* Those of whom it is true, with their part. Returns how many. */
static uint32_t put_guests(const struct answer *a, bool (*is_one)(const struct prospect *), const char *before, FILE *out)
{
    char middle[SPAN_SIZE], least[SPAN_SIZE], most[SPAN_SIZE];
    uint32_t n = 0;

    for (uint32_t k = 0; k < a->count; k++) {
        const struct prospect *p = &a->guests[k];

        if (!is_one(p))
            continue;
        fprintf(out, "%s %s gets %s %% of its writes (%s to %s %%)", n ? "," : before, p->guest->name,
                percent(p->part.middle, middle), percent(p->part.least, least), percent(p->part.most, most));
        n++;
    }
    if (n)
        fputc('.', out);
    return n;
}

static void put_throttled(const struct answer *a, FILE *out)
{
    uint32_t n = put_guests(a, by_room, "", out);

    n += put_guests(a, by_link, " No buffer helps whose clusters are written faster than the link carries them:", out);
    if (!n && a->runs_away && !a->is_smallest)
        fputs(" Nobody is throttled.", out);
    else if (n && n < a->count)
        fputs(" The others are not throttled.", out);
}

/* Does the link alone throttle somebody? */
static bool has_link_throttled(const struct answer *a)
{
    bool has = false;

    for (uint32_t k = 0; k < a->count; k++)
        has |= by_link(&a->guests[k]);
    return has;
}

static void put_lost(const struct answer *a, FILE *out)
{
    char size[HUMAN_SIZE];

    for (uint32_t k = 0; k < a->count; k++) {
        const struct prospect *p = &a->guests[k];

        if (!isfinite(p->start_s.least))
            fprintf(out, " %s never starts: %s is too small for it.", p->guest->name, human_binary(a->bytes, size));
        else if (p->runs_away < a->runs)
            fprintf(out, " %s does not get away in %u of %u runs.", p->guest->name, a->runs - p->runs_away, a->runs);
    }
}

static void put_mirrored(const struct answer *a, FILE *out)
{
    char part[SPAN_SIZE];
    uint32_t n = 0;

    for (uint32_t k = 0; k < a->count; k++)
        if (a->guests[k].is_mirrored)
            fprintf(out, "%s%s", n++ ? ", " : " Mirrored: ", a->guests[k].guest->name);
    for (uint32_t k = 0; k < a->count; k++)
        if (a->guests[k].is_advised)
            fprintf(out, "%s%s (%s %%)", n++ ? ", " : " Better mirrored (--policy hybrid): ",
                    a->guests[k].guest->name, percent(a->guests[k].mirror_part.middle, part));
    if (n)
        fputc('.', out);
}

static void put_deadline(const struct answer *a, double deadline_s, FILE *out)
{
    char span[SPAN_SIZE];

    if (isfinite(deadline_s))
        fprintf(out, " The deadline of %s is kept in %u of %u runs.", words_span(deadline_s, span), a->runs_in_time, a->runs);
}

char *words_answer(const struct answer *a, double deadline_s)
{
    char *text = NULL, size[HUMAN_SIZE];
    size_t length;
    FILE *out = open_memstream(&text, &length);

    if (!out)
        return NULL;
    fprintf(out, "With %s%s ", human_binary(a->bytes, size),
            !a->is_smallest         ? ""
            : has_link_throttled(a) ? ", the smallest with which nobody is throttled for want of room,"
                                    : ", the smallest with which nobody is throttled,");
    put_away(a, out);
    put_throttled(a, out);
    put_lost(a, out);
    put_mirrored(a, out);
    put_deadline(a, deadline_s, out);
    return fclose(out) ? (free(text), NULL) : text;
}

char *words_bars(const struct question *q)
{
    char *text;
    int rc;

    if (q->seeds == 1)
        rc = asprintf(&text, "One run of the model, so there are no error bars: --seeds.");
    else
        rc = asprintf(&text,
                      "In brackets, or under \"between\": least and most of %u runs of the model, before them the middle one. Each run has another "
                      "mean rate and working set of each guest (within a factor of %.2f of what is listed), another hot "
                      "part of it and another noise of the link. One more run would fall between them with a chance of %.0f "
                      "%%. RAM is not in it.",
                      q->seeds, 1 + TOLD_OFF, 100.0 * (q->seeds - 1) / (q->seeds + 1));
    return rc < 0 ? NULL : text;
}

void words_wrap(const char *text, int width, FILE *out)
{
    int at = 0;

    while (*text) {
        size_t word = strcspn(text, " ");

        if (!strncmp(text + word, " %", 2)) /* stays with its number */
            word += 1 + strcspn(text + word + 1, " ");
        if (at && at + 1 + (int)word > width) {
            fputc('\n', out);
            at = 0;
        }
        at += fprintf(out, "%s%.*s", at ? " " : "", (int)word, text);
        text += word;
        text += strspn(text, " ");
    }
    fputc('\n', out);
}

/* The table */

#define NAME_WIDTH 20

static void name(const void *row, char text[TABLE_CELL])
{
    const struct prospect *p = row;

    if (strlen(p->guest->name) > NAME_WIDTH)
        snprintf(text, TABLE_CELL, "%.*s~", NAME_WIDTH - 1, p->guest->name);
    else
        snprintf(text, TABLE_CELL, "%s", p->guest->name);
}

static void time_cell(double s, char text[TABLE_CELL])
{
    char clock[HUMAN_SIZE];

    snprintf(text, TABLE_CELL, "%s", isfinite(s) ? human_time(llround(1000 * s), clock) : "never");
}

static void cell_copy(const void *row, char text[TABLE_CELL])
{
    const struct prospect *p = row;

    human_binary((uint64_t)p->guest->used_bytes, text);
}

static void cell_starts(const void *row, char text[TABLE_CELL])
{
    const struct prospect *p = row;

    time_cell(p->start_s.middle, text);
}

static void cell_away(const void *row, char text[TABLE_CELL])
{
    const struct prospect *p = row;

    time_cell(p->away_s.middle, text);
}

static void cell_between(const void *row, char text[TABLE_CELL])
{
    const struct prospect *p = row;
    char least[TABLE_CELL], most[TABLE_CELL];

    time_cell(p->away_s.least, least);
    time_cell(p->away_s.most, most);
    if (!strcmp(least, most))
        snprintf(text, TABLE_CELL, "%s", least);
    else
        snprintf(text, TABLE_CELL, "%.24s to %.24s", least, most);
}

static void part_cell(const struct prospect *p, double part, char text[TABLE_CELL])
{
    char number[SPAN_SIZE];

    if (isfinite(p->start_s.least))
        snprintf(text, TABLE_CELL, "%s%%", percent(part, number));
    else
        snprintf(text, TABLE_CELL, "-");
}

static void cell_gets(const void *row, char text[TABLE_CELL])
{
    const struct prospect *p = row;

    part_cell(p, p->part.middle, text);
}

static void cell_gets_least(const void *row, char text[TABLE_CELL])
{
    const struct prospect *p = row;

    part_cell(p, p->part.least, text);
}

static void cell_file(const void *row, char text[TABLE_CELL])
{
    const struct prospect *p = row;

    human_binary((uint64_t)p->file_bytes.most, text);
}

/* A volume of its own for its file, of the sizes that are tried. Where room is short, its file would be larger. */
static void cell_state(const void *row, char text[TABLE_CELL])
{
    const struct prospect *p = row;

    if (p->runs_short || !p->runs_away || p->is_mirrored)
        snprintf(text, TABLE_CELL, "-");
    else
        human_binary(size_up(p->file_bytes.most), text);
}

static const struct table_column columns[] = {
    { "copy", 8, cell_copy },        { "starts", 7, cell_starts },      { "away", 7, cell_away },
    { "between", 18, cell_between }, { "gets", 5, cell_gets },          { "at least", 8, cell_gets_least },
    { "file", 8, cell_file },        { "size.state", 10, cell_state },
};

void words_table(const struct answer *a, int width, FILE *out)
{
    const struct table table = { .columns = columns,
                                 .column_count = sizeof columns / sizeof *columns,
                                 .title = "VM",
                                 .name = name,
                                 .rows = a->guests,
                                 .row_bytes = sizeof *a->guests,
                                 .row_count = a->count };

    table_write(&table, width, out);
}

/* The timeline */

static void put_bar(const struct prospect *p, double column_s, int columns_wide, bool colour, FILE *out)
{
    int from = (int)(p->start_s.middle / column_s), least = (int)(p->away_s.least / column_s);
    int to = (int)ceil(p->away_s.middle / column_s);
    int most = isfinite(p->away_s.most) ? (int)ceil(p->away_s.most / column_s) : columns_wide;
    char sign = p->is_mirrored ? 'm' : p->part.middle < FREE_PART ? '=' : '#';

    to = to > from ? to : from + 1;
    for (int k = 0; k < from && k < columns_wide; k++)
        fputc(' ', out);
    if (colour)
        fputs(sign == '#' ? "\033[32m" : sign == '=' ? "\033[33m" : "\033[36m", out);
    for (int k = from; k < columns_wide && (k < to || k < most); k++)
        fputc(k >= to ? '.' : k > from && k > least ? '-' : sign, out);
    if (colour)
        fputs("\033[0m", out);
}

void words_timeline(const struct answer *a, int width, bool colour, FILE *out)
{
    int names = 0, wide;
    double end_s = 0, column_s;
    char text[TABLE_CELL], span[SPAN_SIZE];

    for (uint32_t k = 0; k < a->count; k++) {
        const struct spread *s = &a->guests[k].away_s;

        name(&a->guests[k], text);
        names = (int)strlen(text) > names ? (int)strlen(text) : names;
        end_s = fmax(end_s, isfinite(s->most) ? s->most : isfinite(s->middle) ? s->middle : 0);
    }
    wide = width - names - 3;
    if (wide < 20 || end_s <= 0)
        return;
    column_s = end_s / wide;
    for (uint32_t k = 0; k < a->count; k++) {
        name(&a->guests[k], text);
        fprintf(out, "%-*s |", names, text);
        if (isfinite(a->guests[k].away_s.middle))
            put_bar(&a->guests[k], column_s, wide, colour, out);
        else
            fputs("is not away", out);
        fputc('\n', out);
    }
    words_span(end_s, span);
    fprintf(out, "%-*s 0%*s\n", names + 1, "", wide - 1, span);
}
