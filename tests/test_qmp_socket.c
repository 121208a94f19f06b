/* SPDX-License-Identifier: MIT */
/*
 * The unix-socket adapter against a scripted peer in a thread: what a real QEMU cannot be made to do. A script is a
 * list of steps; the peer reads a command, writes bytes, waits, or leaves. It waits for what the test depends on; where it
 * sleeps, nothing does.
 */
#include "migbuf/qmp_socket.h"
#include "unit.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define GREETING "{\"QMP\": {\"version\": {}, \"capabilities\": []}}\r\n"
#define STOP_EVENT "{\"timestamp\": {\"seconds\": 5, \"microseconds\": 7}, \"event\": \"STOP\"}\r\n"

enum act { READ_LINE, WRITE, FLOOD, SLEEP_MS, AWAIT_CUE, AWAIT_SIGNALS, AWAIT_END, HANG_UP };

struct step {
    enum act act;
    const char *text; /* READ_LINE: what the line must hold; WRITE: the bytes; FLOOD: again and again */
    int ms;
};

#define READS(text)                                                                                                    \
    {                                                                                                                  \
        READ_LINE, text, 0                                                                                             \
    }
#define WRITES(text)                                                                                                   \
    {                                                                                                                  \
        WRITE, text, 0                                                                                                 \
    }
#define SLEEPS(ms)                                                                                                     \
    {                                                                                                                  \
        SLEEP_MS, NULL, ms                                                                                             \
    }
#define AWAITS(what)                                                                                                   \
    {                                                                                                                  \
        AWAIT_##what, NULL, 0                                                                                          \
    }
#define NEGOTIATES WRITES(GREETING), READS("\"qmp_capabilities\""), WRITES("{\"return\": {}, \"id\": 0}\r\n")
#define ENDS                                                                                                           \
    {                                                                                                                  \
        HANG_UP, NULL, 0                                                                                               \
    }

struct peer {
    int fd;
    int got_fd; /* what SCM_RIGHTS brought */
    const struct step *script;
    pthread_t thread;
    sem_t cue; /* for AWAIT_CUE */
    bool bad;  /* a command was not the expected one */
};

static volatile sig_atomic_t signals; /* how many came */

static bool read_line(struct peer *p, char *line, size_t room)
{
    size_t n = 0;

    while (n + 1 < room) {
        char control[CMSG_SPACE(sizeof(int))] = { 0 };
        struct iovec part = { .iov_base = line + n, .iov_len = 1 };
        struct msghdr m = {
            .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control
        };

        if (recvmsg(p->fd, &m, MSG_CMSG_CLOEXEC) <= 0)
            return false;
        if (CMSG_FIRSTHDR(&m))
            memcpy(&p->got_fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof p->got_fd);
        if (line[n++] == '\n')
            break;
    }
    line[n] = '\0';
    return true;
}

static bool write_all(int fd, const char *text)
{
    size_t left = strlen(text);

    while (left) {
        ssize_t n = send(fd, text, left, MSG_NOSIGNAL);
        if (n <= 0)
            return false;
        text += n;
        left -= (size_t)n;
    }
    return true;
}

static void *act(void *argument)
{
    struct peer *p = argument;
    char line[1024];

    for (const struct step *s = p->script; s->act != HANG_UP; s++) {
        if (s->act == READ_LINE && (!read_line(p, line, sizeof line) || !strstr(line, s->text))) {
            p->bad = true;
            break;
        }
        if (s->act == WRITE)
            write_all(p->fd, s->text);
        while (s->act == FLOOD && write_all(p->fd, s->text))
            ;
        if (s->act == AWAIT_CUE)
            sem_wait(&p->cue);
        while (s->act == AWAIT_SIGNALS && signals < 20)
            nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
        while (s->act == AWAIT_END && read(p->fd, line, sizeof line) > 0)
            ;
        if (s->act == SLEEP_MS)
            nanosleep(&(struct timespec){ .tv_sec = s->ms / 1000, .tv_nsec = s->ms % 1000 * 1000000L }, NULL);
    }
    close(p->fd);
    return NULL;
}

static struct migbuf_qmp_socket *start_with(struct peer *p, const struct step *script,
                                            const struct migbuf_qmp_options *options)
{
    struct migbuf_qmp_socket *s;
    int ends[2];

    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    *p = (struct peer){ .fd = ends[1], .got_fd = -1, .script = script };
    sem_init(&p->cue, 0, 0);
    ck_assert_int_eq(pthread_create(&p->thread, NULL, act, p), 0);
    ck_assert_int_eq(migbuf_qmp_socket_adopt(ends[0], options, NULL, &s, NULL), 0);
    return s;
}

