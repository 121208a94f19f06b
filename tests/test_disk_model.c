/* SPDX-License-Identifier: MIT */
/* Random lives of a VM's throttle against the model of QEMU: other hands, refusals, answers that come late or never,
 * unplugged disks, deaths at any point. At the end the host's limits are what the host said last, nobody is left stopped,
 * and no group of ours is left. Prints the seed of a life that went wrong; MIGBUF_TEST_SEED and MIGBUF_TEST_LIVES begin
 * elsewhere and live longer. */
#include "draw.h"
#include "qemu_model.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define OURS "migbuf-vm1"
#define TEXT_BYTES 40000

/* What the test knows beside the model. */
static struct life {
    struct qemu_model q;
    struct migbuf_disk *disk;
    struct migbuf_throttle_config host[MODEL_DEVICES]; /* what the host said last, with the group it belongs to */
    struct migbuf_throttle_config or_else[MODEL_DEVICES]; /* a neighbour in a shared group: once a disk of ours is back */
    int watched;
    int typed;
    uint64_t seed;
    int refuses, loses;        /* of a hundred commands */
    int limits_unknown, guest_unknown; /* since a command that nobody answered, until somebody has looked */
    int late_waits;            /* a command that was sent, and will be carried out before the next one */
    char late_name[32], late_arguments[9000];
    char text[TEXT_BYTES];     /* what the host has on its disk */
    size_t text_bytes;
    uint64_t revision;
    int host_stopped;          /* an administrator said stop */
    enum { AS_IT_IS, RUNS, STANDS } guest; /* what was decided of it; loaded: nothing yet */
    char story[6000];
    size_t told;
} life;

