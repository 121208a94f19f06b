/* SPDX-License-Identifier: MIT */
/* Carries commands and answers between the loop and migbuf's QMP socket. Knows which events matter, not what they lead
 * to. */
#include "monitor.h"
#include "migbuf/report.h"
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define MS UINT64_C(1000000)
#define GREETING_BYTES 65536 /* of what QEMU says of itself; a tree of more is not made for a version's sake */

__attribute__((format(printf, 2, 3))) static void lose(struct monitor *m, const char *format, ...)
{
    va_list args;

    if (m->lost)
        return;
    m->lost = true;
    m->lost_ns = now_ns();
    va_start(args, format);
    vsnprintf(m->error, sizeof m->error, format, args);
    va_end(args);
}

void monitor_open(struct monitor *m, const char *path, uint64_t now)
{
    *m = (struct monitor){ .connect_by_ns = now + MONITOR_ANSWER_MS * MS, .facts = { .running = true } };
    snprintf(m->path, sizeof m->path, "%s", path);
}

void monitor_close(struct monitor *m)
{
    migbuf_qmp_socket_free(m->socket);
    m->socket = NULL;
    m->connect_by_ns = 0;
    for (int who = 0; who < CALL_COUNT; who++)
        monitor_taken(m, who);
}

bool monitor_ready(const struct monitor *m)
{
    return m->socket && !m->lost && migbuf_qmp_is_ready(migbuf_qmp_socket_engine(m->socket)) == 1;
}

short monitor_poll(const struct monitor *m, int *fd)
{
    if (!m->socket || m->lost)
        return 0;
    *fd = migbuf_qmp_socket_fd(m->socket);
    return (short)migbuf_qmp_socket_wanted(m->socket);
}

/* The socket's file appears some milliseconds after QEMU has started, and connecting to it never waits. */
static void try_to_connect(struct monitor *m, uint64_t now)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    struct migbuf_error error;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    memcpy(address.sun_path, m->path, sizeof m->path);
    if (fd < 0) {
        lose(m, "socket: %s", strerror(errno));
    } else if (connect(fd, (struct sockaddr *)&address, sizeof address)) {
        if (now >= m->connect_by_ns)
            lose(m, "connecting to its monitor: %s", strerror(errno));
        close(fd);
    } else if (migbuf_qmp_socket_adopt(fd, NULL, NULL, &m->socket, &error)) {
        lose(m, "its monitor: %s", error.text);
        close(fd);
    }
}

static void take_job_event(struct facts *f, const struct migbuf_qmp_message *event)
{
    struct migbuf_job_event_report report;

    if (migbuf_report_job_event(event->text, event->text_bytes, &report, NULL))
        return;
    for (struct job *job = f->job; job < f->job + MONITOR_JOBS; job++) {
        if (strcmp(job->name, report.device))
            continue;
        if (!strcmp(event->name, "BLOCK_JOB_READY")) {
            job->ready = true;
            continue;
        }
        job->ended = true;
        job->cancelled = !strcmp(event->name, "BLOCK_JOB_CANCELLED");
        snprintf(job->error, sizeof job->error, "%s", report.error);
    }
}

static void take_job_error(struct facts *f, const struct migbuf_qmp_message *event)
{
    struct migbuf_job_error_report report;

    if (migbuf_report_job_error(event->text, event->text_bytes, &report, NULL) || strcmp(report.action, "stop"))
        return;
    for (struct job *job = f->job; job < f->job + MONITOR_JOBS; job++) {
        if (strcmp(job->name, report.device) || job->stopped)
            continue;
        job->stopped = true;
        snprintf(job->error, sizeof job->error, "a %s failed", report.operation);
    }
}

static void take_io_error(struct facts *f, const struct migbuf_qmp_message *event)
{
    struct migbuf_io_error_report io;

    if (migbuf_report_io_error(event->text, event->text_bytes, &io, NULL))
        return;
    if (!io.nospace) {
        if (!f->io_errors++)
            snprintf(f->io_error, sizeof f->io_error, "a %s to %s failed", io.operation, io.node_name);
    } else if (strcmp(io.action, "stop")) {
        f->overflows++;
    } else if (!f->no_space) { /* one stop, however many writes were in flight */
        f->no_space = true;
        f->overflows++;
    }
}

static void take_event(struct facts *f, const struct migbuf_qmp_message *event, uint64_t now)
{
    if (!strcmp(event->name, "STOP")) {
        f->running = false;
        f->stop_ns = now;
    } else if (!strcmp(event->name, "RESUME")) {
        f->running = true;
        f->resume_ns = now;
        f->no_space = false;
    } else if (!strncmp(event->name, "BLOCK_JOB_", 10)) {
        if (!strcmp(event->name, "BLOCK_JOB_ERROR"))
            take_job_error(f, event);
        else if (strcmp(event->name, "BLOCK_JOB_PENDING"))
            take_job_event(f, event);
    } else if (!strcmp(event->name, "BLOCK_IO_ERROR")) {
        take_io_error(f, event);
    } else if (!strcmp(event->name, "BLOCK_WRITE_THRESHOLD")) {
        f->thresholds++;
    } else if (!strcmp(event->name, "BLOCK_EXPORT_DELETED")) {
        f->exports_deleted++;
    }
}

