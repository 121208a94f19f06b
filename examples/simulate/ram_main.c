/* SPDX-License-Identifier: MIT */
/* simulate-ram: the library's rule for the end of a memory migration against everybody else's, in a model. See --help. */
#include "command.h"
#include "move.h"
#include "numbers.h"
#include "ram_rows.h"
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

RAM_CELL(agreed_cell, struct row, "%.1f%%", share(r->agreed, r))
RAM_CELL(worst_cell, struct row, "%.0f%%", r->worst)
RAM_CELL(in_time_cell, struct row, "%.1f%%", share(r->in_time, r))
RAM_CELL(stop_cell, struct row, "%.0f ms", r->stop_p50)
RAM_CELL(longest_cell, struct row, "%.0f ms", r->stop_p99)
RAM_CELL(total_cell, struct row, "%.0f s", r->total_p50)
RAM_CELL(latest_cell, struct row, "%.0f s", r->total_p99)
RAM_CELL(lost_cell, struct row, "%.1f s", r->lost_mean)
RAM_CELL(sent_cell, struct row, "%.2f", r->sent)
RAM_CELL(back_cell, struct row, "%.1f%%", share(r->back, r))

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
    fprintf(out, "  {\"rule\": \"%s\", \"seed\": %" PRIu64 ", \"vms\": %" PRIu32, rule_name[r->rule], r->seed, r->vms);
    put_number(", \"agreed_pct\": ", share(r->agreed, r), 3, out);
    put_number(", \"in_time_pct\": ", share(r->in_time, r), 3, out);
    put_number(", \"stop_ms\": ", r->stop_p50, 3, out);
    put_number(", \"stop_p99_ms\": ", r->stop_p99, 3, out);
    put_number(", \"total_s\": ", r->total_p50, 3, out);
    put_number(", \"total_p99_s\": ", r->total_p99, 3, out);
    put_number(", \"lost_s\": ", r->lost_mean, 3, out);
    put_number(", \"sent\": ", r->sent, 4, out);
    put_number(", \"back_pct\": ", share(r->back, r), 3, out);
    fprintf(out, "}%s\n", last ? "" : ",");
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
