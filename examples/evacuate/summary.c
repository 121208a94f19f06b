/* SPDX-License-Identifier: MIT */
/* Sums up. Every number of the summary comes from a measurement: statvfs, status blocks, query-block, the disks. */
#include "summary.h"
#include "extension.h"

struct totals {
    uint32_t moved, failed;
    uint64_t overflows, acknowledged, lost, errors, io_errors, bytes, longest_stall_ms;
    uint64_t leak_bytes, pauses, slowest_ns; /* the most of any, the sum, the most */
    bool restored;
};

/* A sector damaged or not ours is as lost as a missing one; base data gone counts, too. */
static uint64_t lost_sectors(const struct run *r, uint32_t i)
{
    const struct writer_result *c = &r->checked[i];

    return r->vm[i].stopped ? c->lost + c->foreign + c->base : 0;
}

static uint64_t lost_writes(const struct run *r, uint32_t i)
{
    uint64_t sectors = r->load[i].writer.sectors;

    return (lost_sectors(r, i) + sectors - 1) / sectors;
}

static bool vm_moved(const struct run *r, uint32_t i)
{
    return r->vm[i].outcome == OUTCOME_MOVED && r->vm[i].stopped && !r->vm[i].error[0];
}

static uint64_t vm_bytes(const struct run *r, uint32_t i)
{
    return migration_acknowledged(&r->vm[i]) * r->load[i].writer.sectors * 512;
}

static struct totals add_up(const struct run *r)
{
    struct totals t = { .restored = true };

    for (uint32_t i = 0; i < r->vms; i++) {
        const struct migration *m = &r->vm[i];

        t.moved += vm_moved(r, i);
        t.failed += !vm_moved(r, i);
        t.overflows += migration_overflows(m);
        t.acknowledged += migration_acknowledged(m);
        t.lost += lost_writes(r, i);
        t.errors += migration_refused(m);
        t.io_errors += m->io_errors;
        t.pauses += m->throttle.pauses;
        if (m->throttle.leak_bytes > t.leak_bytes)
            t.leak_bytes = m->throttle.leak_bytes;
        if (m->throttle.slowest_ns > t.slowest_ns)
            t.slowest_ns = m->throttle.slowest_ns;
        t.bytes += vm_bytes(r, i);
        t.restored = t.restored && m->limits_restored;
        if (m->longest_stall_ms > t.longest_stall_ms)
            t.longest_stall_ms = m->longest_stall_ms;
    }
    return t;
}

/* Its QEMU did not start, or its guest did not write. */
static bool never_began(const struct migration *m)
{
    return m->outcome == OUTCOME_LOST && !m->known;
}

bool summary_never_began(const struct run *r)
{
    for (uint32_t i = 0; i < r->vms; i++)
        if (!never_began(&r->vm[i]))
            return false;
    return true;
}

bool summary_good(const struct run *r)
{
    struct totals t = add_up(r);

    return t.moved == r->vms && !t.lost && !t.overflows && !t.errors && !t.io_errors && t.restored && !r->error[0];
}

static json_int_t n(uint64_t value)
{
    return value > INT64_MAX ? INT64_MAX : (json_int_t)value;
}

static const char *where(const struct migration *m)
{
    return m->outcome == OUTCOME_MOVED ? "target" : m->outcome == OUTCOME_BACK ? "source" : "unknown";
}

static double seconds_between(uint64_t from_ns, uint64_t to_ns)
{
    return from_ns && to_ns > from_ns ? (double)((to_ns - from_ns) / 1000000) / 1000 : 0;
}

static const char *first_io_error(const struct migration *m)
{
    const struct facts *source = &m->place[SOURCE].monitor.facts, *target = &m->place[TARGET].monitor.facts;

    return source->io_error[0] ? source->io_error : target->io_error;
}

