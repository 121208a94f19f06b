/* SPDX-License-Identifier: MIT */
/* migbuf-plan: before a host is evacuated. How large the buffer must be, in which order, how long, who is throttled. */
#include "command.h"
#include "data.h"
#include "list.h"
#include "numbers.h"
#include "picture.h"
#include "running.h"
#include "search.h"
#include "table.h"
#include "tell.h"
#include "words.h"
#include "workers.h"
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char usage[] =
    "usage: migbuf-plan --link RATE [options] [FILE | VM...]\n"
    "       migbuf-plan --link RATE --server WHERE [options]\n"
    "\n"
    "Says how large the buffer must be before a host is evacuated, in which order its guests go, how long\n"
    "it takes, and whose writes are throttled by how much. It lets the library decide about these guests\n"
    "in a model of guests, links and QEMU, several times.\n"
    "\n"
    "Guests are read from FILE, or standard input (-, or no word at all), one a line; or each is one\n"
    "argument with blanks in it: 'db1 disk=100GiB write=5MB/s'. Empty lines and those that begin with #\n"
    "are skipped. A guest:\n"
    "\n";

static const char usage_options[] =
    "\n"
    "JSON is an array of objects with the same keys and \"name\", or an object with that array in \"vms\";\n"
    "numbers are bytes, strings as above.\n"
    "\n"
    "  --link RATE       what a link carries: 117MB/s, or 1Gbit, of which 94 % are payload; twice and\n"
    "                    more: so many links\n"
    "  --flow RATE       the most that one migration gets on its link (the whole link)\n"
    "  --buffer SIZE     size of the buffer, 64 MiB to 1 PB; several times: each (10GiB, and the smallest\n"
    "                    with which nobody is throttled)\n"
    "  --smallest        the smallest with which nobody is throttled, beside the others\n"
    "  --policy P        planner, paper, or hybrid: planner, and a mirror for whom it is better\n"
    "                    (planner)\n"
    "  --admission A     sjf: smallest disk first; fifo: as they are listed; off: all at once (sjf)\n"
    "  --deadline TIME   all should be away by then: 90min, 3h, 5400s\n"
    "  --seeds N         runs for each size, 1 to 1000 (16)\n"
    "  --seed S          the first seed (1)\n"
    "  --jobs J          processes, 1 to 256 (as many as there are processors)\n"
    "  --json FILE       all of it as JSON; - is standard output, instead of the text\n"
    "  --svg FILE        a picture: who is away when, and the files in the buffer in the first run\n"
    "  --json-in         guests are JSON (it is seen by its first sign otherwise)\n"
    "  --history FILE    what migbuf-guard wrote down of earlier migrations: whose write= is not said\n"
    "                    writes what they measured\n"
    "  --list FILE       the guests as a list, to be read again; - is standard output\n"
    "  --quiet           no progress\n"
    "  --version         the library's version\n"
    "  -h, --help        this text\n"
    "\n"
    "Guests of a running LXD or Incus: its VMs, what their root disks take, and what they write while\n"
    "they are watched. One that does not run writes nothing.\n"
    "\n"
    "  --watch TIME      how long to watch what they write, 1s to 24h (60s). The servers renew what they\n"
    "                    tell every 8 s: less than 20 s tells little\n"
    "  --interval TIME   time between two looks, 1s to 1h (5s)\n"
    "  --assume RATE     what those VMs write that run and of which the server tells nothing; without it\n"
    "                    there is no plan with them\n"
    "  --all-projects    VMs of all projects\n";

static const char usage_end[] =
    "  --timeout S       deadline of every request to the server in seconds, 1 to 3600 (30)\n"
    "\n"
    "Who gets 99 % of its writes is not throttled. Who is, is short of room; or it writes more clusters\n"
    "of 64 KiB than the link can carry while its overlay is sent: then no buffer helps, and it says so.\n"
    "6 MB/s in random writes of 4 KiB are up to 96 MB/s of clusters. Sizes take K, M, G, T (also KiB,\n"
    "MB, ...). Exit status: 0; 1 it could not be done; 2 wrong options, or a list that is\n"
    "wrong or cannot be read; 3 the deadline is missed in half of the runs or more, with the largest\n"
    "buffer.\n"
    "\n"
    "Columns: copy, what is copied; starts, away: in the middle one of the runs; between: when it is\n"
    "away at the earliest and latest of all runs; gets: the part of its writes that gets through, in the\n"
    "middle one and at least; file: the most that it took of the buffer in any run; size.state: enough\n"
    "for that, if it has a volume of its own (- where its file would be larger, had it room).\n"
    "Timeline: # not throttled, = throttled, m mirrored, - and . from the first to the last\n"
    "end of all runs.\n";

