/* SPDX-License-Identifier: MIT */
/*
 * guard: beside an unmodified LXD or Incus, keeps the state volumes of migrating VMs from filling. It follows the
 * server's running migrations over REST and throttles the disks that move with each VM through a second QMP monitor.
 */
#include "command.h"
#include "guarded.h"
#include "metrics.h"
#include "numbers.h"
#include "past.h"
#include "server.h"
#include "tell.h"
#include "told.h"
#include <curl/curl.h>
#include <dirent.h>
#include <errno.h>
#include <ftw.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define MAX_VMS 256
#define CONFIGURED_MOST 128 /* disks of one VM */
#define ASK_MS 1000           /* between two questions to the server what became of one, at least */
#define ASK_FOR_MS 60000      /* so long is asked: `incus move` is a copy, and its client deletes the source after that */
#define REST 10 /* one that cannot be guarded is left alone for so many times what it took to find out: others wait meanwhile */

enum {
    OPTION_INTERVAL = SERVER_OPTIONS_END,
    OPTION_STATE_DIR,
    OPTION_DIRECTORY,
    OPTION_METRICS,
    OPTION_NODE,
    OPTION_HISTORY,
    OPTION_JSON,
    OPTION_DRY_RUN,
    OPTION_ONCE
};

struct program {
    struct server_options server;
    struct migbuf_lxd *lxd;
    struct migbuf_lxd_server facts;
    const char *state_dir, *directory, *node, *history;
    uint32_t interval_ms;
    uint16_t metrics_port;
    bool dry, once, json, server_up;
    struct totals totals;
    int listener;
    struct guarded *vms[MAX_VMS];
    size_t count;
    uint64_t take_up_ms; /* limits were left that could not be given back: when that is tried again; 0: none */
    uint64_t ask_ms; /* before that nobody is asked what became of a VM: the last question was not answered */
    struct {
        char id[MIGBUF_LXD_NAME];
        uint64_t again_ms; /* when it is tried again */
    } told[MAX_VMS];       /* migrations that cannot be guarded, said once */
    size_t told_count;
    uint64_t unguarded;
    char error[FAIL_SIZE];
};

static volatile sig_atomic_t end_wanted;

static void on_signal(int number)
{
    (void)number;
    end_wanted = 1;
}

static void help(FILE *out)
{
    fprintf(out,
            "Usage: migbuf-guard [OPTIONS]\n"
            "Beside an unmodified LXD or Incus: while a VM is migrated without shared storage its writes pile up\n"
            "in a file in its own state volume (size.state). When that is full the migration dies, or the guest\n"
            "gets I/O errors. This program follows the server's running migrations and throttles each such VM's\n"
            "disks so that the file fits.\n"
            "\n"
            "The servers keep the VM's monitor for themselves, so every VM needs a second one: one line in its\n"
            "configuration, in force after its next start (NAME is the VM's name, DIR the directory of its log):\n"
            "\n"
            "    DIR=/var/snap/lxd/common/lxd/logs   # Debian's LXD: /var/log/lxd, Incus: /var/log/incus\n"
            "    lxc config set NAME raw.qemu=\"-qmp unix:$DIR/NAME/guard.qmp,server=on,wait=off\"\n"
            "\n"
            "(Or `incus config set`. Other directories are closed to QEMU by AppArmor.) VMs without it are named\n"
            "and left alone. Run one on every host, as root; in a cluster on every member.\n"
            "\n"
            "  --dry-run        look and decide, change nothing\n"
            "  --once           one look at every migration, then end\n"
            "  --interval MS    time between two looks, 100 to 10000 (1000)\n"
            "  --metrics PORT   answer HTTP on 127.0.0.1:PORT with Prometheus text\n"
            "  --json           tell in JSON, one object a line\n"
            "  --history FILE   a line for each migration that had an overlay: what became of it, what its guest\n"
            "                   wrote; migbuf-plan --history reads it\n"
            "  --state-dir DIR  where the VMs' own limits are kept while ours are in force (/run/migbuf-guard)\n"
            "  --node NAME      the root disk's node in QEMU, where it is not what the server makes of the\n"
            "                   device's name\n"
            "  --directory DIR  where the server's directory is seen from here, to count what else is in a state\n"
            "                   volume (that of its socket; where it cannot be looked into %llu MiB are taken for\n"
            "                   it)\n",
            (unsigned long long)(GUARDED_OTHER_BYTES >> 20));
    server_help("local", "VMs of this project alone (all)", out);
    fprintf(out,
            "  --timeout S      deadline of every request to the server in seconds, 1 to 3600 (5)\n"
            "  --version        the library's version\n"
            "  -h, --help       this text\n"
            "\n"
            "On SIGINT, SIGTERM and SIGHUP every VM gets its own limits back. A guard that was killed leaves\n"
            "them in --state-dir; the next one gives them back. A server that is restarted is waited for; VMs\n"
            "under guard stay so meanwhile.\n"
            "\n"
            "A VM is free until the first look after its migration has begun: its state volume must also hold\n"
            "what it writes in one --interval.\n"
            "\n"
            "Tested are whole migrations between two Incus 6.0.4, also as members of a cluster, and between two\n"
            "7.0.2, without hardware virtualisation, and other servers' operations and VMs. Not tested: a whole\n"
            "migration inside LXD.\n"
            "Throttled are the root disk and what Incus calls dependent disks, together: no other moves.\n"
            "Exit status: 0 ended on request; 1 it cannot work here, or limits could not be given back; 2 wrong\n"
            "options.\n");
}

