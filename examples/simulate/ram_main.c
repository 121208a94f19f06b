/* SPDX-License-Identifier: MIT */
/* simulate-ram: the library's rule for the end of a memory migration against everybody else's, in a model. See --help. */
#include "command.h"
#include "move.h"
#include "numbers.h"
#include "table.h"
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "usage: simulate-ram [options]\n"
    "\n"
    "Moves the memory of many guests in a model of QEMU's rounds, each guest by each rule, and compares what\n"
    "becomes of them. Ours is the library's migbuf_convergence_decide, others' are those of migbuf/downtime.h;\n"
    "guests and link are a model. Same seed, same guests, same result.\n"
    "\n"
    "  --vms N           guests, 1 to 10000 (100)\n"
    "  --seed S          the first population (11)\n"
    "  --seeds N         populations, 1 to 100 (3)\n"
    "  --link RATE       bytes a second, as 117MB, which is 1 Gbit/s (117MB)\n"
    "  --history N       instead: guests that come back N times, 2 to 32, and what is foretold before each\n"
    "                    move, with their history and without\n"
    "  --json [FILE]     an object a line as a JSON array, for each population of its own; without FILE on\n"
    "                    standard output, instead of the table\n"
    "  --version         the library's version\n"
    "  -h, --help        this text\n"
    "\n"
    "Exit status: 0; 1 it could not be done; 2 wrong options, or a file that cannot be written.\n"
    "\n"
    "Columns\n"
    "  agreed      guests that moved in time and stood no longer than 500 ms and the 50 ms that every stop\n"
    "              costs; in time is 6 times what their memory takes, a minute at least\n"
    "  worst       the same of the population where it is least\n"
    "  in time     with any stop\n"
    "  stop        how long a guest stood, of those that moved: the middle one, and what 1 % exceed\n"
    "  total       from `migrate` to the end, of whatever kind; a rule that never ends one is ended after 12\n"
    "              times the deadline\n"
    "  lost        guest time lost: throttle times its time, the stop, and what post-copy slows a guest\n"
    "  sent        bytes sent / memory in use\n"
    "  back        guests given back\n"
    "\n"
    "With --history (the history is the library's, migbuf_history_prior; attempts are a day apart, and a guest\n"
    "does what it did, a quarter more or less)\n"
    "  before      attempts that are known\n"
    "  end         how far the foretold end was from the true one, of those that needed nothing but a longer\n"
    "              stop: the middle one, in percent\n"
    "  means       how often it was rightly foretold whether more than a longer stop would be needed\n"
    "  rate        how far the believed rate of writing was from what the attempt then measured: the middle\n"
    "              one, as a factor\n"
    "  bound       how often the measured rate was below the bound that nine in ten are to be below\n"
    "\n"
    "Guests: 2 to 32 GiB, 5 to 50 % of it zeros. In a hundred 30 idle (1 MB/s of pages written), 30 web (15),\n"
    "20 database (70), 12 builders (120, that work for 60 % of 20 to 90 s and rest), 8 hogs (500), each times a\n"
    "factor that is log-normal (0.6). 90 % of it goes to 1, 3, 15, 10 or 30 % of the used memory, 8 % to five\n"
    "times that, 2 % to the rest, everywhere at random. On links from 5e8 bytes/s on guests are four times as\n"
    "busy. A throttle acts in full; post-copy slows a guest by 40 to 90 % while pages are missing. The rules were\n"
    "tuned with other populations (1 and 2 of another program).\n";

#define AGREED_S 0.55

struct options {
    uint32_t vms, seeds, history;
    uint64_t seed, link;
    const char *json;
};

static int take_option(void *program, int option, const char *value, char error[FAIL_SIZE])
{
    struct options *o = program;

    switch (option) {
    case 'v':
        return command_number32("vms", value, 1, 10000, "guests", &o->vms, error);
    case 'e':
        return command_number("seed", value, 0, UINT64_C(1000000000000000), NULL, &o->seed, error);
    case 'n':
        return command_number32("seeds", value, 1, 100, "populations", &o->seeds, error);
    case 'y':
        return command_number32("history", value, 2, 32, "moves", &o->history, error);
    case 'l':
        if (!read_size(value, 1000, 1000000, UINT64_C(1) << 40, &o->link))
            return fail(error, "--link %s: bytes a second, 1M to 1T, as 117MB", value);
        return 0;
    default:
        o->json = value ? value : "-";
        return 0;
    }
}

