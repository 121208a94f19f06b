/* SPDX-License-Identifier: MIT */
/*
 * Parts of examples/guard and of what it shares with examples/volume: test_guard_parts GUARD VOLUME. No server and no QEMU is
 * needed, but for what no real server says: names and words that would move a cursor.
 */
#include "guarded.h"
#include "metrics.h"
#include "past.h"
#include "server.h"
#include "tell.h"
#include "unit.h"
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define MIB (UINT64_C(1) << 20)

static const char *guard, *volume;

/* Every name has a file of its own, within the directory, and comes back from it. */
START_TEST(limits_are_kept_in_a_file_of_their_own)
{
    static const struct {
        const char *project, *vm, *file; /* file NULL: only the way back is looked at */
    } given[] = { { "default", "vm1", "default:vm1.limits" },
                  { "default", "../../etc/passwd", "default:..%2F..%2Fetc%2Fpasswd.limits" },
                  { "a:b", "c", "a%3Ab:c.limits" },
                  { "a", "b:c", "a:b%3Ac.limits" },
                  { "p q", "v%2F\n\xc3\xa9", "p%20q:v%252F%0A%C3%A9.limits" },
                  { ".", "..", ".:...limits" },
                  { "a", "b.limits", NULL } };
    static const char *const others[] = { "", ".", "..", ".limits", ":.limits", "a:.limits", ":b.limits", "a.limits", "a:b", "a:b.limits.new",
                                          "a:b/c.limits", "a:%2.limits", "a:%ZZ.limits", "a:%00.limits", "a:b c.limits", "a:b:c.limits" };
    char file[SAVED_NAME], project[MIGBUF_LXD_NAME], vm[MIGBUF_LXD_NAME], longest[MIGBUF_LXD_NAME];

    for (size_t k = 0; k < sizeof given / sizeof *given; k++) {
        saved_name(given[k].project, given[k].vm, file);
        ck_assert_str_eq(file, given[k].file ? given[k].file : file);
        ck_assert(!strchr(file, '/') && saved_whose(file, project, vm));
        ck_assert_str_eq(project, given[k].project);
        ck_assert_str_eq(vm, given[k].vm);
    }
    memset(longest, '/', sizeof longest);
    longest[sizeof longest - 1] = 0;
    saved_name(longest, longest, file);
    ck_assert(saved_whose(file, project, vm) && !strcmp(vm, longest) && !strcmp(project, longest));
    for (size_t k = 0; k < sizeof others / sizeof *others; k++)
        ck_assert_msg(!saved_whose(others[k], project, vm), "%s", others[k]);
}
END_TEST

START_TEST(names_lead_nowhere_else)
{
    ck_assert(server_is_file_name("vm1") && server_is_file_name("..a") && server_is_file_name("a.."));
    ck_assert(!server_is_file_name("") && !server_is_file_name(".") && !server_is_file_name(".."));
    ck_assert(!server_is_file_name("a/b") && !server_is_file_name("/") && !server_is_file_name("../x"));
}
END_TEST

/* What a peer says is one line, and moves nothing. */
START_TEST(what_is_told_is_one_line)
{
    char text[256] = "", part[PRINTABLE_SIZE], big[8192];
    FILE *f = fmemopen(text, sizeof text, "w");

    tell(f, "vm1: %s", "a\n\033[2Jb\xff");
    tell(f, "%s", "ok: \xc3\xb6");
    fclose(f);
    ck_assert_str_eq(text, "vm1: a\\x0a\\x1b[2Jb\\xff\nok: \xc3\xb6\n");
    ck_assert_str_eq(printable("p\r", part), "p\\x0d");
    memset(big, '\033', sizeof big);
    big[sizeof big - 1] = 0;
    ck_assert_uint_lt(strlen(printable(big, part)), PRINTABLE_SIZE);
    f = fopen("/dev/null", "w");
    tell(f, "%s", big);
    fclose(f);
}
END_TEST

/* A label of Prometheus' text ends with its quote and at no other place, and no name is cut off. */
START_TEST(names_become_labels)
{
    static struct guarded g = { .project = "p\"q\\", .name = "v\n\033x" }, longest;
    const struct guarded *vms[] = { &g, &longest };
    static char text[65536];
    static const struct totals totals = { .ended = { 7 }, .pauses = 2, .paused_ms = 1500, .not_given_back = 1 };
    size_t length;

    memset(longest.project, '"', sizeof longest.project - 1);
    memset(longest.name, '\n', sizeof longest.name - 1);
    length = metrics_text(text, sizeof text, vms, 2, true, 0, &totals);
    ck_assert(length < sizeof text && length == strlen(text));
    ck_assert_uint_eq(metrics_text(NULL, 0, vms, 2, true, 0, &totals), length);
    ck_assert_ptr_nonnull(strstr(text, "\nmigbuf_guard_paused{project=\"p\\\"q\\\\\",vm=\"v\\\\x0a\\\\x1bx\"} 0\n"));
    for (const char *line = text; *line; line = strchr(line, '\n') + 1)
        ck_assert_msg(*line == '#' || !strncmp(line, "migbuf_guard_", 13), "%.40s", line);
    ck_assert_int_eq(text[length - 1], '\n');
    ck_assert_ptr_nonnull(strstr(text, "\nmigbuf_guard_migrations_total{outcome=\"moved\"} 7\n"));
    ck_assert_ptr_nonnull(strstr(text, "\nmigbuf_guard_paused_seconds_total 1.500\n"));
}
END_TEST

/* ---- the root disk ---- */

#define STATS "\"stats\":{\"wr_bytes\":1}"
#define PLAIN "{\"qdev\":\"dev-incus_root--disk\",\"node-name\":\"incus_root--disk\"," STATS "}"
#define OTHER "{\"qdev\":\"dev-incus_data\",\"node-name\":\"incus_data\"," STATS "}"

static struct migbuf_lxd_names names_of(const char *device)
{
    struct migbuf_lxd_names names;

    ck_assert_int_eq(migbuf_lxd_names(MIGBUF_LXD_INCUS, device, &names), 0);
    return names;
}

