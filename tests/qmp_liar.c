/* SPDX-License-Identifier: MIT */
/* Peers of a QMP socket that lie, in a thread each. See qmp_liar.h. */
#include "qmp_liar.h"
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>


static bool say_bytes(struct peer *p, const char *bytes, size_t count)
{
    while (count) {
        ssize_t n = send(p->fd, bytes, count, MSG_NOSIGNAL);

        if (n <= 0)
            return false;
        bytes += n;
        count -= (size_t)n;
    }
    return true;
}

static bool say(struct peer *p, const char *text)
{
    return say_bytes(p, text, strlen(text));
}

/* Reads on until a command has ended. */
static void hear(struct peer *p)
{
    char c = 0;

    while (c != '\n' && read(p->fd, &c, 1) == 1)
        ;
}

static void wait_until_over(struct peer *p)
{
    char c;

    if (read(p->over, &c, 1) != 0)
        abort();
}

#define GREETING "{\"QMP\": {\"version\": {}, \"capabilities\": []}}\r\n"
#define NEGOTIATED "{\"return\": {}, \"id\": 0}\r\n"

static void negotiate(struct peer *p)
{
    say(p, GREETING);
    hear(p);
    say(p, NEGOTIATED);
}

/* A line that begins and ends so, with as many items in between as make it that long. */
char *line_of(const char *begin, const char *item, const char *end, size_t bytes)
{
    size_t length = strlen(item), at = strlen(begin), ends = strlen(end);
    char *line = malloc(bytes + 1);

    if (!line)
        abort();
    memcpy(line, begin, at);
    for (; at + length + ends + 1 <= bytes; at += length)
        memcpy(line + at, item, length);
    memcpy(line + at - (length > 1 && item[length - 1] == ','), end, ends + 1); /* no comma before the end */
    return line;
}

static void repeat(struct peer *p, const char *text)
{
    while (say(p, text))
        ;
}

static void repeat_line(struct peer *p, const char *begin, const char *item, const char *end, size_t bytes)
{
    char *line = line_of(begin, item, end, bytes);

    repeat(p, line);
    free(line);
}

/* Answers the first command so, and the second one as it should. */
static void answer_line(struct peer *p, const char *begin, const char *item, const char *end)
{
    char *line = line_of(begin, item, end, MIB - 64);

    negotiate(p);
    hear(p);
    say(p, line);
    free(line);
    hear(p);
    say(p, "{\"return\": {}, \"id\": 2}");
}


