/* SPDX-License-Identifier: MIT */
/* The event loop: poll, move every migration on, and every tick measure and decide (control.c). */
#include "loop.h"
#include "attempts.h"
#include "extension.h"
#include "state.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define MS UINT64_C(1000000)
#define LOOK_MS 10 /* how often status blocks and deadlines are looked at when nothing happens */
#define AFTER_OVERFLOW_MS 1000
#define SLEPT_MS 1000      /* a turn that took longer than this was none: we were stopped (the clock of a host that sleeps stands) */
#define ANSWER_MS 50       /* how long a tick waits for QEMUs that do not answer */
#define ASK_MS 2000        /* after a restart: no QEMU that does not answer delays the others' first tick longer */
#define RAM_RATE_MS 200    /* the least time over which it is told how fast memory is sent */
#define WAY_BACK_MS 120000 /* the most that giving up may take */

/* Beginning */

static int make_loads(struct run *r)
{
    char error[FAIL_SIZE];

    r->load = calloc(r->vms, sizeof *r->load);
    r->vm = calloc(r->vms, sizeof *r->vm);
    r->checked = calloc(r->vms, sizeof *r->checked);
    r->acked_before = calloc(r->vms, sizeof *r->acked_before);
    r->ram_seen = calloc(r->vms, sizeof *r->ram_seen);
    if (!r->load || !r->vm || !r->checked || !r->acked_before || !r->ram_seen)
        return fail(r->error, "out of memory");
    for (uint32_t i = 0; i < r->vms; i++) {
        options_load(r->options, i, &r->load[i]);
        if (writer_params_check(&r->load[i].writer, r->options->disk_bytes, error))
            return fail(r->error, "%s: %s", r->load[i].name, error);
        if (attempts_believe(r->options->history, i, writer_ram_mib(&r->load[i].writer) * UINT64_C(1048576), &r->load[i].prior, error))
            return fail(r->error, "%s", error);
    }
    return 0;
}

static int make_record(struct run *r)
{
    const char *names[OPTIONS_VMS_MAX];
    static const char *const turns[] = { "all at once", "shortest first", "first come first" };
    char policy[40], way[64];
    struct record_setup setup = {
        .omega_bytes = r->omega_bytes,
        .link_bytes_per_s = r->options->link_bytes_per_s * r->options->links,
        .seed = r->options->seed,
        .vm_count = r->vms,
        .tick_ms = r->options->tick_ms,
        .names = names,
        .policy = way,
    };

    options_policy_text(r->policy, r->options->fixed_bytes_per_s, policy);
    snprintf(way, sizeof way, "%s, %s", policy, turns[r->admission]);
    for (uint32_t i = 0; i < r->vms; i++)
        names[i] = r->load[i].name;
    r->record = record_new(&setup);
    return r->record ? 0 : fail(r->error, "out of memory");
}

/* Everything has to cross the link: the disks, and as much again as the buffer holds. Four times that is late,
 * and a busy host has two minutes beside it. */
static uint32_t transfer_ms(const struct options *o)
{
    double bytes = (double)o->vms * (double)(o->disks * o->disk_bytes + (16u << 20) + 4 * o->dirty_bytes) + (double)o->buffer_bytes;
    uint32_t on_one = (o->vms + o->links - 1) / o->links; /* so many VMs leave over the same link at most */
    double ms = 120000 + 4000 * bytes * on_one / o->vms / (double)o->link_bytes_per_s;

    return ms < 86400000 ? (uint32_t)ms : 86400000;
}

