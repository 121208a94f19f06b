/* SPDX-License-Identifier: MIT */
/* Asks a server for its VMs and watches what they write. See running.h. */
#include "running.h"
#include "numbers.h"
#include "past.h"
#include <curl/curl.h>
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define DISKS_MOST 64          /* of one VM */
#define COUNTERS_MOST 8192     /* of all VMs together */
#define DEFAULT_DISK (UINT64_C(10) << 30) /* what both servers make of a VM's disk where nothing is set */
#define DISK_LEAST (UINT64_C(1) << 20)
#define PATH_MOST 1024

/* A VM's disk, as far as its counter is known. */
struct counter {
    struct migbuf_lxd_written last;
    bool is_root;             /* by the name that QEMU knows it by; else the guest's agent told */
    double bytes, writes;     /* since the first reading */
    double later_bytes, later_writes; /* since the first reading that was new */
};

struct reading {
    const struct running *options;
    struct migbuf_lxd *lxd;
    struct migbuf_lxd_server facts;
    struct migbuf_lxd_vm *vms;
    size_t vm_count;
    struct migbuf_lxd_written *now; /* of the last reading */
    struct counter *counters;
    size_t counter_count;
    /* The server keeps its metrics for some seconds: the time between two readings that were new is what counts. */
    double begun_s, ended_s, first_new_s, last_new_s;
    unsigned good, bad;
};

int running_option(struct running *r, int option, const char *value, char error[FAIL_SIZE])
{
    if (option != OPTION_PROJECT)
        return server_option(&r->server, option, value, error);
    if (r->project_count == RUNNING_PROJECTS)
        return fail(error, "--project %s: there are %d projects at most", value, RUNNING_PROJECTS);
    r->projects[r->project_count++] = value;
    return 0;
}

/* ---- what the server has ---- */

/* In a cluster: whose VMs are meant. */
static const char *member_of(const struct reading *d)
{
    return d->options->server.target ? d->options->server.target : d->facts.name;
}

static bool is_meant(const struct reading *d, const struct migbuf_lxd_vm *vm)
{
    const struct running *r = d->options;
    bool named = r->all_projects || (!r->project_count && !strcmp(vm->project, "default"));

    for (size_t k = 0; k < r->project_count; k++)
        named |= !strcmp(vm->project, r->projects[k]);
    return named && vm->root[0] && (!d->facts.clustered || !strcmp(vm->location, member_of(d)));
}

/* What a GET returned, or NULL. */
static json_t *ask(struct reading *d, const char *path)
{
    const char *text;
    uint64_t length;

    if (migbuf_lxd_call(d->lxd, "GET", path, NULL, d->options->server.timeout_ms, &text, &length, NULL))
        return NULL;
    return json_loadb(text, (size_t)length, JSON_DECODE_ANY, NULL);
}

/* What new VMs of that pool get. */
static uint64_t default_size(struct reading *d, const char *pool)
{
    char path[PATH_MOST] = "/1.0/storage-pools/";
    const char *text;
    uint64_t bytes = 0;
    json_t *root;

    server_put_escaped(path, sizeof path, pool);
    root = ask(d, path);
    text = json_string_value(json_object_get(json_object_get(root, "config"), "volume.size"));
    if (!text || migbuf_lxd_processed(text, strlen(text), &bytes) || !bytes)
        bytes = DEFAULT_DISK;
    json_decref(root);
    return bytes;
}

/* What there is to copy: what the pool says that the disk takes, where it can tell. */
static uint64_t used_bytes(struct reading *d, const struct migbuf_lxd_vm *vm, uint64_t size)
{
    char path[PATH_MOST] = "/1.0/instances/";
    json_int_t usage;
    json_t *state;

    server_put_escaped(path, sizeof path, vm->name);
    strcat(path, "/state?project=");
    server_put_escaped(path, sizeof path, vm->project);
    state = ask(d, path);
    usage = json_integer_value(json_object_get(json_object_get(json_object_get(state, "disk"), vm->root), "usage"));
    json_decref(state);
    if (usage <= 0 || (uint64_t)usage > size)
        return size;
    return (uint64_t)usage < DISK_LEAST ? DISK_LEAST : (uint64_t)usage;
}

static int root_disk(struct reading *d, const struct migbuf_lxd_vm *vm, uint64_t *size, char error[FAIL_SIZE])
{
    static struct migbuf_lxd_disk disks[DISKS_MOST];
    struct migbuf_error e;
    int n = migbuf_lxd_disks(d->lxd, vm->project, vm->name, d->options->server.timeout_ms, disks, DISKS_MOST, &e);

    if (n < 0)
        return server_fail(error, d->lxd, vm->name, &e);
    *size = 0;
    for (int k = 0; k < n; k++)
        if (disks[k].root)
            *size = disks[k].size_bytes;
    if (!*size)
        *size = default_size(d, vm->pool);
    return 0;
}

/* ---- what they write ---- */

