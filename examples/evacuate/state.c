/* SPDX-License-Identifier: MIT */
/* The run as one JSON object, written and read; and its directory. Knows what a run consists of, but not what is done
 * with it. */
#include "state.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define VERSION 5

/* Records of plain numbers, as arrays. */
#define LIMITS (offsetof(struct migbuf_throttle_config, group) / sizeof(uint64_t))
#define STATUS (sizeof(struct guest_status) / sizeof(uint32_t))

/* Writing */

static json_t *limits_array(const struct migbuf_throttle_config *limits)
{
    json_t *array = json_array();
    uint64_t value[LIMITS];

    memcpy(value, limits, sizeof value);
    for (size_t k = 0; k < LIMITS; k++)
        json_array_append_new(array, json_integer((json_int_t)value[k]));
    json_array_append_new(array, json_string(limits->group));
    return array;
}

static json_t *status_array(const struct guest_status *status)
{
    json_t *array = json_array();
    uint32_t value[STATUS];

    memcpy(value, status, sizeof value);
    for (size_t k = 0; k < STATUS; k++)
        json_array_append_new(array, json_integer(value[k]));
    return array;
}

static json_t *disk_object(const struct migration *m, uint32_t k)
{
    const struct disk *d = &m->disk[k];

    return json_pack("{s:b, s:o, s:o, s:o, s:I, s:I}", "copied", d->copied, "host", limits_array(&d->host), "found",
                     limits_array(&m->found[k]), "status", status_array(&d->status), "acked_at_arrival",
                     (json_int_t)d->acked_at_arrival, "begun_uptime_ms", (json_int_t)m->begun_uptime_ms[k]);
}

/* The host's own limits of one VM, as the library saves them; null before they are known. */
static json_t *throttle_text(const struct throttle *t)
{
    char text[VM_DISKS_MAX * 8192];
    size_t length;

    if (!t->disk || migbuf_disk_save(t->disk, text, sizeof text, &length))
        return json_null();
    return json_stringn(text, length);
}

/* What sending the memory came to: numbers alone. */
#define RESULTS 12

static void results_of(struct migration *m, uint64_t *value[RESULTS])
{
    struct ram_result *r = &m->ram_result;
    uint64_t *const all[RESULTS] = { &m->downtime_ms, &m->begun_acknowledged, &r->downtime_ms,
                                     &r->pages, &r->sent_bytes, &r->resent_bytes, &r->total_ms, &r->rounds,
                                     &r->throttle_percent, &r->limit_ms, &r->lost_ms, &r->post_copy };

    memcpy(value, all, sizeof all);
}

static json_t *results_array(const struct migration *m)
{
    struct migration copy = *m;
    json_t *array = json_array();
    uint64_t *value[RESULTS];

    results_of(&copy, value);
    for (size_t k = 0; k < RESULTS; k++)
        json_array_append_new(array, json_integer((json_int_t)*value[k]));
    return array;
}

static int load_results(const json_t *array, struct migration *m)
{
    uint64_t *value[RESULTS];

    if (json_array_size(array) != RESULTS)
        return -1;
    results_of(m, value);
    for (size_t k = 0; k < RESULTS; k++)
        *value[k] = (uint64_t)json_integer_value(json_array_get(array, k));
    return 0;
}

static json_t *ram_text(const struct memory *x)
{
    char text[8192 + 1];
    size_t length;

    if (!x->ram || migbuf_ram_save(x->ram, text, sizeof text, &length))
        return json_null();
    return json_stringn(text, length);
}

static json_t *buffer_text(const struct migbuf_buffer *buffer)
{
    json_t *text = json_null();
    size_t length, size;
    char *bytes;

    if (!buffer || migbuf_buffer_save(buffer, NULL, 0, &size) != MIGBUF_E_TOO_BIG)
        return text;
    bytes = malloc(size + 1);
    if (bytes && !migbuf_buffer_save(buffer, bytes, size + 1, &length))
        text = json_stringn(bytes, length);
    free(bytes);
    return text;
}