/* Everything but the directory and the volume. */
static int make_site(struct run *r, const char *kernel)
{
    const struct options *o = r->options;
    struct link_config link = { .bytes_per_s = o->link_bytes_per_s };

    r->site = (struct site){
        .directory = r->directory,
        .kernel = kernel,
        .qemu = o->qemu,
        .volume = &r->volume,
        .links = o->links,
        .control = &r->control,
        .disk_bytes = o->disk_bytes,
        .start_ns = r->begun_ns,
        .transfer_ms = transfer_ms(o),
        .at_least_ms = o->at_least_ms,
        .second_monitor = extension.second_monitor,
        .named = o->named_overlays,
        .mirror = o->mirror,
        .ways = { o->ways[0], o->ways[1] },
        .recorded = r->state != NULL,
    };
    migbuf_agreement_init(&r->site.agreement, sizeof r->site.agreement);
    r->site.agreement.deadline_ms = r->site.transfer_ms;
    r->site.agreement.most_ms = o->downtime_ms;
    if (r->site.agreement.want_ms > o->downtime_ms)
        r->site.agreement.want_ms = o->downtime_ms;
    r->site.agreement.throttle_most_percent = o->throttle_percent;
    r->site.agreement.postcopy = o->postcopy;
    r->site.agreement.force = o->force;
    r->site.kvm = o->kvm;
    vm_image_tool(o->qemu, r->site.image_tool);
    for (uint32_t k = 0; k < o->links; k++) {
        r->site.link[k] = link_new(&link);
        if (!r->site.link[k])
            return fail(r->error, "out of memory");
    }
    if (make_record(r) || control_new(&r->control, r->policy, o->fixed_bytes_per_s, r->omega_bytes, o->tick_ms, r->vms,
                                      r->site.link, r->site.links, r->error))
        return -1;
    control_admit(&r->control, r->admission);
    for (uint32_t k = 0; r->policy == POLICY_HYBRID && k < o->links; k++) /* what a NIC says of itself, until it is measured */
        r->control.route[k].bytes_per_s = o->link_bytes_per_s;
    r->control.recorded = r->site.recorded;
    r->control.fails_when_full = r->volume.fails;
    r->site.record = r->record;
    for (uint32_t i = 0; i < r->vms; i++)
        migration_init(&r->vm[i], i, &r->load[i], &r->site);
    return 0;
}

static void set_volume(struct run *r)
{
    r->omega_bytes = r->free_bytes = r->volume.size_bytes;
}

/* Over a quota QEMU does not stop a guest but tells it of I/O errors. */
static int check_volume(struct run *r)
{
    char line[160], size[HUMAN_SIZE];

    if (!r->volume.fails)
        return 0;
    if (r->policy != POLICY_PAPER && r->policy != POLICY_PLANNER && r->policy != POLICY_MIRROR && r->policy != POLICY_HYBRID)
        return fail(r->error,
                    "--volume %s is bounded by a quota: QEMU would tell the guests of I/O errors instead of stopping "
                    "them, and this policy does not keep them from that",
                    r->options->volume);
    snprintf(line, sizeof line, "the volume is bounded by a quota: guests are stopped before they reach it, at %s",
             human_bytes(r->volume.size_bytes, size));
    picture_say(r->picture, line);
    return 0;
}

static void run_init(struct run *r, const struct options *options, enum policy policy, const char *directory,
                     struct picture *picture, int signals, struct state *state, uint64_t now)
{
    *r = (struct run){ .options = options,
                       .state = state,
                       .policy = policy,
                       .admission = options->admission,
                       .picture = picture,
                       .signals = signals,
                       .vms = options->vms,
                       .since_ns = now };
    snprintf(r->directory, sizeof r->directory, "%s", directory);
}

int run_begin(struct run *r, const struct options *options, enum policy policy, bool contrast, const char *directory,
              const char *kernel, struct picture *picture, int signals, struct state *state)
{
    uint64_t now = now_ns();

    run_init(r, options, policy, directory, picture, signals, state, now);
    r->contrast = contrast;
    if (contrast)
        r->admission = 0;
    r->begun_ns = now;
    extension_run(r);
    if (make_loads(r))
        return -1;
    if (mkdir(r->directory, 0700))
        return fail(r->error, "mkdir %s: %s", r->directory, strerror(errno));
    if (options->volume ? volume_use(&r->volume, r->directory, options->volume, r->error)
                        : volume_make(&r->volume, r->directory, options->buffer_bytes, VOLUME_NONE, r->error))
        return -1;
    if (check_volume(r))
        return -1;
    set_volume(r);
    if (make_site(r, kernel))
        return -1;
    return state ? state_save(state, r, now, r->error) : 0;
}

/* The volume is where any of its QEMUs is. When none is left it is gone, and with it what was on it. */
static int find_volume(struct run *r)
{
    enum volume_kind kind = r->volume.kind;
    uint64_t bytes = r->volume.size_bytes;

    for (uint32_t i = 0; i < r->vms; i++)
        for (int side = SOURCE; side <= TARGET; side++)
            if (r->vm[i].place[side].started)
                return volume_join_mounts(r->vm[i].place[side].vm.process.pid, r->error) ||
                               volume_adopt(&r->volume, r->directory, kind, bytes, r->error)
                           ? -1
                           : 0;
    volume_clean(r->directory);
    if (volume_private_mounts(r->error) ||
        volume_make(&r->volume, r->directory, r->options->buffer_bytes, VOLUME_NONE, r->error))
        return -1;
    return 0;
}