static void tell_nothing(struct peer *p)
{
    (void)p;
}
static void tell_half_a_greeting(struct peer *p)
{
    say(p, "{\"QMP\": {\"version\"");
}
static void tell_spaces(struct peer *p)
{
    repeat(p, " \r\n\t                                                                                         ");
}
static void greet_at_length(struct peer *p)
{
    char *line = line_of("{\"QMP\": {\"version\": {}, \"capabilities\": [", "{},", "]}}", MIB - 64);

    say(p, line);
    free(line);
    hear(p);
    say(p, NEGOTIATED);
    hear(p);
    say(p, "{\"return\": {}, \"id\": 1}");
    hear(p);
    say(p, "{\"return\": {}, \"id\": 2}");
}
static void answer_before_greeting(struct peer *p)
{
    say(p, NEGOTIATED);
}
static void greet_without_end(struct peer *p)
{
    repeat_line(p, "{\"QMP\": {\"x\": [", "{},", "]}}", MIB - 64);
}
static void events_before_greeting(struct peer *p)
{
    for (int i = 0; i < 1000; i++)
        say(p, "{\"event\": \"X\"}");
    negotiate(p);
    hear(p);
    say(p, "{\"return\": {}, \"id\": 1}");
}
static void refuse_to_negotiate(struct peer *p)
{
    say(p, GREETING);
    hear(p);
    say(p, "{\"error\": {\"class\": \"GenericError\", \"desc\": \"no\"}, \"id\": 0}");
}
static void answer_others(struct peer *p)
{
    negotiate(p);
    hear(p);
    repeat(p, "{\"return\": {}, \"id\": 77}");
}
static void answer_twice(struct peer *p)
{
    negotiate(p);
    hear(p);
    say(p, "{\"return\": {\"a\": 1}, \"id\": 1}{\"return\": {\"a\": 2}, \"id\": 1}");
    hear(p);
    say(p, "{\"return\": {\"a\": 3}, \"id\": 1}{\"return\": {\"b\": 1}, \"id\": 2}{\"return\": {}, \"id\": 2}");
}
static void never_end_a_message(struct peer *p)
{
    negotiate(p);
    hear(p);
    say(p, "{\"return\": \"");
    repeat(p, "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx");
}
static void dribble(struct peer *p)
{
    negotiate(p);
    say(p, "{\"return\": \"");
    while (say(p, "x"))
        nanosleep(&(struct timespec){ .tv_nsec = 2000000 }, NULL);
}
static void nest_deeply(struct peer *p)
{
    char *begin = line_of("{\"return\": ", "[", "", 100000), *end = line_of("", "]", ", \"id\": 1}", 100000 - 11 + 10);

    negotiate(p);
    hear(p);
    say(p, begin);
    say(p, end);
    free(begin);
    free(end);
    hear(p);
    say(p, "{\"return\": {}, \"id\": 2}");
}
static void flood(struct peer *p)
{
    negotiate(p);
    repeat(p, "{\"event\": \"E\", \"data\": {\"x\": 1}}\r\n");
}
static void flood_of_values(struct peer *p)
{
    negotiate(p);
    repeat_line(p, "{\"event\": \"E\", \"data\": {\"x\": [", "{},", "]}}\r\n", MIB - 64);
}
static void flood_of_long_events(struct peer *p)
{
    negotiate(p);
    repeat_line(p, "{\"event\": \"E\", \"data\": {\"x\": \"", "x", "\"}}\r\n", MIB - 64);
}
static void flood_of_invalid(struct peer *p)
{
    negotiate(p);
    repeat_line(p, "{\"x\": [", "[],", "]}", MIB - 64);
}
static void flood_of_spaces(struct peer *p)
{
    negotiate(p);
    tell_spaces(p);
}
static void leave_in_a_message(struct peer *p)
{
    negotiate(p);
    hear(p);
    say(p, "{\"return\": {\"a\"");
    shutdown(p->fd, SHUT_RDWR);
}
static void send_descriptors(struct peer *p)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(8 * sizeof(int))];
    } control = { 0 };
    char event[] = "{\"event\": \"E\"}";
    struct iovec part = { .iov_base = event, .iov_len = sizeof event - 1 };
    struct msghdr m = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes
    };

    negotiate(p);
    hear(p);
    control.header =
        (struct cmsghdr){ .cmsg_len = CMSG_LEN(8 * sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS };
    for (size_t i = 0; i < 8; i++)
        memcpy(CMSG_DATA(&control.header) + i * sizeof p->fd, &p->fd, sizeof p->fd);
    for (int i = 0; i < 20; i++)
        if (sendmsg(p->fd, &m, MSG_NOSIGNAL) < 0)
            abort();
    say(p, "{\"return\": {}, \"id\": 1}");
    hear(p);
    say(p, "{\"return\": {}, \"id\": 2}");
}
static void stop_listening(struct peer *p)
{
    negotiate(p);
    hear(p);
    shutdown(p->fd, SHUT_RD);
    say(p, "{\"return\": {}, \"id\": 1}");
}
/* Deaf, but it goes on talking: the handle must not live on that. */
static void stop_listening_and_flood(struct peer *p)
{
    negotiate(p);
    hear(p);
    shutdown(p->fd, SHUT_RD);
    say(p, "{\"return\": {}, \"id\": 1}");
    repeat_line(p, "{\"event\": \"E\", \"data\": {\"x\": \"", "x", "\"}}\r\n", 64 * KIB);
}
static void stop_talking(struct peer *p)
{
    negotiate(p);
    hear(p);
    shutdown(p->fd, SHUT_WR);
}
static void read_no_more(struct peer *p)
{
    negotiate(p);
}
static void many_values(struct peer *p)
{
    answer_line(p, "{\"return\": [", "{},", "], \"id\": 1}");
}
static void many_keys(struct peer *p)
{
    answer_line(p, "{\"return\": {", "\"a\":1,", "}, \"id\": 1}");
}
static void many_members(struct peer *p)
{
    answer_line(p, "{\"return\": {}, \"id\": 1, ", "\"a\":1,", "}");
}
static void many_ids(struct peer *p)
{
    answer_line(p, "{\"return\": {}, ", "\"id\":2,", ",\"id\": 1}");
}
static void many_nested(struct peer *p)
{
    answer_line(p, "{\"return\": [", "{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":[[[[1]]]]}}}}},", "], \"id\": 1}");
}
static void many_escapes(struct peer *p)
{
    answer_line(p, "{\"return\": \"", "\\ud800", "\", \"id\": 1}");
}
static void many_digits(struct peer *p)
{
    answer_line(p, "{\"return\": ", "9", ", \"id\": 1}");
}
static void many_decimals(struct peer *p)
{
    answer_line(p, "{\"return\": 1.", "9", ", \"id\": 1}");
}
static void large_exponent(struct peer *p)
{
    answer_line(p, "{\"return\": 1e", "9", ", \"id\": 1}");
}
static void long_error(struct peer *p)
{
    answer_line(p, "{\"error\": {\"class\": \"GenericError\", \"desc\": \"", "\\u0061", "\"}, \"id\": 1}");
}
static void answer(struct peer *p)
{
    negotiate(p);
    hear(p);
    say(p, p->lie->text);
    hear(p);
    say(p, "{\"return\": {}, \"id\": 2}");
}