static void help(FILE *out)
{
    fputs(usage, out);
}

/* Everything of one rule, over one population or all. */
struct row {
    enum rule rule;
    uint64_t seed;
    uint32_t vms, agreed, in_time, moved, back;
    double worst, stop_p50, stop_p99, total_p50, total_p99, lost_mean, sent;
};

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* Sorts them. */
static double quantile(double *value, size_t n, double part)
{
    size_t at = (size_t)(part * (double)n);

    qsort(value, n, sizeof *value, compare);
    return n ? value[at < n ? at : n - 1] : NAN;
}

/* -1: no memory. */
static int add_up(struct row *row, const struct moved *m, const struct guest *g, uint32_t n)
{
    double *stop = calloc(n, sizeof *stop), *total = calloc(n, sizeof *total), lost = 0, sent = 0, used = 0;

    for (uint32_t k = 0; k < n && stop && total; k++) {
        bool in_time = m[k].arrived && m[k].end_s <= m[k].deadline_s;

        if (m[k].arrived)
            stop[row->moved++] = m[k].downtime_s;
        total[k] = m[k].end_s;
        row->in_time += in_time;
        row->agreed += in_time && m[k].downtime_s <= AGREED_S;
        row->back += m[k].aborted;
        lost += m[k].lost_s;
        sent += m[k].sent_bytes;
        used += g[k].used_bytes;
    }
    if (stop && total) {
        row->vms = n;
        row->stop_p50 = 1000 * quantile(stop, row->moved, 0.5);
        row->stop_p99 = 1000 * quantile(stop, row->moved, 0.99);
        row->total_p50 = quantile(total, n, 0.5);
        row->total_p99 = quantile(total, n, 0.99);
        row->lost_mean = lost / n;
        row->sent = sent / used;
        row->worst = 100.0 * row->agreed / n;
    }
    free(stop);
    free(total);
    return row->vms ? 0 : -1;
}

/* The table */

static double share(uint32_t part, const struct row *r)
{
    return 100.0 * part / r->vms;
}

static void name_cell(const void *row, char text[TABLE_CELL])
{
    snprintf(text, TABLE_CELL, "%s", rule_text[((const struct row *)row)->rule]);
}

#define CELL(name, format, value)                                                                                      \
    static void name(const void *row, char text[TABLE_CELL])                                                           \
    {                                                                                                                  \
        const struct row *r = row;                                                                                     \
                                                                                                                       \
        snprintf(text, TABLE_CELL, format, value);                                                                     \
    }
CELL(agreed_cell, "%.1f%%", share(r->agreed, r))
CELL(worst_cell, "%.0f%%", r->worst)
CELL(in_time_cell, "%.1f%%", share(r->in_time, r))
CELL(stop_cell, "%.0f ms", r->stop_p50)
CELL(longest_cell, "%.0f ms", r->stop_p99)
CELL(total_cell, "%.0f s", r->total_p50)
CELL(latest_cell, "%.0f s", r->total_p99)
CELL(lost_cell, "%.1f s", r->lost_mean)
CELL(sent_cell, "%.2f", r->sent)
CELL(back_cell, "%.1f%%", share(r->back, r))

static const struct table_column columns[] = {
    { "agreed", 6, agreed_cell }, { "worst", 5, worst_cell },     { "in time", 7, in_time_cell }, { "stop", 7, stop_cell },
    { "p99", 9, longest_cell },   { "total", 6, total_cell },     { "p99", 7, latest_cell },      { "lost", 7, lost_cell },
    { "sent", 5, sent_cell },     { "back", 5, back_cell },
};

static bool gap(const void *before, const void *row)
{
    return !rule_is_ours(((const struct row *)before)->rule) && rule_is_ours(((const struct row *)row)->rule);
}

/* Of others that move as many as agreed as this one; the shortest middle stop. RULES: nobody does. */
static enum rule best_other(const struct row *rows, const struct row *ours)
{
    enum rule best = RULES;