static bool is_root_device(const struct reading *d, const struct migbuf_lxd_vm *vm, const char *device)
{
    struct migbuf_lxd_names names;

    return !migbuf_lxd_names(d->facts.kind, vm->root, &names) &&
           (!strcmp(device, names.device) || !strcmp(device, names.backend) || !strcmp(device, names.node));
}

static const struct migbuf_lxd_vm *vm_of(const struct reading *d, const struct migbuf_lxd_written *w)
{
    for (size_t k = 0; k < d->vm_count; k++)
        if (!strcmp(d->vms[k].name, w->instance) && !strcmp(d->vms[k].project, w->project))
            return &d->vms[k];
    return NULL;
}

/* They mostly come in the same order. */
static struct counter *counter_of(struct reading *d, size_t hint, const struct migbuf_lxd_written *w)
{
    for (size_t n = 0; n < d->counter_count; n++) {
        struct counter *c = &d->counters[(hint + n) % d->counter_count];

        if (!strcmp(c->last.device, w->device) && !strcmp(c->last.instance, w->instance) && !strcmp(c->last.project, w->project))
            return c;
    }
    return NULL;
}

/* What was written since the last reading; a VM that was started anew counts from 0. */
static double step(uint64_t before, uint64_t now)
{
    return (double)(now < before ? now : now - before);
}

static void take_reading(struct reading *d, int count, double now_s)
{
    bool is_new = false, has_begun = d->first_new_s >= 0;

    for (int k = 0; k < count; k++) {
        const struct migbuf_lxd_written *w = &d->now[k];
        const struct migbuf_lxd_vm *vm = vm_of(d, w);
        struct counter *c = vm ? counter_of(d, (size_t)k, w) : NULL;

        if (vm && !c && d->counter_count < COUNTERS_MOST) {
            d->counters[d->counter_count++] = (struct counter){ .last = *w, .is_root = is_root_device(d, vm, w->device) };
        } else if (c) {
            double bytes = step(c->last.bytes, w->bytes), writes = step(c->last.writes, w->writes);

            is_new |= c->last.bytes != w->bytes;
            c->bytes += bytes;
            c->writes += writes;
            c->later_bytes += has_begun ? bytes : 0;
            c->later_writes += has_begun ? writes : 0;
            c->last = *w;
        }
    }
    if (is_new && !has_begun)
        d->first_new_s = now_s;
    if (is_new)
        d->last_new_s = now_s;
    if (!d->good++)
        d->begun_s = now_s;
    d->ended_s = now_s;
}

static double now_s(void)
{
    return (double)now_ns() / 1e9;
}

static void show_progress(const struct reading *d, double since_s)
{
    double bytes = 0;
    char rate[HUMAN_SIZE];

    if (d->options->quiet || !isatty(STDERR_FILENO))
        return;
    for (size_t k = 0; k < d->counter_count; k++)
        bytes += d->counters[k].bytes;
    human_rate(d->ended_s > d->begun_s ? (uint64_t)(bytes / (d->ended_s - d->begun_s)) : 0, rate);
    fprintf(stderr, "\r\033[K%.0f s of %.0f s: %zu VMs, %s written ", fmin(since_s, d->options->watch_s), d->options->watch_s, d->vm_count,
            rate);
}

static void sleep_until(double until_s)
{
    double left = until_s - now_s();
    struct timespec t = { .tv_sec = (time_t)fmax(left, 0), .tv_nsec = (long)(1e9 * (fmax(left, 0) - floor(fmax(left, 0)))) };

    while (nanosleep(&t, &t) && errno == EINTR)
        ;
}

/* A server that is away for a moment costs one reading. */
static int watch(struct reading *d, char error[FAIL_SIZE])
{
    const struct running *r = d->options;
    double begun = now_s(), next = begun;
    struct migbuf_error e;

    d->first_new_s = d->last_new_s = -1;
    for (bool last = false; !last; next += r->interval_s) {
        int n;

        if (next >= begun + r->watch_s)
            next = begun + r->watch_s, last = true;
        sleep_until(next);
        n = migbuf_lxd_written(d->lxd, r->server.timeout_ms, d->now, COUNTERS_MOST, &e);
        if (n >= 0)
            take_reading(d, n, now_s());
        else if (e.code == MIGBUF_E_UNSUPPORTED || !d->good || last)
            return server_fail(error, d->lxd, "what VMs write", &e);
        show_progress(d, now_s() - begun);
    }
    if (!r->quiet && isatty(STDERR_FILENO))
        fputs("\r\033[K", stderr);
    return 0;
}

/* Bytes a second and bytes of one write. False: nobody knows. Where the guest's agent tells of several disks, and of mapped ones
 * above them, the busiest is taken: at least as much as the root disk's. */