/* Of no VM, or of one: a sentence with a word for programs. */
#define say(p, g, event, ...) told((p)->json, g, event, __VA_ARGS__)

static uint64_t now_ms(void)
{
    return now_ns() / 1000000;
}

/* ---- what else is in a state volume ---- */

static uint64_t counted_bytes;

static int count_file(const char *path, const struct stat *s, int kind, struct FTW *walk)
{
    if (kind == FTW_F && strcmp(path + walk->base, "root.img")) /* the disk itself, on pools that keep it as a file */
        counted_bytes += (uint64_t)s->st_blocks * 512;
    return 0;
}

static uint64_t count_other(const struct program *p, const struct guarded *g)
{
    char where[256], directory[256] = "", path[768], error[FAIL_SIZE];
    bool is_default = !strcmp(g->project, "default");

    if (p->directory)
        snprintf(directory, sizeof directory, "%s", p->directory);
    else if (server_find(&p->server, where, error) || server_directory(where, directory))
        return GUARDED_OTHER_BYTES;
    if (!server_is_file_name(g->project) || !server_is_file_name(g->name))
        return GUARDED_OTHER_BYTES;
    snprintf(path, sizeof path, "%s/virtual-machines/%s%s%s/.", directory, is_default ? "" : g->project, is_default ? "" : "_",
             g->name);
    counted_bytes = 0;
    return access(path, R_OK | X_OK) || nftw(path, count_file, 16, FTW_PHYS) ? GUARDED_OTHER_BYTES : counted_bytes;
}

/* ---- migrations ---- */

/* What the server lists of one VM: its migration. */
struct listed {
    const struct migbuf_lxd_migration *operations[GUARDED_OPERATIONS];
    uint32_t count;
};

/* Where an operation that cannot be guarded is noted; MAX_VMS: nowhere. */
static size_t find_told(const struct program *p, const char *id)
{
    for (size_t k = 0; k < p->told_count && k < MAX_VMS; k++)
        if (!strcmp(p->told[k].id, id))
            return k;
    return MAX_VMS;
}

/* Is it known that this one cannot be guarded, and is it too early to try again? */
static bool is_left_alone(const struct program *p, const struct listed *m, uint64_t now)
{
    for (uint32_t j = 0; j < m->count; j++) {
        size_t k = find_told(p, m->operations[j]->id);

        if (k < MAX_VMS && now < p->told[k].again_ms)
            return true;
    }
    return false;
}