static void warn(json_t *list, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void warn(json_t *list, const char *format, ...)
{
    char text[512];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    json_array_append_new(list, json_string(text));
}

static void warn_of_vm(json_t *list, const struct migration *m)
{
    const char *name = m->load->name;
    char back[64] = "";

    if (m->throttle.taken_over) /* from ours */
        snprintf(back, sizeof back, "; ours were back %llu ticks later at the most", (unsigned long long)m->throttle.slowest_back_ticks);
    if (m->io_errors)
        warn(list, "%s: THE GUEST WAS TOLD OF %u I/O ERRORS (%s); what it did not write again is lost to it", name,
             m->io_errors, first_io_error(m));
    if (m->other_hands)
        warn(list, "%s: another hand changed its limits %u times%s", name, m->other_hands, back);
    if (m->throttle.watch.error[0])
        warn(list, "%s: no early warning: %s", name, m->throttle.watch.error);
}

static json_t *warnings(const struct run *r)
{
    json_t *list = json_array();
    char size[HUMAN_SIZE];

    for (uint32_t i = 0; i < r->vms; i++)
        warn_of_vm(list, &r->vm[i]);
    if (r->foreign_bytes > UINT64_C(4) << 20)
        warn(list, "something else took %s of the buffer volume", human_bytes(r->foreign_bytes, size));
    if (r->early_ticks)
        warn(list, "files reached what they were allowed before the next tick: %llu ticks came early",
             (unsigned long long)r->early_ticks);
    if (r->late_ticks)
        warn(list, "%llu ticks came too late for the promise to hold", (unsigned long long)r->late_ticks);
    return list;
}

/* The limits of its first disk as they were found in the end. */
static json_t *limits_object(const struct migbuf_throttle_config *c)
{
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I}", "bps", n(c->bps), "bps_rd", n(c->bps_rd), "bps_wr", n(c->bps_wr),
                     "iops", n(c->iops), "iops_rd", n(c->iops_rd), "iops_wr", n(c->iops_wr));
}

static void add_throttle(json_t *o, const struct migration *m)
{
    const struct throttle *t = &m->throttle;

    json_object_set_new(o, "limits", limits_object(&m->found[0]));
    json_object_set_new(o, "reserve_bytes", json_integer(n(t->reserve_bytes)));
    json_object_set_new(o, "largest_leak_bytes", json_integer(n(t->leak_bytes)));
    json_object_set_new(o, "io_errors", json_integer(m->io_errors));
    json_object_set_new(o, "went_on_after_full", json_boolean(t->went_on));
    json_object_set_new(o, "other_hands", json_integer(m->other_hands));
    json_object_set_new(o, "slowest_back_ticks", json_integer(n(t->slowest_back_ticks)));
}

static json_t *memory_object(const struct migration *m)
{
    const struct ram_result *r = &m->ram_result;

    return json_pack("{s:s, s:b, s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "state", migbuf_ram_state_text(r->state),
                     "held", m->held, "post_copy", r->post_copy, "downtime_ms", n(m->downtime_ms), "qemu_downtime_ms",
                     n(r->downtime_ms), "pages", n(r->pages), "bytes", n(r->sent_bytes), "resent_bytes", n(r->resent_bytes),
                     "total_ms", n(r->total_ms), "rounds", n(r->rounds), "throttle_percent", n(r->throttle_percent), "limit_ms",
                     n(r->limit_ms), "lost_ms", n(r->lost_ms));
}