#define BUFFERS_MOST 16
#define BUFFER_LEAST (UINT64_C(64) << 20)
#define BUFFER_MOST UINT64_C(1000000000000000)
#define BUFFER_USUAL (UINT64_C(10) << 30)
#define PAYLOAD 0.94 /* of a link's bits, over TCP in frames of 1500 bytes */

struct options {
    double links[LIST_LINKS], flow_bytes_per_s, deadline_s;
    uint32_t link_count;
    uint64_t buffers[BUFFERS_MOST];
    size_t buffer_count;
    bool smallest, json_in, is_live; /* is_live: something is said that only a server is asked for */
    const char *json, *svg, *list, *history;
    struct running running;
    struct question question;
};

static void help(FILE *out)
{
    fputs(usage, out);
    fputs(list_help, out);
    fputs(usage_options, out);
    server_help("a list", "VMs of this project; may be given several times (default)", out);
    fputs(usage_end, out);
}

/* Bytes, or bits of which a part is payload. */
static int read_rate(const char *option, const char *text, double *bytes_per_s, char error[FAIL_SIZE])
{
    char *copy = strdup(text), *bits;
    uint64_t number;
    bool good = false;

    if (!copy)
        return fail(error, "out of memory");
    bits = strstr(copy, "bit");
    if (bits && (!bits[3] || !strcmp(bits + 3, "/s"))) {
        *bits = 0;
        good = read_size(copy, 1000, 10000, UINT64_C(8000000000000), &number);
        *bytes_per_s = good ? (double)number / 8 * PAYLOAD : 0;
    } else if (!bits && read_size(copy, 1000, 1000, UINT64_C(1000000000000), &number)) {
        good = true;
        *bytes_per_s = (double)number;
    }
    free(copy);
    return good ? 0 : fail(error, "--%s %s: a rate of 1 kB/s to 1 TB/s, as 117MB/s or 1Gbit", option, text);
}

static int read_time(const char *option, const char *text, double most_s, double *s, char error[FAIL_SIZE])
{
    static const struct {
        const char *unit;
        double s;
    } units[] = { { "s", 1 }, { "min", 60 }, { "h", 3600 } };
    char *end;
    double number = strtod(text, &end);
    bool in_tens = end == text + strspn(text, "0123456789."); /* strtod takes 0x10 and 1e3 as well */

    for (size_t k = 0; in_tens && *text >= '0' && *text <= '9' && k < sizeof units / sizeof *units; k++)
        if (!strcmp(end, units[k].unit) && number * units[k].s >= 1 && number * units[k].s <= most_s) {
            *s = number * units[k].s;
            return 0;
        }
    return fail(error, "--%s %s: a time of 1 s to %.0f s, as 90min, 3h or 5400s", option, text, most_s);
}

static int take_link(struct options *o, const char *value, char error[FAIL_SIZE])
{
    if (o->link_count == LIST_LINKS)
        return fail(error, "--link %s: there are %d links at most", value, LIST_LINKS);
    if (read_rate("link", value, &o->links[o->link_count], error))
        return -1;
    o->link_count++;
    return 0;
}

static int take_buffer(struct options *o, const char *value, char error[FAIL_SIZE])
{
    if (o->buffer_count == BUFFERS_MOST)
        return fail(error, "--buffer %s: there are %d sizes at most", value, BUFFERS_MOST);
    if (!read_size(value, 1024, BUFFER_LEAST, BUFFER_MOST, &o->buffers[o->buffer_count]))
        return fail(error, "--buffer %s: a size of 64 MiB to 1 PB, as 10GiB or 500MB", value);
    o->buffer_count++;
    return 0;
}