static struct migbuf_qmp_socket *start(struct peer *p, const struct step *script)
{
    return start_with(p, script, NULL);
}

static void finish(struct peer *p, struct migbuf_qmp_socket *s)
{
    migbuf_qmp_socket_free(s);
    pthread_join(p->thread, NULL);
    ck_assert(!p->bad);
}

/* So that a slow machine does not spend a test's deadline on the greeting. */
static void negotiate(struct migbuf_qmp_socket *s)
{
    while (migbuf_qmp_is_ready(migbuf_qmp_socket_engine(s)) == 0) {
        ck_assert_int_eq(migbuf_qmp_socket_step(s, NULL), 0);
        nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
    }
}

static int64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

START_TEST(a_call_and_the_events_around_it)
{
    const struct step script[] = { NEGOTIATES,
                                   READS("\"query-status\""),
                                   WRITES(STOP_EVENT "{\"return\": {\"a\": 1}, \"id\": 1}\r\n" STOP_EVENT),
                                   READS("\"cont\""),
                                   WRITES("{\"error\": {\"class\": \"GenericError\", \"desc\": \"no\"}, \"id\": 2}"),
                                   ENDS };
    struct peer p;
    struct migbuf_qmp_socket *s = start(&p, script);
    struct migbuf_qmp_message m;
    struct migbuf_error e;

    ck_assert_int_eq(migbuf_qmp_socket_call(s, "query-status", NULL, PATIENCE_MS, &m, &e), 0);
    ck_assert_str_eq(m.text, "{\"a\": 1}");
    ck_assert_int_eq(migbuf_qmp_socket_call(s, "cont", NULL, PATIENCE_MS, &m, &e), MIGBUF_E_PEER);
    ck_assert_str_eq(m.name, "GenericError");
    ck_assert_str_eq(m.text, "no");
    ck_assert_int_eq(e.code, MIGBUF_E_PEER);
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(migbuf_qmp_socket_event(s, PATIENCE_MS, &m, &e), 1);
        ck_assert_str_eq(m.name, "STOP");
    }
    ck_assert_int_eq(migbuf_qmp_socket_event(s, PATIENCE_MS, &m, &e), MIGBUF_E_CLOSED);
    ck_assert_int_eq(e.code, MIGBUF_E_CLOSED);
    ck_assert_int_eq(migbuf_qmp_socket_call(s, "cont", NULL, PATIENCE_MS, &m, &e), MIGBUF_E_CLOSED);
    ck_assert_int_eq(migbuf_qmp_socket_step(s, &e), MIGBUF_E_CLOSED);
    ck_assert_int_eq(migbuf_qmp_socket_wanted(s), 0);
    finish(&p, s);
}
END_TEST

START_TEST(a_late_answer_is_not_the_next_ones)
{
    const struct step script[] = { NEGOTIATES,
                                   READS("\"id\":1}"),
                                   READS("\"id\":2}"),
                                   WRITES("{\"return\": \"late\", \"id\": 1}\r\n"),
                                   SLEEPS(50),
                                   WRITES("{\"return\": \"right\", \"id\": 2}\r\n"),
                                   ENDS };
    struct peer p;
    struct migbuf_qmp_socket *s = start(&p, script);
    struct migbuf_qmp_message m;
    struct migbuf_error e;
    int64_t before;

    negotiate(s);
    before = now_ms();
    ck_assert_int_eq(migbuf_qmp_socket_call(s, "query-status", NULL, 100, &m, &e), MIGBUF_E_TIMEOUT);
    ck_assert_str_eq(e.text, "no answer before the deadline");
    ck_assert_int_ge(now_ms() - before, 100);
    ck_assert_int_eq(migbuf_qmp_socket_call(s, "query-status", NULL, PATIENCE_MS, &m, &e), 0);
    ck_assert_str_eq(m.text, "\"right\"");
    ck_assert_int_eq(migbuf_qmp_next(migbuf_qmp_socket_engine(s), &m), 1);
    ck_assert_int_eq(m.kind, MIGBUF_QMP_GREETING);
    ck_assert_int_eq(migbuf_qmp_next(migbuf_qmp_socket_engine(s), &m), 0);
    finish(&p, s);
}
END_TEST