START_TEST(the_root_disk_is_found_by_its_device)
{
    static const struct {
        const char *blockstats, *qdev, *top, *base;
        bool overlay;
    } given[] = {
        { "[" OTHER "," PLAIN "]", "dev-incus_root--disk", "incus_root--disk", "incus_root--disk", false },
        /* Whatever the overlay is called */
        { "[{\"qdev\":\"dev-incus_root--disk\",\"node-name\":\"o\",\"backing\":" PLAIN "}]", "dev-incus_root--disk", "o", "incus_root--disk", true },
        { "[{\"qdev\":\"/machine/peripheral/dev-incus_root--disk/virtio-backend\",\"node-name\":\"incus_root--disk_snap\","
          "\"backing\":{\"node-name\":\"incus_root--disk\"}}]",
          "/machine/peripheral/dev-incus_root--disk/virtio-backend", "incus_root--disk_snap", "incus_root--disk", true },
        /* Incus' own layers, after snapshots of a running VM on a qcow2 pool */
        { "[{\"qdev\":\"dev-incus_root--disk\",\"node-name\":\"incus_root--disk_overlay2\",\"backing\":{\"node-name\":\"incus_root--disk_overlay1\","
          "\"backing\":" PLAIN "}}]",
          "dev-incus_root--disk", "incus_root--disk_overlay2", "incus_root--disk", false },
        { "[{\"qdev\":\"dev-incus_root--disk\",\"node-name\":\"x\",\"backing\":{\"node-name\":\"incus_root--disk_overlay1\",\"backing\":" PLAIN "}}]",
          "dev-incus_root--disk", "x", "incus_root--disk", true },
        /* A node by no rule we know: it is the disk until another one is on it */
        { "[{\"qdev\":\"dev-incus_root--disk\",\"node-name\":\"n7\"}]", "dev-incus_root--disk", "n7", "n7", false },
    };
    static const char *const not_there[] = { "", "x", "{}", "[]", "[7]", "[{}]", "[" OTHER "]", "[{\"qdev\":\"\",\"node-name\":\"incus_root--disk\"}]",
                                             "[{\"qdev\":\"dev-incus_root--disk\"}]",
                                             "[{\"qdev\":\"dev-incus_root--disk\",\"node-name\":\"\"}]",
                                             "[{\"qdev\":\"dev-incus_root--disk2\",\"node-name\":\"incus_root--disk\"}]" };
    struct migbuf_lxd_names names = names_of("root-disk"), by_node = { .node = "lxd_root" };
    char qdev[512] = "-", top[64] = "-", base[64] = "-";

    for (size_t k = 0; k < sizeof given / sizeof *given; k++) {
        ck_assert_msg(guarded_find(given[k].blockstats, &names, qdev, top, base), "%s", given[k].blockstats);
        ck_assert_str_eq(qdev, given[k].qdev);
        ck_assert_str_eq(top, given[k].top);
        ck_assert_str_eq(base, given[k].base);
        ck_assert_int_eq(guarded_is_overlay(base, top), given[k].overlay);
    }
    strcpy(top, "-");
    for (size_t k = 0; k < sizeof not_there / sizeof *not_there; k++)
        ck_assert_msg(!guarded_find(not_there[k], &names, qdev, top, base) && !strcmp(top, "-"), "%s", not_there[k]);
    /* --node: by the chain alone */
    ck_assert(guarded_find("[" OTHER ",{\"qdev\":\"d\",\"node-name\":\"o\",\"backing\":{\"node-name\":\"lxd_root\"}}]", &by_node, qdev, top, base));
    ck_assert(!strcmp(qdev, "d") && !strcmp(top, "o") && !strcmp(base, "lxd_root"));
    ck_assert(!guarded_find("[" OTHER "," PLAIN "]", &by_node, qdev, top, base));

    ck_assert(guarded_is_overlay("a", "a_overlay") && guarded_is_overlay("a", "a_overlay1x") && guarded_is_overlay("a", "b_overlay1"));
    ck_assert(guarded_is_overlay("a", "") && guarded_is_overlay("ab", "a") && !guarded_is_overlay("a", "a_overlay12"));
}
END_TEST

/* A whole queue where there is room for it; half the volume for what the guest writes where there is not. */
START_TEST(a_drain_is_more_than_one_request)
{
    struct migbuf_geometry g = { .virtual_bytes = 1 };

    ck_assert(!guarded_figures("dev-lxd_root", 4096 * MIB, &g));
    ck_assert(g.request_bytes == 1310720 && g.queue_bytes >= 128 * g.request_bytes && g.queue_bytes < 256 * g.request_bytes);
    ck_assert(!guarded_figures("/machine/peripheral/dev-lxd_root/virtio-backend", 4096 * MIB, &g));
    ck_assert(g.request_bytes == 32 * 1310720 && g.queue_bytes >= 256 * UINT64_C(1310720));
    ck_assert(guarded_figures("dev-lxd_root", 400 * MIB, &g)); /* five drains in half of it */
    ck_assert(g.request_bytes == 1310720 && g.queue_bytes == 40 * MIB);
    ck_assert(guarded_figures("dev-lxd_root", 5 * MIB, &g) && g.queue_bytes == MIB / 2 && g.request_bytes == MIB / 2);
    ck_assert(guarded_figures("dev-lxd_root", 0, &g) && g.queue_bytes == 65536 && g.request_bytes == 65536);
    ck_assert_int_eq(migbuf_geometry_check(&g), 0);
}
END_TEST

/* ---- every tick ---- */

/* buffer.h: counters of before the overlay was there would be learnt as writes that grow nothing. */
START_TEST(counters_are_told_with_the_overlay)
{
    const struct migbuf_write_report writes = { .write_bytes = 4096, .write_operations = 3 };
    struct migbuf_sample s = guarded_sample(false, 0, &writes);

    ck_assert(s.id == 1 && !s.file_bytes && !s.written_bytes && !s.writes);
    s = guarded_sample(true, 196616, &writes);
    ck_assert(s.file_bytes == 196616 && s.written_bytes == 4096 && s.writes == 3);
}
END_TEST

