/* SPDX-License-Identifier: MIT */
/* The QMP adapter against a real QEMU; skipped where there is none. MIGBUF_QEMU runs another one. */
#include "migbuf/qmp_socket.h"
#include "migbuf/report.h"
#include "qmp_qemu.h"
#include "unit.h"
#include <poll.h>
#include <pthread.h>

static struct qemu qemu; /* its second monitor is pretty */

static struct migbuf_qmp_socket *open_at(const char *path, const struct migbuf_qmp_options *options)
{
    struct migbuf_qmp_socket *s;
    struct migbuf_error e;
    int rc = migbuf_qmp_socket_open(path, options, NULL, PATIENCE_MS, &s, &e);

    ck_assert_msg(rc == 0, "open: %d, %s", rc, rc ? e.text : "");
    return s;
}

static void call(struct migbuf_qmp_socket *s, const char *name, const char *arguments, struct migbuf_qmp_message *m)
{
    struct migbuf_error e;
    int rc = migbuf_qmp_socket_call(s, name, arguments, PATIENCE_MS, m, &e);

    ck_assert_msg(rc == 0, "%s: %d, %s", name, rc, rc ? e.text : "");
}

/* The whole conversation of a host: greeting, an answer, errors with and without an id, an event, the end. */
static void converse(const char *path)
{
    struct migbuf_qmp_socket *s = open_at(path, NULL);
    struct migbuf_status_report status;
    struct migbuf_qmp_message m;
    struct migbuf_error e;

    ck_assert_int_eq(migbuf_qmp_next(migbuf_qmp_socket_engine(s), &m), 1);
    ck_assert_int_eq(m.kind, MIGBUF_QMP_GREETING);
    ck_assert_ptr_nonnull(strstr(m.text, "\"qemu\""));
    call(s, "query-status", NULL, &m);
    ck_assert_int_eq(migbuf_report_status(m.text, m.text_bytes, &status, NULL), 0);
    ck_assert_int_eq(migbuf_qmp_socket_call(s, "no-such-command", "{}", PATIENCE_MS, &m, &e), MIGBUF_E_PEER);
    ck_assert_str_eq(m.name, "CommandNotFound");
    ck_assert_int_eq(migbuf_qmp_socket_call(s, "query-status", "{\"x\": 1}", PATIENCE_MS, &m, &e), MIGBUF_E_PEER);
    ck_assert_str_eq(m.name, "GenericError");
    call(s, "stop", NULL, &m);
    call(s, "cont", NULL, &m);
    ck_assert_int_eq(migbuf_qmp_socket_event(s, PATIENCE_MS, &m, &e), 1);
    ck_assert(m.seconds > 1500000000 && m.microseconds >= 0 && m.microseconds < 1000000);
    ck_assert_str_eq(m.text, "{}");
    migbuf_qmp_socket_free(s);
}

START_TEST(a_conversation)
{
    converse(qemu.qmp);
}
END_TEST

START_TEST(a_conversation_with_a_pretty_monitor)
{
    converse(qemu.second);
}
END_TEST

START_TEST(a_busy_monitor)
{
    struct migbuf_qmp_socket *first = open_at(qemu.qmp, NULL), *second = NULL;
    struct migbuf_error e;

    ck_assert_int_eq(migbuf_qmp_socket_open(qemu.qmp, NULL, NULL, 200, &second, &e), MIGBUF_E_TIMEOUT);
    ck_assert_ptr_nonnull(strstr(e.text, "another client holds the monitor"));
    ck_assert_ptr_null(second);
    migbuf_qmp_socket_free(first);
    migbuf_qmp_socket_free(open_at(qemu.qmp, NULL));
}
END_TEST