/* Says once why a migration cannot be guarded; when it is tried again hangs on how long that took. */
static void note_unguarded(struct program *p, const struct listed *m, uint64_t began_ms)
{
    uint64_t now = now_ms();
    bool said = false;
    char name[300];

    for (uint32_t j = 0; j < m->count; j++) {
        const char *id = m->operations[j]->id;
        size_t k = find_told(p, id);

        said |= k < MAX_VMS;
        if (k == MAX_VMS)
            k = p->told_count++ % MAX_VMS; /* the oldest one makes room */
        memcpy(p->told[k].id, id, sizeof p->told[k].id);
        p->told[k].again_ms = now + REST * (now - began_ms);
    }
    past_name(m->operations[0]->project, m->operations[0]->instance, name);
    if (!said)
        say(p, NULL, "unguarded", "%s: not guarded: %s", name, p->error);
}

static struct guarded *find(const struct program *p, const char *project, const char *name)
{
    for (size_t k = 0; k < p->count; k++)
        if (!strcmp(p->vms[k]->project, project) && !strcmp(p->vms[k]->name, name))
            return p->vms[k];
    return NULL;
}

/* What moves with a VM: its root disk, and those that are called dependent. */
static int look_up_disks(struct program *p, const struct migbuf_lxd_vm *vm, struct guarded *g)
{
    static struct migbuf_lxd_disk disks[CONFIGURED_MOST];
    struct migbuf_error e;
    int n = migbuf_lxd_disks(p->lxd, vm->project, vm->name, p->server.timeout_ms, disks, CONFIGURED_MOST, &e);

    if (n < 0)
        return server_fail(p->error, p->lxd, vm->name, &e);
    if (p->node)
        snprintf(g->disks[0].names.node, sizeof g->disks[0].names.node, "%s", p->node);
    else if (migbuf_lxd_names(p->facts.kind, vm->root, &g->disks[0].names))
        return fail(p->error, "it has no root disk");
    g->disk_count = 1;
    for (int k = 0; k < n; k++) {
        if (!disks[k].dependent || disks[k].root)
            continue;
        if (g->disk_count == GUARDED_DISKS)
            return fail(p->error, "more than %d of its disks move with it", GUARDED_DISKS);
        if (!migbuf_lxd_names(p->facts.kind, disks[k].device, &g->disks[g->disk_count].names))
            g->disk_count++;
    }
    return 0;
}

/* In a cluster the server tells of all members' VMs and operations. */
static bool is_elsewhere(const struct program *p, const char *location)
{
    return p->facts.clustered && *location && strcmp(location, p->facts.name) && strcmp(location, "none");
}

static void save_where(const struct program *p, const char *project, const char *name, char *path, size_t size)
{
    char file[SAVED_NAME];

    saved_name(project, name, file);
    snprintf(path, size, "%.200s/%s", p->state_dir, file);
}

/* The VM's facts into a new record. NULL with p->error: it cannot be guarded; *is_none: the server has no such VM. */
static struct guarded *look_up(struct program *p, const char *project, const char *name, bool *is_none)
{
    struct migbuf_lxd_vm vm;
    char raw[4096];
    struct migbuf_error e;
    struct guarded *g;
    int rc = migbuf_lxd_vm(p->lxd, project, name, p->server.timeout_ms, &vm, &e);

    *is_none = rc == MIGBUF_E_NOTFOUND;
    if (rc ||
        migbuf_lxd_vm_key(p->lxd, project, name, "raw.qemu", p->server.timeout_ms, raw, sizeof raw, &e)) {
        server_fail(p->error, p->lxd, name, &e);
        return NULL;
    }
    g = calloc(1, sizeof *g);
    if (!g) {
        fail(p->error, "out of memory");
        return NULL;
    }
    if (look_up_disks(p, &vm, g) ||
        (!guarded_monitor(raw, g->monitor) && fail(p->error, "no second monitor in raw.qemu; --help has the line"))) {
        free(g);
        return NULL;
    }
    snprintf(g->project, sizeof g->project, "%s", project);
    snprintf(g->name, sizeof g->name, "%s", name);
    save_where(p, project, name, g->saved, sizeof g->saved);
    g->dry = p->dry;
    g->elsewhere = is_elsewhere(p, vm.location);
    g->state_bytes = vm.state_bytes;
    g->other_bytes = count_other(p, g);
    return g;
}