#define N(value) ((json_int_t)(value))

static json_t *vm_object(const struct migration *m)
{
    json_t *disks = json_array();

    for (uint32_t k = 0; k < m->load->disks; k++)
        json_array_append_new(disks, disk_object(m, k));
    return json_pack("{s:s, s:i, s:i, s:b, s:b, s:b, s:b, s:b, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, "
                     "s:I, s:I, s:I, s:b, s:o, s:o, s:o, s:[IIII], s:i, s:i, s:b, s:b, s:o, s:i, s:b, s:b, s:b, s:i, s:b, s:b, "
                     "s:f, s:f, s:i, s:b}",
                     "step", migration_step_name(m), "home", m->home, "outcome", m->outcome, "known", m->known,
                     "giving_up", m->giving_up, "added", m->throttle.added, "stopped", m->stopped, "limits_restored",
                     m->limits_restored, "error", m->error, "begun_ns", N(m->begun_ns), "ended_ns", N(m->ended_ns),
                     "overlay_ns", N(m->overlay_ns), "overflow_ns", N(m->overflow_ns), "overflows",
                     N(migration_overflows(m)), "overlay_peak_bytes", N(m->overlay_peak_bytes), "longest_stall_ms",
                     N(m->longest_stall_ms), "pauses", N(m->throttle.pauses), "slowest_ns", N(m->throttle.slowest_ns),
                     "reserve_bytes", N(m->throttle.reserve_bytes), "leak_bytes", N(m->throttle.leak_bytes),
                     "slowest_back_ticks", N(m->throttle.slowest_back_ticks), "io_errors", N(m->io_errors), "went_on",
                     m->throttle.went_on, "throttle", throttle_text(&m->throttle), "disks", disks, "ram",
                     ram_text(&m->memory), "settings", N(m->memory.settings[0][0]), N(m->memory.settings[0][1]),
                     N(m->memory.settings[1][0]), N(m->memory.settings[1][1]),
                     "settings_restored", (int)m->settings_restored, "ram_state", m->ram_result.state,
                     "kvm", m->kvm, "held", m->held, "results", results_array(m), "turned_at", (int)m->turned_at,
                     "peer_gone", m->peer_gone, "blocked", m->blocked, "mirrored", m->throttle.mirrored, "way", (int)m->way,
                     "changes", m->changes, "doubted", m->doubted, "seen_bytes_per_s",
                     m->throttle.disk ? m->throttle.seen_bytes_per_s : m->seen_bytes_per_s, "seen_writes_per_s",
                     m->throttle.disk ? m->throttle.seen_writes_per_s : m->seen_writes_per_s, "other_hands", (int)m->other_hands,
                     "can_change", m->can_change);
}

static json_t *run_object(const struct state *s, const struct run *r, uint64_t now)
{
    json_t *vms = json_array(), *arguments = json_array();

    for (uint32_t i = 0; i < r->vms; i++)
        json_array_append_new(vms, vm_object(&r->vm[i]));
    for (int k = 0; k < s->argc; k++)
        json_array_append_new(arguments, json_string(s->argv[k]));
    return json_pack("{s:i, s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:b, s:b, s:i, s:I, s:o, s:o}", "evacuate_state",
                     VERSION, "arguments", arguments, "restarts", N(r->restarts), "longest_absence_ms",
                     N(r->longest_absence_ms), "saved_ns", N(now), "begun_ns", N(r->begun_ns), "start_ns",
                     N(r->site.start_ns), "peak_bytes", N(r->peak_bytes), "ticks", N(r->ticks), "worst_tick_ns",
                     N(r->worst_tick_ns), "ended_at_s", N(r->ended_at_s), "go", r->site.go, "interrupted", r->interrupted, "volume_kind",
                     (int)r->volume.kind, "volume_bytes", N(r->volume.size_bytes), "buffer",
                     buffer_text(r->control.buffer), "vms", vms);
}