int run_resume(struct run *r, const struct options *options, const char *directory, const char *kernel,
               struct picture *picture, int signals, struct state *state)
{
    uint64_t now = now_ns();
    char line[128];

    run_init(r, options, options->policy, directory, picture, signals, state, now);
    r->ask_until_ns = now + ASK_MS * MS;
    r->next_tick_ns = now;
    /* Where the overlays are is part of what a migration knows: the volume's path must be there before it. */
    snprintf(r->volume.path, sizeof r->volume.path, "%s/volume", directory);
    if (make_loads(r) || make_site(r, kernel))
        return -1;
    extension_run(r); /* the buffer that is loaded takes the place of the empty one that was just made */
    if (state_load(state, r, now, r->error))
        return -1;
    for (uint32_t i = 0; i < r->vms; i++)
        if (migration_adopt(&r->vm[i], r->error))
            return -1;
    if (find_volume(r))
        return -1;
    set_volume(r);
    r->record->omega_bytes = r->omega_bytes;
    for (uint32_t i = 0; i < r->vms; i++)
        migration_resume(&r->vm[i], now);
    if (r->interrupted)
        r->give_up_ns = now;
    snprintf(line, sizeof line, "restart %u, last heard of %llu ms ago", r->restarts,
             (unsigned long long)r->longest_absence_ms);
    picture_say(picture, line);
    return 0;
}

/* Showing */

/* QEMU answers late while it syncs: then its last word stands. */
static uint64_t ram_rate(struct ram_seen *seen, const struct migbuf_ram_report *last)
{
    uint64_t sent = last->ram_transferred_bytes;

    if (last->total_ms < seen->total_ms || sent < seen->sent_bytes)
        *seen = (struct ram_seen){ 0 };
    if (last->total_ms >= seen->total_ms + RAM_RATE_MS) {
        seen->bytes_per_s = (sent - seen->sent_bytes) * 1000 / (last->total_ms - seen->total_ms);
        seen->sent_bytes = sent;
        seen->total_ms = last->total_ms;
    }
    return seen->bytes_per_s;
}

static void put_frame_ram(struct run *r, uint32_t i, struct frame_vm *f)
{
    const struct memory *x = &r->vm[i].memory;
    const struct migbuf_ram_report *last = &x->last;
    bool there = x->info.state == MIGBUF_RAM_STATE_POSTCOPY || x->info.state == MIGBUF_RAM_STATE_BROKEN;

    if (x->ram && last->has_ram && x->info.state >= MIGBUF_RAM_STATE_RUNNING && x->info.state <= MIGBUF_RAM_STATE_BROKEN) {
        f->ram = there ? FRAME_RAM_THERE : r->vm[i].held ? FRAME_RAM_STANDS : FRAME_RAM_RUNS;
        f->ram_left_bytes = last->ram_remaining_bytes;
        f->ram_throttle_percent = (uint32_t)x->info.throttle_percent;
        f->ram_limit_ms = (uint32_t)x->info.limit_ms;
        f->ram_bytes_per_s = ram_rate(&r->ram_seen[i], last);
    }
}

static void put_frame_vm(struct run *r, uint32_t i, double seconds, struct frame_vm *f)
{
    const struct migration *m = &r->vm[i];
    const struct throttle *t = &m->throttle;
    uint64_t acked = migration_acknowledged(m);

    *f = (struct frame_vm){
        .overlay_bytes = t->file_bytes,
        .limit_bytes_per_s = UINT64_MAX,
        .acked = acked,
        .progress_permille = migration_progress_permille(m),
        .phase = migration_phase(m),
        .paused = t->stop_wanted || m->place[m->home].monitor.facts.no_space,
        .action = t->last.action,
        .reason = t->last.reason,
    };
    if (t->added && !t->mirrored && policy_throttles(r->policy))
        f->limit_bytes_per_s = t->stop_wanted ? 0 : t->last.growth_bytes_per_s;
    if (f->limit_bytes_per_s > UINT64_C(1) << 50) /* its file is as large as it can get */
        f->limit_bytes_per_s = UINT64_MAX;
    if (seconds > 0)
        f->guest_bytes_per_s =
            (uint64_t)((double)((acked - r->acked_before[i]) * m->load->writer.sectors * 512) / seconds);
    r->acked_before[i] = acked;
    put_frame_ram(r, i, f);
}