/* Puts a VM under guard; false with p->error, and whether there is nothing here to guard any more: another member runs it, or it
 * is gone, and with it every limit. */
static bool guard(struct program *p, const char *project, const char *name, bool *has_left)
{
    char a[HUMAN_SIZE], b[HUMAN_SIZE], path[256 + SAVED_NAME];
    struct guarded *g;

    *has_left = false;
    if (p->count == MAX_VMS) {
        fail(p->error, "no more than %d VMs at once", MAX_VMS);
        return false;
    }
    g = look_up(p, project, name, has_left);
    if (!g) {
        save_where(p, project, name, path, sizeof path);
        if (*has_left && !p->dry)
            unlink(path);
        return false;
    }
    if (guarded_start(g, p->interval_ms)) {
        fail(p->error, "%s", g->error);
        *has_left = g->gone && g->elsewhere;
        if (g->gone && !g->dry) /* its QEMU has ended, and with it every limit */
            unlink(g->saved);
        free(g);
        return false;
    }
    p->vms[p->count++] = g;
    say(p, g, "guarded", "%s: state volume %s, %s of it for writes", p->dry ? "would be guarded" : "guarded",
        human_binary(g->state_bytes, a), human_binary(g->omega_bytes, b));
    if (g->tight)
        say(p, g, "small", "its state volume is small: a burst of large queued writes could fill it all the same; size.state should be more");
    return true;
}

/* ---- the end of one ---- */

struct ending {
    enum fate fate;
    bool there;    /* the server still has it, and it does not run */
    bool answered; /* false: the server did not, ask again */
    char to[MIGBUF_LXD_NAME];
};

/* After a question what became of a VM: was there an answer, be it a refusal? Where there was none nobody is asked for a while:
 * all others wait for each such question. */
static bool is_answered(struct program *p, int rc, uint64_t began_ms)
{
    uint64_t now = now_ms();

    if (rc != MIGBUF_E_SYSTEM && rc != MIGBUF_E_TIMEOUT && rc != MIGBUF_E_CLOSED)
        return true;
    p->ask_ms = now + REST * (now - began_ms);
    return false;
}

/* Did the server carry the migration out? Asked when it is listed no more; the servers tell of it for some seconds then, and
 * end a VM's QEMU before they do. So one that has forgotten it has not, while that lives. False: there was no answer. */
static bool ask_carried_out(struct program *p, struct guarded *g)
{
    for (uint32_t k = 0; k < g->operation_count && !g->carried_out; k++) {
        char path[sizeof *g->operations + 32];
        uint64_t began_ms = now_ms();
        json_t *operation;
        const char *text;
        int rc;

        if (!server_is_file_name(g->operations[k]))
            continue;
        snprintf(path, sizeof path, "/1.0/operations/%s", g->operations[k]);
        rc = migbuf_lxd_call(p->lxd, "GET", path, NULL, p->server.timeout_ms, &text, NULL, NULL);
        if (!is_answered(p, rc, began_ms))
            return false;
        operation = rc ? NULL : json_loads(text, 0, NULL);
        g->carried_out = json_integer_value(json_object_get(operation, "status_code")) == 200;
        json_decref(operation);
    }
    g->told_ms = now_ms();
    return true;
}

/* Who is asked is the server: a VM that has moved it has no more, or has elsewhere. One that it has and that does not run may
 * have moved and wait to be deleted, or its owner has powered it off. */
static struct ending ask_ending(struct program *p, const struct guarded *g)
{
    struct ending end = { .fate = FATE_UNKNOWN, .answered = true };
    uint64_t began_ms = now_ms();
    struct migbuf_lxd_vm vm;
    struct migbuf_error e;
    int rc;