static int write_text(const char *path, const char *text, bool synchronise)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    size_t length = strlen(text), done = 0;
    ssize_t n = 0;

    if (fd < 0)
        return -1;
    while (done < length && (n = write(fd, text + done, length - done)) > 0)
        done += (size_t)n;
    if (done == length && synchronise && fdatasync(fd))
        done = 0;
    close(fd);
    return done == length ? 0 : -1;
}

/* Replaces the file as a whole; the object is given away. */
static int write_object(const struct state *s, json_t *o, bool synchronise, char error[FAIL_SIZE])
{
    char path[160], fresh[160], *text = json_dumps(o, JSON_INDENT(1));
    int rc;

    json_decref(o);
    if (!text)
        return fail(error, "out of memory");
    snprintf(path, sizeof path, "%s/state", s->directory);
    snprintf(fresh, sizeof fresh, "%s/state.new", s->directory);
    rc = write_text(fresh, text, synchronise) || rename(fresh, path);
    free(text);
    return rc ? fail(error, "%s: %s", path, strerror(errno)) : 0;
}

int state_save(struct state *s, const struct run *r, uint64_t now, char error[FAIL_SIZE])
{
    json_t *o = run_object(s, r, now);
    uint32_t arrived = 0;

    if (!o)
        return fail(error, "out of memory, or text that is not UTF-8");
    for (uint32_t i = 0; i < r->vms; i++)
        arrived += r->vm[i].home == TARGET;
    if (write_object(s, o, arrived != s->arrived, error))
        return -1;
    s->arrived = arrived;
    return 0;
}

/* Reading */

static int load_limits(const json_t *array, struct migbuf_throttle_config *limits)
{
    const json_t *group = json_array_get(array, LIMITS);
    uint64_t value[LIMITS];

    if (json_array_size(array) != LIMITS + 1 || !json_is_string(group) ||
        json_string_length(group) >= sizeof limits->group)
        return -1;
    for (size_t k = 0; k < LIMITS; k++)
        value[k] = (uint64_t)json_integer_value(json_array_get(array, k));
    memcpy(limits, value, sizeof value);
    snprintf(limits->group, sizeof limits->group, "%s", json_string_value(group));
    return 0;
}

static int load_status(const json_t *array, struct guest_status *status)
{
    uint32_t value[STATUS];

    if (json_array_size(array) != STATUS)
        return -1;
    for (size_t k = 0; k < STATUS; k++)
        value[k] = (uint32_t)json_integer_value(json_array_get(array, k));
    memcpy(status, value, sizeof value);
    return 0;
}

static int load_disk(json_t *o, struct migration *m, uint32_t k)
{
    struct disk *d = &m->disk[k];
    json_t *host, *found, *status;
    json_int_t acked, begun;
    int copied;

    if (json_unpack(o, "{s:b, s:o, s:o, s:o, s:I, s:I}", "copied", &copied, "host", &host, "found", &found, "status",
                    &status, "acked_at_arrival", &acked, "begun_uptime_ms", &begun) ||
        load_limits(host, &d->host) || load_limits(found, &m->found[k]) || load_status(status, &d->status))
        return -1;
    d->copied = copied;
    d->acked_at_arrival = (uint32_t)acked;
    m->begun_uptime_ms[k] = (uint64_t)begun;
    return 0;
}