static void put_frame(struct run *r, uint64_t now)
{
    struct frame_vm vm[OPTIONS_VMS_MAX];
    struct migbuf_buffer_stats stats = { .size = sizeof stats };
    struct frame frame = {
        .t_ms = (now - r->site.start_ns) / MS,
        .used_bytes = r->used_bytes,
        .vm = vm,
    };
    double seconds = r->last_frame_ns ? (double)(now - r->last_frame_ns) / 1e9 : 0;

    for (uint32_t k = 0; k < r->control.routes; k++) /* of all links together, as far as they are known */
        frame.link_bytes_per_s += r->control.route[k].bytes_per_s;
    if (r->control.buffer && !migbuf_buffer_stats(r->control.buffer, &stats))
        frame.reserve_bytes = stats.reserve_bytes, r->late_ticks = stats.late_ticks;
    for (uint32_t i = 0; i < r->vms; i++)
        put_frame_vm(r, i, seconds, &vm[i]);
    record_add(r->record, &frame);
    r->last_frame_ns = now;
    picture_draw(r->picture, r->record, r->control.buffer ? migbuf_buffer_bins(r->control.buffer) : NULL, false);
}

/* Giving up */

static void give_up(struct run *r, const char *why, uint64_t now)
{
    if (!r->give_up_ns)
        r->give_up_ns = now;
    for (uint32_t i = 0; i < r->vms; i++)
        if (!migration_ended(&r->vm[i]))
            migration_give_up(&r->vm[i], why);
}

static uint32_t count_past_return(const struct run *r)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < r->vms; i++)
        n += migration_is_past_return(&r->vm[i]);
    return n;
}

static void take_signals(struct run *r, uint64_t now)
{
    struct signalfd_siginfo signal;
    char line[160];

    while (read(r->signals, &signal, sizeof signal) == (ssize_t)sizeof signal) {
        if (r->interrupted) {
            picture_say(r->picture, "still on the way back; nothing can be cut short without harm to a guest");
            continue;
        }
        r->interrupted = true;
        snprintf(line, sizeof line, "giving up: %u of %u go on at the target, the others at the source",
                 count_past_return(r), r->vms);
        picture_say(r->picture, line);
        give_up(r, "interrupted", now);
    }
}

/* The loop */

/* Nobody begins before all guests write: otherwise the first would have the link for itself. */
static void open_gate(struct run *r, uint64_t now)
{
    if (r->site.go)
        return;
    for (uint32_t i = 0; i < r->vms; i++)
        if (!migration_waits(&r->vm[i]))
            return;
    r->site.go = true;
    r->site.start_ns = now;
    r->next_tick_ns = now;
}

static void measure_volume(struct run *r, uint64_t now)
{
    uint64_t ours = 0;

    if (volume_usage(&r->volume, &r->used_bytes, &r->free_bytes, r->error))
        give_up(r, r->error, now);
    for (uint32_t i = 0; i < r->vms; i++)
        ours += throttle_file_bytes(&r->vm[i].throttle);
    if (r->policy == POLICY_LXD) /* the overlays are on other volumes */
        r->used_bytes = ours;
    if (r->used_bytes > r->peak_bytes)
        r->peak_bytes = r->used_bytes;
    if (r->used_bytes > ours && r->used_bytes - ours > r->foreign_bytes)
        r->foreign_bytes = r->used_bytes - ours;
}

static bool still_asking(const struct run *r, uint64_t now)
{
    for (uint32_t i = 0; i < r->vms && now < r->ask_until_ns; i++)
        if (migration_asks(&r->vm[i]))
            return true;
    return false;
}

/* More room is for everybody, at the next decision. A quota is not seen in it. */
static void take_more_room(struct run *r, uint64_t now)
{
    char size[HUMAN_SIZE];

    if (r->volume.fails || !volume_has_grown(&r->volume))
        return;
    if (r->control.buffer && migbuf_buffer_resize(r->control.buffer, r->volume.size_bytes, NULL))
        return;
    r->omega_bytes = r->record->omega_bytes = r->volume.size_bytes;
    record_event(r->record, (now - r->site.start_ns) / MS, RECORD_EVERYBODY, "the volume has been extended to %s",
                 human_bytes(r->omega_bytes, size));
}