    if (!g->gone && !g->carried_out && (g->seen || g->told_ms)) {
        end.fate = g->seen ? FATE_UNKNOWN : FATE_STAYED;
        return end;
    }
    rc = migbuf_lxd_vm(p->lxd, g->project, g->name, p->server.timeout_ms, &vm, &e);
    end.answered = is_answered(p, rc, began_ms);
    if (rc == MIGBUF_E_NOTFOUND) {
        end.fate = FATE_MOVED;
    } else if (rc || g->seen) {
        return end;
    } else if (is_elsewhere(p, vm.location)) {
        end.fate = FATE_MOVED;
        snprintf(end.to, sizeof end.to, "%s", vm.location);
    } else {
        end.there = !(vm.flags & MIGBUF_LXD_VM_RUNNING);
        end.fate = end.there ? FATE_UNKNOWN : FATE_STAYED;
    }
    return end;
}

/* Of one whose migration is over. True: that is its end. Where its QEMU has ended, or the server has carried the migration out,
 * only that it has moved is final at once. A server that does not answer is asked again, for as long as it takes. */
static bool is_settled(struct program *p, struct guarded *g, struct ending *end)
{
    uint64_t now = now_ms(), took_ms;
    char was[FAIL_SIZE];

    snprintf(was, sizeof was, "%s", g->error);
    if (guarded_end(g)) { /* first of all, whatever became of it and whoever answers: tried at each look */
        if (strcmp(was, g->error))
            say(p, g, "failing", "its own limits are not in force yet: %s", g->error);
        return false;
    }
    if (!p->server_up || now < g->ask_ms || now < p->ask_ms || (!g->told_ms && !ask_carried_out(p, g)))
        return false;
    *end = ask_ending(p, g);
    took_ms = now_ms() - now;
    g->ask_ms = now + took_ms + (REST * took_ms > ASK_MS ? REST * took_ms : ASK_MS);
    return end->answered && ((!g->gone && !g->carried_out) || end->fate == FATE_MOVED || now_ms() - g->told_ms >= ASK_FOR_MS);
}

static void write_history(struct program *p, const struct guarded *g, const struct ending *end)
{
    static const int32_t outcomes[FATES] = { MIGBUF_ATTEMPT_MOVED, MIGBUF_ATTEMPT_FAILED, 0 };
    struct migbuf_attempt a;

    guarded_attempt(g, &a);
    a.outcome = outcomes[end->fate];
    a.why = end->fate == FATE_MOVED ? MIGBUF_ATTEMPT_DONE : MIGBUF_ATTEMPT_NOBODY_KNOWS;
    a.phase = end->fate == FATE_MOVED ? MIGBUF_ATTEMPT_TARGET : a.phase;
    a.at_s = (uint64_t)time(NULL);
    snprintf(a.from, sizeof a.from, "%.64s", p->facts.name);
    snprintf(a.to, sizeof a.to, "%.64s", end->to);
    if (past_append(p->history, &a, p->error))
        say(p, g, "history", "%s", p->error);
}

static bool let_go(struct program *p, struct guarded *g, const struct ending *end)
{
    bool good = !guarded_end(g);
    size_t k = 0;

    if (!good)
        p->take_up_ms = now_ms() + ASK_MS;

    told_end(p->json, g, end->fate, end->there, good);
    p->totals.ended[end->fate]++;
    p->totals.pauses += g->pauses;
    p->totals.paused_ms += g->paused_ms;
    p->totals.not_given_back += !good;
    if (p->history && !p->dry && g->had_overlay && end->fate != FATE_UNKNOWN)
        write_history(p, g, end);
    guarded_close(g);
    while (p->vms[k] != g)
        k++;
    memmove(p->vms + k, p->vms + k + 1, (--p->count - k) * sizeof *p->vms);
    free(g);
    return good;
}

static bool is_of_one_vm(const struct migbuf_lxd_migration *a, const struct migbuf_lxd_migration *b)
{
    return !strcmp(a->instance, b->instance) && !strcmp(a->project, b->project);
}

/* Is one of them an operation that the VM under guard had when the server was asked last? */
static bool is_known(const struct guarded *g, const struct listed *m)
{
    for (uint32_t j = 0; j < m->count; j++)
        for (uint32_t k = 0; k < g->operation_count; k++)
            if (!strcmp(m->operations[j]->id, g->operations[k]))
                return true;
    return false;
}