    for (int k = 0; k < RULE_OURS; k++)
        if (rows[k].agreed >= ours->agreed && (best == RULES || rows[k].stop_p50 < rows[best].stop_p50))
            best = (enum rule)k;
    return best;
}

/* The middle stop of ours against the best of others; and who has something that ours has not. */
static void tell_who_wins(const struct row *rows, FILE *out)
{
    const struct row *ours = &rows[RULE_OURS_98];
    enum rule best = best_other(rows, ours), most = RULE_NOVA;

    for (int k = 0; k < RULE_OURS; k++)
        if (rows[k].agreed > rows[most].agreed)
            most = (enum rule)k;
    if (best == RULES)
        fprintf(out, "\nNobody else moves as many as agreed as \"%s\" does. Most have \"%s\": %u of %u, stop %.0f ms.\n",
                rule_text[RULE_OURS_98], rule_text[most], rows[most].agreed, rows[most].vms, rows[most].stop_p50);
    else
        fprintf(out, "\nOf those that move as many as agreed, the shortest middle stop has \"%s\": %.0f ms, ours %.0f ms.\n",
                rule_text[best], rows[best].stop_p50, ours->stop_p50);
    for (int k = 0; k < RULE_OURS; k++) {
        if (rows[k].stop_p50 < ours->stop_p50)
            fprintf(out, "A shorter middle stop than ours: %s; it moves %.1f %% as agreed.\n", rule_text[k], share(rows[k].agreed, &rows[k]));
        if (rows[k].in_time == rows[k].vms && rows[k].lost_mean < ours->lost_mean)
            fprintf(out, "Less lost than ours, all in time: %s; it moves %.1f %% as agreed.\n", rule_text[k], share(rows[k].agreed, &rows[k]));
    }
}

static void write_rows(const struct row *rows, FILE *out)
{
    const struct table t = { .columns = columns,
                             .column_count = sizeof columns / sizeof *columns,
                             .title = "rule",
                             .name = name_cell,
                             .rows = rows,
                             .row_bytes = sizeof *rows,
                             .row_count = RULES,
                             .gap = gap };

    table_write(&t, table_width(out), out);
    tell_who_wins(rows, out);
}

static void json_row(const struct row *r, bool last, FILE *out)
{
    fprintf(out,
            "  {\"rule\": \"%s\", \"seed\": %" PRIu64 ", \"vms\": %" PRIu32 ", \"agreed_pct\": %.3f, \"in_time_pct\": %.3f, "
            "\"stop_ms\": %.3f, \"stop_p99_ms\": %.3f, \"total_s\": %.3f, \"total_p99_s\": %.3f, \"lost_s\": %.3f, "
            "\"sent\": %.4f, \"back_pct\": %.3f}%s\n",
            rule_name[r->rule], r->seed, r->vms, share(r->agreed, r), share(r->in_time, r), r->stop_p50, r->stop_p99, r->total_p50,
            r->total_p99, r->lost_mean, r->sent, share(r->back, r), last ? "" : ",");
}

/* All guests of all populations by one rule. -1: no memory. */
static int run_rule(const struct options *o, enum rule rule, struct row *all, struct row *each)
{
    uint32_t n = o->vms * o->seeds;
    struct moved *m = calloc(n, sizeof *m);
    struct guest *g = calloc(n, sizeof *g);
    double link = (double)o->link;
    int rc = m && g ? 0 : -1;

    for (uint32_t k = 0; k < n && !rc; k++) {
        guest_draw(&g[k], o->seed + k / o->vms, k % o->vms, link);
        move(&g[k], rule, link, &m[k]);
    }
    *all = (struct row){ .rule = rule, .seed = o->seed };
    rc = rc ? rc : add_up(all, m, g, n);
    for (uint32_t k = 0; k < o->seeds && !rc; k++) {
        each[k] = (struct row){ .rule = rule, .seed = o->seed + k };
        rc = add_up(&each[k], m + k * o->vms, g + k * o->vms, o->vms);
        all->worst = fmin(all->worst, each[k].worst);
    }
    free(m);
    free(g);
    return rc;
}

