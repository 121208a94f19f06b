/* SPDX-License-Identifier: MIT */
/* simulate: the library against a model of guests, links and QEMU; thousands of migrations in seconds. See --help. */
#include "command.h"
#include "numbers.h"
#include "report.h"
#include "table.h"
#include "workers.h"
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static const char usage[] =
    "usage: simulate [options]\n"
    "\n"
    "Lets guests write while their disks are copied, and compares what policies make of it. The library\n"
    "under test is the real one, called as a host would; guests, link and QEMU's throttle are a model.\n"
    "Same seed, same result; policies with the same seed meet the same guests, the same demand and the\n"
    "same link.\n"
    "\n"
    "  --scenario A,B    normal, evac16, dbhost, 1gbe, light, 1gbe100 (all but the last)\n"
    "  --policy A,B      none      one volume for all, no throttle\n"
    "                    quota     an eighth of the volume each, no throttle; one that outgrows it fails\n"
    "                    lxd       a volume of its own for each VM, together as large as the one volume;\n"
    "                              no throttle. A guest whose volume is full stands until it has moved:\n"
    "                              counted as an overflow (LXD's way today, on pools that give ENOSPC)\n"
    "                    fixed     10 MiB/s each\n"
    "                    bradford  after 16384 writes each waits 2.048 ms, doubled every 16384 (our\n"
    "                              reading)\n"
    "                    literal   the paper's formula as printed, byte limits\n"
    "                    paper     the paper, repaired (migbuf_buffer)\n"
    "                    planner   release times and fair growth (forecast.h, planner.h)\n"
    "                    mirror    no buffer: whole disks are mirrored\n"
    "                    proxmox   the same in background with QEMU's own granules of 64 KiB, and\n"
    "                              write-blocking once nothing is dirty (libvirt pauses then). A mirror\n"
    "                              that never catches up goes on for ever\n"
    "                    hybrid    planner, and mirror for those guests that migbuf_outlook_mirrored\n"
    "                              recommends it for\n"
    "                    (paper,planner)\n"
    "  --admission A,B   off: start at once; sjf: smallest disk first; fifo; patient: sjf, but who would\n"
    "                    get less than 90 % of its writes does not start beside others (off,sjf)\n"
    "  --mirror WAY      background  a guest writes as without a mirror. Where it then never catches up,\n"
    "                                its guest is held to half of the link in the end\n"
    "                    blocking    each write crosses the link at once, and waits behind QEMU's buffer\n"
    "                                of 16 MiB\n"
    "                    paced       the same with a buffer of 64 KiB, and a copy that takes what the\n"
    "                                guest leaves, but ends within twice the time of an idle link\n"
    "                    (background; all three as measured on QEMU 7.2 and 10.0)\n"
    "  --without A,B     switches off what costs guests writes, to see its size:\n"
    "                    reserve     drains pour nothing, and nothing is kept free for them\n"
    "                    hysteresis  a limit is changed however little it differs\n"
    "                    late        all ticks come, and orders land at once\n"
    "                    noise       the link carries the same all the time\n"
    "                    unknown     the library is told how large working sets are, as sizes of disks\n"
    "                    clusters    a small write allocates 4 KiB and not 64 (extended_l2)\n"
    "  --seeds N         runs per row, 1 to 100000 (5)\n"
    "  --seed S          the first seed (1)\n"
    "  --hosts N         sources that share the link, each with its own volume, 1 to 64 (1)\n"
    "  --omega SIZE      the volume, 1 MiB to 1 PB, as 10GiB or 500MB (10GiB)\n"
    "  --interval S      seconds between two decisions, 0.1 to 60 in tenths (1)\n"
    "  --trace FILE      replay this demand instead: lines `seconds,bytes_per_s`, round and round, each\n"
    "                    VM from another point\n"
    "  --jobs J          processes, 1 to 256 (as many as there are processors)\n"
    "  --resume FILE     keep finished runs there, and do not run again what is in it\n"
    "  --json [FILE]     rows as a JSON array; without FILE on standard output, instead of the table\n"
    "  --svg FILE        delivery and slowdown per policy, and one run over time (the last of the\n"
    "                    planner's)\n"
    "  --quiet           no progress\n"
    "  --version         the library's version\n"
    "  -h, --help        this text\n"
    "\n"
    "Sizes take K, M, G, T (also KiB, MB, ...). Exit status: 0; 1 it could not be done; 2 wrong options,\n"
    "or a file that cannot be read or written.\n"
    "\n"
    "Columns (where they do not fit the terminal they go below each other)\n"
    "  failed      VMs whose migration ran out of space, or never ended (within 2 h and 6 times what the\n"
    "              link needs)\n"
    "  overflows   times the files outgrew the volume\n"
    "  delivered   guest bytes written / bytes the guests would have written unthrottled, while their\n"
    "              migrations ran\n"
    "  per VM      mean over VMs of that\n"
    "  bound       no policy could have had more per VM, with these starts and ends, knowing the future:\n"
    "              a relaxation where only the volume binds (bound.h); 100 for mirror, proxmox and\n"
    "              hybrid, which need no volume\n"
    "  p99         slowdown that 1 % of the writes exceed: time a write took / time unthrottled, over the\n"
    "              writes that the guests wanted to make (those that got through alone would hide the\n"
    "              waiting)\n"
    "  completion  mean from asking to the end, of those that ended\n"
    "  peak        largest sum of the files / volume\n"
    "  stall       longest time that a guest had something to write and nothing was let through\n"
    "  pauses      per VM\n"
    "  run end, run peak\n"
    "              how many of the forecasts held (migbuf_outlook_running, 10 s after a start, then at\n"
    "              twice the age each time): the end, and the largest the file became, were within the\n"
    "              error bars; four of five should\n"
    "  start end, start peak, wait end, wait peak\n"
    "              the same of migbuf_outlook_waiting: asked just before it starts, and when one that has\n"
    "              to wait is first told when it may start; then those that come later and start before\n"
    "              it are not in it\n"
    "\n"
    "Guests (rates in MB/s, requests): idle 0.05-1, 8 KiB; steady 5-50, 64 KiB; bursty 50-200 for 20 s of\n"
    "80, 256 KiB; database 100-300, 32 KiB; small 2-16, 4 KiB; so 8, 1, 1, 2 and 16 bytes of 64 KiB\n"
    "clusters per byte on new ground. Rates are log-uniform and vary by a quarter each second. Disks\n"
    "10-200 GB, log-uniform; a guest writes at random into 2-50 % of its disk, 50-80 % of that into the\n"
    "hottest fifth. It has 4 to 32 requests in flight and makes no others while they wait.\n"
    "Link: noise of 5 %, every 5 minutes a dip to 30-70 % for 5-40 s; one flow gets half of it at most.\n"
    "1gbe100: disks to 100 GB, and one flow gets 0.9 of the link.\n"
    "Ticks come each second, 1 of 50 is left out; orders land 0.1 s later. QEMU: a set empties the\n"
    "bucket, a request passes whole, the bucket holds 0.1 s, each drain (snapshot, mirror, its end, stop)\n"
    "pours what waits. RAM is not modelled.\n";