/* Events without end must not carry a call past its deadline. */
START_TEST(a_flood_of_events_does_not_move_the_deadline)
{
    const struct step script[] = { NEGOTIATES, { FLOOD, STOP_EVENT, 0 }, ENDS };
    struct peer p;
    struct migbuf_qmp_socket *s = start(&p, script);
    struct migbuf_qmp_message m;
    int64_t before;

    negotiate(s);
    before = now_ms();
    ck_assert_int_eq(migbuf_qmp_socket_call(s, "query-status", NULL, 100, &m, NULL), MIGBUF_E_TIMEOUT);
    ck_assert_int_ge(now_ms() - before, 100);
    ck_assert_int_le(now_ms() - before, PATIENCE_MS); /* the flood has no end; a slow machine has time */
    ck_assert_int_eq(migbuf_qmp_socket_event(s, 0, &m, NULL), 1);
    ck_assert_uint_gt(m.lost_events, 0);
    finish(&p, s);
}
END_TEST

START_TEST(a_broken_answer_fails_one_call_and_not_the_connection)
{
    const struct step script[] = { NEGOTIATES,
                                   READS("\"id\":1}"),
                                   WRITES("{\"return\": 1e400, \"id\": 1}"),
                                   READS("\"id\":2}"),
                                   WRITES("{\"return\": 2, \"id\": 2}"),
                                   ENDS };
    struct peer p;
    struct migbuf_qmp_socket *s = start(&p, script);
    struct migbuf_qmp_message m;

    ck_assert_int_eq(migbuf_qmp_socket_call(s, "a", NULL, PATIENCE_MS, &m, NULL), MIGBUF_E_PROTOCOL);
    ck_assert_int_eq(m.kind, MIGBUF_QMP_INVALID);
    ck_assert_int_eq(migbuf_qmp_is_ready(migbuf_qmp_socket_engine(s)), 1);
    ck_assert_int_eq(migbuf_qmp_socket_call(s, "b", NULL, PATIENCE_MS, &m, NULL), 0);
    finish(&p, s);
}
END_TEST

START_TEST(an_answer_and_then_nonsense)
{
    const struct step script[] = { NEGOTIATES, READS("\"id\":1}"), WRITES("{\"return\": 1, \"id\": 1}nonsense"), ENDS };
    struct peer p;
    struct migbuf_qmp_socket *s = start(&p, script);
    struct migbuf_qmp_message m;
    struct migbuf_error e;

    ck_assert_int_eq(migbuf_qmp_socket_call(s, "a", NULL, PATIENCE_MS, &m, &e), 0);
    ck_assert_int_eq(migbuf_qmp_socket_call(s, "b", NULL, PATIENCE_MS, &m, &e), MIGBUF_E_PROTOCOL);
    ck_assert_str_eq(e.text, "the peer does not speak QMP");
    ck_assert_int_eq(migbuf_qmp_socket_step(s, &e), MIGBUF_E_PROTOCOL);
    finish(&p, s);
}
END_TEST

START_TEST(peer_leaves_in_the_middle)
{
    const struct step script[] = { NEGOTIATES, READS("\"id\":1}"), WRITES("{\"return\": {\"a"), ENDS };
    struct peer p;
    struct migbuf_qmp_socket *s = start(&p, script);
    struct migbuf_qmp_message m, before;
    struct migbuf_error e;

    memset(&m, 0x5a, sizeof m);
    before = m;
    ck_assert_int_eq(migbuf_qmp_socket_call(s, "a", NULL, PATIENCE_MS, &m, &e), MIGBUF_E_CLOSED);
    ck_assert_mem_eq(&m, &before, sizeof m);
    finish(&p, s);
}
END_TEST

START_TEST(too_long_a_message)
{
    char text[1200];
    const struct step script[] = { NEGOTIATES, READS("\"id\":1}"), WRITES(text), ENDS };
    struct migbuf_qmp_options o;
    struct migbuf_qmp_socket *s;
    struct migbuf_qmp_message m;
    struct migbuf_error e;
    struct peer p;

    memset(text, ' ', sizeof text);
    text[0] = '{';
    text[sizeof text - 1] = '\0';
    migbuf_qmp_options_init(&o, sizeof o);
    o.max_message_bytes = 1024;
    s = start_with(&p, script, &o);
    ck_assert_int_eq(migbuf_qmp_socket_call(s, "a", NULL, PATIENCE_MS, &m, &e), MIGBUF_E_TOO_BIG);
    ck_assert_int_eq(migbuf_qmp_socket_call(s, "a", NULL, PATIENCE_MS, &m, &e), MIGBUF_E_TOO_BIG);
    ck_assert_str_eq(e.text, "the peer sent a message longer than max_message_bytes");
    finish(&p, s);
}
END_TEST

