/* SPDX-License-Identifier: MIT */
/* simulate-ram --history: what is foretold of guests that come back, with their history and without. */
#include "move.h"
#include "numbers.h"
#include "ram_rows.h"
#include "table.h"
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Of one forecast; 0: without a history, 1: with it. */
struct told {
    double end_off, rate_off; /* logarithms; NAN: not asked */
    bool means_right, below_bound;
};

/* One line of that table: the moves of guests of whom so many attempts are known. */
struct known_row {
    uint32_t before, count;
    double end_pct[2], means_pct[2], rate[2], bound_pct[2];
};

static void foretell(const struct guest *g, const struct migbuf_prior *p, const struct migbuf_agreement *a, double link,
                     const struct moved *m, struct told *t)
{
    struct migbuf_ram_forecast f = { .size = sizeof f };
    struct migbuf_convergence c;

    migbuf_convergence_init(&c, sizeof c);
    c.ram_bytes = c.left_bytes = g->used_bytes;
    c.set_bytes = p->set_bytes;
    c.rate_bytes_per_s = p->dirty_bytes_per_s;
    c.link_bytes_per_s = link;
    c.limit_ms = a->most_ms;
    c.known = 1;
    migbuf_convergence_forecast(&c, a, &f);
    t->means_right = (f.verdict != MIGBUF_RAM_YES) == m->by_means;
    t->end_off = !m->by_means && isfinite(f.end_s) ? fabs(log(f.end_s / m->end_s)) : !m->by_means ? INFINITY : NAN;
    t->rate_off = NAN;
    t->below_bound = true;
    if (m->attempt.dirty_bytes_per_s == MIGBUF_ATTEMPT_UNKNOWN || !m->attempt.dirty_bytes_per_s)
        return;
    t->rate_off = fabs(log(p->dirty_bytes_per_s / (double)m->attempt.dirty_bytes_per_s));
    t->below_bound = (double)m->attempt.dirty_bytes_per_s <= p->dirty_most;
}

/* What the moves of one guest were foretold to be: told[k][0] and [1] of its k-th. */
static void come_back(const struct options *o, uint32_t n, struct told (*told)[2])
{
    static char text[2][MIGBUF_HISTORY_BYTES + 1];
    const struct migbuf_agreement a = rule_agreement(RULE_OURS_BOTH);
    uint64_t population = o->seed + n / o->vms, day_s = 86400, now_s = 1700000000;
    size_t length = 0;
    struct guest g;

    guest_draw(&g, population, n % o->vms, (double)o->link);
    for (uint32_t k = 0; k < o->history; k++, now_s += day_s) {
        struct guest today = guest_again(&g, population, n % o->vms, k);
        struct migbuf_prior usual, prior = { .size = sizeof prior };
        struct moved m;

        migbuf_prior_init(&usual, sizeof usual, (uint64_t)g.ram_bytes);
        migbuf_history_prior(text[k % 2], length, now_s, &usual, &prior);
        move(&today, RULE_OURS_BOTH, (double)o->link, &m);
        foretell(&today, &usual, &a, (double)o->link, &m, &told[k][0]);
        foretell(&today, &prior, &a, (double)o->link, &m, &told[k][1]);
        strcpy(m.attempt.id, "guest");
        m.attempt.at_s = now_s;
        migbuf_history_append(text[k % 2], length, &m.attempt, text[(k + 1) % 2], sizeof text[0], &length);
    }
}

static size_t gather(const struct options *o, struct told (*told)[2], uint32_t attempt, int with, bool end, double *value)
{
    size_t count = 0;

    for (uint32_t n = 0; n < o->vms * o->seeds; n++) {
        const struct told *t = &told[n * o->history + attempt][with];
        double off = end ? t->end_off : t->rate_off;

        if (!isnan(off))
            value[count++] = off;
    }
    return count;
}