START_TEST(a_file_by_descriptor)
{
    struct migbuf_qmp_socket *s = open_at(qemu.qmp, NULL);
    struct migbuf_fdset_report set;
    struct migbuf_qmp_message m;
    FILE *file = tmpfile();
    char arguments[128];

    ck_assert_ptr_nonnull(file);
    ck_assert_int_eq(ftruncate(fileno(file), 1 << 20), 0);
    ck_assert_int_eq(
        migbuf_qmp_socket_call_fd(s, "add-fd", "{\"opaque\": \"rdwr:test\"}", fileno(file), PATIENCE_MS, &m, NULL), 0);
    ck_assert_int_eq(migbuf_report_fdset(m.text, m.text_bytes, &set, NULL), 0);
    fclose(file);
    snprintf(arguments, sizeof arguments,
             "{\"driver\": \"file\", \"node-name\": \"f\", \"filename\": \"/dev/fdset/%d\", \"locking\": \"off\"}",
             (int)set.fdset_id);
    call(s, "blockdev-add", arguments, &m);
    call(s, "query-named-block-nodes", "{\"flat\": true}", &m);
    struct migbuf_node_report node;
    ck_assert_int_eq(migbuf_report_node(m.text, m.text_bytes, "f", &node, NULL), 0);
    ck_assert_uint_eq(node.virtual_bytes, 1 << 20);
    ck_assert_uint_eq(node.actual_bytes, 0);
    call(s, "blockdev-del", "{\"node-name\": \"f\"}", &m);
    ck_assert_int_eq(migbuf_qmp_socket_call(s, "add-fd", NULL, PATIENCE_MS, &m, NULL), MIGBUF_E_PEER);
    migbuf_qmp_socket_free(s);
}
END_TEST

START_TEST(a_qemu_that_hangs_and_comes_back)
{
    struct migbuf_qmp_socket *s = open_at(qemu.qmp, NULL);
    struct migbuf_qmp_message m;
    struct migbuf_error e;

    qemu_freeze(&qemu);
    int rc = migbuf_qmp_socket_call(s, "query-version", NULL, 100, &m, &e);
    kill(qemu.pid, SIGCONT);
    ck_assert_int_eq(rc, MIGBUF_E_TIMEOUT);
    call(s, "query-status", NULL, &m);
    ck_assert_ptr_nonnull(strstr(m.text, "\"running\""));
    migbuf_qmp_socket_free(s);
}
END_TEST

static void *kill_later(void *pid)
{
    sleep_ms(100);
    kill(*(pid_t *)pid, SIGKILL);
    return NULL;
}

START_TEST(a_qemu_killed_in_a_call)
{
    struct migbuf_qmp_socket *s;
    struct migbuf_qmp_message m;
    struct migbuf_error e;
    struct qemu own;
    pthread_t thread;

    ck_assert_int_eq(qemu_start(&own, "pretty=off"), 1);
    s = open_at(own.qmp, NULL);
    qemu_freeze(&own);
    pthread_create(&thread, NULL, kill_later, &own.pid);
    int rc = migbuf_qmp_socket_call(s, "query-status", NULL, PATIENCE_MS, &m, &e);
    pthread_join(thread, NULL);
    migbuf_qmp_socket_free(s);
    qemu_stop(&own);
    ck_assert_int_eq(rc, MIGBUF_E_CLOSED);
}
END_TEST

START_TEST(two_hundred_commands_at_once)
{
    struct migbuf_qmp_socket *s = open_at(qemu.qmp, NULL);
    struct migbuf_qmp *q = migbuf_qmp_socket_engine(s);
    struct migbuf_qmp_message m;
    uint64_t id = 0, next = 1;

    for (int i = 0; i < 200; i++)
        ck_assert_int_eq(migbuf_qmp_command(q, i % 2 ? "query-status" : "no-such-command", NULL, &id), 0);
    while (next <= 200) {
        struct pollfd f = { .fd = migbuf_qmp_socket_fd(s), .events = (short)migbuf_qmp_socket_wanted(s) };

        ck_assert_int_eq(poll(&f, 1, PATIENCE_MS), 1);
        ck_assert_int_eq(migbuf_qmp_socket_step(s, NULL), 0);
        while (migbuf_qmp_next(q, &m) == 1) {
            if (m.kind != MIGBUF_QMP_RETURN && m.kind != MIGBUF_QMP_ERROR)
                continue;
            ck_assert_uint_eq(m.id, next);
            ck_assert_int_eq(m.kind, next % 2 ? MIGBUF_QMP_ERROR : MIGBUF_QMP_RETURN);
            next++;
        }
    }
    ck_assert_uint_eq(migbuf_qmp_pending(q), 0);
    migbuf_qmp_socket_free(s);
}
END_TEST

