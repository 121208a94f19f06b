/* SPDX-License-Identifier: MIT */
/* Adds runs up to rows, and writes them. See report.h. */
#include "report.h"
#include "numbers.h"
#include "table.h"
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static bool same_row(const struct row *r, const struct run *run)
{
    return r->scenario == run->scenario && r->policy == run->policy && r->admission == run->admission;
}

static void add_held(struct held *sum, const struct held *h)
{
    sum->forecasts += h->forecasts;
    sum->finish += h->finish;
    sum->peak += h->peak;
}

static double pct(uint32_t part, uint32_t whole)
{
    return 100.0 * part / whole;
}

static void fill_row(struct row *row, const struct result *results, size_t count)
{
    struct slowdowns all = { { 0 } };
    double wanted = 0, written = 0, finished = 0, vms = 0, lost = 0;

    for (size_t k = 0; k < count; k++) {
        const struct outcome *o = &results[k].outcome;

        if (!results[k].done || !same_row(row, &results[k].run))
            continue;
        row->seeds++;
        row->overflows += o->overflows;
        lost += o->failed + o->stuck;
        vms += o->vms;
        wanted += o->wanted_bytes;
        written += o->written_bytes;
        row->vm_delivered_pct += 100 * o->vm_delivered;
        row->bound_pct += 100 * o->bound;
        row->completion_s += o->completion_s * o->finished;
        finished += o->finished;
        add_held(&row->running, &o->running);
        add_held(&row->starting, &o->starting);
        add_held(&row->waiting, &o->waiting);
        row->peak = fmax(row->peak, o->peak);
        row->stall_s = fmax(row->stall_s, o->stall_s);
        row->pauses += (double)o->pauses;
        for (int b = 0; b < BUCKETS; b++)
            all.writes[b] += o->slowdowns.writes[b];
    }
    row->pauses /= fmax(1, vms);
    row->failed_pct = vms > 0 ? 100 * lost / vms : 0;
    row->delivered_pct = wanted > 0 ? 100 * written / wanted : 100;
    row->vm_delivered_pct /= fmax(1, row->seeds);
    row->bound_pct /= fmax(1, row->seeds);
    row->completion_s /= fmax(1, finished);
    row->p99 = slowdowns_quantile(&all, 0.99);
}

size_t rows_of(const struct result *results, size_t count, struct row *rows)
{
    size_t n = 0;

    for (size_t k = 0; k < count; k++) {
        size_t at = 0;

        while (at < n && !same_row(&rows[at], &results[k].run))
            at++;
        if (at < n)
            continue;
        rows[n] = (struct row){ .scenario = results[k].run.scenario,
                                .policy = results[k].run.policy,
                                .admission = results[k].run.admission };
        fill_row(&rows[n++], results, count);
    }
    return n;
}

/* The table */

static void cell_seeds(const void *row, char cell[TABLE_CELL])
{
    const struct row *r = row;

    snprintf(cell, TABLE_CELL, "%u", r->seeds);
}

static void cell_failed(const void *row, char cell[TABLE_CELL])
{
    const struct row *r = row;

    TABLE_NUMBER(cell, "%.1f%%", r->failed_pct);
}

static void cell_overflows(const void *row, char cell[TABLE_CELL])
{
    const struct row *r = row;

    snprintf(cell, TABLE_CELL, "%" PRIu64, r->overflows);
}

static void cell_delivered(const void *row, char cell[TABLE_CELL])
{
    const struct row *r = row;

    TABLE_NUMBER(cell, "%.1f%%", r->delivered_pct);
}

static void cell_per_vm(const void *row, char cell[TABLE_CELL])
{
    const struct row *r = row;

    TABLE_NUMBER(cell, "%.1f%%", r->vm_delivered_pct);
}

static void cell_bound(const void *row, char cell[TABLE_CELL])
{
    const struct row *r = row;

    TABLE_NUMBER(cell, "%.1f%%", r->bound_pct);
}

static void cell_p99(const void *row, char cell[TABLE_CELL])
{
    const struct row *r = row;

    TABLE_NUMBER(cell, "%.1f", r->p99);
}

static void cell_completion(const void *row, char cell[TABLE_CELL])
{
    const struct row *r = row;

    TABLE_NUMBER(cell, "%.0f s", r->completion_s);
}

static void cell_peak(const void *row, char cell[TABLE_CELL])
{
    const struct row *r = row;

    TABLE_NUMBER(cell, "%.1f%%", 100 * r->peak);
}

static void cell_stall(const void *row, char cell[TABLE_CELL])
{
    const struct row *r = row;

    TABLE_NUMBER(cell, "%.1f s", r->stall_s);
}

static void cell_pauses(const void *row, char cell[TABLE_CELL])
{
    const struct row *r = row;

    TABLE_NUMBER(cell, "%.1f", r->pauses);
}