START_TEST(a_descriptor_travels_alone)
{
    const struct step script[] = { NEGOTIATES,
                                   READS("\"id\":1}"),
                                   SLEEPS(30),
                                   WRITES("{\"return\": {}, \"id\": 1}"),
                                   READS("\"add-fd\",\"arguments\":{},\"id\":2}"),
                                   WRITES("{\"return\": {}, \"id\": 2}"),
                                   ENDS };
    struct peer p;
    struct migbuf_qmp_socket *s = start(&p, script);
    struct migbuf_qmp_message m;
    int ends[2];
    uint64_t id;
    char c = 0;

    ck_assert_int_eq(pipe(ends), 0);
    ck_assert_int_eq(migbuf_qmp_command(migbuf_qmp_socket_engine(s), "stop", NULL, &id), 0);
    ck_assert_int_eq(migbuf_qmp_socket_call_fd(s, "add-fd", "{}", ends[1], PATIENCE_MS, &m, NULL), 0);
    close(ends[1]);
    ck_assert_int_eq(migbuf_qmp_reply(migbuf_qmp_socket_engine(s), id, &m), 1);
    finish(&p, s);
    ck_assert_int_ge(p.got_fd, 0);
    ck_assert_int_eq((int)write(p.got_fd, "x", 1), 1);
    ck_assert_int_eq((int)read(ends[0], &c, 1), 1);
    ck_assert_int_eq(c, 'x');
    close(p.got_fd);
    close(ends[0]);
}
END_TEST

START_TEST(a_descriptor_waits_no_longer_than_its_deadline)
{
    const struct step script[] = { NEGOTIATES, READS("\"id\":1}"), AWAITS(END), ENDS };
    struct peer p;
    struct migbuf_qmp_socket *s = start(&p, script);
    struct migbuf_qmp_message m;
    struct migbuf_error e;
    uint64_t id;

    negotiate(s);
    migbuf_qmp_command(migbuf_qmp_socket_engine(s), "stop", NULL, &id);
    ck_assert_int_eq(migbuf_qmp_socket_call_fd(s, "add-fd", NULL, 0, 300, &m, &e), MIGBUF_E_TIMEOUT);
    ck_assert_uint_eq(migbuf_qmp_pending(migbuf_qmp_socket_engine(s)), 1);
    ck_assert_int_eq(migbuf_qmp_socket_call_fd(s, "add-fd", NULL, -1, 50, &m, &e), MIGBUF_E_SYSTEM);
    ck_assert_int_eq(e.os_errno, EBADF);
    finish(&p, s);
}
END_TEST

START_TEST(a_descriptor_without_waiting)
{
    const struct step script[] = { NEGOTIATES,
                                   READS("\"id\":1}"),
                                   SLEEPS(30),
                                   WRITES("{\"return\": {}, \"id\": 1}"),
                                   READS("\"add-fd\",\"arguments\":{},\"id\":2}"),
                                   WRITES("{\"return\": {}, \"id\": 2}"),
                                   ENDS };
    struct peer p;
    struct migbuf_qmp_socket *s = start(&p, script);
    struct migbuf_qmp *q = migbuf_qmp_socket_engine(s);
    struct migbuf_qmp_message m;
    struct migbuf_error e;
    int ends[2], rc;
    uint64_t id = 7, stop;
    char c = 0;

    ck_assert_int_eq(pipe(ends), 0);
    ck_assert_int_eq(migbuf_qmp_socket_command_fd(s, "add-fd", "{}", ends[1], &id, &e),
                     MIGBUF_E_STATE); /* no greeting */
    negotiate(s);
    ck_assert_int_eq(migbuf_qmp_socket_command_fd(s, "add-fd", "{}", -1, &id, &e), MIGBUF_E_SYSTEM);
    ck_assert_int_eq(migbuf_qmp_socket_command_fd(s, "add-fd", "[", ends[1], &id, &e), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_qmp_socket_command_fd(s, "add-fd", "{}", ends[1], NULL, &e), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_qmp_command(q, "stop", NULL, &stop), 0);
    while ((rc = migbuf_qmp_socket_command_fd(s, "add-fd", "{}", ends[1], &id, &e)) == MIGBUF_E_STATE) {
        struct pollfd f = { .fd = migbuf_qmp_socket_fd(s), .events = (short)migbuf_qmp_socket_wanted(s) };

        ck_assert_uint_eq(id, 7);
        poll(&f, 1, PATIENCE_MS);
        ck_assert_int_eq(migbuf_qmp_socket_step(s, NULL), 0);
    }
    ck_assert_int_eq(rc, 0);
    close(ends[1]); /* a duplicate is on its way */
    while (migbuf_qmp_reply(q, id, &m) == 0) {
        struct pollfd f = { .fd = migbuf_qmp_socket_fd(s), .events = (short)migbuf_qmp_socket_wanted(s) };

        ck_assert_int_eq(poll(&f, 1, PATIENCE_MS), 1);
        migbuf_qmp_socket_step(s, NULL);
    }
    finish(&p, s);
    ck_assert_int_ge(p.got_fd, 0);
    ck_assert_int_eq((int)write(p.got_fd, "x", 1), 1);
    ck_assert_int_eq((int)read(ends[0], &c, 1), 1);
    ck_assert_int_eq(c, 'x');
    close(p.got_fd);
    close(ends[0]);
}
END_TEST