bool liar_floods(const struct lie *lie)
{
    return lie->tell == flood || lie->tell == flood_of_values || lie->tell == flood_of_long_events || lie->tell == flood_of_invalid ||
           lie->tell == flood_of_spaces;
}

const struct lie lies[] = {
    { "nothing is said", tell_nothing, NULL, TIMEOUT, { 0 }, 0, "another client holds the monitor", 0 },
    { "half a greeting", tell_half_a_greeting, NULL, TIMEOUT, { 0 }, 0, "no greeting", 0 },
    { "spaces for ever", tell_spaces, NULL, TIMEOUT, { 0 }, 0, "no greeting", 0 },
    { "greetings for ever", greet_without_end, NULL, BAD, { 0 }, MIB + LONG, "does not speak QMP", 0 },
    { "a greeting of many values", greet_at_length, NULL, 0, { 0, 0 }, LONG, NULL, 0 },
    { "an answer before the greeting", answer_before_greeting, NULL, BAD, { 0 }, 0, "does not speak QMP", 0 },
    { "a refused negotiation", refuse_to_negotiate, NULL, BAD, { 0 }, 0, "does not speak QMP", 0 },
    { "events before the greeting", events_before_greeting, NULL, 0, { 0, TIMEOUT }, 250 * KIB, "no answer", 0 },
    { "answers to other commands", answer_others, NULL, 0, { TIMEOUT, TIMEOUT }, 200 * KIB, "no answer", 0 },
    { "two answers", answer_twice, NULL, 0, { 0, 0 }, 0, NULL, 0 },
    { "a message without an end",
      never_end_a_message,
      NULL,
      0,
      { MIGBUF_E_TOO_BIG, MIGBUF_E_TOO_BIG },
      LONG,
      "longer than max_message_bytes",
      0 },
    { "byte after byte", dribble, NULL, 0, { TIMEOUT, TIMEOUT }, 0, "no answer", 0 },
    { "100000 levels", nest_deeply, NULL, 0, { BAD, 0 }, LONG, "not a QMP message", 0 },
    { "events for ever", flood, NULL, 0, { TIMEOUT, TIMEOUT }, 200 * KIB, "no answer", 0 },
    { "events of many values for ever",
      flood_of_values,
      NULL,
      0,
      { TIMEOUT, TIMEOUT },
      4 * MIB + LONG,
      "no answer",
      0 },
    { "long events for ever", flood_of_long_events, NULL, 0, { TIMEOUT, TIMEOUT }, 4 * MIB + LONG, "no answer", 0 },
    { "what is no message for ever", flood_of_invalid, NULL, 0, { TIMEOUT, TIMEOUT }, 4 * MIB + LONG, "no answer", 0 },
    { "spaces for ever, later", flood_of_spaces, NULL, 0, { TIMEOUT, TIMEOUT }, 0, "no answer", 0 },
    { "left in a message", leave_in_a_message, NULL, 0, { CLOSED, CLOSED }, 0, "closed the monitor", 0 },
    { "descriptors", send_descriptors, NULL, 0, { 0, 0 }, 0, NULL, 0 },
    { "deaf", stop_listening, NULL, 0, { 0, CLOSED }, 0, "closed the monitor", 0 },
    { "deaf and talking", stop_listening_and_flood, NULL, 0, { 0, CLOSED }, MIB, "closed the monitor", 0 },
    { "dumb", stop_talking, NULL, 0, { CLOSED, CLOSED }, 0, "closed the monitor", 0 },
    { "commands are not read", read_no_more, NULL, 0, { TIMEOUT, TIMEOUT }, 4 * MIB, "no answer", 900000 },
    { "an answer of many values", many_values, NULL, 0, { 0, 0 }, LONG, NULL, 0 },
    { "an answer of many keys", many_keys, NULL, 0, { 0, 0 }, LONG, NULL, 0 },
    { "a message of many members", many_members, NULL, 0, { 0, 0 }, LONG, NULL, 0 },
    { "a message of many ids", many_ids, NULL, 0, { 0, 0 }, LONG, NULL, 0 },
    { "an answer of many levels", many_nested, NULL, 0, { 0, 0 }, LONG, NULL, 0 },
    { "an answer of many repairs", many_escapes, NULL, 0, { 0, 0 }, LONG, NULL, 0 },
    { "a number of many digits", many_digits, NULL, 0, { 0, 0 }, LONG, NULL, 0 },
    { "a number of many decimals", many_decimals, NULL, 0, { 0, 0 }, LONG, NULL, 0 },
    { "a number beyond all", large_exponent, NULL, 0, { BAD, 0 }, LONG, "not a QMP message", 0 },
    { "a long error", long_error, NULL, 0, { MIGBUF_E_PEER, 0 }, LONG, "answered with an error", 0 },
    { "bad UTF-8", answer, "{\"return\": \"\xff\xfe\", \"id\": 1}", 0, { BAD, 0 }, 0, "not a QMP message", 0 },
    { "id: a string", answer, "{\"return\": {}, \"id\": \"1\"}", 0, { TIMEOUT, 0 }, 0, "no answer", 0 },
    { "id: a real", answer, "{\"return\": {}, \"id\": 1.0}", 0, { TIMEOUT, 0 }, 0, "no answer", 0 },
    { "id: none", answer, "{\"return\": {}}", 0, { TIMEOUT, 0 }, 0, "no answer", 0 },
    { "an id and no more", answer, "{\"id\": 1}", 0, { BAD, 0 }, 0, "not a QMP message", 0 },
    { "an error without a class",
      answer,
      "{\"error\": {\"desc\": \"x\"}, \"id\": 1}",
      0,
      { BAD, 0 },
      0,
      "not a QMP message",
      0 },
    { "an error that is a string", answer, "{\"error\": \"x\", \"id\": 1}", 0, { BAD, 0 }, 0, "not a QMP message", 0 },
    { "an error without an id",
      answer,
      "{\"error\": {\"class\": \"a\", \"desc\": \"b\"}}",
      0,
      { MIGBUF_E_PEER, 0 },
      0,
      "answered with an error",
      0 },
    { "a return and an error",
      answer,
      "{\"return\": {}, \"error\": {\"class\": \"a\", \"desc\": \"b\"}, \"id\": 1}",
      0,
      { BAD, 0 },
      0,
      "not a QMP message",
      0 },
    { "null", answer, "{\"return\": null, \"id\": 1}", 0, { 0, 0 }, 0, NULL, 0 },
    { "a second greeting", answer, GREETING, 0, { BAD, BAD }, 0, "does not speak QMP", 0 },
    { "a list", answer, "[1]", 0, { BAD, BAD }, 0, "does not speak QMP", 0 },
    { "an HTTP error", answer, "HTTP/1.1 400 Bad Request\r\n\r\n", 0, { BAD, BAD }, 0, "does not speak QMP", 0 },
};

const size_t lies_count = sizeof lies / sizeof *lies;

static void *tell(void *argument)
{
    struct peer *p = argument;

    p->fd = accept(p->listener, NULL, NULL);
    p->lie->tell(p);
    wait_until_over(p);
    close(p->fd);
    return NULL;
}

void liar_start(struct peer *p, const struct lie *lie, const char *path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int over[2];

    *p = (struct peer){ .lie = lie, .listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0) };
    strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    if (bind(p->listener, (struct sockaddr *)&address, sizeof address) || listen(p->listener, 1) || pipe(over))
        abort();
    p->over = over[0];
    p->end = over[1];
    if (pthread_create(&p->thread, NULL, tell, p))
        abort();
}

void liar_end(struct peer *p)
{
    close(p->end);
    pthread_join(p->thread, NULL);
    close(p->over);
    close(p->listener);
}