static json_t *vm_object(const struct run *r, uint32_t i)
{
    const struct migration *m = &r->vm[i];
    uint64_t delivered, wanted;
    char policy[40];
    json_t *o = json_pack(
        "{s:s, s:s, s:I, s:I, s:i, s:i, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:b, s:f, s:s, s:b, s:I, s:I, s:I, "
        "s:I}",
        "name", m->load->name, "policy", options_policy_text(r->policy, r->options->fixed_bytes_per_s, policy), "seed",
        n(m->load->writer.seed), "vms", (json_int_t)1, "moved", vm_moved(r, i), "failed", !vm_moved(r, i),
        "buffer_bytes", n(r->omega_bytes), "buffer_peak_bytes", n(m->overlay_peak_bytes), "overflows",
        n(migration_overflows(m)), "writes_acknowledged", n(migration_acknowledged(m)), "writes_lost",
        n(lost_writes(r, i)), "guest_errors", n(migration_refused(m)), "guest_bytes_written", n(vm_bytes(r, i)),
        "longest_stall_ms", n(m->longest_stall_ms), "limits_restored", m->limits_restored, "seconds",
        seconds_between(m->begun_ns, m->ended_ns), "runs_at", where(m), "checked", m->stopped, "slots_checked",
        n(r->checked[i].slots), "pauses", n(m->throttle.pauses), "slowest_limit_ms",
        n(m->throttle.slowest_ns / 1000000), "writes_before_arrival", n(migration_acknowledged_at_arrival(m)));

    json_object_set_new(o, "memory", memory_object(m));
    delivered = migration_delivered_bytes(m, &wanted);
    json_object_set_new(o, "delivered_bytes", json_integer(n(delivered)));
    json_object_set_new(o, "wanted_bytes", json_integer(n(wanted)));
    json_object_set_new(o, "mirrored", json_boolean(m->throttle.mirrored));
    json_object_set_new(o, "settings_restored", json_boolean(migration_settings_restored(m)));
    json_object_set_new(o, "qemu", json_string(m->place[m->home].monitor.facts.version));
    add_throttle(o, m);
    extension_summary(r, m, o);
    json_object_set_new(o, "move_seconds",
                        json_real(seconds_between(m->begun_ns, m->outcome == OUTCOME_MOVED ? m->arrived_ns : 0)));
    if (o && m->error[0])
        json_object_set_new(o, "error", json_string(m->error));
    if (o && r->checked[i].first_bad[0])
        json_object_set_new(o, "first_bad", json_string(r->checked[i].first_bad));
    return o;
}

/* One link: what it was to carry, was measured to carry, and carried; and who left over it. */
static json_t *link_object(const struct run *r, uint32_t k)
{
    json_t *o = json_pack("{s:I, s:I, s:I}", "bytes_per_s", n(r->options->link_bytes_per_s), "measured_bytes_per_s",
                          n(r->route[k].bytes_per_s), "bytes_sent", n(r->route[k].bytes));
    json_t *vms = json_array();

    for (uint32_t i = k; i < r->vms; i += r->options->links)
        json_array_append_new(vms, json_string(r->load[i].name));
    json_object_set_new(o, "vms", vms);
    return o;
}

/* What was kept free for drains at one time. */
static uint64_t largest_reserve(const struct run *r)
{
    uint64_t most = 0;

    for (size_t k = 0; k < r->record->frame_count; k++)
        if (r->record->frames[k].reserve_bytes > most)
            most = r->record->frames[k].reserve_bytes;
    return most;
}

static json_t *run_object(const struct run *r)
{
    struct totals t = add_up(r);
    char policy[40];
    json_t *o = json_pack(
        "{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:b, s:f, s:b, s:I, s:I, s:I, s:I}", "policy",
        options_policy_text(r->policy, r->options->fixed_bytes_per_s, policy), "seed", n(r->options->seed), "vms",
        n(r->vms), "moved", n(t.moved), "failed", n(t.failed), "buffer_bytes", n(r->omega_bytes), "buffer_peak_bytes",
        n(r->peak_bytes), "overflows", n(t.overflows), "writes_acknowledged", n(t.acknowledged), "writes_lost",
        n(t.lost), "guest_errors", n(t.errors), "guest_bytes_written", n(t.bytes), "longest_stall_ms",
        n(t.longest_stall_ms), "limits_restored", t.restored, "seconds", seconds_between(r->begun_ns, r->ended_ns),
        "interrupted", r->interrupted, "ticks", n(r->ticks), "latest_tick_ms", n(r->worst_tick_ns / 1000000), "restarts",
        n(r->restarts), "longest_absence_ms", n(r->longest_absence_ms));
    json_t *array = json_array();

    for (uint32_t i = 0; i < r->vms; i++)
        json_array_append_new(array, vm_object(r, i));
    json_object_set_new(o, "admission", json_string(options_admission_text(r->admission)));
    json_object_set_new(o, "vm", array);
    extension_summary(r, NULL, o);
    json_object_set_new(o, "warnings", warnings(r));
    json_object_set_new(o, "reserve_bytes", json_integer(n(largest_reserve(r))));
    json_object_set_new(o, "largest_leak_bytes", json_integer(n(t.leak_bytes)));
    json_object_set_new(o, "pauses", json_integer(n(t.pauses)));
    json_object_set_new(o, "slowest_limit_ms", json_integer(n(t.slowest_ns / 1000000)));
    json_object_set_new(o, "early_ticks", json_integer(n(r->early_ticks)));
    json_object_set_new(o, "io_errors", json_integer(n(t.io_errors)));
    array = json_array();
    for (uint32_t k = 0; k < r->options->links; k++)
        json_array_append_new(array, link_object(r, k));
    json_object_set_new(o, "link", array);
    if (o && r->error[0])
        json_object_set_new(o, "error", json_string(r->error));
    return o;
}