#define SCENARIOS_MAX 16
#define USUAL_SCENARIOS 5

struct options {
    int scenarios[SCENARIOS_MAX], policies[POLICIES], admissions[ADMISSIONS]; /* indices, each once */
    size_t scenario_count, policy_count, admission_count;
    uint32_t seeds, hosts, jobs;
    enum mirror_way mirror;
    int causes[CAUSES];
    size_t cause_count;
    uint64_t seed;
    double omega, interval_s;
    const char *resume, *json, *svg;
    struct trace trace;
    bool quiet;
};

static int complain(const char *what, const char *which)
{
    fprintf(stderr, "simulate: %s: %s\n", what, which);
    return -1;
}

/* Reading values. A sentence for what is wrong names the option, the value and what may stand there. */

/* Each name of a comma-separated list, as its index among the names, once. */
static int read_names(const char *option, const char *list, const char *const *names, size_t count, int *taken, size_t *n,
                      char error[FAIL_SIZE])
{
    char *copy = strdup(list), *rest = copy, *name;
    int rc = copy ? 0 : fail(error, "out of memory");

    while (!rc && (name = strsep(&rest, ",")) != NULL) {
        size_t index, k = 0;

        rc = command_choice(option, name, names, count, ", or several with commas between", &index, error);
        while (k < *n && taken[k] != (int)index)
            k++;
        if (!rc && k == *n)
            taken[(*n)++] = (int)index;
    }
    free(copy);
    return rc;
}

/* Ticks come on steps of the model. */
static int read_interval(const char *text, double *value, char error[FAIL_SIZE])
{
    char *end;

    *value = strtod(text, &end);
    if (*text < '0' || *text > '9' || *end || !(*value >= 0.1 && *value <= 60) ||
        fabs(10 * *value - round(10 * *value)) > 1e-9)
        return fail(error, "--interval %s: seconds from 0.1 to 60, with one decimal at most", text);
    *value = round(10 * *value) / 10;
    return 0;
}