START_TEST(the_hosts_own_poll_loop)
{
    const struct step script[] = { NEGOTIATES, READS("\"id\":1}"),   WRITES(STOP_EVENT "{\"return\": 1, "),
                                   SLEEPS(20), WRITES("\"id\": 1}"), ENDS };
    struct peer p;
    struct migbuf_qmp_socket *s = start(&p, script);
    struct migbuf_qmp *q = migbuf_qmp_socket_engine(s);
    struct migbuf_qmp_message m;
    char seen[64] = "";
    uint64_t id;
    int rc = 0;

    ck_assert_int_eq(migbuf_qmp_command(q, "stop", NULL, &id), 0);
    while (rc == 0) {
        struct pollfd f = { .fd = migbuf_qmp_socket_fd(s), .events = (short)migbuf_qmp_socket_wanted(s) };

        ck_assert_int_eq(poll(&f, 1, PATIENCE_MS), 1);
        rc = migbuf_qmp_socket_step(s, NULL);
        while (migbuf_qmp_next(q, &m) == 1)
            snprintf(seen + strlen(seen), 8, "%d ", m.kind);
    }
    ck_assert_int_eq(rc, MIGBUF_E_CLOSED);
    ck_assert_str_eq(seen, "1 4 2 ");
    finish(&p, s);
}
END_TEST

/* The peer does not read: the output is larger than the socket, and the call ends all the same. */
START_TEST(a_peer_that_does_not_read)
{
    const struct step script[] = { NEGOTIATES, AWAITS(CUE), ENDS };
    struct peer p;
    struct migbuf_qmp_socket *s = start(&p, script);
    struct migbuf_qmp_message m;
    size_t bytes = 400000;
    char *arguments = malloc(bytes + 1);

    memset(arguments, ' ', bytes);
    arguments[0] = '{';
    arguments[bytes - 1] = '}';
    arguments[bytes] = '\0';
    negotiate(s);
    ck_assert_int_eq(migbuf_qmp_socket_call(s, "a", arguments, 500, &m, NULL), MIGBUF_E_TIMEOUT);
    ck_assert_int_eq(migbuf_qmp_socket_wanted(s), POLLIN | POLLOUT);
    sem_post(&p.cue);
    ck_assert_int_eq(migbuf_qmp_socket_call(s, "a", arguments, PATIENCE_MS, &m, NULL), MIGBUF_E_CLOSED);
    free(arguments);
    finish(&p, s);
}
END_TEST

static void count_signal(int number)
{
    (void)number;
    signals++;
}

