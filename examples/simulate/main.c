/* SPDX-License-Identifier: MIT */
/* simulate: the library against a model of guests, links and QEMU; thousands of migrations in seconds. See --help. */
#include "report.h"
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static const char usage[] =
    "usage: simulate [options]\n"
    "\n"
    "Lets guests write while their disks are copied, and compares what policies make of it. The library under test is "
    "the\n"
    "real one, called as a host would; guests, link and QEMU's throttle are a model. Same seed, same result; policies "
    "with\n"
    "the same seed meet the same guests, the same demand and the same link.\n"
    "\n"
    "  --scenario A,B    normal, evac16, dbhost, 1gbe, light (all of them)\n"
    "  --policy A,B      none      one volume for all, no throttle\n"
    "                    quota     an eighth of the volume each, no throttle\n"
    "                    fixed     10 MiB/s each\n"
    "                    bradford  after 16384 writes each waits 2.048 ms, doubled every 16384 (our reading)\n"
    "                    literal   the paper's formula as printed, byte limits\n"
    "                    paper     the paper, repaired (migbuf_buffer)\n"
    "                    planner   release times and fair growth (forecast.h, planner.h)\n"
    "                    mirror    no buffer: each write goes over the link at once, and 128 KiB of the copy with it\n"
    "                              (measured on QEMU 7.2: 100 to 200 kB)\n"
    "                    hybrid    planner, and mirror for those guests that migbuf_outlook_waiting recommends it for\n"
    "                    (paper,planner)\n"
    "  --admission A,B   off: start at once; sjf: smallest disk first; fifo (off,sjf)\n"
    "  --seeds N         runs per row (5)         --seed S   the first seed (1)\n"
    "  --hosts N         sources that share the link, each with its own volume (1)\n"
    "  --omega BYTES     size of the volume (10737418240)\n"
    "  --interval S      between two decisions, in tenths of a second (1)\n"
    "  --trace FILE      replay this demand instead: lines `seconds,bytes_per_s`, round and round, each VM from "
    "another point\n"
    "  --jobs J          processes (as many as there are processors)\n"
    "  --resume FILE     keep finished runs there, and do not run again what is in it\n"
    "  --json [FILE]     rows as a JSON array; without FILE on standard output, instead of the table\n"
    "  --svg FILE        delivery and slowdown per policy, and one run over time (the last of the planner's)\n"
    "  --quiet           no progress\n"
    "  --help            this text\n"
    "\n"
    "Columns\n"
    "  failed      VMs whose migration ran out of space, or never ended (within 2 h and 6 times what the link needs)\n"
    "  overflows   times the files outgrew the volume\n"
    "  delivered   guest bytes written / bytes the guests would have written unthrottled, while their migrations ran\n"
    "  per VM      mean over VMs of that\n"
    "  bound       no policy could have had more per VM, with these starts and ends, knowing the future: a relaxation "
    "where\n"
    "              only the volume binds (bound.h); 100 for mirror and hybrid, which need no volume\n"
    "  p99         slowdown that 1 % of the writes exceed: time a write took / time unthrottled, over the writes that\n"
    "              the guests wanted to make (those that got through alone would hide the waiting)\n"
    "  bars        how many of the forecasts held (migbuf_outlook_running, 10 s after a start, then at twice the age "
    "each\n"
    "              time): the end, and the largest the file became, were within the error bars; four of five should\n"
    "  start, wait the same of migbuf_outlook_waiting: asked just before it starts, and when one that has to wait is "
    "first\n"
    "              told when it may start; then those that come later and start before it are not in it\n"
    "  completion  mean from asking to the end, of those that ended; peak: largest sum of the files / volume\n"
    "\n"
    "Guests (rates in MB/s, requests): idle 0.05-1, 8 KiB; steady 5-50, 64 KiB; bursty 50-200 for 20 s of 80, 256 "
    "KiB;\n"
    "database 100-300, 32 KiB; small 2-16, 4 KiB; so 8, 1, 1, 2 and 16 bytes of 64 KiB clusters per byte on new "
    "ground. Rates\n"
    "are log-uniform and vary by a quarter each second. Disks 10-200 GB, log-uniform; a guest writes at random into "
    "2-50 % of\n"
    "its disk, 50-80 % of that into the hottest fifth. It has 4 to 32 requests in flight and makes no others while "
    "they wait.\n"
    "Link: noise of 5 %, every 5 minutes a dip to 30-70 % for 5-40 s; one flow gets half of it at most. Ticks come "
    "each\n"
    "second, 1 of 50 is left out; orders land 0.1 s later. QEMU: a set empties the bucket, a request passes whole, "
    "the\n"
    "bucket holds 0.1 s, each drain (snapshot, mirror, its end, stop) pours what waits. RAM is not modelled.\n";