/* -1: no memory. */
static int add_point(struct trace *t, size_t *room, double at, double rate)
{
    double *more_at, *more_rate;

    if (t->count == *room) {
        size_t wanted = *room ? 2 * *room : 1024;

        more_at = realloc(t->at_s, wanted * sizeof *more_at);
        t->at_s = more_at ? more_at : t->at_s;
        more_rate = more_at ? realloc(t->bytes_per_s, wanted * sizeof *more_rate) : NULL;
        if (!more_rate)
            return -1;
        t->bytes_per_s = more_rate;
        *room = wanted;
    }
    t->at_s[t->count] = at;
    t->bytes_per_s[t->count++] = rate;
    return 0;
}

static bool is_empty(const char *line)
{
    return !line[strspn(line, " \t\r\n")];
}

/* Only before the first point may there be other lines: a heading. */
static int read_points(struct trace *t, FILE *in, const char *path, char error[FAIL_SIZE])
{
    char line[256];
    size_t room = 0;
    double at, rate;

    for (unsigned long number = 1; fgets(line, sizeof line, in); number++) {
        int used = 0;
        bool point = sscanf(line, "%lf,%lf %n", &at, &rate, &used) == 2 && !line[used];

        if (!point && (!t->count || is_empty(line)))
            continue;
        if (!point || !(rate >= 0 && rate < 1e12) || !(at >= 0 && at < 1e9) ||
            (t->count && at <= t->at_s[t->count - 1]))
            return fail(error, "--trace %s, line %lu: `seconds,bytes_per_s`, where seconds rise and rates are 0 or more", path,
                        number);
        if (add_point(t, &room, at, rate))
            return fail(error, "out of memory");
    }
    if (ferror(in))
        return fail(error, "--trace %s: %s", path, strerror(errno));
    return t->count < 2 ? fail(error, "--trace %s: at least two lines `seconds,bytes_per_s`", path) : 0;
}

static int read_trace(struct trace *t, const char *path, char error[FAIL_SIZE])
{
    FILE *in = fopen(path, "r");
    int rc;

    t->count = 0;
    if (!in)
        return fail(error, "--trace %s: %s", path, strerror(errno));
    rc = read_points(t, in, path, error);
    fclose(in);
    if (rc)
        return -1;
    for (size_t k = t->count; k-- > 0;)
        t->at_s[k] -= t->at_s[0];
    t->length_s = t->at_s[t->count - 1] + (t->at_s[t->count - 1] - t->at_s[t->count - 2]);
    return 0;
}

/* The options */

static int take_scenarios(struct options *o, const char *list, char error[FAIL_SIZE])
{
    const char *names[SCENARIOS_MAX];

    for (size_t k = 0; k < scenario_count; k++)
        names[k] = scenarios[k].name;
    return read_names("scenario", list, names, scenario_count, o->scenarios, &o->scenario_count, error);
}

static int take_option(void *program, int option, const char *value, char error[FAIL_SIZE])
{
    struct options *o = program;
    uint64_t number = 0;

    switch (option) {
    case 'S':
        return take_scenarios(o, value, error);
    case 'P':
        return read_names("policy", value, policy_names, POLICIES, o->policies, &o->policy_count, error);
    case 'A':
        return read_names("admission", value, admission_names, ADMISSIONS, o->admissions, &o->admission_count, error);
    case 'M': {
        size_t way = 0;
        int rc = command_choice("mirror", value, mirror_names, MIRROR_WAYS, "", &way, error);

        o->mirror = (enum mirror_way)way;
        return rc;
    }
    case 'W':
        return read_names("without", value, cause_names, CAUSES, o->causes, &o->cause_count, error);
    case 'n':
        return command_number32("seeds", value, 1, 100000, NULL, &o->seeds, error);
    case 'e':
        return command_number("seed", value, 0, UINT64_C(1000000000000000), NULL, &o->seed, error);
    case 'H':
        return command_number32("hosts", value, 1, 64, NULL, &o->hosts, error);
    case 'o':
        if (!read_size(value, 1024, UINT64_C(1) << 20, UINT64_C(1000000000000000), &number))
            return fail(error, "--omega %s: a size of 1 MiB to 1 PB, as 10GiB or 500MB", value);
        o->omega = (double)number;
        return 0;
    case 'i':
        return read_interval(value, &o->interval_s, error);
    case 'j':
        return command_number32("jobs", value, 1, 256, NULL, &o->jobs, error);
    case 'T':
        return read_trace(&o->trace, value, error);
    case 'R':
        o->resume = value;
        return 0;
    case 'J':
        o->json = value ? value : "-";
        return 0;
    case 'V':
        o->svg = value;
        return 0;
    default:
        o->quiet = true;
        return 0;
    }
}