/* The VM that found the volume full first, or -1. */
static int filled_it(const struct run *r)
{
    int first = -1;

    for (uint32_t i = 0; i < r->vms; i++)
        if (r->vm[i].overflow_ns && (first < 0 || r->vm[i].overflow_ns < r->vm[first].overflow_ns))
            first = (int)i;
    return first;
}

/* Who has most in a full volume filled it; who met the end first need not be the same. */
static int largest(const struct run *r)
{
    int most = 0;

    for (uint32_t i = 1; i < r->vms; i++)
        if (r->vm[i].overlay_peak_bytes > r->vm[most].overlay_peak_bytes)
            most = (int)i;
    return most;
}

static const char *guest_saw(const struct migration *m)
{
    if (migration_refused(m))
        return "I/O errors";
    if (m->place[SOURCE].monitor.facts.no_space)
        return "stopped by QEMU, its write not done";
    return migration_overflows(m) ? "stopped for a while" : "nothing";
}

static json_t *contrast_object(const struct run *r)
{
    int first = filled_it(r);
    json_t *o = run_object(r), *saw = json_object();

    if (!o)
        return NULL;
    json_object_set_new(o, "overflowed", json_boolean(first >= 0));
    json_object_set_new(o, "largest_vm", json_string(r->load[largest(r)].name));
    if (first >= 0) {
        json_object_set_new(o, "first_stopped_vm", json_string(r->load[first].name));
        json_object_set_new(o, "overflow_seconds",
                            json_real(seconds_between(r->site.start_ns, r->vm[first].overflow_ns)));
    }
    for (uint32_t i = 0; i < r->vms; i++)
        json_object_set_new(saw, r->load[i].name, json_string(guest_saw(&r->vm[i])));
    json_object_set_new(o, "guest_saw", saw);
    return o;
}

json_t *summary_json(const struct run *r, const struct run *contrast)
{
    json_t *o = run_object(r);

    if (o && contrast)
        json_object_set_new(o, "contrast", contrast_object(contrast));
    return o;
}

void summary_contrast(const struct run *r, FILE *out)
{
    int first = filled_it(r), stopped = 0;
    char size[HUMAN_SIZE], most[HUMAN_SIZE];

    if (first < 0) {
        fprintf(out, "Without throttle: no overflow (peak %s of %s).\n", human_bytes(r->peak_bytes, most),
                human_bytes(r->omega_bytes, size));
        return;
    }
    for (uint32_t i = 0; i < r->vms; i++)
        stopped += r->vm[i].overflow_ns != 0;
    fprintf(out, "Without throttle: %s full after %.1f s, %d of %u guests stopped; most of it was %s's (%s).\n",
            human_bytes(r->omega_bytes, size), seconds_between(r->site.start_ns, r->vm[first].overflow_ns), stopped,
            r->vms, r->load[largest(r)].name, human_bytes(r->vm[largest(r)].overlay_peak_bytes, most));
}

void summary_failures(const struct run *r, FILE *out)
{
    if (r->error[0])
        fprintf(out, "%s\n", r->error);
    for (uint32_t i = 0; i < r->vms; i++)
        if (r->vm[i].error[0])
            fprintf(out, "%s (%s%s)\n", r->vm[i].error, never_began(&r->vm[i]) ? "it never ran" : "now at: ",
                    never_began(&r->vm[i]) ? "" : where(&r->vm[i]));
}