struct options {
    const struct scenario *scenarios[16];
    enum policy policies[POLICIES];
    enum admission admissions[ADMISSIONS];
    size_t scenario_count, policy_count, admission_count;
    uint32_t seeds, hosts, jobs;
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

static int name_index(const char *const *names, int count, const char *name)
{
    for (int k = 0; k < count; k++)
        if (!strcmp(names[k], name))
            return k;
    return -1;
}

/* Each name of a comma-separated list once. `take` returns 0, or -1 for a name it does not know. */
static int each_name(struct options *o, const char *list, int (*take)(struct options *o, const char *name))
{
    char *copy = strdup(list), *rest = copy, *name;
    int rc = copy ? 0 : -1;

    while (!rc && (name = strsep(&rest, ",")) != NULL)
        if (take(o, name))
            rc = complain("there is no such name", name);
    free(copy);
    return rc;
}

static int take_scenario(struct options *o, const char *name)
{
    const struct scenario *s = scenario_find(name);

    for (size_t k = 0; k < o->scenario_count; k++)
        if (o->scenarios[k] == s)
            return 0;
    if (!s || o->scenario_count == sizeof o->scenarios / sizeof *o->scenarios)
        return -1;
    o->scenarios[o->scenario_count++] = s;
    return 0;
}

static int take_policy(struct options *o, const char *name)
{
    int p = name_index(policy_names, POLICIES, name);

    for (size_t k = 0; k < o->policy_count; k++)
        if ((int)o->policies[k] == p)
            return 0;
    if (p >= 0)
        o->policies[o->policy_count++] = (enum policy)p;
    return p < 0 ? -1 : 0;
}

static int take_admission(struct options *o, const char *name)
{
    int a = name_index(admission_names, ADMISSIONS, name);

    for (size_t k = 0; k < o->admission_count; k++)
        if ((int)o->admissions[k] == a)
            return 0;
    if (a >= 0)
        o->admissions[o->admission_count++] = (enum admission)a;
    return a < 0 ? -1 : 0;
}

static int read_trace(struct trace *t, const char *path)
{
    FILE *in = fopen(path, "r");
    double at, rate;
    char line[256];
    size_t room = 0;

    if (!in)
        return complain(path, strerror(errno));
    while (fgets(line, sizeof line, in)) {
        if (sscanf(line, "%lf,%lf", &at, &rate) != 2)
            continue; /* a heading */
        if (!(rate >= 0 && rate < 1e12) || !(at >= 0 && at < 1e9) || (t->count && at <= t->at_s[t->count - 1])) {
            fclose(in);
            return complain(path, "seconds must rise, rates be 0 or more");
        }
        if (t->count == room) {
            room = room ? 2 * room : 1024;
            t->at_s = realloc(t->at_s, room * sizeof *t->at_s);
            t->bytes_per_s = realloc(t->bytes_per_s, room * sizeof *t->bytes_per_s);
            if (!t->at_s || !t->bytes_per_s)
                abort();
        }
        t->at_s[t->count] = at;
        t->bytes_per_s[t->count++] = rate;
    }
    fclose(in);
    if (t->count < 2)
        return complain(path, "needs at least two lines `seconds,bytes_per_s`");
    for (size_t k = t->count; k-- > 0;)
        t->at_s[k] -= t->at_s[0];
    t->length_s = t->at_s[t->count - 1] + (t->at_s[t->count - 1] - t->at_s[t->count - 2]);
    return 0;
}

static int number(const char *text, double low, double high, double *value)
{
    char *end;

    *value = strtod(text, &end);
    return end == text || *end || !(*value >= low && *value <= high)
               ? complain("not a number, or out of its range", text)
               : 0;
}

static int take_number(struct options *o, int which, const char *text)
{
    double x;

    switch (which) {
    case 'n':
        return number(text, 1, 100000, &x) ? -1 : (o->seeds = (uint32_t)x, 0);
    case 'e':
        return number(text, 0, 1e15, &x) ? -1 : (o->seed = (uint64_t)x, 0);
    case 'h':
        return number(text, 1, 64, &x) ? -1 : (o->hosts = (uint32_t)x, 0);
    case 'o':
        return number(text, 1e6, 1e15, &o->omega);
    case 'i':
        return number(text, 0.1, 60, &x) ? -1 : (o->interval_s = round(10 * x) / 10, 0);
    default:
        return number(text, 1, 256, &x) ? -1 : (o->jobs = (uint32_t)x, 0);
    }
}

/* 0, 1 for --help, -1 for nonsense. */
static int read_options(struct options *o, int argc, char **argv)
{
    static const struct option known[] = {
        { "scenario", 1, NULL, 'S' }, { "policy", 1, NULL, 'P' },   { "admission", 1, NULL, 'A' },
        { "seeds", 1, NULL, 'n' },    { "seed", 1, NULL, 'e' },     { "hosts", 1, NULL, 'h' },
        { "omega", 1, NULL, 'o' },    { "interval", 1, NULL, 'i' }, { "trace", 1, NULL, 'T' },
        { "jobs", 1, NULL, 'j' },     { "resume", 1, NULL, 'R' },   { "json", 2, NULL, 'J' },
        { "svg", 1, NULL, 'V' },      { "quiet", 0, NULL, 'q' },    { "help", 0, NULL, '?' + 128 },
        { NULL, 0, NULL, 0 },
    };
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    int c, rc = 0;

    *o = (struct options){ .seeds = 5,
                           .seed = 1,
                           .hosts = 1,
                           .omega = 10737418240.0,
                           .interval_s = 1,
                           .jobs = processors > 0 ? (uint32_t)processors : 1 };
    while (!rc && (c = getopt_long(argc, argv, "", known, NULL)) >= 0) {
        if (c == '?' + 128)
            return 1;
        else if (c == 'S')
            rc = each_name(o, optarg, take_scenario);
        else if (c == 'P')
            rc = each_name(o, optarg, take_policy);
        else if (c == 'A')
            rc = each_name(o, optarg, take_admission);
        else if (c == 'T')
            rc = read_trace(&o->trace, optarg);
        else if (c == 'R')
            o->resume = optarg;
        else if (c == 'J' && !optarg && optind < argc && (argv[optind][0] != '-' || !argv[optind][1]))
            o->json = argv[optind++]; /* --json FILE as well as --json=FILE */
        else if (c == 'J')
            o->json = optarg ? optarg : "-";
        else if (c == 'V')
            o->svg = optarg;
        else if (c == 'q')
            o->quiet = true;
        else
            rc = c == '?' ? -1 : take_number(o, c, optarg);
    }
    if (!rc && optind < argc)
        rc = complain("not an option", argv[optind]);
    for (size_t k = 0, all = !o->scenario_count; all && k < scenario_count; k++)
        take_scenario(o, scenarios[k].name);
    if (!rc && !o->policy_count)
        rc = each_name(o, "paper,planner", take_policy);
    if (!rc && !o->admission_count)
        rc = each_name(o, "off,sjf", take_admission);
    return rc;
}

/* All runs, row by row. In memory that child processes share. */
static struct result *plan_runs(const struct options *o, size_t *count)
{
    size_t at = 0;
    struct result *r;