static void held(uint32_t part, const struct held *h, char cell[TABLE_CELL])
{
    if (h->forecasts)
        snprintf(cell, TABLE_CELL, "%.0f%%", pct(part, h->forecasts));
    else
        snprintf(cell, TABLE_CELL, "-");
}

static void cell_run_end(const void *row, char cell[TABLE_CELL])
{
    const struct row *r = row;

    held(r->running.finish, &r->running, cell);
}

static void cell_run_peak(const void *row, char cell[TABLE_CELL])
{
    const struct row *r = row;

    held(r->running.peak, &r->running, cell);
}

static void cell_start_end(const void *row, char cell[TABLE_CELL])
{
    const struct row *r = row;

    held(r->starting.finish, &r->starting, cell);
}

static void cell_start_peak(const void *row, char cell[TABLE_CELL])
{
    const struct row *r = row;

    held(r->starting.peak, &r->starting, cell);
}

static void cell_wait_end(const void *row, char cell[TABLE_CELL])
{
    const struct row *r = row;

    held(r->waiting.finish, &r->waiting, cell);
}

static void cell_wait_peak(const void *row, char cell[TABLE_CELL])
{
    const struct row *r = row;

    held(r->waiting.peak, &r->waiting, cell);
}

static const struct table_column columns[] = {
    { "seeds", 5, cell_seeds },           { "failed", 6, cell_failed },           { "overflows", 9, cell_overflows },
    { "delivered", 9, cell_delivered },   { "per VM", 6, cell_per_vm },           { "bound", 6, cell_bound },
    { "p99", 8, cell_p99 },               { "completion", 10, cell_completion },  { "peak", 6, cell_peak },
    { "stall", 8, cell_stall },           { "pauses", 6, cell_pauses },
    { "run end", 7, cell_run_end },       { "run peak", 8, cell_run_peak },       { "start end", 9, cell_start_end },
    { "start peak", 10, cell_start_peak }, { "wait end", 8, cell_wait_end },      { "wait peak", 9, cell_wait_peak },
};

static void name(const void *row, char text[TABLE_CELL])
{
    const struct row *r = row;

    snprintf(text, TABLE_CELL, "%-8s %-8s %-5s", r->scenario->name, policy_names[r->policy], admission_names[r->admission]);
}

static bool is_another_scenario(const void *before, const void *row)
{
    const struct row *b = before, *r = row;

    return b->scenario != r->scenario;
}

void report_table(const struct row *rows, size_t count, int width, FILE *out)
{
    const struct table table = { .columns = columns,
                                 .column_count = sizeof columns / sizeof *columns,
                                 .title = "scenario policy   admit",
                                 .name = name,
                                 .rows = rows,
                                 .row_bytes = sizeof *rows,
                                 .row_count = count,
                                 .gap = is_another_scenario };

    table_write(&table, width, out);
}

static const struct result *partner(const struct result *results, size_t count, const struct result *r)
{
    for (size_t k = 0; k < count; k++)
        if (results[k].done && results[k].run.policy == POLICY_PAPER && results[k].run.scenario == r->run.scenario &&
            results[k].run.admission == r->run.admission && results[k].run.seed == r->run.seed)
            return &results[k];
    return NULL;
}

void report_pairs(const struct result *results, size_t count, FILE *out)
{
    for (size_t s = 0; s < scenario_count; s++)
        for (int a = 0; a < ADMISSIONS; a++) {
            int pairs = 0, delivery = 0, slowdown = 0;

            for (size_t k = 0; k < count; k++) {
                const struct result *r = &results[k], *other;

                if (!r->done || r->run.policy != POLICY_PLANNER || r->run.scenario != &scenarios[s] ||
                    (int)r->run.admission != a)
                    continue;
                other = partner(results, count, r);
                if (!other)
                    continue;
                pairs++;
                delivery += r->outcome.vm_delivered >= other->outcome.vm_delivered - 1e-12;
                slowdown += r->outcome.p99 <= other->outcome.p99 * (1 + 1e-12);
            }
            if (pairs)
                fprintf(out, "%-9s %-4s planner not below paper: per VM in %d of %d runs, p99 in %d\n", scenarios[s].name,
                        admission_names[a], delivery, pairs, slowdown);
        }
}

static void put_held_json(const char *when, const struct held *h, FILE *out)
{
    if (h->forecasts)
        fprintf(out, ", \"%sforecasts\": %" PRIu32 ", \"%sfinish_within_pct\": %.2f, \"%speak_within_pct\": %.2f", when,
                h->forecasts, when, pct(h->finish, h->forecasts), when, pct(h->peak, h->forecasts));
}