static int take_policy(struct options *o, const char *value, char error[FAIL_SIZE])
{
    static const enum policy policies[] = { POLICY_PLANNER, POLICY_PAPER, POLICY_HYBRID };
    static const char *const names[] = { "planner", "paper", "hybrid" };
    size_t k;

    if (command_choice("policy", value, names, sizeof names / sizeof *names, "", &k, error))
        return -1;
    o->question.policy = policies[k];
    return 0;
}

static int take_admission(struct options *o, const char *value, char error[FAIL_SIZE])
{
    size_t k;

    if (command_choice("admission", value, admission_names, ADMISSIONS, "", &k, error))
        return -1;
    o->question.admission = (enum admission)k;
    return 0;
}

/* What is asked of a server only. */
static int take_live(struct running *r, int option, const char *value, char error[FAIL_SIZE])
{
    switch (option) {
    case 'W':
        return read_time("watch", value, 86400, &r->watch_s, error);
    case 'i':
        return read_time("interval", value, 3600, &r->interval_s, error);
    case 'a':
        return !strcmp(value, "0") ? (r->assumed_bytes_per_s = 0, 0) : read_rate("assume", value, &r->assumed_bytes_per_s, error);
    case 'p':
        r->all_projects = true;
        return 0;
    default:
        return running_option(r, option, value, error);
    }
}

static int take_option(void *program, int option, const char *value, char error[FAIL_SIZE])
{
    struct options *o = program;

    switch (option) {
    case 'L':
        return take_link(o, value, error);
    case 'F':
        return read_rate("flow", value, &o->flow_bytes_per_s, error);
    case 'B':
        return take_buffer(o, value, error);
    case 'P':
        return take_policy(o, value, error);
    case 'A':
        return take_admission(o, value, error);
    case 'D':
        return read_time("deadline", value, 1e8, &o->deadline_s, error);
    case 'n':
        return command_number32("seeds", value, 1, 1000, NULL, &o->question.seeds, error);
    case 'e':
        return command_number("seed", value, 0, UINT64_C(1000000000000000), NULL, &o->question.seed, error);
    case 'j':
        return command_number32("jobs", value, 1, 256, NULL, &o->question.jobs, error);
    case 'S':
        o->smallest = true;
        return 0;
    case 'J':
        o->json = value;
        return 0;
    case 'V':
        o->svg = value;
        return 0;
    case 'I':
        o->json_in = true;
        return 0;
    case 'q':
        o->question.quiet = true;
        return 0;
    case 'H':
        o->history = value;
        return 0;
    case 'T':
        o->list = value;
        return 0;
    default:
        o->is_live = true;
        return take_live(&o->running, option, value, error);
    }
}

/* One of them at most goes to standard output. */
static int check_outputs(const struct options *o, char error[FAIL_SIZE])
{
    const struct {
        const char *option, *path;
    } outputs[] = { { "json", o->json }, { "svg", o->svg }, { "list", o->list } };
    const char *first = NULL;

    for (size_t k = 0; k < sizeof outputs / sizeof *outputs; k++) {
        bool is_stdout = outputs[k].path && !strcmp(outputs[k].path, "-");

        if (is_stdout && first)
            return fail(error, "--%s - and --%s -: one of them goes to standard output", first, outputs[k].option);
        if (is_stdout)
            first = outputs[k].option;
        if (command_check_output(outputs[k].option, outputs[k].path, error))
            return -1;
    }
    return 0;
}