static void set_defaults(struct options *o)
{
    if (!o->scenario_count)
        for (; o->scenario_count < USUAL_SCENARIOS; o->scenario_count++)
            o->scenarios[o->scenario_count] = (int)o->scenario_count;
    if (!o->policy_count) {
        o->policies[o->policy_count++] = POLICY_PAPER;
        o->policies[o->policy_count++] = POLICY_PLANNER;
    }
    if (!o->admission_count) {
        o->admissions[o->admission_count++] = ADMISSION_OFF;
        o->admissions[o->admission_count++] = ADMISSION_SJF;
    }
}

static void help(FILE *out)
{
    fputs(usage, out);
}

/* 0; 1: that was all, --help or --version; -1: see error. */
static int read_options(struct options *o, int argc, char **argv, char error[FAIL_SIZE])
{
    static const struct option known[] = {
        { "mirror", 1, NULL, 'M' },   { "without", 1, NULL, 'W' },  { "scenario", 1, NULL, 'S' },
        { "policy", 1, NULL, 'P' },   { "admission", 1, NULL, 'A' },
        { "seeds", 1, NULL, 'n' },    { "seed", 1, NULL, 'e' },     { "hosts", 1, NULL, 'H' },
        { "omega", 1, NULL, 'o' },    { "interval", 1, NULL, 'i' }, { "trace", 1, NULL, 'T' },
        { "jobs", 1, NULL, 'j' },     { "resume", 1, NULL, 'R' },   { "json", 2, NULL, 'J' },
        { "svg", 1, NULL, 'V' },      { "quiet", 0, NULL, 'q' },    COMMAND_OPTIONS,
    };
    static const struct command command = { "simulate", known, help, take_option };
    int rc;

    *o = (struct options){ .seeds = 5,
                           .seed = 1,
                           .hosts = 1,
                           .omega = 10737418240.0,
                           .interval_s = 1,
                           .jobs = workers_jobs() };
    rc = command_read(&command, o, argc, argv, error);
    if (rc)
        return rc;
    if (command_no_words(argc, argv, error))
        return -1;
    set_defaults(o);
    return command_check_output("json", o->json, error) || command_check_output("svg", o->svg, error) ? -1 : 0;
}

/* All runs, row by row. In memory that child processes share. */
static struct result *plan_runs(const struct options *o, size_t *count)
{
    size_t at = 0;
    uint32_t without = 0;
    struct result *r;

    for (size_t k = 0; k < o->cause_count; k++)
        without |= UINT32_C(1) << o->causes[k];

    *count = o->scenario_count * o->policy_count * o->admission_count * o->seeds;
    r = workers_memory(*count * sizeof *r);
    if (!r)
        return NULL;
    for (size_t s = 0; s < o->scenario_count; s++)
        for (size_t a = 0; a < o->admission_count; a++)
            for (size_t p = 0; p < o->policy_count; p++)
                for (uint32_t k = 0; k < o->seeds; k++)
                    r[at++].run = (struct run){ .scenario = &scenarios[o->scenarios[s]],
                                                .policy = (enum policy)o->policies[p],
                                                .admission = (enum admission)o->admissions[a],
                                                .mirror = o->mirror,
                                                .without = without,
                                                .seed = o->seed + k,
                                                .hosts = o->hosts,
                                                .omega = o->omega,
                                                .interval_s = o->interval_s,
                                                .trace = o->trace.count ? &o->trace : NULL };
    return r;
}

/* What is run, and what is made of each run that ends. */
struct batch {
    struct result *results;
    size_t count, ended, failed;
    FILE *resume;
    bool progress;
};

static bool is_done(const void *of, size_t k)
{
    return ((const struct batch *)of)->results[k].done;
}

static void run_one(void *of, size_t k)
{
    struct result *r = &((struct batch *)of)->results[k];

    r->done = !model_run(&r->run, &r->outcome, NULL, NULL);
}

static void ran_one(void *of, size_t k)
{
    struct batch *b = of;

    b->ended++;
    b->failed += !b->results[k].done;
    if (b->resume && b->results[k].done) {
        resume_write(&b->results[k], b->resume);
        fflush(b->resume);
    }
    if (b->progress)
        workers_progress(b->ended, b->count);
}

