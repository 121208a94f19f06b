/* SPDX-License-Identifier: MIT */
/* Per size: its sentences, a bar per guest from its start to its end, and the files of one run on the same scale of time. */
#include "picture.h"
#include "draw.h"
#include "words.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define ROW 19.0
#define LINE 16.0
#define COLUMNS 112 /* signs of a sentence in one line */
#define LINES 64
#define NAME_SIGNS 18
#define GOOD "#009e73"
#define HELD "#d55e00"
#define MIRROR "#0072b2"

/* A text in lines. */
struct lines {
    char *text, *line[LINES];
    size_t count;
};

/* -1: no memory. */
static int lines_of(struct lines *l, char *words)
{
    size_t length;
    FILE *out = words ? open_memstream(&l->text, &length) : NULL;
    char *rest, *line;

    l->count = 0;
    if (out)
        words_wrap(words, COLUMNS, out);
    free(words);
    if (!out || fclose(out))
        return -1;
    for (rest = l->text; l->count < LINES && (line = strsep(&rest, "\n")) != NULL && *line;)
        l->line[l->count++] = line;
    return 0;
}

static double put_lines(const struct lines *l, const char *class, double y, FILE *out)
{
    for (size_t k = 0; k < l->count; k++, y += LINE)
        draw_text(out, class, "start", 8, y, l->line[k]);
    return y;
}

static void put_guest(const struct question *q, const struct prospect *p, double y, double scale, FILE *out)
{
    const char *fill = p->is_mirrored ? MIRROR : p->part.least < FREE_PART ? HELD : GOOD;
    double from = DRAW_LEFT + p->start_s.middle * scale, middle, most;
    char words[128], span[SPAN_SIZE];

    snprintf(words, sizeof words, strlen(p->guest->name) > NAME_SIGNS ? "%.*s~" : "%.*s", NAME_SIGNS, p->guest->name);
    draw_text(out, "t", "end", DRAW_LEFT - 14, y + 12, words);
    draw_bar(out, draw_palette[(p->guest - q->guests->list) % DRAW_PALETTE], 0.85, DRAW_LEFT - 10, y + 2, 6, ROW - 6);
    if (!isfinite(p->away_s.middle)) {
        draw_text(out, "r", "start", DRAW_LEFT + 5, y + 12, "is not away");
        return;
    }
    middle = DRAW_LEFT + p->away_s.middle * scale;
    most = isfinite(p->away_s.most) ? DRAW_LEFT + p->away_s.most * scale : DRAW_RIGHT;
    draw_bar(out, fill, 0.85, from, y + 2, fmax(2, middle - from), ROW - 6);
    draw_stroke(out, "a", DRAW_LEFT + p->away_s.least * scale, y + 2 + (ROW - 6) / 2, most, y + 2 + (ROW - 6) / 2);
    words_span(p->away_s.middle, span);
    if (p->part.least < FREE_PART)
        snprintf(words, sizeof words, "%s, %.0f %% of its writes", span, 100 * p->part.middle);
    else
        snprintf(words, sizeof words, "%s", span);
    if (most > DRAW_RIGHT - 170)
        draw_text(out, "t", "end", from - 6, y + 12, words);
    else
        draw_text(out, "t", "start", most + 6, y + 12, words);
}

/* What the bars of time say. */
static void put_key(double y, FILE *out)
{
    static const char *const key[][2] = { { GOOD, "not throttled" }, { HELD, "throttled" }, { MIRROR, "mirrored" } };
    double x = 8;

    for (size_t k = 0; k < sizeof key / sizeof *key; k++, x += 110) {
        draw_bar(out, key[k][0], 0.85, x, y - 9, 10, 10);
        draw_text(out, "s", "start", x + 15, y, key[k][1]);
    }
    draw_stroke(out, "a", x, y - 4, x + 18, y - 4);
    draw_text(out, "s", "start", x + 24, y, "first to last end of all runs");
}

static int put_answer(const struct question *q, const struct answer *a, const struct lines *lines, double *y, FILE *out)
{
    struct recording r = { .every_s = isfinite(a->away_s.middle) ? fmax(1, a->away_s.middle / 400) : 60 };
    char error[FAIL_SIZE];
    double end_s = 1;
    int rc = search_record(q, a->bytes, &r, error);

    *y = put_lines(lines, "h", *y, out) - 8;
    if (!rc && r.count)
        end_s = fmax(1, r.frames[r.count - 1].at_s);
    for (uint32_t k = 0; k < a->count; k++)
        if (isfinite(a->guests[k].away_s.most))
            end_s = fmax(end_s, a->guests[k].away_s.most);
    r.length_s = end_s;
    for (uint32_t k = 0; k < a->count; k++, *y += ROW)
        put_guest(q, &a->guests[k], *y, (DRAW_RIGHT - DRAW_LEFT) / end_s, out);
    *y += 22;
    if (!rc)
        rc = draw_files(&r, "those of the first run, stacked, in the colour beside the name; the dashed line is the buffer", *y, out);
    *y += DRAW_FILES + 60;
    recording_free(&r);
    return rc;
}

int picture_write(const struct question *q, const struct answer *answers, size_t count, double deadline_s, FILE *out)
{
    struct lines *lines = calloc(count + 1, sizeof *lines);
    double height = 24 + LINE, y = 24;
    int rc = lines ? 0 : -1;

    for (size_t k = 0; !rc && k <= count; k++) {
        rc = lines_of(&lines[k], k < count ? words_answer(&answers[k], deadline_s) : words_bars(q));
        if (!rc)
            height += LINE * (double)lines[k].count + (k < count ? answers[k].count * ROW + 22 + DRAW_FILES + 52 : 0);
    }
    if (!rc)
        draw_head(height, out);
    for (size_t k = 0; !rc && k < count; k++)
        rc = put_answer(q, &answers[k], &lines[k], &y, out);
    if (!rc) {
        put_key(y, out);
        put_lines(&lines[count], "s", y + LINE, out);
    }
    fputs("</svg>\n", out);
    for (size_t k = 0; lines && k <= count; k++)
        free(lines[k].text);
    free(lines);
    return rc || ferror(out) ? -1 : 0;
}