static void tick(struct run *r, uint64_t now)
{
    uint64_t interval = r->options->tick_ms * MS;

    if (control_is_due(&r->control) && now < r->next_tick_ns)
        r->next_tick_ns = now;
    if (!r->site.go || now < r->next_tick_ns || still_asking(r, now))
        return;
    if (!r->looking_ns) {
        control_look(&r->control);
        r->looking_ns = now;
        return;
    }
    if (!control_looked(&r->control) && now < r->looking_ns + ANSWER_MS * MS)
        return;
    r->looking_ns = 0;
    take_more_room(r, now);
    if (now - r->next_tick_ns > r->worst_tick_ns)
        r->worst_tick_ns = now - r->next_tick_ns;
    if (control_tick(&r->control, now, r->error))
        give_up(r, r->error, now);
    put_frame(r, now);
    r->ticks++;
    r->early_ticks = r->control.warnings;
    r->next_tick_ns += interval;
    if (r->next_tick_ns <= now) /* never two at once to catch up */
        r->next_tick_ns = now + interval;
}

static void look_at_clock(struct run *r, uint64_t now)
{
    if (!r->give_up_ns && now - r->since_ns > (r->site.transfer_ms + r->site.at_least_ms + UINT64_C(60000)) * MS)
        give_up(r, "it takes too long", now);
    for (uint32_t i = 0; i < r->vms && r->contrast; i++)
        if (r->vm[i].overflow_ns && now - r->vm[i].overflow_ns > AFTER_OVERFLOW_MS * MS && !r->interrupted)
            r->abandoned = true;
}

static bool is_over(const struct run *r, uint64_t now)
{
    if (r->abandoned || (r->give_up_ns && now - r->give_up_ns > WAY_BACK_MS * MS))
        return true;
    for (uint32_t i = 0; i < r->vms; i++)
        if (!migration_ended(&r->vm[i]))
            return false;
    return true;
}

/* What has been decided or begun is on record before anything of it is said to a QEMU. Without a record nothing more is
 * begun: everybody goes back. */
static void save(struct run *r, uint64_t now)
{
    bool unsaved = r->control.unrecorded;

    r->in_a_hurry = false;
    if (!r->state)
        return;
    for (uint32_t i = 0; i < r->vms; i++)
        unsaved = unsaved || r->vm[i].unrecorded || r->vm[i].memory.unrecorded;
    if (!unsaved)
        return;
    if (state_save(r->state, r, now, r->error))
        give_up(r, r->error, now);
    r->control.unrecorded = false;
    for (uint32_t i = 0; i < r->vms; i++) {
        r->vm[i].unrecorded = false;
        memory_recorded(&r->vm[i].memory);
    }
    r->in_a_hurry = true;
}

/* Waits until something happened, at most LOOK_MS. */
static void wait_for_something(struct run *r, struct pollfd *fds, size_t room, uint64_t now)
{
    size_t n = 0;
    int timeout = r->in_a_hurry ? 0 : LOOK_MS;

    fds[n++] = (struct pollfd){ .fd = r->signals, .events = POLLIN };
    for (uint32_t i = 0; i < r->vms; i++)
        for (int side = SOURCE; side <= TARGET; side++) {
            int fd = -1;
            short events = monitor_poll(&r->vm[i].place[side].monitor, &fd);

            if (events && fd >= 0)
                fds[n++] = (struct pollfd){ .fd = fd, .events = events };
        }
    if (r->site.go && !r->looking_ns && r->next_tick_ns < now + LOOK_MS * MS)
        timeout = r->next_tick_ns > now ? (int)((r->next_tick_ns - now + MS - 1) / MS) : 0;
    for (uint32_t k = 0; k < r->site.links; k++)
        n += link_poll_prepare(r->site.link[k], fds + n, room - n, now, &timeout);
    poll(fds, n, timeout);
}

/* While we could not look no time has passed for a deadline: QEMU may have been stopped as long, and was not heard. How late a
 * tick is, is told as it was. */
static void slept(struct run *r, uint64_t ns)
{
    r->since_ns += ns;
    r->give_up_ns += r->give_up_ns ? ns : 0;
    r->ask_until_ns += r->ask_until_ns ? ns : 0;
    for (uint32_t i = 0; i < r->vms; i++)
        migration_slept(&r->vm[i], ns);
}