/* An id of a history has 64 characters. Longer names stay two VMs, and what the guard writes is what migbuf-plan looks for. */
START_TEST(long_names_stay_two_vms)
{
    static const char project[] = "a-project-whose-name-takes-its-time-until-it-comes-to-an-end";
    static struct guarded g = { .disk_count = 1 };
    char first[PAST_ID], second[PAST_ID], shown[300];
    struct migbuf_attempt a;

    past_id("default", "vm1", first);
    ck_assert_str_eq(first, "vm1");
    past_id(project, "vm1", first); /* 64 */
    ck_assert_str_eq(first, "a-project-whose-name-takes-its-time-until-it-comes-to-an-end/vm1");
    past_id(project, "vm-1", first);
    past_id(project, "vm-2", second);
    ck_assert_uint_eq(strlen(first), 64);
    ck_assert(strcmp(first, second) && !strncmp(first, "a-project-whose-name-takes-its-time-until-it-co~", 48));
    past_name(project, "vm-1", shown);
    past_id("", shown, second);
    ck_assert_str_eq(first, second);
    strcpy(g.project, project);
    strcpy(g.name, "vm-1");
    guarded_attempt(&g, &a);
    ck_assert_str_eq(a.id, first);
    /* Between two characters of UTF-8, which an id is */
    past_id("", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\xc3\xb6 and much more than would ever fit there", first);
    ck_assert(!strncmp(first, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa~", 47) && strlen(first) == 63);
}
END_TEST

static struct migbuf_attempt attempt(const char *id, uint64_t at_s)
{
    struct migbuf_attempt a;

    migbuf_attempt_init(&a);
    strcpy(a.id, id);
    a.outcome = MIGBUF_ATTEMPT_MOVED;
    a.why = MIGBUF_ATTEMPT_DONE;
    a.phase = MIGBUF_ATTEMPT_TARGET;
    a.at_s = at_s;
    return a;
}

static size_t lines_in(const char *path)
{
    FILE *file = fopen(path, "r");
    size_t n = 0;

    ck_assert(file);
    for (int c; (c = fgetc(file)) != EOF;)
        n += c == '\n';
    fclose(file);
    return n;
}

/* It is still the file that an administrator made, where a link leads to it; what is no such file, or too large, stays as it is. */
START_TEST(a_history_stays_the_file_it_was)
{
    char directory[] = "/tmp/migbuf-past-XXXXXX", path[64], link_path[64], fresh[80], error[FAIL_SIZE] = "";
    struct migbuf_attempt a = attempt("vm1", 1), nobody = attempt("", 1);
    struct stat s;
    double rate;

    ck_assert(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/history", directory);
    snprintf(link_path, sizeof link_path, "%s/link", directory);
    snprintf(fresh, sizeof fresh, "%s.new", path);
    ck_assert_int_eq(symlink("history", link_path), 0);
    ck_assert_int_eq(past_append(link_path, &a, error), -1); /* it leads nowhere */
    ck_assert_msg(strstr(error, "No such file"), "%s", error);
    ck_assert_int_eq(past_append(path, &a, error), 0);
    ck_assert(!stat(path, &s) && (s.st_mode & 07777) == 0600);
    ck_assert_int_eq(chmod(path, 0644), 0);
    a.at_s = 2;
    ck_assert_int_eq(past_append(link_path, &a, error), 0);
    ck_assert(!lstat(link_path, &s) && S_ISLNK(s.st_mode));
    ck_assert(!stat(path, &s) && (s.st_mode & 07777) == 0644);
    ck_assert_uint_eq(lines_in(path), 2);
    ck_assert_int_eq(past_append(path, &nobody, error), -1);
    ck_assert(access(fresh, F_OK) && lines_in(path) == 2);

    ck_assert_int_eq(truncate(path, (32 << 20) + 1), 0);
    ck_assert_int_eq(past_append(path, &a, error), -1);
    ck_assert_msg(strstr(error, "more than 32 MiB"), "%s", error);
    ck_assert_int_eq(past_write_rate(path, "vm1", &rate, error), -1);
    ck_assert(!stat(path, &s) && s.st_size == (32 << 20) + 1 && access(fresh, F_OK));
    ck_assert_int_eq(unlink(path), 0);
    ck_assert_int_eq(mkfifo(path, 0600), 0);
    ck_assert_int_eq(past_append(path, &a, error), -1);
    ck_assert_msg(strstr(error, "not a regular file"), "%s", error);
    ck_assert(!lstat(path, &s) && S_ISFIFO(s.st_mode) && access(fresh, F_OK));
    ck_assert(!unlink(path) && !unlink(link_path) && !rmdir(directory));
}
END_TEST

/* Each replaces the whole file: no line of the other is lost. */
START_TEST(two_programs_write_one_history)
{
    char directory[] = "/tmp/migbuf-past-XXXXXX", path[64], error[FAIL_SIZE];
    int status;

    ck_assert(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/history", directory);
    for (int k = 0; k < 2; k++)
        if (!fork()) {
            for (uint64_t at_s = 1; at_s <= 20; at_s++) {
                struct migbuf_attempt a = attempt(k ? "vm2" : "vm1", at_s);

                if (past_append(path, &a, error))
                    _exit(1);
            }
            _exit(0);
        }
    for (int k = 0; k < 2; k++)
        ck_assert(wait(&status) > 0 && WIFEXITED(status) && !WEXITSTATUS(status));
    ck_assert_uint_eq(lines_in(path), 40);
    ck_assert(!unlink(path) && !rmdir(directory));
}
END_TEST

/* Counters of another QEMU, or of a disk that came again, are no difference. */
START_TEST(what_was_written_is_never_less_than_nothing)
{
    static struct guarded g = { .name = "vm1", .project = "default", .limit_bytes_per_s = UINT64_MAX };
    static const char *const words[] = { "\"written_bytes\":4096}", "\"written_bytes\":null}", "\"limit_bytes_per_s\":null,", "\"outcome\":\"unknown\"",
                                         "\nvm1: it has moved\n", "\nvm1: the server still has it, and it does not run: has it moved?\n" };
    char said[4096] = "";
    int out[2], status;
    pid_t pid;

    ck_assert_int_eq(pipe(out), 0);
    pid = fork();
    ck_assert_int_ge(pid, 0);
    if (!pid) {
        dup2(out[1], 1);
        g.written_last = 8192, g.written_first = 4096;
        told_end(true, &g, FATE_UNKNOWN, false, true);
        g.written_first = 8193;
        told_end(true, &g, FATE_UNKNOWN, false, true);
        g.gone = true;
        told_end(false, &g, FATE_MOVED, false, true);
        told_end(false, &g, FATE_UNKNOWN, true, true);
        _exit(0);
    }
    close(out[1]);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_gt(read(out[0], said, sizeof said - 1), 0);
    close(out[0]);
    for (size_t k = 0; k < sizeof words / sizeof *words; k++)
        ck_assert_msg(strstr(said, words[k]), "%s is not in %s", words[k], said);
}
END_TEST

/* ---- a QEMU that refuses to stop: no real one does ---- */

#define NODES                                                                                                            \
    "[{\"node-name\":\"o\",\"drv\":\"qcow2\",\"image\":{\"filename\":\"o\",\"format\":\"qcow2\",\"virtual-size\":268435456,\"actual-size\":"  \
    "104857600,\"cluster-size\":65536}}]"
#define BLOCKS                                                                                                           \
    "[{\"device\":\"\",\"qdev\":\"dev-incus_root\",\"inserted\":{\"node-name\":\"o\",\"drv\":\"qcow2\",\"file\":\"o\",\"bps\":0,\"bps_rd\":0,"    \
    "\"bps_wr\":0,\"iops\":0,\"iops_rd\":0,\"iops_wr\":0}}]"

/* What is asked, how it is answered, and how once a limit has been set (NULL: the same). */
static const struct reply {
    const char *command, *answer, *later;
} refusing[] = { { "\"stop\"", "\"error\":{\"class\":\"GenericError\",\"desc\":\"no\"}", NULL },
                { "\"query-blockstats\"", "\"return\":[{\"qdev\":\"dev-incus_root\",\"node-name\":\"o\",\"stats\":{\"wr_bytes\":7,"
                                         "\"wr_operations\":1,\"rd_bytes\":0,\"rd_operations\":0},\"backing\":{\"node-name\":\"incus_root\"}}]", NULL },
                { "\"query-named-block-nodes\"", "\"return\":" NODES, NULL },
                { "\"query-block\"", "\"return\":" BLOCKS, NULL },
                { "\"query-block-jobs\"", "\"return\":[]", NULL },
                { "\"query-status\"", "\"return\":{\"status\":\"running\",\"running\":true}", NULL },
                { "", "\"return\":{}", NULL } };

/* Takes one connection, in a process of its own; every line that it was sent goes to `log`. */
static pid_t serve_qmp(const struct reply *replies, const char *socket_path, int log)
{
    bool is_set = false;
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    char line[4096];
    pid_t pid;
    FILE *in;
    int fd;

    snprintf(a.sun_path, sizeof a.sun_path, "%.107s", socket_path);
    ck_assert(!bind(listener, (struct sockaddr *)&a, sizeof a) && !listen(listener, 4));
    pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid)
        return close(listener), pid;
    fd = accept(listener, NULL, NULL);
    in = fdopen(fd, "r");
    dprintf(fd, "{\"QMP\":{\"version\":{\"qemu\":{\"micro\":0,\"minor\":0,\"major\":10},\"package\":\"\"},\"capabilities\":[]}}\n");
    while (fgets(line, sizeof line, in)) {
        const char *id = NULL;
        size_t k = 0;

        for (const char *at = line; (at = strstr(at, "\"id\":")); at++) /* arguments may have one too */
            id = at;
        dprintf(log, "%s", line);
        is_set |= strstr(line, "block_set_io_throttle") != NULL;
        while (!strstr(line, replies[k].command))
            k++;
        if (id)
            dprintf(fd, "{%s,\"id\":%.*s}\n", is_set && replies[k].later ? replies[k].later : replies[k].answer, (int)strcspn(id + 5, ",}"), id + 5);
        else
            dprintf(fd, "{%s}\n", replies[k].answer);
    }
    _exit(0);
}

/* Its overlay is larger than its room, and it cannot be stopped: what was in force before is, and not the least limit, which is
 * for a guest that stands. */
START_TEST(a_stop_that_is_refused)
{
    static struct guarded g = { .name = "vm1", .project = "default", .disk_count = 1, .state_bytes = 64 * MIB, .seen = true };
    char directory[] = "/tmp/migbuf-parts-XXXXXX", log[64], said[65536] = "";
    pid_t pid;
    FILE *f;

    ck_assert_ptr_nonnull(mkdtemp(directory));
    snprintf(g.monitor, sizeof g.monitor, "%s/qmp", directory);
    snprintf(g.saved, sizeof g.saved, "%s/saved", directory);
    snprintf(log, sizeof log, "%s/log", directory);
    g.disks[0].names = names_of("root");
    f = fopen(log, "w+");
    setbuf(f, NULL);
    pid = serve_qmp(refusing, g.monitor, fileno(f));
    ck_assert_msg(!guarded_start(&g, 200), "%s", g.error);
    for (uint64_t ms = 1000; ms <= 2000; ms += 200)
        guarded_tick(&g, ms);
    rewind(f);
    said[fread(said, 1, sizeof said - 1, f)] = 0;
    ck_assert_msg(strstr(said, "\"stop\"") != NULL, "%s", said);
    ck_assert_msg(!strstr(said, "throttle"), "%s", said);
    ck_assert(!g.stopped);
    guarded_end(&g);
    fclose(f);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    unlink(g.monitor);
    unlink(g.saved);
    unlink(log);
    rmdir(directory);
}
END_TEST

/* ---- a guard that was killed, and a disk that it did not know ---- */

#define DISK(qdev, node, rates) \
    "{\"device\":\"\",\"qdev\":\"" qdev "\",\"inserted\":{\"node-name\":\"" node "\",\"drv\":\"raw\",\"file\":\"x\",\"bps\":0,\"bps_rd\":0," \
    "\"iops\":0,\"iops_rd\":0," rates "}}"
#define DATA DISK("dev-incus_data", "incus_data", "\"bps_wr\":0,\"iops_wr\":0")
#define COUNTERS(qdev, node) \
    "{\"qdev\":\"" qdev "\",\"node-name\":\"" node "\",\"stats\":{\"wr_bytes\":7,\"wr_operations\":1,\"rd_bytes\":0,\"rd_operations\":0}}"
#define NODE(name) "{\"node-name\":\"" name "\",\"drv\":\"raw\",\"image\":{\"filename\":\"x\",\"format\":\"raw\",\"virtual-size\":268435456}}"
#define OURS "\"bps_wr\":0,\"iops_wr\":5,\"iops_size\":65536,\"group\":\"migbuf-guard\""
#define OWN "\"bps_wr\":900000000,\"iops_wr\":0"

static const struct reply two_disks[] = {
    { "\"query-blockstats\"", "\"return\":[" COUNTERS("dev-incus_root", "incus_root") "," COUNTERS("dev-incus_data", "incus_data") "]", NULL },
    { "\"query-named-block-nodes\"", "\"return\":[" NODE("incus_root") "," NODE("incus_data") "]", NULL },
    { "\"query-block\"", "\"return\":[" DISK("dev-incus_root", "incus_root", OURS) "," DATA "]",
      "\"return\":[" DISK("dev-incus_root", "incus_root", OWN) "," DATA "]" },
    { "\"query-block-jobs\"", "\"return\":[]", NULL },
    { "\"query-status\"", "\"return\":{\"status\":\"running\",\"running\":true}", NULL },
    { "", "\"return\":{}", NULL },
};

/* What such a guard leaves: it knew the root disk alone. */
static void leave_limits(const char *path)
{
    static const struct migbuf_throttle_config own = { .bps_wr = 900000000 };
    static const struct migbuf_limits limits = { .iops_wr = 5, .iops_size = 65536 };
    struct migbuf_disk_command command;
    struct migbuf_disk *d;
    char text[8192];
    size_t length;
    FILE *f;

    ck_assert(!migbuf_disk_new("migbuf-guard", NULL, &d) && !migbuf_disk_watch(d, "incus_root") && !migbuf_disk_learn(d));
    ck_assert_int_eq(migbuf_disk_next(d, &command), 1);
    ck_assert_int_eq(migbuf_disk_found(d, "incus_root", "dev-incus_root", &own), 1);
    ck_assert(!migbuf_disk_answered(d, MIGBUF_OUTCOME_DONE) && !migbuf_disk_set(d, &limits));
    while (migbuf_disk_next(d, &command))
        ck_assert_int_eq(migbuf_disk_answered(d, MIGBUF_OUTCOME_DONE), 0);
    ck_assert_int_eq(migbuf_disk_save(d, text, sizeof text, &length), 0);
    migbuf_disk_free(d);
    f = fopen(path, "w");
    fputs(text, f);
    fclose(f);
}

/* Each disk that moves has a limit, and what the root disk has in the end is its own. A guard that changes nothing leaves what the
 * killed one left. */
START_TEST(limits_that_were_left_cover_every_disk)
{
    char directory[] = "/tmp/migbuf-parts-XXXXXX", log[64];
    static char said[65536];

    ck_assert_ptr_nonnull(mkdtemp(directory));
    for (int dry = 1; dry >= 0; dry--) {
        struct guarded g = { .name = "vm1", .project = "default", .disk_count = 2, .state_bytes = 4096 * MIB, .seen = true, .dry = dry };
        pid_t pid;
        FILE *f;

        snprintf(g.monitor, sizeof g.monitor, "%s/qmp", directory);
        snprintf(g.saved, sizeof g.saved, "%s/saved", directory);
        snprintf(log, sizeof log, "%s/log", directory);
        g.disks[0].names = names_of("root");
        g.disks[1].names = names_of("data");
        leave_limits(g.saved);
        f = fopen(log, "w+");
        setbuf(f, NULL);
        pid = serve_qmp(two_disks, g.monitor, fileno(f));
        ck_assert_msg(!guarded_start(&g, 200), "%s", g.error);
        ck_assert_msg(!guarded_tick(&g, 1000), "%s", g.error);
        memset(said, 0, sizeof said);
        rewind(f);
        said[fread(said, 1, sizeof said - 1, f)] = 0;
        if (dry) {
            ck_assert_msg(!strstr(said, "throttle"), "%s", said);
        } else {
            const char *own = strstr(said, "\"bps_wr\":900000000,\"iops\":0,\"iops_rd\":0,\"iops_wr\":0}"), *data = strstr(said, "\"dev-incus_data\"");

            ck_assert_msg(own && data && own < data && strstr(own, "\"dev-incus_root\""), "%s", said);
        }
        ck_assert_msg(!guarded_end(&g), "%s", g.error);
        ck_assert_int_eq(access(g.saved, F_OK), dry ? 0 : -1);
        fclose(f);
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        unlink(g.monitor);
    }
    unlink(log);
    rmdir(directory);
}
END_TEST

/* ---- a disk that goes ---- */

#define OVER(qdev, top, base) \
    "{\"qdev\":\"" qdev "\",\"node-name\":\"" top "\",\"stats\":{\"wr_bytes\":4096,\"wr_operations\":1,\"rd_bytes\":0,\"rd_operations\":0}," \
    "\"backing\":{\"node-name\":\"" base "\"}}"
#define SMALL(name) \
    "{\"node-name\":\"" name "\",\"drv\":\"qcow2\",\"image\":{\"filename\":\"x\",\"format\":\"qcow2\",\"virtual-size\":268435456,\"actual-size\":" \
    "200704,\"cluster-size\":65536}}"

static const struct reply unplugged[] = {
    { "\"query-blockstats\"", "\"return\":[" OVER("dev-incus_root", "o1", "incus_root") "," OVER("dev-incus_data", "o2", "incus_data") "]",
      "\"return\":[" COUNTERS("dev-incus_root", "incus_root") "]" },
    { "\"query-named-block-nodes\"", "\"return\":[" SMALL("o1") "," SMALL("o2") "]", "\"return\":[" NODE("incus_root") "]" },
    { "\"query-block\"", "\"return\":[" DISK("dev-incus_root", "o1", OWN) "," DISK("dev-incus_data", "o2", "\"bps_wr\":0,\"iops_wr\":0") "]",
      "\"return\":[" DISK("dev-incus_root", "incus_root", OWN) "]" },
    { "\"query-block-jobs\"", "\"return\":[]", NULL },
    { "\"query-status\"", "\"return\":{\"status\":\"running\",\"running\":true}", NULL },
    { "", "\"return\":{}", NULL },
};

/* A disk that was detached has no overlay any more: the VM's migration can be over, and its limits come back. */
START_TEST(a_disk_that_was_detached_holds_no_limits)
{
    static struct guarded g = { .name = "vm1", .project = "default", .disk_count = 2, .state_bytes = 4096 * MIB, .seen = true };
    char directory[] = "/tmp/migbuf-parts-XXXXXX";
    struct migbuf_attempt a;
    pid_t pid;

    ck_assert_ptr_nonnull(mkdtemp(directory));
    snprintf(g.monitor, sizeof g.monitor, "%s/qmp", directory);
    snprintf(g.saved, sizeof g.saved, "%s/saved", directory);
    g.disks[0].names = names_of("root");
    g.disks[1].names = names_of("data");
    pid = serve_qmp(unplugged, g.monitor, -1);
    ck_assert_msg(!guarded_start(&g, 200), "%s", g.error);
    ck_assert_msg(!guarded_tick(&g, 1000), "%s", g.error);
    ck_assert(g.overlay && g.limited && g.written_first == 8192);
    ck_assert_msg(!guarded_tick(&g, 2000), "%s", g.error);
    ck_assert(!g.overlay && !guarded_is_over(&g));
    g.seen = false;
    ck_assert(guarded_is_over(&g));
    ck_assert_msg(!guarded_end(&g), "%s", g.error);
    guarded_attempt(&g, &a);
    ck_assert_uint_eq(a.disk_bytes, 2 * 268435456);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    unlink(g.monitor);
    rmdir(directory);
}
END_TEST

/* ---- what a hostile server gets to a terminal ---- */

#define EVIL "\\u001b[2J\\n\\u009b1mx" /* in JSON: clears, ends the line, colours */

static const struct {
    const char *path; /* how it begins; the first that fits */
    int status;
    const char *body;
} answers[] = {
    { "/1.0/operations", 200,
      "{\"running\":[{\"id\":\"1" EVIL "\",\"description\":\"Migrating instance\",\"location\":\"none\",\"resources\":{\"instances\":"
      "[\"/1.0/instances/vm%1B%5B2J%0Ax\"]}}]}" },
    { "/1.0/instances/", 500, "\"error\":\"no " EVIL "\"" },
    { "/1.0/storage-pools/p%1B%5B2J/volumes/custom/v%0Ax/state", 200, "{}" },
    { "/1.0/storage-pools/p%1B%5B2J/volumes/custom/v%0Ax", 200,
      "{\"config\":{\"size\":\"1GiB\"},\"location\":\"m" EVIL "\",\"content_type\":\"filesystem\"}" },
    { "/1.0/storage-pools/", 200, "{\"name\":\"p" EVIL "\",\"driver\":\"dir\\u001b[2J\\n\",\"status\":\"Created\"}" },
    { "/1.0", 200,
      "{\"auth\":\"trusted\",\"api_extensions\":[\"migration_vm_live\"],\"config\":{\"user.migbuf.buffer.volume\":\"p\\u001b[2J/v\\nx\"},"
      "\"environment\":{\"server\":\"incus\",\"server_version\":\"6" EVIL "\",\"server_name\":\"h" EVIL "\"}}" },
};

static void answer(int fd, const char *path)
{
    char text[4096];
    size_t k = 0;

    while (strncmp(path, answers[k].path, strlen(answers[k].path)))
        k++;
    snprintf(text, sizeof text, "{\"type\":\"%s\",%s%s}", answers[k].status == 200 ? "sync" : "error",
             answers[k].status == 200 ? "\"metadata\":" : "", answers[k].body);
    dprintf(fd, "HTTP/1.1 %d X\r\nContent-Length: %zu\r\n\r\n%s", answers[k].status, strlen(text), text);
}

/* Serves in a process of its own until it is killed. */
static pid_t serve(const char *socket_path)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), fd;
    char request[4096];
    ssize_t n;
    pid_t pid;

    snprintf(a.sun_path, sizeof a.sun_path, "%s", socket_path);
    ck_assert(!bind(listener, (struct sockaddr *)&a, sizeof a) && !listen(listener, 4));
    pid = fork();
    ck_assert_int_ge(pid, 0);
    while (!pid && (fd = accept(listener, NULL, NULL)) >= 0) {
        while ((n = recv(fd, request, sizeof request - 1, 0)) > 0) {
            request[n] = 0;
            answer(fd, request + strcspn(request, "/"));
        }
        close(fd);
    }
    close(listener);
    return pid;
}

/* What a command prints, stdout and stderr. */
static void run(const char *command, char *said, size_t room)
{
    FILE *f = popen(command, "r");

    ck_assert_ptr_nonnull(f);
    said[fread(said, 1, room - 1, f)] = 0;
    pclose(f);
}

START_TEST(a_servers_words_move_no_cursor)
{
    static const char *const given[][2] = { { "show", "volume     p\\x1b[2J/v\\x0ax on m\\x1b[2J\\x0a" },
                                            { "show --json", "\"p\\u001B[2J\"" },
                                            { "--once --state-dir /nowhere --dry-run", "vm\\x1b[2J\\x0ax: not guarded: " },
                                            { "--once --state-dir /nowhere --dry-run", "(no \\x1b[2J\\x0a" } };
    char directory[] = "/tmp/migbuf-parts-XXXXXX", path[64], command[512], said[8192];
    pid_t pid;

    ck_assert_ptr_nonnull(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/socket", directory);
    pid = serve(path);
    for (size_t k = 0; k < sizeof given / sizeof *given; k++) {
        memset(said, 0, sizeof said);
        snprintf(command, sizeof command, "%s %s --server %s 2>&1", k < 2 ? volume : guard, given[k][0], path);
        run(command, said, sizeof said);
        ck_assert_msg(strstr(said, given[k][1]), "%s says\n%s", command, said);
        for (const char *at = said; *at; at++)
            ck_assert_msg(*at == '\n' || (unsigned char)*at >= ' ', "%s prints %d in\n%s", command, *at, said);
        ck_assert_msg(!strstr(said, "\xc2\x9b"), "%s prints a control in\n%s", command, said);
    }
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    unlink(path);
    rmdir(directory);
}
END_TEST

/* The guard beside a server, with its standard output and error, and one more word. */
static pid_t start_guard(const char *server, int out, int err, const char *more)
{
    pid_t pid = fork();

    ck_assert_int_ge(pid, 0);
    if (pid)
        return pid;
    signal(SIGHUP, SIG_DFL);
    signal(SIGPIPE, SIG_DFL);
    dup2(out, 1);
    dup2(err, 2);
    execl(guard, guard, "--state-dir", "/nowhere", "--dry-run", "--interval", "100", "--server", server, more, (char *)NULL);
    _exit(127);
}

START_TEST(neither_a_reader_nor_a_terminal_that_goes_leaves_limits)
{
    static const char sentence[] = "it goes on guarding";
    char directory[] = "/tmp/migbuf-parts-XXXXXX", path[64], said[8192] = "", command[512];
    int out[2], status;
    pid_t server, pid;
    FILE *err = tmpfile();

    ck_assert_ptr_nonnull(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/socket", directory);
    server = serve(path);

    /* Nobody reads: it goes on to its end, and says so once. */
    ck_assert_int_eq(pipe(out), 0);
    close(out[0]);
    pid = start_guard(path, out[1], fileno(err), "--once");
    close(out[1]);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "%d", status);
    rewind(err);
    said[fread(said, 1, sizeof said - 1, err)] = 0;
    ck_assert_msg(strstr(said, sentence) && !strstr(strstr(said, sentence) + 1, sentence), "%s", said);

    /* Its terminal goes: as if it were asked to end. */
    ck_assert_int_eq(pipe(out), 0);
    pid = start_guard(path, out[1], fileno(err), NULL);
    ck_assert_int_gt(read(out[0], said, sizeof said), 0);
    kill(pid, SIGHUP);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "%d", status);
    close(out[0]);
    close(out[1]);

    /* What volume has done and cannot say is no success. */
    snprintf(command, sizeof command, "%s show --server %s 2>&1 >/dev/full", volume, path);
    memset(said, 0, sizeof said);
    run(command, said, sizeof said);
    ck_assert_msg(strstr(said, "it is done, but standard output: No space left"), "%s", said);
    kill(server, SIGKILL);
    waitpid(server, NULL, 0);
    fclose(err);
    unlink(path);
    rmdir(directory);
}
END_TEST

/* ---- a server that changes while the guard looks ---- */

#define STAGES 4
#define NOTHING "\"metadata\":{}"
#define OPERATION(id, vm, location) \
    "{\"id\":\"" id "\",\"description\":\"Migrating instance\",\"location\":\"" location "\",\"resources\":{\"instances\":[\"/1.0/instances/" vm "\"]}}"
#define RUNNING(list) "\"metadata\":{\"running\":[" list "]}"
#define IT_IS(name, clustered) \
    "\"metadata\":{\"auth\":\"trusted\",\"api_extensions\":[\"migration_vm_live\"],\"environment\":{\"server\":\"incus\",\"server_version\":\"6.0\",\"server_name\":\"" \
    name "\",\"server_clustered\":" clustered "}}"
#define VM_AT(location) \
    "\"metadata\":{\"name\":\"vm1\",\"type\":\"virtual-machine\",\"status\":\"Running\",\"location\":\"" location "\",\"expanded_config\":{\"raw.qemu\":\"-qmp " \
    "unix:%s,server=on\"},\"expanded_devices\":{\"root\":{\"type\":\"disk\",\"path\":\"/\",\"pool\":\"p\",\"size.state\":\"4GiB\"}}}"
#define SUCCEEDED "\"metadata\":{\"status_code\":200}"
#define FAILED "\"metadata\":{\"status_code\":400}"
#define NO_MORE "" /* 404 */

/* How it answers at each stage; NULL: it hangs up. `other`: every second time instead, NULL where it is the same. */
struct changing {
    const char *path; /* how it begins; the first that fits */
    const char *answers[STAGES], *others[STAGES];
};

/* Of the server's process and ours: where it is, and how often each row was asked. */
struct stage {
    volatile int now;
    volatile int asked[8];
};

static void answer_at(int fd, const struct changing *rows, struct stage *stage, const char *path, const char *monitor)
{
    char text[4096], body[4000];
    const char *format;
    size_t k = 0;
    int n;

    while (strncmp(path, rows[k].path, strlen(rows[k].path)))
        k++;
    n = stage->now;
    format = stage->asked[k]++ % 2 && rows[k].others[n] ? rows[k].others[n] : rows[k].answers[n];
    if (!format) {
        shutdown(fd, SHUT_RDWR);
        return;
    }
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    snprintf(body, sizeof body, format, monitor);
#pragma GCC diagnostic pop
    snprintf(text, sizeof text, "{\"type\":\"%s\",%s}", *format ? "sync" : "error", *format ? body : "\"error\":\"not found\"");
    dprintf(fd, "HTTP/1.1 %d X\r\nContent-Length: %zu\r\n\r\n%s", *format ? 200 : 404, strlen(text), text);
}

/* The guard beside such a server and a QEMU whose overlay goes with the first limit. */
struct beside {
    char directory[32], socket[64], monitor[64], history[64], said[16384];
    struct stage *stage;
    pid_t server, qemu, guard;
    int out, log;
    size_t length;
};

static void serve_changing(struct beside *b, const struct changing *rows)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), fd;
    char request[4096];
    ssize_t n;

    snprintf(a.sun_path, sizeof a.sun_path, "%s", b->socket);
    ck_assert(!bind(listener, (struct sockaddr *)&a, sizeof a) && !listen(listener, 16));
    b->server = fork();
    ck_assert_int_ge(b->server, 0);
    while (!b->server && (fd = accept(listener, NULL, NULL)) >= 0) {
        while ((n = recv(fd, request, sizeof request - 1, 0)) > 0) {
            request[n] = 0;
            answer_at(fd, rows, b->stage, request + strcspn(request, "/"), b->monitor);
        }
        close(fd);
    }
    close(listener);
}