START_TEST(signals_do_not_end_a_wait)
{
    const struct step script[] = { NEGOTIATES, READS("\"id\":1}"), AWAITS(SIGNALS),
                                   WRITES("{\"return\": 1, \"id\": 1}"), ENDS };
    struct sigaction a = { .sa_handler = count_signal };
    struct itimerval often = { .it_interval = { .tv_usec = 2000 }, .it_value = { .tv_usec = 2000 } }, never = { 0 };
    sigset_t alarm_only;
    struct migbuf_qmp_socket *s;
    struct migbuf_qmp_message m;
    struct peer p;

    sigemptyset(&alarm_only);
    sigaddset(&alarm_only, SIGALRM);
    pthread_sigmask(SIG_BLOCK, &alarm_only, NULL); /* the peer's thread inherits this */
    s = start(&p, script);
    pthread_sigmask(SIG_UNBLOCK, &alarm_only, NULL);
    sigaction(SIGALRM, &a, NULL);
    setitimer(ITIMER_REAL, &often, NULL);
    ck_assert_int_eq(migbuf_qmp_socket_call(s, "a", NULL, PATIENCE_MS, &m, NULL), 0);
    ck_assert_int_eq(migbuf_qmp_socket_call(s, "a", NULL, PATIENCE_MS, &m, NULL), MIGBUF_E_CLOSED);
    setitimer(ITIMER_REAL, &never, NULL);
    finish(&p, s);
}
END_TEST

/* ---- opening by path ---- */

static int listen_at(char *directory, char *path, size_t room)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    ck_assert_ptr_nonnull(mkdtemp(directory));
    snprintf(path, room, "%s/qmp", directory);
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    ck_assert_int_eq(listen(fd, 0), 0);
    return fd;
}

START_TEST(a_monitor_that_does_not_greet)
{
    char directory[] = "/tmp/migbuf-test-XXXXXX", path[64];
    struct migbuf_qmp_socket *s[3] = { NULL };
    struct migbuf_error e;
    int listener = listen_at(directory, path, sizeof path), other[4];
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int64_t before = now_ms();

    ck_assert_int_eq(migbuf_qmp_socket_open(path, NULL, NULL, 50, &s[0], &e), MIGBUF_E_TIMEOUT);
    ck_assert_ptr_nonnull(strstr(e.text, "another client holds the monitor"));
    ck_assert_int_ge(now_ms() - before, 50);

    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    for (int i = 0; i < 4; i++) { /* the queue of the listener gets full */
        other[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        (void)connect(other[i], (struct sockaddr *)&address, sizeof address);
    }
    ck_assert_int_eq(migbuf_qmp_socket_open(path, NULL, NULL, 50, &s[0], &e), MIGBUF_E_TIMEOUT);
    ck_assert_ptr_nonnull(strstr(e.text, "accepts no connection"));
    for (int i = 0; i < 4; i++)
        close(other[i]);
    close(listener);
    ck_assert_int_eq(migbuf_qmp_socket_open(path, NULL, NULL, 50, &s[0], &e), MIGBUF_E_SYSTEM);
    ck_assert_int_eq(e.os_errno, ECONNREFUSED);
    unlink(path);
    ck_assert_int_eq(migbuf_qmp_socket_open(path, NULL, NULL, 50, &s[0], &e), MIGBUF_E_SYSTEM);
    ck_assert_int_eq(e.os_errno, ENOENT);
    rmdir(directory);
    ck_assert_ptr_null(s[0]);
}
END_TEST

/* An empty path in a socket's address is the abstract address of so many NULs: somebody may listen there. */
START_TEST(an_empty_path_is_no_address)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct migbuf_qmp_socket *s = NULL;
    struct migbuf_error e;

    ck_assert_int_eq(bind(listener, (struct sockaddr *)&address, sizeof address), 0);
    ck_assert_int_eq(listen(listener, 1), 0);
    ck_assert_int_eq(migbuf_qmp_socket_open("", NULL, NULL, 50, &s, &e), MIGBUF_E_INVALID);
    ck_assert_str_eq(e.text, "the path is empty");
    ck_assert_ptr_null(s);
    close(listener);
}
END_TEST

/* How an abstract address is reached. */
START_TEST(an_abstract_address_is_adopted)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    socklen_t length = offsetof(struct sockaddr_un, sun_path) + 1;
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const struct step script[] = { NEGOTIATES, READS("\"id\":1}"), WRITES("{\"return\": {}, \"id\": 1}"), ENDS };
    struct peer p = { .got_fd = -1, .script = script };
    struct migbuf_qmp_socket *s;
    struct migbuf_qmp_message m;

    length += (socklen_t)snprintf(address.sun_path + 1, sizeof address.sun_path - 1, "migbuf-test-%d", (int)getpid());
    ck_assert_int_eq(bind(listener, (struct sockaddr *)&address, length), 0);
    ck_assert_int_eq(listen(listener, 1), 0);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&address, length), 0);
    p.fd = accept(listener, NULL, NULL);
    ck_assert_int_eq(pthread_create(&p.thread, NULL, act, &p), 0);
    ck_assert_int_eq(migbuf_qmp_socket_adopt(fd, NULL, NULL, &s, NULL), 0);
    ck_assert_int_eq(migbuf_qmp_socket_call(s, "a", NULL, 60000, &m, NULL), 0);
    finish(&p, s);
    close(listener);
}
END_TEST