void run_loop(struct run *r)
{
    size_t room = 1 + r->vms * (2 + 2 * (2 + VM_DISKS_MAX)); /* monitors, and flows with two ends each */
    struct pollfd *fds = calloc(room, sizeof *fds);
    uint64_t now = now_ns(), before;

    if (!fds) {
        fail(r->error, "out of memory");
        return;
    }
    while (!is_over(r, now)) {
        wait_for_something(r, fds, room, now);
        before = now, now = now_ns();
        if (now - before > SLEPT_MS * MS)
            slept(r, now - before);
        take_signals(r, now);
        for (uint32_t k = 0; k < r->site.links; k++)
            link_run(r->site.link[k], now);
        for (uint32_t i = 0; i < r->vms; i++) {
            migration_step(&r->vm[i], now);
            extension_turn(r, &r->vm[i], now);
            migration_throttle(&r->vm[i], r->free_bytes, now);
            migration_watch(&r->vm[i], now);
        }
        measure_volume(r, now);
        open_gate(r, now);
        tick(r, now);
        look_at_clock(r, now);
        save(r, now);
    }
    free(fds);
    if (r->site.go)
        put_frame(r, now);
    r->ended_ns = now;
    /* On record before a history is told of it: a program that comes after this one knows by it what is told already. */
    if (!r->ended_at_s) {
        r->ended_at_s = (uint64_t)time(NULL);
        if (r->state)
            state_save(r->state, r, now, r->error);
    }
}

/* The proof */

static void add_result(struct writer_result *sum, const struct writer_result *one)
{
    sum->slots += one->slots;
    sum->sectors += one->sectors;
    sum->lost += one->lost;
    sum->foreign += one->foreign;
    sum->base += one->base;
    sum->torn += one->torn;
    if (!*sum->first_bad) {
        sum->first_bad_lba = one->first_bad_lba;
        memcpy(sum->first_bad, one->first_bad, sizeof sum->first_bad);
    }
}

static void check_disk(struct run *r, uint32_t i, uint32_t disk)
{
    struct migration *m = &r->vm[i];
    struct writer_params writer = writer_of_disk(&m->load->writer, disk);
    struct writer_result result = { 0 };
    const char *image = m->disk[disk].image[m->home];
    char error[FAIL_SIZE];
    int fd = open(image, O_RDWR | O_CLOEXEC);

    if (fd >= 0)
        extension_check(r, m, disk, &writer, fd);
    if (fd < 0 || writer_check(fd, &writer, &m->disk[disk].status, &result, error)) {
        if (fd < 0)
            fail(error, "%s: %s", image, strerror(errno));
        if (!m->error[0])
            fail(m->error, "%s, checking its disk: %s", m->load->name, error);
        m->stopped = false; /* not checked */
    } else if (!writer_good(&result) && !m->error[0]) {
        fail(m->error, "%s, checking its disk %s: %s", m->load->name, vm_disk_node(disk), result.first_bad);
    }
    add_result(&r->checked[i], &result);
    if (fd >= 0)
        close(fd);
}

void run_check(struct run *r)
{
    for (uint32_t i = 0; i < r->vms; i++) {
        char line[80];

        if (!r->vm[i].stopped)
            continue;
        if (i % 4 == 0) {
            snprintf(line, sizeof line, "checking disks, %u of %u", i + 1, r->vms);
            picture_say(r->picture, line);
        }
        for (uint32_t k = 0; k < r->options->disks; k++)
            check_disk(r, i, k);
    }
}

void run_end(struct run *r)
{
    for (uint32_t i = 0; r->vm && r->site.control && i < r->vms; i++)
        migration_release(&r->vm[i]);
    extension_run_end(r);
    memcpy(r->route, r->control.route, sizeof r->route);
    for (uint32_t k = 0; k < r->site.links; k++) {
        r->route[k].bytes = r->site.link[k] ? link_sent_bytes(r->site.link[k]) : 0;
        link_free(r->site.link[k]);
        r->site.link[k] = r->route[k].link = NULL;
    }
    control_free(&r->control);
    volume_remove(&r->volume);
}

void run_free(struct run *r)
{
    record_free(r->record);
    free(r->load);
    free(r->vm);
    free(r->checked);
    free(r->acked_before);
    free(r->ram_seen);
    *r = (struct run){ .vms = 0 };
}