    *count = o->scenario_count * o->policy_count * o->admission_count * o->seeds;
    r = mmap(NULL, *count * sizeof *r, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (r == MAP_FAILED)
        return NULL;
    for (size_t s = 0; s < o->scenario_count; s++)
        for (size_t a = 0; a < o->admission_count; a++)
            for (size_t p = 0; p < o->policy_count; p++)
                for (uint32_t k = 0; k < o->seeds; k++)
                    r[at++].run = (struct run){ .scenario = o->scenarios[s],
                                                .policy = o->policies[p],
                                                .admission = o->admissions[a],
                                                .seed = o->seed + k,
                                                .hosts = o->hosts,
                                                .omega = o->omega,
                                                .interval_s = o->interval_s,
                                                .trace = o->trace.count ? &o->trace : NULL };
    return r;
}

/* A worker takes whatever number comes out of the one pipe, runs it, and puts the number into the other. */
static void work(struct result *results, int tasks, int finished)
{
    uint32_t k;

    while (read(tasks, &k, sizeof k) == (ssize_t)sizeof k) {
        results[k].done = !model_run(&results[k].run, &results[k].outcome, NULL);
        if (write(finished, &k, sizeof k) != (ssize_t)sizeof k)
            break;
    }
    _exit(0);
}

static void show_progress(size_t done, size_t all)
{
    int width = (int)(40 * done / all);

    fprintf(stderr, "\r[%.*s%*s] %zu of %zu runs ", width, "########################################", 40 - width, "",
            done, all);
    if (done == all)
        fputs("\r\033[K", stderr);
}

/* Feeds the workers and takes in what they finish. Returns the number of runs that failed to run, or -1. */
static int run_all(struct result *results, size_t count, size_t done, uint32_t jobs, FILE *resume, bool progress)
{
    int tasks[2], finished[2], failed = 0;
    size_t next = 0, out = 0;
    uint32_t k, started = 0;

    if (pipe(tasks) || pipe(finished))
        return complain("no pipe", strerror(errno));
    fflush(NULL);
    for (; started < jobs; started++) {
        pid_t pid = fork();

        if (pid == 0) {
            close(tasks[1]);
            close(finished[0]);
            work(results, tasks[0], finished[1]);
        }
        if (pid < 0)
            break;
    }
    close(tasks[0]);
    close(finished[1]);
    if (!started)
        return complain("no process", strerror(errno));
    for (;;) {
        for (; out < started + 1 && next < count; next++)
            if (!results[next].done) {
                k = (uint32_t)next;
                if (write(tasks[1], &k, sizeof k) != (ssize_t)sizeof k)
                    return complain("a worker is gone", strerror(errno));
                out++;
            }
        if (!out || read(finished[0], &k, sizeof k) != (ssize_t)sizeof k)
            break;
        out--;
        done++;
        failed += !results[k].done;
        if (resume && results[k].done) {
            resume_write(&results[k], resume);
            fflush(resume);
        }
        if (progress)
            show_progress(done, count);
    }
    close(tasks[1]);
    close(finished[0]);
    while (started--)
        wait(NULL);
    return out ? complain("a worker is gone", "its run is not finished") : failed;
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

        if (p == POLICY_PLANNER || (best->run.policy != POLICY_PLANNER && p != POLICY_MIRROR))
            best = &results[k];
    }
    return best;
}

static int write_picture(const struct options *o, const struct result *last, const struct row *rows, size_t count)
{
    struct recording r = { .every_s = fmax(1, last->outcome.makespan_s / 400) };
    struct outcome out;
    char title[128];
    int rc = model_run(&last->run, &out, &r);

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
        report_table(rows, n, stdout);
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

int main(int argc, char **argv)
{
    struct options o;
    struct result *results;
    FILE *resume = NULL;
    size_t count, done = 0;
    int rc = read_options(&o, argc, argv);

    if (rc > 0)
        return fputs(usage, stdout) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
    if (rc < 0)
        return fputs("simulate --help tells more\n", stderr), 2;
    results = plan_runs(&o, &count);
    if (!results)
        return complain("no memory", strerror(errno)), EXIT_FAILURE;
    if (o.resume) {
        resume = fopen(o.resume, "a+");
        if (!resume)
            return complain(o.resume, strerror(errno)), EXIT_FAILURE;
        rewind(resume);
        done = resume_read(results, count, resume);
        fseek(resume, 0, SEEK_END);
    }
    rc = done < count ? run_all(results, count, done, o.jobs, resume, !o.quiet && isatty(2)) : 0;
    if (resume && fclose(resume))
        rc = complain(o.resume, strerror(errno));
    if (rc > 0)
        complain("the library refused what a host may ask for", "this is a defect");
    if (!rc)
        rc = report(&o, results, count);
    munmap(results, count * sizeof *results);
    free(o.trace.at_s);
    free(o.trace.bytes_per_s);
    return rc ? EXIT_FAILURE : EXIT_SUCCESS;
}