static void begin_server(struct beside *b, const struct changing *rows)
{
    *b = (struct beside){ .directory = "/tmp/migbuf-parts-XXXXXX", .log = open("/dev/null", O_WRONLY | O_CLOEXEC) };
    ck_assert_ptr_nonnull(mkdtemp(b->directory));
    snprintf(b->socket, sizeof b->socket, "%s/socket", b->directory);
    snprintf(b->monitor, sizeof b->monitor, "%s/qmp", b->directory);
    snprintf(b->history, sizeof b->history, "%s/history", b->directory);
    b->stage = mmap(NULL, sizeof *b->stage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert(b->stage != MAP_FAILED);
    serve_changing(b, rows);
}

static void begin_beside(struct beside *b, const struct changing *rows)
{
    char state[64];
    int out[2];

    begin_server(b, rows);
    snprintf(state, sizeof state, "%s/state", b->directory);
    b->qemu = serve_qmp(unplugged, b->monitor, b->log);
    ck_assert_int_eq(pipe(out), 0);
    b->guard = fork();
    ck_assert_int_ge(b->guard, 0);
    if (!b->guard) {
        dup2(out[1], 1);
        dup2(out[1], 2);
        execl(guard, guard, "--state-dir", state, "--history", b->history, "--interval", "100", "--server", b->socket, (char *)NULL);
        _exit(127);
    }
    close(out[1]);
    b->out = out[0];
}

static void read_said(struct beside *b)
{
    ssize_t n = read(b->out, b->said + b->length, sizeof b->said - 1 - b->length);

    ck_assert_msg(n > 0, "it has ended, or says too much:\n%s", b->said);
    b->length += (size_t)n;
}

static void wait_said(struct beside *b, const char *words)
{
    while (!strstr(b->said, words))
        read_said(b);
}

/* Until a row was asked so many times more, and the guard has not let the VM go before. */
static void wait_asked(struct beside *b, int row, int times)
{
    int until = b->stage->asked[row] + times;

    while (b->stage->asked[row] < until) {
        struct pollfd p = { .fd = b->out, .events = POLLIN };

        if (poll(&p, 1, 1) == 1)
            read_said(b);
        ck_assert_msg(!strstr(b->said, "under guard,"), "%s", b->said);
    }
}

static void end_one(pid_t pid, int number)
{
    kill(pid, number);
    waitpid(pid, NULL, 0);
}

static void end_server(struct beside *b)
{
    end_one(b->server, SIGKILL);
    close(b->log);
    munmap(b->stage, sizeof *b->stage);
    unlink(b->socket);
    ck_assert_int_eq(rmdir(b->directory), 0);
}

static void end_beside(struct beside *b, const char *line)
{
    char state[64], text[2048] = "";
    FILE *f;

    end_one(b->guard, SIGTERM);
    f = fopen(b->history, "r");
    if (f) {
        text[fread(text, 1, sizeof text - 1, f)] = 0;
        fclose(f);
    }
    ck_assert_msg(strstr(text, line) && strstr(text, "\n") == strrchr(text, '\n'), "history is not one line with \"%s\":\n%sIt said\n%s", line, text, b->said);
    end_one(b->qemu, SIGKILL);
    close(b->out);
    unlink(b->monitor);
    unlink(b->history);
    snprintf(state, sizeof state, "%s/state", b->directory);
    rmdir(state);
    end_server(b);
}

/* A server that is restarted answers for a while neither what became of an operation nor where a VM is. */
START_TEST(what_became_of_it_is_asked_until_there_is_an_answer)
{
    enum { LIST, ITS_OPERATION, ITS_VM };
    static const struct changing rows[] = {
        { "/1.0/operations?", { RUNNING(OPERATION("op1", "vm1", "none")), NOTHING, NOTHING, NOTHING }, { NULL } },
        { "/1.0/operations/op1", { SUCCEEDED, NULL, SUCCEEDED, SUCCEEDED }, { NULL } },
        { "/1.0/instances/vm1", { VM_AT("none"), VM_AT("none"), NULL, NO_MORE }, { NULL } },
        { "/1.0", { IT_IS("h", "false"), IT_IS("h", "false"), IT_IS("h", "false"), IT_IS("h", "false") }, { NULL } },
    };
    struct beside b;

    begin_beside(&b, rows);
    wait_said(&b, "of growth");
    b.stage->now = 1;
    wait_asked(&b, ITS_OPERATION, 6);
    b.stage->now = 2;
    wait_asked(&b, ITS_VM, 3);
    b.stage->now = 3;
    wait_said(&b, "it has moved");
    end_beside(&b, " out=moved ");
}
END_TEST

/* A QEMU that says nothing for a moment, just when its migration is over: its limits come back as soon as it answers, be the
 * server silent. It is one migration all the same. */
START_TEST(limits_are_given_back_when_qemu_answers_again)
{
    enum { LIST };
    static const struct changing rows[] = {
        { "/1.0/operations?", { RUNNING(OPERATION("op1", "vm1", "none")), NOTHING, NOTHING }, { NULL } },
        { "/1.0/operations/op1", { FAILED, NULL, FAILED }, { NULL } },
        { "/1.0/instances/vm1", { VM_AT("none"), NULL, VM_AT("none") }, { NULL } },
        { "/1.0", { IT_IS("h", "false"), IT_IS("h", "false"), IT_IS("h", "false") }, { NULL } },
    };
    struct beside b;
    char saved[128];

    begin_beside(&b, rows);
    snprintf(saved, sizeof saved, "%s/state/default:vm1.limits", b.directory);
    wait_said(&b, "of growth");
    wait_asked(&b, LIST, 3); /* it has seen that the overlay is gone */
    ck_assert_int_eq(access(saved, F_OK), 0);
    kill(b.qemu, SIGSTOP);
    b.stage->now = 1;
    wait_said(&b, "not in force yet");
    kill(b.qemu, SIGCONT);
    while (!access(saved, F_OK))
        usleep(1000);
    b.stage->now = 2;
    wait_said(&b, "its own limits are in force");
    ck_assert_msg(!strstr(strstr(b.said, "of growth") + 1, "of growth"), "it got another limit first:\n%s", b.said);
    end_beside(&b, " out=failed ");
}
END_TEST

/* A VM that has left while no guard was there: nobody's limits are kept. */
START_TEST(what_is_left_of_a_vm_that_is_gone)
{
    static const struct changing rows[] = {
        { "/1.0/operations?", { NOTHING }, { NULL } },
        { "/1.0/instances/vm1", { NO_MORE }, { NULL } },
        { "/1.0", { IT_IS("h", "false") }, { NULL } },
    };
    char saved[128], state[64], command[512], said[4096] = "";
    struct beside b;

    begin_server(&b, rows);
    snprintf(state, sizeof state, "%s/state", b.directory);
    snprintf(saved, sizeof saved, "%s/default:vm1.limits", state);
    ck_assert_int_eq(mkdir(state, 0700), 0);
    leave_limits(saved);
    snprintf(command, sizeof command, "%s --once --state-dir %s --server %s 2>&1 && echo good", guard, state, b.socket);
    run(command, said, sizeof said);
    ck_assert_msg(strstr(said, "good") && access(saved, F_OK), "%s", said);
    rmdir(state);
    end_server(&b);
}
END_TEST

/* A server that enters a cluster. A move between its members is two operations, listed in any order, and the second ends when the
 * VM's QEMU has long ended here. */
START_TEST(a_move_between_members_is_one_migration)
{
    enum { LIST };
#define SENDS OPERATION("op1", "vm1", "m1")
#define WAITS OPERATION("op2", "vm1", "m1")
#define FOREIGN OPERATION("op3", "vm9", "m2")
    static const struct changing rows[] = {
        { "/1.0/operations?", { NOTHING, RUNNING(SENDS "," FOREIGN "," WAITS), RUNNING(FOREIGN "," WAITS), RUNNING(FOREIGN) },
          { NULL, RUNNING(WAITS "," SENDS "," FOREIGN), NULL, NULL } },
        { "/1.0/operations/op2", { SUCCEEDED, SUCCEEDED, SUCCEEDED, SUCCEEDED }, { NULL } },
        { "/1.0/instances/vm1", { VM_AT("m1"), VM_AT("m1"), VM_AT("m1"), VM_AT("m2") }, { NULL } },
        { "/1.0", { IT_IS("m1", "false"), IT_IS("m1", "true"), IT_IS("m1", "true"), IT_IS("m1", "true") }, { NULL } },
    };
    struct beside b;

    begin_beside(&b, rows);
    wait_said(&b, "waiting for migrations");
    b.stage->now = 1;
    wait_said(&b, "of growth");
    end_one(b.qemu, SIGKILL);
    wait_asked(&b, LIST, 6);
    b.stage->now = 2;
    wait_asked(&b, LIST, 6);
    b.stage->now = 3;
    wait_said(&b, "it has moved");
    ck_assert_msg(!strstr(b.said, "not guarded"), "%s", b.said);

    end_beside(&b, " out=moved phase=target why=done from=m1 to=m2 ");
}
END_TEST

START_TEST(a_guard_is_for_its_own_member)
{
    static const struct changing rows[] = { { "/1.0", { IT_IS("m1", "true") }, { NULL } } };
    char command[512], said[4096] = "";
    struct beside b;

    begin_server(&b, rows);
    snprintf(command, sizeof command, "%s --once --dry-run --target m2 --server %s 2>&1", guard, b.socket);
    run(command, said, sizeof said);
    ck_assert_msg(strstr(said, "this is member m1"), "%s", said);
    end_server(&b);
}
END_TEST

int main(int argc, char **argv)
{
    const TTest *const tests[] = { limits_are_kept_in_a_file_of_their_own,
                                   names_lead_nowhere_else,
                                   what_is_told_is_one_line,
                                   names_become_labels,
                                   the_root_disk_is_found_by_its_device,
                                   a_drain_is_more_than_one_request,
                                   counters_are_told_with_the_overlay,
                                   long_names_stay_two_vms,
                                   a_history_stays_the_file_it_was,
                                   two_programs_write_one_history,
                                   what_was_written_is_never_less_than_nothing,
                                   a_stop_that_is_refused,
                                   limits_that_were_left_cover_every_disk,
                                   a_disk_that_was_detached_holds_no_limits,
                                   a_servers_words_move_no_cursor,
                                   neither_a_reader_nor_a_terminal_that_goes_leaves_limits,
                                   what_became_of_it_is_asked_until_there_is_an_answer,
                                   limits_are_given_back_when_qemu_answers_again,
                                   what_is_left_of_a_vm_that_is_gone,
                                   a_move_between_members_is_one_migration,
                                   a_guard_is_for_its_own_member,
                                   NULL };

    if (argc != 3) {
        fprintf(stderr, "usage: test_guard_parts GUARD VOLUME\n");
        return EXIT_FAILURE;
    }
    guard = argv[1];
    volume = argv[2];
    return unit_run("guard_parts", tests, 20);
}