void summary_links(const struct run *r, FILE *out)
{
    char bytes[HUMAN_SIZE], rate[HUMAN_SIZE];

    for (uint32_t k = 0; k < r->options->links && r->options->links > 1; k++) {
        fprintf(out, "Link %u: %s sent", k, human_bytes(r->route[k].bytes, bytes));
        if (r->route[k].bytes_per_s)
            fprintf(out, ", at last at %s", human_rate(r->route[k].bytes_per_s, rate));
        for (uint32_t i = k; i < r->vms; i += r->options->links)
            fprintf(out, "%s%s", i == k ? ": " : ", ", r->load[i].name);
        fprintf(out, "\n");
    }
}

void summary_warnings(const struct run *r, FILE *out)
{
    json_t *list = warnings(r);

    for (size_t k = 0; k < json_array_size(list); k++)
        fprintf(out, "Warning: %s\n", json_string_value(json_array_get(list, k)));
    json_decref(list);
}

void summary_memory(const struct run *r, FILE *out)
{
    char bytes[HUMAN_SIZE], got[HUMAN_SIZE], want[HUMAN_SIZE];
    uint32_t held = 0;

    for (uint32_t i = 0; i < r->vms; i++) {
        const struct migration *m = &r->vm[i];
        uint64_t wanted, delivered = migration_delivered_bytes(m, &wanted);

        held += m->held;
        if (m->ram_result.state != MIGBUF_RAM_STATE_MOVED)
            continue;
        fprintf(out, "%s: stood for %s%llu ms; %llu pages, %s of memory in %llu ms%s; %s written of %s wanted\n", m->load->name,
                m->downtime_ms ? "" : "at least ", /* the stop was not seen: QEMU's own figure leaves out some of it */
                (unsigned long long)(m->downtime_ms ? m->downtime_ms : m->ram_result.downtime_ms),
                (unsigned long long)m->ram_result.pages, human_bytes(m->ram_result.sent_bytes, bytes),
                (unsigned long long)m->ram_result.total_ms, m->ram_result.post_copy ? ", by post-copy" : "",
                human_bytes(delivered, got), human_bytes(wanted, want));
    }
    if (held)
        fprintf(out, "%u of %u guests stood while their memory was sent: TCG loses track of what a running guest writes, KVM "
                     "does not\n", held, r->vms);
}

void summary_throttle(const struct run *r, FILE *out)
{
    struct totals t = add_up(r);
    char reserve[HUMAN_SIZE], leak[HUMAN_SIZE];

    if (policy_throttles(r->policy))
        fprintf(out,
                "Held: up to %s kept free for drains, %s at most came through one; %llu pauses; no write took longer "
                "than %.1f s; slowest lower limit in force after %llu ms\n",
                human_bytes(largest_reserve(r), reserve), human_bytes(t.leak_bytes, leak), (unsigned long long)t.pauses,
                (double)t.longest_stall_ms / 1000, (unsigned long long)(t.slowest_ns / 1000000));
}

bool summary_blocked(const struct run *r)
{
    for (uint32_t i = 0; i < r->vms; i++)
        if (!r->vm[i].blocked)
            return false;
    return true;
}

const char *summary_line(const struct run *r, char text[SUMMARY_LINE_SIZE])
{
    struct totals t = add_up(r);
    char peak[HUMAN_SIZE], size[HUMAN_SIZE], policy[40];

    snprintf(text, SUMMARY_LINE_SIZE,
             "%s: %u of %u VMs moved in %.1f s, %llu writes checked, %llu lost, buffer peak %s of %s, %llu overflows, "
             "%u failures",
             options_policy_text(r->policy, r->options->fixed_bytes_per_s, policy), t.moved, r->vms,
             seconds_between(r->begun_ns, r->ended_ns), (unsigned long long)t.acknowledged, (unsigned long long)t.lost,
             human_bytes(r->peak_bytes, peak), human_bytes(r->omega_bytes, size), (unsigned long long)t.overflows,
             t.failed);
    return text;
}