static bool rate_of(const struct reading *d, const struct migbuf_lxd_vm *vm, double *bytes_per_s, double *block_bytes)
{
    bool by_new = d->last_new_s > d->first_new_s;
    double span_s = by_new ? d->last_new_s - d->first_new_s : d->ended_s - d->begun_s, most = -1;
    bool is_root = false;

    if (d->good < 2 || span_s <= 0)
        return false;
    for (size_t k = 0; k < d->counter_count; k++) {
        const struct counter *c = &d->counters[k];
        double bytes = by_new ? c->later_bytes : c->bytes, writes = by_new ? c->later_writes : c->writes;

        if (strcmp(c->last.instance, vm->name) || strcmp(c->last.project, vm->project) || (is_root && !c->is_root) ||
            (bytes <= most && is_root == c->is_root))
            continue;
        most = bytes;
        is_root = c->is_root;
        *block_bytes = writes > 0 ? bytes / writes : 0;
    }
    *bytes_per_s = most / span_s;
    return most >= 0;
}

/* ---- the list ---- */

/* Measured, else what earlier migrations measured, else what was said to be taken. */
static int write_rate(const struct reading *d, const struct migbuf_lxd_vm *vm, const char *name, const char *history, double *bytes_per_s,
                      double *block_bytes, char error[FAIL_SIZE])
{
    char id[PAST_ID];
    int known;

    past_id("", name, id);
    *bytes_per_s = *block_bytes = 0;
    if (!(vm->flags & MIGBUF_LXD_VM_RUNNING) || rate_of(d, vm, bytes_per_s, block_bytes))
        return 0;
    known = history ? past_write_rate(history, id, bytes_per_s, error) : 0;
    if (known)
        return known < 0 ? -1 : 0;
    *bytes_per_s = d->options->assumed_bytes_per_s;
    return *bytes_per_s >= 0 ? 0
                             : fail(error, "%s: it runs, and the server does not tell what it writes; --assume says what to take for such VMs",
                                    name);
}

static int add_vm(struct reading *d, const struct migbuf_lxd_vm *vm, struct list *list, char error[FAIL_SIZE])
{
    char name[300], line[1024], block[64] = "";
    double bytes_per_s, block_bytes;
    uint64_t size = 0;

    past_name(vm->project, vm->name, name);
    if (root_disk(d, vm, &size, error) || write_rate(d, vm, name, list->history, &bytes_per_s, &block_bytes, error))
        return -1;
    if (block_bytes > 0)
        snprintf(block, sizeof block, " block=%.0f", fmin(fmax(block_bytes, 512), 1 << 20));
    snprintf(line, sizeof line, "%s disk=%llu used=%llu write=%.0f%s", name, (unsigned long long)size,
             (unsigned long long)used_bytes(d, vm, size), bytes_per_s, block);
    return list_line(list, "the server", line, error);
}

static int find_vms(struct reading *d, bool *any_runs, char error[FAIL_SIZE])
{
    struct migbuf_error e;
    int n = migbuf_lxd_vms(d->lxd, d->options->server.timeout_ms, d->vms, LIST_MOST, &e);

    if (n < 0)
        return server_fail(error, d->lxd, "its VMs", &e);
    for (int k = 0; k < n; k++) {
        if (!is_meant(d, &d->vms[k]))
            continue;
        *any_runs |= (d->vms[k].flags & MIGBUF_LXD_VM_RUNNING) != 0;
        d->vms[d->vm_count++] = d->vms[k];
    }
    if (d->vm_count)
        return 0;
    return fail(error, "%s%s has no VM here%s", d->facts.clustered ? "member " : "the server", d->facts.clustered ? member_of(d) : "",
                d->options->all_projects ? "" : ": --project names others' projects");
}

static int read_open(struct reading *d, struct list *list, char error[FAIL_SIZE])
{
    struct migbuf_error e;
    bool any_runs = false;

    d->facts.size = sizeof d->facts;
    if (migbuf_lxd_server(d->lxd, d->options->server.timeout_ms, &d->facts, &e))
        return server_fail(error, d->lxd, "the server", &e);
    if (find_vms(d, &any_runs, error) || (any_runs && watch(d, error)))
        return -1;
    for (size_t k = 0; k < d->vm_count; k++)
        if (add_vm(d, &d->vms[k], list, error))
            return -1;
    return 0;
}

int running_read(struct list *list, const struct running *r, char error[FAIL_SIZE])
{
    struct reading d = { .options = r, .vms = calloc(LIST_MOST, sizeof *d.vms), .now = calloc(COUNTERS_MOST, sizeof *d.now),
                         .counters = calloc(COUNTERS_MOST, sizeof *d.counters) };
    struct server_options server = r->server;
    int rc;

    /* Who may see one project only is asked for that one. */
    server.project = r->project_count == 1 && !r->all_projects ? r->projects[0] : NULL;
    curl_global_init(CURL_GLOBAL_DEFAULT);
    if (!d.vms || !d.now || !d.counters)
        rc = fail(error, "out of memory");
    else
        rc = server_open(&server, &d.lxd, error);
    if (!rc)
        rc = read_open(&d, list, error);
    migbuf_lxd_free(d.lxd);
    curl_global_cleanup();
    free(d.vms);
    free(d.now);
    free(d.counters);
    return rc;
}