static void note_listed(struct guarded *g, const struct listed *m)
{
    const struct migbuf_lxd_migration *most = NULL;

    g->seen = true;
    for (uint32_t j = 0; j < m->count; j++) {
        const struct migbuf_lxd_migration *o = m->operations[j];

        memcpy(g->operations[j], o->id, sizeof o->id);
        if (o->flags & MIGBUF_LXD_HAS_PROCESSED && (!most || o->processed_bytes > most->processed_bytes))
            most = o;
    }
    g->operation_count = m->count;
    if (most)
        guarded_sent(g, now_ms(), most->processed_bytes);
}

/* One that the server lists: known, put under guard, or named once. */
static void take_migration(struct program *p, const struct listed *m)
{
    const char *project = m->operations[0]->project, *name = m->operations[0]->instance;
    struct guarded *g = find(p, project, name);
    uint64_t began_ms = now_ms();
    struct ending end;
    bool has_left;

    if (g && (g->gone || g->ended) && !is_known(g, m)) { /* that was an earlier one */
        end = ask_ending(p, g);
        let_go(p, g, &end);
        g = NULL;
    }
    if (!g && is_left_alone(p, m, began_ms)) {
        p->unguarded++;
        return;
    }
    if (!g && guard(p, project, name, &has_left))
        g = find(p, project, name);
    else if (!g && has_left) /* the server has yet to end what it has listed */
        return;
    if (!g) {
        p->unguarded++;
        note_unguarded(p, m, began_ms);
        return;
    }
    note_listed(g, m);
}

/* It may have entered a cluster, which lists other members' operations too, since it was asked what it is. */
static void learn_cluster(struct program *p, const struct migbuf_lxd_migration *list, int n)
{
    struct migbuf_error e;

    for (int k = 0; k < n && !p->facts.clustered; k++)
        if (*list[k].location && strcmp(list[k].location, "none")) {
            migbuf_lxd_server(p->lxd, p->server.timeout_ms, &p->facts, &e);
            return;
        }
}

/* Each VM's migration once, and not those of other members: their guards are for them. */
static void take_migrations(struct program *p, const struct migbuf_lxd_migration *list, int n)
{
    for (int k = 0; k < n; k++) {
        struct listed m = { .count = 0 };
        bool before = false;

        for (int j = 0; j < n; j++) {
            if (is_elsewhere(p, list[j].location) || !is_of_one_vm(&list[j], &list[k]))
                continue;
            before |= j < k;
            if (m.count < GUARDED_OPERATIONS)
                m.operations[m.count++] = &list[j];
        }
        if (m.count && !before && !is_elsewhere(p, list[k].location))
            take_migration(p, &m);
    }
}

static void ask_server(struct program *p)
{
    static struct migbuf_lxd_migration list[MAX_VMS];
    struct migbuf_error e;
    int n = migbuf_lxd_migrations(p->lxd, p->server.timeout_ms, list, MAX_VMS, &e);

    if (n < 0) {
        server_fail(p->error, p->lxd, "the server", &e);
        if (p->server_up)
            say(p, NULL, "server", "%s; VMs under guard stay so", p->error);
        p->server_up = false;
        return;
    }
    if (!p->server_up)
        say(p, NULL, "server", "the server answers");
    p->server_up = true;
    p->unguarded = 0;
    for (size_t k = 0; k < p->count; k++)
        p->vms[k]->seen = false;
    learn_cluster(p, list, n);
    take_migrations(p, list, n);
}

/* ---- VMs ---- */

static void look_at_vms(struct program *p)
{
    for (size_t k = 0; k < p->count;) {
        struct guarded *g = p->vms[k];
        uint64_t before = g->decisions;
        struct ending end;
        char was[FAIL_SIZE];

        snprintf(was, sizeof was, "%s", g->error);
        if (guarded_tick(g, now_ms()) && !g->gone && strcmp(was, g->error))
            say(p, g, "failing", "%s", g->error);
        if (g->decisions != before)
            told_decision(p->json, g);
        if (guarded_is_over(g) && is_settled(p, g, &end))
            let_go(p, g, &end);
        else
            k++;
    }
}

/* What a guard that was killed has left: taken up, and given back by the next look unless it migrates still. What cannot be taken up
 * now is tried again. */