START_TEST(the_longest_answer)
{
    struct migbuf_qmp_socket *s = open_at(qemu.qmp, NULL);
    struct migbuf_qmp_options o;
    struct migbuf_qmp_message m;
    struct migbuf_error e;

    call(s, "query-qmp-schema", NULL, &m);
    printf("# query-qmp-schema: %llu bytes\n", (unsigned long long)m.text_bytes);
    ck_assert_uint_gt(m.text_bytes, 64 << 10);
    migbuf_qmp_socket_free(s);

    migbuf_qmp_options_init(&o, sizeof o);
    o.max_message_bytes = 64 << 10;
    s = open_at(qemu.qmp, &o);
    ck_assert_int_eq(migbuf_qmp_socket_call(s, "query-qmp-schema", NULL, PATIENCE_MS, &m, &e), MIGBUF_E_TOO_BIG);
    ck_assert_int_eq(migbuf_qmp_socket_call(s, "query-status", NULL, PATIENCE_MS, &m, &e), MIGBUF_E_TOO_BIG);
    migbuf_qmp_socket_free(s);
}
END_TEST

/* What QEMU says about a text that is no JSON carries no id. The engine would refuse to send that; so it is sent past
 * it. */
START_TEST(an_error_without_an_id)
{
    struct migbuf_qmp_socket *s = open_at(qemu.qmp, NULL);
    struct migbuf_qmp *q = migbuf_qmp_socket_engine(s);
    struct migbuf_qmp_message m;
    uint64_t id;

    ck_assert_int_eq((int)write(migbuf_qmp_socket_fd(s), "{\"execute\":}\n", 13), 13);
    ck_assert_int_eq(migbuf_qmp_command(q, "query-status", NULL, &id), 0);
    for (int rc = 0; rc == 0; rc = migbuf_qmp_reply(q, id, &m)) {
        struct pollfd f = { .fd = migbuf_qmp_socket_fd(s), .events = (short)migbuf_qmp_socket_wanted(s) };

        ck_assert_int_eq(poll(&f, 1, PATIENCE_MS), 1);
        ck_assert_int_eq(migbuf_qmp_socket_step(s, NULL), 0);
    }
    ck_assert_int_eq(m.kind, MIGBUF_QMP_ERROR);
    ck_assert_int_eq(m.id_kind, MIGBUF_QMP_ID_NONE);
    call(s, "query-status", NULL, &m);
    migbuf_qmp_socket_free(s);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        a_conversation,
        a_conversation_with_a_pretty_monitor,
        a_busy_monitor,
        a_file_by_descriptor,
        a_qemu_that_hangs_and_comes_back,
        a_qemu_killed_in_a_call,
        two_hundred_commands_at_once,
        the_longest_answer,
        an_error_without_an_id,
        NULL,
    };
    int rc;

    rc = qemu_start(&qemu, "pretty=on");
    if (rc <= 0) {
        printf(rc ? "Bail out! QEMU does not start\n" : "1..0 # SKIP no qemu-system-x86_64\n");
        return rc ? EXIT_FAILURE : EXIT_SUCCESS;
    }
    fflush(stdout);
    rc = unit_run("qmp_qemu", tests, WATCHDOG_S);
    qemu_stop(&qemu);
    return rc;
}