/* In a host's own loop: all that was said before is taken, more than one step's worth of it, then the connection is
 * closed.
 */
START_TEST(a_peer_that_takes_no_more_bytes_has_left)
{
    static char events[5000 * sizeof STOP_EVENT];
    struct migbuf_qmp_socket *s;
    struct migbuf_qmp_message m;
    struct migbuf_error e;
    char *at = events;
    uint64_t id, seen = 0;
    ssize_t said;
    int ends[2], rc = 0, steps = 0, room = 1 << 20; /* as much as the system allows: twice its default mostly */

    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    ck_assert_int_eq(setsockopt(ends[1], SOL_SOCKET, SO_SNDBUF, &room, sizeof room), 0);
    ck_assert_int_eq(migbuf_qmp_socket_adopt(ends[0], NULL, NULL, &s, NULL), 0);
    ck_assert(write_all(ends[1], GREETING));
    ck_assert_int_eq(migbuf_qmp_socket_step(s, &e), 0);
    ck_assert(write_all(ends[1], "{\"return\": {}, \"id\": 0}"));
    for (int i = 0; i < 5000; i++)
        at = stpcpy(at, STOP_EVENT);
    said = send(ends[1], events, (size_t)(at - events), MSG_DONTWAIT | MSG_NOSIGNAL);
    ck_assert_int_gt(said, 100000);
    ck_assert_int_eq(migbuf_qmp_command(migbuf_qmp_socket_engine(s), "a", NULL, &id), 0);
    ck_assert_int_eq(shutdown(ends[1], SHUT_RD), 0);
    ck_assert_int_eq(migbuf_qmp_socket_wanted(s) & POLLIN, POLLIN);
    for (; steps < 100 && rc == 0; steps++)
        rc = migbuf_qmp_socket_step(s, &e);
    printf("# %zd bytes in %d steps\n", said, steps);
    ck_assert_int_eq(rc, MIGBUF_E_CLOSED);
    ck_assert_int_eq(migbuf_qmp_socket_wanted(s), 0);
    while ((rc = migbuf_qmp_socket_event(s, 60000, &m, &e)) == 1)
        seen += 1 + m.lost_events;
    ck_assert_int_eq(rc, MIGBUF_E_CLOSED);
    ck_assert_uint_eq(seen, (uint64_t)said / (sizeof STOP_EVENT - 1));
    migbuf_qmp_socket_free(s);
    close(ends[1]);
}
END_TEST

START_TEST(wrong_arguments)
{
    struct migbuf_qmp_socket *s = NULL;
    struct migbuf_qmp_message m;
    struct migbuf_error e;
    char path[200];
    int ends[2];
    struct peer p;
    const struct step script[] = { NEGOTIATES, ENDS };

    memset(path, 'x', sizeof path);
    path[sizeof path - 1] = '\0';
    ck_assert_int_eq(migbuf_qmp_socket_open(path, NULL, NULL, 50, &s, &e), MIGBUF_E_TOO_BIG);
    ck_assert_uint_eq(e.need, 200);
    ck_assert_uint_eq(e.have, sizeof((struct sockaddr_un *)0)->sun_path);
    ck_assert_int_eq(migbuf_qmp_socket_open(NULL, NULL, NULL, 50, &s, &e), MIGBUF_E_INVALID);
    path[108] = '\0';
    ck_assert_int_eq(migbuf_qmp_socket_open(path, NULL, NULL, 50, &s, &e), MIGBUF_E_TOO_BIG);
    ck_assert_uint_eq(e.need, 109);
    path[107] = '\0';
    ck_assert_int_eq(migbuf_qmp_socket_open(path, NULL, NULL, 50, &s, &e), MIGBUF_E_SYSTEM);
    ck_assert_int_eq(e.os_errno, ENOENT);
    ck_assert_int_eq(migbuf_qmp_socket_adopt(-1, NULL, NULL, &s, &e), MIGBUF_E_SYSTEM);
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    ck_assert_int_eq(migbuf_qmp_socket_adopt(ends[0], &(struct migbuf_qmp_options){ .size = 1 }, NULL, &s, &e),
                     MIGBUF_E_STRUCT);
    ck_assert_int_ge(fcntl(ends[0], F_GETFD), 0);
    ck_assert_ptr_null(s);
    close(ends[0]);
    close(ends[1]);

    s = start(&p, script);
    ck_assert_int_eq(fcntl(migbuf_qmp_socket_fd(s), F_GETFD), FD_CLOEXEC);
    ck_assert_int_eq(migbuf_qmp_socket_call(s, "a b", NULL, 50, &m, &e), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_qmp_socket_call(s, "a", "[]", 50, &m, &e), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_qmp_socket_call(s, "a", NULL, 0, &m, &e), MIGBUF_E_RANGE);
    ck_assert_int_eq(migbuf_qmp_socket_call(NULL, "a", NULL, 50, &m, &e), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_qmp_socket_fd(NULL), -1);
    ck_assert_ptr_null(migbuf_qmp_socket_engine(NULL));
    migbuf_qmp_socket_free(NULL);
    ck_assert_int_eq(migbuf_qmp_socket_event(s, PATIENCE_MS, &m, &e), MIGBUF_E_CLOSED);
    finish(&p, s);
}
END_TEST