static int load_vm(json_t *o, struct run *r, struct migration *m, char error[FAIL_SIZE])
{
    int ram_state, kvm, held, settings_restored, turned_at, peer_gone, blocked, mirrored, way, changes, doubted, other_hands, can_change;
    double seen_bytes_per_s, seen_writes_per_s;
    int home, outcome, known, giving_up, added, stopped, restored, went_on;
    json_int_t begun, ended, overlay, overflow, overflows, peak, stall, pauses, slowest, reserve, leak, back, io_errors;
    json_int_t settings[4];
    const char *why;
    json_t *throttle, *disks, *ram, *results;
    json_error_t e;

    if (json_unpack_ex(o, &e, 0,
                       "{s:i, s:i, s:b, s:b, s:b, s:b, s:b, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, "
                       "s:I, s:I, s:b, s:o, s:o, s:o, s:[IIII], s:i, s:i, s:b, s:b, s:o, s:i, s:b, s:b, s:b, s:i, s:b, s:b, "
                       "s:F, s:F, s:i, s:b}",
                       "home", &home, "outcome", &outcome, "known", &known, "giving_up", &giving_up, "added", &added,
                       "stopped", &stopped, "limits_restored", &restored, "error", &why, "begun_ns", &begun, "ended_ns",
                       &ended, "overlay_ns", &overlay, "overflow_ns", &overflow, "overflows", &overflows,
                       "overlay_peak_bytes", &peak, "longest_stall_ms", &stall, "pauses", &pauses, "slowest_ns",
                       &slowest, "reserve_bytes", &reserve, "leak_bytes", &leak, "slowest_back_ticks", &back,
                       "io_errors", &io_errors, "went_on", &went_on, "throttle", &throttle, "disks", &disks, "ram", &ram,
                       "settings", settings, settings + 1, settings + 2, settings + 3, "settings_restored",
                       &settings_restored, "ram_state", &ram_state, "kvm", &kvm, "held", &held, "results", &results, "turned_at", &turned_at,
                       "peer_gone", &peer_gone, "blocked", &blocked, "mirrored", &mirrored, "way", &way,
                       "changes", &changes, "doubted", &doubted, "seen_bytes_per_s", &seen_bytes_per_s, "seen_writes_per_s",
                       &seen_writes_per_s, "other_hands", &other_hands, "can_change", &can_change))
        return fail(error, "%s: %s", m->load->name, e.text);
    if (home < SOURCE || home > TARGET || outcome < OUTCOME_UNDER_WAY || outcome > OUTCOME_LOST ||
        way < WAY_ADVISED || way > WAY_OVERLAY || turned_at < 0 || turned_at >= PHASE_COUNT || settings_restored < 0 || settings_restored > 3 ||
        seen_bytes_per_s < 0 || seen_writes_per_s < 0 || other_hands < 0 ||
        json_array_size(disks) != m->load->disks)
        return fail(error, "%s: numbers out of range", m->load->name);
    for (uint32_t k = 0; k < m->load->disks; k++)
        if (load_disk(json_array_get(disks, k), m, k))
            return fail(error, "%s: its disks", m->load->name);
    if (json_is_string(throttle) &&
        throttle_load(&m->throttle, m->index, m->index % r->site.links, &m->place[SOURCE].monitor, m->load->disks,
                      json_string_value(throttle), json_string_length(throttle), error))
        return -1;
    if (json_is_string(ram) && memory_load(&m->memory, json_string_value(ram), json_string_length(ram), error))
        return -1;
    for (int k = 0; k < 4; k++)
        m->memory.settings[k / 2][k % 2] = (uint64_t)settings[k];
    if (load_results(results, m))
        return fail(error, "%s: its results", m->load->name);
    m->settings_restored = (uint32_t)settings_restored;
    m->ram_result.state = ram_state;
    m->kvm = kvm;
    m->held = held;
    m->turned_at = turned_at;
    m->peer_gone = peer_gone;
    m->blocked = blocked;
    if (added && !m->throttle.disk)
        return fail(error, "%s: in the buffer, but with no limits of its host", m->load->name);
    if (added)
        control_join(&r->control, &m->throttle);
    m->throttle.mirrored = mirrored;
    m->throttle.way = m->way = (enum way)way;
    m->changes = changes;
    m->doubted = doubted;
    m->throttle.can_change = m->can_change = can_change;
    m->throttle.seen_bytes_per_s = m->seen_bytes_per_s = seen_bytes_per_s;
    m->throttle.seen_writes_per_s = m->seen_writes_per_s = seen_writes_per_s;
    m->other_hands = (uint32_t)other_hands;
    m->throttle.pauses = (uint32_t)pauses;
    m->throttle.slowest_ns = (uint64_t)slowest;
    m->throttle.reserve_bytes = (uint64_t)reserve;
    m->throttle.leak_bytes = (uint64_t)leak;
    m->throttle.slowest_back_ticks = (uint64_t)back;
    m->throttle.went_on = went_on;
    m->io_errors = (uint32_t)io_errors;
    m->home = (enum side)home;
    m->outcome = (enum outcome)outcome;
    m->known = known;
    m->giving_up = giving_up;
    m->stopped = stopped;
    m->limits_restored = restored;
    snprintf(m->error, sizeof m->error, "%s", why);
    m->begun_ns = (uint64_t)begun;
    m->ended_ns = (uint64_t)ended;
    m->overlay_ns = (uint64_t)overlay;
    m->overflow_ns = (uint64_t)overflow;
    m->overflows_before = (uint32_t)overflows;
    m->overlay_peak_bytes = (uint64_t)peak;
    m->longest_stall_ms = (uint64_t)stall;
    return 0;
}