static void take_up(struct program *p)
{
    DIR *d = opendir(p->state_dir);
    uint64_t began_ms = now_ms(), rest_ms;
    bool again = p->take_up_ms, some_left = false;
    struct dirent *entry;

    while (d && (entry = readdir(d))) {
        char project[MIGBUF_LXD_NAME], name[MIGBUF_LXD_NAME];
        bool has_left;

        if (!saved_whose(entry->d_name, project, name) || find(p, project, name) || guard(p, project, name, &has_left) || has_left)
            continue;
        some_left = true;
        if (!again)
            say(p, NULL, "left", "%s: limits left in %s/%s cannot be given back yet: %s", name, p->state_dir, entry->d_name, p->error);
    }
    if (d)
        closedir(d);
    rest_ms = REST * (now_ms() - began_ms); /* all others wait meanwhile */
    p->take_up_ms = some_left ? now_ms() + (rest_ms > ASK_MS ? rest_ms : ASK_MS) : 0;
}

/* ---- the program ---- */

static void wait_for_tick(struct program *p, uint64_t until)
{
    while (!end_wanted && now_ms() < until) {
        struct pollfd f = { .fd = p->listener, .events = POLLIN };

        if (poll(&f, 1, (int)(until - now_ms())) == 1)
            metrics_answer(p->listener, (const struct guarded *const *)p->vms, p->count, p->server_up, p->unguarded, &p->totals);
    }
}

/* A terminal that is closed ends it as a request does. Who reads what it says may end: that ends no guard. */
static void take_signals(void)
{
    struct sigaction a = { .sa_handler = on_signal }, none = { .sa_handler = SIG_IGN }, before;

    sigaction(SIGINT, &a, NULL);
    sigaction(SIGTERM, &a, NULL);
    sigaction(SIGPIPE, &none, NULL);
    if (!sigaction(SIGHUP, NULL, &before) && before.sa_handler != SIG_IGN) /* nohup asks for that */
        sigaction(SIGHUP, &a, NULL);
}

static int run(struct program *p)
{
    int rc;

    p->server_up = true;
    if (!p->dry)
        take_up(p);
    for (uint64_t next = now_ms(); !end_wanted; next += p->interval_ms) {
        ask_server(p);
        if (p->take_up_ms && p->server_up && now_ms() >= p->take_up_ms)
            take_up(p);
        look_at_vms(p);
        if (p->once)
            break;
        if (now_ms() > next + p->interval_ms) /* late: no hurry to catch up */
            next = now_ms() - p->interval_ms;
        wait_for_tick(p, next + p->interval_ms);
    }
    rc = p->take_up_ms != 0;
    for (size_t k = 0; k < p->count; k++)
        guarded_end(p->vms[k]); /* before the server is asked anything */
    while (p->count) {
        struct ending end = { .fate = FATE_UNKNOWN };

        if (p->server_up && now_ms() >= p->ask_ms)
            end = ask_ending(p, p->vms[p->count - 1]);
        rc |= !let_go(p, p->vms[p->count - 1], &end);
    }
    return rc;
}

/* One that is there already must be of use: a VM under guard without its own limits on record would be the worst time to learn. */
static int check_state_dir(struct program *p)
{
    struct stat s;
    int rc = stat(p->state_dir, &s);

    if (rc && errno == ENOENT)
        return 0;
    if (!rc && !S_ISDIR(s.st_mode))
        rc = (errno = ENOTDIR, -1);
    if (!rc)
        rc = access(p->state_dir, R_OK | W_OK | X_OK);
    return rc ? fail(p->error, "--state-dir %s: %s", p->state_dir, strerror(errno)) : 0;
}