static void fill_known(const struct options *o, struct told (*told)[2], double *value, struct known_row *row)
{
    uint32_t all = o->vms * o->seeds;

    row->count = all;
    for (int with = 0; with < 2; with++) {
        uint32_t right = 0, below = 0;
        size_t count = gather(o, told, row->before, with, true, value);

        row->end_pct[with] = 100 * expm1(quantile(value, count, 0.5));
        count = gather(o, told, row->before, with, false, value);
        row->rate[with] = exp(quantile(value, count, 0.5));
        for (uint32_t n = 0; n < all; n++) {
            right += told[n * o->history + row->before][with].means_right;
            below += told[n * o->history + row->before][with].below_bound;
        }
        row->means_pct[with] = 100.0 * right / all;
        row->bound_pct[with] = 100.0 * below / all;
    }
}

static void before_cell(const void *row, char text[TABLE_CELL])
{
    snprintf(text, TABLE_CELL, "%" PRIu32, ((const struct known_row *)row)->before);
}

RAM_CELL(end0_cell, struct known_row, "%.0f%%", r->end_pct[0])
RAM_CELL(end1_cell, struct known_row, "%.0f%%", r->end_pct[1])
RAM_CELL(means0_cell, struct known_row, "%.0f%%", r->means_pct[0])
RAM_CELL(means1_cell, struct known_row, "%.0f%%", r->means_pct[1])
RAM_CELL(rate0_cell, struct known_row, "%.1f", r->rate[0])
RAM_CELL(rate1_cell, struct known_row, "%.1f", r->rate[1])
RAM_CELL(bound0_cell, struct known_row, "%.0f%%", r->bound_pct[0])
RAM_CELL(bound1_cell, struct known_row, "%.0f%%", r->bound_pct[1])

static const struct table_column known_columns[] = {
    { "end, without", 12, end0_cell },   { "with", 5, end1_cell },   { "means, without", 14, means0_cell }, { "with", 5, means1_cell },
    { "rate, without", 13, rate0_cell }, { "with", 5, rate1_cell }, { "bound, without", 14, bound0_cell }, { "with", 5, bound1_cell },
};

static void put_pair(const char *name, const double pair[2], int decimals, FILE *out)
{
    fprintf(out, ", \"%s\": ", name);
    put_number("[", pair[0], decimals, out);
    put_number(", ", pair[1], decimals, out);
    fputc(']', out);
}

static void write_known(const struct options *o, const struct known_row *rows, FILE *out)
{
    const struct table t = { .columns = known_columns,
                             .column_count = sizeof known_columns / sizeof *known_columns,
                             .title = "before",
                             .name = before_cell,
                             .rows = rows,
                             .row_bytes = sizeof *rows,
                             .row_count = o->history };

    if (!o->json) {
        table_write(&t, table_width(out), out);
        return;
    }
    fputs("[\n", out);
    for (uint32_t k = 0; k < o->history; k++) {
        fprintf(out, "  {\"before\": %" PRIu32 ", \"vms\": %" PRIu32, rows[k].before, rows[k].count);
        put_pair("end_pct", rows[k].end_pct, 3, out);
        put_pair("means_pct", rows[k].means_pct, 3, out);
        put_pair("rate", rows[k].rate, 4, out);
        put_pair("bound_pct", rows[k].bound_pct, 3, out);
        fprintf(out, "}%s\n", k + 1 < o->history ? "," : "");
    }
    fputs("]\n", out);
}

int compare_forecasts(const struct options *o, FILE *out)
{
    uint32_t all = o->vms * o->seeds;
    struct told(*told)[2] = calloc((size_t)all * o->history, sizeof *told);
    double *value = calloc(all, sizeof *value);
    struct known_row rows[32];
    int rc = told && value ? 0 : -1;

    for (uint32_t n = 0; n < all && !rc; n++)
        come_back(o, n, told + (size_t)n * o->history);
    for (uint32_t k = 0; k < o->history && !rc; k++) {
        rows[k] = (struct known_row){ .before = k };
        fill_known(o, told, value, &rows[k]);
    }
    if (!rc)
        write_known(o, rows, out);
    free(told);
    free(value);
    return rc;
}