static void take_greeting(struct facts *f, const struct migbuf_qmp_message *greeting)
{
    json_t *o = greeting->text_bytes <= GREETING_BYTES ? json_loadb(greeting->text, greeting->text_bytes, 0, NULL) : NULL;
    int major, minor, micro;

    if (o && !json_unpack(o, "{s:{s:{s:i, s:i, s:i}}}", "version", "qemu", "major", &major, "minor", &minor, "micro",
                     &micro))
        snprintf(f->version, sizeof f->version, "%d.%d.%d", major, minor, micro);
    json_decref(o);
}

/* An answer that cannot be read is no refusal: nobody knows what became of the command. */
static void take_answer(struct monitor *m, struct call *call, const struct migbuf_qmp_message *message)
{
    if (message->kind == MIGBUF_QMP_INVALID) {
        lose(m, "what QEMU answered to %s cannot be read: %s", call->command, message->text);
        return;
    }
    call->text = malloc(message->text_bytes + 1);
    if (!call->text) {
        lose(m, "out of memory");
        return;
    }
    memcpy(call->text, message->text, message->text_bytes);
    call->text[message->text_bytes] = 0;
    call->text_bytes = message->text_bytes;
    call->state = message->kind == MIGBUF_QMP_RETURN ? CALL_ANSWERED : CALL_REFUSED;
}

static void take_message(struct monitor *m, const struct migbuf_qmp_message *message, uint64_t now)
{
    if (message->kind == MIGBUF_QMP_EVENT) {
        take_event(&m->facts, message, now);
        if (m->ram)
            migbuf_report_event_to_ram(m->ram, m->ram_side, message->name, message->text, message->text_bytes, now / MS, NULL);
        return;
    }
    if (message->kind == MIGBUF_QMP_GREETING)
        take_greeting(&m->facts, message);
    for (int who = 0; who < CALL_COUNT; who++)
        if (m->call[who].state == CALL_WAITING && message->id && m->call[who].id == message->id)
            take_answer(m, &m->call[who], message);
}

void monitor_slept(struct monitor *m, uint64_t ns)
{
    m->connect_by_ns += m->connect_by_ns ? ns : 0;
    m->lost_ns += m->lost ? ns : 0;
    for (int who = 0; who < CALL_COUNT; who++)
        m->call[who].deadline_ns += ns;
}

void monitor_step(struct monitor *m, uint64_t now)
{
    struct migbuf_qmp_message message;
    struct migbuf_error error;
    int rc;

    if (m->lost)
        return;
    if (!m->socket) {
        if (m->connect_by_ns)
            try_to_connect(m, now);
        return;
    }
    rc = migbuf_qmp_socket_step(m->socket, &error);
    while (migbuf_qmp_next(migbuf_qmp_socket_engine(m->socket), &message) == 1)
        take_message(m, &message, now);
    if (rc)
        lose(m, "its monitor: %s", error.text);
    if (m->connect_by_ns && monitor_ready(m))
        m->connect_by_ns = 0;
    if (m->connect_by_ns && now >= m->connect_by_ns)
        lose(m, "its monitor gave no greeting");
    for (int who = 0; who < CALL_COUNT; who++)
        if (m->call[who].state == CALL_WAITING && now >= m->call[who].deadline_ns)
            lose(m, "QEMU has not answered %s in time", m->call[who].command);
}

void monitor_send(struct monitor *m, int who, const char *command, const char *arguments, uint64_t now)
{
    struct call *call = &m->call[who];
    int rc = m->socket ? migbuf_qmp_command(migbuf_qmp_socket_engine(m->socket), command, arguments, &call->id)
                       : MIGBUF_E_CLOSED;

    snprintf(call->command, sizeof call->command, "%s", command);
    call->state = CALL_WAITING;
    call->deadline_ns = now + MONITOR_ANSWER_MS * MS;
    if (rc)
        lose(m, "sending %s: %s", command, migbuf_strerror(rc));
}

bool monitor_send_fd(struct monitor *m, int who, const char *command, const char *arguments, int fd,
                     uint64_t now)
{
    struct call *call = &m->call[who];
    struct migbuf_error error;
    int rc;

    if (m->lost || !m->socket)
        return true;
    rc = migbuf_qmp_socket_command_fd(m->socket, command, arguments, fd, &call->id, &error);
    if (rc == MIGBUF_E_STATE)
        return false;
    snprintf(call->command, sizeof call->command, "%s", command);
    call->state = CALL_WAITING;
    call->deadline_ns = now + MONITOR_ANSWER_MS * MS;
    if (rc)
        lose(m, "%s: %s", command, error.text);
    return true;
}

void monitor_taken(struct monitor *m, int who)
{
    free(m->call[who].text);
    m->call[who] = (struct call){ .state = CALL_IDLE };
}

void monitor_new_job(struct monitor *m, uint32_t which, const char *name)
{
    m->facts.job[which] = (struct job){ .ready = false };
    snprintf(m->facts.job[which].name, sizeof m->facts.job[which].name, "%s", name);
}