/* 0; 1: that was all; -1: see error. */
static int read_options(struct options *o, int argc, char **argv, char error[FAIL_SIZE])
{
    static const struct option known[] = {
        { "link", 1, NULL, 'L' },   { "flow", 1, NULL, 'F' },      { "buffer", 1, NULL, 'B' },   { "smallest", 0, NULL, 'S' },
        { "policy", 1, NULL, 'P' }, { "admission", 1, NULL, 'A' }, { "deadline", 1, NULL, 'D' }, { "seeds", 1, NULL, 'n' },
        { "seed", 1, NULL, 'e' },   { "jobs", 1, NULL, 'j' },      { "json-in", 0, NULL, 'I' },  { "quiet", 0, NULL, 'q' },
        { "json", 1, NULL, 'J' },   { "svg", 1, NULL, 'V' },       { "list", 1, NULL, 'T' },     { "history", 1, NULL, 'H' },
        { "watch", 1, NULL, 'W' },  { "interval", 1, NULL, 'i' },  { "assume", 1, NULL, 'a' },   { "all-projects", 0, NULL, 'p' },
        SERVER_OPTIONS,
        COMMAND_OPTIONS,
    };
    static const struct command command = { "migbuf-plan", known, help, take_option };
    int rc;

    *o = (struct options){ .flow_bytes_per_s = INFINITY, .deadline_s = INFINITY };
    o->question = (struct question){ .policy = POLICY_PLANNER,
                                     .admission = ADMISSION_SJF,
                                     .seeds = 16,
                                     .seed = 1,
                                     .jobs = workers_jobs(),
                                     .begun_ns = now_ns() };
    o->running = (struct running){ .watch_s = 60, .interval_s = 5, .assumed_bytes_per_s = -1 };
    server_options_init(&o->running.server);
    rc = command_read(&command, o, argc, argv, error);
    if (rc)
        return rc;
    o->running.quiet = o->question.quiet;
    if (o->is_live && !o->running.server.where)
        return fail(error, "--server is needed: where the server is (local: on this machine)");
    if (o->is_live && optind < argc)
        return fail(error, "%s: guests are listed, or --server is asked", argv[optind]);
    if (!o->link_count)
        return fail(error, "--link is needed: what the link carries, as 117MB/s or 1Gbit");
    if (!o->buffer_count) {
        o->buffers[o->buffer_count++] = BUFFER_USUAL;
        o->smallest = true;
    }
    return check_outputs(o, error);
}

static int read_file(struct list *list, const char *path, bool json, char error[FAIL_SIZE])
{
    bool is_stdin = !strcmp(path, "-");
    FILE *in = is_stdin ? stdin : fopen(path, "r");
    int rc;

    if (!in)
        return fail(error, "%s: %s", path, strerror(errno));
    rc = list_read(list, is_stdin ? "standard input" : path, in, json, error);
    if (in != stdin)
        fclose(in);
    return rc;
}

/* Words are guests when there are blanks in them; else the one word is a file. */
static int read_guests(struct list *list, const struct options *o, int argc, char **argv, char error[FAIL_SIZE])
{
    char where[32];
    int words = argc - optind, rc = 0;

    list->history = o->history;
    if (o->is_live)
        return running_read(list, &o->running, error);
    if (!words && isatty(STDIN_FILENO))
        return fail(error, "no guests: name a file, or say each as 'name disk=100GiB write=5MB/s'");
    if (!words)
        rc = read_file(list, "-", o->json_in, error);
    else if (words == 1 && !strpbrk(argv[optind], " \t\n"))
        rc = read_file(list, argv[optind], o->json_in, error);
    else
        for (int k = 0; !rc && k < words; k++) {
            snprintf(where, sizeof where, "guest %d", k + 1);
            rc = list_line(list, where, argv[optind + k], error);
        }
    return rc ? rc : list_check(list, o->link_count, error);
}

static int put_text(char *text, int width, FILE *out)
{
    if (!text)
        return -1;
    words_wrap(text, width, out);
    free(text);
    return 0;
}

static int print(const struct options *o, const struct answer *answers, size_t count, FILE *out)
{
    int width = table_width(out);
    bool colour = isatty(fileno(out)) && !getenv("NO_COLOR");

    for (size_t k = 0; k < count; k++) {
        if (put_text(words_answer(&answers[k], o->deadline_s), width, out))
            return -1;
        fputc('\n', out);
        words_table(&answers[k], width, out);
        fputc('\n', out);
        words_timeline(&answers[k], width, colour, out);
        fputc('\n', out);
    }
    return put_text(words_bars(&o->question), width, out);
}

static int write_list(const struct options *o, const struct list *list, char error[FAIL_SIZE])
{
    FILE *out = !o->list ? NULL : strcmp(o->list, "-") ? fopen(o->list, "w") : stdout;
    int rc;

    if (!o->list)
        return 0;
    rc = out ? list_write(list, out) : -1;
    if (out && (out == stdout ? fflush(out) || ferror(out) : fclose(out)))
        rc = -1;
    return rc ? fail(error, "--list %s: %s", o->list, strerror(errno)) : 0;
}