void report_json(const struct row *rows, size_t count, FILE *out)
{
    fputs("[", out);
    for (size_t k = 0; k < count; k++) {
        const struct row *r = &rows[k];

        fprintf(out, "%s\n  {\"scenario\": \"%s\", \"policy\": \"%s\", \"admission\": \"%s\", \"seeds\": %u", k ? "," : "",
                r->scenario->name, policy_names[r->policy], admission_names[r->admission], r->seeds);
        put_number(", \"failed_pct\": ", r->failed_pct, 3, out);
        fprintf(out, ", \"overflows\": %" PRIu64, r->overflows);
        put_number(", \"delivered_pct\": ", r->delivered_pct, 3, out);
        put_number(", \"vm_delivered_pct\": ", r->vm_delivered_pct, 3, out);
        put_number(", \"p99_slowdown\": ", r->p99, 3, out);
        put_number(", \"mean_completion_s\": ", r->completion_s, 1, out);
        put_number(", \"peak_fraction\": ", r->peak, 4, out);
        put_number(", \"bound_vm_delivered_pct\": ", r->bound_pct, 3, out);
        put_number(", \"longest_stall_s\": ", r->stall_s, 1, out);
        put_number(", \"pauses_per_vm\": ", r->pauses, 3, out);
        put_held_json("", &r->running, out);
        put_held_json("start_", &r->starting, out);
        put_held_json("wait_", &r->waiting, out);
        fputc('}', out);
    }
    fputs("\n]\n", out);
}

/* A line: what was run, what came out, the slowdowns that occurred, a full stop. */

static int write_key(const struct run *r, char *key, size_t size)
{
    return snprintf(key, size, "%s %s %s %s %x %" PRIu64 " %u %.17g %.17g %016" PRIx64, r->scenario->name,
                    policy_names[r->policy], admission_names[r->admission], mirror_names[r->mirror], r->without, r->seed, r->hosts, r->omega,
                    r->interval_s, r->trace ? (uint64_t)(r->trace->length_s * 1e6) + r->trace->count : 0);
}

void resume_write(const struct result *r, FILE *out)
{
    const struct outcome *o = &r->outcome;
    char key[256];

    write_key(&r->run, key, sizeof key);
    fprintf(out, "%s : %u %u %u %u %" PRIu64 " %" PRIu64 " %.17g %.17g %.17g %.17g %.17g %.17g %.17g %.17g %.17g", key, o->vms,
            o->finished, o->failed, o->stuck, o->overflows, o->pauses, o->stall_s, o->wanted_bytes, o->written_bytes, o->vm_delivered,
            o->bound, o->p99, o->completion_s, o->peak, o->makespan_s);
    fprintf(out, " %u %u %u %u %u %u %u %u %u :", o->running.forecasts, o->running.finish, o->running.peak,
            o->starting.forecasts, o->starting.finish, o->starting.peak, o->waiting.forecasts, o->waiting.finish,
            o->waiting.peak);
    for (int k = 0; k < BUCKETS; k++)
        if (o->slowdowns.writes[k] > 0)
            fprintf(out, " %d %.17g", k, o->slowdowns.writes[k]);
    fputs(" .\n", out);
}

static bool read_outcome(const char *text, struct outcome *o)
{
    int at = 0, k, used;
    double writes;

    *o = (struct outcome){ 0 };
    if (sscanf(text, " : %u %u %u %u %" SCNu64 " %" SCNu64 " %lg %lg %lg %lg %lg %lg %lg %lg %lg %u %u %u %u %u %u %u %u %u :%n",
               &o->vms, &o->finished, &o->failed, &o->stuck, &o->overflows, &o->pauses, &o->stall_s, &o->wanted_bytes, &o->written_bytes,
               &o->vm_delivered, &o->bound, &o->p99, &o->completion_s, &o->peak, &o->makespan_s,
               &o->running.forecasts, &o->running.finish, &o->running.peak, &o->starting.forecasts,
               &o->starting.finish, &o->starting.peak, &o->waiting.forecasts, &o->waiting.finish, &o->waiting.peak,
               &at) != 24 ||
        !at)
        return false;
    text += at;
    while (sscanf(text, " %d %lg%n", &k, &writes, &used) == 2) {
        if (k < 0 || k >= BUCKETS)
            return false;
        o->slowdowns.writes[k] = writes;
        text += used;
    }
    return !strcmp(text, " .\n");
}

size_t resume_read(struct result *results, size_t count, FILE *in)
{
    char *line = NULL, key[256];
    size_t room = 0, found = 0;

    while (getline(&line, &room, in) > 0)
        for (size_t k = 0; k < count; k++) {
            int length = write_key(&results[k].run, key, sizeof key);
            struct outcome o;

            if (results[k].done || strncmp(line, key, (size_t)length) || line[length] != ' ' ||
                !read_outcome(line + length, &o))
                continue;
            results[k].outcome = o;
            results[k].done = true;
            found++;
            break;
        }
    free(line);
    return found;
}