static void tell(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void tell(const char *format, ...)
{
    va_list args;
    int n;

    va_start(args, format);
    n = vsnprintf(life.story + life.told, sizeof life.story - life.told, format, args);
    va_end(args);
    if (n > 0 && life.told + (size_t)n < sizeof life.story)
        life.told += (size_t)n;
}

#define ck_life(condition, ...)                                                                                        \
    do {                                                                                                               \
        int holds = (condition); /* asked once: it may do something */                                                 \
        if (!holds) {                                                                                                  \
            fprintf(stderr, "# seed %llu: ", (unsigned long long)life.seed);                                           \
            fprintf(stderr, __VA_ARGS__);                                                                              \
            fprintf(stderr, "\n# %s\n", life.story);                                                                   \
        }                                                                                                              \
        ck_assert_msg(holds, "seed %llu", (unsigned long long)life.seed);                                          \
    } while (0)

/* Limits of a host's own */

static void draw_bucket(uint64_t *rate, uint64_t *burst, uint64_t *length, uint32_t most)
{
    *rate = 1 + draw(most);
    if (!life.typed && draw(4) == 0) {
        *burst = *rate + draw(most);
        *length = 1 + draw(4);
    }
}

static struct migbuf_throttle_config draw_host(void)
{
    struct migbuf_throttle_config c = { 0 };

    if (draw(3) == 0)
        return c;
    switch (draw(life.typed ? 3 : 4)) {
    case 0:
        break;
    case 1:
        draw_bucket(&c.bps_wr, &c.bps_wr_max, &c.bps_wr_max_length, 100000);
        break;
    case 2:
        draw_bucket(&c.bps_rd, &c.bps_rd_max, &c.bps_rd_max_length, 100000);
        draw_bucket(&c.bps_wr, &c.bps_wr_max, &c.bps_wr_max_length, 100000);
        break;
    default:
        draw_bucket(&c.bps, &c.bps_max, &c.bps_max_length, 100000);
        break;
    }
    switch (draw(life.typed ? 3 : 4)) {
    case 0:
        break;
    case 1:
        draw_bucket(&c.iops_wr, &c.iops_wr_max, &c.iops_wr_max_length, 3000);
        break;
    case 2:
        draw_bucket(&c.iops_rd, &c.iops_rd_max, &c.iops_rd_max_length, 3000);
        break;
    default:
        draw_bucket(&c.iops, &c.iops_max, &c.iops_max_length, 3000);
        break;
    }
    if (!life.typed && (c.iops || c.iops_rd || c.iops_wr) && draw(3) == 0)
        c.iops_size = UINT64_C(512) << draw(10);
    return c;
}

static int is_nothing(const struct migbuf_throttle_config *c)
{
    return !c->bps && !c->bps_rd && !c->bps_wr && !c->iops && !c->iops_rd && !c->iops_wr;
}

static int same(const struct migbuf_throttle_config *a, const struct migbuf_throttle_config *b)
{
    const uint64_t *x = &a->bps, *y = &b->bps;

    for (int k = 0; k < 19; k++)
        if (x[k] != y[k])
            return 0;
    return !strcmp(a->group, b->group);
}

static void begin_life(uint64_t seed)
{
    int others;

    life = (struct life){ .seed = seed };
    draw_state = seed * 2654435761u + 12345;
    for (int k = 0; k < 5; k++)
        draw(2);
    life.typed = draw(4) == 0;
    life.watched = 1 + (int)draw(3);
    others = (int)draw(3);
    life.refuses = draw(3) == 0 ? (int)draw(40) : 0;
    life.loses = draw(2) == 0 ? (int)draw(40) : 0;
    life.q.devices = life.watched + others;
    life.q.running = 1;
    if (!life.typed && draw(2) == 0) { /* an object of the host's; half of them without any limit */
        struct migbuf_throttle_config c = draw(2) ? draw_host() : (struct migbuf_throttle_config){ 0 };

        model_object(&life.q, "shared", &c);
    }
    for (int k = 0; k < life.q.devices; k++) {
        struct model_device *d = &life.q.device[k];
        struct migbuf_throttle_config c = draw_host();

        snprintf(d->qdev, sizeof d->qdev, "dev-%d", k);
        snprintf(d->node, sizeof d->node, "node-%d", k);
        d->there = 1;
        d->group = -1;
        if (!life.typed && draw(3) == 0) { /* in a group with others: what is set last holds for all */
            struct migbuf_throttle_config open = { .bps_wr = 77 };
            int was = model_group_exists(&life.q, "shared");

            if (was && draw(2) == 0) { /* an object keeps its own limits */
                struct migbuf_throttle_config kept;

                for (int g = 0; g < MODEL_GROUPS; g++)
                    if (life.q.group[g].used && !strcmp(life.q.group[g].name, "shared"))
                        kept = life.q.group[g].config;
                model_set(&life.q, k, &open, "shared");
                if (model_object_set(&life.q, "shared", &kept) && is_nothing(&kept))
                    model_set(&life.q, k, &c, "shared");
            } else {
                model_set(&life.q, k, &c, "shared");
            }
        } else {
            model_set(&life.q, k, &c, NULL);
        }
    }
    for (int k = 0; k < life.q.devices; k++)
        life.host[k] = life.or_else[k] = model_shown(&life.q, k);
}

/* The wire */

static void carry_out_late(void)
{
    if (!life.late_waits)
        return;
    life.late_waits = 0;
    tell("  late: %s\n", life.late_name);
    model_execute(&life.q, life.late_name, life.late_arguments[0] ? life.late_arguments : NULL);
}

static int answer_query(void)
{
    life.limits_unknown = 0;
    for (int k = 0; k < life.q.devices; k++) {
        struct migbuf_throttle_config shown = model_shown(&life.q, k);

        if (life.q.device[k].there) {
            int rc = migbuf_disk_found(life.disk, life.q.device[k].node, life.q.device[k].qdev, &shown);

            ck_life(rc == (k < life.watched), "found of device %d: %d", k, rc);
        }
    }
    return migbuf_disk_answered(life.disk, MIGBUF_OUTCOME_DONE);
}

static int answer_status(void)
{
    life.guest_unknown = 0;
    ck_assert_int_eq(migbuf_disk_status(life.disk, life.q.running ? "running" : life.q.status, life.q.running), 0);
    return migbuf_disk_answered(life.disk, MIGBUF_OUTCOME_DONE);
}

static int answer(const struct migbuf_disk_command *c, int honest)
{
    int looks = c->kind == MIGBUF_DISK_QUERY || c->kind == MIGBUF_DISK_STATUS;

    carry_out_late();
    tell("  -> %s %.200s", c->name, c->arguments ? c->arguments : "");
    ck_life(!life.limits_unknown || c->kind == MIGBUF_DISK_QUERY, "%s, and nobody knows what is in force", c->name);
    ck_life(!life.guest_unknown || looks, "%s, and nobody knows whether it stands", c->name);
    ck_life(c->kind != MIGBUF_DISK_CONT || life.guest == RUNS, "cont, which nobody decided");
    ck_life(c->kind != MIGBUF_DISK_STOP || life.guest == STANDS, "stop, which nobody decided");
    if (!honest && (int)draw(100) < life.loses) {
        int fate = (int)draw(3); /* carried out now, later, never */

        tell(": no answer (%d)\n", fate);
        if (!looks && fate == 0)
            model_execute(&life.q, c->name, c->arguments);
        if (!looks && fate == 1) {
            life.late_waits = 1;
            snprintf(life.late_name, sizeof life.late_name, "%s", c->name);
            snprintf(life.late_arguments, sizeof life.late_arguments, "%s", c->arguments ? c->arguments : "");
        }
        if (c->kind == MIGBUF_DISK_STOP || c->kind == MIGBUF_DISK_CONT)
            life.guest_unknown = 1;
        else if (!looks)
            life.limits_unknown = 1;
        return migbuf_disk_answered(life.disk, MIGBUF_OUTCOME_UNKNOWN);
    }
    if (!honest && (int)draw(100) < life.refuses) {
        tell(": refused\n");
        return migbuf_disk_answered(life.disk, MIGBUF_OUTCOME_REFUSED);
    }
    tell("\n");
    if (c->kind == MIGBUF_DISK_QUERY)
        return answer_query();
    if (c->kind == MIGBUF_DISK_STATUS)
        return answer_status();
    if (model_execute(&life.q, c->name, c->arguments)) {
        tell("     QEMU: %s\n", life.q.complaint);
        ck_life(c->kind != MIGBUF_DISK_THROTTLE || strcmp(life.q.complaint, "Device not found") == 0,
                "QEMU would refuse %s: %s", c->arguments, life.q.complaint);
        return migbuf_disk_answered(life.disk, MIGBUF_OUTCOME_REFUSED);
    }
    return migbuf_disk_answered(life.disk, MIGBUF_OUTCOME_DONE);
}

/* A host that keeps its text as the header asks. */
static void save_when_told(void)
{
    struct migbuf_disk_info info = { .size = sizeof info };

    ck_assert_int_eq(migbuf_disk_info(life.disk, &info), 0);
    if (life.text_bytes && info.text_revision == life.revision)
        return;
    if (migbuf_disk_save(life.disk, life.text, sizeof life.text, &life.text_bytes)) {
        life.text_bytes = 0;
        return;
    }
    life.revision = info.text_revision;
}

static void die_and_load(void)
{
    struct migbuf_disk_info info = { .size = sizeof info };

    if (!life.text_bytes)
        return;
    tell(" dies, is loaded\n");
    carry_out_late();
    life.limits_unknown = life.guest_unknown = 0; /* who is loaded looks, or has nothing to send */
    migbuf_disk_free(life.disk);
    life.disk = NULL;
    ck_life(migbuf_disk_load(life.text, life.text_bytes, NULL, &life.disk) == 0, "load");
    ck_assert_int_eq(migbuf_disk_info(life.disk, &info), 0);
    life.revision = info.text_revision;
    life.guest = AS_IT_IS;
}

/* `deaths`: may it die between two commands? */
static void pump(int honest, int deaths)
{
    struct migbuf_disk_command c;
    int commands = 0;

    for (;;) {
        save_when_told();
        if (migbuf_disk_next(life.disk, &c) != 1)
            break;
        ck_life(++commands < 100, "no end of commands");
        answer(&c, honest);
        if (deaths && life.text_bytes && draw(40) == 0) {
            die_and_load();
            return;
        }
    }
    save_when_told();
}

/* What the machine says is in force is in force. */
static void check_promises(void)
{
    struct migbuf_disk_info info = { .size = sizeof info };
    uint64_t iops = 0, bps = 0;
    int there = 0;

    ck_assert_int_eq(migbuf_disk_info(life.disk, &info), 0);
    if (!info.throttled || life.late_waits)
        return;
    for (int k = 0; k < life.watched; k++) {
        struct migbuf_throttle_config shown = model_shown(&life.q, k);

        if (!life.q.device[k].there)
            continue;
        there++;
        if (life.typed) {
            ck_life(!info.limits.iops_wr || shown.iops_wr, "disk %d has no limit", k);
            iops += shown.iops_wr;
            bps += shown.bps_wr;
            continue;
        }
        ck_life(!strcmp(shown.group, OURS), "said to be throttled, and disk %d is in group '%s'", k, shown.group);
        ck_life(!info.limits.iops_wr || (shown.iops_wr && shown.iops_wr <= info.limits.iops_wr),
                "said to be throttled to %llu, and disk %d has %llu", (unsigned long long)info.limits.iops_wr, k,
                (unsigned long long)shown.iops_wr);
        ck_life(!info.limits.bps_wr || (shown.bps_wr && shown.bps_wr <= info.limits.bps_wr), "bytes of disk %d", k);
    }
    if (life.typed && there == life.watched)
        ck_life(iops <= info.limits.iops_wr && bps <= info.limits.bps_wr, "the parts are more than the whole");
}

/* Other hands */

static int in_ours(int device)
{
    struct migbuf_throttle_config shown = model_shown(&life.q, device);

    return !life.typed && !strcmp(shown.group, OURS);
}

static int there_and_watched(void)
{
    int n = 0;

    for (int k = 0; k < life.watched; k++)
        n += life.q.device[k].there;
    return n;
}

/* Everybody who belongs to a group has what was set on it last, as long as somebody is in it. */
static void note_group(const char *group, const struct migbuf_throttle_config *config, int in_force)
{
    for (int k = 0; k < life.q.devices; k++)
        if (*group && !strcmp(life.host[k].group, group)) {
            life.or_else[k] = *config;
            snprintf(life.or_else[k].group, sizeof life.or_else[k].group, "%s", group);
            if (in_force || k < life.watched)
                life.host[k] = life.or_else[k];
        }
}

/* The host looks at once, as it does before each tick: what it does not see in time it cannot give back. */
static void look(void)
{
    ck_assert_int_eq(migbuf_disk_learn(life.disk), 0);
    pump(1, 0);
}

/* `looks`: the host looks afterwards; else whoever restores has to. */
static void other_hand_sets(int looks)
{
    int device = (int)draw((uint32_t)life.q.devices), was_in_ours;
    struct migbuf_throttle_config c = draw_host(), shown;
    const char *group = !life.typed && draw(3) == 0 ? "shared" : NULL;

    if (!life.q.device[device].there || !life.text_bytes)
        return;
    look(); /* a disk that is gone, or a load: else nobody could tell whose limits are found */
    carry_out_late();
    was_in_ours = in_ours(device);
    if (was_in_ours && !group && !is_nothing(&c) && there_and_watched() > 1) {
        /* nobody can tell whose: the host says it, and sets nothing */
        snprintf(c.group, sizeof c.group, "%s", life.q.device[device].qdev);
        look();
        tell(" the host tells limits of device %d\n", device);
        ck_assert_int_eq(migbuf_disk_tell_host_limits(life.disk, life.q.device[device].node[0] == 's' ? life.q.device[device].node + 5 : life.q.device[device].node, &c), 0);
        life.host[device] = life.or_else[device] = c;
        save_when_told();
        return;
    }
    tell(" another hand sets device %d, group %s, bps_wr %llu iops %llu\n", device, group ? group : "(none)",
         (unsigned long long)c.bps_wr, (unsigned long long)c.iops);
    ck_assert_int_eq(model_set(&life.q, device, &c, group), 0);
    shown = model_shown(&life.q, device);
    was_in_ours = in_ours(device);
    if (was_in_ours) {
        const char *back = life.host[device].group[0] ? life.host[device].group : life.q.device[device].qdev;

        snprintf(shown.group, sizeof shown.group, "%s", back);
    }
    life.host[device] = life.or_else[device] = shown;
    note_group(shown.group, &shown, !was_in_ours);
    if (looks)
        look();
}

static void other_hand_sets_object(void)
{
    struct migbuf_throttle_config c = draw_host(), shown, before = { 0 };
    int members = 0;

    if (life.typed || !life.text_bytes)
        return;
    for (int k = 0; k < life.q.devices; k++) {
        shown = model_shown(&life.q, k);
        if (life.q.device[k].there && !strcmp(shown.group, "shared")) {
            members++;
            before = shown;
        }
    }
    snprintf(c.group, sizeof c.group, "shared");
    if (!members || same(&c, &before)) /* nobody would see it */
        return;
    carry_out_late();
    if (model_object_set(&life.q, "shared", &c))
        return;
    tell(" another hand sets the object\n");
    for (int k = 0; k < life.q.devices; k++) {
        shown = model_shown(&life.q, k);
        if (life.q.device[k].there && !strcmp(shown.group, "shared"))
            note_group("shared", &shown, 1);
    }
    look();
}

static void unplug(void)
{
    int device = (int)draw((uint32_t)life.watched);

    if (!life.q.device[device].there || !life.text_bytes)
        return;
    carry_out_late();
    tell(" device %d is unplugged\n", device);
    model_unplug(&life.q, device);
}

static void plug(void)
{
    for (int k = 0; k < life.watched; k++)
        if (!life.q.device[k].there) {
            struct migbuf_throttle_config c = draw_host();

            look(); /* that it was gone has been seen */
            tell(" device %d is plugged in again\n", k);
            life.q.device[k].there = 1;
            life.q.device[k].group = -1;
            snprintf(life.q.device[k].node, sizeof life.q.device[k].node, "node-%d", k);
            model_set(&life.q, k, &c, NULL);
            life.host[k] = life.or_else[k] = model_shown(&life.q, k);
            look();
            return;
        }
}

static void snapshot(void)
{
    int device = (int)draw((uint32_t)life.watched);

    if (life.text_bytes && life.q.device[device].there)
        snprintf(life.q.device[device].node, sizeof life.q.device[device].node, "snap-node-%d", device);
}

static void administrator_stops_or_starts(void)
{
    struct migbuf_disk_info info = { .size = sizeof info };

    carry_out_late();
    ck_assert_int_eq(migbuf_disk_info(life.disk, &info), 0);
    if (life.guest == STANDS || info.stopped) /* it stands already, and whose stop it is nobody could tell */
        return;
    life.host_stopped = !life.host_stopped;
    life.q.running = !life.host_stopped;
    snprintf(life.q.status, sizeof life.q.status, "paused");
    tell(" an administrator %s\n", life.host_stopped ? "stops it" : "lets it run");
    look();
}

/* The loop */

static void decide(void)
{
    static const int32_t actions[] = { MIGBUF_ACTION_LOWER, MIGBUF_ACTION_RAISE, MIGBUF_ACTION_RESUME,
                                       MIGBUF_ACTION_REARM, MIGBUF_ACTION_PAUSE,  MIGBUF_ACTION_KEEP };
    struct migbuf_decision d = { .action = actions[draw(6)] };
    int rc, before = life.guest;

    if (d.action == MIGBUF_ACTION_PAUSE && life.host_stopped)
        return;
    if (d.action == MIGBUF_ACTION_LOWER || d.action == MIGBUF_ACTION_RAISE || d.action == MIGBUF_ACTION_RESUME) {
        d.limits.iops_wr = 1 + draw(2000);
        if (life.typed || draw(5) == 0)
            d.limits.bps_wr = 1 + draw(1000000);
        else
            d.limits.iops_size = 65536;
    }
    tell(" decision %s, %llu\n", migbuf_action_text(d.action), (unsigned long long)d.limits.iops_wr);
    rc = migbuf_disk_apply(life.disk, &d);
    ck_life(rc == 0 || rc == MIGBUF_E_STATE, "apply: %d", rc);
    if (rc)
        return;
    if (d.action != MIGBUF_ACTION_KEEP)
        life.guest = d.action == MIGBUF_ACTION_PAUSE ||
                             (life.typed && d.limits.iops_wr && (d.limits.iops_wr < (uint64_t)life.watched ||
                                                                 d.limits.bps_wr < (uint64_t)life.watched))
                         ? STANDS
                         : RUNS;
    pump(0, 1);
    if (migbuf_disk_outcome(life.disk) == MIGBUF_OUTCOME_REFUSED)
        life.guest = before;
    if (migbuf_disk_outcome(life.disk) == MIGBUF_OUTCOME_DONE && life.guest == STANDS && !life.late_waits)
        ck_life(!life.q.running, "said to stand, and runs");
    check_promises();
}

static void end_life(void)
{
    struct migbuf_disk_info info = { .size = sizeof info };

    carry_out_late();
    if (draw(4) == 0)
        other_hand_sets(0);
    for (int tries = 0; tries < 5 && !info.restored; tries++) {
        tell(" restore\n");
        life.guest = RUNS;
        if (migbuf_disk_restore(life.disk) == MIGBUF_E_STATE)
            migbuf_disk_learn(life.disk);
        pump(1, 0);
        ck_assert_int_eq(migbuf_disk_info(life.disk, &info), 0);
    }
    ck_life(info.restored, "not restored in five tries: failed %d unknown %d learnt %d gone %d", info.failed, info.unknown,
            info.learnt, info.gone);
    for (int k = 0; k < life.q.devices; k++) {
        struct migbuf_throttle_config shown = model_shown(&life.q, k);

        ck_life(!life.q.device[k].there || same(&shown, &life.host[k]) || same(&shown, &life.or_else[k]),
                "device %d (watched: %d) has bps %llu/%llu/%llu iops %llu/%llu/%llu size %llu group '%s', not "
                "bps %llu/%llu/%llu iops %llu/%llu/%llu size %llu group '%s'",
                k, life.watched, (unsigned long long)shown.bps, (unsigned long long)shown.bps_rd,
                (unsigned long long)shown.bps_wr, (unsigned long long)shown.iops, (unsigned long long)shown.iops_rd,
                (unsigned long long)shown.iops_wr, (unsigned long long)shown.iops_size, shown.group,
                (unsigned long long)life.host[k].bps, (unsigned long long)life.host[k].bps_rd,
                (unsigned long long)life.host[k].bps_wr, (unsigned long long)life.host[k].iops,
                (unsigned long long)life.host[k].iops_rd, (unsigned long long)life.host[k].iops_wr,
                (unsigned long long)life.host[k].iops_size, life.host[k].group);
    }
    ck_life(!model_group_exists(&life.q, OURS), "our group is left");
    ck_life(life.q.running == !life.host_stopped, "the guest %s", life.q.running ? "runs" : "stands");
    migbuf_disk_free(life.disk);
}

static void live(uint64_t seed)
{
    int steps;

    begin_life(seed);
    ck_assert_int_eq(migbuf_disk_new(OURS, NULL, &life.disk), 0);
    if (life.typed)
        ck_assert_int_eq(migbuf_disk_six_rates(life.disk), 0);
    for (int k = 0; k < life.watched; k++)
        ck_assert_int_eq(migbuf_disk_watch(life.disk, life.q.device[k].node), 0);
    ck_assert_int_eq(migbuf_disk_learn(life.disk), 0);
    pump(1, 0);
    steps = (int)draw(14);
    for (int k = 0; k < steps; k++)
        switch (draw(12)) {
        case 0:
            other_hand_sets(1);
            break;
        case 1:
            other_hand_sets_object();
            break;
        case 2:
            unplug();
            break;
        case 3:
            plug();
            break;
        case 4:
            snapshot();
            break;
        case 5:
            die_and_load();
            break;
        case 6:
            administrator_stops_or_starts();
            break;
        case 7:
            ck_assert_int_eq(migbuf_disk_learn(life.disk), 0);
            tell(" learn\n");
            pump(0, 1);
            check_promises();
            break;
        default:
            decide();
            break;
        }
    end_life();
}

#ifndef MIGBUF_FUZZ /* tests/fuzz drives live() itself */
static uint64_t number_from(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);

    return text ? strtoull(text, NULL, 10) : otherwise;
}

START_TEST(the_hosts_limits_always_come_back)
{
    uint64_t first = number_from("MIGBUF_TEST_SEED", 1), lives = number_from("MIGBUF_TEST_LIVES", (uint64_t)unit_rounds(30000));

    for (uint64_t seed = first; seed < first + lives; seed++)
        live(seed);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = { the_hosts_limits_always_come_back, NULL };

    return unit_run("disk_model", tests, 0);
}
#endif