/* Memory runs out while bytes arrive: nothing of what was read may be lost. */
static int64_t allocations_left;

static void *resize_or_fail(void *context, void *pointer, size_t old_bytes, size_t new_bytes)
{
    (void)context;
    (void)old_bytes;
    if (new_bytes == 0) {
        free(pointer);
        return NULL;
    }
    return allocations_left-- > 0 ? realloc(pointer, new_bytes) : NULL;
}

START_TEST(no_memory_for_what_arrives)
{
    const struct step script[] = { NEGOTIATES, READS("\"id\":1}"), WRITES(STOP_EVENT "{\"return\": 1, \"id\": 1}"),
                                   AWAITS(END), ENDS };
    struct migbuf_allocator a = { .resize = resize_or_fail };
    struct migbuf_qmp_socket *s;
    struct migbuf_qmp_message m;
    struct migbuf_error e;
    struct peer p = { .script = script, .got_fd = -1 };
    uint64_t id;
    int ends[2], rc;

    allocations_left = 1000;
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    p.fd = ends[1];
    ck_assert_int_eq(migbuf_qmp_socket_adopt(ends[0], NULL, &a, &s, NULL), 0);
    ck_assert_int_eq(pthread_create(&p.thread, NULL, act, &p), 0);
    ck_assert_int_eq(migbuf_qmp_command(migbuf_qmp_socket_engine(s), "a", NULL, &id), 0);
    allocations_left = 0;
    while ((rc = migbuf_qmp_socket_step(s, &e)) == 0)
        nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
    ck_assert_int_eq(rc, MIGBUF_E_NOMEM);
    allocations_left = 1000;
    ck_assert_int_eq(migbuf_qmp_socket_event(s, PATIENCE_MS, &m, &e), 1);
    for (rc = 0; rc == 0; rc = migbuf_qmp_reply(migbuf_qmp_socket_engine(s), id, &m))
        ck_assert_int_eq(migbuf_qmp_socket_step(s, &e), 0);
    ck_assert_int_eq(rc, 1);
    ck_assert_str_eq(m.text, "1");
    finish(&p, s);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        a_call_and_the_events_around_it,
        a_late_answer_is_not_the_next_ones,
        a_flood_of_events_does_not_move_the_deadline,
        a_broken_answer_fails_one_call_and_not_the_connection,
        an_answer_and_then_nonsense,
        peer_leaves_in_the_middle,
        too_long_a_message,
        a_descriptor_travels_alone,
        a_descriptor_waits_no_longer_than_its_deadline,
        a_descriptor_without_waiting,
        the_hosts_own_poll_loop,
        a_peer_that_does_not_read,
        signals_do_not_end_a_wait,
        a_monitor_that_does_not_greet,
        an_empty_path_is_no_address,
        an_abstract_address_is_adopted,
        a_peer_that_takes_no_more_bytes_has_left,
        wrong_arguments,
        no_memory_for_what_arrives,
        NULL,
    };

    return unit_run("qmp_socket", tests, WATCHDOG_S);
}