/* Is a list all that was asked for? With a deadline the exit status tells of the plan. */
static bool is_list_alone(const struct options *o)
{
    return o->list && !strcmp(o->list, "-") && !o->json && !o->svg && !isfinite(o->deadline_s);
}

/* Files, and the text where something else has not taken its place. */
static int report(const struct options *o, const struct answer *answers, size_t count, char error[FAIL_SIZE])
{
    bool only_json = o->json && !strcmp(o->json, "-");
    FILE *out = only_json ? stdout : o->json ? fopen(o->json, "w") : NULL;
    int rc;

    if (o->json && (!out || data_write(&o->question, answers, count, o->deadline_s, out) || (!only_json && fclose(out))))
        return fail(error, "--json %s: %s", o->json, strerror(errno));
    if (o->svg) {
        out = strcmp(o->svg, "-") ? fopen(o->svg, "w") : stdout;
        rc = out ? picture_write(&o->question, answers, count, o->deadline_s, out) : -1;
        if (rc || (out != stdout && fclose(out)))
            return fail(error, "--svg %s: %s", o->svg, strerror(errno));
    }
    if (!only_json && (!o->svg || strcmp(o->svg, "-") != 0) && (!o->list || strcmp(o->list, "-") != 0) && print(o, answers, count, stdout))
        return fail(error, "out of memory");
    return fflush(stdout) || ferror(stdout) ? fail(error, "standard output: %s", strerror(errno)) : 0;
}

static int ask(const struct options *o, struct answer *answers, size_t *count, char error[FAIL_SIZE])
{
    struct search s;
    int rc = search_begin(&s, &o->question, error);

    for (*count = 0; !rc && *count < o->buffer_count; ++*count)
        rc = search_answer(&s, o->buffers[*count], o->deadline_s, &answers[*count], error);
    if (!rc && o->smallest)
        rc = search_smallest(&s, o->deadline_s, &answers[(*count)++], error);
    search_end(&s);
    return rc;
}

/* The deadline is judged by the largest buffer: is it kept in more than half of the runs? */
static int status_of(const struct options *o, const struct answer *answers, size_t count)
{
    const struct answer *largest = answers;

    for (size_t k = 1; k < count; k++)
        if (answers[k].bytes > largest->bytes)
            largest = &answers[k];
    return isfinite(o->deadline_s) && 2 * largest->runs_in_time <= largest->runs ? 3 : EXIT_SUCCESS;
}

static int plan(const struct options *o, char error[FAIL_SIZE])
{
    struct answer answers[BUFFERS_MOST + 1] = { { 0 } };
    size_t count;
    int rc = ask(o, answers, &count, error);

    if (!rc)
        rc = report(o, answers, count, error);
    if (!rc)
        rc = status_of(o, answers, count);
    for (size_t k = 0; k <= BUFFERS_MOST; k++)
        answer_free(&answers[k]);
    return rc;
}

int main(int argc, char **argv)
{
    static struct list list;
    struct options o;
    struct guests guests;
    char error[FAIL_SIZE];
    int rc = read_options(&o, argc, argv, error);

    if (rc > 0)
        return fflush(stdout) ? EXIT_FAILURE : EXIT_SUCCESS;
    if (rc || read_guests(&list, &o, argc, argv, error)) {
        tell(stderr, "migbuf-plan: %s", error);
        return !rc && o.is_live ? EXIT_FAILURE : 2;
    }
    guests = (struct guests){ .list = list.guests,
                              .count = (uint32_t)list.count,
                              .link_count = o.link_count,
                              .links = o.links,
                              .flow_bytes_per_s = o.flow_bytes_per_s };
    o.question.guests = &guests;
    o.question.begun_ns = now_ns();
    rc = write_list(&o, &list, error);
    if (!rc && !is_list_alone(&o))
        rc = plan(&o, error);
    if (rc < 0)
        tell(stderr, "migbuf-plan: %s", error);
    return rc < 0 ? EXIT_FAILURE : rc;
}
