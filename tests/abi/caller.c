/* SPDX-License-Identifier: MIT */
/*
 * A host as it was compiled once: every struct that may grow, taken and given, with a fence behind each. grow.sh compiles
 * it with the headers of today and with those of tomorrow (each such struct has one more field, `tomorrow`), and runs both
 * with both libraries. What it prints has to be the same in all four.
 */
#include "migbuf/migbuf.h"
#include "migbuf/lxd.h"
#include "migbuf/mirror.h"
#include "migbuf/qmp.h"
#include "migbuf/ram.h"
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define FENCE 0xA5

#define REQUIRE(what)                                                                                                   \
    do {                                                                                                                \
        if (!(what)) {                                                                                                  \
            printf("line %d: %s\n", __LINE__, #what);                                                                   \
            exit(1);                                                                                                    \
        }                                                                                                               \
    } while (0)

/* A variable with 64 bytes behind it that nobody may touch. */
#define FENCED(type, name)                                                                                              \
    struct {                                                                                                            \
        type it;                                                                                                        \
        unsigned char fence[64];                                                                                        \
    } name;                                                                                                             \
    memset(&name, FENCE, sizeof name)

static void whole(const unsigned char *fence)
{
    for (int i = 0; i < 64; i++)
        REQUIRE(fence[i] == FENCE);
}

/* With tomorrow's headers: works as long as the new field is 0, then says so. */
#ifdef TOMORROW
#define NEW_FIELD_IS_NAMED(record, call)                                                                                \
    do {                                                                                                                \
        (record).tomorrow = 1;                                                                                          \
        REQUIRE((call) == (knows_tomorrow ? 0 : MIGBUF_E_STRUCT));                                                      \
        (record).tomorrow = 0;                                                                                          \
    } while (0)
#define NEW_FIELD_READS_0(record) REQUIRE((record).tomorrow == 0)
#else
#define NEW_FIELD_IS_NAMED(record, call) (void)knows_tomorrow
#define NEW_FIELD_READS_0(record) (void)knows_tomorrow
#endif

static int knows_tomorrow;

static struct migbuf_buffer *new_buffer(void)
{
    FENCED(struct migbuf_buffer_options, o);
    struct migbuf_buffer *b = NULL;

    REQUIRE(migbuf_buffer_options_init(&o.it, sizeof o.it) == 0 && o.it.size == sizeof o.it);
    whole(o.fence);
    NEW_FIELD_READS_0(o.it);
    printf("options %d %u %u %" PRIu64 "\n", o.it.policy, o.it.interval_ms, o.it.late_factor_percent,
           o.it.floor_bytes_per_s);
    o.it.hysteresis_percent = 5;
    NEW_FIELD_IS_NAMED(o.it, (migbuf_buffer_free(b), b = NULL, migbuf_buffer_new(UINT64_C(10) << 30, &o.it, NULL, &b)));
    migbuf_buffer_free(b);
    REQUIRE(migbuf_buffer_new(UINT64_C(10) << 30, &o.it, NULL, &b) == 0);
    whole(o.fence);
    return b;
}

static void add(struct migbuf_buffer *b)
{
    const struct migbuf_geometry disk = { .virtual_bytes = UINT64_C(20) << 30, .cluster_bytes = 65536,
                                          .subcluster_bytes = 65536, .request_bytes = 65536 };
    FENCED(struct migbuf_migration, m);

    REQUIRE(migbuf_migration_init(&m.it, sizeof m.it) == 0 && m.it.size == sizeof m.it && m.it.weight == 100);
    whole(m.fence);
    NEW_FIELD_READS_0(m.it);
    m.it.id = 7;
    NEW_FIELD_IS_NAMED(m.it, migbuf_buffer_add(b, &m.it, &disk, 1, NULL));
    if (knows_tomorrow)
        (void)migbuf_buffer_remove(b, 7);
    REQUIRE(migbuf_buffer_add(b, &m.it, &disk, 1, NULL) == 0);
    whole(m.fence);
}

static void ask(struct migbuf_buffer *b)
{
    struct migbuf_geometry disk;
    struct migbuf_migration m;
    struct migbuf_waiting w;
    FENCED(struct migbuf_outlook_mirror, mirror);
    FENCED(struct migbuf_outlook, o);

    REQUIRE(migbuf_geometry_init(&disk, UINT64_C(20) << 30) == 0 && migbuf_migration_init(&m, sizeof m) == 0);
    m.id = 8;
    REQUIRE(migbuf_admission_waiting(b, &m, &disk, 1, &w) == 0);
    mirror.it = (struct migbuf_outlook_mirror){ .size = sizeof mirror.it, .link_bytes_per_s = 1e8, .background = 1 };
    o.it.size = sizeof o.it;
    NEW_FIELD_IS_NAMED(mirror.it, migbuf_outlook_mirrored(b, &w, 0, &mirror.it, &o.it));
    REQUIRE(migbuf_outlook_mirrored(b, &w, 0, &mirror.it, &o.it) == 0 && o.it.size == sizeof o.it);
    whole(mirror.fence);
    whole(o.fence);
    printf("mirrored %.17g %d\n", o.it.finish_s, o.it.mirror);
}

static void look(struct migbuf_buffer *b)
{
    struct migbuf_decision d;
    FENCED(struct migbuf_buffer_view, v);
    FENCED(struct migbuf_buffer_stats, s);
    FENCED(struct migbuf_bins_view, bins);
    FENCED(struct migbuf_outlook, o);

    REQUIRE(migbuf_buffer_tick(b, 1000, &d, 1) == 1);
    printf("decision %d %d %" PRIu64 "\n", d.action, d.reason, d.growth_bytes_per_s);
    v.it.size = sizeof v.it;
    s.it.size = sizeof s.it;
    bins.it.size = sizeof bins.it;
    o.it.size = sizeof o.it;
    REQUIRE(migbuf_buffer_view(b, 7, &v.it) == 0 && v.it.size == sizeof v.it);
    REQUIRE(migbuf_buffer_stats(b, &s.it) == 0 && s.it.size == sizeof s.it);
    REQUIRE(migbuf_bins_view(migbuf_buffer_bins(b), 7, &bins.it) == 0 && bins.it.size == sizeof bins.it);
    whole(v.fence);
    whole(s.fence);
    REQUIRE(migbuf_outlook_running(b, 7, &o.it) == 0 && o.it.size == sizeof o.it);
    whole(bins.fence);
    whole(o.fence);
    NEW_FIELD_READS_0(v.it);
    NEW_FIELD_READS_0(s.it);
    NEW_FIELD_READS_0(bins.it);
    NEW_FIELD_READS_0(o.it);
    printf("view %.17g %" PRIu64 " %d\n", v.it.curve, v.it.claim_bytes, v.it.reason);
    printf("stats %" PRIu64 " %" PRIu64 " %.17g\n", s.it.capacity_bytes, s.it.ticks, s.it.level);
    printf("bins %" PRIu64 " %.17g %u\n", bins.it.share_bytes, bins.it.priority, bins.it.shards);
    printf("outlook %.17g %.17g %d\n", o.it.finish_s, o.it.peak_bytes, o.it.mirror);
    s.it.size = 8;
    REQUIRE(migbuf_buffer_stats(b, &s.it) == MIGBUF_E_STRUCT);
}

static void rate(void)
{
    FENCED(struct migbuf_throttle_constants, c);
    double h = 0;

    REQUIRE(migbuf_throttle_constants_init(&c.it, sizeof c.it) == 0);
    whole(c.fence);
    NEW_FIELD_READS_0(c.it);
    NEW_FIELD_IS_NAMED(c.it, migbuf_throttle_rate(100e6, 40e6, 1, &c.it, &h));
    REQUIRE(migbuf_throttle_rate(100e6, 40e6, 1, &c.it, &h) == 0);
    REQUIRE(migbuf_throttle_constants_init(&c.it, 8) == MIGBUF_E_STRUCT);
    printf("rate %.17g\n", h);
}

static void plan(void)
{
    const struct migbuf_planner_link link = { .bytes_per_s = 1e8, .flow_bytes_per_s = 1e8 };
    const struct migbuf_planner_guest guest = { .id = 1, .weight = 1, .left_bytes = 1e9, .remaining = 1e9,
                                                .growth_ratio = 1, .rate = 1e6, .peak = 1e6 };
    struct migbuf_planner_slot scratch[2];
    struct migbuf_planner_plan p;
    FENCED(struct migbuf_planner_options, o);

    REQUIRE(migbuf_planner_options_init(&o.it, sizeof o.it) == 0);
    whole(o.fence);
    NEW_FIELD_READS_0(o.it);
    o.it.capacity_bytes = 1e10;
    NEW_FIELD_IS_NAMED(o.it, migbuf_planner_tick(&o.it, &link, 1, &guest, 1, scratch, &p));
    REQUIRE(migbuf_planner_tick(&o.it, &link, 1, &guest, 1, scratch, &p) == 0);
    printf("plan %.17g\n", p.finish_s);
}

static void dump(void)
{
    uint64_t raw = 0;
    FENCED(struct migbuf_state, s);

    REQUIRE(migbuf_state_init(&s.it, sizeof s.it) == 0);
    whole(s.fence);
    NEW_FIELD_READS_0(s.it);
    s.it.memory_bytes = 1 << 30;
    NEW_FIELD_IS_NAMED(s.it, migbuf_state_bound(&s.it, &raw, NULL));
    REQUIRE(migbuf_state_bound(&s.it, &raw, NULL) == 0);
    printf("dump %" PRIu64 "\n", raw);
}

static void throttle(void)
{
    struct migbuf_disk *d;
    FENCED(struct migbuf_disk_info, info);

    REQUIRE(migbuf_disk_new("g", NULL, &d) == 0);
    info.it.size = sizeof info.it;
    REQUIRE(migbuf_disk_info(d, &info.it) == 0 && info.it.size == sizeof info.it);
    whole(info.fence);
    NEW_FIELD_READS_0(info.it);
    printf("disk %d %d\n", info.it.learnt, info.it.restored);
    migbuf_disk_free(d);
}

/* The memory phase. */
static void memory(void)
{
    struct migbuf_ram *r = NULL;
    FENCED(struct migbuf_convergence, c);
    FENCED(struct migbuf_agreement, a);
    FENCED(struct migbuf_ram_forecast, f);
    FENCED(struct migbuf_prior, p);
    FENCED(struct migbuf_ram_options, o);
    FENCED(struct migbuf_ram_info, info);

    REQUIRE(migbuf_convergence_init(&c.it, sizeof c.it) == 0);
    REQUIRE(migbuf_agreement_init(&a.it, sizeof a.it) == 0);
    REQUIRE(migbuf_prior_init(&p.it, sizeof p.it, UINT64_C(1) << 30) == 0);
    REQUIRE(migbuf_ram_options_init(&o.it, sizeof o.it) == 0);
    c.it.left_bytes = c.it.ram_bytes = 4e9;
    c.it.link_bytes_per_s = 117e6;
    c.it.rate_bytes_per_s = 58.5e6;
    f.it.size = sizeof f.it;
    REQUIRE(migbuf_convergence_forecast(&c.it, &a.it, &f.it) == 0 && f.it.size == sizeof f.it);
    NEW_FIELD_IS_NAMED(c.it, migbuf_convergence_forecast(&c.it, &a.it, &f.it));
    NEW_FIELD_IS_NAMED(a.it, migbuf_agreement_check(&a.it));
    REQUIRE(migbuf_history_prior("", 0, 0, &p.it, &p.it) == 0);
    NEW_FIELD_IS_NAMED(p.it, migbuf_history_prior("", 0, 0, &p.it, &p.it));
    NEW_FIELD_IS_NAMED(o.it, (migbuf_ram_free(r), r = NULL, migbuf_ram_new(&a.it, &o.it, NULL, &r)));
    migbuf_ram_free(r);
    REQUIRE(migbuf_ram_new(&a.it, &o.it, NULL, &r) == 0);
    info.it.size = sizeof info.it;
    REQUIRE(migbuf_ram_info(r, &info.it) == 0 && info.it.size == sizeof info.it);
    migbuf_ram_free(r);
    whole(c.fence);
    whole(a.fence);
    whole(f.fence);
    whole(p.fence);
    whole(o.fence);
    whole(info.fence);
    NEW_FIELD_READS_0(f.it);
    NEW_FIELD_READS_0(p.it);
    NEW_FIELD_READS_0(info.it);
    printf("memory %.17g %.17g %u\n", f.it.end_s, p.it.success, o.it.fix_ms);
}

static void mirrored(void)
{
    struct migbuf_mirror *m = NULL;
    FENCED(struct migbuf_mirror_options, o);
    FENCED(struct migbuf_mirror_info, info);

    REQUIRE(migbuf_mirror_options_init(&o.it, sizeof o.it) == 0);
    whole(o.fence);
    NEW_FIELD_READS_0(o.it);
    NEW_FIELD_IS_NAMED(o.it, (migbuf_mirror_free(m), m = NULL, migbuf_mirror_new("j", "d", "t", &o.it, NULL, &m)));
    migbuf_mirror_free(m);
    REQUIRE(migbuf_mirror_new("j", "d", "t", &o.it, NULL, &m) == 0);
    info.it.size = sizeof info.it;
    REQUIRE(migbuf_mirror_info(m, &info.it) == 0 && info.it.size == sizeof info.it);
    whole(info.fence);
    NEW_FIELD_READS_0(info.it);
    printf("mirror %d %g\n", info.it.state, info.it.hold_bytes_per_s);
    migbuf_mirror_free(m);
}

static void monitor(void)
{
    struct migbuf_qmp *q = NULL;
    FENCED(struct migbuf_qmp_options, o);

    REQUIRE(migbuf_qmp_options_init(&o.it, sizeof o.it) == 0);
    whole(o.fence);
    NEW_FIELD_READS_0(o.it);
    NEW_FIELD_IS_NAMED(o.it, migbuf_qmp_new(&o.it, NULL, &q));
    migbuf_qmp_free(q);
    REQUIRE(migbuf_qmp_new(&o.it, NULL, &q) == 0);
    printf("qmp %" PRIu64 "\n", o.it.max_events);
    migbuf_qmp_free(q);
}

/* A server that says what it is, and nothing else, until its parent leaves. */
static void serve(int listener)
{
    static const char body[] = "{\"type\":\"sync\",\"metadata\":{\"auth\":\"trusted\",\"api_extensions\":[],"
                               "\"environment\":{\"server\":\"lxd\",\"server_version\":\"5\",\"server_name\":\"h\"}}}";
    char text[4096];

    for (int fd = accept(listener, NULL, NULL); fd >= 0; fd = accept(listener, NULL, NULL)) {
        while (recv(fd, text, sizeof text, 0) > 0) {
            int n = snprintf(text, sizeof text, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n%s", sizeof body - 1, body);

            if (send(fd, text, (size_t)n, MSG_NOSIGNAL) != n)
                break;
        }
        close(fd);
    }
    _exit(0);
}

static void server(void)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    char directory[] = "/tmp/migbuf-abi-XXXXXX";
    struct migbuf_lxd *lxd = NULL;
    FENCED(struct migbuf_lxd_options, o);
    FENCED(struct migbuf_lxd_server, s);
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    pid_t child;

    REQUIRE(mkdtemp(directory));
    snprintf(a.sun_path, sizeof a.sun_path, "%s/s", directory);
    REQUIRE(bind(listener, (struct sockaddr *)&a, sizeof a) == 0 && listen(listener, 4) == 0);
    child = fork();
    if (child == 0)
        serve(listener);
    close(listener);
    REQUIRE(migbuf_lxd_options_init(&o.it, sizeof o.it) == 0);
    whole(o.fence);
    NEW_FIELD_READS_0(o.it);
    NEW_FIELD_IS_NAMED(o.it, (migbuf_lxd_free(lxd), lxd = NULL, migbuf_lxd_open(a.sun_path, &o.it, NULL, 5000, &lxd, NULL)));
    migbuf_lxd_free(lxd);
    REQUIRE(migbuf_lxd_open(a.sun_path, &o.it, NULL, 5000, &lxd, NULL) == 0);
    s.it.size = sizeof s.it;
    REQUIRE(migbuf_lxd_server(lxd, 5000, &s.it, NULL) == 0 && s.it.size == sizeof s.it);
    whole(s.fence);
    NEW_FIELD_READS_0(s.it);
    printf("server %d %s %s\n", s.it.kind, s.it.version, s.it.name);
    migbuf_lxd_free(lxd);
    kill(child, 9);
    waitpid(child, NULL, 0);
    unlink(a.sun_path);
    rmdir(directory);
}

int main(int argc, char **argv)
{
    struct migbuf_buffer *b;

    knows_tomorrow = argc > 1 && strcmp(argv[1], "library-of-tomorrow") == 0;
    b = new_buffer();
    add(b);
    look(b);
    ask(b);
    migbuf_buffer_free(b);
    rate();
    plan();
    dump();
    throttle();
    memory();
    mirrored();
    monitor();
    server();
    return 0;
}