int state_load(const struct state *s, struct run *r, uint64_t now, char error[FAIL_SIZE])
{
    json_int_t restarts, absence, saved, begun, start, peak, ticks, worst, ended, volume_bytes;
    int go, interrupted, kind;
    json_t *buffer, *vms;
    json_error_t e;

    if (json_unpack_ex(s->file, &e, 0, "{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:b, s:b, s:i, s:I, s:o, s:o}",
                       "restarts", &restarts, "longest_absence_ms", &absence, "saved_ns", &saved, "begun_ns", &begun,
                       "start_ns", &start, "peak_bytes", &peak, "ticks", &ticks, "worst_tick_ns", &worst, "ended_at_s", &ended, "go", &go,
                       "interrupted", &interrupted, "volume_kind", &kind, "volume_bytes", &volume_bytes, "buffer",
                       &buffer, "vms", &vms))
        return fail(error, "%s/state: %s", s->directory, e.text);
    if (json_array_size(vms) != r->vms || kind < VOLUME_NONE || kind > VOLUME_TMPFS)
        return fail(error, "%s/state: numbers out of range", s->directory);
    if (r->control.buffer &&
        (!json_is_string(buffer) ||
         control_load(&r->control, json_string_value(buffer), json_string_length(buffer), now, error)))
        return -1;
    for (uint32_t i = 0; i < r->vms; i++)
        if (load_vm(json_array_get(vms, i), r, &r->vm[i], error))
            return -1;
    r->restarts = (uint32_t)restarts + 1;
    r->longest_absence_ms = (uint64_t)absence;
    if (now > (uint64_t)saved && (now - (uint64_t)saved) / 1000000 > r->longest_absence_ms)
        r->longest_absence_ms = (now - (uint64_t)saved) / 1000000;
    r->begun_ns = (uint64_t)begun;
    r->site.start_ns = (uint64_t)start;
    r->site.go = go;
    r->interrupted = interrupted;
    r->ended_at_s = (uint64_t)ended;
    r->peak_bytes = (uint64_t)peak;
    r->ticks = (uint64_t)ticks;
    r->worst_tick_ns = (uint64_t)worst;
    r->volume.kind = (enum volume_kind)kind;
    r->volume.size_bytes = (uint64_t)volume_bytes;
    return 0;
}

/* The directory. Only these names in it are ours: lock, state, state.new, run. */

static bool is_ours(const char *name)
{
    static const char *const ours[] = { ".", "..", "lock", "state", "state.new", "run" };

    for (size_t k = 0; k < sizeof ours / sizeof *ours; k++)
        if (!strcmp(name, ours[k]))
            return true;
    return false;
}