static int prepare(struct program *p)
{
    struct migbuf_error e;

    if (!p->dry && check_state_dir(p))
        return -1;
    if (server_open(&p->server, &p->lxd, p->error))
        return -1;
    p->facts.size = sizeof p->facts;
    if (migbuf_lxd_server(p->lxd, p->server.timeout_ms, &p->facts, &e) ||
        migbuf_lxd_need(p->lxd, MIGBUF_LXD_LIVE_MIGRATION, &e))
        return server_fail(p->error, p->lxd, "the server", &e);
    if (p->server.target && p->facts.clustered && strcmp(p->server.target, p->facts.name))
        return fail(p->error, "--target %s: this is member %s. A guard is for the VMs of its own member: run one on each", p->server.target,
                    p->facts.name);
    if (!p->dry && mkdir(p->state_dir, 0700) && errno != EEXIST)
        return fail(p->error, "--state-dir %s: %s", p->state_dir, strerror(errno));
    if (p->metrics_port && (p->listener = metrics_listen(p->metrics_port, p->error)) < 0)
        return -1;
    say(p, NULL, "waiting", "%s %s on %s: waiting for migrations%s", p->facts.kind == MIGBUF_LXD_INCUS ? "Incus" : "LXD", p->facts.version,
        p->facts.name, p->dry ? " (dry run)" : "");
    return 0;
}

static const struct option names[] = {
    SERVER_OPTIONS,
    { "interval", required_argument, NULL, OPTION_INTERVAL },
    { "state-dir", required_argument, NULL, OPTION_STATE_DIR },
    { "directory", required_argument, NULL, OPTION_DIRECTORY },
    { "metrics", required_argument, NULL, OPTION_METRICS },
    { "history", required_argument, NULL, OPTION_HISTORY },
    { "json", no_argument, NULL, OPTION_JSON },
    { "node", required_argument, NULL, OPTION_NODE },
    { "dry-run", no_argument, NULL, OPTION_DRY_RUN },
    { "once", no_argument, NULL, OPTION_ONCE },
    COMMAND_OPTIONS,
};

static int take_option(void *program, int option, const char *value, char error[FAIL_SIZE])
{
    struct program *p = program;
    uint64_t port;

    switch (option) {
    case OPTION_INTERVAL:
        return command_number32("interval", value, 100, 10000, "milliseconds", &p->interval_ms, error);
    case OPTION_METRICS:
        if (!read_count(value, 1, 65535, &port))
            return fail(error, "--metrics %s: a port, 1 to 65535", value);
        p->metrics_port = (uint16_t)port;
        return 0;
    case OPTION_STATE_DIR:
        p->state_dir = value;
        return strlen(value) < 200 ? 0 : fail(error, "--state-dir: a path of at most 199 bytes");
    case OPTION_DIRECTORY:
        p->directory = value;
        return 0;
    case OPTION_NODE:
        p->node = value;
        return strlen(value) < 32 ? 0 : fail(error, "--node %s: at most 31 characters", value);
    case OPTION_HISTORY:
        p->history = value;
        return command_check_output("history", value, error);
    case OPTION_JSON:
        p->json = true;
        return 0;
    case OPTION_DRY_RUN:
        p->dry = true;
        return 0;
    case OPTION_ONCE:
        p->once = true;
        return 0;
    default:
        return server_option(&p->server, option, value, error);
    }
}

static int read_options(struct program *p, int argc, char **argv)
{
    static const struct command command = { "migbuf-guard", names, help, take_option };
    int rc;

    server_options_init(&p->server);
    p->server.timeout_ms = 5000; /* the server must not hold up the guard for long */
    rc = command_read(&command, p, argc, argv, p->error);
    return rc ? rc : command_no_words(argc, argv, p->error);
}

int main(int argc, char **argv)
{
    static struct program p = { .state_dir = "/run/migbuf-guard", .interval_ms = 1000, .listener = -1 };
    int rc = read_options(&p, argc, argv);

    if (rc < 0)
        tell(stderr, "migbuf-guard: %s", p.error);
    if (rc)
        return rc < 0 ? 2 : 0;
    take_signals();
    curl_global_init(CURL_GLOBAL_DEFAULT);
    rc = prepare(&p);
    if (rc)
        tell(stderr, "migbuf-guard: %s", p.error);
    else
        rc = run(&p);
    if (p.listener >= 0)
        close(p.listener);
    migbuf_lxd_free(p.lxd);
    curl_global_cleanup();
    return rc ? 1 : 0;
}