static int compare_rules(const struct options *o, FILE *out)
{
    static struct row all[RULES];
    struct row *each = calloc((size_t)RULES * o->seeds, sizeof *each);
    int rc = each ? 0 : -1;

    for (int k = 0; k < RULES && !rc; k++)
        rc = run_rule(o, (enum rule)k, &all[k], each + (size_t)k * o->seeds);
    if (!rc && o->json) {
        fputs("[\n", out);
        for (size_t k = 0; k < (size_t)RULES * o->seeds; k++)
            json_row(&each[k], k + 1 == (size_t)RULES * o->seeds, out);
        fputs("]\n", out);
    } else if (!rc) {
        write_rows(all, out);
    }
    free(each);
    return rc;
}

/* History */

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

#define KNOWN_CELL(name, format, value)                                                                                \
    static void name(const void *row, char text[TABLE_CELL])                                                           \
    {                                                                                                                  \
        const struct known_row *r = row;                                                                               \
                                                                                                                       \
        snprintf(text, TABLE_CELL, format, value);                                                                     \
    }
KNOWN_CELL(end0_cell, "%.0f%%", r->end_pct[0])
KNOWN_CELL(end1_cell, "%.0f%%", r->end_pct[1])
KNOWN_CELL(means0_cell, "%.0f%%", r->means_pct[0])
KNOWN_CELL(means1_cell, "%.0f%%", r->means_pct[1])
KNOWN_CELL(rate0_cell, "%.1f", r->rate[0])
KNOWN_CELL(rate1_cell, "%.1f", r->rate[1])
KNOWN_CELL(bound0_cell, "%.0f%%", r->bound_pct[0])
KNOWN_CELL(bound1_cell, "%.0f%%", r->bound_pct[1])

static const struct table_column known_columns[] = {
    { "end, without", 12, end0_cell },   { "with", 5, end1_cell },   { "means, without", 14, means0_cell }, { "with", 5, means1_cell },
    { "rate, without", 13, rate0_cell }, { "with", 5, rate1_cell }, { "bound, without", 14, bound0_cell }, { "with", 5, bound1_cell },
};

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
    for (uint32_t k = 0; k < o->history; k++)
        fprintf(out,
                "  {\"before\": %" PRIu32 ", \"vms\": %" PRIu32 ", \"end_pct\": [%.3f, %.3f], \"means_pct\": [%.3f, %.3f], "
                "\"rate\": [%.4f, %.4f], \"bound_pct\": [%.3f, %.3f]}%s\n",
                rows[k].before, rows[k].count, rows[k].end_pct[0], rows[k].end_pct[1], rows[k].means_pct[0], rows[k].means_pct[1],
                rows[k].rate[0], rows[k].rate[1], rows[k].bound_pct[0], rows[k].bound_pct[1], k + 1 < o->history ? "," : "");
    fputs("]\n", out);
}

static int compare_forecasts(const struct options *o, FILE *out)
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

static int write_to(const struct options *o, FILE *out)
{
    if (o->history ? compare_forecasts(o, out) : compare_rules(o, out))
        return fprintf(stderr, "simulate-ram: out of memory\n"), 1;
    return 0;
}

int main(int argc, char **argv)
{
    static const struct option known[] = {
        { "vms", 1, NULL, 'v' },  { "seed", 1, NULL, 'e' }, { "seeds", 1, NULL, 'n' }, { "history", 1, NULL, 'y' },
        { "link", 1, NULL, 'l' }, { "json", 2, NULL, 'J' }, COMMAND_OPTIONS,
    };
    static const struct command command = { "simulate-ram", known, help, take_option };
    struct options o = { .vms = 100, .seed = 11, .seeds = 3, .link = 117000000 };
    char error[FAIL_SIZE];
    FILE *out = stdout;
    int rc = command_read(&command, &o, argc, argv, error);

    if (rc > 0)
        return 0;
    if (rc < 0 || command_no_words(argc, argv, error) || command_check_output("json", o.json, error)) {
        fprintf(stderr, "simulate-ram: %s\n", error);
        return 2;
    }
    if (o.json && strcmp(o.json, "-"))
        out = fopen(o.json, "w");
    rc = out ? write_to(&o, out) : 1;
    if (!out || fflush(out) || ferror(out)) {
        fprintf(stderr, "simulate-ram: %s cannot be written\n", o.json ? o.json : "standard output");
        rc = 1;
    }
    return rc;
}