static int remove_one(const char *path, const struct stat *s, int kind, struct FTW *walk)
{
    (void)s, (void)kind, (void)walk;
    return remove(path);
}

static void remove_run(const char *directory)
{
    char path[160];

    snprintf(path, sizeof path, "%s/run", directory);
    volume_clean(path);
    nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

static void remove_file(const char *directory, const char *name)
{
    char path[160];

    snprintf(path, sizeof path, "%s/%s", directory, name);
    unlink(path);
}

static int lock(struct state *s, char error[FAIL_SIZE])
{
    char path[160], pid[24] = "";

    snprintf(path, sizeof path, "%s/lock", s->directory);
    s->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (s->lock < 0)
        return fail(error, "%s: %s", path, strerror(errno));
    if (!flock(s->lock, LOCK_EX | LOCK_NB)) {
        int n = snprintf(pid, sizeof pid, "%d\n", (int)getpid());

        if (!ftruncate(s->lock, 0) && pwrite(s->lock, pid, (size_t)n, 0) == n)
            return 0;
        return fail(error, "%s: %s", path, strerror(errno));
    }
    if (pread(s->lock, pid, sizeof pid - 1, 0) > 0)
        pid[strcspn(pid, "\n")] = 0;
    return fail(error, "process %s works on %s", *pid ? pid : "?", s->directory);
}

static int check_names(const char *directory, char error[FAIL_SIZE])
{
    DIR *d = opendir(directory);
    struct dirent *entry;
    int rc = d ? 0 : fail(error, "%s: %s", directory, strerror(errno));

    while (d && !rc && (entry = readdir(d)))
        if (!is_ours(entry->d_name))
            rc = fail(error, "%s: there is something else in it (%s)", directory, entry->d_name);
    if (d)
        closedir(d);
    return rc;
}

static int enter(struct state *s, const char *directory, char error[FAIL_SIZE])
{
    char absolute[PATH_MAX];

    *s = (struct state){ .lock = -1 };
    if (!realpath(directory, absolute))
        return fail(error, "%s: %s", directory, strerror(errno));
    if (strlen(absolute) > 72)
        return fail(error, "%s: at most 72 characters, sockets have short names", absolute);
    snprintf(s->directory, sizeof s->directory, "%s", absolute);
    return check_names(s->directory, error) || lock(s, error) ? -1 : 0;
}

static int find_file(struct state *s, char error[FAIL_SIZE])
{
    char path[160];
    json_error_t e;
    int version;

    snprintf(path, sizeof path, "%s/state", s->directory);
    if (access(path, F_OK))
        return 0;
    s->file = json_load_file(path, 0, &e);
    if (!s->file)
        return fail(error, "%s: %s", path, e.text);
    if (json_unpack(s->file, "{s:i}", "evacuate_state", &version) || version != VERSION)
        return fail(error, "%s: not a state of this version", path);
    return 1;
}

static void leave(struct state *s)
{
    json_decref(s->file);
    free(s->argv);
    if (s->lock >= 0)
        close(s->lock);
    *s = (struct state){ .lock = -1 };
}

static bool is_finished(const struct state *s)
{
    return json_object_get(s->file, "finished") != NULL;
}

int state_open(struct state *s, const char *directory, char error[FAIL_SIZE])
{
    int rc;

    *s = (struct state){ .lock = -1 };
    if (mkdir(directory, 0700) && errno != EEXIST)
        return fail(error, "%s: %s", directory, strerror(errno));
    rc = enter(s, directory, error);
    if (!rc)
        rc = find_file(s, error);
    if (rc < 0)
        leave(s);
    else if (!rc) /* killed before there was anything to come back to */
        remove_run(s->directory);
    return rc > 0 && is_finished(s) ? STATE_FINISHED : rc;
}

int state_keep_arguments(struct state *s, int argc, char *const argv[], char error[FAIL_SIZE])
{
    const json_t *saved = s->file ? json_object_get(s->file, "arguments") : NULL;

    s->argc = s->file ? (int)json_array_size(saved) : argc;
    s->argv = calloc((size_t)s->argc + 1, sizeof *s->argv);
    if (!s->argv || !s->argc)
        return fail(error, "%s/state: no arguments", s->directory);
    for (int k = 0; k < s->argc; k++) {
        s->argv[k] = s->file ? json_string_value(json_array_get(saved, (size_t)k)) : argv[k];
        if (!s->argv[k])
            return fail(error, "%s/state: an argument is no text", s->directory);
    }
    return 0;
}

void state_close(struct state *s)
{
    if (s->lock < 0)
        return;
    if (s->file && is_finished(s))
        remove_file(s->directory, "lock");
    leave(s);
}

void state_remove(struct state *s)
{
    char directory[sizeof s->directory];

    if (s->lock < 0)
        return;
    snprintf(directory, sizeof directory, "%s", s->directory);
    remove_file(directory, "state");
    remove_file(directory, "state.new");
    remove_run(directory);
    remove_file(directory, "lock");
    leave(s);
    rmdir(directory);
}

int state_finish(struct state *s, int status, const char *line, json_t *summary, bool keep, char error[FAIL_SIZE])
{
    json_t *arguments = json_array(), *o;
    char directory[sizeof s->directory];
    int rc;

    snprintf(directory, sizeof directory, "%s", s->directory);
    for (int k = 0; k < s->argc; k++)
        json_array_append_new(arguments, json_string(s->argv[k]));
    o = json_pack("{s:i, s:o, s:{s:i, s:s, s:o}}", "evacuate_state", VERSION, "arguments", arguments, "finished", "status",
                  status, "line", line, "summary", summary);
    rc = o ? write_object(s, o, true, error) : fail(error, "out of memory, or text that is not UTF-8");
    if (!keep && !rc)
        remove_run(directory);
    remove_file(directory, "lock");
    leave(s);
    return rc;
}

int state_finished(const struct state *s, int *status, const char **line, json_t **summary)
{
    return json_unpack(s->file, "{s:{s:i, s:s, s:o}}", "finished", "status", status, "line", line, "summary", summary);
}

/* Directories of VMs are named NUMBER-source and NUMBER-target. */
static int end_vms(const struct state *s, uint32_t *ended, char error[FAIL_SIZE])
{
    char path[160], life[512];
    struct dirent *entry;
    struct process process;
    DIR *d;
    int rc = 0;

    snprintf(path, sizeof path, "%s/run", s->directory);
    d = opendir(path);
    while (d && !rc && (entry = readdir(d))) {
        const char *role = strchr(entry->d_name, '-');

        if (!role || (strcmp(role, "-source") && strcmp(role, "-target")))
            continue;
        snprintf(life, sizeof life, "%s/%s/life", path, entry->d_name);
        rc = process_adopt(&process, life, error);
        if (rc > 0) {
            process_end(&process, 2000);
            ++*ended;
            rc = 0;
        }
    }
    if (d)
        closedir(d);
    return rc;
}

int state_end(const char *directory, FILE *out, char error[FAIL_SIZE])
{
    struct state s;
    uint32_t ended = 0;
    char path[160];

    if (enter(&s, directory, error)) {
        leave(&s);
        return -1;
    }
    snprintf(path, sizeof path, "%s/state", s.directory);
    if (access(path, F_OK)) {
        fail(error, "%s: no run of evacuate is there", directory);
        state_close(&s);
        return -1;
    }
    if (end_vms(&s, &ended, error)) {
        state_close(&s);
        return -1;
    }
    fprintf(out, "%s: %u QEMUs ended, everything removed\n", s.directory, ended);
    state_remove(&s);
    return 0;
}