static int write_file(const char *path, const struct row *rows, size_t count, const struct recording *timeline,
                      const char *title)
{
    FILE *out = strcmp(path, "-") ? fopen(path, "w") : stdout;
    int rc = 0;

    if (!out)
        return complain(path, strerror(errno));
    if (timeline)
        rc = picture_write(rows, count, timeline, title, out);
    else
        report_json(rows, count, out);
    rc |= ferror(out);
    if (out != stdout)
        rc |= fclose(out);
    return rc ? complain(path, "could not be written") : 0;
}

/* The run to be drawn: the last row's first seed, of the planner where there is one; a mirror has no files to show. */
static const struct result *to_draw(const struct result *results, size_t count, uint32_t seeds)
{
    const struct result *best = &results[count - seeds];

    for (size_t k = 0; k < count; k += seeds) {
        enum policy p = results[k].run.policy;

        if (p == POLICY_PLANNER || (best->run.policy != POLICY_PLANNER && p != POLICY_MIRROR && p != POLICY_PROXMOX))
            best = &results[k];
    }
    return best;
}

static int write_picture(const struct options *o, const struct result *last, const struct row *rows, size_t count)
{
    struct recording r = { .every_s = fmax(1, last->outcome.makespan_s / 400) };
    struct outcome out;
    char title[128];
    int rc = model_run(&last->run, &out, NULL, &r);

    snprintf(title, sizeof title, "%s, %s, admission %s, seed %llu", last->run.scenario->name,
             policy_names[last->run.policy], admission_names[last->run.admission], (unsigned long long)last->run.seed);
    if (!rc)
        rc = write_file(o->svg, rows, count, &r, title);
    recording_free(&r);
    return rc;
}

static int report(const struct options *o, const struct result *results, size_t count)
{
    struct row *rows = calloc(count, sizeof *rows);
    bool only_json = o->json && !strcmp(o->json, "-");
    size_t n;
    int rc = 0;

    if (!rows)
        return -1;
    n = rows_of(results, count, rows);
    if (!only_json) {
        report_table(rows, n, table_width(stdout), stdout);
        fputc('\n', stdout);
        report_pairs(results, count, stdout);
    }
    if (o->json)
        rc = write_file(o->json, rows, n, NULL, NULL);
    if (o->svg && !rc)
        rc = write_picture(o, to_draw(results, count, o->seeds), rows, n);
    free(rows);
    return rc || fflush(stdout) ? -1 : 0;
}

static void free_options(struct options *o)
{
    free(o->trace.at_s);
    free(o->trace.bytes_per_s);
}

/* Runs that are not known yet, and what comes of all. */
static int simulate(const struct options *o, struct result *results, size_t count, FILE *resume)
{
    struct batch b = { .results = results, .count = count, .resume = resume, .progress = !o->quiet && isatty(2) };
    const struct workers w = { .of = &b, .count = count, .is_done = is_done, .run = run_one, .ran = ran_one };
    char error[FAIL_SIZE];

    b.ended = resume ? resume_read(results, count, resume) : 0;
    if (resume)
        fseek(resume, 0, SEEK_END);
    if (b.ended < count && workers_run(&w, o->jobs, error))
        return fprintf(stderr, "simulate: %s\n", error), -1;
    if (b.failed)
        return complain("the library refused what a host may ask for", "this is a defect");
    return report(o, results, count);
}

int main(int argc, char **argv)
{
    struct options o;
    struct result *results;
    char error[FAIL_SIZE];
    FILE *resume = NULL;
    size_t count;
    int rc = read_options(&o, argc, argv, error);

    if (rc > 0) {
        free_options(&o);
        return fflush(stdout) ? EXIT_FAILURE : EXIT_SUCCESS;
    }
    if (!rc && o.resume && !(resume = fopen(o.resume, "a+")))
        rc = fail(error, "--resume %s: %s", o.resume, strerror(errno));
    if (rc < 0) {
        free_options(&o);
        return fprintf(stderr, "simulate: %s\n", error), 2;
    }
    results = plan_runs(&o, &count);
    if (!results)
        return complain("no memory", strerror(errno)), EXIT_FAILURE;
    if (resume)
        rewind(resume);
    rc = simulate(&o, results, count, resume);
    if (resume && fclose(resume))
        rc = complain(o.resume, strerror(errno));
    munmap(results, count * sizeof *results);
    free_options(&o);
    return rc ? EXIT_FAILURE : EXIT_SUCCESS;
}
