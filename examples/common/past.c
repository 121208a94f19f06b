/* SPDX-License-Identifier: MIT */
/* Lines of one VM out of a file of many, and one more into it. See past.h. */
#include "past.h"
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define FILE_MOST (64u << 20)

void past_name(const char *project, const char *vm, char name[300])
{
    bool is_default = !*project || !strcmp(project, "default");

    snprintf(name, 300, "%s%s%s", is_default ? "" : project, is_default ? "" : "/", vm);
}

void past_id(const char *project, const char *vm, char id[PAST_ID])
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325); /* FNV-1a */
    size_t length = PAST_ID - 1 - 17;
    char name[300];

    past_name(project, vm, name);
    if (strlen(name) < PAST_ID) {
        memcpy(id, name, strlen(name) + 1);
        return;
    }
    for (const char *at = name; *at; at++)
        hash = (hash ^ (unsigned char)*at) * UINT64_C(0x100000001b3);
    while (((unsigned char)name[length] & 0xc0) == 0x80) /* not within a character */
        length--;
    snprintf(id, PAST_ID, "%.*s~%016llx", (int)length, name, (unsigned long long)hash);
}

/* The whole file; one that is not there is empty. */
static int read_file(const char *path, char **text, size_t *length, char error[FAIL_SIZE])
{
    FILE *file = fopen(path, "r");
    size_t room = 0, n = 1;

    *text = NULL;
    *length = 0;
    if (!file && errno != ENOENT)
        return fail(error, "--history %s: %s", path, strerror(errno));
    while (file && n) {
        char *more = *length == room ? realloc(*text, room = room ? 2 * room : 65536) : *text;

        if (!more || room > FILE_MOST) {
            fclose(file);
            free(more ? more : *text);
            return fail(error, "--history %s: %s", path, more ? "more than 32 MiB" : "out of memory");
        }
        *text = more;
        n = fread(more + *length, 1, room - *length, file);
        *length += n;
    }
    n = file && ferror(file);
    if (file)
        fclose(file);
    if (n) {
        free(*text);
        return fail(error, "--history %s: it cannot be read", path);
    }
    return 0;
}

/* Where the line ends that begins at `at`, its newline included. */
static size_t line_end(const char *text, size_t length, size_t at)
{
    const char *newline = memchr(text + at, '\n', length - at);

    return newline ? (size_t)(newline - text) + 1 : length;
}

static bool is_of(const char *line, size_t length, const char *id)
{
    struct migbuf_attempt a;

    return migbuf_history_read(line, length, 0, &a) == 1 && !strcmp(a.id, id);
}

/* Its own lines into `own`, all others into `others` (NULL: nowhere): what is damaged is nobody's, and stays. */
static void sort_lines(const char *text, size_t length, const char *id, char *own, size_t *own_length, char *others, size_t *others_length)
{
    *own_length = 0;
    for (size_t at = 0, end; at < length; at = end) {
        end = line_end(text, length, at);
        if (is_of(text + at, end - at, id)) {
            memcpy(own + *own_length, text + at, end - at);
            *own_length += end - at;
        } else if (others) {
            memcpy(others + *others_length, text + at, end - at);
            *others_length += end - at;
            if (text[end - 1] != '\n') /* one that was cut may not swallow the next */
                others[(*others_length)++] = '\n';
        }
    }
}

int past_lines(const char *path, const char *id, char **lines, size_t *length, char error[FAIL_SIZE])
{
    char *text;
    size_t n;

    if (read_file(path, &text, &n, error))
        return -1;
    *lines = malloc(n + 1);
    if (!*lines) {
        free(text);
        return fail(error, "out of memory");
    }
    sort_lines(text, n, id, *lines, length, NULL, NULL);
    (*lines)[*length] = 0;
    free(text);
    return 0;
}

int past_write_rate(const char *path, const char *id, double *bytes_per_s, char error[FAIL_SIZE])
{
    struct migbuf_prior p = { .size = sizeof p };
    struct migbuf_attempt a;
    bool measured = false;
    size_t length;
    char *lines;

    if (past_lines(path, id, &lines, &length, error))
        return -1;
    for (size_t k = 0; migbuf_history_read(lines, length, k, &a) == 1; k++)
        measured |= a.write_bytes_per_s != MIGBUF_ATTEMPT_UNKNOWN;
    measured = measured && migbuf_history_prior(lines, length, (uint64_t)time(NULL), NULL, &p) >= 0;
    free(lines);
    if (measured)
        *bytes_per_s = p.write_bytes_per_s;
    return measured;
}

/* Beside it first, then in its place. */
static int replace(const char *path, const char *a, size_t a_length, const char *b, size_t b_length)
{
    char part[4096];
    int fd, rc;

    if (snprintf(part, sizeof part, "%s.new", path) >= (int)sizeof part)
        return errno = ENAMETOOLONG, -1;
    fd = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return -1;
    rc = write(fd, a, a_length) != (ssize_t)a_length || write(fd, b, b_length) != (ssize_t)b_length || fsync(fd) ? -1 : 0;
    return close(fd) || rc || rename(part, path) ? -1 : 0;
}

int past_append(const char *path, const struct migbuf_attempt *a, char error[FAIL_SIZE])
{
    char grown[MIGBUF_HISTORY_BYTES + 1], *text = NULL, *own, *others;
    size_t length = 0, own_length, others_length = 0, grown_length;
    int rc;

    if (read_file(path, &text, &length, error))
        return -1;
    own = malloc(length + 1);
    others = malloc(length + 2);
    rc = own && others ? 0 : fail(error, "out of memory");
    if (!rc) {
        sort_lines(text, length, a->id, own, &own_length, others, &others_length);
        rc = migbuf_history_append(own, own_length, a, grown, sizeof grown, &grown_length);
        rc = rc < 0 ? fail(error, "--history %s: %s", path, migbuf_strerror(rc)) : 0;
    }
    if (!rc && replace(path, others, others_length, grown, grown_length))
        rc = fail(error, "--history %s: %s", path, strerror(errno));
    free(own);
    free(others);
    free(text);
    return rc;
}
